"""A tool's result is bounded before the model sees it, and says what was left out."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.content import MediaPart, TextPart
from agentkit_loop.tools import bound_output
from agentkit_loop.values import to_json


def test_a_long_text_keeps_head_and_tail_around_a_mark() -> None:
    text = "a" * 1_000_000 + "b" * 334_567
    bounded = bound_output(text, 100_000)
    assert len(bounded) <= 100_000
    assert bounded.startswith("a" * 49_000)
    assert bounded.endswith("b" * 49_000)
    assert "… [1,234,615 of 1,334,567 characters left out] …" in bounded


@settings(deadline=None)
@given(st.text(max_size=400), st.integers(1, 300))
def test_a_bounded_text_is_whole_or_marked_and_bounding_again_changes_nothing(text: str, bound: int) -> None:
    bounded = bound_output(text, bound)
    if len(text) <= bound:
        assert bounded == text
    else:
        head, _, rest = bounded.partition("… [")
        left_out, _, tail = rest.partition("] …")
        assert int(left_out.split(" of ")[0]) + len(head) + len(tail) == len(text)
        assert text.startswith(head) or "… [" in text
        assert len(bounded) <= bound or head == tail == ""
    if len(bounded) <= bound:
        assert bound_output(bounded, bound) == bounded


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(0, 99) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=5),
    ),
    st.integers(60, 200),
)
def test_a_value_is_itself_or_its_bounded_json(value: Any, bound: int) -> None:
    value = to_json(value)
    bounded = bound_output(value, bound)
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if len(text) <= bound or value is None or isinstance(value, (bool, int)):
        assert bounded == value
    else:
        assert bounded == bound_output(text, bound)


def test_a_short_value_comes_back_as_it_is() -> None:
    values: list[Any] = ["text", {"a": [1]}, [], None, 1.5, True, {"a": "é" * 40}]
    assert all(bound_output(value, 50) is value for value in values)


def test_media_are_left_alone_and_texts_beside_them_share_the_bound() -> None:
    image = MediaPart(media_type="image/png", data="A" * 5_000)
    parts = [
        TextPart(text="a" * 60),
        image,
        TextPart(text="b" * 200),
        TextPart(text="c" * 9),
        TextPart(text=""),
    ]
    bounded = bound_output(to_json(parts), 160)["$parts"]
    assert [part["kind"] for part in bounded] == ["text", "media", "text", "text", "text"]
    assert bounded[0]["text"] == "a" * 60
    assert bounded[1]["data"] == "A" * 5_000
    assert len(bounded[2]["text"]) <= 100
    assert "of 200 characters left out" in bounded[2]["text"]
    assert bounded[4]["text"] == "… [further parts left out: 1] …"
    assert bound_output(to_json(parts), 1_000) == to_json(parts)


def test_the_cost_of_bounding_does_not_grow_with_what_is_left_out() -> None:
    assert len(bound_output("x" * 5_000_000, 1_000)) <= 1_000
    assert len(bound_output(["x" * 100] * 50_000, 1_000)) <= 1_000
