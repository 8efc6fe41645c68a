"""AGENTKIT_CONTENT and AGENTKIT_DISABLED, for the logs of `agentkit run` and `agentkit resume`."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentkit_loop.events import InputAccepted
from agentkit_loop.testing import MessagesServer
from agentkit_reporting import check_log
from tests.cli.running import agentkit, log_of
from tests.cli.test_resume import resume

SAID = "where does the zebra live"


@pytest.mark.parametrize("content", ["metadata", "off"])
def test_a_run_and_its_resume_are_logged_without_content(tmp_path: Path, content: str) -> None:
    with MessagesServer(["In the savanna.", "By night, too."]) as server:
        at = ("--base-url", server.base_url)
        ended = agentkit(SAID, *at, cwd=tmp_path, AGENTKIT_CONTENT=content)
        assert (ended.code, ended.stdout) == (0, "In the savanna.\n")
        (path,) = (tmp_path / "agentkit-logs").glob("*.jsonl")
        went_on = resume(str(path), "and at night", *at, cwd=tmp_path, AGENTKIT_CONTENT=content)
        assert (went_on.code, went_on.stdout) == (0, "By night, too.\n")
    text = path.read_text()
    for said in ("zebra", "savanna", "night"):
        assert said not in text
    assert len([event for event in log_of(tmp_path) if isinstance(event, InputAccepted)]) == 2
    assert check_log([path]).fault_count == 0


def test_no_log_is_written_where_all_is_switched_off_unless_one_is_named(tmp_path: Path) -> None:
    with MessagesServer(["one", "two"]) as server:
        at = ("--base-url", server.base_url)
        ended = agentkit("x", *at, cwd=tmp_path, AGENTKIT_DISABLED="1")
        assert (ended.code, ended.stdout) == (0, "one\n")
        assert "no log is written, since AGENTKIT_DISABLED is set; --log PATH writes one" in ended.stderr
        assert list(tmp_path.glob("**/*.jsonl")) == []
        assert agentkit("x", *at, "--log", "a.jsonl", cwd=tmp_path, AGENTKIT_DISABLED="1").code == 0
    assert (tmp_path / "a.jsonl").exists()


@pytest.mark.parametrize("variable", ["AGENTKIT_CONTENT", "AGENTKIT_DISABLED"])
def test_a_wrong_word_is_refused_before_the_run(tmp_path: Path, variable: str) -> None:
    with MessagesServer() as server:
        ended = agentkit("x", "--base-url", server.base_url, cwd=tmp_path, **{variable: "fulll"})  # type: ignore[arg-type] # none is called as a parameter
        assert server.requests == []
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"agentkit: {variable}='fulll' refused because it is n")
