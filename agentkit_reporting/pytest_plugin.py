"""The pytest plugin: recorded events, golden logs, models that answer as a log does, logs of failing tests.

It is loaded by every pytest where the package is installed, and so imports nothing of it until a fixture is asked for,
and works with pytest 7 and later.

PYTEST_DONT_REWRITE: see `agentkit_reporting/__init__.py`.
"""

from __future__ import annotations

import itertools
import os
import sys
import traceback
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import pluggy

    from agentkit_loop.models.scripted import ScriptedModel
    from agentkit_reporting.testing.golden_logs import GoldenLogs
    from agentkit_reporting.testing.recorded_events import RecordedEvents

__all__ = ["agent_events", "golden_log", "scripted_from_log"]

SECTION = "agent events"
"""The section of a failing test's report that shows its run."""

_WRITTEN = "agentkit_golden_written"  # the property of a test that names a golden log that it wrote
_NOT_KEPT = "agentkit_log_not_kept"  # the property of a test that says why its log was not kept
_UPDATE, _LOGS, _LOGS_OF = "agentkit_update_golden", "agentkit_logs", "agentkit_logs_of"

_MOST_PROBLEMS = 5
_PACKAGES = ("agentkit_loop", "agentkit_reporting")

_events = pytest.StashKey["RecordedEvents"]()
_golden = pytest.StashKey["GoldenLogs"]()
_checked = pytest.StashKey[dict[Path, str]]()
_failed = pytest.StashKey[bool]()
_logs_directory = pytest.StashKey[Path]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("agentkit", "agentkit: runs of agents")
    group.addoption(
        "--agentkit-update-golden", dest=_UPDATE, action="store_true", help="Write golden logs anew."
    )
    group.addoption(
        "--agentkit-logs",
        dest=_LOGS,
        metavar="DIR",
        help="Keep the events of failing tests that use the fixture agent_events as logs in DIR.",
    )
    group.addoption(
        "--agentkit-logs-of",
        dest=_LOGS_OF,
        choices=("failed", "all"),
        default="failed",
        help="Of which tests --agentkit-logs keeps logs (default: failed).",
    )
    parser.addini(
        "agentkit_golden_dir",
        "Directory of golden logs, from the directory of the test's file (default: golden).",
        default="golden",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Find the directory of logs while the working directory is the one that was meant."""
    directory = config.getoption(_LOGS)
    if directory:
        config.stash[_logs_directory] = Path(directory).absolute()


# --- fixtures


@pytest.fixture
def agent_events(request: pytest.FixtureRequest, golden_log: GoldenLogs) -> RecordedEvents:
    """Record the events of a run: give it to an agent as an observer, or fill it from a log."""
    from agentkit_reporting.testing.recorded_events import RecordedEvents  # noqa: PLC0415 - when it is used

    events = request.node.stash[_events] = RecordedEvents(golden=golden_log)
    return events


@pytest.fixture
def golden_log(request: pytest.FixtureRequest) -> GoldenLogs:
    """Compare events with a golden log, apart from times and ids: `golden_log(events, "name")`."""
    from agentkit_reporting.testing.golden_logs import GoldenLogs  # noqa: PLC0415 - when it is used

    directory = str(request.config.getini("agentkit_golden_dir"))
    golden = request.node.stash[_golden] = GoldenLogs(
        request.path.parent / directory,
        test_name=_golden_name(request),
        update=request.config.getoption(_UPDATE),
        create=not _is_ci(),
        checked=request.config.stash.setdefault(_checked, {}),
    )
    return golden


@pytest.fixture
def scripted_from_log(request: pytest.FixtureRequest) -> Callable[..., ScriptedModel]:
    """Make a model that gives the recorded answers of a log: `scripted_from_log("logs/run.jsonl")`.

    A path is taken from the directory of the test's file. Further arguments: see `ScriptedModel.from_log`.
    """
    from agentkit_loop.models.scripted import ScriptedModel  # noqa: PLC0415 - when it is used
    from agentkit_reporting.log.read import read_events  # noqa: PLC0415 - the same

    def from_log(path: str | os.PathLike[str], **options: Any) -> ScriptedModel:
        __tracebackhide__ = True
        return ScriptedModel.from_log(read_events(request.path.parent / path), **options)

    return from_log


def _golden_name(request: pytest.FixtureRequest) -> str:
    """Return what a golden log without a name is called: `test_file.test_name`, with its class between."""
    _, *names = request.node.nodeid.split("::")
    return ".".join((request.path.stem, *names))


def _is_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false", "no")


# --- reports


@pytest.hookimpl(
    hookwrapper=True
)  # not wrapper=True: with pluggy < 1.2 that would end every pytest at its start
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pluggy.Result[pytest.TestReport], None]:
    """Show the run of a test that failed, and keep its log."""
    if call.excinfo is not None:
        _hide_our_frames(call.excinfo.value)
    report = (yield).get_result()
    events, golden = item.stash.get(_events, None), item.stash.get(_golden, None)
    if golden is not None and call.when == "call":
        report.user_properties += [(_WRITTEN, str(path)) for path in golden.written]
    if events is None:
        return
    if report.failed:
        item.stash[_failed] = True
        report.sections.append((SECTION, f"{_shown(events)}{_kept(item, events)}"))
    if call.when == "teardown":
        problem = _keep(item, events)  # with what came since
        report.user_properties += [(_NOT_KEPT, problem)] if problem else []


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name the golden logs that were written, by this process or by workers, and logs that could not be kept."""
    told: dict[str, list[str]] = {_WRITTEN: [], _NOT_KEPT: []}
    for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
        for name, value in getattr(report, "user_properties", ()):
            if name in told:
                told[name].append(value)
    if told[_WRITTEN]:
        terminalreporter.section("golden logs")
        for path in sorted({*told[_WRITTEN]}):
            terminalreporter.write_line(f"written: {_visible(path)}")
    if told[_NOT_KEPT]:
        terminalreporter.section("logs of tests")
        for problem in told[_NOT_KEPT][:_MOST_PROBLEMS]:
            terminalreporter.write_line(problem)
        more = len(told[_NOT_KEPT]) - _MOST_PROBLEMS
        if more > 0:
            terminalreporter.write_line(f"and {more:,} more")


def _hide_our_frames(error: BaseException | None) -> None:
    """Have pytest show of an error of ours the lines of the test and of the host, not our own (but --full-trace).

    It goes by a name in the globals of a frame's module; set where an error was seen, also in what caused it.
    """
    errors = sys.modules.get("agentkit_loop.errors")
    if errors is None or not isinstance(error, errors.AgentKitError):
        return

    def is_ours(found: pytest.ExceptionInfo[BaseException]) -> bool:
        return isinstance(found.value, errors.AgentKitError)

    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if str(frame.f_globals.get("__name__")).partition(".")[0] in _PACKAGES:
                frame.f_globals.setdefault("__tracebackhide__", is_ours)
        error = error.__cause__ or error.__context__


def _shown(events: RecordedEvents) -> str:
    if not len(events):
        return "no event was recorded: no run had told one, or none has the fixture as an observer"
    try:
        return events.show()
    except Exception as error:  # noqa: BLE001 - what is shown of a failure must not hide it
        return f"{len(events)} events, which cannot be shown: {_visible(repr(error))}"


def _kept(item: pytest.Item, events: RecordedEvents) -> str:
    """Keep the log of a test that failed; return a line that says where it is, or why it is nowhere."""
    path = _log_of(item, events)
    if path is None:
        return ""
    return f"\n{_keep(item, events) or f'log: {_visible(str(path))}'}"


def _log_of(item: pytest.Item, events: RecordedEvents) -> Path | None:
    """Return the file that the events of a test are kept in; None where there are none, or they are not."""
    directory = item.config.stash.get(_logs_directory, None)
    if not len(events) or directory is None:
        return None
    if not (item.stash.get(_failed, False) or item.config.getoption(_LOGS_OF) == "all"):
        return None
    from agentkit_reporting.testing.kept_logs import log_path  # noqa: PLC0415 - only with the option

    return log_path(directory, item.nodeid)


def _keep(item: pytest.Item, events: RecordedEvents) -> str:
    """Write the log of a test; return what went wrong."""
    from agentkit_reporting.testing.kept_logs import keep_log  # noqa: PLC0415 - only with the option

    path = _log_of(item, events)
    try:
        if path is not None:
            keep_log(path, events)
    except Exception as error:  # noqa: BLE001 - a test's result does not depend on its log
        return f"the log was not kept: {_visible(str(error) or repr(error))}"
    return ""


def _visible(text: str) -> str:
    from agentkit_reporting.terminal import visible  # noqa: PLC0415 - only where something is shown

    return visible(text)
