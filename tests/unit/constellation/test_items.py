"""Where our own relay lacks NIP-77: what it holds is cut into windows, and nostr-sdk finds the differences."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragon.constellation import items
from dragon.constellation.items import Pair, Slices
from dragon.constellation.run import synchronise
from dragon.constellation.wanted import Wanted
from tests.unit.constellation.relays import ANNE, BERT, HURRY, NOW, Clock, bad_relay, held, ids, job, keeping, local_relay

NOTES = [author.event(f"note {number}", at=NOW - number // 2) for number in range(300) for author in (ANNE, BERT)]


@given(st.lists(st.integers(0, 40), max_size=200), st.integers(1, 30), st.integers(1, 50))
def test_windows_cover_everything_once(times: list[int], size: int, page: int) -> None:
    pairs = [(at, f"{number}") for number, at in enumerate(sorted(times, reverse=True))]
    wanted = Wanted((1,), 0, 40, (ANNE.pubkey,))
    slices, windows = Slices(wanted, size), list[tuple[Wanted, list[Pair]]]()
    for start in range(0, len(pairs), page):
        windows += slices.add(pairs[start : start + page])
    windows.append(slices.rest())
    assert windows[0][0].until == wanted.until
    assert windows[-1][0].since == wanted.since
    assert all(newer.since == older.until + 1 for (newer, _), (older, _) in pairwise(windows))
    assert sorted(pair for _, some in windows for pair in some) == sorted(pairs)
    assert all(window.since <= at <= window.until for window, some in windows for at, _ in some)


async def test_only_what_we_lack_crosses_the_wire() -> None:
    store = keeping(NOTES[:550])
    async with bad_relay(store) as local, local_relay(NOTES) as peer:
        outcome = await synchronise(job(peer, local=local), Clock(), patience=HURRY)
        assert {event["id"] for event in store.events} == ids(NOTES)
    (one,) = outcome.peers
    assert (outcome.state, one.method, one.missing, one.received, one.new) == ("ok", "nip77", 50, 50, 50)
    assert 0 < one.bytes_in < 60_000


async def test_in_several_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items.Slices.__init__, "__defaults__", (30,))
    store = keeping(NOTES[::3], cap=40)
    async with bad_relay(store) as local, local_relay(NOTES) as peer:
        outcome = await synchronise(job(peer, local=local, both=True), Clock(), patience=HURRY)
    assert outcome.peers[0].new == outcome.peers[0].missing == 400
    assert outcome.peers[0].round_trips > 3


async def test_neither_speaks_nip77() -> None:
    store = keeping(NOTES[:100])
    async with bad_relay(store) as local, bad_relay(keeping(NOTES)) as peer:
        outcome = await synchronise(job(peer, local=local), Clock(), patience=HURRY)
    assert {event["id"] for event in store.events} == ids(NOTES)
    assert (outcome.state, outcome.peers[0].method) == ("ok", "req")


async def test_both_directions() -> None:
    store = keeping(NOTES[:400])
    async with bad_relay(store) as local, local_relay(NOTES[300:]) as peer:
        outcome = await synchronise(job(peer, local=local, both=True), Clock(), patience=HURRY)
        assert await held(peer) == ids(NOTES)
    assert (outcome.peers[0].missing, outcome.peers[0].sent) == (200, 300)
