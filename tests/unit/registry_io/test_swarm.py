"""Registries in one loop: what one says, the others see; what was lost is repaired; nobody speaks in vain for long."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from dragon.config import RegistrySettings
from dragon.errors import ConfigError, KuboBusy, KuboRefused
from dragon.kubo.fake import FakeKubo, FakeNetwork
from dragon.registry.bootstrap import JoinAddress
from dragon.registry.gossip import topic_of
from tests.unit.registry_io.support import SWARM, ManualClock, Member, MemoryStore, Shared, Signer


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def clocks(*members: Member) -> Shared:
    return Shared(member.clock for member in members)


async def start(stack: AsyncExitStack, *members: Member) -> None:
    for member in members:
        await stack.enter_async_context(member.running())


async def three_in_step(tmp_path: Path, stack: AsyncExitStack) -> tuple[FakeNetwork, list[Member], Shared]:
    """Return three running nodes that all see one another."""
    network = FakeNetwork()
    members = [Member(network, tmp_path, seed=seed) for seed in range(3)]
    time = clocks(*members)
    await start(stack, *members)
    await time.until(lambda: all_see_all(*members))
    return network, members, time


def all_see_all(*members: Member) -> bool:
    return all(one.sees(other) for one in members for other in members)


async def test_what_one_says_the_others_see(tmp_path: Path, stack: AsyncExitStack) -> None:
    _, members, time = await three_in_step(tmp_path, stack)
    members[0].offer("ollama")
    await time.until(lambda: all(member.sees(members[0], "ollama") for member in members))
    assert all(member.store.held[members[0].id] for member in members[1:]), "what is admitted is stored"


async def test_a_burst_is_one_publication(tmp_path: Path, stack: AsyncExitStack) -> None:
    one, other = (Member(FakeNetwork(), tmp_path, seed=1) for _ in range(2))
    time = clocks(one)
    await start(stack, one)
    await time.until(lambda: one.registry.status()["published"]["sequence"])
    before = one.kubo.calls.count("publish")
    for number in range(50):
        one.offer(f"slug-{number}")
    await time.run(5)
    assert one.kubo.calls.count("publish") == before + 1
    assert one.sees(one, "slug-49")
    assert other.kubo.calls == []


async def test_the_last_of_many_states_is_seen(tmp_path: Path, stack: AsyncExitStack) -> None:
    network = FakeNetwork()
    members = [Member(network, tmp_path, seed=seed) for seed in range(2)]
    time = clocks(*members)
    await start(stack, *members)
    await time.until(lambda: all_see_all(*members))

    async def writer(number: int) -> None:
        for step in range(5):
            members[0].offer(f"w{number}-{step}")
            await asyncio.sleep(0)

    await asyncio.gather(*(writer(number) for number in range(8)))
    last = members[0].offers[0].slug
    await time.until(lambda: members[1].sees(members[0], last))


async def test_beats_keep_a_node_live_and_silence_ends_it(tmp_path: Path, stack: AsyncExitStack) -> None:
    network = FakeNetwork()
    one, other = (Member(network, tmp_path, seed=seed) for seed in range(2))
    time = clocks(one, other)
    await start(stack, one)
    async with other.running():
        await time.until(lambda: one.sees(other))
        await time.run(200)
        assert one.sees(other), "beats renew the lease"
    await time.run(50)
    assert one.sees(other), "a lease outlives its node by two to three beats"
    await time.run(50)
    assert one.state(other) == "silent"


async def test_a_clean_stop_is_seen_at_once(tmp_path: Path, stack: AsyncExitStack) -> None:
    network = FakeNetwork()
    one, other = (Member(network, tmp_path, seed=seed) for seed in range(2))
    time = clocks(one, other)
    await start(stack, one)
    async with other.running():
        other.offer("ollama")
        await time.until(lambda: one.sees(other, "ollama"))
        leaving = asyncio.create_task(other.registry.leave())
        await time.until(leaving.done)
        await leaving
    await time.until(lambda: one.state(other) == "left")
    assert one.view.providers("ollama", at=one.clock.monotonic()) == []


async def test_lost_messages_are_repaired_by_digest_and_exchange(tmp_path: Path, stack: AsyncExitStack) -> None:
    """THREATS 18: all pubsub from one node to another is lost; a third node's beats show the difference."""
    network, members, time = await three_in_step(tmp_path, stack)
    one, two, three = members
    network.lose = lambda sender, receiver, topic: (sender, receiver) == (one.id, three.id)
    one.offer("ollama")
    await time.until(lambda: two.sees(one, "ollama"))
    assert not three.sees(one, "ollama")
    before = three.clock.monotonic()
    await time.until(lambda: three.sees(one, "ollama"), step=0.25)
    assert three.clock.monotonic() - before <= 3 * 33 + 10, "within three beats"
    node = three.view.node(one.id, three.clock.monotonic())
    assert node is not None
    assert node.source == "exchange"


