"""A docstring describes the tool and its parameters."""

from __future__ import annotations

from typing import Annotated

from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.tool_schema import read_docstring
from agentkit_loop.tools import tool

GOOGLE = """Look something up.

It reads the index
and nothing else.

Args:
    query (str): what to look
        for, in words
    limit: how many: at most
    **tags: more

Returns:
    limit: not an argument
"""

SPHINX = """
    Look something up.

    :param str query: what to look
        for, in words
    :param limit: how many: at most
    :keyword tags: more
    :type limit: int
    :returns: a list
    """

DESCRIPTIONS = {"query": "what to look for, in words", "limit": "how many: at most", "tags": "more"}


def test_google_and_sphinx_docstrings_describe_the_parameters() -> None:
    assert read_docstring(GOOGLE) == (
        "Look something up.\n\nIt reads the index\nand nothing else.",
        DESCRIPTIONS,
    )
    assert read_docstring(SPHINX) == ("Look something up.", DESCRIPTIONS)


def test_a_docstring_without_sections_is_all_description() -> None:
    text = "Count: how many there are.\n\nExample: none\n  indented"
    assert read_docstring(text) == (text, {})
    assert read_docstring(None) == ("", {})


@settings(deadline=None)
@given(st.text(alphabet="aA:\n \tgrs*()param", max_size=80))
def test_any_docstring_can_be_read(text: str) -> None:
    read_docstring(text)
    read_docstring(f"{text}\nArgs:\n  {text}\n:param {text}: {text}")


def test_an_annotated_text_wins_over_the_docstring() -> None:
    def fetch(url: Annotated[str, "from the type"], retries: int) -> None:
        """Fetch.

        Args:
            url: from the docstring
            retries: how often
        """

    properties = tool(fetch).input_schema["properties"]
    assert properties["url"]["description"] == "from the type"
    assert properties["retries"]["description"] == "how often"
