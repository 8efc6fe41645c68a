"""Which calls a pattern is about: a doubt is never in favour of the model that wrote the argument."""

from __future__ import annotations

import fnmatch
import glob
import ntpath
import posixpath
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentkit_loop.call_patterns import PatternedCall, is_literal
from agentkit_loop.content import ToolCallPart
from agentkit_loop.events import ToolResultReceived
from agentkit_loop.file_writing import change_tools
from agentkit_loop.permissions import Permissions, permission_of
from agentkit_loop.tools import tool
from tests.loop.hosts import Run, asking, call
from tests.loop.test_turns import Drive, either


def of(name: str, value: Any) -> PatternedCall:
    return PatternedCall(ToolCallPart(id="c", name=name, input={"first": value}), "first")


def allows(argument: str, value: Any, *, is_path: bool = False) -> bool:
    return of("use", value).is_allowed_by(f"use({argument})", is_path=is_path)


def denies(argument: str, value: Any) -> bool:
    return of("use", value).is_meant_by(f"use({argument})")


# --- paths that are denied

DISGUISES = (
    "./prod/x",
    "prod//x",
    "prod/./x",
    "a/../prod/x",
    "a/b/../../prod/x",
    ".//a/..//./prod//x",
    "prod/a/../x",
    "prod",
    "prod/",
    "./prod/.",
    "PROD/x",
    "Prod/X",
    "prod\\x",
    ".\\prod\\x",
    "a\\..\\prod\\x",
    "prod./x",
    "prod /x",
    "p\u200drod/x",
    "\ufeffprod/x",
    "\uff50rod/x",
    "prod\uff0fx",
    "a/\u2024\u2024/prod/x",
)


@pytest.mark.parametrize("path", DISGUISES)
def test_a_denied_directory_is_denied_by_any_of_its_names(path: str) -> None:
    assert denies("prod/*", path)


@pytest.mark.parametrize("path", ["prod.txt", "production/x", "a/prod/x", "../prod/x", "pro/d/x", "x", ""])
def test_another_file_is_not_denied(path: str) -> None:
    assert not denies("prod/*", path)


@pytest.mark.parametrize("pattern", ["./prod/*", "prod//*", "prod\\*", "PROD/*", "prod/**", "prod/?*"])
def test_a_denying_pattern_may_be_written_in_other_ways(pattern: str) -> None:
    assert denies(pattern, "prod/x")
    assert denies(pattern, "./prod//x")


@pytest.mark.parametrize("pattern", ["*/", "*/*", "*.", "prod/ *"])
def test_a_denying_pattern_is_not_widened(pattern: str) -> None:
    assert not denies(pattern, "other")


def test_two_unicode_forms_of_a_name_are_one() -> None:
    for pattern, path in (("caf\xe9/*", "cafe\u0301/x"), ("cafe\u0301/*", "CAF\xc9/x")):
        assert denies(pattern, path)


STEPS = st.sampled_from(["", ".", "a/..", "b/c/../..", "a/./.."])


@given(st.lists(STEPS, max_size=4), st.lists(STEPS, max_size=4), st.sampled_from([str.upper, str.title, str]))
def test_no_detour_leads_around_a_denial(before: list[str], behind: list[str], cased: Any) -> None:
    path = cased("/".join([*before, "prod", *behind, "x"]).lstrip("/"))
    assert denies("prod/*", path)
    assert denies("prod/x", path)


@given(st.text(max_size=20), st.text(max_size=20))
def test_what_matches_as_it_is_given_is_denied(pattern: str, text: str) -> None:
    assert denies(pattern, text) or not fnmatch.fnmatchcase(text, pattern)
    assert denies(glob.escape(text), text)


def test_what_is_in_a_list_or_an_object_is_denied_too() -> None:
    for value in (["prod/x"], ["a", "./prod/x"], {"prod/x": "text"}, {"a": [{"path": "prod/x"}]}):
        assert denies("prod/*", value)
    assert not denies("prod/*", ["a/prod/x", 3, None])
    assert denies("3", 3)


