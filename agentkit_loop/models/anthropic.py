"""AnthropicModel: the Messages API over the provider's own SDK, and anything that speaks its wire.

The SDK gives credentials, base URL, timeouts, middleware and transport. It is imported on first use: that
takes seconds, and nothing that only reads logs shall pay for it. Its objects for every event are not used:
the bytes are decoded here, at a third of the cost (DEPENDENCIES.md). Its retries and its spans are
off, since the loop retries and tells.
"""

from __future__ import annotations

import inspect
import threading
import weakref
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from agentkit_loop.errors import ConfigurationError, ModelRequestError
from agentkit_loop.models.anthropic_failures import not_a_stream, request_error, tells_secret, without_secrets
from agentkit_loop.models.anthropic_stream import AnswerReader
from agentkit_loop.models.anthropic_wire import wire_body
from agentkit_loop.models.protocol import ModelRequest, ModelSignal

if TYPE_CHECKING:
    import anthropic

DEFAULT_MAX_TOKENS = 32_000
"""Tokens that an answer may have where nobody says: what every current model allows."""

CONNECT_TIMEOUT_S = 5.0
"""Seconds for a connection, also where an answer may take longer; the SDK's own default."""

_OURS = frozenset({"messages", "model", "stream", "system"})
_UNSENDABLE_KEY = "the API key holds a space, a line break or another character that no header can carry; set it again"


class AnthropicModel:
    """A model behind the Messages API.

    name: the model asked for. client, async_client: the SDK's, where the host has made its own; its
    credentials, address and timeouts hold. api_key, base_url: else from ANTHROPIC_API_KEY and
    ANTHROPIC_BASE_URL, and where else the SDK looks. max_tokens: bound of one answer. timeout_s: the longest
    silence of the server, in seconds; the SDK's 600 where None. parameters: sent with every request
    (`thinking`, `stop_sequences`, `extra_headers`, …; `tools`: the provider's own tools beside the agent's);
    those of a request win.

    Safe to be shared by sessions, threads and event loops. `close` and `aclose` let its connections go.
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
        timeout_s: float | None = None,
        **parameters: Any,
    ) -> None:
        given = client is not None or async_client is not None
        if given and (api_key is not None or base_url is not None):
            raise ConfigurationError("api_key= and base_url= refused beside a client; give them to the client")
        if max_tokens < 1:
            raise ConfigurationError(f"max_tokens={max_tokens!r} refused; give a number of at least 1")
        if timeout_s is not None and timeout_s <= 0:
            raise ConfigurationError(f"timeout_s={timeout_s!r} refused; give seconds above 0")
        _refuse_ours(parameters)
        self._name = name
        self._given = given
        self._given_client, self._given_async_client = client, async_client
        self._options: dict[str, Any] = {"api_key": api_key, "base_url": base_url}
        self._timeout_s = timeout_s
        self._max_tokens = max_tokens
        self._parameters = parameters
        self._lock = threading.Lock()
        self._client: anthropic.Anthropic | None = None
        # An event loop's connections are of use to no other, so each has its client.
        self._async_clients: weakref.WeakKeyDictionary[AbstractEventLoop, anthropic.AsyncAnthropic] = (
            weakref.WeakKeyDictionary()
        )

    def __repr__(self) -> str:
        return f"AnthropicModel({self._name!r})"  # its options hold a key

    @property
    def name(self) -> str:
        """The model asked for."""
        return self._name

    def stream(self, request: ModelRequest) -> Iterator[ModelSignal]:
        """Make the request and yield what comes; raises ModelRequestError."""
        reader, secrets = AnswerReader(), ()
        try:
            client = self._sync_client()
            secrets = _secrets(client)
            create = client.messages.with_streaming_response.create
            with create(**self._arguments(request, client.messages.create)) as response:
                refused = not_a_stream(response.http_response)
                if refused is not None:
                    raise refused
                answer: list[ModelSignal] = []
                for chunk in response.http_response.iter_bytes():
                    signals = reader.feed(chunk)
                    if reader.finished:
                        # The answer waits for the end of the response, so that its connection is kept.
                        answer = answer or [signals.pop()]
                    yield from signals
                    if reader.failure is not None:
                        raise reader.failure
                yield from answer or _ended(reader)
        except Exception as error:
            yield from _told_before(reader, error)
            if reader.finished:
                yield from _late(error, answer)
                return
            _raise(error, secrets)
