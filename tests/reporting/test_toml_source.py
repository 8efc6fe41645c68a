"""Where the keys of a TOML file stand, for what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.toml_source import TomlSource, nearest, read_toml

TEXT = '''# rules
title = "a"

[storage]
text = """
[[rules]]
op = 1
"""
paths = [
    "a",
    "b",
]

[[rules]]
metric = "cost"

# the second
[[rules]]
metric = "tokens"
op = ">"
inner = { deep = { key = 1 } }
'''


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (("title",), 2),
        (("storage",), 4),
        (("storage", "text"), 5),
        (("storage", "paths"), 9),
        (("storage", "paths", 1), 9),
        (("rules", 0), 14),
        (("rules", 0, "metric"), 15),
        (("rules", 1), 18),
        (("rules", 1, "op"), 20),
        (("rules", 1, "inner", "deep", "key"), 21),
        (("rules", 2), 0),
        (("title", "x"), 0),
        (("storage", 0), 0),
    ],
)
def test_the_line_of_a_key_is_found(keys: tuple[str | int, ...], line: int) -> None:
    assert TomlSource("x.toml", TEXT).line_of(*keys) == line


def test_places_are_told_of_every_key_in_nested_tables() -> None:
    text = '[[a]]\nx = 1\n[a.b]\ny = 2\n[[a.c]]\nz = 1\n[[a.c]]\n[[a]]\n[a.b]\ny = [1,\n2]\n[q.r]\nd."e.f".g = 1\r\n'
    assert TomlSource("x.toml", text).places() == {
        ("a",): 1, ("a", 0): 1, ("a", 0, "x"): 2,
        ("a", 0, "b"): 3, ("a", 0, "b", "y"): 4,
        ("a", 0, "c"): 5, ("a", 0, "c", 0): 5, ("a", 0, "c", 0, "z"): 6, ("a", 0, "c", 1): 7,
        ("a", 1): 8, ("a", 1, "b"): 9, ("a", 1, "b", "y"): 10, ("a", 1, "b", "y", 0): 10, ("a", 1, "b", "y", 1): 10,
        ("q",): 12, ("q", "r"): 12, ("q", "r", "d"): 13, ("q", "r", "d", "e.f"): 13, ("q", "r", "d", "e.f", "g"): 13,
    }  # fmt: skip


def test_a_refusal_names_the_line_of_what_is_nearest() -> None:
    source = TomlSource("x.toml", TEXT)
    with pytest.raises(ConfigurationError, match=r"^x\.toml:18: no 'value'; give one$"):
        source.refuse("no 'value'; give one", "rules", 1, "value")
    with pytest.raises(ConfigurationError, match=r"^x\.toml: empty$"):
        source.refuse("empty")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"a = ", "not TOML: "), (b"\xff", "not UTF-8 at byte 0"), (b"#" * (2**20 + 1), "longer than")],
)
def test_what_is_no_toml_is_refused_in_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=said):
        read_toml(tmp_path / "x.toml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml: cannot be read: No such file"):
        read_toml(tmp_path / "none.toml")


def test_the_name_that_was_meant_is_told() -> None:
    assert nearest("rotaton", ["rotation", "storage"]) == "did you mean 'rotation'?"
    assert nearest("x", ["b", "a"]) == "known: a, b"


TRICKY = '''
a = [  # not ] the end, nor " a text
  "]", 'x[', """
b = 1
\\""" ] " ""]
""", \'\'\'
\\ c = 2 \'\' ]
\'\'\'\',
]
"d # e" = { f = "}", g = [ "#" ] }
h = """"quoted""""  # [
i = ""
'''


def test_brackets_and_quotes_inside_texts_and_comments_end_nothing() -> None:
    source = TomlSource("x.toml", TRICKY)
    assert list(source.values) == ["a", "d # e", "h", "i"]
    lines = {keys: line for keys, line in source.places().items() if len(keys) == 1}
    assert lines == {("a",): 2, ("d # e",): 10, ("h",): 11, ("i",): 12}
    assert source.line_of("d # e", "g", 0) == 10


def test_the_lines_of_a_very_long_list_are_found_at_once() -> None:
    long = "a = [\n" + "1,\n" * 50_000 + "]\nb = 1\n"  # a look at each beginning of it would take an hour
    assert TomlSource("x.toml", long).line_of("b") == 50_003


def test_the_last_of_very_many_tables_has_its_line() -> None:
    source = TomlSource("x.toml", "[[rules]]\na = 1\n" * 20_000)
    assert source.line_of("rules", 19_999, "a") == 40_000


@pytest.mark.parametrize("text", ["a." * 5_000 + "a = 1", f"[{'a.' * 5_000}a]", "a = " + "[" * 60 + "]" * 60])
def test_what_lies_too_deep_is_refused_and_ends_no_stack(text: str) -> None:
    with pytest.raises(ConfigurationError, match="more than 50 deep in each other; make it flat"):
        TomlSource("x.toml", text)
    assert TomlSource("x.toml", "a = " + "[" * 45 + "]" * 45).line_of("a") == 1
