"""Whom our people follow, asked of the local relay, and the list of friends of friends that is kept of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from dragon.constellation.asking import read
from dragon.constellation.event import Unsound, checked
from dragon.constellation.frames import Frame, document
from dragon.constellation.friends import LONGEST_LIST, Circle, asked, circle
from dragon.constellation.keys import pubkeys
from dragon.constellation.places import Places
from dragon.constellation.relay import Patience, Relay, connected
from dragon.constellation.wanted import batches
from dragon.home import write_atomically

log = logging.getLogger(__name__)

FOLLOWS = 3
"""Kind of a follow list (NIP-02): one for each author, the newest counts."""

AT_ONCE = 100
"""Authors in one question: their lists come well within one page of 500."""

MOST_LISTS = 500
"""Asked for in so many words: without a limit some relays give fewer than they could; no relay gives more at once."""

READABLE = 0o644
"""The relay's write policy reads the list, perhaps as another user."""

MAX_FRIENDS_FILE = 4 << 20
"""Bytes of a list of friends that are kept: 60,000 lines."""


async def find_circle(url: str, people: Sequence[str], patience: Patience | None = None) -> Circle:
    """Return the friends and their friends as the relay at `url` knows them. Raises `RelayFailed`."""
    async with connected(url, patience) as relay:
        lists = await follow_lists(relay, people)
        return circle(people, lists | await follow_lists(relay, asked(people, lists)))


async def follow_lists(relay: Relay, authors: Sequence[str]) -> dict[str, list[str]]:
    """Return the newest sound follow list of each of `authors` who has one. Raises `RelayFailed`."""
    newest: dict[str, tuple[int, list[str]]] = {}
    for batch in batches(tuple(authors), AT_ONCE):
        wanted, page = frozenset(batch), list[Frame]()
        await read(relay, [{"kinds": [FOLLOWS], "authors": list(batch), "limit": MOST_LISTS}], [page])
        for frame in page:
            found = document(frame.text)
            try:
                event = checked(found)
            except Unsound as error:
                log.debug("a follow list is left out: %s", error)
                continue
            if event.kind == FOLLOWS and event.pubkey in wanted and event.created_at > newest.get(event.pubkey, (-1, []))[0]:
                newest[event.pubkey] = (event.created_at, followed(found["tags"]))
    return {author: names for author, (_, names) in newest.items()}


def followed(tags: Iterable[Sequence[Any]]) -> list[str]:
    """Return the keys that the `p` tags of an event name, as many as count of one list."""
    return list(islice(pubkeys(tag[1] for tag in tags if len(tag) > 1 and tag[0] == "p"), LONGEST_LIST))


def keep_friends(places: Places, found: Circle) -> int:
    """Write the friends where they are looked for, and return how many there are. Raises `HomeError`. Blocks.

    On a station the list is shared with its own scripts: their lines stay as they are, only those that we added go or come.
    """
    ours = found.all
    before = _lines(places.own_friends)
    if places.friends != places.own_friends:
        others = [line for line in _lines(places.friends) if line.strip().lower() not in frozenset(before)]
        theirs = frozenset(line.strip().lower() for line in others)
        added = [key for key in ours if key not in theirs]
        _replace(places.friends, [*others, *added])
        ours = tuple(added)
    _replace(places.own_friends, ours)
    return len(found.all)


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FRIENDS_FILE).decode(errors="replace").splitlines()
    except OSError:
        return []


def _replace(path: Path, lines: Sequence[str]) -> None:
    if list(lines) != _lines(path):
        write_atomically(path, "".join(f"{line}\n" for line in lines).encode(), READABLE)
