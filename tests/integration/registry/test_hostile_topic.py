"""What a hostile node really can put on the topic and into the exchange: counted by reason, harmless, and nobody else waits."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from dragon.kubo.client import KuboClient
from dragon.registry import framing
from dragon.registry.gossip import topic_of
from dragon.registry.policy import Policy, Rate
from registry_schema import Draft, Manifest, make_offer
from tests.integration.registry.support import Station, start
from tests.testbed.kubo import KuboDaemon, until


async def signed(kubo: KuboClient, node_id: str, swarm: str, sequence: int, *slugs: str, **fields: Any) -> bytes:
    """Return an envelope that `node_id` really signed, whatever it says."""
    values = {
        "node": node_id,
        "swarm": swarm,
        "sequence": sequence,
        "ttl": 90,
        "alias": "mallory",
        "version": "0.1.0",
        "offers": [make_offer(slug, node_id, 1234).model_dump() for slug in slugs],
        "labels": {},
        "capacity": {},
        "load": 0,
        "agents": [],
        "digest": [],
        "station": {},
        "leaving": False,
    }
    draft = Draft.of(Manifest.read({**values, **fields}))
    return draft.sealed(await kubo.sign(draft.message))


def rose(stations: list[Station], reason: str, before: list[int]) -> bool:
    """Tell whether each of `stations` counted more of `reason` than before."""
    return all(each.view.counters[reason] > count for each, count in zip(stations, before, strict=True))


async def test_bad_messages_are_counted_by_reason_and_change_nothing(
    kubos: tuple[KuboDaemon, ...], tmp_path: Path, swarm: str, stack: AsyncExitStack
) -> None:
    """THREATS 1, 4, 5, 9 on the real topic."""
    stations = await start(stack, kubos[:2], tmp_path, swarm)
    stations[0].offer("ollama")
    await until(lambda: stations[1].sees(stations[0].id, "ollama"))
    mallory, topic = kubos[2].node_id, topic_of(swarm)
    kubo = await stack.enter_async_context(KuboClient(kubos[2].api))
    now = stations[0].clock.now_ms()
    good = await signed(kubo, mallory, swarm, now, "comfyui")
    forged = bytearray(await signed(kubo, mallory, swarm, now + 1, "orpheus"))
    forged[forged.index(b"mallory")] ^= 1
    captured = stations[0].view.envelope(stations[0].id)
    assert captured is not None
    messages = {
        "malformed": b"\xc1 not msgpack",
        "too-large": bytes(33 * 1024),
        "duplicate": captured,  # both hold these very bytes: dropped before anybody looks at who brought them
        "wrong-swarm": await signed(kubo, mallory, f"{swarm}-other", now, "comfyui"),
        "from-the-future": await signed(kubo, mallory, swarm, now + 3_600_000, "comfyui"),
        "bad-signature": bytes(forged),
        "stale": await signed(kubo, mallory, swarm, now - 1000, "strfry"),
    }
    await kubo.publish(topic, good)
    await until(lambda: all(each.sees(mallory, "comfyui") for each in stations))
    for reason, data in messages.items():
        before = [each.view.counters[reason] for each in stations]
        await kubo.publish(topic, data)
        await until(partial(rose, stations, reason, before))
    assert all(each.state(mallory) == "skewed" for each in stations), "it spoke from the future itself: shown, never chosen"
    assert all(each.sees(stations[0].id, "ollama") for each in stations)


async def test_what_names_a_victim_costs_the_one_who_sends_it(
    kubos: tuple[KuboDaemon, ...], tmp_path: Path, swarm: str, stack: AsyncExitStack
) -> None:
    """THREATS 8: messages that claim to be from another node are dropped by who sent them; the victim is heard as before."""
    # below what a busy machine still publishes in a second
    strict = Policy(carrier_rate=Rate(per_second=1, burst=30))
    stations = await start(stack, kubos[:2], tmp_path, swarm, strict)
    kubo = await stack.enter_async_context(KuboClient(kubos[2].api))
    now = stations[0].clock.now_ms()
    own = await signed(kubo, kubos[2].node_id, swarm, now, "ollama")
    claims = own.replace(kubos[2].node_id.encode(), stations[0].id.encode())
    for number in range(100):
        await kubo.publish(topic_of(swarm), claims[:-1] + bytes([number]))
    await until(lambda: stations[1].view.counters["rate"])
    assert stations[1].view.counters["carrier"] >= 1
    stations[0].offer("comfyui")
    await until(lambda: stations[1].sees(stations[0].id, "comfyui"))


async def test_a_hostile_caller_loses_its_connection_and_nobody_else_waits(
    kubos: tuple[KuboDaemon, ...], tmp_path: Path, swarm: str, stack: AsyncExitStack
) -> None:
    """Garbage, an announced giant and a silent connection over the real tunnel; the others exchange meanwhile."""
    stations = await start(stack, kubos[:2], tmp_path, swarm)
    kubo = await stack.enter_async_context(KuboClient(kubos[2].api))
    protocol = f"/x/dragon-{stations[0].id}"
    await kubo.p2p_forward(protocol, "/ip4/127.0.0.1/tcp/0", stations[0].id)
    leg = next(each for each in await kubo.p2p_ls() if each.protocol == protocol)
    writers = []
    try:
        for data in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\xff\xff\xff\xff",
            framing.frame(framing.End(3)),
            framing.frame(framing.Answer({})),
        ):
            _, writer = await asyncio.open_connection("127.0.0.1", leg.leg_port)
            writers.append(writer)
            writer.write(data)
        await until(lambda: stations[0].registry.exchange.served["protocol-errors"] == 4)
        outcome = await stations[1].registry.exchange.pull(stations[0].id)
        assert outcome.received >= 2
        for _ in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", leg.leg_port)
            writers.append(writer)
            writer.write(b"\0\0\0\0")
        await until(lambda: stations[0].registry.exchange.served["shunned"] >= 1)
        assert await stations[1].registry.exchange.reconcile(stations[0].id)
    finally:
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
        await kubo.p2p_close(protocol=protocol)


async def test_a_local_process_that_claims_to_bring_a_node_is_not_heard(
    kubos: tuple[KuboDaemon, ...], tmp_path: Path, swarm: str, stack: AsyncExitStack
) -> None:
    """THREATS 14, at the exchange: whoever is on this machine finds its port in `ipfs p2p ls`."""
    one, other = await start(stack, kubos[:2], tmp_path, swarm)
    port = next(each.listener_port for each in await one.kubo.p2p_ls() if each.protocol == f"/x/dragon-{one.id}")
    for number in range(1, 8):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(other.id.encode() + b"\n" + framing.frame(framing.Ask("sequence", {})))
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        await until(lambda number=number: one.registry.exchange.served["local-processes"] == number)
    assert (await other.registry.exchange.sequence(one.id)).sequence > 0, "the node itself is heard"
