"""Friends, and friends of friends (N²): whom our people follow, and whom those follow, bounded and ranked. Pure.

    people ──kind 3──► friends ──kind 3──► friends of friends
    (all kept)         (first, by how many of the people follow them)   (then, by how many of the friends follow them)

A follow list is somebody's word: of each only the first `LONGEST_LIST` names count, and a name counts once for each list, so
that one list of 100,000 follows can neither explode the set nor outvote anybody. Names that two people follow come before names
that one person follows; among equals the keys' own order decides, so that every node with the same lists finds the same set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dragon.constellation.keys import pubkeys

LONGEST_LIST = 2_000
"""Names counted of one follow list: clients show lists of some hundreds; what is longer was not written by a person."""

MOST_FRIENDS = 4_000
"""Friends and friends of friends together: with the people themselves they fit the list that a node serves."""

MOST_ASKED = 1_000
"""Friends whose own lists are looked at, the best ranked first: bounds the second round, 1,000 lists of 2,000 names."""

Follows = Mapping[str, Sequence[str]]
"""Author → the keys in its newest kind 3 event, in the order of their `p` tags."""


@dataclass(frozen=True, slots=True)
class Circle:
    """Who is kept besides the people themselves; both in order of rank, no key twice, none of them one of the people."""

    friends: tuple[str, ...] = ()
    friends_of_friends: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        return self.friends + self.friends_of_friends


def ranked(lists: Iterable[Iterable[str]], without: frozenset[str] = frozenset()) -> list[str]:
    """Return the names in `lists` that are not in `without`, those named by most lists first, equals by their key."""
    votes: Counter[str] = Counter()
    for names in lists:
        votes.update(key for key in _bounded(names) if key not in without)
    return sorted(votes, key=lambda key: (-votes[key], key))


def asked(people: Sequence[str], follows: Follows) -> list[str]:
    """Return the friends whose own follow lists are wanted for the second round."""
    return _friends(people, follows)[:MOST_ASKED]


def circle(people: Sequence[str], follows: Follows, most: int = MOST_FRIENDS) -> Circle:
    """Return friends and friends of friends of `people`, `most` of them together."""
    friends = _friends(people, follows)[:most]
    known = frozenset(people) | frozenset(friends)
    further = ranked((follows[friend] for friend in friends[:MOST_ASKED] if friend in follows), known)
    return Circle(tuple(friends), tuple(further[: most - len(friends)]))


def _friends(people: Sequence[str], follows: Follows) -> list[str]:
    return ranked((follows[person] for person in dict.fromkeys(people) if person in follows), frozenset(people))


def _bounded(names: Iterable[str]) -> Iterable[str]:
    for number, key in enumerate(pubkeys(names)):
        if number == LONGEST_LIST:
            return
        yield key
