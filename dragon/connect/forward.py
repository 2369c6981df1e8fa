"""One forward: a port of ours that leads to a provider, and keeps leading somewhere whatever dies meanwhile.

The port lives until `close`. Sticky (the default): all connections go to one provider, and to another one only when that is
dead. Spread: each connection is a choice of its own. A connection that nobody has answered yet is moved on when that loses
nothing; one that was answered ends with its provider.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from dragon.clock import Clock
from dragon.connect.conversation import Conversation
from dragon.connect.entrance import Entrance
from dragon.connect.finder import PROVEN_FOR, Finder, Found, Wish
from dragon.connect.joining import make_relay
from dragon.connect.opening import Outcome, may_resend, open_conversation
from dragon.connect.patience import ANSWER_WITHIN, Patience
from dragon.connect.pool import Pool
from dragon.connect.relay import Relay, reset
from dragon.errors import LocalError, PeerUnreachable

log = logging.getLogger(__name__)

LOG_SPACING = 10.0
"""Seconds between two log lines about one trouble: a client that asks again at once must not fill the disk."""

MAX_MOVES = 4
"""Providers that one unanswered connection may see: when four fail, the fifth is not the client's problem to wait for."""


@dataclass(slots=True)
class Totals:
    """Since the forward was opened."""

    connections: int = 0
    moved: int = 0
    failed: int = 0
    sent: int = 0
    received: int = 0


