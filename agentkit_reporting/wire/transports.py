"""The capture as a transport of httpx2, around another: for clients that take no middleware.

The module loads httpx2; it is imported by what captures, at its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

from agentkit_reporting.wire.client_keys import transport_keys
from agentkit_reporting.wire.exchange import Exchange
from agentkit_reporting.wire.taps import note_response, sent_request

if TYPE_CHECKING:
    from agentkit_reporting.wire.capture import WireCapture

__all__ = ["AsyncCaptureTransport", "CaptureTransport"]

_RETRIES = "x-stainless-retry-count"  # how often the SDK has tried before


class _Recording:
    """What both forms share."""

    def __init__(self, capture: WireCapture, inner: object) -> None:
        self._capture = capture
        self._keys = transport_keys(inner)

    def begin(self, request: httpx2.Request) -> Exchange | None:
        if self._capture.is_recording():
            return None
        try:
            tried = request.headers.get(_RETRIES, "0")
            return self._capture.begin(
                sent_request(request),
                attempt=int(tried) + 1 if tried.isascii() and tried.isdecimal() else 1,
                via="transport",
                keys=self._keys,
            )
        except Exception as error:  # noqa: BLE001 - the request goes on
            self._capture.trouble(error)
            return None

    def note(self, exchange: Exchange, response: httpx2.Response) -> None:
        try:
            note_response(exchange, response)
        except Exception as error:  # noqa: BLE001 - as above
            self._capture.trouble(error)


class CaptureTransport(httpx2.BaseTransport):
    """Records what goes through it, and lets it pass as it is."""

    def __init__(self, capture: WireCapture, inner: httpx2.BaseTransport | None = None) -> None:
        self._inner = httpx2.HTTPTransport() if inner is None else inner
        self._recording = _Recording(capture, self._inner)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request by the transport within; raises what that raises."""
        exchange = self._recording.begin(request)
        if exchange is None:
            return self._inner.handle_request(request)
        try:
            response = self._inner.handle_request(request)
        except BaseException as error:
            exchange.end("failed", error)
            raise
        self._recording.note(exchange, response)
        return response

    def close(self) -> None:
        """Close the transport within."""
        self._inner.close()


class AsyncCaptureTransport(httpx2.AsyncBaseTransport):
    """The same on an event loop."""

    def __init__(self, capture: WireCapture, inner: httpx2.AsyncBaseTransport | None = None) -> None:
        self._inner = httpx2.AsyncHTTPTransport() if inner is None else inner
        self._recording = _Recording(capture, self._inner)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request by the transport within; raises what that raises."""
        exchange = self._recording.begin(request)
        if exchange is None:
            return await self._inner.handle_async_request(request)
        try:
            response = await self._inner.handle_async_request(request)
        except BaseException as error:
            exchange.end("failed", error)
            raise
        self._recording.note(exchange, response)
        return response

    async def aclose(self) -> None:
        """Close the transport within."""
        await self._inner.aclose()