# --- paths that are allowed

LEADS_OUT = (
    "src/../etc/x",
    "src/../../etc/x",
    "./src/../etc/x",
    "src/./../etc/x",
    "src//../etc/x",
    "src/a/../../etc/x",
    "src/a\\b/../../etc/x",
    "src/\u200b/../../etc/x",
    "src/..\\etc\\x",
    "src/..\\..\\etc/x",
    "src/\u2024\u2024/etc/x",
    "src/\uff0e\uff0e/etc/x",
    "src/.\u200d./etc/x",
    "src/%2e%2e/etc/x",
    "src/%2E./etc/x",
    "src/.. /etc/x",
    "src/..;/etc/x",
    "src/..",
    "src",
    "src/",
    "src/.",
    "src//",
    "SRC/x",
    "/src/x",
    "../src/x",
    "src/.git/hooks/x",
    "src/.GIT/config",
    "src/a/.g\u200cit/x",
    "src/.hg/hgrc",
)


@pytest.mark.parametrize("path", LEADS_OUT)
@pytest.mark.parametrize("is_path", [True, False])
def test_an_allowed_directory_is_not_left(path: str, is_path: bool) -> None:
    assert not allows("src/*", path, is_path=is_path)


@pytest.mark.parametrize(
    "path",
    ["src/x", "src/a/b", "src//a", "src/./a", "src/..a", "src/a..b", "src/...", "src/.gitignore", "src/a b"],
)
def test_what_is_below_an_allowed_directory_is_allowed(path: str) -> None:
    assert allows("src/*", path)


PIECES = st.sampled_from(
    ["src", "a", "/", "\\", ".", "..", "~", " ", "\u2024", "\uff0f", "\u200b", "C:", "'", "%2e"]
)


@given(st.lists(PIECES, max_size=12).map("".join))
@example("src/a\\b/../../x")
@example("src/'")
def test_an_allowed_path_stays_below_its_directory_however_it_is_read(path: str) -> None:
    if not allows("src/*", path, is_path=True):
        return
    kept = "".join(char for char in path if unicodedata.category(char) != "Cf")
    for text in (path, kept, unicodedata.normalize("NFKC", kept)):
        assert posixpath.normpath(text).startswith("src/")
        assert ntpath.normpath(text).startswith("src\\")
        bare = posixpath.normpath(text.replace("'", ""))
        assert bare == "src" or bare.startswith(
            "src/"
        )  # of a name that is quotes only, the directory is left


@pytest.mark.parametrize("pattern", ["*", "*.md", "?*", "[!x]*"])
@pytest.mark.parametrize(
    "path", ["/etc/x.md", "~/x.md", "../x.md", "a/../../x.md", "\\\\host\\x.md", "C:\\x.md", "c:x.md"]
)
def test_a_wildcard_at_the_beginning_stays_where_the_paths_begin(pattern: str, path: str) -> None:
    assert not allows(pattern, path, is_path=True)
    assert allows(pattern, "docs/x.md")


def test_what_a_pattern_says_itself_is_allowed() -> None:
    assert allows("../shared/*", "../shared/x")
    assert not allows("../shared/*", "../shared/../x")
    assert allows("/tmp/*", "/tmp/x")  # noqa: S108 - no file
    assert not allows("/tmp/*", "/tmp/../etc/x")  # noqa: S108 - as above
    assert allows(".git/info/*", ".git/info/exclude")
    assert allows("https://a.example/*", "https://a.example/b?c=d")
    assert not allows("https://a.example/pub/*", "https://a.example/pub/../admin")


