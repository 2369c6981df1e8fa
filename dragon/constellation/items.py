"""Where our own relay lacks NIP-77 and the peer has it: what we hold is read in slices, and nostr-sdk compares each.

Costs as much as reading our whole window once for each peer, but on our own machine: only differences cross the wire.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from dragon.constellation.asking import NoNegentropy, TooMany
from dragon.constellation.bridge import Found
from dragon.constellation.outcome import PeerOutcome
from dragon.constellation.relay import Patience, RelayFailed
from dragon.constellation.wanted import Wanted

if TYPE_CHECKING:
    import nostr_sdk

SLICE = 25_000
"""Events that are compared at once: below what nostr-sdk's relay refuses (50,000), and 15 MB as its objects."""

COMPARISON = 4
"""How many times the usual patience one comparison may take: it has several questions."""

Pair = tuple[int, str]
"""A time and an id."""


class Slices:
    """Cuts what we hold, as it comes from newest to oldest, into windows of about `SLICE` events. Pure."""

    def __init__(self, wanted: Wanted, size: int = SLICE) -> None:
        self._wanted = wanted
        self._size = size
        self._top = wanted.until
        self._pairs: list[Pair] = []

    def add(self, pairs: Sequence[Pair]) -> Iterator[tuple[Wanted, list[Pair]]]:
        """Take the next pairs; yield each window that is complete, with what we hold in it."""
        self._pairs += pairs
        if len(self._pairs) < self._size:
            return
        lowest = min(at for at, _ in self._pairs)  # of this second there may be more to come
        if lowest < self._top:
            yield replace(self._wanted, since=lowest + 1, until=self._top), [pair for pair in self._pairs if pair[0] > lowest]
            self._pairs = [pair for pair in self._pairs if pair[0] <= lowest]
            self._top = lowest

    def rest(self) -> tuple[Wanted, list[Pair]]:
        """Return the last window, when nothing older is to come."""
        return replace(self._wanted, until=self._top), self._pairs


class Comparer:
    """A connection of nostr-sdk's own to a peer."""

    def __init__(self, relay: nostr_sdk.Relay, patience: Patience) -> None:
        self._relay = relay
        self._patience = patience

    async def compare(self, wanted: Wanted, pairs: Sequence[Pair]) -> Found:
        """Return the differences under a filter. `NoNegentropy`, `TooMany` or `RelayFailed` where there is no answer."""
        import nostr_sdk

        held = [
            nostr_sdk.NegentropyItem(id=nostr_sdk.EventId.parse(name), timestamp=nostr_sdk.Timestamp.from_secs(at))
            for at, name in pairs
        ]
        options = nostr_sdk.SyncOptions().dry_run().initial_timeout(timedelta(seconds=self._patience.negentropy))
        question = nostr_sdk.Filter.from_json(json.dumps(wanted.filter()))
        try:
            async with asyncio.timeout(COMPARISON * self._patience.progress):
                summary = await self._relay.sync(question, held, options)
        except TimeoutError:
            raise RelayFailed("stalls in the middle of a comparison") from None
        except nostr_sdk.NostrSdkError as error:
            said = str(error)
            if "too many" in said:
                raise TooMany(said) from None
            if "not supported" in said or "timeout" in said:
                raise NoNegentropy(said) from None
            raise RelayFailed(f"ends the comparison: {said[:200]}") from None
        return Found([each.as_bytes() for each in summary.remote], [each.as_bytes() for each in summary.local])


@asynccontextmanager
async def comparer(url: str, patience: Patience, outcome: PeerOutcome) -> AsyncIterator[Comparer]:
    """Connect to a peer with nostr-sdk; what crosses the wire is added to `outcome`."""
    import nostr_sdk  # 30 MB, for this case only

    client = nostr_sdk.ClientBuilder().build()
    try:
        address = nostr_sdk.RelayUrl.parse(url)
        await client.add_relay(address)
        relay = await client.relay(address)
        assert relay is not None
        try:
            await relay.try_connect(timedelta(seconds=patience.connect))
        except nostr_sdk.NostrSdkError as error:
            raise RelayFailed(f"cannot be reached ({error})") from None
        try:
            yield Comparer(relay, patience)
        finally:
            outcome.bytes_in += relay.stats().bytes_received()
            outcome.bytes_out += relay.stats().bytes_sent()
    finally:
        await client.shutdown()
