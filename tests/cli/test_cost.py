"""`agentkit cost` as a user meets it: real processes over real logs."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.price_book import PriceBook
from agentkit_loop.testing import Reply, ScriptedModel
from agentkit_loop.usage import Usage
from agentkit_reporting import JsonlReporter
from tests.cli.terminals import OnTerminal
from tests.cli.test_command_line import ENVIRONMENT, agentkit

USED = Usage(input_tokens=10_000, cached_input_tokens=90_000, output_tokens=1_234)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return a log of a priced and an unpriced run."""
    for name in ("claude-opus-5", "llama3\x1b[31m"):
        model = ScriptedModel([Reply(text="hi", usage=USED)], name=name)
        with Agent(model, observers=[JsonlReporter(tmp_path / "run.jsonl")], prices=PriceBook()) as agent:
            agent.run("go", metadata={"task": "greet"})
    return tmp_path / "run.jsonl"


def test_it_says_what_each_model_cost_and_counts_what_has_no_price(log: Path) -> None:
    result = agentkit("cost", log.name, cwd=log.parent)
    assert (result.returncode, result.stderr) == (0, "")
    head, opus, llama, total, hint = (line.split() for line in result.stdout.splitlines())
    assert head == ["model", "requests", "input", "cached", "written", "output", "cost"]
    assert opus == ["claude-opus-5", "1", "10,000", "90,000", "?", "1,234", "$0.125850"]
    assert llama[0].startswith("llama3")
    assert llama[-2:] == ["1", "unpriced"]
    assert total[-4:] == ["$0.125850", "+", "1", "unpriced"]
    assert " ".join(hint) == "1 request has no price; --prices FILE, or --reprice, may know it"
    assert "\x1b" not in result.stdout


def test_explained_it_shows_every_component_its_rate_and_the_table(log: Path) -> None:
    shown = agentkit("cost", "--explain", log.name, cwd=log.parent).stdout
    lines = [line.split() for line in shown.splitlines()]
    assert ["input", "10,000", "x", "$5.00", "a", "million", "$0.050000"] in lines
    assert ["cached_input", "90,000", "x", "$0.50", "a", "million", "$0.045000"] in lines
    assert ["output", "1,234", "x", "$25.00", "a", "million", "$0.030850"] in lines
    assert "1 request by genai-prices 0." in shown
    assert "at the prices of 20" in shown
    assert "1 request without a cost: no price was known" in shown


def test_priced_again_it_says_what_todays_table_would_say(log: Path) -> None:
    (log.parent / "mine.toml").write_text(
        '[models."claude-opus-5"]\ninput = 1\noutput = 1\ncached_input = 0\n'
        '[models."llama3\\u001b[31m"]\ninput = 0\noutput = 0\n'
    )
    result = agentkit("cost", "--prices", "mine.toml", log.name, cwd=log.parent)
    assert result.stdout.splitlines()[0].split()[-3:] == ["cost", "today", "difference"]
    assert result.stdout.splitlines()[1].split()[-3:] == ["$0.125850", "$0.011234", "-$0.114616"]
    assert result.stdout.splitlines()[2].split()[-4:] == ["1", "unpriced", "$0.000000", "?"]
    assert "today: mine.toml sha256:" in result.stdout
    same = agentkit("cost", "--reprice", log.name, cwd=log.parent).stdout
    assert same.splitlines()[1].split()[-3:] == ["$0.125850", "$0.125850", "none"]


def test_a_price_list_is_found_by_argument_environment_and_place_in_this_order(log: Path) -> None:
    for name, price in (("prices.toml", 1), ("env.toml", 2), ("arg.toml", 3)):
        text = f'[models."claude-opus-5"]\ninput = {price}\noutput = 0\ncached_input = 0\n'
        (log.parent / name).write_text(text)

    def today(*arguments: str, own: str = "") -> str:
        asked = ("cost", "--reprice", "--json", *arguments, log.name)
        result = agentkit(*asked, cwd=log.parent, AGENTKIT_PRICES=own)
        return str(json.loads(result.stdout)["groups"][0]["today"]["costs"]["USD"])

    assert Decimal(today()) == Decimal("0.01")
    assert Decimal(today(own="env.toml")) == Decimal("0.02")
    assert Decimal(today("--prices", "arg.toml", own="env.toml")) == Decimal("0.03")


