"""Which commands a pattern is about: what a shell would make of a text, and what it would run besides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.loop.test_call_patterns import allows, denies

COMPOUND = (
    "git log; rm -rf x",
    "git log;rm -rf x",
    "git log && rm x",
    "git log & rm x",
    "git log || rm x",
    "git log | sh",
    "git log |& sh",
    "git $(rm x)",
    "git `rm x`",
    "git ${PAGER@P}",
    "git $IFS",
    "git log > x",
    "git log >> x",
    "git log < x",
    "git log <(rm x)",
    "git log 2>&1",
    "git log\nrm x",
    "git log\r\nrm x",
    "git log\rrm x",
    "git log \\\nx",
    "git (rm x)",
    'git "$(rm x)"',
    "git 'log' ; rm x",
    "git log\x00rm x",
    "git log\x1b[2J",
    "git log\u2028rm x",
    "git diff --output ../../x",
    "git diff .'.'/x",
    "PAGER=evil git log",
    "env git log",
    " git log",
    "\tgit log",
    "./git log",
    "gitk x",
)


@pytest.mark.parametrize("command", COMPOUND)
def test_an_allowed_command_brings_no_other_along(command: str) -> None:
    assert not allows("git *", command)


@pytest.mark.parametrize(
    "command",
    [
        "git log",
        "git diff main..topic",
        "git log --format='%h %s' -n 3",
        "git show HEAD~2:a.py",
        "git a\tb",
        "git add .",
        "git ",
    ],
)
def test_one_command_with_its_options_is_allowed(command: str) -> None:
    assert allows("git *", command)


def test_a_pipe_in_a_pattern_allows_that_pipe_and_no_second() -> None:
    assert allows("git log * | head *", "git log -p | head -n 3")
    for command in ("git log x | sh | head -n 3", "git log x | head -n 3; id", "git log x | head $(id)"):
        assert not allows("git log * | head *", command)
    assert not allows("git [;]*", "git ;id")


@pytest.mark.parametrize(
    "command",
    [
        "cat src/.?/x",
        "cat src/.[.]/x",
        "cat src/[.]./x",
        "cat src/a [.][.]/x",
        "cat src/.*/x",
        "cat src/'.'?/x",
        "cat src/.\\?/x",
        "cat src/a .?/x",
        "cat src/a\t.?/x",
        "cat src/{.,}./x",
        "cat src/{.,}{.,}/x",
        "cat src/{'a b',..}/x",
        "cat src/{a..z}/x",
        "cat src/.g?t/hooks/x",
        "cat src/.g'i't/hooks/x",
        "cat src/.g\\it/hooks/x",
        "cat src/a .git/config",
        "cat src/a --file=.git/config",
        "cat src/a -o../x",
        "cat src/a -o..",
        "cat src/a\\\n../x",
    ],
)
def test_no_wildcard_stands_for_what_a_shell_makes_a_step_up(command: str) -> None:
    assert not allows("cat src/*", command)
    assert not allows("cat *", command)


@pytest.mark.parametrize(
    "command",
    [
        "git -C../x log",
        "git -C.. log",
        "git --git-dir=../x/.git log",
        "git --git-dir=.?/x log",
        "git log .[!a]/x",
    ],
)
def test_an_option_leads_no_allowed_command_up(command: str) -> None:
    assert not allows("git *", command)


@pytest.mark.parametrize(
    "command",
    [
        "git log -- '*.py'",
        "git log -- src/a?c*.txt",
        "git show HEAD@{1}",
        "git grep a[0-9]",
        "git diff ..topic",
    ],
)
def test_wildcards_that_lead_nowhere_else_are_allowed(command: str) -> None:
    assert allows("git *", command)


def test_braces_in_a_pattern_and_in_an_object_are_allowed() -> None:
    assert allows("cat {a,b}/*", "cat {a,b}/c")
    assert not allows("cat {a,b}/*", "cat {a,b}/{c,..}/x")
    assert allows("*", {"a": [1, 2], "b": ".?"})


@given(st.text("git log;|&$()<>`\n'\"\\", max_size=12), st.text("git log;|&$()<>`\n'\"\\", max_size=12))
def test_no_wildcard_stands_for_a_character_of_the_shell(before: str, behind: str) -> None:
    text = f"git {before}|{behind}"
    assert not allows("git *", text)
    assert allows("git *|*", text) is not bool(set(before + behind) & set(";|&$()<>`\n"))


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf x",
        " rm -rf x",
        "rm  -rf x",
        "rm\t-rf x",
        "RM -rf x",
        "cd x && rm -rf y",
        "true;rm -rf x",
        "true\nrm -rf x",
        "(rm -rf x)",
        "{ rm -rf x; }",
        "echo $(rm -rf x)",
        "echo `rm -rf x`",
        "ls | xargs rm -f",
        "A=1 rm -rf x",
        "A=1 B=2 sudo /usr/bin/rm -rf x",
        "if true; then rm -rf x; fi",
        "! rm -rf x",
        "/bin/rm -rf x",
        "'rm' -rf x",
        'r"m" -rf x',
        "r\\m -rf x",
        "rm \\\n-rf x",
        "r\\\nm -rf x",
        "cd x &\\\n& r\\\nm x",
        "exec rm -rf x",
        "A='x y' rm z",
        'A="x y" B=1 rm z',
        "A=x\\ y r\\m z",
        "A='x; y' rm z",
        'A="a \\" b" rm z',
        "A=$'x y' rm z",
        "$'rm' z",
        "sh -c 'true; rm z'",
        "ls | xargs rm",
    ],
)
def test_a_denied_command_is_denied_wherever_it_stands(command: str) -> None:
    assert denies("rm *", command)


@pytest.mark.parametrize("command", ["git rm x", "rmdir x", "rmdir", "echo rm x", "confirm x", "./rm.py x"])
def test_a_command_that_is_another_is_not_denied(command: str) -> None:
    assert not denies("rm *", command)
