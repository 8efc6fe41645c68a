"""What goes wrong with a request to the Messages API, as ModelRequestError with its class.

Before the stream the SDK raises its own errors; inside it the transport's (httpx2) come bare, and an `error`
event comes under status 200. The SDK is imported by whoever made the request, never by this module's import.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from agentkit_loop.errors import ModelRequestError
from agentkit_loop.late import late_pattern
from agentkit_loop.values import clean_text

if TYPE_CHECKING:
    import anthropic
    import httpx2

MAX_RETRY_AFTER_MS = 3_600_000.0
"""The longest wait that a provider is believed to mean: an hour."""

MAX_TEXT = 500
"""Characters of a provider's or proxy's own text that an error repeats."""

MAX_ID = 100
"""Characters of a request's id; the API's own have 28."""

MIN_BEGINNING = 14
"""Characters of a secret that are taken for its beginning; "sk-ant-api03-" alone is 13 and gives nothing away."""

NO_KEY = "no API key for the Messages API; set ANTHROPIC_API_KEY or pass api_key="

_BY_STATUS = {
    401: "auth",
    403: "auth",
    408: "timeout",
    409: "server",
    429: "rate_limited",
    504: "timeout",
    529: "overloaded",
}

_BY_TYPE = {
    "api_error": "server",
    "authentication_error": "auth",
    "billing_error": "invalid_request",
    "invalid_request_error": "invalid_request",
    "not_found_error": "invalid_request",
    "overloaded_error": "overloaded",
    "permission_error": "auth",
    "rate_limit_error": "rate_limited",
    "request_too_large": "invalid_request",
    "timeout_error": "timeout",
}

# The API has no type of its own for it. The last two are what servers that speak its wire say.
_CONTEXT = late_pattern(r"prompt is too long|context (?:window|length|limit)|maximum context", re.IGNORECASE)


class StreamSource(msgspec.Struct, frozen=True, kw_only=True):
    """Who answered a request, for what is told of the answer.

    answered: whose answer it is and what it says it is. is_declared: whether that is an event stream.
    request_id: the provider's, None where it gave none. timeout_s: the read timeout of the request, None for
    none.
    """

    answered: str = "the server answered"
    is_declared: bool = True
    request_id: str | None = None
    timeout_s: float | None = None


def request_error(error: Exception) -> ModelRequestError | None:
    """Return what an exception of the SDK or its transport means, None for one that is neither's."""
    import anthropic  # noqa: PLC0415 - see the module's docstring
    import httpx2  # noqa: PLC0415 - the same

    if isinstance(error, anthropic.APIStatusError):
        return status_error(error)
    if isinstance(error, (anthropic.APITimeoutError, httpx2.TimeoutException)):
        return ModelRequestError(_timeout_text(error), error_class="timeout")
    if isinstance(error, anthropic.APIConnectionError):
        return _connection_error(error)
    if isinstance(error, anthropic.CredentialsError):
        return ModelRequestError(f"no usable credentials: {_short(str(error))}", error_class="auth")
    if isinstance(error, TypeError) and "authentication method" in str(error):
        return ModelRequestError(NO_KEY, error_class="auth")
    if isinstance(error, (httpx2.TransportError, httpx2.DecodingError)):
        text = f"the connection broke while the answer was streamed: {_short(_said(error))}"
        return ModelRequestError(text, error_class="stream_cut")
    if isinstance(error, httpx2.InvalidURL):
        text = f"base_url is not a URL: {_short(_said(error))}"
        return ModelRequestError(text, error_class="invalid_request")
    return None


def status_error(error: anthropic.APIStatusError) -> ModelRequestError:
    """Return what a response with an error status means."""
    status, headers = error.status_code, error.response.headers
    if 300 <= status < 400:  # noqa: PLR2004 - the redirects
        return _redirect(error)
    if status < 300:  # noqa: PLR2004 - an `error` event in a stream that the SDK read
        return stream_error(error.body)
    text, kind = error.api_message, error.type
    if not isinstance(text, str):
        media_type = headers.get("content-type", "nothing").partition(";")[0].strip()
        text = f"not an answer of the Messages API but {media_type}: {error.response.text}"
    error_class = _BY_STATUS.get(status) or ("server" if status >= 500 else "invalid_request")  # noqa: PLR2004
    if error_class == "server" and kind == "overloaded_error":
        error_class = "overloaded"
    if error_class == "invalid_request" and _CONTEXT.search(text):
        error_class = "context_exceeded"
    named = f" {_short(kind)}" if isinstance(kind, str) else ""
    return ModelRequestError(
        f"HTTP {status}{named}: {_short(text)}",
        error_class=error_class,
        retry_after_ms=retry_after_ms(headers),
        request_id=_id(error.request_id),
    )


def _redirect(error: anthropic.APIStatusError) -> ModelRequestError:
    import httpx2  # noqa: PLC0415 - see the module's docstring

    location = error.response.headers.get("location", "")
    try:
        place = _place(error.response.url.join(location)) if location else "nowhere"
    except (httpx2.InvalidURL, ValueError):
        place = _short(location)
    return ModelRequestError(
        f"HTTP {error.status_code}: {_place(error.response.url)} redirects to {place}, where the key is not "
        "sent; set base_url to where the API is",
        error_class="invalid_request",
        request_id=_id(error.request_id),
    )


