"""`agentkit wire` as a user meets it: the list, one exchange, the difference of two, and commands that run."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path

import anthropic
import pytest

from agentkit_loop.testing import MessagesServer, Reply, ScriptedCall
from agentkit_reporting import WireCapture
from agentkit_reporting.cli.wire_views import attempt_text
from agentkit_reporting.wire.messages import stream_error
from agentkit_reporting.wire.reading import WireExchange
from tests.cli.goldens import check_golden, write_goldens
from tests.cli.test_command_line import ENVIRONMENT, agentkit
from tests.cli.wire_samples import STREAM, delta, request, response, sse, write_wire
from tests.reporting.wire_runs import ASK, KEY, exchanges

OUTPUTS = {
    "wire.txt": ("wire", "wire.jsonl"),
    "wire_colour.txt": ("wire", "wire.jsonl"),
    "wire_request.txt": ("wire", "wire.jsonl", "--request", "1"),
    "wire_request_colour.txt": ("wire", "wire.jsonl", "--request", "1"),
    "wire_curl.txt": ("wire", "wire.jsonl", "--curl", "--session", "other-1"),
    "wire_diff.txt": ("wire", "wire.jsonl", "--diff", "2", "4"),
    "wire_diff_colour.txt": ("wire", "wire.jsonl", "--diff", "2", "4"),
}


def make(folder: Path) -> None:
    write_wire(folder / "wire.jsonl")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_command_prints_what_the_golden_file_holds(name: str, folder: Path) -> None:
    check_golden(name, OUTPUTS[name], folder)


def test_the_list_is_one_object_for_programs(folder: Path) -> None:
    (folder / "packed.jsonl.gz").write_bytes(gzip.compress((folder / "wire.jsonl").read_bytes()))
    told = [
        json.loads(agentkit("wire", name, "--json", cwd=folder).stdout)
        for name in ("wire.jsonl", "packed.jsonl.gz")
    ]
    given = (folder / "wire.jsonl").read_bytes()
    told.append(json.loads(agentkit("wire", "-", "--json", cwd=folder, given=given).stdout))
    assert told[0] == told[1] == told[2]
    found = told[0]["exchanges"]
    assert [(one["number"], one["status"], one["outcome"]) for one in found] == [
        (1, 200, "complete"), (2, 529, "complete"), (3, 200, "cut"), (4, None, "failed"), (5, None, "no response"),
        (6, 200, "abandoned"),
    ]  # fmt: skip
    assert [one["attempt"] for one in found] == [1, 1, 2, 1, 1, 1]
    assert [one["request_attempt"] for one in found] == [None] * 5 + [3]
    assert [one["stream_error"] for one in found] == [None] * 5 + ["overloaded_error"]


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("1", [1]), ("request-2", [2, 3]), ("req_012", [2]), ("0" * 20 + "3", [3])],
    ids=["number", "request", "provider", "end-of-id"],
)
def test_an_exchange_goes_by_its_number_and_its_ids(name: str, numbers: list[int], folder: Path) -> None:
    told = json.loads(agentkit("wire", "wire.jsonl", "--request", name, "--json", cwd=folder).stdout)
    assert [one["number"] for one in told["exchanges"]] == numbers


def test_a_streamed_answer_is_put_together(folder: Path) -> None:
    told = json.loads(agentkit("wire", "wire.jsonl", "--request", "1", "--json", cwd=folder).stdout)
    message = told["exchanges"][0]["message"]
    assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use"]
    assert message["content"][2]["input"] == {"path": "parser.py"}
    assert message["usage"] == {"input_tokens": 420, "output_tokens": 60}
    raw = agentkit("wire", "wire.jsonl", "--request", "1", "--raw", cwd=folder).stdout
    assert raw.count("event: content_block_delta") == 6


def test_what_a_record_says_controls_no_terminal(folder: Path) -> None:
    for arguments in (
        ["--request", "2"],
        ["--request", "2", "--raw"],
        ["--diff", "1", "2"],
        ["--curl"],
        ["--json"],
    ):
        shown = agentkit("wire", "wire.jsonl", *arguments, cwd=folder).stdout
        assert shown
        assert not {"\x1b", "\x07"} & set(shown)


def test_what_is_not_there_is_said(folder: Path) -> None:
    (folder / "empty.jsonl").write_text('{"type":"note"}\n')
    all_there = "give 1 to 6, or the end of an id"
    for arguments, said in {
        ("empty.jsonl",): "no exchange in empty.jsonl; give a file written by WireCapture",
        ("wire.jsonl", "--request", "99"): f"no exchange 99 in wire.jsonl; {all_there}",
        ("wire.jsonl", "--diff", "1", "99"): f"no exchange 99 in wire.jsonl; {all_there}",
        ("wire.jsonl", "--session", "nobody"):
            "no session nobody in wire.jsonl; give one of fix-1, other-1, or the end of one",
        ("wire.jsonl", "--session", "fix-1", "--request", "5", "--curl"):
            "no exchange 5 in session fix-1 of wire.jsonl; give 1 to 4, 6, or the end of an id",
    }.items():  # fmt: skip
        ended = agentkit("wire", *arguments, cwd=folder)
        assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"agentkit: {said}\n")
    several = agentkit("wire", "wire.jsonl", "--diff", "request-2", "1", cwd=folder)
    assert (several.returncode, "2, 3" in several.stderr) == (2, True)
    assert agentkit("wire", "wire.jsonl", "--diff", "1", "2", "--curl", cwd=folder).returncode == 2
    assert agentkit("wire", "nowhere.jsonl", cwd=folder).returncode == 2


def test_a_stream_that_the_server_ended_with_an_error_says_so(folder: Path) -> None:
    rows = agentkit("wire", "wire.jsonl", cwd=folder).stdout.splitlines()
    assert "200 overloaded" in rows[-1]
    assert "200 overloaded" in agentkit("wire", "wire.jsonl", "--request", "6", cwd=folder).stdout


def test_what_a_model_says_is_no_error_of_its_stream() -> None:
    said = sse(delta(0, "text_delta", "text", "event: error\ndata: {}\n\nevent: error\n"))
    assert stream_error(said) is None
    assert stream_error(said + "event: error\n\n") is None
    assert stream_error(said + "event: error\r\ndata: [1]\r\n\r\n") is None
    assert stream_error(said + 'event:error\ndata: {"type":"error","error":7}\n\n') == "error"
    for text in (said + sse({"type": "error", "error": {"type": "api_error"}}), STREAM):
        assert stream_error(text) == ("api_error" if text is not STREAM else None)


def test_exchanges_of_several_files_are_listed_in_order_of_time(tmp_path: Path) -> None:
    for name, seconds in {"a.jsonl": (4, 9), "b.jsonl": (2, 7)}.items():
        asked = [request(at, [], attempt=at) for at in seconds]
        (tmp_path / name).write_text("".join(f"{json.dumps(one)}\n" for one in [*asked, response(1, 200)]))
    told = json.loads(agentkit("wire", "a.jsonl", "b.jsonl", "--json", cwd=tmp_path).stdout)["exchanges"]
    assert [(one["number"], (one["ts"] or "")[17:19]) for one in told] == [
        (4, "02"), (1, "04"), (5, "07"), (6, ""), (2, "09"), (3, ""),
    ]  # fmt: skip
    listed = agentkit("wire", "a.jsonl", "b.jsonl", cwd=tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in listed[1:]] == ["4", "1", "5", "6", "2", "3"]


@pytest.mark.parametrize(
    ("of_events", "of_sdk", "shown"),
    [(None, 2, "2"), (None, None, "-"), (3, 1, "3"), (2, 3, "2.3"), (2, None, "2")],
    ids=str,
)
def test_an_attempt_is_that_of_the_events_where_they_are_known(
    of_events: int | None, of_sdk: int | None, shown: str
) -> None:
    asked = {"attempt": of_sdk, "request_attempt": of_events}
    assert attempt_text(WireExchange(1, asked, None)) == shown


def test_foreign_records_and_torn_lines_are_no_trouble(folder: Path) -> None:
    path = folder / "wire.jsonl"
    odd = [
        {"type": "wire_request", "id": 5, "headers": "x", "body": [], "url": 7, "attempt": "one"},
        {
            "type": "wire_response",
            "id": None,
            "status": "200",
            "headers": [[1, 2], ["a"]],
            "body": {"text": 5},
        },
        {
            "type": "wire_request",
            "id": "a",
            "body": {"text": "data: [1]\n\n", "size": "x"},
            "method": "G E T",
        },
    ]
    lines = "".join(f"{json.dumps(one)}\n" for one in odd)
    path.write_text(lines + '{"type":"wire_requ' + "\n")
    listed = agentkit("wire", "wire.jsonl", cwd=folder)
    assert (listed.returncode, "skipped wire.jsonl:4" in listed.stderr) == (0, True)
    for number in ("1", "2", "3"):
        assert agentkit("wire", "wire.jsonl", "--request", number, cwd=folder).returncode in (0, 1)
    assert "refused" in agentkit("wire", "wire.jsonl", "--curl", cwd=folder).stderr


@pytest.mark.parametrize("content", ["plain", "grüße \u2028 it's $HOME `id` \\ END_OF_BODY\nEND_OF_BODY\n"])
def test_a_command_of_curl_gets_an_answer(content: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None and not os.environ.get("CI"):
        pytest.skip("curl is not installed")
    path = tmp_path / "wire.jsonl"
    with MessagesServer(["first", "second"]) as server:
        with (
            WireCapture(path) as capture,
            anthropic.Anthropic(
                api_key=KEY, base_url=server.base_url, middleware=[capture.middleware()]
            ) as client,
        ):
            list(
                client.messages.create(
                    **{**ASK, "messages": [{"role": "user", "content": content}]}, stream=True
                )
            )
        command = agentkit("wire", "wire.jsonl", "--curl", "--request", "1", cwd=tmp_path)
        assert KEY not in command.stdout
        assert '-H "Authorization: Bearer ${ANTHROPIC_API_KEY:-$ANTHROPIC_AUTH_TOKEN}"' in command.stdout
        ran = subprocess.run(
            ["sh"],
            input=command.stdout,
            capture_output=True,
            text=True,
            check=True,
            env={**ENVIRONMENT, "ANTHROPIC_API_KEY": KEY},
        )
        first, again = server.requests
    assert "second" in ran.stdout
    assert (again.body, again.path, again.authorized) == (first.body, first.path, True)
    assert again.headers["anthropic-version"] == first.headers["anthropic-version"]


def write_request(path: Path, url: str, headers: list[list[str]]) -> None:
    asked = {"type": "wire_request", "id": "a", "method": "POST", "url": url, "headers": headers}
    path.write_text(json.dumps({**asked, "body": {"size": 2, "text": "{}"}}) + "\n")


def test_a_command_asks_for_nothing_that_the_environment_holds_for_others(tmp_path: Path) -> None:
    headers = [
        ["AWS-Secret-Access-Key", "[redacted:credential]"],
        ["Path", "[redacted:email]"],
        ["X!!-Token", "[redacted:credential]"],
        ["Authorization", "Basic [redacted:credential]"],
    ]
    write_request(tmp_path / "wire.jsonl", "https://api.example/v1", headers)
    command = agentkit("wire", "wire.jsonl", "--curl", cwd=tmp_path).stdout
    assert '-H "AWS-Secret-Access-Key: ${HEADER_AWS_SECRET_ACCESS_KEY}"' in command
    assert '-H "Path: ${HEADER_PATH}"' in command
    assert '-H "Authorization: ${HEADER_AUTHORIZATION}"' in command
    assert "!" not in command


def test_a_record_of_another_writer_shows_no_credential_in_its_command(tmp_path: Path) -> None:
    url = "https://ann:hidden-word@api.example/v1?api_key=hidden-key&page=2"
    headers = [["x-api-key", "hidden-header"], ["authorization", "Bearer hidden-bearer"]]
    write_request(tmp_path / "wire.jsonl", url, headers)
    ended = agentkit("wire", "wire.jsonl", "--curl", cwd=tmp_path)
    assert "https://api.example/v1?api_key=" in ended.stdout
    assert "page=2" in ended.stdout
    assert "hidden" not in ended.stdout + ended.stderr


def test_calls_of_tools_are_asked_again_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    reply = Reply(text="x", calls=(ScriptedCall(name="look", input={"path": "a"}),))
    with (
        MessagesServer([reply]) as server,
        WireCapture(path) as capture,
        anthropic.Anthropic(
            api_key=KEY, base_url=server.base_url, middleware=[capture.middleware()]
        ) as client,
    ):
        client.messages.create(**ASK)
    (one,) = exchanges(path)
    shown = agentkit("wire", "wire.jsonl", "--request", one.text("id") or "", cwd=tmp_path).stdout
    assert '"name": "look"' in shown


if __name__ == "__main__":
    write_goldens(OUTPUTS, make)
