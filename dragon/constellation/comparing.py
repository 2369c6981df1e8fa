"""The differences between our relay and a peer's under one filter, by NIP-77: over the bridge, else with nostr-sdk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from dragon.constellation.asking import NoNegentropy, TooMany, read, reconcile
from dragon.constellation.bridge import MAX_PENDING, Bridge, Found, Side
from dragon.constellation.frames import Frame
from dragon.constellation.items import Comparer, Pair, Slices, comparer
from dragon.constellation.negentropy import encode
from dragon.constellation.outcome import PeerOutcome
from dragon.constellation.paging import Pages
from dragon.constellation.relay import Patience, Relay, RelayFailed, connected
from dragon.constellation.wanted import Wanted
from dragon.errors import LocalError, ProtocolError

MESSAGE_ROOM = 40_000
"""Bytes of the first message that are left for the filter: `AUTHORS_PER_FILTER` keys, and the kinds."""

LEAST_ROOM = 2000
"""Bytes of a negentropy message that any relay takes."""

HEAD_START = 0.02
"""Seconds after which our own relay is taken to be busy reading: one that holds nothing answers sooner, and then the peer need
not read its set at all."""


class OwnRelayFailed(LocalError):
    """Our own relay does not do its part."""


class NoBridge(LocalError):
    """Our own relay lacks NIP-77."""


class NothingHere(LocalError):
    """Our own relay holds nothing under this filter: there is nothing to compare."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two relays, and how they are compared."""

    theirs: Relay
    ours: Relay
    outcome: PeerOutcome
    want_have: bool
    """Whether it is also asked what the peer lacks."""
    tell_empty: bool
    """Whether `NothingHere` is raised where that is so."""

    async def over_the_bridge(self, wanted: Wanted) -> AsyncGenerator[Found, None]:
        """Yield what is found, as it is found; the relays wait meanwhile. Whoever takes it empties it.

        Raises `NoBridge`, `NothingHere`; `NoNegentropy` where the peer lacks NIP-77.
        """
        windows = [wanted]
        while windows:
            window = windows.pop()
            try:
                async with contextlib.aclosing(self._window(window, whole=window is wanted)) as found:
                    async for each in found:
                        yield each
            except TooMany as error:
                windows += reversed(narrower(window, error))

    async def _window(self, wanted: Wanted, *, whole: bool) -> AsyncGenerator[Found, None]:
        room = (min(self.theirs.limits.message_size, self.ours.limits.message_size) - MESSAGE_ROOM) // 2
        bridge = Bridge(want_have=self.want_have, message_size=max(room, LEAST_ROOM))
        names: dict[Side, str] = {}
        try:
            await self._open(bridge, wanted, names)
            if bridge.ours_empty and self.tell_empty and whole:
                raise NothingHere("our own relay holds nothing of this")
            while side := bridge.turn:
                message, opening = bridge.ask(side), None if side in names else wanted.filter()
                if side == "ours":
                    with on_our_side():
                        bridge.answer(side, await self._own_answer(names[side], message, opening))
                else:
                    names.setdefault(side, self.theirs.name())
                    bridge.answer(side, await reconcile(self.theirs, names[side], message, opening))
                    self._asked()
                yield bridge.found
                if bridge.pending > MAX_PENDING:
                    raise TooMany("the differences are in too many places")
        finally:
            for side, name in names.items():
                with contextlib.suppress(RelayFailed):
                    await (self.ours if side == "ours" else self.theirs).send("NEG-CLOSE", name)

    async def _open(self, bridge: Bridge, wanted: Wanted, names: dict[Side, str]) -> None:
        """Ask our own relay for the first time. Where that takes long, the peer's is asked about nothing meanwhile: so it reads
        its set at the same time."""
        names["ours"], message = self.ours.name(), bridge.ask("ours")
        asking = asyncio.ensure_future(self._own_answer(names["ours"], message, wanted.filter()))
        try:
            await asyncio.wait((asking,), timeout=HEAD_START)
            if not asking.done():
                names["theirs"] = self.theirs.name()
                await reconcile(self.theirs, names["theirs"], encode(()), wanted.filter())
                self._asked()
            with on_our_side():
                bridge.answer("ours", await asking)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _own_answer(self, name: str, message: bytes, opening: dict[str, Any] | None) -> bytes:
        if self.ours.limits.nip77 is not False:
            with contextlib.suppress(NoNegentropy):
                return await reconcile(self.ours, name, message, opening)
        raise NoBridge("our own relay lacks NIP-77")

    async def by_items(self, wanted: Wanted) -> AsyncGenerator[Found, None]:
        """As `over_the_bridge`, where our own relay lacks NIP-77: what it holds is read, and compared by nostr-sdk."""
        slices, pages = Slices(wanted), Pages(wanted, self.ours.limits.page)
        async with comparer(self.outcome.address, self.theirs.patience, self.outcome) as comparing:
            while not pages.done:
                page: list[Frame] = []
                with on_our_side():
                    await read(self.ours, [pages.question()], [page])
                for window, pairs in slices.add([(each.created_at, each.id) for each in pages.answer(page) if each.id]):
                    async for found in self._slice(comparing, window, pairs):
                        yield found
            async for found in self._slice(comparing, *slices.rest()):
                yield found

    async def _slice(self, comparing: Comparer, wanted: Wanted, pairs: list[Pair]) -> AsyncIterator[Found]:
        windows = [wanted]
        while windows:
            window = windows.pop()
            try:
                found = await comparing.compare(window, [pair for pair in pairs if window.since <= pair[0] <= window.until])
            except TooMany as error:
                halves = window.halves()  # not by authors: of our own events only the time is known
                if halves is None:
                    raise RelayFailed(f"has too many events in one second ({error})") from None
                windows += reversed(halves)
                continue
            self._asked()
            yield found

    def _asked(self) -> None:
        self.outcome.method = "nip77"
        self.outcome.round_trips += 1


def narrower(wanted: Wanted, error: TooMany) -> tuple[Wanted, Wanted]:
    """Return two filters for one under which a relay holds too many; `RelayFailed` where nothing is left to part."""
    if parts := wanted.halves() or wanted.parts():
        return parts
    raise RelayFailed(f"has too many events in one second ({error})")


@asynccontextmanager
async def own(url: str, patience: Patience) -> AsyncIterator[Relay]:
    """Connect to our own relay; `OwnRelayFailed` where that fails."""
    async with AsyncExitStack() as stack:
        with on_our_side():
            relay = await stack.enter_async_context(connected(url, patience))
        yield relay


@contextmanager
def on_our_side() -> Iterator[None]:
    """Blame our own relay, not the peer, for what fails in the block."""
    try:
        yield
    except (RelayFailed, ProtocolError) as error:
        raise OwnRelayFailed(f"our own relay {error}", "is it running? see its log") from error
