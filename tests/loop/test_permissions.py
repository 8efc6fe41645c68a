"""Which calls are asked about or denied: a tool's own rule, the agent's policy, patterns."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit_loop.content import ToolCallPart
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import ApprovalRequired, ToolCallRequested, ToolExecutionStarted, ToolResultReceived
from agentkit_loop.permissions import MAX_SUMMARY, Permission, Permissions, permission_of
from agentkit_loop.testing import ScriptedCall
from agentkit_loop.tools import tool
from tests.loop.hosts import Run, asking, call
from tests.loop.test_turns import Drive, either


def run_command(command: str, where: str = ".") -> str:
    """Run a command."""
    assert where
    return f"ran {command}"


def look(path: str = ".") -> str:
    """Look at a file."""
    return f"saw {path}"


def shell_call(command: str) -> ToolCallPart:
    return ToolCallPart(id="c", name="run_command", input={"command": command})


# --- a tool's own rule


def outside(arguments: dict[str, Any]) -> object:
    """Ask where a command runs elsewhere."""
    return "it runs elsewhere" if arguments.get("where", ".") != "." else False


@either
@pytest.mark.parametrize(
    ("rule", "asked", "reason"),
    [
        (False, False, None),
        (True, True, None),
        (outside, True, "it runs elsewhere"),
        (lambda arguments: arguments["command"] == "ls", False, None),
        (lambda _: "", False, None),
        (lambda _: None, False, None),
        (lambda _: "bad\udc80", True, r"bad\udc80"),
        (lambda _: 1 / 0, True, "the approval rule failed: ZeroDivisionError: division by zero"),
        (lambda arguments: arguments["missing"], True, "the approval rule failed: KeyError: 'missing'"),
    ],
)
def test_a_tools_rule_decides_with_the_arguments(
    drive: Drive, rule: Any, asked: bool, reason: str | None
) -> None:
    gated = tool(run_command, approval=rule)
    run = Run([asking(call("run_command", command="make", where="elsewhere")), "done"], tools=[gated])
    result = drive(run, "go")
    assert (result.status == "suspended") is asked
    assert [event.reason for event in run.of(ApprovalRequired)] == ([reason] if asked else [])
    assert bool(run.of(ToolExecutionStarted)) is not asked
    assert run.faults == []


def pay(to: str, amount: int = 20, notes: list[str] = ["x"]) -> str:  # noqa: B006 - nobody changes it
    """Pay somebody."""
    return f"paid {amount} to {to}, {notes}"


@either
@pytest.mark.parametrize(("given", "asked"), [({}, True), ({"amount": 10}, False), ({"amount": 30}, True)])
def test_a_rule_and_a_summary_get_the_defaults_that_the_body_will_get(
    drive: Drive, given: dict[str, Any], asked: bool
) -> None:
    gated = tool(
        pay,
        approval=lambda arguments: arguments["amount"] > 10 and arguments["notes"].append("y") is None,
        summary=lambda arguments: f"pay {arguments['amount']} to {arguments['to']}, {arguments['notes']}",
    )
    run = Run([asking(call("pay", to="ann", **given)), "done"], tools=[gated])
    drive(run, "go")
    told = [(event.summary, event.reason) for event in run.of(ApprovalRequired)]
    assert told == ([(f"pay {given.get('amount', 20)} to ann, ['x']", None)] if asked else [])
    (requested,) = run.of(ToolCallRequested)
    assert requested.call.input == {"to": "ann", **given}
    assert [event.output for event in run.of(ToolResultReceived)] == (
        [] if asked else ["paid 10 to ann, ['x']"]
    )
    assert run.faults == []


def test_a_policy_of_ones_own_gets_the_defaults_too() -> None:
    class Ceiling:
        def permission(self, call: ToolCallPart) -> Permission:
            amount: Any = call.input["amount"]
            return Permission("deny" if amount > 10 else "allow")

    made = ToolCallPart(id="c", name="pay", input={"to": "ann"})
    assert permission_of(tool(pay), Ceiling(), made) == Permission("deny")
    assert made.input == {"to": "ann"}


@either
def test_a_rule_changes_no_argument(drive: Drive) -> None:
    def meddle(arguments: dict[str, Any]) -> bool:
        arguments["command"] = "rm"
        return False

    run = Run([asking(call("run_command", command="ls")), "done"], tools=[tool(run_command, approval=meddle)])
    drive(run, "go")
    assert run.of(ToolResultReceived)[0].output == "ran ls"


@pytest.mark.parametrize("wrong", ["always", 1, None])
def test_a_rule_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="give True, False or a function of the arguments"):
        tool(run_command, approval=wrong)


@either
def test_calls_that_cannot_run_are_not_asked_about(drive: Drive) -> None:
    gated = tool(run_command, approval=True)
    replies = [
        asking(
            call("run_command", command=3),
            call("missing"),
            ScriptedCall(name="run_command", cut='{"comm'),
        ),
        "done",
    ]
    run = Run(replies, tools=[gated])
    assert drive(run, "go").text == "done"
    assert run.of(ApprovalRequired) == []
    assert [event.not_started for event in run.of(ToolResultReceived)] == [True, True, True]
    assert run.faults == []


# --- summaries


@either
@pytest.mark.parametrize(
    ("summary", "told"),
    [
        (None, 'run_command(command="ls\\n-l", where="x")'),
        (lambda arguments: f"run {arguments['command']}", "run ls -l"),
        (lambda _: 1 / 0, 'run_command(command="ls\\n-l", where="x")'),
        (lambda _: "", 'run_command(command="ls\\n-l", where="x")'),
        (lambda _: "long" * 1000, ("long" * 1000)[: MAX_SUMMARY - 1] + "…"),
    ],
)
def test_a_summary_is_one_line(drive: Drive, summary: Any, told: str) -> None:
    gated = tool(run_command, approval=True, summary=summary)
    run = Run([asking(call("run_command", command="ls\n-l", where="x")), "done"], tools=[gated])
    drive(run, "go")
    assert run.of(ApprovalRequired)[0].summary == told


# --- a policy


class Weekday:
    """A policy of a host."""

    def __init__(self, said: Any) -> None:
        self.said = said
        self.seen: list[ToolCallPart] = []

    def permission(self, call: ToolCallPart) -> Permission:
        self.seen.append(call)
        if isinstance(self.said, Exception):
            raise self.said
        permission: Permission = self.said
        return permission


@either
@pytest.mark.parametrize(
    ("own", "said", "becomes", "reason"),
    [
        (False, Permission("allow"), "runs", None),
        (False, Permission("ask", "Friday"), "asked", "Friday"),
        (False, Permission("deny", "Sunday"), "denied", "The call was not started: Sunday."),
        (False, Permission("deny"), "denied", "The call was not started: it is denied."),
        (True, Permission("allow"), "asked", None),
        (True, Permission("deny", "Sunday"), "denied", "The call was not started: Sunday."),
        (lambda _: "mine", Permission("ask", "Friday"), "asked", "mine"),
        (False, ValueError("no calendar"), "asked", "the policy failed: ValueError: no calendar"),
        (False, True, "asked", "the policy failed: TypeError: True is no Permission"),
    ],
)
def test_the_stricter_of_tool_and_policy_counts(
    drive: Drive, own: Any, said: Any, becomes: str, reason: str | None
) -> None:
    policy = Weekday(said)
    gated = tool(run_command, approval=own)
    run = Run([asking(call("run_command", command="ls")), "done"], tools=[gated], permissions=policy)
    result = drive(run, "go")
    assert (result.status == "suspended") is (becomes == "asked")
    assert bool(run.of(ToolExecutionStarted)) is (becomes == "runs")
    if becomes == "asked":
        assert run.of(ApprovalRequired)[0].reason == reason
    elif becomes == "denied":
        (told,) = run.of(ToolResultReceived)
        assert (told.output, told.denied, told.not_started) == (reason, True, True)
    assert [seen.input for seen in policy.seen] == [{"command": "ls", "where": "."}]
    assert run.faults == []


def test_a_policy_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"give Permissions\(…\) or None"):
        Run([], permissions="allow")
    with pytest.raises(ConfigurationError, match="give 'allow', 'ask' or 'deny'"):
        Permission("yes")  # type: ignore[arg-type] # a wrong word is the point
    with pytest.raises(ConfigurationError):
        Permissions(default="perhaps")  # type: ignore[arg-type] # the same


# --- patterns

POLICY = Permissions(
    allow=["read_*", "look", "run_command(git status*)", "run_command(echo $HOME)"],
    ask=["run_command(git push*)", "read_secret"],
    deny=["run_command(rm *)", "*_admin"],
)


@pytest.mark.parametrize(
    ("name", "first", "verdict"),
    [
        ("look", None, "allow"),
        ("read_file", "x", "allow"),
        ("read_secret", "x", "ask"),
        ("read_admin", "x", "deny"),
        ("Look", None, "ask"),
        ("run_command", "git status", "allow"),
        ("run_command", "git status --short", "allow"),
        ("run_command", "git push origin", "ask"),
        ("run_command", "rm -rf .", "deny"),
        ("run_command", "echo $HOME", "allow"),
        ("run_command", "echo hello", "ask"),
        ("write", "x", "ask"),
    ],
)
def test_the_strictest_list_that_a_call_is_on_decides(name: str, first: str | None, verdict: str) -> None:
    made = ToolCallPart(id="c", name=name, input={} if first is None else {"command": first})
    assert POLICY.permission(made).verdict == verdict


@pytest.mark.parametrize("joint", [";", "&&", "|", "\n", "`", "$(", ">", "<", "&", "\r", ")"])
def test_an_allowed_command_allows_no_second_one(joint: str) -> None:
    assert POLICY.permission(shell_call(f"git status{joint}make clean")).verdict == "ask"


def test_a_denied_pattern_is_not_wary() -> None:
    assert POLICY.permission(shell_call("rm -rf . ; true")).verdict == "deny"


@pytest.mark.parametrize("wrong", ["", "run_command(git", 3, None])
def test_a_pattern_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="pattern"):
        Permissions(allow=[wrong])


@pytest.mark.parametrize("wrong", ["read_*", b"read"])
def test_a_text_where_a_list_is_wanted_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="give a list of patterns"):
        Permissions(allow=wrong)


@either
def test_the_order_in_which_a_model_gives_its_arguments_opens_nothing(drive: Drive) -> None:
    sly = ScriptedCall(name="run_command", input={"where": "git status", "command": "make clean"})
    run = Run([asking(sly), "done"], tools=[run_command], permissions=POLICY)
    assert drive(run, "go").status == "suspended"
    assert run.of(ToolExecutionStarted) == []


@either
def test_a_pattern_is_not_about_the_second_argument(drive: Drive) -> None:
    run = Run(
        [asking(ScriptedCall(name="both", input={"second": "fine"})), "done"],
        tools=[tool(lambda first="", second="": first + second, name="both", description="Join.")],
        permissions=Permissions(allow=["both(fine)"]),
    )
    assert drive(run, "go").status == "suspended"


@either
def test_patterns_name_their_reason(drive: Drive) -> None:
    replies = [
        asking(
            call("run_command", command="rm x"),
            call("run_command", command="git push"),
            call("look", path="a"),
        ),
        "done",
    ]
    run = Run(replies, tools=[run_command, look], permissions=POLICY)
    assert drive(run, "go").status == "suspended"
    assert [event.reason for event in run.of(ApprovalRequired)] == [
        "the rule 'run_command(git push*)' asks about it"
    ]
    denied = run.of(ToolResultReceived)[0]
    assert "the rule 'run_command(rm *)' denies it." in str(denied.output)
    assert run.faults == []
