"""THREATS 12: whatever the catalogue says, a listener leads to an allowed port of 127.0.0.1 or nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.clock import SystemClock
from dragon.config import GateSettings
from dragon.connect.serving import Serving
from dragon.connect.targets import allowed_target
from dragon.errors import DragonError, LocalError
from dragon.kubo.fake import FakeKubo, FakeNetwork
from dragon.kubo.tunnels import Tunnels
from dragon.probe import Finding, Survey, load_catalogue

KUBO_API, GATEWAY, SWARM, OURS = 5001, 8080, 4001, 12001
FORBIDDEN = frozenset({KUBO_API, GATEWAY, SWARM, OURS})

SPELLINGS = [
    "127.0.0.1:5001", "localhost:5001", "[::1]:5001", "0x7f.1:5001", "2130706433:5001", "0177.0.0.1:5001", "127.1:5001",
    "::ffff:127.0.0.1", "/ip4/127.0.0.1/tcp/5001", "/dns4/localhost/tcp/5001", "/unix/var/run/docker.sock", "unix:///run/docker.sock",
    "http://127.0.0.1:5001", "10.0.0.1:22", "example.org", "5001 ", "٥٠٠١", "05001", "5001/tcp", "0x1389", "5e3", "-1", "",
]  # fmt: skip

odd_ports = st.one_of(
    st.sampled_from([KUBO_API, GATEWAY, SWARM, OURS, 0, -1, 65536, 2**31, 2**64, True, False, None, 5001.0, b"5001"]),
    st.sampled_from(SPELLINGS),
    st.integers(-10, 70000),
    st.text(max_size=20),
)


@given(odd_ports)
@settings(max_examples=200)
def test_only_an_allowed_number_passes(port: object) -> None:
    try:
        passed = allowed_target(port, FORBIDDEN)
    except LocalError:
        return
    assert type(passed) is int
    assert 1 <= passed <= 65535
    assert passed not in FORBIDDEN


@given(port=odd_ports, native=odd_ports, access=st.sampled_from(["members", "public", "everybody", ["12D3KooW"], 7]))
@settings(max_examples=60, deadline=None)
async def test_no_spelling_leads_a_listener_anywhere_else(
    tmp_path_factory: pytest.TempPathFactory, port: object, native: object, access: object
) -> None:
    kubo = FakeKubo(FakeNetwork(), seed=1)
    folder: Path = tmp_path_factory.mktemp("targets")
    tunnels = Tunnels(kubo, folder / "tunnels.json", SystemClock(), forbidden=lambda: FORBIDDEN)
    try:
        catalogue = load_catalogue(overrides={"odd": {"port": native, "access": access}})
    except DragonError:
        catalogue = load_catalogue(overrides={"odd": {"port": 9999, "access": "public"}})
    serving = Serving(
        kubo.node_id, tunnels, catalogue, lambda _: True, SystemClock(), GateSettings(),
        is_kubo=lambda _: True, forbidden=lambda: FORBIDDEN,
    )  # fmt: skip
    finding = Finding("odd", port, "passing", {}, 0, "says so")  # type: ignore[arg-type]
    serving.update(Survey((finding,), {}, 0.0))
    await tunnels.settle()
    gates = serving.ports()
    for entry in await kubo.p2p_ls():
        match = re.fullmatch(r"/ip4/127\.0\.0\.1/tcp/(\d{1,5})", entry.target)
        assert match, entry
        assert int(match[1]) not in FORBIDDEN
        assert int(match[1]) in gates or int(match[1]) == port
    await serving.close()
    await tunnels.close()
    await kubo.close()


async def test_a_service_behind_a_tunnel_is_never_offered_again(tmp_path: Path) -> None:
    network = FakeNetwork()
    kubo, other = FakeKubo(network, seed=1), FakeKubo(network, seed=2)
    tunnels = Tunnels(kubo, tmp_path / "tunnels.json", SystemClock())
    leg = await tunnels.open_leg("/x/ollama-" + other.node_id, other.node_id)
    serving = Serving(
        kubo.node_id, tunnels, load_catalogue(), lambda _: True, SystemClock(), GateSettings(), is_kubo=lambda _: True
    )  # fmt: skip
    serving.update(Survey((Finding("ollama", leg.port, "passing", {}, 0, "port"),), {}, 0.0))
    await tunnels.settle()
    assert not [entry for entry in await kubo.p2p_ls() if entry.is_listener]
    assert "never offered" in serving.problems()["ollama"]
    await tunnels.close()
    await kubo.close()
