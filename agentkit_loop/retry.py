"""When a failed request is made again, and after how long."""

from __future__ import annotations

import attrs

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.records import FrozenRecord


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Retry(FrozenRecord):
    """Capped, jittered exponential back-off that honours what the provider asks for.

    max_attempts: requests in all, 1 for no retry. base_ms: the first pause, doubled with each attempt.
    max_delay_ms: no pause is longer, whatever the provider asks. jitter: the share of the pause that is
    left to chance, 0 to 1.
    """

    max_attempts: int = 4
    base_ms: float = 500.0
    max_delay_ms: float = 60_000.0
    jitter: float = 0.25

    def __attrs_post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ConfigurationError(f"max_attempts={self.max_attempts!r} must be at least 1")
        if not 0 <= self.jitter <= 1:
            raise ConfigurationError(f"jitter={self.jitter!r} must be from 0 to 1")
        if self.base_ms < 0 or self.max_delay_ms < 0:
            raise ConfigurationError("base_ms and max_delay_ms must not be negative")

    def delay_ms(self, attempt: int, retry_after_ms: float | None, seed: str) -> float:
        """Return the pause after the attempt of that number.

        The chance comes from `seed` (session and request id): sessions spread, and a session told again
        pauses alike.
        """
        if retry_after_ms is not None and retry_after_ms >= 0:
            return min(float(retry_after_ms), self.max_delay_ms)
        pause = min(self.base_ms * 2.0 ** min(attempt - 1, 32), self.max_delay_ms)
        import hashlib  # noqa: PLC0415 - 2 ms, of OpenSSL

        chance = int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=4).digest()) / 2**32
        return round(pause * (1 - self.jitter * chance), 3)
