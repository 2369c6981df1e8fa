"""The tunnels of all rooms: what is to stand is stated, and kept standing.

Kubo forgets listeners and forwards when it restarts, and anybody may run `ipfs p2p close --all`: so the desired state is
compared with `p2p ls` at least once a second (`plan` decides, this module acts). What we open is journaled; after a crash it
and only it is closed at the next start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dragon.clock import Clock
from dragon.errors import KuboError, KuboRefused
from dragon.kubo import journal
from dragon.kubo.claim import answers, busy, holder_of
from dragon.kubo.plan import Action, Close, Listener, Open, Plan, Reopen, WantedLeg, make_plan, normal
from dragon.kubo.ports import any_port
from dragon.kubo.types import LOOPBACK, Kubo, P2PEntry, loopback_target

log = logging.getLogger(__name__)

INTERVAL = 0.75
"""Seconds between two looks at `p2p ls`: with the look itself at least one a second, and what is wanted anew waits for none.
A look at 20 listeners costs an idle node about 1 ms."""

PORT_ATTEMPTS = 5
"""Free ports to try for a leg: between choosing one and Kubo's bind another program may take it."""


@dataclass(slots=True, eq=False)
class Leg:
    """The private end of a forward: connect to (`host`, `port`). `port` may change when the daemon restarts (`on_change`);
    `up` tells whether it was there at the last look."""

    protocol: str
    node_id: str
    port: int
    up: bool = True
    host: str = LOOPBACK

    @property
    def wanted(self) -> WantedLeg:
        return WantedLeg(self.protocol, self.node_id, self.port)


