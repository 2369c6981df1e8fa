"""What relays say is taken apart the same whether the fast way or the slow one reads it, and noise is noise."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragon.constellation.frames import Frame, Limits, document, limits, parse
from tests.unit.constellation.relays import ANNE

EVENT = ANNE.event('a "quoted" content with "id":"x" and \\"created_at\\":5 in it', tags=[["created_at", "7"]])


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" , ", " : ")])
def test_an_event(separators: tuple[str, str]) -> None:
    text = json.dumps(["EVENT", "sub-1", EVENT], separators=separators)
    frame = parse(text)
    assert (frame.verb, frame.sub, frame.id, frame.created_at) == ("EVENT", "sub-1", EVENT["id"], EVENT["created_at"])
    assert document(frame.text) == EVENT


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        (["EOSE", "d1"], Frame("EOSE", "d1")),
        (["CLOSED", "d1", "error: no"], Frame("CLOSED", "d1", ("error: no",))),
        (["NOTICE", "hello"], Frame("NOTICE", "hello", ("hello",))),
        (["OK", "ab", True, ""], Frame("OK", "ab", (True, ""))),
        (["NEG-MSG", "d1", "61"], Frame("NEG-MSG", "d1", ("61",))),
        (["NEG-ERROR", "d1", "CLOSED"], Frame("NEG-ERR", "d1", ("CLOSED",))),
        (["NEG-ERR", "d1", "blocked: too many", 5], Frame("NEG-ERR", "d1", ("blocked: too many", 5))),
        (["EOSE", 5], Frame("EOSE", "")),
        (["EOSE"], Frame("EOSE")),
        (["EVENT", "d1", "no object"], Frame("")),
        (["EVENT"], Frame("")),
        ([], Frame("")),
        ([5], Frame("")),
        ({}, Frame("")),
        (None, Frame("")),
    ],
)
def test_messages(message: Any, frame: Frame) -> None:
    assert parse(json.dumps(message)) == frame


@given(st.text(max_size=100))
def test_any_text_is_a_frame(text: str) -> None:
    parse(text)
    document(text)


def test_depth_is_no_trouble() -> None:
    assert parse("[" * 100_000) == Frame("")
    assert document('["EVENT","d",' + "[" * 100_000) is None


def test_the_reason_is_the_last_text_and_short() -> None:
    assert parse('["CLOSED","d1","blocked: why"]').reason == "blocked: why"
    assert parse('["NEG-ERR","d1","blocked",500]').reason == "blocked"
    assert len(parse(json.dumps(["NOTICE", "x" * 5000])).reason) == 200
    assert parse('["EOSE","d1"]').reason == ""


@pytest.mark.parametrize(
    ("said", "understood"),
    [
        ({}, Limits()),
        (None, Limits()),
        ([], Limits()),
        ({"supported_nips": [1, 77]}, Limits(nip77=True)),
        ({"supported_nips": [1, 11]}, Limits(nip77=False)),
        ({"supported_nips": "77"}, Limits()),
        ({"limitation": {"max_limit": 100, "max_message_length": 65_536}}, Limits(page=100, message_size=65_536)),
        ({"limitation": {"max_limit": 5000, "max_message_length": 10**9, "max_subscriptions": 300}}, Limits()),
        ({"limitation": {"max_limit": 0, "max_message_length": -1, "max_subscriptions": "many"}}, Limits()),
        ({"limitation": {"max_subscriptions": 2, "auth_required": True}}, Limits(subscriptions=2, authentication=True)),
        ({"limitation": {"auth_required": "yes"}}, Limits()),
    ],
)
def test_limits(said: Any, understood: Limits) -> None:
    assert limits(said) == understood
