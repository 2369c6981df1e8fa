"""The index of live offers: by slug, and within a slug by label. What does not match costs a lookup nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import overload

from dragon.registry.entry import Entry, Listed, Provider
from registry_schema import Offer
from registry_schema.labels import values_meeting


class Posting:
    """Offers of which one thing is true, ascending by node id.

    Kept in order at every change (a few microseconds among 10,000), because lookups must not pay for what changed before them.
    """

    __slots__ = ("_ids", "_listed")

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._listed: list[Listed] = []

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, node_id: str) -> bool:
        place = bisect_left(self._ids, node_id)
        return place < len(self._ids) and self._ids[place] == node_id

    def add(self, listed: Listed) -> None:
        """Add what is not in it yet."""
        node_id = listed.entry.node_id
        place = bisect_left(self._ids, node_id)
        self._ids.insert(place, node_id)
        self._listed.insert(place, listed)

    def remove(self, node_id: str) -> None:
        """Remove what is in it."""
        place = bisect_left(self._ids, node_id)
        del self._ids[place], self._listed[place]

    def snapshot(self) -> list[Listed]:
        return self._listed.copy()


class _Slug:
    __slots__ = ("labels", "offers")

    def __init__(self) -> None:
        self.offers = Posting()
        self.labels: dict[tuple[str, str], Posting] = {}


class OfferIndex:
    """Kept up to date by `update` and `drop` of one entry at a time."""

    def __init__(self) -> None:
        self._slugs: dict[str, _Slug] = {}

    def refresh(self, entry: Entry, offers: Sequence[Offer]) -> None:
        """Take over the loads of `offers`, which are otherwise those that are listed."""
        for offer in offers:
            entry.listed[offer.slug].offer = offer

    def update(self, entry: Entry, offers: Sequence[Offer]) -> None:
        """List `offers` as all that `entry` offers."""
        if len(entry.listed) > len(offers) or not all(offer.slug in entry.listed for offer in offers):
            for slug in entry.listed.keys() - {offer.slug for offer in offers}:
                self._remove(entry, slug)
        for offer in offers:
            held = entry.listed.get(offer.slug)
            if held is None:
                self._add(entry, offer)
            elif held.offer.labels == offer.labels:
                held.offer = offer
            else:
                self._remove(entry, offer.slug)
                self._add(entry, offer)

    def drop(self, entry: Entry) -> None:
        for slug in tuple(entry.listed):
            self._remove(entry, slug)

    def counts(self) -> dict[str, int]:
        """Return for each slug how many live nodes offer it, ascending by slug."""
        return {slug: len(self._slugs[slug].offers) for slug in sorted(self._slugs)}

    def find(self, slug: str, where: Mapping[str, str] | None) -> Sequence[Listed]:
        """Return the live offers of `slug` whose labels meet `where` (`labels_match`), ascending by node id."""
        held = self._slugs.get(slug)
        if held is None:
            return ()
        if not where:
            return held.offers.snapshot()
        wishes = [_meeting(held.labels, key, wish) for key, wish in where.items()]
        wishes.sort(key=lambda postings: sum(map(len, postings)))
        found = _union(wishes[0])
        for postings in wishes[1:]:
            found = [one for one in found if any(one.entry.node_id in posting for posting in postings)]
        return found

    def _add(self, entry: Entry, offer: Offer) -> None:
        listed = entry.listed[offer.slug] = Listed(entry, offer)
        slug = self._slugs.get(offer.slug)
        if slug is None:
            slug = self._slugs[offer.slug] = _Slug()
        slug.offers.add(listed)
        for term in set(_terms(offer.labels)):
            posting = slug.labels.get(term)
            if posting is None:
                posting = slug.labels[term] = Posting()
            posting.add(listed)

    def _remove(self, entry: Entry, name: str) -> None:
        listed = entry.listed.pop(name)
        slug = self._slugs[name]
        slug.offers.remove(entry.node_id)
        for term in set(_terms(listed.offer.labels)):
            posting = slug.labels[term]
            posting.remove(entry.node_id)
            if not len(posting):
                del slug.labels[term]
        if not len(slug.offers):
            del self._slugs[name]


class Providers(Sequence[Provider]):
    """The answer to a lookup: made when asked, each `Provider` when it is looked at."""

    __slots__ = ("_at", "_found", "_self_id")

    def __init__(self, found: Sequence[Listed], self_id: str, at: float) -> None:
        self._found = found
        self._self_id = self_id
        self._at = at

    def __len__(self) -> int:
        return len(self._found)

    @overload
    def __getitem__(self, index: int) -> Provider: ...
    @overload
    def __getitem__(self, index: slice) -> list[Provider]: ...
    def __getitem__(self, index: int | slice) -> Provider | list[Provider]:
        if isinstance(index, slice):
            return [self._provider(listed) for listed in self._found[index]]
        return self._provider(self._found[index])

    def __iter__(self) -> Iterator[Provider]:
        return map(self._provider, self._found)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # compares like the list it stands for

    def __repr__(self) -> str:
        return repr(list(self))

    def _provider(self, listed: Listed) -> Provider:
        entry = listed.entry
        mine = entry.node_id == self._self_id
        return Provider(
            entry.node_id, entry.manifest.alias, listed.offer, "live", entry.trust, mine, max(self._at - entry.heard, 0.0)
        )


def self_last(found: Sequence[Listed], own: Listed | None) -> Sequence[Listed]:
    """Move `own` to the end where it occurs: everybody else is numbered by id, this node comes last (DESIGN §8)."""
    if own is None:
        return found
    place = bisect_left(found, own.entry.node_id, key=lambda listed: listed.entry.node_id)
    if place == len(found) or found[place] is not own:
        return found
    return [*found[:place], *found[place + 1 :], own]


def _terms(labels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield every `(key, value)` under which `values_of` finds a value: `model.2=x` under `model.2` and under `model`."""
    for name, value in labels.items():
        yield name, value
        key, _, number = name.rpartition(".")
        if key and number.isdecimal():
            yield key, value


def _meeting(labels: Mapping[tuple[str, str], Posting], key: str, wish: str) -> list[Posting]:
    """Return the postings of all values that meet `wish`, as `labels_match` reads `:latest`."""
    return [posting for value in values_meeting(wish) if (posting := labels.get((key, value))) is not None]


def _union(postings: Sequence[Posting]) -> Sequence[Listed]:
    if len(postings) == 1:
        return postings[0].snapshot()
    merged = {listed.entry.node_id: listed for posting in postings for listed in posting.snapshot()}
    return [merged[node_id] for node_id in sorted(merged)]
