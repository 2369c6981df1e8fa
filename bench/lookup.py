"""Lookups in a view of 10,000 nodes with 8 offers each over 12 slugs: the slowest percent, with beats coming in between.

Every lookup is followed by looking at its first provider. The scan is what it costs without an index, in the same run.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from bench.harness import Row
from dragon.registry.policy import Policy
from dragon.registry.view import View
from registry_schema.labels import labels_match
from tests.simulator.signers import NOW_MS, SWARM, Signer

NODES, OFFERS = 10_000, 8
SLUGS = ("comfyui", "dify", "embed", "matrix", "ollama", "orpheus", "perplexica", "qwen", "ssh", "strfry", "vane", "whisper")
MODELS = tuple(f"model-{number}" for number in range(12))
LOOKUPS = 3_000


def run() -> list[Row]:
    """Measure and return the rows."""
    rng = random.Random(7)
    view = View(
        "self", SWARM, Policy(known_capacity=NODES, unknown_capacity=NODES, unknown_bytes=2**30), {}, rng, verify=_believe
    )
    signers = [Signer(f"lookup {number}") for number in range(NODES)]
    started = time.thread_time()
    for signer in signers:
        _beat(view, signer, 0, rng)
    built = time.thread_time() - started
    plain = _measure(view, signers, rng, lambda: None)
    where = {"gpu": "rtx4090"}
    filtered = _measure(view, signers, rng, lambda: where)
    model = _measure(view, signers, rng, lambda: {"model": rng.choice(MODELS)})
    scanned = _scan(view, where)
    return [
        Row("building the view", NODES / built, "nodes/s"),
        Row("lookup of a slug, p99", plain * 1e3, "ms", "1 ms", plain / 1e-3, "<= 1"),
        Row("lookup where gpu=… (half of them), p99", filtered * 1e3, "ms", "1 ms", filtered / 1e-3, "<= 1"),
        Row("lookup where model=… (a sixth), p99", model * 1e3, "ms", "1 ms", model / 1e-3, "<= 1"),
        Row("lookup where gpu=…, p99", filtered * 1e3, "ms", "a scan of the slug's offers", filtered / scanned),
    ]


def _believe(parsed: object) -> None:
    """Signatures are `ingest`'s business."""


def _beat(view: View, signer: Signer, number: int, rng: random.Random) -> None:
    own = random.Random(signer.node_id)
    slugs = own.sample(SLUGS, OFFERS)
    labels = {"gpu": own.choice(("rtx4090", "none")), "model": own.choice(MODELS), "model.2": own.choice(MODELS)}
    offers = [signer.offer(slug, labels, load=rng.randrange(1000)) for slug in slugs]
    data = signer.envelope(NOW_MS + number, offers)
    view.admit(data, carrier=signer.node_id, source="exchange", heard_at=0.0, now_ms=NOW_MS)


def _measure(view: View, signers: list[Signer], rng: random.Random, where: Callable[[], dict[str, str] | None]) -> float:
    """Return the seconds within which 99 % of lookups are answered; some come right after a beat or a change."""
    times = []
    for number in range(LOOKUPS):
        if number % 10 == 0:
            _beat(view, rng.choice(signers), 10 * number + 1, rng)
        if number % 50 == 0:
            _leave(view, rng.choice(signers), 10 * number + 5)
        slug, wish = rng.choice(SLUGS), where()
        started = time.thread_time()
        found = view.providers(slug, where=wish, at=1.0)
        assert found[0].offer.slug == slug
        times.append(time.thread_time() - started)
    return sorted(times)[LOOKUPS * 99 // 100]


def _leave(view: View, signer: Signer, number: int) -> None:
    data = signer.envelope(NOW_MS + number, leaving=True)
    view.admit(data, carrier=signer.node_id, source="exchange", heard_at=0.0, now_ms=NOW_MS)


def _scan(view: View, where: dict[str, str]) -> float:
    offers = [one.offer for one in view.providers("ollama", at=1.0)]
    started = time.thread_time()
    assert [offer for offer in offers if labels_match(offer.labels, where)]
    return time.thread_time() - started
