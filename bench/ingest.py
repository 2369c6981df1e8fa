"""From bytes to verified, merged and stored, beside the bare verification of the same signatures; and what a duplicate costs.

Three offers each. Runs through the whole swarm are measured in turns with the bare verification: nodes heard for the first
time, their beats, and beats that change their content. Store and event loop are the real ones, and
what is counted is the processor time of all threads: the commits run in one of their own.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.harness import Row
from dragon.home import Home
from dragon.registry.policy import Policy
from dragon.registry.view import Admitted, Duplicate, View
from dragon.store import Store
from registry_schema import DOMAIN, LIBP2P_PREFIX, parse
from registry_schema.ids import key_of
from tests.simulator.signers import NOW_MS, SWARM, Signer

NODES = 400
BEATS = 5
"""Rounds of plain beats: what a view does nearly all the time."""

SLICE = 100
"""Envelopes between two looks at the clock, and in one commit: 30 ms of a stream that keeps the node busy."""

SLUGS = ("comfyui", "ollama", "strfry")


async def run() -> list[Row]:
    """Measure and return the rows."""
    signers = [Signer(f"bench {number}") for number in range(NODES)]
    rounds = [[_envelope(signer, number, "llama3.2") for signer in signers] for number in range(1 + BEATS)]
    rounds.append([_envelope(signer, 1 + BEATS, "mistral") for signer in signers])
    _verify(rounds[0])  # both sides find the keys of the ids ready, as in a running node
    with tempfile.TemporaryDirectory() as folder:
        async with Store.open(Home(Path(folder))) as store:
            view = View("self", SWARM, Policy(), {}, random.Random(1))
            times = [await _turns(view, store, envelopes, number) for number, envelopes in enumerate(rounds)]
            duplicate = _duplicates(view, rounds[-1])
    first, beats, changed = times[0], [pair for round_ in times[1:-1] for pair in round_], times[-1]
    once = statistics.median(bare for bare, _ in beats)
    reference = "bare Ed25519 verification of the same envelopes"
    return [
        Row("bare verification", 1 / once, "1/s"),
        _row("ingest a beat", beats, reference, ">= 0.6"),
        _row("ingest a changed content", changed, reference, ""),
        _row("ingest a new node", first, reference, ""),
        Row("a duplicate", duplicate * 1e6, "µs", "one verification", duplicate / once, "<= 0.05"),
    ]


def _row(name: str, pairs: Sequence[tuple[float, float]], reference: str, target: str) -> Row:
    """Return the row of `(bare, ingest)` seconds that were measured one right after the other."""
    ratio = statistics.median(bare / ingest for bare, ingest in pairs)
    return Row(name, 1 / statistics.median(ingest for _, ingest in pairs), "1/s", reference, ratio, target)


async def _turns(view: View, store: Store, envelopes: Sequence[bytes], number: int) -> list[tuple[float, float]]:
    """Return `(bare, ingest)` seconds of one envelope, for one slice of the round after the other."""
    return [
        (_verify(part), await _ingest(view, store, part, number))
        for start in range(0, NODES, SLICE)
        for part in [envelopes[start : start + SLICE]]
    ]


def _envelope(signer: Signer, number: int, model: str) -> bytes:
    offers = [signer.offer(slug, {"model": model, "gpu": "rtx4090"}) for slug in SLUGS]
    return signer.envelope(NOW_MS + number * 30_000, offers, digest=tuple(bytes([number]) * 8 for _ in range(16)))


def _verify(envelopes: Sequence[bytes]) -> float:
    """Return the seconds of one bare verification."""
    parsed = [parse(data) for data in envelopes]
    work = [(key_of(one.manifest.node)._key, one.signature, LIBP2P_PREFIX + DOMAIN + one.payload) for one in parsed]
    started = time.process_time()
    for key, signature, message in work:
        key.verify(signature, message)  # type: ignore[call-arg]  # Ed25519 only here
    return (time.process_time() - started) / len(work)


async def _ingest(view: View, store: Store, envelopes: Sequence[bytes], number: int) -> float:
    """Return the seconds of one envelope from bytes to disk, as the registry's intake does it."""
    carriers = [parse(data).manifest.node for data in envelopes]
    at, now_ms = number * 30.0, NOW_MS + number * 30_000
    started = time.process_time()
    for count, (data, carrier) in enumerate(zip(envelopes, carriers, strict=True), 1):
        verdict = view.admit(data, carrier=carrier, source="pubsub", heard_at=at, now_ms=now_ms)
        assert isinstance(verdict, Admitted)
        store.put(SWARM, verdict.node_id, verdict.rank, data, now_ms)
        if count % 16 == 0:
            await asyncio.sleep(0)
    await store.flush()
    return (time.process_time() - started) / len(envelopes)


def _duplicates(view: View, envelopes: Sequence[bytes]) -> float:
    """Return the seconds that one more copy of an envelope costs."""
    data = envelopes[0]
    carrier = parse(data).manifest.node

    times = []
    for _ in range(15):
        started = time.process_time()
        for _ in range(1_000):
            verdict = view.admit(data, carrier=carrier, source="pubsub", heard_at=1e3, now_ms=NOW_MS)
        times.append((time.process_time() - started) / 1_000)
        assert isinstance(verdict, Duplicate)
    return statistics.median(times)
