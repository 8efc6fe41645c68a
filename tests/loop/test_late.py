"""What is late is what it stands for, from its first use on."""

from __future__ import annotations

import copy
import logging
import re
import subprocess
import sys

import pytest

from agentkit_loop.late import late_logger, late_pattern


def test_it_finds_what_the_compiled_one_finds() -> None:
    late, compiled = late_pattern(r"(?P<name>b+)", re.IGNORECASE), re.compile(r"(?P<name>b+)", re.IGNORECASE)
    for _ in range(2):
        found, wanted = late.search("aBBa", 1), compiled.search("aBBa", 1)
        assert found is not None
        assert wanted is not None
        assert (found.span(), found["name"]) == (wanted.span(), wanted["name"])
    assert late.fullmatch("a") is None
    assert late.sub("-", "abBa") == "a-a"
    assert (late.pattern, late.groups, dict(late.groupindex)) == (r"(?P<name>b+)", 1, {"name": 1})
    assert late_pattern(rb"[0-9]+").findall(b"1 22") == [b"1", b"22"]


def test_a_copy_of_a_late_pattern_finds_the_same() -> None:
    late = late_pattern("b+")
    for copied in (copy.copy(late), copy.deepcopy(late)):
        assert copied.sub("-", "abba") == "a-a"


def test_what_is_wrong_with_it_is_said_at_its_first_use() -> None:
    late = late_pattern("(")
    with pytest.raises(re.error, match="unterminated"):
        late.match("")


def test_a_late_logger_is_the_logger_of_its_name(caplog: pytest.LogCaptureFixture) -> None:
    late = late_logger("late.one")
    late.warning("%s is %s", "it", "late")
    assert [(each.name, each.getMessage()) for each in caplog.records] == [("late.one", "it is late")]
    logging.getLogger("late.one").setLevel(logging.CRITICAL)
    assert late.level == logging.CRITICAL
    assert not late.isEnabledFor(logging.ERROR)


def test_a_late_module_is_loaded_when_it_is_used() -> None:
    program = """
import sys
from agentkit_loop.late import late_module
late = late_module("colorsys")
assert "colorsys" not in sys.modules
assert late.rgb_to_hsv(1, 1, 1) == (0, 0, 1)
assert "colorsys" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
