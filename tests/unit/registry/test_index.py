"""Lookups: who offers a slug, with which labels, in which order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.registry.entry import Provider
from registry_schema import parse
from registry_schema.labels import labels_match, spell_list, values_meeting
from tests.simulator.signers import NOW_MS, Signer
from tests.unit.registry.world import World

SIGNERS = [Signer(number) for number in range(6)]

values = st.sampled_from(["a", "b", "a:latest", "b:latest", "a:latest:latest", "c"])
keys = st.sampled_from(["model", "model.2", "gpu", "model.2.3", "model.x"])
label_maps = st.dictionaries(keys, values, max_size=4)
wishes = st.dictionaries(st.sampled_from(["model", "gpu", "model.2", "none"]), values, max_size=2)


def test_providers_come_by_id_and_this_node_last() -> None:
    """DESIGN §8: their place is the number that `forward SLUG N` takes."""
    world = World()
    for signer in SIGNERS:
        world.beat(signer, offers=["ollama"])
    world.hear(world.me.envelope(NOW_MS, ["ollama"]), "self")
    world.wait(10)
    found = world.view.providers("ollama", at=world.at)
    assert [one.node_id for one in found] == [*sorted(signer.node_id for signer in SIGNERS), world.me.node_id]
    assert [one.is_self for one in found] == [False] * 6 + [True]
    assert found[0] == next(iter(found)) == found[:1][0]
    assert found[-1].last_seen == found[0].last_seen == 10
    assert found == list(found)
    assert found[0].offer.slug == "ollama"
    assert isinstance(found[0], Provider)
    assert (found[0].state, found[0].trust) == ("live", "signed")
    assert world.view.providers("comfyui", at=world.at) == []
    assert world.view.slugs(world.at) == {"ollama": 7}


@settings(max_examples=150, deadline=None)
@given(st.lists(label_maps, min_size=1, max_size=6), wishes)
def test_a_filtered_lookup_finds_exactly_what_the_rule_says(labels: list[dict[str, str]], where: dict[str, str]) -> None:
    """The index and `labels_match` never disagree."""
    world = World()
    for signer, held in zip(SIGNERS, labels, strict=False):
        world.beat(signer, offers=[signer.offer("ollama", held)])
    found = {one.node_id for one in world.view.providers("ollama", where=where, at=world.at)}
    assert found == {signer.node_id for signer, held in zip(SIGNERS, labels, strict=False) if labels_match(held, where)}


@given(values, values)
def test_values_meeting_is_the_rule_read_backwards(value: str, wish: str) -> None:
    assert (value in values_meeting(wish)) == labels_match({"k": value}, {"k": wish})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.lists(st.tuples(st.sampled_from(["x", "y"]), label_maps), max_size=2)), max_size=8)
)
def test_the_index_follows_every_change(steps: list[tuple[int, list[tuple[str, dict[str, str]]]]]) -> None:
    """Offers come, go and change their labels; only the newest word of each node counts."""
    world, newest = World(), {}
    for number, offers in steps:
        signer = SIGNERS[number]
        world.wait(0.01)
        newest[signer.node_id] = dict(offers)
        world.beat(signer, offers=[signer.offer(slug, labels) for slug, labels in dict(offers).items()])
    for slug in ("x", "y"):
        for where in (None, {"model": "a"}, {"gpu": "b"}, {"model": "a", "gpu": "a"}):
            expected = sorted(
                node_id for node_id, offers in newest.items() if slug in offers and labels_match(offers[slug], where)
            )
            assert [one.node_id for one in world.view.providers(slug, where=where, at=world.at)] == expected
    world.wait(90)
    assert world.view.slugs(world.at) == {}


def test_a_new_load_is_seen_without_a_new_place_in_the_index() -> None:
    world = World()
    signer = SIGNERS[0]
    for load in (0, 700):
        world.beat(signer, offers=[signer.offer("ollama", {"model": "a"}, load=load)])
        assert world.view.providers("ollama", where={"model": "a"}, at=world.at)[0].offer.load == load
        world.wait(1)


def test_any_of_thirty_models_is_found() -> None:
    world = World()
    signer = SIGNERS[0]
    models = [f"model-{number}:latest" for number in range(30)]
    world.beat(signer, offers=[signer.offer("ollama", spell_list("model", models))])
    for number in range(30):
        assert len(world.view.providers("ollama", where={"model": f"model-{number}"}, at=world.at)) == 1
    assert world.view.providers("ollama", where={"model": "model-30"}, at=world.at) == []


def test_an_answer_does_not_change_when_the_view_does() -> None:
    """A caller may look at it later: it is a snapshot of who was there."""
    world = World()
    for signer in SIGNERS[:2]:
        world.beat(signer, offers=["ollama"])
    found = world.view.providers("ollama", at=world.at)
    world.wait(1)
    world.beat(SIGNERS[0], leaving=True)
    assert len(found) == 2
    assert {one.node_id for one in found} == {signer.node_id for signer in SIGNERS[:2]}
    assert len(world.view.providers("ollama", at=world.at)) == 1
    assert parse(SIGNERS[0].envelope()).manifest.node == SIGNERS[0].node_id
