"""The transcript as text and Markdown: what a tool returned cannot leave its fence."""

from __future__ import annotations

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedModel
from agentkit_reporting import TranscriptReporter


def fetch(page: str) -> str:
    """Fetch a page."""
    return f"{page}\n````\n# Not a heading\n"


def told() -> TranscriptReporter:
    transcript = TranscriptReporter()
    calls = (ScriptedCall(name="fetch", input={"page": "x"}), ScriptedCall(name="gone"))
    model = ScriptedModel([Reply(reasoning="one\ntwo", text="Let me see.", calls=calls), "Done."])
    Agent(model, tools=[fetch], observers=[transcript]).run("Read it.")
    return transcript


def test_markdown_fences_what_tools_return_with_more_ticks_than_it_holds() -> None:
    shown = told().markdown()
    assert "`````\nx\n````\n# Not a heading\n\n`````" in shown
    assert "> [reasoning] one\n> two" in shown
    assert "`gone` (call-2) failed:" in shown
    assert shown.startswith("## User\n\nRead it.")


def test_text_names_each_kind_and_part() -> None:
    shown = told().text()
    assert 'Assistant: [call call-1] fetch({"page":"x"})' in shown
    assert "Tool: [error call-2] The call was not started" in shown


def test_an_unknown_session_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no session 'nobody'"):
        told().of("nobody")
    with pytest.raises(ConfigurationError, match="no session None"):
        TranscriptReporter().items()
