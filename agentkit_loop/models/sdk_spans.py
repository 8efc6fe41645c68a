"""Who makes the spans of requests: a reporter of ours, or the provider's SDK, which makes its own by itself.

The SDK makes one for each `messages.create` as soon as a tracer provider is set, and tells the usage in it. Where a
reporter makes spans of the same requests, every token would be told twice. So a reporter says here that it stands
in, and a model looks here before a request. Nothing of OpenTelemetry is loaded.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from typing import Any, Final, Generic, Literal, Protocol, TypeAlias, TypeVar

from agentkit_loop.forks import Locked
from agentkit_loop.models.protocol import ModelRequest

__all__ = ["SDK_SPANS", "ClientCopies", "SdkSpans", "SpanKeeper", "keepers", "stand_in", "withdraw"]

SdkSpans: TypeAlias = Literal["replace", "adopt", "off"]
"""What becomes of the spans that the SDK makes of a model's requests.

replace: they are left out while somebody stands in for them; without that the SDK does what it does by itself.
adopt: they are made as children of the spans of whoever stands in, and tell no usage, which those tell. off: there
are none.
"""

SDK_SPANS: Final[tuple[SdkSpans, ...]] = ("replace", "adopt", "off")

Client = TypeVar("Client")


class SpanKeeper(Protocol):
    """Who makes spans of requests; can be hashed and referred to weakly."""

    @property
    def tracer_provider(self) -> Any:
        """The OpenTelemetry TracerProvider that its spans are made with; None as long as it has none."""

    def place_of_request(self, session_id: str, run_id: str, request_id: str) -> Any:
        """Return the OpenTelemetry Context in which this request's span is the parent; None if it has none."""

    def client_option(self) -> Any:
        """Return what a client of the SDK is given as `open_telemetry`, so that its spans join this one's.

        A mapping with a `tracer_provider` that puts them below the span of the request that is being sent.
        """


class _Standing(Locked):
    """Who stands in now; weakly, since a reporter that nobody holds makes no spans."""

    def __init__(self) -> None:
        super().__init__()
        self.held: tuple[weakref.ref[SpanKeeper], ...] = ()

    def change(self, keeper: SpanKeeper, *, stands: bool) -> None:
        """Add or remove one."""
        with self._lock:
            others = tuple(ref for ref in self.held if ref() not in (None, keeper))
            self.held = (*others, weakref.ref(keeper)) if stands else others


def stand_in(keeper: SpanKeeper) -> None:
    """Say that this one makes the spans of requests from now on, as long as it lives; twice is harmless."""
    _standing.change(keeper, stands=True)


def withdraw(keeper: SpanKeeper) -> None:
    """Say that it makes no more; twice is harmless."""
    _standing.change(keeper, stands=False)


def keepers() -> tuple[SpanKeeper, ...]:
    """Return who stands in now, in the order in which they said so."""
    held = _standing.held
    return tuple(keeper for ref in held if (keeper := ref()) is not None) if held else ()


class ClientCopies(Generic[Client]):
    """A client of the SDK as requests need it: without spans of its own, with them, or with those of a keeper's trace.

    client: as it is, it makes the spans that the SDK makes by itself. The copies share its connections; each is made
    once.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        made: Any = client
        option = made.open_telemetry
        self._is_on: bool = option["traces"]["enabled"]
        self._has_provider = option.get("tracer_provider") is not None
        self._without: Client = made.with_options(open_telemetry=False)
        self._adopting: weakref.WeakKeyDictionary[SpanKeeper, Client] = weakref.WeakKeyDictionary()

    def for_request(self, mode: SdkSpans, request: ModelRequest) -> tuple[Client, bool]:
        """Return the copy that makes a request, and whether it makes a span of it."""
        if mode == "off" or not self._is_on:
            return self._without, False
        standing = keepers()
        if not standing:
            makes = self._has_provider or _is_provider_set()
            return (self.client, True) if makes else (self._without, False)
        if mode == "adopt":
            with contextlib.suppress(Exception):  # what goes wrong with spans is no failure of the request
                keeper = _keeper_of(request, standing)
                if keeper is not None:
                    return self._adopted_by(keeper), True
        return self._without, False

    def _adopted_by(self, keeper: SpanKeeper) -> Client:
        copy = self._adopting.get(keeper)
        if copy is None:
            made: Any = self.client
            copy = made.with_options(open_telemetry={**made.open_telemetry, **keeper.client_option()})
            copy = self._adopting.setdefault(keeper, copy)
        return copy


def _keeper_of(request: ModelRequest, standing: tuple[SpanKeeper, ...]) -> SpanKeeper | None:
    """Return the first whose spans tell this request, so far as it was told it already."""
    session_id, run_id = request.session_id, request.run_id
    if session_id is None or run_id is None:
        return None
    for keeper in standing:
        if keeper.place_of_request(session_id, run_id, request.request_id) is not None:
            return keeper
    return None


def _is_provider_set() -> bool:
    """Whether the SDK's spans would go anywhere: not where the API's own stand-in is all that there is."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None or _failing:
        return False
    try:
        provider = trace.get_tracer_provider()
    except Exception:  # noqa: BLE001 - the environment names one that cannot be loaded; the SDK asks once, too
        _failing.append(True)
        return False
    proxy = getattr(trace, "ProxyTracerProvider", None)
    return proxy is None or not isinstance(provider, proxy)


_standing = _Standing()
_failing: list[bool] = []
