"""NOSTR sync, end to end: real nodes, real Kubo tunnels, real relays. A–B–C is a chain: its ends know of B alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import NodeFactory, told
from tests.integration.constellation.conftest import People
from tests.testbed.events import Author, many
from tests.testbed.node import DragonNode, wait_for
from tests.testbed.relays import Kind, Relay

BOUND = 40.0
"""Seconds for what takes one or two, on a machine that is busy with other tests."""

FOLLOW_BOUND = 15.0
"""Seconds for an event to come by a live subscription; it takes a fraction of one."""

HOURLY_BOUND = 180.0
"""Seconds until a serving node's own first run has ended: it begins a minute after the start, up to two on a bad day."""


@dataclass(frozen=True, slots=True)
class Post:
    """A node and the relay beside it."""

    node: DragonNode
    relay: Relay

    @property
    def id(self) -> str:
        return str(self.node.json("status")["id"])

    def sync(self, *words: str) -> Any:
        """Run `dragon sync`, which must succeed, and return its report."""
        return self.node.json("sync", *words, timeout=120)

    def peers(self) -> set[str]:
        """The other nodes whose relay is offered."""
        offering = [peer for peer in self.node.json("peers") if any(offer["slug"] == "strfry" for offer in peer["offers"])]
        return {peer["alias"] for peer in offering if peer["state"] == "live" and not peer["self"]}


ON_REQUEST = "enabled = false\n"
"""For `[constellation]`: no run of the node's own comes in between."""


def a_post(
    make_node: NodeFactory, folder: Path, alias: str, kind: Kind, people: list[Author], tables: str = ON_REQUEST, **fields: Any
) -> Post:
    relay = Relay(kind, folder / alias).start()
    keys = json.dumps([person.pubkey for person in people])
    # The relay without NIP-77 has no page for who is no WebSocket: 426.
    text = (
        f"[catalogue.strfry]\nport = {relay.port}\naccept = [200, 426]\n[constellation]\nauthors = {keys}\ndays = 30\n{tables}"
    )
    node = make_node(alias, catalogue='only = ["strfry"]', tables=text, swarm="constellation", **fields).start()
    wait_for(lambda: node.json("status")["offers"] == 1, BOUND, partial(told, node))
    return Post(node, relay)


@pytest.fixture(scope="module")
def hourly(make_node: NodeFactory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Post, Post]]:
    """Two nodes of a swarm of their own; the first one syncs every minute by itself. Started first, looked at last."""
    folder = tmp_path_factory.mktemp("hourly")
    one, two = Author("one"), Author("two")
    posts: list[Post] = []
    try:
        posts.append(a_post(make_node, folder, "dora", "khatru", [one], "every = 60\n"))
        join = posts[0].node.json("status")["addresses"]
        posts.append(a_post(make_node, folder, "emil", "plain", [two], join=join))
        posts[1].relay.publish([author.note("hello", created_at=int(time.time()) - 60) for author in (one, two)])
        yield posts[0], posts[1]
    finally:
        for post in posts:
            post.relay.close()


@pytest.fixture(scope="module")
def people() -> People:
    return People()


@pytest.fixture(scope="module")
def chain(
    hourly: tuple[Post, Post], make_node: NodeFactory, tmp_path_factory: pytest.TempPathFactory, people: People
) -> Iterator[tuple[Post, Post, Post]]:
    """A and C admit B alone."""
    folder = tmp_path_factory.mktemp("chain")
    posts: list[Post] = []
    try:
        b = a_post(make_node, folder, "berta", "khatru", people.all)
        posts.append(b)
        only = f'{ON_REQUEST}[swarm]\nadmit = ["{b.id}"]\n'
        alone = b.node.run("sync")
        assert alone.returncode == 4, alone.stderr  # nobody else offers a relay yet
        assert alone.stderr.count("\n") == 1
        join = b.node.json("status")["addresses"]
        a = a_post(make_node, folder, "anton", "khatru", people.all, only, join=join)
        posts.append(a)
        c = a_post(make_node, folder, "cesar", "khatru", people.all, only, join=join)
        posts.append(c)
        for post, neighbours in ((a, {"berta"}), (b, {"anton", "cesar"}), (c, {"berta"})):
            wait_for(lambda post=post, others=neighbours: post.peers() == others, BOUND, partial(told, post.node))  # type: ignore[misc]
        for post, part in zip((a, b, c), people.parts(3), strict=True):
            post.relay.publish(part)
        yield a, b, c
    finally:
        for post in posts:
            post.relay.close()


def test_after_two_rounds_the_relays_of_a_chain_hold_the_same(chain: tuple[Post, Post, Post], people: People) -> None:
    a, b, c = chain
    for post in chain:
        report = post.sync()
        assert (report["state"], report["peers_ok"]) == ("ok", 2 if post is b else 1), report
    assert b.relay.ids() == people.truth  # the middle has all after one round, and C with it
    assert c.relay.ids() == people.truth
    for post in chain:
        assert post.sync()["state"] == "ok"
    assert a.relay.ids() == b.relay.ids() == c.relay.ids() == people.truth


