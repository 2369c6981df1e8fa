"""The target grammar and the reasons why nobody was found, as tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.connect.lookup import Auto, Name, Number, ago, find, numbered, parse_target, slugs_of, why_nobody
from dragon.errors import AmbiguousNode, LocalError, NoProvider, UnknownService, UsageError
from dragon.probe import load_catalogue
from dragon.registry.entry import NodeView, Provider, State
from registry_schema import Manifest, ed25519_node_id, make_offer

A, B, C, ME = (ed25519_node_id(bytes([number]) * 32) for number in (1, 2, 3, 4))


@dataclass
class Said:
    """What of a manifest the lookup looks at."""

    offers: tuple[object, ...] = ()


def node(node_id: str, alias: str, state: State = "live", *slugs: str, seen: float = 1.0, **labels: str) -> NodeView:
    manifest = cast(Manifest, Said(tuple(make_offer(slug, node_id, 11434, labels=labels) for slug in slugs)))
    reason = "clock 1 h ahead" if state == "skewed" else ""
    return NodeView(node_id, alias, state, "signed", seen, 1, "pubsub", manifest, reason, False, True, node_id == ME)


def provider(node_id: str, alias: str, **labels: str) -> Provider:
    return Provider(node_id, alias, make_offer("ollama", node_id, 11434, labels=labels), "live", "signed", node_id == ME, 1.0)


NODES = [
    node(A, "alpha", "live", "ollama"),
    node(B, "beta", "live", "ollama"),
    node(C, "beta", "live", "comfyui"),
    node(ME, "me", "live", "ollama"),
]
PROVIDERS = [provider(ME, "me"), provider(B, "beta"), provider(A, "alpha")]


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("auto", Auto()), ("", Auto()), (" AUTO ", Auto()), ("1", Number(1)), ("9999", Number(9999)), ("10000", Name("10000")),
        ("alpha", Name("alpha")), ("12D3", Name("12D3")), ("¹", Name("¹")), ("٣", Name("٣")), ("-1", Name("-1")),
    ],
)  # fmt: skip
def test_targets(text: str, target: object) -> None:
    assert parse_target(text) == target


def test_zero_is_no_number() -> None:
    for text in ("0", "0000"):
        with pytest.raises(UsageError):
            parse_target(text)


def test_numbers_are_by_id_with_self_last() -> None:
    order = [each.node_id for each in numbered(PROVIDERS)]
    assert order == [*sorted([A, B]), ME]


@pytest.mark.parametrize(
    ("target", "found"),
    [(Number(3), ME), (Name("alpha"), A), (Name("ALPHA"), A), (Name("beta"), B), (Name(B[-8:]), B), (Name(ME), ME)],
)
def test_one_provider_is_named(target: Number | Name, found: str) -> None:
    assert find(target, PROVIDERS, NODES, "ollama").node_id == found


@pytest.mark.parametrize(
    ("target", "error", "says", "hints"),
    [
        (Number(4), NoProvider, "number 4 of ollama: there are 3", "dragon services ollama"),
        (Name("gamma"), NoProvider, "no node is called 'gamma'", "dragon peers"),
        (Name("xyz"), NoProvider, "'xyz'", "at least 4 characters"),
        (Name("12D3KooW"), AmbiguousNode, "matches 4 nodes", "more of the id"),
        (Name(C[-8:]), NoProvider, "beta does not offer ollama", "it offers comfyui"),
    ],
)
def test_who_is_not_found(target: Number | Name, error: type[LocalError], says: str, hints: str) -> None:
    with pytest.raises(error) as caught:
        find(target, PROVIDERS, NODES, "ollama")
    assert says in str(caught.value)
    assert hints in caught.value.hint


def test_a_named_node_that_is_silent() -> None:
    with pytest.raises(NoProvider, match="alpha is silent, last heard 5 min ago"):
        find(Name("alpha"), [], [node(A, "alpha", "silent", "ollama", seen=310)], "ollama")


def test_why_nobody() -> None:
    told = why_nobody("ollama", ("ollama",), [], [], {})
    assert str(told) == "nobody offers ollama"
    told = why_nobody(
        "ollama",
        ("ollama",),
        [],
        [
            node(A, "alpha", "silent", "ollama", seen=310),
            node(B, "beta", "left", "ollama", seen=20),
            node(C, "x", "skewed", "ollama"),
        ],
        {},
    )
    assert "alpha: silent, last heard 5 min ago" in told.hint
    assert "beta: stopped 20 s ago" in told.hint
    assert "skewed (clock 1 h ahead)" in told.hint
    told = why_nobody("ollama", ("ollama",), [provider(A, "alpha", model="phi")], [], {"model": "llama"})
    assert (str(told), told.hint) == ("1 node of ollama, none with model=llama", "they say model=phi")


def test_slugs_of_catalogue_alias_swarm_and_typo() -> None:
    catalogue = load_catalogue()
    assert slugs_of("Ollama ", catalogue, ()) == ("ollama",)
    assert slugs_of("vane", catalogue, ()) == ("vane", "perplexica")
    assert slugs_of("whisper-x", catalogue, {"whisper-x"}) == ("whisper-x",)
    with pytest.raises(UnknownService) as caught:
        slugs_of("whisper-y", catalogue, {"whisper-x"})
    assert "whisper-x" in caught.value.hint
    with pytest.raises(UnknownService) as caught:
        slugs_of("olama", catalogue, ())
    assert "ollama" in caught.value.hint


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (310, "5 min"), (3600, "1 h"), (86400, "24 h"), (172800, "2 days"), (-3, "0 s")],
)
def test_ago(seconds: float, text: str) -> None:
    assert ago(seconds) == text


@given(st.text(max_size=60))
@settings(max_examples=100)
def test_any_word_is_a_target_or_one_line_of_refusal(text: str) -> None:
    try:
        target = parse_target(text)
        if not isinstance(target, Auto):
            find(target, PROVIDERS, NODES, "ollama")
    except LocalError:
        return
