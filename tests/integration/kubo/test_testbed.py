"""The test bed itself: what the other integration tests rely on."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.testbed.kubo import KuboDaemon


def test_three_daemons_are_connected(kubos: tuple[KuboDaemon, ...]) -> None:
    ids = {daemon.node_id for daemon in kubos}
    assert len(ids) == 3
    for daemon in kubos:
        peers = {line.rsplit("/", 1)[-1] for line in daemon.ipfs("swarm", "peers").split()}
        assert ids - {daemon.node_id} <= peers


def test_a_daemon_keeps_its_addresses_over_a_restart(kubo_factory: Callable[..., KuboDaemon]) -> None:
    daemon = kubo_factory()
    before = daemon.api, daemon.address, json.loads(daemon.ipfs("id"))["Addresses"]
    daemon.kill()
    daemon.start()
    assert (daemon.api, daemon.address, json.loads(daemon.ipfs("id"))["Addresses"]) == before