async def test_an_idle_swarm_exchanges_nothing_after_its_start(tmp_path: Path, stack: AsyncExitStack) -> None:
    network = FakeNetwork()
    members = [Member(network, tmp_path, seed=seed) for seed in range(3)]
    time = clocks(*members)
    await start(stack, *members)
    await time.until(lambda: all_see_all(*members) and all(each.registry.status()["exchanges"]["greeted"] for each in members))
    await time.run(70)
    before = [member.registry.counters["begun"] for member in members]
    await time.run(300, step=1)
    assert [member.registry.counters["begun"] for member in members] == before, "beats alone never differ"


async def test_a_newcomer_asks_two_peers_and_is_complete(tmp_path: Path, stack: AsyncExitStack) -> None:
    """THREATS 2: one of the two knows less than the other; the newcomer knows all."""
    network = FakeNetwork()
    members = [Member(network, tmp_path, seed=seed) for seed in range(3)]
    newcomer = Member(network, tmp_path, seed=9)
    for peer in members:
        network.cut(peer.id, newcomer.id)
    time = clocks(*members, newcomer)
    await start(stack, *members)
    await time.until(lambda: all_see_all(*members))
    wall = members[0].clock.now_ms()
    for number in range(20):  # one member alone knows them, as after a partition
        stranger = Signer(number + 1)
        members[0].view.admit(
            stranger.envelope(wall - number, ["comfyui"]),
            carrier=stranger.node_id,
            source="pubsub",
            heard_at=members[0].clock.monotonic(),
            now_ms=wall,
        )
    await start(stack, newcomer)
    await time.run(3)
    assert not newcomer.sees(members[0])
    network.link(newcomer.id, members[0].id)
    network.link(newcomer.id, members[1].id)
    connected = newcomer.clock.monotonic()
    await time.until(lambda: newcomer.registry.status()["exchanges"]["greeted"], step=0.02)
    assert newcomer.clock.monotonic() - connected < 5.5, "it had looked in vain for three seconds and looks seldom by then"
    assert len(newcomer.view.providers("comfyui", at=newcomer.clock.monotonic())) == 20
    served = [member.registry.exchange.served["asked"] for member in members[:2]]
    assert all(served), "both were asked"


async def test_a_partner_that_hangs_does_not_hold_up_a_newcomer(tmp_path: Path, stack: AsyncExitStack) -> None:
    network = FakeNetwork()
    member, newcomer = Member(network, tmp_path, seed=1), Member(network, tmp_path, seed=2)
    hanging = FakeKubo(network, 3)
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda reader, writer: writers.append(writer), "127.0.0.1", 0)
    stack.push_async_callback(hanging.close)

    def hang_up() -> None:
        server.close()
        for writer in writers:
            writer.close()

    stack.callback(hang_up)
    port = server.sockets[0].getsockname()[1]
    await hanging.p2p_listen(f"/x/dragon-{hanging.node_id}", f"/ip4/127.0.0.1/tcp/{port}", report_peer_id=True)
    await stack.enter_async_context(hanging.subscribe(topic_of(SWARM)))
    time = clocks(member, newcomer)
    await start(stack, member)
    await time.until(lambda: member.sees(member))
    member.view.note_connected(newcomer.id)
    await start(stack, newcomer)
    await time.until(lambda: newcomer.sees(member))
    assert not newcomer.registry.status()["exchanges"]["greeted"]


