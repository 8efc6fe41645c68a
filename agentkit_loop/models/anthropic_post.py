"""How a request leaves by a client of our own: the SDK's generic `post`, with the body encoded here.

`messages.create` copies the body value by value and encodes it with the standard library, at every turn the
whole history: a twentieth of all the CPU time of an agent, measured. Headers, credentials, timeouts, middleware
and transport are the same. A client that a host made may rewrite the body (the SDK's clients for clouds do) or
have middleware that reads it; it is asked by `messages.create`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from agentkit_loop.values import copy_json

if TYPE_CHECKING:
    import anthropic

_PATH = "v1/messages"
_HEADERS = {
    "Content-Type": "application/json",
    # What `with_streaming_response` sets: the response comes unread, and unparsed.
    "X-Stainless-Raw-Response": "stream",
}
_MADE_HEADERS = ("user_profile_id", "workspace_id")  # parameters that `messages.create` makes headers of


@contextlib.contextmanager
def opened(client: anthropic.Anthropic, arguments: dict[str, Any], *, is_watched: bool) -> Iterator[Any]:
    """Make the request that `messages.create` would make of its arguments, and close its response.

    is_watched: whether middleware of a host's looks at it.
    """
    import anthropic  # noqa: PLC0415 - on first use, as everywhere here

    response: Any = client.post(
        _path(client, is_watched=is_watched), stream_cls=anthropic.Stream, **_posted(arguments)
    )
    with contextlib.closing(response):
        yield response


@contextlib.asynccontextmanager
async def aopened(
    client: anthropic.AsyncAnthropic, arguments: dict[str, Any], *, is_watched: bool
) -> AsyncIterator[Any]:
    """Do the same on an event loop."""
    import anthropic  # noqa: PLC0415 - as above

    response: Any = await client.post(
        _path(client, is_watched=is_watched), stream_cls=anthropic.AsyncStream, **_posted(arguments)
    )
    try:
        yield response
    finally:
        await response.close()


def created(client: anthropic.Anthropic | anthropic.AsyncAnthropic, arguments: dict[str, Any]) -> Any:
    """Return the request as the client's own `create` makes it, which may change messages that it is given."""
    messages = copy_json(arguments["messages"])  # those are kept for the next request
    return client.messages.with_streaming_response.create(**{**arguments, "messages": messages})


def _path(client: anthropic.Anthropic | anthropic.AsyncAnthropic, *, is_watched: bool) -> str:
    """Return where to post to: as a whole address, which costs the SDK half of joining one, unless somebody looks."""
    base = "/" if is_watched or client.base_url.is_relative_url else str(client.base_url)
    if "#" in base:  # the SDK puts the path before that
        base = "/"
    return f"{base}{_PATH}" if base.endswith("/") else f"{base}/{_PATH}"


def can_be_posted(arguments: dict[str, Any]) -> bool:
    """Whether nothing among the arguments of `messages.create` needs its own ways."""
    return not any(name in arguments for name in _MADE_HEADERS)


def _posted(arguments: dict[str, Any]) -> dict[str, Any]:
    body = dict(arguments)
    options: dict[str, Any] = {"headers": {**(body.pop("extra_headers", None) or {}), **_HEADERS}}
    query = body.pop("extra_query", None)
    if query:
        options["params"] = query
    if "timeout" in body:
        options["timeout"] = body.pop("timeout")
    body.update(body.pop("extra_body", None) or {})
    return {"cast_to": object, "stream": True, "content": msgspec.json.encode(body), "options": options}
