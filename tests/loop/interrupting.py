"""Ways to ask a model and to interrupt what it asks, for the tests of `interrupt`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx2
import pytest

from agentkit_loop.errors import ModelRequestError
from agentkit_loop.models.anthropic import AnthropicModel
from agentkit_loop.models.protocol import Answer, ModelRequest
from tests.loop.messages_api import KEY, ended, request, started, stream_of, text_block

STALLING = stream_of(started({"input_tokens": 3}), text_block("one"), ended(), stall_after=1)

PATIENCE_S = 30.0
"""What a test waits for what must come; a request that nobody ends fails with class `timeout` before that."""


def model_for(url: str, **options: Any) -> AnthropicModel:
    return AnthropicModel("claude-sonnet-5", base_url=url, api_key=KEY, timeout_s=20, **options)


def host_client(url: str, **options: Any) -> anthropic.Anthropic:
    http = anthropic.DefaultHttpxClient(**options)
    return anthropic.Anthropic(base_url=url, api_key=KEY, http_client=http)


@contextlib.contextmanager
def once(ready: threading.Event, then: Callable[[], None]) -> Iterator[None]:
    """Do something on another thread as soon as `ready` is set."""

    def do() -> None:
        assert ready.wait(PATIENCE_S)
        then()

    other = threading.Thread(target=do)
    other.start()
    try:
        yield
    finally:
        other.join(PATIENCE_S)


def interrupted(model: AnthropicModel, asked: ModelRequest, ready: threading.Event) -> str:
    """Return how a request fails that is interrupted by another thread once `ready` is set."""
    with once(ready, lambda: model.interrupt(asked)), pytest.raises(ModelRequestError) as raised:
        list(model.stream(asked))
    model.close()
    assert raised.value.error_class != "timeout", raised.value
    return raised.value.error_class


def whole(model: AnthropicModel, asked: ModelRequest | None = None) -> bool:
    return isinstance([*model.stream(asked or request())][-1][-1], Answer)


class Hidden(httpx2.BaseTransport):
    """A host's own transport: nobody sees what pool it has."""

    def __init__(self) -> None:
        self._hidden = httpx2.HTTPTransport()

    def handle_request(self, sent: httpx2.Request) -> httpx2.Response:
        return self._hidden.handle_request(sent)

    def close(self) -> None:
        self._hidden.close()
