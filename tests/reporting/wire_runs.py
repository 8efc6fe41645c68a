"""Captured requests for tests: a capture in a directory, clients that it watches, and what it recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from agentkit_loop.testing import MessagesServer
from agentkit_reporting import WireCapture, read_records
from agentkit_reporting.wire.reading import WIRE_TYPES, WireExchange, read_exchanges
from tests.reporting.redaction_samples import chars

KEY = "own-" + chars(40, seed="own key")
"""A key that no rule knows."""

ASK: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}

Send = Callable[..., Any]
"""Asks a server once, through a capture; `stream`: reads the events of a stream."""


def exchanges(path: Path) -> list[WireExchange]:
    """Return what is in the file, by number."""
    return sorted(
        read_exchanges(read_records(path, type=WIRE_TYPES, strict=True)), key=lambda one: one.number
    )


def send_sync(client: anthropic.Anthropic, *, stream: bool, **asked: Any) -> Any:
    with client:
        answer = client.messages.create(**{**ASK, **asked}, stream=stream)
        return list(answer) if stream else answer


def send_async(client: anthropic.AsyncAnthropic, *, stream: bool, **asked: Any) -> Any:
    async def send() -> Any:
        async with client:
            answer: Any = await client.messages.create(**{**ASK, **asked}, stream=stream)
            return [event async for event in answer] if stream else answer

    return asyncio.run(send())


def by_middleware(capture: WireCapture, server: MessagesServer, **options: Any) -> Send:
    given = {"api_key": KEY, "base_url": server.base_url, "max_retries": 0, **options}
    client = anthropic.Anthropic(middleware=[capture.middleware()], **given)
    return lambda **asked: send_sync(client, **asked)


def by_async_middleware(capture: WireCapture, server: MessagesServer, **options: Any) -> Send:
    given = {"api_key": KEY, "base_url": server.base_url, "max_retries": 0, **options}
    client = anthropic.AsyncAnthropic(middleware=[capture.middleware()], **given)
    return lambda **asked: send_async(client, **asked)


def by_transport(capture: WireCapture, server: MessagesServer, **options: Any) -> Send:
    given = {"api_key": KEY, "base_url": server.base_url, "max_retries": 0, **options}
    client = anthropic.Anthropic(http_client=httpx2.Client(transport=capture.transport()), **given)
    return lambda **asked: send_sync(client, **asked)


def by_async_transport(capture: WireCapture, server: MessagesServer, **options: Any) -> Send:
    given = {"api_key": KEY, "base_url": server.base_url, "max_retries": 0, **options}
    http = httpx2.AsyncClient(transport=capture.async_transport())
    client = anthropic.AsyncAnthropic(http_client=http, **given)
    return lambda **asked: send_async(client, **asked)


every_way = pytest.mark.parametrize(
    "way",
    [by_middleware, by_async_middleware, by_transport, by_async_transport],
    ids=["middleware", "async-middleware", "transport", "async-transport"],
)
