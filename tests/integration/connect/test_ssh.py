"""The SSH routes on real sshd and real services: reached, checked, refused, moved on, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import socket
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from dragon.astroport.remote import remote_variables
from dragon.clock import SystemClock
from dragon.config import ConnectSettings, SshOverride, SshSettings
from dragon.connect import ForwardRequest, ForwardResult
from dragon.connect.ssh import SshRoute, ssh_routes
from dragon.errors import LocalError, NoProvider, SshRefused, UsageError
from dragon.kubo.fake import FakeKubo, FakeNetwork
from dragon.probe import load_catalogue
from tests.testbed.fixtures_services import StartService
from tests.testbed.services import RunningService
from tests.testbed.sshd import SshServer
from tests.unit.connect import swarm
from tests.unit.connect.sockets import (
    Server,
    connect,
    echo,
    end_of,
    get,
    http,
    open_descriptors,
    receive,
    receive_all,
    send,
    until,
)

StartHost = Callable[..., SshServer]

CATALOGUE = load_catalogue(overrides={"echo": {"port": 7007}})


HOST = "station.test"
"""The host's name, on loopback in both families (`localhost` has no IPv6 address on every machine)."""


@pytest.fixture(autouse=True)
def _name_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo

    def known(host: Any, port: Any, family: int = 0, *rest: Any, **options: Any) -> Any:
        if host == HOST:
            host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        return resolve(host, port, family, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", known)


class World:
    """A consumer whose SSH routes lead to a host of the test, and providers in memory beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network = FakeNetwork()
        self.stack = AsyncExitStack()
        self.me: swarm.Consumer
        self.ssh6: SshRoute
        self.ssh4: SshRoute

    async def open(
        self, settings: SshSettings, *, cascade: Any = "dual", variables: Mapping[str, str] | None = None, **connect: Any
    ) -> None:
        kubo = FakeKubo(self.network, seed=0)
        self.stack.push_async_callback(kubo.close)
        routes = ssh_routes(
            settings, variables or {}, port_of=lambda slug: CATALOGUE.get(slug).port if slug in CATALOGUE else None,
            own_file=self.folder / "own_known_hosts", clock=SystemClock(), dial_timeout=8,
        )  # fmt: skip
        for name, route in routes.items():
            assert isinstance(route, SshRoute)
            setattr(self, name, route)
        self.me = await self.stack.enter_async_context(
            swarm.consumer(
                kubo, self.folder, settings=ConnectSettings(cascade=cascade, test_timeout=5.0, **connect), routes=routes
            )
        )

    async def add(self, name: str, slug: str = "ollama") -> swarm.Provider:
        service = await self.stack.enter_async_context(Server(http(name)))
        kubo = FakeKubo(self.network, seed=len(name))
        self.stack.push_async_callback(kubo.close)
        provider = await self.stack.enter_async_context(swarm.provider(kubo, self.folder, name))
        await provider.offer(slug, service.port, labels={"model": "llama3.2"} if slug == "ollama" else {})
        await self.me.hear(provider)
        return provider

    async def forward(self, slug: str = "ollama", target: str = "auto", **options: Any) -> ForwardResult:
        return await self.me.forwards.forward(ForwardRequest(slug, target, **options))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    async with world.stack:
        yield world


def settings_for(
    server: SshServer, tmp_path: Path, service_port: int, *, known: tuple[str, ...] = (HOST,), **words: Any
) -> SshSettings:
    """Settings under which `HOST` is that server: over IPv6 as well as over IPv4, unless `words` say otherwise."""
    file = tmp_path / "known_hosts"
    file.write_text("# a comment\n" + "".join(server.known_line(each) for each in known))
    said = {
        "host": HOST, "user": server.user, "port6": server.port, "port4": server.port, "known_hosts": (file,),
        "keys": (server.user_key,), "agent": False, "entries": {
            "ollama": SshOverride(port=service_port), "echo": SshOverride(port=service_port),
        },
    }  # fmt: skip
    return SshSettings(**{**said, **words})


@pytest.fixture
def ollama(http_service: StartService) -> RunningService:
    return http_service(name="ollama", models=["llama3.2:latest"])


async def whoami(port: int) -> Any:
    def ask() -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/whoami", timeout=20) as answer:
            return json.load(answer)

    return await asyncio.to_thread(ask)


@pytest.mark.parametrize(("via", "address"), [("ssh6", "::1"), ("ssh4", "127.0.0.1")])
async def test_each_route_reaches_the_service_over_its_own_family(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path, via: str, address: str
) -> None:
    server = ssh_host(addresses=[address])
    await world.open(settings_for(server, tmp_path, ollama.port))
    result = await world.forward(via=via)
    assert (result.route, result.provider, result.reused) == (via, f"{via}:{server.user}@{HOST}:{server.port}", False)
    assert (await whoami(result.port))["pid"] == ollama.pid
    [info] = world.me.forwards.list()
    assert (info.route, info.provider, info.alias, info.healthy) == (via, result.provider, HOST, True)
    assert (await world.forward(via=via)).reused
    other = "ssh4" if via == "ssh6" else "ssh6"
    with pytest.raises(NoProvider, match="ollama cannot be used") as caught:
        await world.forward(via=other)
    assert caught.value.exit_code == 4
    assert "Connection refused" in caught.value.hint


async def test_one_login_serves_all_services_and_closes_when_idle(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path
) -> None:
    server = ssh_host()
    async with Server(echo) as echoing:
        settings = settings_for(
            server, tmp_path, ollama.port,
            entries={"ollama": SshOverride(port=ollama.port), "comfyui": SshOverride(port=echoing.port)},
        )  # fmt: skip
        await world.open(settings)
        results = await asyncio.gather(
            *(world.forward(via="ssh4", where={} if n % 2 else {"model": "llama3.2"}) for n in range(20))
        )
        assert {result.provider for result in results} == {f"ssh4:{server.user}@{HOST}:{server.port}"}
        assert world.ssh4.logins == 1
        later = SystemClock().monotonic() + 1000

        async def idle() -> bool:
            return await world.ssh4.close_idle(later) == 1

        await until(idle)
        assert world.ssh4.logins == 0
        assert (await whoami(results[0].port))["name"] == "ollama"  # the port stayed; the login is opened again
        assert world.ssh4.logins == 1


@pytest.mark.parametrize(
    ("cascade", "expected"), [("dual", "ssh4"), ("p2p-first", "p2p"), ("production", "p2p")], ids=lambda word: word
)
async def test_the_preset_decides_which_route_is_first(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path, cascade: str, expected: str
) -> None:
    server = ssh_host()
    await world.open(settings_for(server, tmp_path, ollama.port), cascade=cascade)
    await world.add("alpha")
    result = await world.forward()
    assert result.route == expected
    explained = world.me.forwards.explain("ollama")
    assert explained.chosen == result.provider


async def test_only_what_the_catalogue_allows_and_never_for_a_named_node(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path
) -> None:
    server = ssh_host()
    await world.open(settings_for(server, tmp_path, ollama.port))
    with pytest.raises(UsageError, match="does not allow route ssh4"):
        await world.forward("orpheus", via="ssh4")
    with pytest.raises(NoProvider, match="nobody offers orpheus"):
        await world.forward("orpheus")
    alpha = await world.add("alpha")
    assert (await world.forward(target="alpha")).provider == alpha.node_id
    with pytest.raises(UsageError, match="not to a node"):
        await world.forward(target="alpha", via="ssh4")
    assert (world.ssh6.logins, world.ssh4.logins) == (0, 0)


async def test_labels_are_asked_of_the_service_itself(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path
) -> None:
    server = ssh_host()
    await world.open(settings_for(server, tmp_path, ollama.port))
    assert (await world.forward(where={"model": "llama3.2"})).route == "ssh4"
    with pytest.raises(NoProvider) as caught:
        await world.forward(where={"model": "mistral"})
    assert "model=mistral" in str(caught.value) + caught.value.hint


async def test_explain_tells_of_the_host_and_what_was_measured(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path
) -> None:
    server = ssh_host(addresses=["127.0.0.1"])
    await world.open(settings_for(server, tmp_path, ollama.port))
    await world.forward()
    explained = world.me.forwards.explain("ollama")
    assert explained.cascade == ("local", "ssh6", "ssh4", "p2p")
    lines = {line.route: line for line in explained.candidates}
    assert lines["ssh4"].verdict == "chosen"
    assert (lines["ssh4"].alias, lines["ssh4"].said["trust"]) == (HOST, "configured")
    assert lines["ssh4"].measured["attempts"] == 1
    assert "Connection refused" in lines["ssh6"].measured["last_failure"]


async def test_another_host_key_is_refused_loudly_and_the_next_route_serves(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = ssh_host()
    settings = settings_for(server, tmp_path, ollama.port, known=("other", HOST))
    server.new_key("host_key")
    server.kill()
    server.start()
    await world.open(settings)
    alpha = await world.add("alpha")
    assert (await world.forward()).provider == alpha.node_id
    assert any(record.levelno == logging.ERROR and "HAS CHANGED" in record.message for record in caplog.records)
    with pytest.raises(SshRefused) as caught:
        await world.forward(via="ssh4")
    file = tmp_path / "known_hosts"
    assert f"{file}:3 has another one" in str(caught.value)
    assert f"remove line 3 of {file}" in caught.value.hint
    assert caught.value.exit_code == 1
    assert world.ssh4.logins == 0


async def test_a_key_of_another_kind_is_a_changed_key_too(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path
) -> None:
    server = ssh_host()
    settings = settings_for(server, tmp_path, ollama.port, known=())
    rsa = "AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7" + "A" * 131 + "=="
    import asyncssh

    other = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode()
    (tmp_path / "known_hosts").write_text(f"broken line\n[{HOST}]:{server.port} ssh-rsa {rsa}\n[{HOST}]:{server.port} {other}")
    await world.open(settings)
    with pytest.raises(SshRefused, match=r"HAS CHANGED.*known_hosts:3"):
        await world.forward(via="ssh4")


async def test_a_revoked_key_is_refused_although_it_is_known(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path
) -> None:
    server = ssh_host()
    settings = settings_for(server, tmp_path, ollama.port, trust_on_first_use=True)
    with (tmp_path / "known_hosts").open("a") as known:
        known.write(f"@revoked {server.known_line(HOST)}")
    await world.open(settings)
    with pytest.raises(SshRefused, match="revoked"):
        await world.forward(via="ssh4")


async def test_an_unknown_host_is_refused_unless_first_use_is_trusted_and_then_it_is_kept(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path
) -> None:
    server = ssh_host()
    settings = settings_for(server, tmp_path, ollama.port, known=())
    careful = World(tmp_path)
    async with careful.stack:
        await careful.open(settings)
        with pytest.raises(SshRefused, match="is not known") as caught:
            await careful.forward(via="ssh4")
        assert "trust_on_first_use" in caught.value.hint
        assert "SHA256:" in str(caught.value)
    own = tmp_path / "own_known_hosts"
    assert not own.exists()
    trusting = World(tmp_path)
    async with trusting.stack:
        await trusting.open(settings.model_copy(update={"trust_on_first_use": True}))
        assert (await trusting.forward(via="ssh4")).route == "ssh4"
    assert own.read_text() == " ".join(server.known_line(HOST).split()[:3]) + "\n"
    await world.open(settings)
    assert (await world.forward(via="ssh4")).route == "ssh4"  # known by now
    await world.me.forwards.off(None)
    server.new_key("host_key")
    server.kill()
    server.start()
    late = World(tmp_path)
    async with late.stack:
        await late.open(settings.model_copy(update={"trust_on_first_use": True}))
        with pytest.raises(SshRefused, match=r"HAS CHANGED.*own_known_hosts:1"):
            await late.forward(via="ssh4")


async def test_a_host_that_does_not_let_us_in(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path
) -> None:
    server = ssh_host()
    stranger = server.new_key("stranger")
    await world.open(settings_for(server, tmp_path, ollama.port, keys=(stranger,)))
    with pytest.raises(SshRefused, match="none of our keys lets us in") as caught:
        await world.forward(via="ssh4")
    assert str(stranger) in caught.value.hint
    shutil.copy(stranger.with_suffix(".pub"), server.folder / "authorized_keys")
    with pytest.raises(SshRefused, match="none of our keys"):  # not asked again at once: it would look like guessing
        await world.forward(via="ssh4")

    async def let_in() -> bool:
        try:
            return (await world.forward(via="ssh4")).route == "ssh4"
        except SshRefused:
            return False

    await until(let_in)


async def test_a_host_that_lets_nobody_in_is_passed_over(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path
) -> None:
    server = ssh_host()
    await world.open(settings_for(server, tmp_path, ollama.port, keys=(server.new_key("stranger"),)))
    alpha = await world.add("alpha")
    assert (await world.forward()).provider == alpha.node_id


@pytest.mark.parametrize("what", ["missing", "no key", "locked"])
async def test_a_key_file_that_cannot_be_used(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path, what: str
) -> None:
    server = ssh_host()
    file = tmp_path / "key"
    if what == "no key":
        file.write_text("hello")
    elif what == "locked":
        asking = await asyncio.create_subprocess_exec("ssh-keygen", "-q", "-t", "ed25519", "-N", "a secret", "-f", str(file))
        assert await asking.wait() == 0
    await world.open(settings_for(server, tmp_path, ollama.port, keys=(file,)))
    with pytest.raises(SshRefused, match=r"ssh\.keys") as caught:
        await world.forward(via="ssh4")
    assert "ssh-agent" in caught.value.hint


async def test_the_agent_is_asked(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ssh_host()
    agent = tmp_path / "agent"
    process = await asyncio.create_subprocess_exec(
        "ssh-agent", "-D", "-a", str(agent), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await until(agent.exists)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
        monkeypatch.setenv("HOME", str(tmp_path))
        adding = await asyncio.create_subprocess_exec("ssh-add", "-q", str(server.user_key))
        assert await adding.wait() == 0
        await world.open(settings_for(server, tmp_path, ollama.port, keys=(), agent=True))
        assert (await world.forward(via="ssh4")).route == "ssh4"
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize(
    ("options", "says"),
    [(["AllowTcpForwarding no"], "does not let us forward"), (["PermitOpen 127.0.0.1:1"], "does not let us forward")],
    ids=["no forwarding", "another port"],
)
async def test_a_refused_port_forward_is_said_and_the_next_provider_serves(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path, options: list[str], says: str
) -> None:
    server = ssh_host(options=options)
    await world.open(settings_for(server, tmp_path, ollama.port))
    with pytest.raises(NoProvider) as caught:
        await world.forward(via="ssh4")
    assert says in caught.value.hint
    alpha = await world.add("alpha")
    assert (await world.forward()).provider == alpha.node_id


async def test_a_service_that_does_not_run_on_the_host(
    world: World, ssh_host: StartHost, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    server = ssh_host()
    await world.open(settings_for(server, tmp_path, unused_port()))
    with pytest.raises(NoProvider) as caught:
        await world.forward()
    assert "nothing answers on port" in caught.value.hint


async def test_a_host_that_is_killed_under_a_forward_is_followed_by_the_next_route_and_used_again(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path
) -> None:
    server = ssh_host(addresses=["::1", "127.0.0.1"])
    settings = settings_for(server, tmp_path, ollama.port)
    await world.open(settings)
    alpha = await world.add("alpha")
    result = await world.forward()
    assert result.route == "ssh6"
    streaming = await connect(result.port)
    await send(streaming, b"GET /sleep/60 HTTP/1.1\r\nHost: x\r\n\r\n")
    await until(lambda: world.me.forwards.list()[0].connections == 1)
    server.kill()
    assert await get(result.port) == "alpha"
    streaming.close()
    [info] = world.me.forwards.list()
    assert (info.provider, info.route, info.port) == (alpha.node_id, "p2p", result.port)
    assert world.me.forwards.explain("ollama").chosen == alpha.node_id
    server.start()
    await world.me.forwards.off(None)

    async def back() -> bool:
        answer = await world.forward()
        await world.me.forwards.off(None)
        return answer.route == "ssh6"

    await until(back)


async def test_one_family_lost_leads_to_the_other(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path
) -> None:
    six, four = ssh_host(addresses=["::1"]), ssh_host(addresses=["127.0.0.1"])
    (four.folder / "authorized_keys").write_text((six.folder / "user_key.pub").read_text())
    settings = settings_for(six, tmp_path, ollama.port, port4=four.port)
    with (tmp_path / "known_hosts").open("a") as known:
        known.write(four.known_line(HOST))
    await world.open(settings)
    result = await world.forward()
    assert result.route == "ssh6"
    six.kill()
    assert (await whoami(result.port))["pid"] == ollama.pid
    assert [info.route for info in world.me.forwards.list()] == ["ssh4"]


async def test_a_frozen_host_ends_what_runs_through_it(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path
) -> None:
    server = ssh_host()
    await world.open(settings_for(server, tmp_path, ollama.port, keepalive=0.2))
    result = await world.forward(via="ssh4")
    client = await connect(result.port)
    await send(client, b"GET /bytes/10 HTTP/1.1\r\nHost: x\r\n\r\n")
    await receive(client, 20)
    server.freeze()
    try:
        assert await end_of(client) == "reset"
    finally:
        server.thaw()
        client.close()


async def test_a_service_that_dies_is_not_taken_for_the_host(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path
) -> None:
    server = ssh_host()
    await world.open(settings_for(server, tmp_path, ollama.port))
    alpha = await world.add("alpha")
    result = await world.forward()
    assert result.route == "ssh4"
    ollama.kill()
    assert await get(result.port) == "alpha"
    assert world.me.forwards.list()[0].provider == alpha.node_id
    assert world.ssh4.logins == 1


@pytest.mark.parametrize("size", [1, 100_000, 5_000_000])
async def test_half_closed_streams_work(world: World, ssh_host: StartHost, tmp_path: Path, size: int) -> None:
    """The client ends its direction, the service answers only then: what a Kubo tunnel cannot carry."""

    async def counts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = await reader.read()
        writer.write(said[::-1])
        await writer.drain()

    server = ssh_host()
    async with Server(counts) as service:
        await world.open(settings_for(server, tmp_path, service.port))
        near = await world.ssh4.dial(f"ssh4:{server.user}@{HOST}:{server.port}", "ollama")
        said = os.urandom(size)
        sending = asyncio.create_task(send(near, said))
        await sending
        near.shutdown(1)
        assert await receive_all(near) == said[::-1]
        near.close()
        world.ssh4.hung_up("", "", near)
        await until(lambda: not world.ssh4._dialled)


async def test_nothing_is_left_after_200_connections(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path
) -> None:
    server = ssh_host()
    await world.open(settings_for(server, tmp_path, ollama.port))
    result = await world.forward()
    assert await get(result.port) == "ollama"

    def held() -> tuple[int, int, int]:
        session = psutil.Process(server.pid).children(recursive=True)
        return open_descriptors(), len(asyncio.all_tasks()), sum(each.num_fds() for each in session)

    await until(lambda: world.me.forwards.list()[0].connections == 0)
    await asyncio.sleep(0)
    before = held()
    for _ in range(20):
        assert await asyncio.gather(*(get(result.port) for _ in range(9))) == ["ollama"] * 9
        silent = await connect(result.port)  # and one that says nothing and leaves
        silent.close()
    await until(lambda: all(now <= then for now, then in zip(held(), before, strict=True)))
    await until(lambda: server.connections() == 1)
    await world.me.forwards.off(None)
    await world.ssh4.close()
    await until(lambda: server.connections() == 0)


async def test_a_stations_variables_name_the_host(
    world: World, ssh_host: StartHost, ollama: RunningService, tmp_path: Path
) -> None:
    server = ssh_host()
    folder = tmp_path / "zen" / "Astroport.ONE"
    folder.mkdir(parents=True)
    (folder / ".env").write_text(f'SWARM_REMOTE_HOST="127.0.0.1"\nexport SWARM_REMOTE_PORT_IPV4={server.port}\n')
    settings = settings_for(server, tmp_path, ollama.port, known=("127.0.0.1",), host=None, user=None, port4=1)
    variables = remote_variables({"SWARM_REMOTE_HOST": "nowhere.invalid", "OLLAMA_REMOTE_USER": server.user}, tmp_path / "zen")
    await world.open(settings, variables=variables)
    result = await world.forward()
    assert (result.route, result.provider) == ("ssh4", f"ssh4:{server.user}@127.0.0.1:{server.port}")
    with pytest.raises(LocalError, match="leads to no host"):
        await world.forward(via="ssh6")
