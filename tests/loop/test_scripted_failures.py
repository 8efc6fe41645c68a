"""A model that fails as a test says."""

from __future__ import annotations

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.testing import EventRecorder, ScriptedFailure, ScriptedModel, VirtualClock


def test_a_failure_may_stand_in_place_of_a_reply() -> None:
    told, clock = EventRecorder(), VirtualClock()
    model = ScriptedModel([ScriptedFailure(error_class="overloaded"), "done"], clock=clock)
    with Agent(model, observers=[told], clock=clock) as agent:
        assert agent.run("go").text == "done"
    assert told.types.count("model_request_failed") == 1


def test_a_class_of_errors_that_is_none_is_refused_where_it_is_given() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown error class 'nonsense'; use one of .*overloaded"):
        ScriptedFailure(error_class="nonsense")
    with pytest.raises(ConfigurationError, match="unknown error class 'nonsense'"):
        ScriptedModel([{"fail": {"error_class": "nonsense"}}])
