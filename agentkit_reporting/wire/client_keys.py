"""What a client knows as secret, and its requests show only when they leave, or never: a proxy's password does not.

The SDK and its HTTP client have no public way to all of it; a name that is gone one day is a key that is not found.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from agentkit_reporting.wire.credentials import Headers, secrets_in

__all__ = ["client_keys", "environment_keys", "transport_keys"]

_KEYS = ("api_key", "auth_token", "webhook_key", "aws_secret_key", "aws_session_token", "access_token")


def client_keys(client: Any) -> frozenset[str]:
    """Return the secrets of a client of the SDK: its keys, its token, and what its HTTP client sends along."""
    cached = getattr(getattr(client, "_token_cache", None), "_cached", None)
    keys = [*(getattr(client, name, None) for name in _KEYS), getattr(cached, "token", None)]
    headers: list[tuple[str, str]] = []
    http: Any = getattr(client, "_client", None)
    with contextlib.suppress(
        Exception
    ):  # cookies of a host's own kind, or changed by another thread meanwhile
        headers += _text_headers(http.headers.raw)
        headers += [("cookie", f"{one.name}={one.value}") for one in http.cookies.jar]
    basic = getattr(getattr(http, "_auth", None), "_auth_header", None)
    if isinstance(basic, str):
        headers.append(("authorization", basic))
    for transport in (getattr(http, "_transport", None), *getattr(http, "_mounts", {}).values()):
        keys += transport_keys(transport)
    return secrets_in(headers, "", (key for key in keys if isinstance(key, str)))


def transport_keys(transport: Any) -> frozenset[str]:
    """Return what a transport of httpx2 tells its proxy."""
    told = getattr(getattr(transport, "_pool", None), "_proxy_headers", None)
    return secrets_in(_text_headers(told) if told else ())


def environment_keys() -> frozenset[str]:
    """Return the passwords of the proxies that the environment names."""
    names = (name for name in os.environ if name.lower().endswith("_proxy") and name.lower() != "no_proxy")
    urls = [os.environ.get(name, "") for name in names]
    return frozenset().union(*(secrets_in((), url if "//" in url else f"//{url}") for url in urls))


def _text_headers(raw: Any) -> Headers:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]
