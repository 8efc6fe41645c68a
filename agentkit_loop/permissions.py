"""Which calls run, which are refused, and which a person is asked about.

Three ways to say it, the strictest answer wins: a tool's own `approval` (always, or a predicate on the
arguments), the agent's `permissions` (a policy), and, for what has to be asked, the agent's `approve=` or the
steps of a driver.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import attrs
import msgspec

from agentkit_loop.call_patterns import PatternedCall, checked_patterns
from agentkit_loop.content import ToolCallPart
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.records import FrozenRecord
from agentkit_loop.tools import Tool
from agentkit_loop.usage import error_text
from agentkit_loop.values import JSON, clean_text, compact_json, copy_json

if TYPE_CHECKING:
    from agentkit_loop.steps import ApprovalRequest

Verdict: TypeAlias = Literal["allow", "ask", "deny"]
_STRICTER: dict[str, int] = {"allow": 0, "ask": 1, "deny": 2}


@attrs.frozen(eq=False, repr=False)
class Permission(FrozenRecord):
    """What a policy says of a call. reason: why; the model is told it with a denial, a person with a question."""

    verdict: Verdict
    reason: str | None = None

    def __attrs_post_init__(self) -> None:
        if self.verdict not in _STRICTER:
            raise ConfigurationError(f"verdict {self.verdict!r} refused; give 'allow', 'ask' or 'deny'")


ALLOWED = Permission("allow")


class Policy(Protocol):
    """Says of every call whether it may run. Pure: the same call gets the same answer.

    The call's input is what the tool's body will get, with the defaults of arguments that the model left out.
    """

    def permission(self, call: ToolCallPart) -> Permission:
        """Return what becomes of a call; what it raises is a question to a person."""


@attrs.frozen(eq=False, repr=False)
class Permissions(FrozenRecord):
    """A policy of patterns: the strictest list that a call is on decides, `default` where it is on none.

    allow, ask, deny: patterns such as `read_*`, or `run_command(git status*)` for the value of the tool's
    only or first argument; `*` stands for any text, `?` for one character, `[…]` for a set, as in file names.
    A doubt is never in the model's favour (call_patterns.py): `write_file(src/*)` allows no `src/../x`,
    `run_command(git *)` no `git status; rm -rf .`, and `write_file(prod/*)` denies `./prod/x` and `PROD/x` too.
    They see the text of a call, not what is on the disk: what links lead to is for the tool to keep out.
    """

    allow: tuple[str, ...] = attrs.field(default=(), converter=checked_patterns, kw_only=True)
    ask: tuple[str, ...] = attrs.field(default=(), converter=checked_patterns, kw_only=True)
    deny: tuple[str, ...] = attrs.field(default=(), converter=checked_patterns, kw_only=True)
    default: Verdict = attrs.field(default="ask", kw_only=True)

    def __attrs_post_init__(self) -> None:
        Permission(self.default)

    def permission(self, call: ToolCallPart, *, first: str | None = None) -> Permission:
        """Return the verdict, with the pattern that decided in its reason.

        first: the name of the tool's first argument; left out, that of the call's: a model chooses their order.
        """
        patterned = PatternedCall(call, first)
        for pattern in self.deny:
            if patterned.is_meant_by(pattern):
                return Permission("deny", f"the rule {pattern!r} denies it")
        for pattern in self.ask:
            if patterned.is_meant_by(pattern):
                return Permission("ask", f"the rule {pattern!r} asks about it")
        if any(map(patterned.is_allowed_by, self.allow)):
            return ALLOWED
        return Permission(self.default, "no rule allows it" if self.default == "deny" else None)


def permission_of(tool: Tool[..., Any], policy: Policy | None, call: ToolCallPart) -> Permission:
    """Return the stricter of what the tool and the policy say; a rule that fails is a question."""
    found = ALLOWED
    rules: tuple[tuple[str, Callable[[], Permission]], ...] = (
        ("approval rule", lambda: _own(tool, call)),
        ("policy", lambda: _by(policy, tool, call)),
    )
    for name, ask in rules:
        try:
            said = ask()
        except Exception as error:  # noqa: BLE001 - a host's rule may raise anything; then nobody allowed the call
            said = Permission("ask", f"the {name} failed: {type(error).__name__}: {error_text(error)}")
        if _STRICTER[said.verdict] > _STRICTER[found.verdict]:
            found = said
    return found


def _own(tool: Tool[..., Any], call: ToolCallPart) -> Permission:
    rule = tool.approval
    said = rule(_given(tool, call)) if callable(rule) else rule
    if not said:
        return ALLOWED
    return Permission("ask", clean_text(said) if isinstance(said, str) else None)


def _by(policy: Policy | None, tool: Tool[..., Any], call: ToolCallPart) -> Permission:
    if policy is None:
        return ALLOWED
    call = msgspec.structs.replace(call, input=_given(tool, call))
    properties = tool.input_schema.get("properties")
    if isinstance(policy, Permissions) and isinstance(properties, dict):
        return policy.permission(call, first=next(iter(properties), None))
    said = policy.permission(call)
    if not isinstance(said, Permission):
        raise TypeError(f"{said!r} is no Permission")
    return said


def _given(tool: Tool[..., Any], call: ToolCallPart) -> dict[str, JSON]:
    """Return the arguments as the body will get them, copied: those of the model, else the schema's defaults.

    A default that JSON cannot hold is in no schema, and left out.
    """
    properties = tool.input_schema.get("properties")
    schemas = properties if isinstance(properties, dict) else {}
    defaults = {
        name: schema["default"]
        for name, schema in schemas.items()
        if name not in call.input and isinstance(schema, dict) and "default" in schema
    }
    given: dict[str, JSON] = copy_json({**call.input, **defaults})
    return given


MAX_SUMMARY = 200
"""Characters of the one line that says what a call would do."""


def summary_of(tool: Tool[..., Any], call: ToolCallPart) -> str:
    """Return one line that says what the call would do: the tool's own words, or its name and arguments."""
    text = ""
    if tool.summary is not None:
        try:
            text = str(tool.summary(_given(tool, call)))
        except Exception:  # noqa: BLE001 - a host's words may fail; the call is shown all the same
            text = ""
    if not text:
        told = ", ".join(f"{name}={compact_json(value)}" for name, value in call.input.items())
        text = f"{call.name}({told})"
    line = clean_text(" ".join(text.split()))
    return line if len(line) <= MAX_SUMMARY else line[: MAX_SUMMARY - 1] + "…"