def test_what_a_run_tells(chain: tuple[Post, Post, Post]) -> None:
    a, _, _ = chain
    report = a.sync()
    assert (report["state"], report["stored"], report["peers_total"]) == ("ok", 0, 1)
    (peer,) = report["peers"]
    assert (peer["alias"], peer["method"], peer["state"]) == ("berta", "nip77", "ok")
    runs = a.node.json("sync", "history")
    assert len(runs) >= 3
    assert a.node.json("sync", "status")["run"] is None
    plain = a.node.run("sync", "history")
    assert plain.returncode == 0
    page = a.node.run("sync", "history", "1", "--html").stdout.strip()
    assert Path(page).read_text().startswith("<!")
    assert not a.node.json("forwards"), "the tunnel of the run is closed with it"


def test_a_run_needs_a_node(tmp_path: Path, kubo_binary: Path) -> None:
    node = DragonNode(tmp_path / "home", "", env={"DRAGON_KUBO_BINARY": str(kubo_binary)})
    done = node.run("sync")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr


@contextmanager
def spawned(post: Post, *words: str) -> Iterator[subprocess.Popen[str]]:
    """`dragon sync WORDS…` in the background; ended with the block if it still runs."""
    command = [sys.executable, "-m", "dragon", "sync", *words]
    with subprocess.Popen(
        command, env=post.node.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def running(post: Post) -> Any:
    """What the run says that goes on; None where none does."""
    return post.node.json("sync", "status")["run"]


def test_two_runs_at_once_and_a_stop_in_order(chain: tuple[Post, Post, Post]) -> None:
    """The first one waits for a relay that is frozen; the second is told who runs, and since when; SIGTERM ends the first."""
    a, b, _ = chain
    with frozen(b.relay), spawned(a, "--json") as first:
        wait_for(lambda: running(a), BOUND)
        second = a.node.run("sync")
        assert second.returncode == 1
        assert f"pid {first.pid} for " in second.stderr
        first.send_signal(signal.SIGTERM)
        printed, complaints = first.communicate(timeout=BOUND)
    assert json.loads(printed)["state"] == "cancelled", complaints
    assert running(a) is None
    wait_for(lambda: a.peers() == {"berta"}, BOUND)
    assert a.sync()["state"] == "ok"


def test_the_lock_of_a_run_that_was_killed_is_taken_over_and_said(chain: tuple[Post, Post, Post]) -> None:
    a, b, _ = chain
    with frozen(b.relay), spawned(a) as first:
        wait_for(lambda: running(a), BOUND)
        first.kill()
        first.wait(10)
    wait_for(lambda: a.peers() == {"berta"}, BOUND)
    report = a.sync()
    assert report["state"] == "ok"
    assert any("took over" in note for note in report["notes"]), report["notes"]


def test_following_brings_a_new_event_at_once(chain: tuple[Post, Post, Post], people: People) -> None:
    a, b, _ = chain
    author = people.all[0]
    with spawned(a, "--follow") as follower:
        wait_for(lambda: following(a), BOUND, lambda: f"{a.node.json('sync', 'status')}")
        news = author.note("news", created_at=int(time.time()))
        b.relay.publish([news])
        wanted = {"kinds": [1], "authors": [author.pubkey], "since": news["created_at"]}
        wait_for(lambda: news["id"] in a.relay.ids(**wanted), FOLLOW_BOUND)
        follower.send_signal(signal.SIGTERM)
        follower.communicate(timeout=BOUND)
    assert a.sync()["stored"] == 0


def test_a_tunnel_that_breaks_in_the_middle(chain: tuple[Post, Post, Post], people: People) -> None:
    """The provider's Kubo is killed under a run: it ends in order with what it has, and another one brings the rest."""
    a, b, _ = chain
    notes = many(20_000, people.all, since=people.start, until=people.now, first=50_000)
    b.relay.load(notes)
    before = len(a.relay.ids())
    with spawned(a, "--json") as run:
        wait_for(lambda: (running(a) or {}).get("received") or run.poll() is not None, BOUND)
        pid = b.node.kubo_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        printed, complaints = run.communicate(timeout=120)
    report = json.loads(printed)
    assert report["state"] in ("ok", "failed"), complaints
    assert len(a.relay.ids()) - before == report["stored"]

    def through() -> bool:  # the two Kubos find each other again in their own time
        return a.peers() == {"berta"} and a.node.run("sync", timeout=120).returncode == 0

    wait_for(through, 2 * BOUND, partial(told, a.node))
    assert {note["id"] for note in notes} <= a.relay.ids()


@contextmanager
def frozen(relay: Relay) -> Iterator[None]:
    relay.freeze()
    try:
        yield
    finally:
        relay.thaw()


def following(post: Post) -> Any:
    return post.node.json("sync", "status")["follow"]


@pytest.mark.timeout(240)
def test_a_serving_node_syncs_by_itself_everybody_else_s_people_too(hourly: tuple[Post, Post]) -> None:
    """Dora keeps events for one, Emil for two: both are kept at both, and nobody had to type a word."""
    dora, emil = hourly
    wait_for(lambda: len(dora.relay.ids()) == 2, HOURLY_BOUND, lambda: dora.node.log[-3000:])
    wait_for(lambda: dora.node.json("sync", "history"), BOUND)
    (latest, *_) = dora.node.json("sync", "history")
    assert (latest["state"], latest["mode"]) == ("ok", "scheduled")
    assert dora.relay.ids() == emil.relay.ids()
