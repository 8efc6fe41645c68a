"""AnthropicModel: the Messages API over the provider's own SDK, and anything that speaks its wire.

The SDK gives credentials, base URL, timeouts, middleware and transport. It is imported on first use: that
takes seconds, and nothing that only reads logs shall pay for it. Its objects for every event are not used:
the bytes are decoded here, at a third of the cost (DEPENDENCIES.md). Its retries are off, since the loop
retries; so are its spans where a reporter tells the same (`sdk_spans.py`).
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from agentkit_loop.errors import ConfigurationError, ModelRequestError
from agentkit_loop.models.anthropic_async_chunks import read_past_parser
from agentkit_loop.models.anthropic_cache import CacheLife, mark_for_cache
from agentkit_loop.models.anthropic_drain import adrain, drain, socket_of
from agentkit_loop.models.anthropic_failures import (
    NO_KEY,
    request_error,
    stream_source,
    tells_secret,
    without_secrets,
)
from agentkit_loop.models.anthropic_interrupt import OpenRequest, OpenRequests, watch
from agentkit_loop.models.anthropic_parameters import (
    MIN_SECRET,
    check_parameters,
    move_betas,
    secrets_of,
    told_parameters,
)
from agentkit_loop.models.anthropic_post import aopened, can_be_posted, created, opened
from agentkit_loop.models.anthropic_stream import AnswerReader
from agentkit_loop.models.anthropic_transport import achunks_of, aonce, chunks_of, once
from agentkit_loop.models.anthropic_wire import MARK, WireMessages, wire_body
from agentkit_loop.models.current_request import sending
from agentkit_loop.models.protocol import ModelRequest, ModelSignal
from agentkit_loop.models.sdk_spans import SDK_SPANS, ClientCopies, SdkSpans
from agentkit_loop.price_book import PriceBook
from agentkit_loop.values import JSON, clean_text

if TYPE_CHECKING:
    import asyncio

    import anthropic
    import httpx2
    from anthropic import MiddlewareInput

DEFAULT_MAX_TOKENS = 32_000
"""Tokens that an answer may have where nobody says: what every current model allows."""

CONNECT_TIMEOUT_S = 5.0
"""Seconds for a connection, also where an answer may take longer; the SDK's own default."""

UNSENDABLE_KEY = (
    "the API key holds a space, a line break or another character that no header carries; set it anew"
)


