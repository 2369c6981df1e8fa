"""What doctor finds on daemons that lack something, and the engine on an existing daemon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dragon.config import Settings
from dragon.errors import KuboMissing, KuboRefused, KuboUnfit, KuboUnreachable
from dragon.home import Home
from dragon.kubo import examine, open_kubo
from dragon.kubo.client import KuboClient
from dragon.kubo.engine import existing_api
from tests.integration.kubo.conftest import Kubos
from tests.testbed.kubo import KuboDaemon, is_running


async def test_a_fit_daemon_has_nothing_to_mend(client: KuboClient) -> None:
    findings = await examine(client)
    assert [finding.name for finding in findings] == ["Kubo", "version", "stream mounting", "pubsub", "IPNS over pubsub"]
    assert all(finding.ok and not finding.fix and finding.apply is None for finding in findings)


async def test_a_daemon_without_features_is_reported_refused_and_mended(
    kubo_factory: Callable[..., KuboDaemon], tmp_path: Path, unique: str
) -> None:
    daemon = kubo_factory(features=False)
    settings = Settings.model_validate({"kubo": {"api": daemon.api}})
    home = Home(tmp_path / "home")
    async with KuboClient(daemon.api) as client:
        lacking = {finding.name: finding for finding in await examine(client) if not finding.ok}
        assert {name: finding.fix for name, finding in lacking.items()} == {
            "stream mounting": "ipfs config --json Experimental.Libp2pStreamMounting true",
            "pubsub": "ipfs config --json Pubsub.Enabled true",
            "IPNS over pubsub": "ipfs config --json Ipns.UsePubsub true",
        }
        for call, hint in (
            (client.p2p_ls(), "Experimental.Libp2pStreamMounting true"),
            (client.publish(unique, b"x"), "Pubsub.Enabled true"),
        ):
            with pytest.raises(KuboRefused) as refusal:
                await call
            assert hint in refusal.value.hint

        with pytest.raises(KuboUnfit, match=r"lacks stream mounting .*, pubsub") as unfit:
            async with open_kubo(settings, home):
                pass
        assert "dragon doctor --fix" in unfit.value.hint
        assert "ipfs config --json Pubsub.Enabled true" in unfit.value.hint

        for finding in lacking.values():
            assert finding.apply is not None
            await finding.apply()
        waiting = [finding for finding in await examine(client) if not finding.ok]
        assert {finding.name for finding in waiting} == {"pubsub", "IPNS over pubsub"}  # tunnels work from now on
        assert all("restart the daemon" in finding.fix and finding.apply is None for finding in waiting)

    daemon.stop()
    daemon.start()
    async with KuboClient(daemon.api) as client:
        assert all(finding.ok for finding in await examine(client))
    async with open_kubo(settings, home) as engine:
        assert engine.identity.node_id == daemon.node_id
        assert engine.managed is None
        assert engine.kubo.address.port in engine.own_ports
        assert int(daemon.address.split("/")[4]) in engine.own_ports
    assert is_running(daemon.pid)  # an existing daemon is left as it was


async def test_a_dead_daemon_is_a_finding() -> None:
    async with KuboClient("/ip4/127.0.0.1/tcp/1") as client:
        [finding] = await examine(client)
    assert (finding.name, finding.ok) == ("Kubo", False)
    assert "start the daemon" in finding.fix


async def test_an_engine_of_our_own(kubo_binary: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    settings = Settings.model_validate({"node": {"isolated": True}, "kubo": {"binary": str(kubo_binary)}})
    async with open_kubo(settings, home) as engine:
        assert engine.managed is not None
        assert engine.identity.node_id == engine.managed.node_id
        assert {engine.managed.ports.api, engine.managed.ports.swarm} <= engine.own_ports
        pid = engine.managed.pid
    assert pid is not None
    assert not is_running(pid)


async def test_a_named_binary_that_will_not_do(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    for answer, error in (("0.29.0", KuboUnfit), ("nonsense", KuboMissing)):
        fake = tmp_path / "ipfs"
        fake.write_text(f"#!/bin/sh\necho {answer}\n")
        fake.chmod(0o755)
        with pytest.raises(error) as refusal:
            async with open_kubo(Settings.model_validate({"kubo": {"binary": str(fake)}}), home):
                pass
        assert refusal.value.hint


def test_an_existing_daemon_is_found_by_its_repo(kubos: Kubos, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    repo = kubos[0].repo
    assert existing_api(Settings.model_validate({"kubo": {"api": "http://kubo:5001"}})) == "http://kubo:5001"
    monkeypatch.setenv("IPFS_PATH", str(repo))
    assert existing_api(Settings.model_validate({"kubo": {"managed": False}})) == kubos[0].api
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    (stopped / "config").write_text('{"Addresses": {"API": ["/ip4/127.0.0.1/tcp/5009"]}}')
    monkeypatch.setenv("IPFS_PATH", str(stopped))
    assert existing_api(Settings.model_validate({"kubo": {"managed": False}})) == "/ip4/127.0.0.1/tcp/5009"
    monkeypatch.setenv("IPFS_PATH", str(tmp_path / "none"))
    with pytest.raises(KuboUnreachable, match="no Kubo repo"):
        existing_api(Settings.model_validate({"kubo": {"managed": False}}))
