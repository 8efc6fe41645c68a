"""The capture as a middleware of the provider's SDK: once an attempt, inside of the SDK's own retries.

The module loads the SDK; it is imported by what captures, at its first use.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import anthropic
import httpx2

from agentkit_reporting.wire.client_keys import client_keys
from agentkit_reporting.wire.exchange import Exchange, SentRequest
from agentkit_reporting.wire.records import encoded
from agentkit_reporting.wire.taps import note_response, sent_request

if TYPE_CHECKING:
    from agentkit_reporting.wire.capture import WireCapture

__all__ = ["CaptureMiddleware"]

_MOST_LINKS = 100  # middleware of one client


class CaptureMiddleware(anthropic.Middleware):
    """Records each attempt in a capture, and lets it pass as it is."""

    def __init__(self, capture: WireCapture) -> None:
        self._capture = capture

    def handle(self, request: anthropic.APIRequest, call_next: Callable[[anthropic.APIRequest], Any]) -> Any:
        """Record an attempt of a synchronous client."""
        exchange = self._begin(request, call_next)
        if exchange is None:
            return call_next(request)
        try:
            with self._capture.recording():
                response = call_next(request)
        except BaseException as error:
            self._note_failure(exchange, error)
            raise
        self._note(exchange, response)
        return response

    async def handle_async(
        self, request: anthropic.APIRequest, call_next: Callable[[anthropic.APIRequest], Awaitable[Any]]
    ) -> Any:
        """Record an attempt of an asynchronous client."""
        exchange = self._begin(request, call_next)
        if exchange is None:
            return await call_next(request)
        try:
            with self._capture.recording():
                response = await call_next(request)
        except BaseException as error:
            self._note_failure(exchange, error)
            raise
        self._note(exchange, response)
        return response

    def _begin(self, request: anthropic.APIRequest, call_next: Callable[..., Any]) -> Exchange | None:
        try:
            client = _client_of(call_next)
            return self._capture.begin(
                None if client is None else _request_of(request, client),
                attempt=request.retries_taken + 1,
                via="middleware",
                keys=client_keys(client),
            )
        except Exception as error:  # noqa: BLE001 - the request goes on
            self._capture.trouble(error)
            return None

    def _note(self, exchange: Exchange, response: Any) -> None:
        try:
            http = getattr(response, "http_response", None)
            if not isinstance(http, httpx2.Response):
                exchange.end("replaced")
                return
            self._capture.note_sent(exchange, sent_request(http.request))
            note_response(exchange, http)
        except Exception as error:  # noqa: BLE001 - as above
            self._capture.trouble(error)

    def _note_failure(self, exchange: Exchange, failure: BaseException) -> None:
        try:
            sent = getattr(failure, "request", None)
            if isinstance(sent, httpx2.Request):
                self._capture.note_sent(exchange, sent_request(sent))
            exchange.end("failed", failure)
        except Exception as error:  # noqa: BLE001 - as above
            self._capture.trouble(error)


def _client_of(call_next: Any) -> Any:
    """Return the client at the end of the chain of middleware, None where it does not show.

    The SDK has no public way to it. Where these names are gone one day, a request is recorded only once its response,
    or its failure, shows how it was sent.
    """
    for _ in range(_MOST_LINKS):
        names = getattr(getattr(call_next, "__code__", None), "co_freevars", ())
        cells = dict(zip(names, getattr(call_next, "__closure__", None) or (), strict=False))
        if "self" in cells:
            client = cells["self"].cell_contents
            is_client = isinstance(client, (anthropic.Anthropic, anthropic.AsyncAnthropic)) or hasattr(
                client, "default_headers"
            )
            return client if is_client else None
        if "call_next" not in cells:
            return None
        call_next = cells["call_next"].cell_contents
    return None


def _request_of(request: anthropic.APIRequest, client: Any) -> SentRequest:
    """Return a request as far as it is known before the SDK has built it."""
    options = request.options
    headers: dict[str, str] = {}
    for layer in (client.default_headers, request.headers):
        for name, value in layer.items():
            if isinstance(value, (str, bytes)):
                headers[_text(name).lower()] = _text(value)
    content: bytes | None = None
    if isinstance(options.content, (bytes, bytearray)):
        content = bytes(options.content)
    elif options.content is None and options.files is None:
        body: Any = options.json_data
        if options.extra_json and (body is None or isinstance(body, dict)):
            body = {**(body or {}), **options.extra_json}
        content = b"" if body is None else encoded(body)
    return SentRequest(
        method=options.method.upper(),
        url=_url_of(options.url, {**client.default_query, **options.params}, str(client.base_url)),
        headers=list(headers.items()),
        content=content,
        size=None if content is None else len(content),
    )


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _url_of(url: str, query: dict[str, Any], base: str) -> str:
    whole = url if "://" in url else f"{base.rstrip('/')}/{url.lstrip('/')}"
    plain = {name: value for name, value in query.items() if isinstance(value, (str, int, float))}
    if not plain:
        return whole
    told = urlencode(
        {name: str(value).lower() if isinstance(value, bool) else value for name, value in plain.items()}
    )
    return f"{whole}{'&' if '?' in whole else '?'}{told}"