class AnthropicModel:
    """A model behind the Messages API.

    name: the model asked for. client, async_client: the SDK's, where the host has made its own; its
    credentials, address and timeouts hold. api_key, base_url: else from ANTHROPIC_API_KEY and
    ANTHROPIC_BASE_URL, and where else the SDK looks. max_tokens: bound of one answer. cache: how long the
    provider keeps what it has read of the conversation, None for not at all. An agent sends all of it with
    every turn, and reading from the cache costs a tenth, so the default is on; markers of one's own (in
    `tools`, in parts, or `cache_control=`) stay as they are. None is also for servers that refuse to be
    asked. timeout_s: the longest silence of the server, and how long it may take over one event, in seconds;
    the SDK's 600 where None. middleware: the SDK's own, outermost first, for the clients that are made here; each sees
    every request whole and its response as it comes, and takes part in a cancel only as far as it returns. A client
    of the host's brings its own. sdk_spans: what becomes of the OpenTelemetry spans that the SDK makes by itself:
    `replace` leaves them out while a TracingReporter stands in for them, `adopt` puts them below its spans, without
    the usage that those tell, `off` leaves them out always. parameters: sent with every request, JSON (`thinking`,
    `stop_sequences`, `extra_headers`, …, also what the SDK does not know; `tools`: the provider's own tools
    beside the agent's); those of a request win.

    A redirect is never followed: it would take the key along. Safe to be shared by sessions, threads and
    event loops. `close` and `aclose`, or leaving `with` and `async with`, let its connections go.
    """

    def __init__(
        self,
        name: str,
        *,
        client: anthropic.Anthropic | None = None,
        async_client: anthropic.AsyncAnthropic | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        cache: CacheLife | None = "5m",
        timeout_s: float | None = None,
        middleware: Sequence[MiddlewareInput] = (),
        sdk_spans: SdkSpans = "replace",
        **parameters: Any,
    ) -> None:
        if not name or not name.strip():
            raise ConfigurationError(f"model name {name!r} refused; give one such as 'claude-sonnet-5'")
        given = client is not None or async_client is not None
        if given and (api_key is not None or base_url is not None):
            raise ConfigurationError(
                "api_key= and base_url= refused beside a client; give them to the client"
            )
        if given and middleware:
            raise ConfigurationError(
                "middleware= refused beside a client; give it to the client: client.with_middleware(…)"
            )
        if not isinstance(middleware, Sequence):
            raise ConfigurationError(f"middleware={middleware!r} refused; give a list of them")
        if type(max_tokens) is not int or max_tokens < 1:
            raise ConfigurationError(f"max_tokens={max_tokens!r} refused; give a number of at least 1")
        if timeout_s is not None and (type(timeout_s) not in (int, float) or timeout_s <= 0):
            raise ConfigurationError(f"timeout_s={timeout_s!r} refused; give seconds above 0")
        if cache not in ("5m", "1h", None):
            raise ConfigurationError(f"cache={cache!r} refused; give '5m', '1h' or None")
        if sdk_spans not in SDK_SPANS:
            raise ConfigurationError(f"sdk_spans={sdk_spans!r} refused; give 'replace', 'adopt' or 'off'")
        check_parameters(parameters)
        self._name = clean_text(name)
        self._given_client, self._given_async_client = client, async_client
        self._options: dict[str, Any] = {"api_key": api_key, "base_url": base_url}
        self._timeout_s = timeout_s
        self._middleware = tuple(middleware)
        self._max_tokens = max_tokens
        self._cache: CacheLife | None = cache
        self._sdk_spans: SdkSpans = sdk_spans
        self._parameters = parameters
        self._prices = PriceBook()
        self._lock = threading.Lock()
        self._open = OpenRequests()
        self._client: ClientCopies[anthropic.Anthropic] | None = None
        # An event loop's connections are of use to no other, so each has its client.
        self._async_clients: dict[asyncio.AbstractEventLoop, ClientCopies[anthropic.AsyncAnthropic]] = {}
        self._known: frozenset[str] | None = None  # the parameters of the SDK's `messages.create`

    def __repr__(self) -> str:
        return f"AnthropicModel({self._name!r})"  # its options hold a key

    @property
    def name(self) -> str:
        """The model asked for."""
        return self._name

    @property
    def prices(self) -> PriceBook:
        """What its requests cost where an agent is told nothing else: the tables for Anthropic's models."""
        return self._prices

    @property
    def parameters(self) -> dict[str, JSON]:
        """What every request is sent with, as JSON and without secrets: `max_tokens`, `cache`, the host's."""
        given = {"max_tokens": self._max_tokens, "cache": self._cache, **self._parameters}
        return told_parameters(given, self._given_secrets())

    @property
    def is_prepared(self) -> bool:
        """Whether what requests need was imported."""
        return sys.modules.keys() >= _NEEDED

    def prepare(self) -> None:
        """Import what requests need, a second or two, so that the first one is not measured with it."""
        for name in sorted(_NEEDED):
            importlib.import_module(name)

    def stream(self, request: ModelRequest) -> Iterator[list[ModelSignal]]:
        """Make the request and yield what comes, by what came together; raises ModelRequestError."""
        return self._stream(request, self._open.add(request))

    def _stream(self, request: ModelRequest, entry: OpenRequest) -> Iterator[list[ModelSignal]]:
        reader, client = AnswerReader(), None
        try:
            entry.check()
            client, has_span = self._sync_client(request)
            arguments = self._arguments(request, client)
            with self._opened(client, arguments, entry, has_span=has_span) as response:
                reader.source = stream_source(response)
                feed, chunks = reader.feed, chunks_of(response)
                for chunk in chunks:
                    signals = feed(chunk)
                    if signals:
                        yield signals
                    if reader.is_over:
                        reader.check()
                        drain(response, chunks)
            reader.end()
        except Exception as error:  # noqa: BLE001 - each is mapped or raised as it is
            if reader.answer is None:
                if told := reader.unreported():
                    yield told
                _raise(error, self._sent_secrets(client, request), reader.source.request_id)
        yield [reader.result()]

    def interrupt(self, request: ModelRequest) -> None:
        """Let the `stream` of this very request end soon, with an error, wherever it waits; from any thread.

        What has to wait for its timeout nevertheless is said in `anthropic_interrupt`. An answer that is whole
        already is not lost.
        """
        self._open.interrupt(request)

    async def astream(self, request: ModelRequest) -> AsyncIterator[list[ModelSignal]]:
        """Make the request on an event loop and yield what comes, as `stream` does; raises ModelRequestError."""
        reader, client = AnswerReader(), None
        try:
            if not self.is_prepared:  # by one who drives no loop; the event loop shall go on
                import asyncio  # noqa: PLC0415 - a tenth of what a start takes; the other ways need it not

                await asyncio.to_thread(self.prepare)
            client, has_span = self._async_client(request)
            arguments = self._arguments(request, client)
            async with self._aopened(client, arguments, request, has_span=has_span) as response:
                reader.source = stream_source(response.http_response)
                feed = reader.feed
                async with contextlib.aclosing(achunks_of(response.http_response)) as chunks:
                    async for chunk in chunks:
                        signals = feed(chunk)
                        if signals:
                            yield signals
                        if reader.is_over:
                            reader.check()
                            await adrain(chunks)
            reader.end()
        except Exception as error:  # noqa: BLE001 - each is mapped or raised as it is
            if reader.answer is None:
                if told := reader.unreported():
                    yield told
                _raise(error, self._sent_secrets(client, request), reader.source.request_id)
        yield [reader.result()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    def close(self) -> None:
        """Let the connections of synchronous requests go; a later request makes new ones."""
        with self._lock:
            copies, self._client = self._client, None
        if copies is not None and self._given_client is None:
            copies.client.close()

    async def aclose(self) -> None:
        """Let the connections of this event loop go, and the synchronous ones."""
        import asyncio  # noqa: PLC0415 - as above

        self.close()
        with self._lock:
            copies = self._async_clients.pop(asyncio.get_running_loop(), None)
        if copies is not None and self._given_async_client is None:
            await copies.client.close()

    def _sent_secrets(
        self, client: anthropic.Anthropic | anthropic.AsyncAnthropic | None, request: ModelRequest
    ) -> tuple[str, ...]:
        """Return everything secret that went to the server, which may repeat it."""
        if client is None:
            return ()
        headers: dict[str, Any] = dict(client.default_headers)
        for parameters in (self._parameters, request.parameters):
            headers.update(parameters.get("extra_headers") or {})
        return (*_secrets(client), *secrets_of(headers, str(client.base_url)))

    def _given_secrets(self) -> tuple[str, ...]:
        clients = (self._given_client, self._given_async_client)
        keys = (self._options["api_key"], *(key for client in clients for key in _secrets(client)))
        return tuple(key for key in keys if key is not None and len(key) >= MIN_SECRET)

    def _sync_client(self, request: ModelRequest) -> tuple[anthropic.Anthropic, bool]:
        """Return the client for a request, and whether the SDK makes a span of it."""
        with self._lock:
            if self._client is None:
                import anthropic  # noqa: PLC0415 - on first use, see the module's docstring

                if self._given_client is not None:
                    client = self._given_client.with_options(**self._settings()).with_middleware(once)
                elif self._given_async_client is not None:
                    raise ConfigurationError("stream refused with only an async_client=; pass a client= too")
                else:
                    made = {**self._options, **self._settings(), "middleware": [*self._middleware, once]}
                    client = anthropic.Anthropic(**made)
                watch(client)
                self._client = ClientCopies(client)
            copies = self._client
        client, has_span = copies.for_request(self._sdk_spans, request)
        return _with_sendable_key(client), has_span

    def _async_client(self, request: ModelRequest) -> tuple[anthropic.AsyncAnthropic, bool]:
        import asyncio  # noqa: PLC0415 - as above

        loop = asyncio.get_running_loop()
        with self._lock:
            copies = self._async_clients.get(loop)
            if copies is None:
                # A client holds its loop, so that no weak reference would let go of either.
                for ended in [other for other in self._async_clients if other.is_closed()]:
                    self._forget(self._async_clients.pop(ended))
                import anthropic  # noqa: PLC0415 - on first use, see the module's docstring

                if self._given_async_client is not None:
                    client = self._given_async_client.with_options(**self._settings()).with_middleware(aonce)
                elif self._given_client is not None:
                    raise ConfigurationError("astream refused with only a client=; pass an async_client= too")
                else:
                    made = {**self._options, **self._settings(), "middleware": [*self._middleware, aonce]}
                    client = anthropic.AsyncAnthropic(**made)
                    read_past_parser(client)
                copies = self._async_clients[loop] = ClientCopies(client)
        client, has_span = copies.for_request(self._sdk_spans, request)
        return _with_sendable_key(client), has_span

    @contextlib.contextmanager
    def _opened(
        self, client: anthropic.Anthropic, arguments: dict[str, Any], entry: OpenRequest, *, has_span: bool
    ) -> Iterator[httpx2.Response]:
        """Make the request and yield its response, which `entry` can cut short until it is closed."""
        made: AbstractContextManager[Any]
        if self._given_client is None and not has_span and can_be_posted(arguments):
            made = opened(client, arguments, is_watched=bool(self._middleware))
        else:
            made = created(client, arguments)
        with contextlib.ExitStack() as stack:
            with entry.on_this_thread(), sending(entry.request):
                response = stack.enter_context(made).http_response
            try:
                entry.hold(socket_of(response))
                yield response
            finally:
                entry.let_go()  # before it is closed: then another request may have the connection

    @contextlib.asynccontextmanager
    async def _aopened(
        self,
        client: anthropic.AsyncAnthropic,
        arguments: dict[str, Any],
        request: ModelRequest,
        *,
        has_span: bool,
    ) -> AsyncIterator[Any]:
        made: AbstractAsyncContextManager[Any]
        if self._given_async_client is None and not has_span and can_be_posted(arguments):
            made = aopened(client, arguments, is_watched=bool(self._middleware))
        else:
            made = created(client, arguments)
        async with contextlib.AsyncExitStack() as stack:
            with sending(request):
                response = await stack.enter_async_context(made)
            yield response

    def _forget(self, copies: ClientCopies[anthropic.AsyncAnthropic]) -> None:
        """Let go of the connections of a loop that has ended, on a thread without one of its own."""

        def close() -> None:
            import asyncio  # noqa: PLC0415 - as above

            with contextlib.suppress(Exception):  # its transports know that their loop is gone
                asyncio.run(copies.client.close())

        if self._given_async_client is None:
            threading.Thread(target=close, daemon=True).start()

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {"max_retries": 0}
        if self._timeout_s is not None:
            import anthropic  # noqa: PLC0415 - on first use, see the module's docstring

            connect = min(CONNECT_TIMEOUT_S, self._timeout_s)
            settings["timeout"] = anthropic.Timeout(self._timeout_s, connect=connect)
        return settings

    def _arguments(
        self, request: ModelRequest, client: anthropic.Anthropic | anthropic.AsyncAnthropic
    ) -> dict[str, Any]:
        """Return the arguments of `messages.create`; what it does not know goes into the body as it is."""
        check_parameters(request.parameters)
        parameters = {"max_tokens": self._max_tokens, **self._parameters, **request.parameters}
        move_betas(parameters)
        messages = WireMessages.taken(request)
        body = wire_body(request, messages)
        tools = parameters.pop("tools", None)
        if tools:
            body["tools"] = [*body.get("tools", ()), *tools]
        by_host = parameters.get(MARK) or (parameters.get("extra_body") or {}).get(MARK)
        if self._cache is not None and not by_host:
            mark_for_cache(body, self._cache, are_messages_plain=not messages.may_hold_marks)
        messages.keep(request)
        if self._known is None:
            self._known = frozenset(inspect.signature(client.messages.create).parameters)
        arguments = {"model": self._name, "stream": True, **body}
        unknown: dict[str, Any] = {}
        for name, value in parameters.items():
            if value is not None:
                (arguments if name in self._known else unknown)[name] = value
        if unknown:
            arguments["extra_body"] = {**unknown, **arguments.get("extra_body", {})}
        return arguments


_NEEDED = frozenset({"anthropic", "genai_prices.data_snapshot"})
"""What the first request needs, and what prices it, which shares most of it."""


_Client = TypeVar("_Client", "anthropic.Anthropic", "anthropic.AsyncAnthropic")


def _with_sendable_key(client: _Client) -> _Client:
    """Return the client; raises ModelRequestError for a key that would fail, and be shown, as a header."""
    if client.api_key is not None and not client.api_key.strip():
        raise ModelRequestError(NO_KEY, error_class="auth")
    for key in _secrets(client):
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ModelRequestError(UNSENDABLE_KEY, error_class="auth")
    return client


def _secrets(client: anthropic.Anthropic | anthropic.AsyncAnthropic | None) -> tuple[str, ...]:
    """Return what no error may tell. A key of a few letters is none, and masking it would garble the text."""
    if client is None:
        return ()
    keys = (client.api_key, client.auth_token)
    return tuple(key for key in keys if isinstance(key, str) and len(key) >= MIN_SECRET)


def _raise(error: Exception, secrets: tuple[str, ...], request_id: str | None) -> NoReturn:
    """Raise what the error means to the loop; one that is not the SDK's goes on as it is."""
    failure = error if isinstance(error, ModelRequestError) else request_error(error)
    if failure is None:
        raise error
    failure.request_id = failure.request_id or request_id
    told = without_secrets(failure, secrets)
    if told is error:
        raise error
    raise told from (None if tells_secret(error, secrets) else error)