def test_programs_get_exact_amounts_as_json(log: Path) -> None:
    result = agentkit("cost", "--json", "--by", "model", "--by", "metadata.task", log.name, cwd=log.parent)
    told = json.loads(result.stdout)
    assert told["by"] == ["model", "metadata.task"]
    first = told["groups"][0]
    assert first["key"] == {"model": "claude-opus-5", "metadata.task": "greet"}
    assert first["costs"] == {"USD": "0.12585"}
    assert first["components"]["USD"]["output"] == {"count": 1234, "amount": "0.03085"}
    assert first["usage"]["cached_input_tokens"] == 90_000
    assert (told["total"]["requests"], told["total"]["unpriced"]) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("none.jsonl",), 2, "none.jsonl"),
        (("--by", "colour", "run.jsonl"), 2, "dimension 'colour' refused; give model"),
        (("--prices", "none.toml", "run.jsonl"), 2, "'none.toml' cannot be read"),
        (("--session", "nobody", "run.jsonl"), 1, "no event of session nobody in run.jsonl; give the end of"),
        (("--prices", "alias.toml", "run.jsonl"), 2, "aliases.'quick' = 'claude-haku' of alias.toml"),
    ],
)
def test_what_cannot_work_is_one_line_that_says_why(
    log: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    (log.parent / "alias.toml").write_text('[aliases]\nquick = "claude-haku"\n')
    result = agentkit("cost", *arguments, cwd=log.parent)
    assert (result.returncode, result.stdout) == (code, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_bad_lines_are_told_and_the_rest_counts(log: Path) -> None:
    log.write_bytes(b'{"v":1,"seq":1,"ts"\n' + log.read_bytes())
    result = agentkit("cost", log.name, cwd=log.parent)
    assert result.returncode == 0
    assert "skipped run.jsonl:1" in result.stderr
    assert "claude-opus-5" in result.stdout


def test_costs_are_read_without_the_providers_sdk_and_without_the_tables(log: Path) -> None:
    result = agentkit("cost", log.name, cwd=log.parent, PYTHONPROFILEIMPORTTIME="1")
    loaded = {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines()}
    assert "msgspec" in loaded
    assert not loaded & {"anthropic", "genai_prices", "pydantic", "httpx2", "ssl"}


def test_todays_bill_of_what_had_no_price_is_explained_as_the_logged_one_is(log: Path) -> None:
    (log.parent / "mine.toml").write_text('[models."llama3\\u001b[31m"]\ninput = 3\noutput = 4\n')
    shown = agentkit("cost", "--explain", "--prices", "mine.toml", log.name, cwd=log.parent).stdout
    explained = shown.split("\n\n")[2]
    logged, today = explained.split("today's table:")
    assert "1 request without a cost" in logged
    lines = [line.split() for line in today.splitlines()]
    assert ["output", "1,234", "x", "$4.00", "a", "million", "$0.004936"] in lines
    assert "1 request by mine.toml sha256:" in today
    assert "at the prices of 20" in today


def test_a_rate_that_is_an_average_is_marked(tmp_path: Path) -> None:
    for name in ("claude-opus-5", "claude-sonnet-5"):
        model = ScriptedModel([Reply(text="hi", usage=USED)], name=name)
        with Agent(model, observers=[JsonlReporter(tmp_path / "run.jsonl")], prices=PriceBook()) as agent:
            agent.run("go")
    together = agentkit("cost", "--explain", "--by", "agent", "run.jsonl", cwd=tmp_path).stdout
    assert "x avg $3.50 a million" in together
    assert "avg" not in agentkit("cost", "--explain", "run.jsonl", cwd=tmp_path).stdout


def test_turns_are_one_for_each_session_and_named_by_its_end(log: Path) -> None:
    told = json.loads(agentkit("cost", "--json", "--by", "turn", log.name, cwd=log.parent).stdout)
    keys = [group["key"]["turn"] for group in told["groups"]]
    sessions = [key.removesuffix("/turn-1") for key in keys]
    assert len(set(sessions)) == 2
    lines = agentkit("cost", "--by", "turn", log.name, cwd=log.parent).stdout.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == [f"~{each[-6:]}/turn-1" for each in sessions]
    one = agentkit("cost", "--by", "turn", "--session", sessions[0], log.name, cwd=log.parent).stdout
    assert one.splitlines()[1].split()[0] == "turn-1"


def test_a_report_that_was_not_the_last_word_is_told_below_the_table(log: Path) -> None:
    assert "lower bound" not in agentkit("cost", log.name, cwd=log.parent).stdout
    log.write_text(log.read_text().replace('"final":true', '"final":false', 1))
    below = agentkit("cost", log.name, cwd=log.parent).stdout.splitlines()[-2]
    assert below == "1 request by a last report that was not final: a lower bound"


def on_terminal(columns: int, *arguments: str, cwd: Path) -> str:
    """Return what the command shows on a terminal that is so wide."""
    command = [sys.executable, "-m", "agentkit_reporting.cli", "cost", *arguments]
    terminal = OnTerminal(command, cwd, ENVIRONMENT, columns=columns)
    assert terminal.end() == 0
    return terminal.shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("by", [("model",), ("session",), ("model", "turn"), ("session", "model")])
@pytest.mark.parametrize("again", [(), ("--reprice",)])
def test_on_a_terminal_the_table_fits_its_width_and_shows_every_cost(
    log: Path, by: tuple[str, ...], again: tuple[str, ...]
) -> None:
    asked = (*(word for each in by for word in ("--by", each)), *again, log.name)
    piped = agentkit("cost", *asked, cwd=log.parent).stdout.splitlines()
    table = on_terminal(80, *asked, cwd=log.parent).splitlines()[: len(piped)]
    rows = table[:4]
    assert max(map(len, rows)) <= 80
    costs = ["cost", "today", "difference"] if again else ["cost"]
    assert rows[0].split()[-len(costs) :] == costs
    assert all("$0.125850" in row for row in (rows[1], rows[3]))
    if by[0] == "session":
        full, short = piped[1].split()[0], rows[1].split()[0]
        assert full.endswith(short.removeprefix("~"))
    assert on_terminal(200, *asked, cwd=log.parent).splitlines()[:4] == piped[:4]
