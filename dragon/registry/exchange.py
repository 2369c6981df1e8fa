"""The exchange: nodes ask one another directly, over `/x/dragon-<node id>`, for what gossip did not bring.

Any peer may relay what others signed, signatures make that safe; the partner only bears the costs. Questions are idempotent, so
what a tunnel cut short is asked once more (KUBO.md, p2p trap 2); a dial that hangs is given up on our own bound (trap 6).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from dragon.clock import Clock
from dragon.errors import PeerUnreachable, ProtocolError
from dragon.kubo.tunnels import Tunnels
from dragon.kubo.types import LOOPBACK
from dragon.registry.answering import Answering, Handler, IsKubo, Limits, aged
from dragon.registry.channel import Channel, CutShort, Refused
from dragon.registry.framing import Answer, Ask, Batch, End, batches
from dragon.registry.intake import Intake, Taken
from dragon.registry.view import View
from registry_schema import codec, is_node_id, protocol_name
from registry_schema.limits import DIGEST_BUCKETS, DIGEST_BYTES, MAX_SEQUENCE

SLUG = "dragon"
"""The slug of the exchange itself; its listener is also the lock against two Dragons on one Kubo (DESIGN §5)."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Held:
    """What a partner holds of us: 0 when nothing; `source` is how it got there (`pubsub`, `exchange` …)."""

    sequence: int
    source: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one exchange did: buckets that differed, envelopes that came, news among them, envelopes pushed."""

    differing: int
    received: int
    admitted: int
    pushed: int


class Exchange:
    """Both halves: `listening` answers others while it is held, the other methods ask them.

    Every question raises `PeerUnreachable` (no answer), `ProtocolError` (a wrong one), or what Kubo raises.
    """

    def __init__(
        self,
        node_id: str,
        tunnels: Tunnels,
        view: View,
        intake: Intake,
        clock: Clock,
        limits: Limits | None = None,
        *,
        is_kubo: IsKubo,
    ) -> None:
        self._node_id = node_id
        self._tunnels = tunnels
        self._view = view
        self._intake = intake
        self._clock = clock
        self._limits = limits or Limits()
        self._answering = Answering(view, intake, clock, self._limits, is_kubo)
        self.counters: Counter[str] = Counter()

    @property
    def served(self) -> Counter[str]:
        """What others did with us, by kind."""
        return self._answering.counters

    def answer(self, name: str, handler: Handler) -> None:
        """Answer the question `name` of other nodes with `handler(caller, body)`; for rooms above this one."""
        self._answering.answer(name, handler)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Answer on a loopback port; the value is `claim`, which leads `/x/dragon-<our id>` there.

        `claim` raises `KuboBusy` when another Dragon has that name.
        """
        server = await asyncio.start_server(self._answering.accept, LOOPBACK, 0, backlog=self._limits.connections)
        port = server.sockets[0].getsockname()[1]

        async def claim() -> None:
            await self._tunnels.claim(protocol_name(SLUG, self._node_id), port, report_peer_id=True)

        try:
            yield claim
        finally:
            server.close()
            await self._answering.close()

    # -- questions ----------------------------------------------------------------------------------------------------

    async def ask(self, node_id: str, question: str, body: codec.Value | None = None) -> codec.Value:
        """Return the answer of `node_id` to a question that is answered by one value."""

        async def talk(channel: Channel) -> codec.Value:
            return await _answer(channel, Ask(question, {} if body is None else body))

        return await self._with(node_id, talk)

    async def sequence(self, node_id: str) -> Held:
        """Ask `node_id` which sequence it holds of us."""
        body = await self.ask(node_id, "sequence")
        match body:
            case {"sequence": int(sequence), **rest} if 0 <= sequence <= MAX_SEQUENCE:
                source = rest.get("source", "")
                return Held(sequence, source if isinstance(source, str) else "")
        raise ProtocolError("an answer without a sequence")

    async def fetch(self, node_id: str, wanted: str) -> bytes | None:
        """Ask `node_id` for the newest envelope of the node `wanted`; it is returned as it came, not admitted."""

        async def talk(channel: Channel) -> bytes | None:
            await channel.send(Ask("envelope", {"node": wanted}))
            match await channel.reply():
                case End(0):
                    return None
                case Batch(((data, _),)):
                    if await channel.reply() == End(1):
                        return data
            raise ProtocolError("one envelope or none was due")

        return await self._with(node_id, talk)

    async def pull(self, node_id: str, own: Iterable[tuple[bytes, float]] = ()) -> Outcome:
        """Take all that `node_id` holds and give it our `own` word: what a newcomer does with the first peer it meets."""

        async def talk(channel: Channel) -> Outcome:
            await channel.send(Ask("all", {}))
            taken = await self._receive(channel, node_id)
            pushed = [pair for pair in aged(own) if hash(pair[0]) not in taken.seen]
            await _push(channel, pushed)
            return Outcome(DIGEST_BUCKETS, taken.count, taken.admitted, len(pushed))

        return await self._with(node_id, talk)

    async def reconcile(self, node_id: str) -> Outcome:
        """Compare digests with `node_id`, take what differs, and give it what it turned out to lack."""

        async def talk(channel: Channel) -> Outcome:
            theirs = _digest(await _answer(channel, Ask("digest", {})))
            numbers = tuple(self._view.differing(theirs, self._clock.monotonic()))
            if not numbers:
                return Outcome(0, 0, 0, 0)
            await channel.send(Ask("buckets", {"buckets": list(numbers)}))
            taken = await self._receive(channel, node_id)
            ours = list(self._view.bucket(numbers, self._clock.monotonic()))
            lacking = [pair for pair in aged(ours) if hash(pair[0]) not in taken.seen]
            try:
                await _push(channel, lacking)
            except Refused:  # what we came for is here
                lacking = []
            return Outcome(len(numbers), taken.count, taken.admitted, len(lacking))

        return await self._with(node_id, talk)

    async def push(self, node_id: str, envelopes: Iterable[tuple[bytes, float]]) -> int:
        """Give `(envelope, age in seconds)` pairs to `node_id`; return how many were news to it."""
        pairs = list(aged(envelopes))

        async def talk(channel: Channel) -> int:
            return await _push(channel, pairs)

        return await self._with(node_id, talk)

    # -- one conversation ---------------------------------------------------------------------------------------------

    async def _receive(self, channel: Channel, node_id: str) -> Taken:
        return await self._intake.receive(channel, carrier=node_id, limit=self._limits.received)

    async def _with(self, node_id: str, talk: Callable[[Channel], Awaitable[Result]]) -> Result:
        """Hold one conversation with `node_id`, a second one when the first was cut short."""
        try:
            try:
                return await self._once(node_id, talk)
            except CutShort:
                self.counters["cut-short"] += 1
                return await self._once(node_id, talk)
        except ProtocolError:
            self.counters["protocol-errors"] += 1
            raise
        except PeerUnreachable:
            self.counters["unreachable"] += 1
            raise

    async def _once(self, node_id: str, talk: Callable[[Channel], Awaitable[Result]]) -> Result:
        if not is_node_id(node_id) or node_id == self._node_id:
            raise ValueError(f"not a partner: {node_id!r}")
        leg = await self._tunnels.open_leg(protocol_name(SLUG, node_id), node_id)
        try:
            try:
                reader, writer = await asyncio.open_connection(leg.host, leg.port)
            except OSError as error:
                raise PeerUnreachable(f"the tunnel to {node_id} does not open: {error.strerror or error}") from None
            channel = Channel(reader, writer, patience=self._limits.patience)
            try:
                async with asyncio.timeout(self._limits.lifetime):
                    return await talk(channel)
            except TimeoutError:
                raise PeerUnreachable(f"an exchange with {node_id} took more than {self._limits.lifetime:g} s") from None
            finally:
                await channel.close()
        finally:
            await self._tunnels.close_leg(leg)


