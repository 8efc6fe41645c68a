"""A recorded request as a command of curl that sends it again: runnable as it is printed, and without a credential.

All is printable ASCII, and quoted: a record can neither write to a terminal nor end a quotation. Credentials come from
the environment: the key from ANTHROPIC_API_KEY, in the header in which it was sent, any other from a variable named
HEADER_…, which is set for this alone: no record can ask for what the environment holds for others. What was masked or
cut is said in comments before the command.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import shlex
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import attrs

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.terminal import counted
from agentkit_reporting.wire.credentials import clean_url, is_credential_header
from agentkit_reporting.wire.reading import RecordedBody, WireExchange, headers_of

__all__ = ["CurlCommand", "curl_command"]

_LEFT_OUT = re.compile(
    r"host|content-length|transfer-encoding|connection|keep-alive|accept-encoding|user-agent|expect|te|upgrade"
    r"|x-stainless-.*|traceparent|tracestate",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[A-Za-z0-9#%&*+.^_|~-]{1,100}")  # no `!`, which an interactive shell replaces in quotes
_METHOD = re.compile(r"[A-Z]{1,20}")
_URL = re.compile(r"https?://[^/?#\s@]+(?:[/?#]\S*)?", re.IGNORECASE)
_PRINTABLE = re.compile(r"[ -~]*")
_MASK = "[redacted"
_END = "END_OF_BODY"
_BEARER = re.compile(r"(?:Bearer +)?\[redacted.*", re.IGNORECASE | re.DOTALL)
_KEY_HEADERS = {
    "x-api-key": "$ANTHROPIC_API_KEY",
    "authorization": "Bearer ${ANTHROPIC_API_KEY:-$ANTHROPIC_AUTH_TOKEN}",
}
"""How the SDK sends the first credential that its environment holds, an API key or an auth token."""
_LONGEST_REASON = 200


@attrs.frozen
class CurlCommand:
    """text: the command, with its body. lacks: in what it is not what was sent. remarks: the rest."""

    text: str
    lacks: tuple[str, ...]
    remarks: tuple[str, ...]

    def __str__(self) -> str:
        return "".join(f"# {said}\n" for said in (*self.lacks, *self.remarks)) + self.text


def curl_command(exchange: WireExchange) -> CurlCommand:
    """Return the command that sends a request again; raises ConfigurationError for a record that names none."""
    sent = exchange.sent
    method, told = sent.get("method"), sent.get("url")
    if not isinstance(method, str) or _METHOD.fullmatch(method) is None:
        raise ConfigurationError(f"method {method!r} refused; it is no word that HTTP has")
    told = clean_url(told) if isinstance(told, str) else told  # whoever wrote the record
    url = quote(told, safe="%/:=&?~#+!$,;'@()*[]._-", errors="replace") if isinstance(told, str) else ""
    if _URL.fullmatch(url) is None:
        raise ConfigurationError(f"url {told!r} refused; only http and https are asked again")
    body = exchange.request_body
    lacks, remarks = list(_lacks(body)), list[str]()
    if _MASK in url:
        lacks.append("a part of the URL is masked; put it back before you run this")
    lines = [f"curl -sS --globoff -X {method} --url {shlex.quote(url)}"]
    lines += [f"-H {header}" for header in _headers(headers_of(sent), remarks)]
    before, payload = _payload(body)
    if payload:
        lines.append("--data-binary @-" if before else f"--data-binary @- <<'{_END}'")
    if before:
        lines.insert(0, f"{before} <<'{_END}' |")
    if _is_streamed(body):
        lines.insert(-1, "--no-buffer")
    command = " \\\n  ".join(lines)
    return CurlCommand(f"{command}\n{payload}\n{_END}" if payload else command, tuple(lacks), tuple(remarks))


def _headers(headers: list[tuple[str, str]], remarks: list[str]) -> Iterator[str]:
    """Yield headers, quoted; remarks: told of those that cannot be as they were."""
    for name, value in headers:
        low = name.lower()
        if _TOKEN.fullmatch(name) is None or _LEFT_OUT.fullmatch(name) is not None:
            continue
        if low in _KEY_HEADERS and (low != "authorization" or _BEARER.match(value)):
            yield f'"{name}: {_KEY_HEADERS[low]}"'
        elif is_credential_header(name) or _MASK in value:
            variable = f"HEADER_{re.sub(r'[^A-Z0-9]', '_', name.upper())}"
            remarks.append(f"header {name} is masked; set {variable}")
            yield f'"{name}: ${{{variable}}}"'
        elif _PRINTABLE.fullmatch(value) is None:
            remarks.append(f"header {name} left out: its value is not printable ASCII")
        else:
            yield shlex.quote(f"{name}: {value}" if value else f"{name};")


def _lacks(body: RecordedBody) -> Iterator[str]:
    if body.masked:
        secrets = counted(body.masked, "secret")
        yield f"{secrets} of the body masked; this sends the masks"
    if body.cut:
        yield f"the body was cut, {counted(body.cut, 'byte')} of it are missing; it cannot be sent as it was"
    if body.withheld is not None:
        why = "".join(sign for sign in body.withheld if " " <= sign <= "~")[:_LONGEST_REASON]
        yield f"the body was not recorded: {why}"


def _payload(body: RecordedBody) -> tuple[str, str]:
    """Return what decodes the body before it is sent, empty for nothing, and the body as lines for the shell."""
    text = body.text or ""
    if body.encoding is not None or not text:
        try:
            return (
                ("base64 -d", base64.b64encode(base64.b64decode(text, validate=True)).decode())
                if text
                else ("", "")
            )
        except (ValueError, binascii.Error):
            return "", ""
    if text[:1] in ("{", "["):
        if _PRINTABLE.fullmatch(text):
            return "", text
        try:
            told = json.dumps(json.loads(text), separators=(",", ":"))
        except (ValueError, RecursionError):
            pass
        else:
            return "", told.replace("\x7f", "\\u007f")
    return "base64 -d", base64.b64encode(text.encode("utf-8", "replace")).decode()


def _is_streamed(body: RecordedBody) -> bool:
    asked: Any = body.json()
    return isinstance(asked, dict) and asked.get("stream") is True
