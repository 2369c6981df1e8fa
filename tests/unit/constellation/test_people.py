"""Who is synced: keys, friends of friends, and the lists of the constellation's nodes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragon.constellation.friends import LONGEST_LIST, MOST_FRIENDS, circle, ranked
from dragon.constellation.gathering import Gathering
from dragon.constellation.keys import pack, pubkey, pubkeys, unpack
from dragon.constellation.lists import MOST, MOST_PER_NODE, PAGE, Told, page_of, read_page, union
from dragon.errors import PeerUnreachable, ProtocolError
from dragon.registry import framing
from registry_schema import codec

HEX = "0123456789abcdef"


def key(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def keys(prefix: str, number: int) -> list[str]:
    return [key(f"{prefix}{n}") for n in range(number)]


@pytest.mark.parametrize(
    "text",
    [
        "12345678" + "ab" * 28,  # eight decimals in front
        "ab" * 20 + "2024" + "cd" * 10,  # holds a year
        "2020" * 16,
        "0" * 64,
        ("AB" * 32) + "\n",
    ],
)
def test_every_key_of_64_digits_is_one(text: str) -> None:
    """D23: the scripts rejected keys that begin with eight decimals or hold 2020 to 2029."""
    assert pubkey(text) == text.strip().lower()


def test_of_600_random_keys_none_is_lost() -> None:
    rng = random.Random(6)
    made = ["".join(rng.choices(HEX, k=64)) for _ in range(600)]
    assert list(pubkeys(made)) == made


@pytest.mark.parametrize("text", ["", "ab" * 31, "ab" * 33, "zz" * 32, "npub1" + "q" * 59, "$(id)"])
def test_nothing_else_is_a_key(text: str) -> None:
    assert pubkey(text) is None


@given(st.lists(st.binary(min_size=32, max_size=32)))
def test_packed_keys_come_back(raw: list[bytes]) -> None:
    made = [each.hex() for each in raw]
    assert unpack(pack(made)) == made


def test_a_key_cut_short_is_told() -> None:
    with pytest.raises(ValueError):
        unpack(bytes(33))


# -- friends of friends -----------------------------------------------------------------------------------------------


def test_whom_more_people_follow_comes_first_and_equals_by_their_key() -> None:
    a, b, c = sorted(keys("f", 3))
    assert ranked([[c, a], [c, b, b, b]]) == [c, a, b]


def test_friends_come_before_their_friends_and_people_are_neither() -> None:
    alice, bob, carol, dave = keys("p", 4)
    found = circle([alice, bob], {alice: [bob, carol], carol: [dave, alice], bob: [carol]})
    assert found.friends == (carol,)
    assert found.friends_of_friends == (dave,)
    assert found.all == (carol, dave)


def test_one_list_of_100000_neither_explodes_nor_pushes_out_whom_two_follow() -> None:
    """The list names 100,000; those whom two people follow stay, and the set stays within its bound."""
    people = keys("p", 3)
    shared = keys("shared", 40)
    flood = keys("flood", 100_000)
    found = circle(people, {people[0]: flood, people[1]: shared, people[2]: shared})
    assert set(found.friends[:40]) == set(shared)
    assert len(found.all) <= MOST_FRIENDS
    assert len(set(found.all) & set(flood)) == LONGEST_LIST


def test_the_circle_is_bounded_whatever_the_lists_are() -> None:
    people = keys("p", 20)
    follows = {person: keys(f"of{person}", LONGEST_LIST) for person in people}
    assert len(circle(people, follows).all) == MOST_FRIENDS
    assert len(circle(people, follows, most=7).all) == 7


@given(st.permutations(range(6)))
def test_the_order_of_the_lists_changes_nothing(order: list[int]) -> None:
    people, names = keys("p", 6), keys("n", 9)
    follows: Mapping[str, list[str]] = {people[n]: names[n : n + 3] for n in range(6)}
    shuffled = {people[n]: follows[people[n]] for n in order}
    assert circle([people[n] for n in order], shuffled) == circle(people, follows)


# -- lists of nodes ---------------------------------------------------------------------------------------------------


def test_the_union_keeps_our_own_first_and_then_whom_most_nodes_name() -> None:
    own, shared, single = keys("own", 2), keys("shared", 2), keys("single", 1)
    told = [Told("a", "a", (*single, *shared)), Told("b", "b", tuple(shared))]
    assert union(own, told).keys == (*own, *shared, *single)


def test_a_hostile_member_with_a_full_list_pushes_nobody_out() -> None:
    """Its inventions stand behind whom two name, and take turns with whom one other names."""
    own, honest = keys("own", 100), keys("honest", 900)
    lies = tuple(keys("lie", MOST_PER_NODE))
    told = [Told("evil", "evil", lies), Told("b", "b", tuple(honest)), Told("c", "c", tuple(honest[:600]))]
    made = union(own, told, most=1500)
    assert set(own) | set(honest[:600]) <= set(made.keys[:700])
    assert len(set(made.keys) & set(honest[600:])) == 300, "its lies take turns with those that one other names"
    assert len(made.keys) == 1500
    assert made.left_out == 100 + 900 + MOST_PER_NODE - 1500


def test_forty_hostile_members_do_not_exceed_the_bound() -> None:
    made = union(keys("own", 10), [Told(str(n), "", tuple(keys(f"lie{n}", 1000))) for n in range(40)])
    assert len(made.keys) == MOST
    assert made.keys[:10] == tuple(keys("own", 10))


def test_own_people_are_never_cut_off() -> None:
    assert len(union(keys("own", 30), [], most=10).keys) == 30


@pytest.mark.parametrize("number", [0, 1, PAGE - 1, PAGE, PAGE + 1, MOST_PER_NODE, MOST_PER_NODE + 1])
def test_a_list_in_pages_is_the_list(number: int) -> None:
    whole = keys("k", number)
    read = [key for n in range(2) for key in read_page(page_of(whole, n)).keys]
    assert read == whole[:MOST_PER_NODE]


def test_a_page_fits_a_frame_of_the_exchange() -> None:
    assert len(framing.frame(framing.Answer(page_of(keys("k", MOST_PER_NODE), 0)))) <= framing.MAX_FRAME


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "keys",
        {"total": -1, "version": bytes(8), "keys": b""},
        {"total": 1, "version": bytes(9), "keys": bytes(32)},
        {"total": 1, "version": bytes(8), "keys": bytes(31)},
        {"total": 1, "version": bytes(8), "keys": "ab" * 32},
        {"total": PAGE + 1, "version": bytes(8), "keys": bytes(32 * (PAGE + 1))},
        {"refused": "only members"},
    ],
)
def test_what_is_no_page_is_told(body: codec.Value) -> None:
    with pytest.raises(ValueError):
        read_page(body)


class Members:
    """Nodes that answer each from its own list, without a network between."""

    def __init__(self, **lists: list[str]) -> None:
        self.lists = lists
        self.asked: list[str] = []
        self.nodes = {name: self._node(name) for name in lists}

    def _node(self, name: str) -> Gathering:
        async def own() -> list[str]:
            return self.lists[name]

        return Gathering(self.ask_from(name), own, lambda caller: caller != "outsider")

    def ask_from(self, caller: str):  # type: ignore[no-untyped-def]
        async def ask(node_id: str, question: str, body: codec.Value) -> codec.Value:
            self.asked.append(node_id)
            if node_id not in self.nodes:
                raise PeerUnreachable(f"{node_id} is away")
            assert question == "authors"
            answer = await self.nodes[node_id].answer(caller, body)
            return codec.decode(codec.encode(answer), framing.MAX_BODY_DEPTH)

        return ask


async def test_every_member_tells_its_whole_list() -> None:
    members = Members(a=keys("a", 3), b=keys("b", MOST_PER_NODE + 100))
    told = await members.nodes["a"].ask_all([("b", "beta"), ("a", "alpha")])
    assert [(one.alias, len(one.keys), one.error) for one in told] == [("beta", MOST_PER_NODE, ""), ("alpha", 3, "")]
    assert told[0].keys == tuple(members.lists["b"][:MOST_PER_NODE])


async def test_one_that_is_away_costs_the_others_nothing_and_its_last_word_counts() -> None:
    members = Members(a=keys("a", 3), b=keys("b", 5))
    asking = members.nodes["a"]
    await asking.ask_all([("b", "beta")])
    away = members.nodes.pop("b")
    told = await asking.ask_all([("b", "beta"), ("gone", "gone"), ("a", "alpha")])
    assert told[0].keys == tuple(keys("b", 5))
    assert "away" in told[0].error
    assert (told[1].keys, told[2].error) == ((), "")
    members.nodes["b"] = away


async def test_outsiders_are_told_nothing() -> None:
    members = Members(a=keys("a", 3))
    answer = await members.nodes["a"].answer("outsider", {"page": 0})
    assert answer == {"refused": "only members of the swarm are told"}


@pytest.mark.parametrize("body", [{}, {"page": -1}, {"page": 99}, {"page": True}, {"page": "0"}, []])
async def test_a_question_that_is_none_is_the_askers_fault(body: codec.Value) -> None:
    with pytest.raises(ProtocolError):
        await Members(a=keys("a", 1)).nodes["a"].answer("b", body)


async def test_a_member_that_never_ends_its_list_is_cut_off() -> None:
    """It claims 5,000 keys and gives one a page: as many answers as an honest list takes, and no more."""
    asked = 0

    async def ask(node_id: str, question: str, body: codec.Value) -> codec.Value:
        nonlocal asked
        asked += 1
        return {"total": 1 << 40, "version": bytes(8), "keys": bytes(32)}

    async def own() -> list[str]:
        return []

    told = await Gathering(ask, own, lambda caller: True).ask_all([("evil", "evil")])
    assert (len(told[0].keys), asked) == (2, 2)


async def test_a_list_that_changes_between_two_pages_is_read_again() -> None:
    members = Members(a=[], b=keys("b", MOST_PER_NODE))
    asking = Gathering(members.ask_from("a"), members.nodes["a"]._own, lambda caller: True)
    inner = members.nodes["b"].answer

    async def answer(caller: str, body: codec.Value) -> codec.Value:
        result = await inner(caller, body)
        if members.asked.count("b") == 1:
            members.lists["b"] = keys("new", MOST_PER_NODE)
        return result

    members.nodes["b"].answer = answer  # type: ignore[method-assign]
    told = await asking.ask_all([("b", "beta")])
    assert told[0].keys == tuple(keys("new", MOST_PER_NODE))
    assert all(one <= other for one, other in pairwise(sorted(told[0].keys)))