class Forward:
    """Serves the connections of `listener`, which it owns from now on."""

    def __init__(
        self,
        wish: Wish,
        found: Found,
        listener: socket.socket,
        finder: Finder,
        clock: Clock,
        *,
        spread: bool,
        pool: Pool | None = None,
        on_move: Callable[[], None] = lambda: None,
    ) -> None:
        self.wish = wish
        self.found = found
        self.spread = spread or pool is not None
        self.pool = pool
        self.port = int(listener.getsockname()[1])
        self.opened_at = clock.monotonic()
        self.used_at = self.opened_at
        self.totals = Totals()
        self.suspect: str | None = None
        self._finder = finder
        self._clock = clock
        self._on_move = on_move
        self._loop = asyncio.get_running_loop()
        self._conversations: set[Conversation] = set()
        self._seeking: asyncio.Task[Found] | None = None
        self._told: dict[str, float] = {}
        self._patience = Patience(self._ask)
        self._entrance = Entrance(listener, self._came, self._starved, f"port {self.port}")

    # -- what is asked ------------------------------------------------------------------------------------------------

    @property
    def connections(self) -> int:
        """Connections open now, those not yet answered included."""
        return len(self._conversations)

    def traffic(self) -> tuple[int, int]:
        """Return bytes (sent, received) since the start, running connections included."""
        running = [each.relay for each in self._conversations if each.relay is not None]
        return (
            self.totals.sent + sum(relay.sent for relay in running),
            self.totals.received + sum(relay.received for relay in running),
        )

    def is_healthy(self) -> bool:
        """Tell whether a new connection would, by all we know, be served by the present provider."""
        return self.suspect is None and self.found.reach.breaker.state(self._clock.monotonic()) == "closed"

    def quiet_nodes(self) -> set[str]:
        """Return the nodes whose connections here have all said nothing since the last call: who may be dead."""
        quiet: set[str] = set()
        lively: set[str] = set()
        for each in self._conversations:
            if not each.found.is_node:
                continue
            counts = (each.relay.sent, each.relay.received) if each.relay else (0, 0)
            (lively if each.relay is not None and counts[1] > each.counted[1] else quiet).add(each.found.node_id)
            each.counted = counts
        return quiet - lively

    def look(self) -> None:
        """Take note of what the running connections moved since the last call, and let the pool look after itself."""
        at = self._clock.monotonic()
        for each in self._conversations:
            each.measure(at)
            if each.is_overdue(at):
                self._patience.overdue(each.found)
        if self.pool is not None:
            self.pool.look(self.connections, self.used_at)
            if self.pool.members and self.found.node_id not in self.pool.members:
                self.found = next(iter(self.pool.members.values()))

    # -- what happens to providers ------------------------------------------------------------------------------------

    def doubt(self, node_id: str, why: str) -> None:
        """New connections no longer go to this provider; those that run go on."""
        if not self.spread and self.found.node_id == node_id and self.suspect is None:
            self.suspect = why

    def mourn(self, node_id: str, why: str) -> None:
        """The provider is dead: end what runs through it, so that nobody hangs, and look for another one at once."""
        self.doubt(node_id, why)
        for each in [each for each in self._conversations if each.found.node_id == node_id]:
            if each.relay is not None:
                each.relay.abort(why)
            else:
                _wake(each.far)
        if self.suspect is not None and self.found.node_id == node_id:
            self._seek({node_id: why})

    async def prove(self) -> None:
        """Return when a provider is known to work, the present one or another. Raises `NoProvider`."""
        if self.suspect is None and await self._finder.works(self.found) is None:
            return
        why = self.suspect or self.found.reach.last_failure
        await asyncio.shield(self._seek({self.found.node_id: why}))

    async def close(self) -> None:
        """Close the port and end what runs through it."""
        self._entrance.close()
        if self.pool is not None:
            await self.pool.close()
        for each in [each for each in self._conversations if each.relay is not None]:
            assert each.relay is not None
            each.relay.abort("the forward was closed")
        tasks: list[asyncio.Task[None] | asyncio.Task[Found]] = [*self._entrance.tasks]
        if self._seeking is not None:
            tasks.append(self._seeking)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._patience.close()

    # -- connections --------------------------------------------------------------------------------------------------

    def _came(self, client: socket.socket) -> Coroutine[Any, Any, None]:
        self.totals.connections += 1
        return self._serve(client)

    def _starved(self, why: str) -> None:
        self._tell(logging.WARNING, "cannot accept", why)

    def _tell(self, level: int, trouble: str, why: object) -> None:
        """Log `trouble` with its reason, unless it was told a moment ago."""
        now = self._clock.monotonic()
        if now - self._told.get(trouble, float("-inf")) >= LOG_SPACING:
            self._told[trouble] = now
            log.log(level, "port %s (%s) %s: %s", self.port, self.wish.service, trouble, why)

    async def _serve(self, client: socket.socket) -> None:
        handed_over = False
        try:
            handed_over = await self._lead(client)
        except LocalError as error:  # nobody can serve, or our own engine is out of order
            self._tell(logging.INFO, "serves nobody", f"{error}; {error.hint}")
            self.totals.failed += 1
        finally:
            self.used_at = self._clock.monotonic()
            if not handed_over:
                reset(client)

    async def _lead(self, client: socket.socket) -> bool:
        """Find the client its provider; return whether a relay took the client over."""
        held = bytearray()
        tried: dict[str, str] = {}
        repeated = False
        for _ in range(MAX_MOVES):
            found = await self._provider(tried)
            try:
                conversation = await self._dial(found)
            except PeerUnreachable as error:
                found.reach.fail(self._clock.monotonic(), str(error))
                tried[found.node_id] = str(error)
                continue
            kept = False
            conversation.said = held
            try:
                with self._patience.waiting(found, held) as wait:
                    outcome, seconds = await open_conversation(client, conversation.far, held)
                    if outcome in (Outcome.LEFT, Outcome.LARGE):
                        wait.gave_up()
                if outcome in (Outcome.ANSWERED, Outcome.LARGE):
                    if outcome is Outcome.ANSWERED:
                        found.reach.succeed(seconds, self._clock.monotonic())
                    self._relay(client, conversation, len(held))
                    kept = True
                    return True
            finally:
                if not kept:
                    conversation.far.close()
                    self._forget(conversation)
            if outcome is Outcome.LEFT:
                return False
            why = conversation.lost or await self._what_happened(found)
            if why is None:  # it lives: an idle end, or a reply that Kubo lost under load
                if not held:
                    client.close()
                    return True
                if repeated or not may_resend(held):
                    return False
                repeated = True
            else:
                tried[found.node_id] = why
                if conversation.lost is None:  # else somebody else has been found already
                    self.doubt(found.node_id, why)
                if not may_resend(held):
                    return False
                self.totals.moved += 1
        self.totals.failed += 1
        return False

    async def _what_happened(self, found: Found) -> str | None:
        """A provider's side ended without a byte: return why it does not work, None when its test passes."""
        if found.reach.breaker.state(self._clock.monotonic()) == "open":
            return found.reach.last_failure
        return await self._finder.works(found)

    async def _ask(self, found: Found) -> None:
        """A provider is silent: give it up if its test fails and somebody else serves; who waits moves on where that is safe.

        The rest wait on: it may be at work on what they said.
        """
        why = await self._finder.works(found, within=ANSWER_WITHIN)
        if why is None:
            return
        tried = {found.node_id: why}
        try:
            other = await (self._finder.find(self.wish, tried) if self.spread else asyncio.shield(self._seek(tried)))
        except LocalError as error:
            log.info("port %s (%s): %s is silent: %s; nobody else: %s", self.port, found.slug, found.alias, why, error)
            return
        for each in self._conversations:
            is_waiting = each.found.node_id == found.node_id != other.node_id and each.relay is None
            if is_waiting and may_resend(each.said):
                each.lost = why
                _wake(each.far)

    async def _dial(self, found: Found) -> Conversation:
        found.reach.attempt(self._clock.monotonic())
        far = await found.route.dial(found.node_id, found.slug)
        found.reach.in_flight += 1
        conversation = Conversation(found, far)
        self._conversations.add(conversation)
        return conversation

    def _relay(self, client: socket.socket, conversation: Conversation, said: int) -> None:
        """Let the bytes run; the client has `said` so many before."""

        def ended(relay: Relay) -> None:
            self.totals.sent += relay.sent
            self.totals.received += relay.received
            conversation.measure(self._clock.monotonic())
            self._forget(conversation)

        self.totals.sent += said
        conversation.found.reach.sent += said
        conversation.measured_at = self._clock.monotonic()

        conversation.relay = make_relay(
            client, conversation.far, loop=self._loop, on_end=ended, half_close=conversation.found.route.half_close
        )
        conversation.relay.start()

    def _forget(self, conversation: Conversation) -> None:
        self._conversations.discard(conversation)
        self.used_at = self._clock.monotonic()
        found = conversation.found
        found.reach.in_flight -= 1
        found.route.hung_up(found.node_id, found.slug, conversation.far)

    # -- providers ----------------------------------------------------------------------------------------------------

    async def _provider(self, tried: dict[str, str]) -> Found:
        """Return whom the next connection goes to. Raises `NoProvider`."""
        if self.spread:
            return await self._spread(tried)
        if self.found.node_id not in tried and self.is_healthy():
            return self.found
        if (
            self.suspect is None
            and self.found.node_id not in tried
            and self.found.reach.breaker.permits(self._clock.monotonic())
        ):
            return self.found  # half-open: this connection is the attempt
        reasons = dict(tried)
        if self.suspect is not None:
            reasons.setdefault(self.found.node_id, self.suspect)
        return await asyncio.shield(self._seek(reasons))

    async def _spread(self, tried: dict[str, str]) -> Found:
        picked = self._finder.pick(self.wish, self.found, tried) if self.pool is None else self.pool.pick(tried)
        if picked is not None and self._clock.monotonic() - picked.reach.proven_at < PROVEN_FOR:
            return picked
        if picked is not None and await self._finder.works(picked) is None:
            return picked
        if picked is not None:
            tried[picked.node_id] = picked.reach.last_failure
        found = await self._finder.find(self.wish, tried)
        if self.pool is not None:
            self.pool.adopt(found)
        return found

    def _seek(self, tried: dict[str, str]) -> asyncio.Task[Found]:
        """Look for another provider; all who need one meanwhile wait for the same search."""
        if self._seeking is None or self._seeking.done():
            self._seeking = self._loop.create_task(self._repoint(tried))
            self._seeking.add_done_callback(_note)
        return self._seeking

    async def _repoint(self, tried: dict[str, str]) -> Found:
        before = self.found
        try:
            found = await self._finder.find(self.wish, tried)
        except LocalError:
            # Nobody else: the old one may be back, and its own test tells. A pinned forward always comes this way.
            if before.node_id not in tried or await self._finder.works(before) is not None:
                raise
            found = before
        if found.node_id != before.node_id:
            log.info("port %s (%s): %s instead of %s: %s", self.port, found.slug, found.alias, before.alias, self.suspect or "")
        self.found = found
        self.suspect = None
        if found.node_id != before.node_id:
            self._on_move()
        return found


def _wake(far: socket.socket) -> None:
    """Make whoever waits for `far` see its end."""
    try:
        far.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has ended by itself
        return


def _note(seeking: asyncio.Task[Found]) -> None:
    """Take note of how a search ended, also when nobody waits for it: the next connection searches again."""
    if not seeking.cancelled() and seeking.exception() is not None:
        log.debug("no other provider yet: %s", seeking.exception())