async def _answer(channel: Channel, last_word: Ask | End) -> codec.Value:
    await channel.send(last_word)
    match await channel.reply():
        case Answer(body):
            return body
        case message:
            raise ProtocolError(f"an answer was due, not {type(message).__name__}")


async def _push(channel: Channel, pairs: list[tuple[bytes, int]]) -> int:
    if not pairs:
        return 0
    await _answer(channel, Ask("push", {}))  # a refusal comes before the envelopes, not between them
    for batch in batches(pairs):
        await channel.send(batch)
        await asyncio.sleep(0)
    match await _answer(channel, End(len(pairs))):
        case {"admitted": int(admitted)} if 0 <= admitted <= len(pairs):
            return admitted
    raise ProtocolError("an answer without a count")


def _digest(body: codec.Value) -> tuple[bytes, ...]:
    buckets = body.get("digest") if isinstance(body, dict) else None
    if not isinstance(buckets, list) or len(buckets) != DIGEST_BUCKETS:
        raise ProtocolError(f"a digest has {DIGEST_BUCKETS} buckets")
    for bucket in buckets:
        if not isinstance(bucket, bytes) or len(bucket) != DIGEST_BYTES:
            raise ProtocolError(f"a bucket is {DIGEST_BYTES} bytes")
    return tuple(bucket for bucket in buckets if isinstance(bucket, bytes))
