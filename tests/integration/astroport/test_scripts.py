"""What a generated x_<slug>.sh does when plain bash runs it, and that no value ever leaves its quotes."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.astroport.script_text import BODY
from dragon.astroport.scripts import PORT_MARK, exports_of, is_login, script_for, script_name, script_of, slug_of
from dragon.connect.station_port import station_port
from dragon.errors import LocalError
from dragon.probe.catalogue import load_catalogue
from registry_schema import make_offer
from tests.testbed.ports import free_port
from tests.unit.astroport.fake_ipfs import FakeIpfs
from tests.unit.registry_schema.hostile import HOSTILE_NAMES
from tests.unit.registry_schema.identities import ALICE, BOB, RSA

ID = ALICE.node_id
PROTO = f"/x/ollama-{ID}"
TARGET = f"/p2p/{ID}"
EXPORTS = {"OLLAMA_API_BASE": f"http://127.0.0.1:{PORT_MARK}"}

STRANGE = (*HOSTILE_NAMES, "a'b", 'a"b', "$HOME", "*", "é$(x)", f"{PORT_MARK}{PORT_MARK}", "a b", "'", "''", "~", "!x", "#")


def run(ipfs: FakeIpfs, text: str, *words: str, program: tuple[str, ...] = ("/bin/bash",)) -> tuple[int, list[str]]:
    """Run the script with nothing but `ipfs` on its PATH, from a folder that is not its own."""
    file = ipfs.folder / "x_ollama.sh"
    file.write_text(text)
    file.chmod(0o755)
    done = subprocess.run(
        [*program, str(file), *words], env={"PATH": str(ipfs.path)}, cwd="/", capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def taken(*ports: int) -> ExitStack:
    stack = ExitStack()
    for port in ports:
        stack.enter_context(socket.create_server(("127.0.0.1", port)))
    return stack


def ports_of(ipfs: FakeIpfs) -> list[str]:
    return [listen for protocol, listen, target in ipfs.tunnels if (protocol, target) == (PROTO, TARGET)]


@pytest.mark.parametrize("program", [("/bin/bash",), ()], ids=["bash FILE", "FILE"])
def test_it_opens_the_usual_port_and_says_how_to_use_it(ipfs: FakeIpfs, program: tuple[str, ...]) -> None:
    port, alt = free_port(), station_port(ID, "ollama")
    code, lines = run(ipfs, script_for(ID, "ollama", port, label="Ollama LLM API", exports=EXPORTS), program=program)
    assert code == 0
    assert lines == [
        "Établissement du tunnel Ollama LLM API...",
        f"Port local : {port} (Natif: {port} | Alt: {alt})",
        f"export OLLAMA_API_BASE=http://127.0.0.1:{port}",
    ]
    assert ports_of(ipfs) == [f"/ip4/127.0.0.1/tcp/{port}"]
    assert all(any(word.startswith("--timeout=") for word in words) for words in ipfs.calls)


def test_an_open_tunnel_is_found_again(ipfs: FakeIpfs) -> None:
    text = script_for(ID, "ollama", port := free_port(), exports=EXPORTS)
    assert run(ipfs, text)[0] == 0
    code, lines = run(ipfs, text)
    assert (code, len(ports_of(ipfs))) == (0, 1)
    assert "already active" in lines[0]
    assert lines[-1] == f"export OLLAMA_API_BASE=http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("native", "busy", "expected"),
    [
        ("free", (), "native"),
        ("free", ("native",), 0),
        ("free", ("native", 0), 1),
        ("free", ("native", 0, 1, 2), 3),
        (22, (), 0),
        (7, (0,), 1),
        (1023, (), 0),
    ],
)
def test_which_port(ipfs: FakeIpfs, native: str | int, busy: tuple[str | int, ...], expected: str | int) -> None:
    alt = station_port(ID, "ollama")
    number = free_port() if isinstance(native, str) else native

    def port(word: str | int) -> int:
        return number if isinstance(word, str) else alt + 1000 * word

    text = script_for(ID, "ollama", number)
    with taken(*(port(word) for word in busy)):
        assert run(ipfs, text)[0] == 0
        assert ports_of(ipfs) == [f"/ip4/127.0.0.1/tcp/{port(expected)}"]
        code, lines = run(ipfs, text)
    assert (code, f"Port local : {port(expected)} " in lines[1], len(ports_of(ipfs))) == (0, True, 1)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "::1", "127.0.0.2"])
def test_only_what_keeps_our_address_busy_counts(ipfs: FakeIpfs, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    port = free_port()
    with socket.create_server((address, port), family=family, dualstack_ipv6=address == "::"):
        assert run(ipfs, script_for(ID, "ollama", port))[0] == 0
    free = address in ("::1", "127.0.0.2")
    assert ports_of(ipfs) == [f"/ip4/127.0.0.1/tcp/{port if free else station_port(ID, 'ollama')}"]


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"reachable": False}, "ERREUR : Station injoignable."),
        ({"alive": False}, "no answer from Kubo"),
        ({"binds": False}, "no local port"),
    ],
)
def test_what_fails_says_so_and_leaves_nothing(ipfs: FakeIpfs, state: dict[str, bool], says: str) -> None:
    for name, value in state.items():
        setattr(ipfs, name, value)
    code, lines = run(ipfs, script_for(ID, "ollama", free_port()))
    assert code == 1
    assert says in lines[-1]
    assert ipfs.tunnels == []


def test_a_tunnel_to_a_dead_station_is_no_success(ipfs: FakeIpfs) -> None:
    text = script_for(ID, "ollama", free_port())
    run(ipfs, text)
    ipfs.reachable = False
    assert run(ipfs, text) == (1, ["ERREUR : Station injoignable."])


@pytest.mark.parametrize("word", ["stop", "STOP", "off", "Off"])
def test_stop_closes_its_own_tunnel_and_no_other(ipfs: FakeIpfs, word: str) -> None:
    others = [
        (PROTO, f"/p2p/{ID}", "/ip4/127.0.0.1/tcp/11434"),  # the station's own published listener
        (PROTO, "/ip4/127.0.0.1/tcp/41234", TARGET),  # a leg of a Dragon on the same daemon
        (PROTO, "/unix/run/legs/1", TARGET),
        (f"/x/ollama-2-{ID}", f"/ip4/127.0.0.1/tcp/{station_port(ID, 'ollama')}", TARGET),
        (PROTO, f"/ip4/127.0.0.1/tcp/{station_port(ID, 'ollama')}", f"/p2p/{BOB.node_id}"),
    ]
    ipfs.tunnels.extend(others)
    text = script_for(ID, "ollama", free_port())
    assert run(ipfs, text)[0] == 0
    assert len(ipfs.tunnels) == len(others) + 1
    assert run(ipfs, text, word) == (0, [])
    assert ipfs.tunnels == others
    assert run(ipfs, text, word) == (0, [])


def test_a_leg_of_dragon_is_not_taken_for_the_tunnel(ipfs: FakeIpfs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as leg:
        ipfs.tunnels.append((PROTO, f"/ip4/127.0.0.1/tcp/{leg.getsockname()[1]}", TARGET))
        port = free_port()
        assert run(ipfs, script_for(ID, "ollama", port))[0] == 0
    assert ports_of(ipfs)[1:] == [f"/ip4/127.0.0.1/tcp/{port}"]


def test_dockers_bridge_only_when_asked(ipfs: FakeIpfs) -> None:
    routes = ipfs.folder / "route"
    routes.write_text(
        "Iface\tDestination\tGateway\tFlags\neth0\t00000000\t0101A8C0\t0003\n"
        "docker0\t00FEFE7F\t00000000\t0001\nwlan0\t0001A8C0\t00000000\t0001\n"
    )
    port = free_port()
    text = script_for(ID, "ollama", port, docker_bridge=True).replace("/proc/net/route", str(routes))
    assert run(ipfs, text)[0] == 0
    assert ports_of(ipfs) == [f"/ip4/127.0.0.1/tcp/{port}", f"/ip4/127.254.254.1/tcp/{port}"]
    assert run(ipfs, text, "stop") == (0, [])
    assert ipfs.tunnels == []
    assert "/proc/net/route" not in script_for(ID, "ollama", port)


def test_ssh_says_how_to_log_in(ipfs: FakeIpfs) -> None:
    code, lines = run(ipfs, script_for(ID, "ssh", 22, remote_user="bob"))
    assert (code, lines[-1]) == (0, f"ssh -X bob@localhost -p {station_port(ID, 'ssh')}")


def test_the_lines_that_others_look_for() -> None:
    text = script_for(ID, "ssh", 22, remote_user="bob")
    lines = text.splitlines()
    assert {f'NODE_ID="{ID}"', f'PROTO="/x/ssh-{ID}"', 'REMOTE_USER="bob"', 'NATIVE_PORT="22"'} < set(lines)
    assert f'ALT_PORT="{station_port(ID, "ssh")}"' in lines
    for name in ("NATIVE_PORT", "ALT_PORT"):  # whichever way they look, each stands there once
        assert len(re.findall(rf'{name}="[0-9]+', text)) == 1
    assert text == script_for(ID, "ssh", 22, remote_user="bob")
    assert "hostname -I" not in text


def test_ports_labels_and_names_are_those_of_the_catalogue() -> None:
    catalogue = load_catalogue()
    strfry = script_of(make_offer("strfry", ID, 7777, scheme="ws"), ID, catalogue)
    assert 'NATIVE_PORT="9999"' in strfry
    assert "export NOSTR_RELAY=ws://127.0.0.1:" in strfry
    assert 'NATIVE_PORT="4711"' in script_of(make_offer("my-own", ID, 4711), ID, catalogue)
    assert "REMOTE_USER" not in script_of(make_offer("ollama", ID, 11434, scheme="http"), ID, catalogue, remote_user="bob")
    assert 'REMOTE_USER="bob"' in script_of(make_offer("ssh", ID, 22, scheme="ssh"), ID, catalogue, remote_user="bob")
    assert "$(" not in script_of(make_offer("ssh", ID, 22, scheme="ssh"), ID, catalogue, remote_user="$(id)").split("say()")[0]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck on this machine")
def test_shellcheck_has_nothing_to_say(tmp_path: Path) -> None:
    files = []
    for identity in (ALICE, RSA):
        for entry in load_catalogue().entries():
            offer = make_offer(entry.slug, identity.node_id, entry.port, scheme=entry.scheme)
            text = script_of(offer, identity.node_id, load_catalogue(), remote_user="bob", docker_bridge=identity is RSA)
            file = tmp_path / f"{identity.node_id[:4]}-{script_name(entry.slug)}"
            file.write_text(text)
            files.append(str(file))
    done = subprocess.run(["shellcheck", *files], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize("value", STRANGE)
def test_values_without_a_grammar_make_no_script(value: str) -> None:
    with pytest.raises(LocalError):
        script_for(value, "ollama", 1)
    if not is_login(value):
        with pytest.raises(LocalError):
            script_for(ID, "ssh", 22, remote_user=value)
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", value):
        with pytest.raises(LocalError):
            script_for(ID, value, 1)
        assert slug_of(f"x_{value}.sh") is None
    with pytest.raises(LocalError):
        script_for(ID, "ollama", 1, exports={f"{value} X": "a"})


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_ports_have_bounds(port: int) -> None:
    with pytest.raises(LocalError):
        script_for(ID, "ollama", port)


texts = st.one_of(st.sampled_from(STRANGE), st.text(max_size=40), st.text("'\"$`\\(){}[];&|<>~!#*? \n", max_size=20))


@given(label=texts, value=texts, user=texts)
@settings(max_examples=60)
def test_whatever_it_says_stays_a_word(label: str, value: str, user: str) -> None:
    """Source what is printed as a caller does: the variable has the value, and nothing else happened."""
    try:
        text = script_for(ID, "ollama", 4000, label=label, exports={"THE_URL": value})
    except LocalError:
        assert not value.isprintable()
        return
    assert "LABEL" in text.removesuffix(BODY)
    head = text.removesuffix(BODY)
    told = bash(f"{head}\nLPORT=4321; tell_exports", "")
    assert bash(f'{told}\nprintf %s "$THE_URL"', "") == value.replace(PORT_MARK, "4321")
    assert bash(f'{head}\nprintf \'%s|%s\' "$NATIVE_PORT" "$NODE_ID"', "") == f"4000|{ID}"
    assert len(re.findall(r'^(?:NATIVE_PORT|ALT_PORT|NODE_ID|PROTO)="', head, re.MULTILINE)) == 4


def bash(program: str, path: str) -> str:
    done = subprocess.run(["/bin/bash", "-c", program], env={"PATH": path}, capture_output=True, text=True, timeout=30, cwd="/")
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


def test_exports_of_every_service_name_the_port() -> None:
    for entry in load_catalogue().entries():
        assert all(PORT_MARK in value and ":0" not in value for value in exports_of(entry).values())
