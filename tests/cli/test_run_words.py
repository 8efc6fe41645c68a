"""What `agentkit run` says beside the answer: prices, retries, and errors in the command line's words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentkit_loop.testing import Reply
from agentkit_loop.testing_messages import reply_events
from agentkit_loop.testing_server import MessagesServer, ServerReply
from tests.cli.running import USAGE, agentkit

UNKNOWN = "agentkit: no price is known for local-1; give --prices FILE\n"


def price_list(path: Path, output: int) -> None:
    path.write_text(f'[models."local-1"]\ninput = 0\noutput = {output}\n')


def test_a_price_list_is_the_one_given_else_of_the_environment_else_near(tmp_path: Path) -> None:
    for name, price in (("prices.toml", 100), ("env.toml", 200), ("arg.toml", 300)):
        price_list(tmp_path / name, price * 1_000)
    with MessagesServer([Reply(text="x", usage=USAGE)] * 3) as server:
        at = ("x", "--json", "--no-log", "--model", "local-1", "--base-url", server.base_url)

        def cost(*arguments: str, own: str = "") -> str:
            ended = agentkit(*at, *arguments, cwd=tmp_path, AGENTKIT_PRICES=own)
            assert "no price" not in ended.stderr
            return str(json.loads(ended.stdout)["cost"]["USD"])

        assert float(cost()) == 3
        assert float(cost(own="env.toml")) == 6
        assert float(cost("--prices", "arg.toml", own="env.toml")) == 9


def test_a_model_without_a_price_is_told_at_the_end(tmp_path: Path) -> None:
    with MessagesServer([Reply(text="x", usage=USAGE)]) as server:
        ended = agentkit("x", "--model", "local-1", "--base-url", server.base_url, cwd=tmp_path)
    assert (ended.code, ended.stdout) == (0, "x\n")
    assert ended.stderr.endswith(UNKNOWN)


@pytest.mark.parametrize("text", [None, "models = 3", "[", ""])
def test_a_wrong_price_list_is_told_before_the_run(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "mine.toml").write_text(text)
    with MessagesServer() as server:
        ended = agentkit("x", "--prices", "mine.toml", "--base-url", server.base_url, cwd=tmp_path)
        assert server.requests == []
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr.startswith("agentkit: price list 'mine.toml'")
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "agentkit-logs").exists()


def test_a_retry_is_a_line_on_stderr_where_nobody_is_shown_the_run(tmp_path: Path) -> None:
    busy = ServerReply.refusal(529, "overloaded_error", "Overloaded", retry_after="0")
    with MessagesServer([busy, "done"]) as server:
        ended = agentkit("x", "--no-log", "--base-url", server.base_url, cwd=tmp_path)
    assert (ended.code, ended.stdout) == (0, "done\n")
    assert ended.stderr.startswith("agentkit: overloaded; trying again in ")
    assert ended.stderr.splitlines()[0].endswith(" s (attempt 2)")


def test_a_silent_server_is_told_once_with_the_attempts_and_in_the_commands_words(tmp_path: Path) -> None:
    silent = ServerReply(events=tuple(reply_events(Reply(text="x", usage=USAGE))), stall_after=0)
    with MessagesServer([silent] * 4) as server:
        ended = agentkit("x", "--no-log", "--timeout", "0.2", "--base-url", server.base_url, cwd=tmp_path)
    assert ended.code == 1
    *retries, said = [line for line in ended.stderr.splitlines() if line.startswith("agentkit: ")]
    assert len(retries) == 3
    assert said.endswith(" (4 attempts); try again, or raise --timeout")
    assert said.count("try again") == 1
    assert "timeout_s" not in ended.stderr