def stream_error(told: object) -> ModelRequestError:
    """Return what an `error` event inside the stream means; its status was 200.

    told: its JSON, `{"type": "error", "error": {"type": …, "message": …}}`, or what a gateway says instead.
    """
    body: dict[str, Any] = told if isinstance(told, dict) else {"message": told}
    error = body.get("error", body)
    error = error if isinstance(error, dict) else {"message": error}
    request_id = body.get("request_id")
    kind = str(error.get("type") or "error")
    text = str(error.get("message") or "no message")
    error_class = _BY_TYPE.get(kind, "server")
    if error_class == "invalid_request" and _CONTEXT.search(text):
        error_class = "context_exceeded"
    return ModelRequestError(
        f"{_short(kind)} while the answer was streamed: {_short(text)}",
        error_class=error_class,
        request_id=_id(request_id),
    )


def stream_source(response: httpx2.Response) -> StreamSource:
    """Return what the head of a response that is no refusal says."""
    told = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return StreamSource(
        answered=f"{_place(response.url)} answered {response.status_code} with {_short(told) or 'no media type'}",
        is_declared=told == "text/event-stream",
        request_id=_id(response.headers.get("request-id")),
        timeout_s=(response.request.extensions.get("timeout") or {}).get("read"),
    )


def retry_after_ms(headers: Mapping[str, str]) -> float | None:
    """Return how long a response asks to wait, at most an hour; None where it does not say or makes no sense.

    `retry-after-ms` wins over `retry-after`, which holds seconds or a date. A date is read against the
    response's own `date`, so that the two clocks need not agree.
    """
    wait = _number(headers.get("retry-after-ms"))
    if wait is None:
        told = headers.get("retry-after")
        seconds = _number(told)
        if seconds is None and told:
            seconds = _seconds_until(told, headers.get("date"))
        wait = None if seconds is None else seconds * 1_000
    if wait is None or wait < 0:
        return None
    return min(wait, MAX_RETRY_AFTER_MS)


def without_secrets(error: ModelRequestError, secrets: tuple[str, ...]) -> ModelRequestError:
    """Return the error with every secret in its text masked: a server may repeat what it was sent.

    So is the beginning of one: foreign text is cut to a length, which may be in the middle of a secret.
    """
    text = _masked(str(error), secrets)
    request_id = error.request_id and _masked(error.request_id, secrets)
    if text == str(error) and request_id == error.request_id:
        return error
    return ModelRequestError(
        text, error_class=error.error_class, retry_after_ms=error.retry_after_ms, request_id=request_id
    )


def _masked(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        for length in range(len(secret), min(MIN_BEGINNING, len(secret)) - 1, -1):
            text = text.replace(secret[:length], "***")
    return text


def tells_secret(error: BaseException | None, secrets: tuple[str, ...]) -> bool:
    """Whether an exception, or one that caused it, says a secret: then it is no cause to show."""
    while error is not None:
        if any(secret in f"{error} {error!r}" for secret in secrets):
            return True
        error = error.__cause__ or error.__context__
    return False


def _connection_error(error: anthropic.APIConnectionError) -> ModelRequestError:
    import httpx2  # noqa: PLC0415 - see the module's docstring

    cause = error.__cause__ or error
    # A URL or a header that cannot be sent stays so: asking again is of no use.
    ours = isinstance(
        cause, (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.LocalProtocolError, ValueError)
    )
    return ModelRequestError(
        f"no connection to {_place(error.request.url)}: {_short(_said(cause))}",
        error_class="invalid_request" if ours else "connection",
    )


def _timeout_text(error: Exception) -> str:
    cause = error.__cause__ or error
    kind = type(cause).__name__
    did = {"ConnectTimeout": "connected", "PoolTimeout": "had a free connection"}.get(kind, "sent anything")
    return f"the server has not {did} within the timeout ({kind}); raise timeout_s= or try again"


def _place(url: httpx2.URL) -> str:
    port = f":{url.port}" if url.port else ""
    return f"{url.scheme}://{url.host}{port}"  # never the user info or the query of a URL


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _short(text: str) -> str:
    """Return foreign text on one line, bounded, without control characters."""
    line = " ".join(clean_text(text).split())
    if not line.isprintable():
        line = "".join(char if char.isprintable() else "\ufffd" for char in line)
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


def _id(told: object) -> str | None:
    """Return a request's id as it may be told; a server may write anything there."""
    return _short(told)[:MAX_ID] or None if isinstance(told, str) else None


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _seconds_until(date: str, now: str | None) -> float | None:
    import email.utils  # noqa: PLC0415 - nine modules of the standard library, for an answer that is rare

    try:
        until = email.utils.parsedate_to_datetime(date)
        since = email.utils.parsedate_to_datetime(now) if now else dt.datetime.now(dt.UTC)
        return (until - since).total_seconds()
    except (ValueError, TypeError, OverflowError):  # no date, or one without a zone
        return None
