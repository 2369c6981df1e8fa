"""Which kinds of events a constellation keeps, and which of them replace one another (NIP-01)."""

from __future__ import annotations

PROFILE = 0
DIRECT_MESSAGE = 4
DELETION = 5

DEFAULT_KINDS: tuple[int, ...] = (0, 1, 3, 4, 5, 6, 7, 30023, 30024, 31922, 31923, 31924, 31925)
"""Profiles, notes, follows, messages, deletions, reposts, reactions, articles and their drafts, the calendar of NIP-52."""

STATION_KINDS: tuple[int, ...] = (
    0, 1, 3, 4, 5, 6, 7, 8, 21, 22, 40, 41, 42, 44, 1063, 1111, 1222, 1244, 1506, 1984, 1985, 1986, 9735, 10000, 10001,
    22242, 30001, 30005, 30008, 30009, 30023, 30024, 30078, 30303, 30312, 30313, 30315, 30500, 30501, 30502, 30503, 30504,
    30505, 30506, 30508, 30800, 30850, 30851, 30904, 31900, 31901, 31902, 31910, 31922, 31923, 31924, 31925,
)  # fmt: skip
"""What the stations' own scripts exchange: 57 kinds."""


def is_replaceable(kind: int) -> bool:
    """Tell whether only the newest event of this kind counts for an author."""
    return kind in (0, 3) or 10_000 <= kind < 20_000


def is_addressable(kind: int) -> bool:
    """Tell whether only the newest event of this kind counts for an author and a `d` tag."""
    return 30_000 <= kind < 40_000