async def test_a_daemon_that_restarts_is_healed_from(tmp_path: Path, stack: AsyncExitStack) -> None:
    _, members, time = await three_in_step(tmp_path, stack)
    await members[0].kubo.stop()
    await time.until(lambda: not members[0].registry.status()["subscribed"])
    members[1].offer("orpheus")
    members[0].offer("ollama")
    await time.run(5)
    assert not members[1].sees(members[0], "ollama")
    members[0].kubo.start()
    await time.until(lambda: members[1].sees(members[0], "ollama") and members[0].sees(members[1], "orpheus"))
    await time.until(lambda: members[0].tunnels.is_up(f"/x/dragon-{members[0].id}"))


async def test_a_node_without_kubo_waits_for_it(tmp_path: Path, stack: AsyncExitStack) -> None:
    member = Member(FakeNetwork(), tmp_path, seed=1)
    await member.kubo.stop()
    time = clocks(member)
    await start(stack, member)
    await time.run(5)
    member.kubo.start()
    await time.until(lambda: member.sees(member))


async def test_a_second_dragon_on_one_kubo_is_refused(tmp_path: Path, stack: AsyncExitStack) -> None:
    network = FakeNetwork()
    first = Member(network, tmp_path / "..", seed=1)
    time = clocks(first)
    await start(stack, first)
    await time.until(lambda: first.sees(first))
    (tmp_path / "second").mkdir()
    second = Member(network, tmp_path / "second", seed=1, kubo=first.kubo)
    with pytest.raises(KuboBusy):
        await second.registry.run()


async def test_another_identity_behind_the_api_is_refused(tmp_path: Path) -> None:
    network = FakeNetwork()
    member = Member(network, tmp_path, seed=1)
    member.kubo._public = FakeKubo(network, 2)._public  # the daemon's repo was replaced
    member.kubo.node_id = FakeKubo(FakeNetwork(), 2).node_id
    with pytest.raises(KuboRefused, match="became"):
        await member.registry.run()


async def test_a_daemon_that_comes_back_as_another_node_ends_this_one(tmp_path: Path) -> None:
    """What it would sign now is not ours: the node stops with one line and is started as the new one."""
    network = FakeNetwork()
    member = Member(network, tmp_path, seed=1)
    time = clocks(member)

    async def outlived() -> None:
        async with member.running():
            await time.until(lambda: member.registry.status()["subscribed"])
            before, member.kubo.node_id = member.kubo.node_id, FakeKubo(FakeNetwork(), 2).node_id
            await member.kubo.stop()
            member.kubo.start()
            await time.until(lambda: not member.registry.status()["subscribed"])
            await time.run(5)
            member.kubo.node_id = before

    with pytest.raises(ExceptionGroup) as ended:
        await outlived()
    assert ended.group_contains(KuboRefused, match="became")


async def test_a_lost_home_continues_above_its_last_word(tmp_path: Path, stack: AsyncExitStack) -> None:
    """THREATS 2 and 17: the store is gone and the clock an hour behind; others still accept what it says."""
    network = FakeNetwork()
    one, other = (Member(network, tmp_path, seed=seed) for seed in range(2))
    time = clocks(one, other)
    await start(stack, one)
    async with other.running():
        await time.until(lambda: one.sees(other))
        said = other.registry.status()["published"]["sequence"]
    back = Member(network, tmp_path, seed=1, kubo=other.kubo, clock=ManualClock(skew_ms=-120_000), store=MemoryStore())
    back.clock.now = one.clock.now
    time = clocks(one, back)
    await start(stack, back)
    back.offer("ollama")
    await time.until(lambda: one.sees(back, "ollama"))
    assert back.registry.status()["published"]["sequence"] > said
    assert back.clock.now_ms() < said + 60_000, "its clock alone would have been too low"


