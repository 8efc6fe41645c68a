"""WebhookSink: payloads posted to a URL, as JSON, from a thread of its own; nobody who emits ever waits for it.

What fails in passing (no connection, a timeout, 408, 425, 429 and 5xx) is tried again by tenacity, which waits longer
each time, and at least as long as the server's Retry-After says; everything else is given up at once. So a payload
may arrive twice, where an answer was lost. The HTTP client is the standard library's: one POST after the other needs
no pool, no HTTP/2 and no event loop, and a log shipper should not bring a client of its own that can break with
another's. Secrets are masked before a body is made of a payload, as in all that leaves the process. Of tenacity,
which stamina stands on: stamina's switches and hooks are the process's, whose default prints each retry and counts it
in the default registry of Prometheus, neither of which is for a library to do.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import logging
import math
import re
import threading
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from agentkit_loop.clock import Clock
from agentkit_loop.errors import AgentKitError, ConfigurationError, RedactionError
from agentkit_loop.events import AgentEvent, CustomEvent
from agentkit_loop.observers import LoopObserver, is_unheard
from agentkit_loop.values import JSON, clean_text, scrub_json
from agentkit_reporting.accounting import Account, Tally
from agentkit_reporting.delivery import ThreadDelivery
from agentkit_reporting.event_queue import Overflow, is_on_event_loop
from agentkit_reporting.process_ends import watch
from agentkit_reporting.records.bridges import told_payload
from agentkit_reporting.records.topics import TopicPayload
from agentkit_reporting.records.webhook_templates import WHOLE_PAYLOAD, WebhookTemplate
from agentkit_reporting.redaction.redactor import Redaction, Redactor, redactor_of

if TYPE_CHECKING:
    from email.message import Message
    from urllib.request import OpenerDirector

    from tenacity import RetryCallState

logger = logging.getLogger(__name__)

_PASSING = frozenset({408, 425, 429})  # beside 5xx: answers that another attempt may mend
_MAX_PAUSE_S = 30.0
_MAX_WAIT_S = 86_400.0  # a day: what waits longer was not meant
_MAX_DIGITS = 9  # of a Retry-After; more are centuries
_NAMES = ("session_id", "timestamp", "run_id", "turn_id", "request_id", "call_id", "seq")
_LONGEST_NAME = 200  # characters of an id; what is longer names nothing
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2


class WebhookError(AgentKitError):
    """A payload was not taken; the text names the host and the reason, never the URL or what was sent.

    retry_after_s: how long to wait before another attempt, None where the server did not say. is_passing: whether
    another attempt may help.
    """

    def __init__(self, text: str, *, is_passing: bool, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.is_passing = is_passing
        self.retry_after_s = retry_after_s


class WebhookSink:
    """Posts payloads; subscribe it: `dispatcher.subscribe("agent.session_complete", WebhookSink(url))`.

    url: `https://…` or `http://…`; it may hold a token and is never shown. template: of the body, by default
    `{"topic": …, "payload": …}`; a WebhookTemplate, or what makes one. headers: further ones, such as
    Authorization. timeout_s: for the connection, for what is sent, and for the whole answer, each. attempts: at most,
    for each payload. backoff_s: the first pause between two, doubled each time up to 30 s, with a chance of as much
    on top. max_retry_after_s: the longest Retry-After that is honoured; a longer one counts as this. max_queue,
    overflow: how many payloads wait, and what happens beyond that: drop_newest, as the first of many alerts say how
    it began, drop_oldest or error. close_timeout_s: how long `flush` and `close` wait where nobody says.
    redact: secrets are masked in each payload before the template is filled: True, the secret rules; rules of one's
    own; a Redactor, not that of another sink; False, none. Ids and times stay, as does what the template itself says.

    No redirect is followed. Proxies of the environment are used, for loopback none. Needs the extra `webhook`.
    """

    def __init__(
        self,
        url: str,
        *,
        template: WebhookTemplate | JSON = WHOLE_PAYLOAD,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
        attempts: int = 4,
        backoff_s: float = 0.5,
        max_retry_after_s: float = 60.0,
        max_queue: int = 1_000,
        overflow: Overflow = "drop_newest",
        close_timeout_s: float = 10.0,
        redact: Redaction = True,
        clock: Clock | None = None,
    ) -> None:
        if overflow not in ("drop_newest", "drop_oldest", "error"):
            raise ConfigurationError(
                f"overflow={overflow!r} refused because a webhook keeps nobody waiting; "
                "use drop_newest, drop_oldest or error"
            )
        if type(attempts) is not int or attempts < 1:
            raise ConfigurationError(f"attempts={attempts!r} refused; give 1 or more")
        _check_time("timeout_s", timeout_s, least=0.001)
        _check_time("backoff_s", backoff_s)
        _check_time("max_retry_after_s", max_retry_after_s)
        _check_time("close_timeout_s", close_timeout_s)
        self.redactor: Redactor | None = redactor_of(redact)
        """What scrubs each payload before the template is filled; None for none."""
        self._template = template if isinstance(template, WebhookTemplate) else WebhookTemplate(template)
        self._poster = _Poster(
            url,
            headers or {},
            timeout_s=timeout_s,
            attempts=attempts,
            backoff_s=backoff_s,
            max_retry_after_s=max_retry_after_s,
            clock=clock or Clock(),
        )
        self._close_timeout_s = close_timeout_s
        self._numbers = itertools.count(1)
        self._delivery = ThreadDelivery(self._poster, maxsize=max_queue, overflow=overflow)
        self._delivery.queue.name = f"the webhook to {self._poster.host}"
        weakref.finalize(self, self._delivery.queue.close).atexit = False  # at exit it is flushed, not ended

    def __repr__(self) -> str:
        return f"<WebhookSink {self._poster.host}>"

    def __call__(self, payload: Mapping[str, JSON]) -> None:
        """Have a payload posted; returns at once.

        Raises IllegalMoveError after `close`, RedactionError for what could not be scrubbed, which is not posted.
        """
        topic = str(getattr(payload, "topic", ""))
        try:
            told = payload if self.redactor is None else _scrubbed(self.redactor, topic, payload)
        except BaseException:
            self._poster.withheld.add()
            raise
        if told is not payload and told != payload:
            self._poster.redacted.add()
        body = self._template.filled(topic, told)
        session_id = str(payload.get("session_id", ""))
        self._delivery.send(
            CustomEvent(session_id=session_id, seq=next(self._numbers), name=topic, data=body)
        )

    @property
    def last_error(self) -> str | None:
        """What the last payload that was given up failed on; None where none was."""
        return self._poster.last_error

    def account(self) -> Account:
        """Return what became of the payloads: delivered ones were answered with 2xx."""
        queue, failed = self._delivery.queue, self._poster.failed
        (received, dropped, done), refused = queue.counts(), queue.refused + self._poster.withheld.value
        return Account(
            name="WebhookSink",
            received=received + refused,
            delivered=done - failed,
            dropped=dropped,
            failed=failed + refused,
            pending=received - dropped - done,
            redacted=self._poster.redacted.value,
        )

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until what is held was posted or given up, at most so long; whether everything so far arrived."""
        in_time = self._delivery.flush(self._close_timeout_s if timeout_s is None else timeout_s)
        return in_time and not self.account().lost

    def close(self, timeout_s: float | None = None) -> bool:
        """Take no more, post what is held, at most for so long; whether everything arrived. Twice is harmless.

        What is not posted by then is dropped, and counted; a request that is on its way is not tried again. On an
        event loop it waits for nothing, and what is held is posted behind it.
        """
        in_time = self._delivery.close(self._close_timeout_s if timeout_s is None else timeout_s)
        if not in_time and not is_on_event_loop():
            self._poster.cut.set()
            self._delivery.queue.abandon("they could not be delivered before the end")
        return self.account().is_complete

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Poster(LoopObserver):
    """Posts one body after the other, on the sink's thread."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        timeout_s: float,
        attempts: int,
        backoff_s: float,
        max_retry_after_s: float,
        clock: Clock,
    ) -> None:
        try:
            import tenacity  # noqa: PLC0415 - an extra
        except ImportError:
            raise ConfigurationError(
                "a webhook refused because tenacity is not installed; install agentkit-loop[webhook]"
            ) from None
        self.host = _host(url)
        self._url = url
        self._headers = {"User-Agent": "agentkit", **_checked(headers), "Content-Type": "application/json"}
        self._timeout_s = timeout_s
        self._own_pause_s = tenacity.wait_exponential(backoff_s, max=_MAX_PAUSE_S) + tenacity.wait_random(
            0, backoff_s
        )
        self._retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(attempts),
            retry=tenacity.retry_if_exception(_is_passing),
            wait=self._pause_s,
            sleep=self._rest,
            reraise=True,
        )
        self._max_retry_after_s = max_retry_after_s
        self._clock = clock
        self._opener: OpenerDirector | None = None
        self.last_error: str | None = None
        self.begin_anew()
        watch(self, at_exit=False)

    def begin_anew(self) -> None:
        """Count nothing: at first, and in a forked child."""
        self.failed = 0
        self.withheld, self.redacted = Tally(), Tally()  # payloads not scrubbed; those with something masked
        self.cut = threading.Event()

    def handle_event(self, event: AgentEvent) -> None:
        """Post one body, as often as it takes; raises nothing."""
        assert isinstance(event, CustomEvent)  # noqa: S101 - an envelope, see WebhookSink
        if self.cut.is_set():
            self.failed += 1
            return
        try:
            self._retrying(self._post, event.data)
        except WebhookError as error:
            self.failed += 1
            self.last_error = str(error)
            if is_unheard(self, self.last_error):
                logger.error("a webhook was given up: %s", self.last_error)  # noqa: TRY400 - a trace would say no more

    def _pause_s(self, attempt: RetryCallState) -> float:
        """Say how long to wait before another attempt: no less than the server asked for."""
        error = attempt.outcome.exception() if attempt.outcome is not None else None
        said = error.retry_after_s if isinstance(error, WebhookError) else None
        return max(self._own_pause_s(attempt), min(said or 0.0, self._max_retry_after_s))

    def _rest(self, pause_s: float) -> None:
        self.cut.wait(pause_s)  # which `close` ends

    def _post(self, body: bytes) -> None:
        from urllib.error import HTTPError  # noqa: PLC0415 - loads http and ssl
        from urllib.request import Request  # noqa: PLC0415 - as above

        if self.cut.is_set():
            raise WebhookError(f"{self.host} was given up as the sink was closed", is_passing=False)
        failure: WebhookError
        try:
            request = Request(self._url, data=body, headers=self._headers, method="POST")  # noqa: S310 - its scheme is checked
            with self._opened().open(request, timeout=self._timeout_s):
                return
        except HTTPError as error:
            with contextlib.closing(error):
                failure = WebhookError(
                    f"{self.host} answered {error.code}",
                    is_passing=error.code in _PASSING or error.code >= 500,  # noqa: PLR2004 - the class of errors
                    retry_after_s=self._retry_after_s(error.headers),
                )
        except Exception as error:  # noqa: BLE001 - a connection fails in many ways; their texts may quote the URL
            reason = getattr(error, "reason", None)
            cause = reason if isinstance(reason, Exception) else error
            failure = WebhookError(
                f"{self.host} was not reached ({type(cause).__name__})",
                is_passing=not isinstance(cause, ValueError),  # a certificate that is not trusted is one
            )
        raise failure

    def _opened(self) -> OpenerDirector:
        if self._opener is None:
            from agentkit_reporting.records.bounded_http import opener_for  # noqa: PLC0415 - loads http and ssl

            self._opener = opener_for(self._url)
        return self._opener

    def _retry_after_s(self, headers: Message | None) -> float | None:
        """Return what Retry-After says, seconds or a date (RFC 9110, 10.2.3); None where it says nothing."""
        text = (headers.get("Retry-After") or "").strip() if headers is not None else ""
        if text.isascii() and text.isdigit():
            return float(text) if len(text) <= _MAX_DIGITS else math.inf
        from email.utils import parsedate_to_datetime  # noqa: PLC0415 - rare

        try:
            moment = parsedate_to_datetime(text)
            if (
                moment.tzinfo is None
            ):  # the obsolete form of C's asctime, which is in UTC too (RFC 9110, 5.6.7)
                moment = moment.replace(tzinfo=dt.UTC)
            return (moment - self._clock.now()).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None


def _scrubbed(redactor: Redactor, topic: str, payload: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return a payload without its secrets; raises RedactionError.

    What tells an event is scrubbed as that event is in a log: a secret may come in pieces, one in each payload.
    """
    given = {clean_text(str(name)): scrub_json(value) for name, value in payload.items()}
    event = payload.event if isinstance(payload, TopicPayload) else None
    before = None if event is None else told_payload(topic, event)
    if event is None or before is None:
        return _masked(redactor, given)
    after = told_payload(topic, redactor.event(event)) or {}
    own = {name: value for name, value in given.items() if name not in before or before[name] != value}
    missing = before.keys() - given.keys()
    told = {**after, **_masked(redactor, own)}
    return {name: value for name, value in told.items() if name not in missing}