# --- what a person, or `approve=`, says


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Approve(FrozenRecord):
    """The call may run. edited_input: with these arguments instead. reason, by: why and who, for the log."""

    edited_input: dict[str, JSON] | None = None
    reason: str | None = None
    by: str | None = None


@attrs.frozen(eq=False, repr=False)
class Deny(FrozenRecord):
    """The call may not run. reason: what the model is told. by: who, for the log."""

    reason: str | None = None
    by: str | None = attrs.field(default=None, kw_only=True)


Answer: TypeAlias = Approve | Deny | bool | None
"""What `approve=` returns; None leaves the call waiting, unless the step was answered by itself."""

Approver: TypeAlias = "Callable[[ApprovalRequest], Answer | Awaitable[Answer]]"
"""Asked about every call that needs approval."""


def checked_approver(approve: object) -> Any:
    """Return `approve`; raises ConfigurationError for what cannot be called with a request."""
    if approve is None or callable(approve):
        return approve
    raise ConfigurationError(f"approve={approve!r} refused; give a function of an ApprovalRequest, or None")


def checked_policy_object(policy: object) -> Any:
    """Return the policy; raises ConfigurationError for what is none."""
    if policy is None or callable(getattr(policy, "permission", None)):
        return policy
    raise ConfigurationError(f"permissions={policy!r} refused; give Permissions(…) or None")


def settled(answer: Awaitable[Answer]) -> Answer:
    """Return what an async `approve=` answers, for a synchronous driver."""
    import asyncio  # noqa: PLC0415 - a third of what this package takes to import; only async answers need it

    async def wait() -> Answer:
        return await answer

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    import concurrent.futures  # noqa: PLC0415 - only where this thread has a loop

    with concurrent.futures.ThreadPoolExecutor(1) as elsewhere:  # this thread has a loop that waits for us
        return elsewhere.submit(asyncio.run, wait()).result()


def answer_step(step: ApprovalRequest, answer: object) -> None:
    """Give the answer of `approve=` to its step; raises ConfigurationError for what is no answer."""
    match answer:
        case None:
            return
        case True:
            step.approve()
        case False:
            step.deny()
        case Approve():
            step.approve(edited_input=answer.edited_input, reason=answer.reason, by=answer.by)
        case Deny():
            step.deny(answer.reason, by=answer.by)
        case _:
            if inspect.isawaitable(answer):
                raise ConfigurationError("approve= gave an awaitable within an awaitable; return the answer")
            raise ConfigurationError(
                f"approve= gave {answer!r}; return True, False, Approve(…), Deny(…) or None"
            )