class Tunnels:
    """Listeners and legs on one daemon. `forbidden` gives the ports that are never listened towards."""

    def __init__(
        self,
        kubo: Kubo,
        journal: Path,
        clock: Clock,
        *,
        interval: float = INTERVAL,
        forbidden: Callable[[], frozenset[int]] = frozenset,
    ) -> None:
        self._kubo = kubo
        self._journal = journal
        self._clock = clock
        self._interval = interval
        self._forbidden = forbidden
        self._listeners: dict[str, Listener] = {}
        self._legs: set[Leg] = set()
        self._ours: dict[P2PEntry, bool] | None = None
        self._journaled: dict[P2PEntry, bool] | None = None
        self._unwritten = False
        self._up: frozenset[str] = frozenset()
        self._adopted: frozenset[str] = frozenset()
        self._problems: dict[str, str] = {}
        self._unreachable = "not looked yet"
        self._tunnel_ports: frozenset[int] = frozenset()
        self._callbacks: list[Callable[[], None]] = []
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()

    # -- what is to stand ---------------------------------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        """Keep this listener standing from now on; the same protocol with another port is re-targeted."""
        if self._listeners.get(listener.protocol) != listener:
            self._listeners[listener.protocol] = listener
            self._wake.set()

    def unlisten(self, protocol: str) -> None:
        """Withdraw a listener; its running connections end too."""
        if self._listeners.pop(protocol, None):
            self._wake.set()

    def is_up(self, protocol: str) -> bool:
        """Tell whether the listener stood at the last look."""
        return protocol in self._up and protocol in self._listeners

    def is_adopted(self, protocol: str) -> bool:
        """Tell whether a listener that stands was opened by somebody else; it is theirs to close."""
        return protocol in self._adopted and self.is_up(protocol)

    def problem(self, protocol: str) -> str | None:
        """Return why a desired listener is not up, None when it is (or is not desired)."""
        if protocol not in self._listeners or self.is_up(protocol):
            return None
        return self._unreachable or self._problems.get(protocol, "not opened yet")

    def foreign_ports(self) -> frozenset[int]:
        """Return the local ports of all forwards, ours and others': what is there is somebody else's service."""
        return self._tunnel_ports | {leg.port for leg in self._legs}

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back whenever the set of standing listeners changes, or a leg went, came back or moved."""
        self._callbacks.append(callback)

    async def claim(self, protocol: str, port: int, *, report_peer_id: bool = False) -> None:
        """Take a name that only one program per daemon may have; returns when the listener stands.

        Raises `KuboBusy` when another program has it and its port answers. A dead one (a crash) is taken over.
        """
        async with self._lock:
            ours = await self._load()
            holder = await holder_of(self._kubo, protocol)
            if holder is not None and normal(holder) not in ours:
                if await answers(holder.listener_port):
                    raise busy(protocol, holder)
                log.info("%s was left behind by a program that is gone (%s): taken over", protocol, holder.target)
                await self._kubo.p2p_close(protocol=protocol, listen=holder.listen, target=holder.target)
        self.listen(Listener(protocol, port, report_peer_id))
        await self.settle()
        if not self.is_up(protocol):
            why = self.problem(protocol)
            self.unlisten(protocol)
            holder = await holder_of(self._kubo, protocol)
            if holder is not None:  # another one claimed it in the same moment
                raise busy(protocol, holder)
            raise KuboRefused(f"{protocol} cannot be opened: {why}")

    async def open_leg(self, protocol: str, node_id: str, *, port: int | None = None) -> Leg:
        """Open the private end of a forward to `protocol` of a node. Dials nothing: the first connection does.

        `port` is a wish: when it is taken, the leg gets a free one. Raises `KuboRefused` or `KuboUnreachable`.
        """
        async with self._lock:
            await self._load()
            leg = Leg(protocol, node_id, await self._forward(protocol, node_id, port))
            self._legs.add(leg)
            return leg

    async def close_leg(self, leg: Leg) -> None:
        """Close a leg and end the connections through it; what fails is repeated by the reconcile."""
        self._legs.discard(leg)
        leg.up = False
        async with self._lock:
            try:
                await self._close(leg.wanted.entry(), end_streams=True)
            except KuboError as error:
                log.debug("leg on port %s: %s", leg.port, error)
            await self._save()

    # -- keeping it so ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Reconcile for ever: at least every `interval` seconds, and at once when something is desired or withdrawn."""
        while True:
            self._wake.clear()
            await self.settle()
            await self._pause()

    async def settle(self) -> None:
        """Reconcile once. A daemon that does not answer makes everything not up; nothing is raised for it."""
        async with self._lock:
            try:
                await self._load()
                plan = await self._look()
                if plan.actions:
                    failures = [await self._attempt(action) for action in plan.actions]
                    plan = await self._look()
                    self._confirm(plan, dict(failure for failure in failures if failure))
                else:
                    self._confirm(plan, {})
            except KuboError as error:
                self._lost(error)
            await self._save()

    async def close(self) -> None:
        """Close what is ours, and nothing else. With the daemon gone there is nothing to close."""
        self._listeners.clear()
        for leg in self._legs:
            leg.up = False
        self._legs.clear()
        await self.settle()

    async def _pause(self) -> None:
        waiting = {asyncio.ensure_future(self._clock.sleep(self._interval)), asyncio.ensure_future(self._wake.wait())}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    async def _look(self) -> Plan:
        actual = await self._kubo.p2p_ls()
        legs = [leg.wanted for leg in self._legs]
        plan = make_plan(self._listeners, legs, actual, await self._load(), self._forbidden())
        self._ours = dict(plan.ours)
        self._tunnel_ports = plan.tunnel_ports
        return plan

    async def _attempt(self, action: Action) -> tuple[str, str] | None:
        """Do one thing; return (protocol, reason) when Kubo refuses it."""
        try:
            match action:
                case Open(listener):
                    await self._open(listener)
                case Reopen(wanted):
                    await self._reopen(wanted)
                case Close(entry, end_streams):
                    await self._close(entry, end_streams=end_streams)
        except KuboRefused as error:
            protocol = action.listener.protocol if isinstance(action, Open) else ""
            return protocol, f"{error}" + (f" ({error.hint})" if error.hint else "")
        return None

    async def _open(self, listener: Listener) -> None:
        await self._own(listener.entry(), listener.report_peer_id)
        try:
            await self._kubo.p2p_listen(
                listener.protocol, loopback_target(listener.port), report_peer_id=listener.report_peer_id
            )
        except KuboRefused:
            self._disown(listener.entry())
            raise

    async def _reopen(self, wanted: WantedLeg) -> None:
        leg = next((leg for leg in self._legs if leg.wanted == wanted), None)
        if leg is not None:
            leg.port = await self._forward(wanted.protocol, wanted.node_id, wanted.port)

    async def _forward(self, protocol: str, node_id: str, port: int | None = None) -> int:
        """Open a forward on `port`, if given and free, else on a free one; return the port."""
        for attempt in range(PORT_ATTEMPTS):
            chosen = port if port is not None and attempt == 0 else any_port()
            entry = WantedLeg(protocol, node_id, chosen).entry()
            await self._own(entry, False)
            try:
                await self._kubo.p2p_forward(protocol, entry.listen, node_id)
            except KuboRefused as error:
                self._disown(entry)
                taken = "in use" in str(error) or "already registered" in str(error)
                if not taken or attempt == PORT_ATTEMPTS - 1:
                    raise
            else:
                return chosen
        raise AssertionError("unreachable: the last attempt raises")

    async def _close(self, entry: P2PEntry, *, end_streams: bool) -> None:
        # protocol and target name a listener; a forward is named by where it listens
        listen = None if entry.is_listener else entry.listen
        await self._kubo.p2p_close(protocol=entry.protocol, listen=listen, target=entry.target)
        self._disown(normal(entry))
        if not end_streams:
            return
        same = [each for each in await self._kubo.p2p_ls() if (each.protocol, each.target) == (entry.protocol, entry.target)]
        if same:
            return  # streams cannot be told apart by their forward: those of others must not end
        for stream in await self._kubo.p2p_streams():
            if (stream.protocol, stream.target) == (entry.protocol, entry.target):
                with suppress(KuboRefused):  # it ended meanwhile
                    await self._kubo.p2p_stream_close(stream.id)

    # -- what is known ------------------------------------------------------------------------------------------------

    def _confirm(self, plan: Plan, refused: dict[str, str]) -> None:
        problems = {**refused, **plan.problems}
        for protocol, reason in problems.items():
            if protocol and self._problems.get(protocol) != reason:
                log.warning("%s is not up: %s", protocol, reason)
        self._problems = problems
        if self._unreachable:
            log.debug("Kubo answers again")
        self._unreachable = ""
        before = self._up, {(id(leg), leg.up) for leg in self._legs}
        moved = any(isinstance(action, Reopen) for action in plan.actions)
        for leg in self._legs:
            leg.up = leg.wanted in plan.legs_up
        self._up, self._adopted = plan.up, plan.adopted
        if moved or before != (self._up, {(id(leg), leg.up) for leg in self._legs}):
            self._changed()

    def _lost(self, error: KuboError) -> None:
        if not self._unreachable:
            log.warning("tunnels: %s", error)
        self._unreachable = str(error)
        was_up = bool(self._up) or any(leg.up for leg in self._legs)
        self._up = frozenset()
        for leg in self._legs:
            leg.up = False
        if was_up:
            self._changed()

    def _changed(self) -> None:
        for callback in self._callbacks:
            callback()

    # -- the journal --------------------------------------------------------------------------------------------------

    async def _load(self) -> dict[P2PEntry, bool]:
        if self._ours is None:
            self._ours = await asyncio.to_thread(journal.load, self._journal)
            self._journaled = dict(self._ours)
            if self._ours:
                log.info("%d tunnels of an earlier run are closed", len(self._ours))
        return self._ours

    async def _own(self, entry: P2PEntry, names_callers: bool) -> None:
        """Journal first, then act: what a crash leaves in between is closed by the next start."""
        ours = await self._load()
        ours[entry] = names_callers
        await self._save()

    def _disown(self, entry: P2PEntry) -> None:
        if self._ours:
            self._ours.pop(entry, None)

    async def _save(self) -> None:
        if self._ours is None or self._ours == self._journaled:
            return
        try:
            await asyncio.to_thread(journal.save, self._journal, dict(self._ours))
        except OSError as error:  # a full disk must not stop the tunnels; it only costs the cleaning up after a crash
            if not self._unwritten:
                log.warning("%s cannot be written (%s): a crash now would leave tunnels behind", self._journal, error.strerror)
            self._unwritten = True
        else:
            self._unwritten = False
        self._journaled = dict(self._ours)


__all__ = ["Leg", "Listener", "Tunnels"]
