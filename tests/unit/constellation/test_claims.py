"""Each event is fetched by one peer at a time, and by another when that one fails."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from dragon.constellation.claims import Claims, Seen

IDS = [bytes([number]) * 32 for number in range(12)]


def test_two_peers_share_the_work() -> None:
    claims = Claims(Seen())
    anne, bert = deque(IDS), deque(IDS)
    assert claims.take("anne", anne, 5) == IDS[:5]
    assert claims.take("bert", bert, 5) == IDS[5:10]
    assert claims.take("anne", anne, 5) == IDS[10:]
    assert claims.take("bert", bert, 5) == []
    assert set(bert) == set(IDS[:5]) | set(IDS[10:])


def test_what_is_done_is_dropped_and_what_failed_is_free() -> None:
    seen = Seen()
    claims = Claims(seen)
    anne, bert = deque(IDS), deque(IDS)
    taken = claims.take("anne", anne, 12)
    for each in taken[:8]:
        seen.add(each)
    assert claims.take("bert", bert, 12) == []
    claims.release("anne", taken)
    assert claims.take("bert", bert, 12) == IDS[8:]
    assert not bert


def test_only_the_holder_can_release() -> None:
    claims = Claims(Seen())
    claims.take("anne", deque(IDS), 12)
    claims.release("bert", IDS)
    assert len(claims) == len(IDS)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.booleans()), max_size=60))
def test_nothing_is_lost_and_nothing_fetched_twice_at_once(steps: list[tuple[str, int, bool]]) -> None:
    """Whatever fails: who keeps asking gets everything that nobody else has got."""
    seen = Seen()
    claims = Claims(seen)
    wanted = {name: deque(IDS) for name in "abc"}
    held: dict[str, list[bytes]] = {name: [] for name in "abc"}
    for name, count, succeeds in steps:
        taken = claims.take(name, wanted[name], count)
        assert not set(taken) & {each for other in held.values() for each in other}
        held[name] += taken
        if succeeds:
            for each in held[name]:
                assert each not in seen
                seen.add(each)
        if count == 0 or succeeds:
            claims.release(name, held[name])
            held[name] = []
    for name in "abc":
        claims.release(name, held[name])
    missing = {each for each in IDS if each not in seen}
    assert {each for name in "abc" for each in claims.take(name, wanted[name], 12)} | set().union(*held.values()) >= missing
    assert len(claims) <= len(IDS)


def test_the_memory_is_bounded() -> None:
    seen = Seen(bound=100)
    for number in range(1000):
        seen.add(b"%d" % number)
        assert b"%d" % number in seen
    assert len(seen) <= 200
    assert all(b"%d" % number in seen for number in range(900, 1000))