def _masked(redactor: Redactor, payload: dict[str, JSON]) -> dict[str, JSON]:
    """Return a payload's values without their secrets; ids and times name things and stay."""
    try:
        told: Any = redactor.value(payload)
    except Exception as error:  # noqa: BLE001 - a pattern of the host's, a value nested too deeply
        kind = type(error).__name__
    else:
        names = {name: payload[name] for name in _NAMES if name in payload and _names(payload[name])}
        return {**told, **names}
    # Here, and not above: the error's own text, which may quote the secret, is not to hang on ours.
    raise RedactionError(
        f"payload withheld because scrubbing it raised {kind}; mend the rules, or post it with redact=False"
    )


def _names(value: JSON) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, str) and len(value) <= _LONGEST_NAME)


def _is_passing(error: BaseException) -> bool:
    return isinstance(error, WebhookError) and error.is_passing


def _checked(headers: Mapping[Any, Any]) -> Mapping[str, str]:
    """Refuse what no request can have, without showing it; http.client would refuse each request."""
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER.fullmatch(name):
            raise ConfigurationError("a header whose name is none refused; give letters, digits and dashes")
        if not isinstance(value, str) or not value.isprintable() or max(value, default=" ") > "\xff":
            raise ConfigurationError(
                f"the value of the header {name!r} refused; give printable text of latin-1, without line ends"
            )
    return headers


def _check_time(name: str, value: object, least: float = 0.0) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= _MAX_WAIT_S:
        raise ConfigurationError(f"{name}={value!r} refused; give seconds, up to a day")


def _host(url: object) -> str:
    """Return the host of a URL, which is what is shown of it; raises ConfigurationError for what is none."""
    refused = (
        "a webhook's URL refused because {}; give https://host/path (it is not shown, as it may hold a token)"
    )
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigurationError(refused.format("it is no text of a URL"))
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(refused.format("its host or port is none")) from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(refused.format("it is neither http nor https"))
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            refused.format("it names a user, for whom the header Authorization is meant (headers=)")
        )
    return host if port is None else f"{host}:{port}"