async def test_a_clock_that_was_far_ahead_is_said_and_a_new_store_is_heard_again(
    tmp_path: Path, stack: AsyncExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    """THREATS 16: sequences never go back, so a node whose clock was set right is refused for as long as it had been ahead."""
    network = FakeNetwork()
    one, wrong = (Member(network, tmp_path, seed=seed) for seed in range(2))
    wrong.clock.skew_ms += 3_600_000
    time = clocks(one, wrong)
    await start(stack, one)
    async with wrong.running():
        await time.until(lambda: one.state(wrong) == "skewed")
        assert wrong.registry.status()["published"]["ahead"] == 0, "by its own clock nothing is wrong"
        wrong.clock.skew_ms -= 3_600_000
        wrong.offer("ollama")
        await time.until(lambda: wrong.sees(wrong, "ollama"))
        assert 3200 < wrong.registry.status()["published"]["ahead"] <= 3300
        await time.run(60)
        assert sum("what we say is 60 min ahead of our clock" in record.message for record in caplog.records) == 1
        assert one.state(wrong) == "skewed"
    again = Member(network, tmp_path, seed=1, kubo=wrong.kubo, clock=wrong.clock, store=MemoryStore())
    await start(stack, again)
    again.offer("ollama")
    await time.until(lambda: one.sees(again, "ollama"))


async def test_a_first_node_speaks_after_a_bounded_wait(tmp_path: Path, stack: AsyncExitStack) -> None:
    alone = Member(FakeNetwork(), tmp_path, seed=1)
    time = clocks(alone)
    began = alone.clock.monotonic()
    await start(stack, alone)
    await time.until(lambda: alone.registry.status()["published"]["sequence"])
    assert alone.clock.monotonic() - began < 4


async def test_a_restart_remembers_as_silent_until_confirmed(tmp_path: Path, stack: AsyncExitStack) -> None:
    network = FakeNetwork()
    one, other = (Member(network, tmp_path, seed=seed) for seed in range(2))
    time = clocks(one, other)
    async with one.running(), other.running():
        await time.until(lambda: all_see_all(one, other))
    again = Member(network, tmp_path, seed=0, kubo=one.kubo, clock=one.clock, store=one.store)
    await start(stack, again)
    await time.until(lambda: again.state(other) is not None)
    assert again.state(other) == "silent"
    assert again.registry.counters["restored"] == 1


async def silence(network: FakeNetwork, time: Shared, mute: Member) -> None:
    """Let all others drop what `mute` says, until it knows."""
    network.lose = lambda sender, receiver, topic: sender == mute.id and receiver != mute.id
    await time.until(lambda: mute.registry.status()["mute"], step=0.5)


async def test_a_mute_node_raises_the_alarm_and_speaks_through_the_exchange(tmp_path: Path, stack: AsyncExitStack) -> None:
    """THREATS 17: every message of one node is dropped by all others, as by Kubo's sequence check."""
    network, members, time = await three_in_step(tmp_path, stack)
    mute = members[0]
    await silence(network, time, mute)
    await time.run(200, step=1)
    assert all(member.sees(mute) for member in members), "its beats arrive by the exchange"
    network.lose = lambda sender, receiver, topic: False
    await time.until(lambda: not mute.registry.status()["mute"], step=0.5)


async def test_a_clock_that_stepped_back_hides_no_mute_publisher(tmp_path: Path, stack: AsyncExitStack) -> None:
    """THREATS 17, whole: the clock steps back, Kubo restarts with a counter below what others saw, and drops what we say."""
    network, members, time = await three_in_step(tmp_path, stack)
    mute = members[0]
    mute.clock.skew_ms -= 3_600_000
    await silence(network, time, mute)
    mute.offer("ollama")
    await time.until(lambda: members[1].sees(mute, "ollama"), step=0.5)


async def test_a_healthy_node_is_never_called_mute(tmp_path: Path, stack: AsyncExitStack) -> None:
    network = FakeNetwork()
    members = [Member(network, tmp_path, seed=seed) for seed in range(2)]
    time = clocks(*members)
    await start(stack, *members)
    await time.run(600, step=1)
    for member in members:
        status = member.registry.status()
        assert status["asked_about_us"]["asked"] >= 3
        assert "lagging" not in status["asked_about_us"]
        assert not status["mute"]


async def test_the_ipns_copy_follows_and_beats_beside_it_are_repeated(tmp_path: Path, stack: AsyncExitStack) -> None:
    network = FakeNetwork()
    one = Member(network, tmp_path, seed=1, ipns=True, settings=RegistrySettings(heartbeat=120, lease=360))
    time = clocks(one)
    release = asyncio.Event()
    publish_name = one.kubo.name_publish

    async def slow(cid: str, *, lifetime: str, ttl: str, key: str = "self") -> None:
        await release.wait()
        await publish_name(cid, lifetime=lifetime, ttl=ttl, key=key)

    one.kubo.name_publish = slow  # type: ignore[method-assign]
    await start(stack, one)
    await time.until(lambda: one.registry.status()["published"].get("beats"), step=1)
    assert not one.registry.status()["published"].get("repeated")
    release.set()
    await time.until(lambda: one.registry.status()["published"].get("repeated") == 1, step=1)
    first = one.kubo.names[one.id]
    copy = await one.kubo.cat(f"/ipns/{one.id}/dragon.manifest", limit=100_000)
    assert copy.startswith(b"\x83")
    one.offer("ollama")
    await time.run(300, step=3)
    assert one.kubo.names[one.id] == first, "at least ten minutes lie between two publications"
    await time.until(lambda: one.kubo.names[one.id] != first, step=10)
    count = one.registry.status()["ipns"]["published"]
    await time.run(1800, step=10)
    assert one.registry.status()["ipns"]["published"] == count, "unchanged, it waits for the hourly refresh"
    await time.run(2000, step=10)
    assert one.registry.status()["ipns"]["published"] == count + 1


async def test_a_lonely_node_finds_a_remembered_one(tmp_path: Path, stack: AsyncExitStack) -> None:
    """After a restart nobody is on the topic; a remembered node is dialled by its id, and leads back into the swarm."""
    network = FakeNetwork()
    one, other = (Member(network, tmp_path, seed=seed) for seed in range(2))
    time = clocks(one, other)
    async with one.running(), other.running():
        await time.until(lambda: all_see_all(one, other))
    network.cut(one.id, other.id)
    again = Member(network, tmp_path, seed=0, kubo=one.kubo, clock=one.clock, store=one.store)
    other_again = Member(network, tmp_path, seed=1, kubo=other.kubo, clock=other.clock, store=other.store)
    await start(stack, again, other_again)
    await time.until(lambda: again.sees(other_again) and other_again.sees(again), step=0.25)


async def test_an_unreachable_node_is_read_from_its_name(tmp_path: Path, stack: AsyncExitStack) -> None:
    network = FakeNetwork()
    one, other, between = (Member(network, tmp_path, seed=seed, ipns=True) for seed in range(3))
    time = clocks(one, other)
    async with one.running(), other.running():
        await time.until(lambda: all_see_all(one, other) and other.kubo.names)
    one.store.held.clear()
    wall = one.clock.now_ms()
    again = Member(network, tmp_path, seed=0, kubo=one.kubo, clock=one.clock, store=one.store)
    time = clocks(again)
    await time.run(50)
    verdict = await again.registry._ipns.read(other.id)
    assert verdict is not None
    assert again.sees(other), "said less than a lease ago: fresh"
    assert again.clock.now_ms() - wall >= 50_000
    await time.run(60)
    assert again.state(other) == "silent"
    assert await again.registry._ipns.read(between.id) is None


async def test_join_addresses_are_kept(tmp_path: Path, stack: AsyncExitStack) -> None:
    network = FakeNetwork(mesh=False)
    other = Member(network, tmp_path, seed=2)
    one = Member(network, tmp_path, seed=1, join=[f"/ip4/127.0.0.1/tcp/4001/p2p/{other.id}"])
    time = clocks(one, other)
    await other.kubo.stop()
    await start(stack, one)
    await time.until(lambda: one.registry.status()["join_problems"])
    other.kubo.start()
    await start(stack, other)
    await time.until(lambda: all_see_all(one, other))
    assert not one.registry.status()["join_problems"]
    network.cut(one.id, other.id)
    one.offer("ollama")
    await time.until(lambda: other.sees(one, "ollama"), step=0.25)


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWnonsense", "/unix/x/p2p/" + "1" * 46],
)
def test_a_malformed_join_address_says_what_was_expected(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        JoinAddress.parse(text)
    assert "/p2p/12D3KooW" in caught.value.hint


async def test_random_loss_converges_within_three_beats_after_it_stops(tmp_path: Path, stack: AsyncExitStack) -> None:
    network = FakeNetwork()
    members = [Member(network, tmp_path, seed=seed) for seed in range(4)]
    time = clocks(*members)
    rng = random.Random(7)
    network.lose = lambda sender, receiver, topic: sender != receiver and rng.random() < 0.5
    await start(stack, *members)
    for round_ in range(4):
        for member in members:
            member.offer(f"s{round_}")
        await time.run(10)
    network.lose = lambda sender, receiver, topic: False
    await time.run(3 * 33, step=0.5)
    assert all(one.sees(other, "s3") for one in members for other in members)