def test_a_pattern_without_a_wildcard_is_for_one_text_alone() -> None:
    for text in ("a/../b", "/etc/passwd", "git log; id", ".git/config", "~", "a[1]*?.txt"):
        assert allows(glob.escape(text), text)
    for text in ("./a", "A", "a/", "a/.", " a"):
        assert not allows("a", text)


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_literal_pattern_allows_its_text_and_no_other(text: str, other: str) -> None:
    pattern = glob.escape(text)
    assert is_literal(f"use({pattern})")
    assert allows(pattern, text)
    assert allows(pattern, other) is (text == other)


@given(st.text(max_size=12), st.text(max_size=20))
def test_what_is_allowed_matches_as_it_is_given(pattern: str, text: str) -> None:
    assert not allows(pattern, text) or fnmatch.fnmatchcase(text, pattern)


def test_a_denied_file_is_not_one_of_the_same_name_elsewhere() -> None:
    assert not denies("Makefile", "sub/Makefile")
    assert not denies("secret*", "docs/secret.txt")


# --- in a policy


def test_an_argument_that_is_left_out_is_its_default() -> None:
    def deploy(target: str = "production", at: str = "noon") -> str:
        """Bring it out."""
        return f"{target} {at}"

    policy = Permissions(deny=["deploy(prod*)"], default="allow")
    for arguments, verdict in (({}, "deny"), ({"at": "night"}, "deny"), ({"target": "staging"}, "allow")):
        made = ToolCallPart(id="c", name="deploy", input=dict(arguments))
        assert permission_of(tool(deploy), policy, made).verdict == verdict


@either
@pytest.mark.parametrize(
    "path", ["./prod/keep.txt", "prod//keep.txt", "docs/../prod/keep.txt", "prod/./keep.txt"]
)
def test_no_path_leads_around_a_policy_to_a_file(drive: Drive, tmp_path: Path, path: str) -> None:
    for name in ("docs", "prod"):
        (tmp_path / name).mkdir()
    (tmp_path / "prod" / "keep.txt").write_text("kept")
    run = Run(
        [asking(call("write_file", path=path, content="lost")), "done"],
        tools=change_tools(tmp_path),
        permissions=Permissions(allow=["*"], deny=["write_file(prod/*)"]),
    )
    drive(run, "go")
    (told,) = run.of(ToolResultReceived)
    assert (told.denied, told.not_started) == (True, True)
    assert "the rule 'write_file(prod/*)' denies it" in str(told.output)
    assert (tmp_path / "prod" / "keep.txt").read_text() == "kept"
    assert run.faults == []


@either
def test_a_link_is_followed_by_no_policy_and_stopped_by_what_the_tool_hides(
    drive: Drive, tmp_path: Path
) -> None:
    (tmp_path / "prod").mkdir()
    (tmp_path / "way").symlink_to("prod")
    run = Run(
        [asking(call("write_file", path="way/x", content="lost")), "done"],
        tools=change_tools(tmp_path, hidden=[tmp_path / "prod"]),
        permissions=Permissions(allow=["*"], deny=["write_file(prod/*)"]),
    )
    drive(run, "go")
    assert "is out of reach" in str(run.of(ToolResultReceived)[0].output)
    assert list((tmp_path / "prod").iterdir()) == []


def test_where_no_rule_allows_a_call_the_denial_says_so() -> None:
    made = ToolCallPart(id="c", name="use", input={})
    said = Permissions(allow=["other"], default="deny").permission(made)
    assert (said.verdict, said.reason) == ("deny", "no rule allows it")


def test_a_long_argument_takes_no_long_time_to_judge() -> None:
    policy = Permissions(allow=["use(*a*b*c*d*)"], ask=["use(*;*;*;*x)"], deny=["use(*/../*/y*)"])
    for text in (
        "../" * 300_000,
        "a" * 1_000_000,
        "; a=b " * 150_000,
        "a\\" * 500_000,
        "é/" * 300_000,
        "-." * 500_000,
        "{," * 500_000,
        "'" * 999_999,
    ):
        made = ToolCallPart(id="c", name="use", input={"first": text})
        assert policy.permission(made).verdict in ("ask", "deny", "allow")
