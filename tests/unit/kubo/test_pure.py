"""The small pure parts: spellings of bytes, addresses, secrets and durations, Kubo's words, the pubsub stream."""

from __future__ import annotations

import itertools
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.errors import ConfigError, KuboUnreachable
from dragon.kubo import multibase
from dragon.kubo.address import authorization, parse_address
from dragon.kubo.diagnosis import ending, refused
from dragon.kubo.duration import parse_duration
from dragon.kubo.stream import MAX_LINE, MessageDecoder
from dragon.kubo.types import P2PEntry, Peer, PubsubMessage, loopback_target, peer_of, tcp_port


@given(st.binary(max_size=200))
def test_multibase_round_trip(data: bytes) -> None:
    assert multibase.decode(multibase.encode(data)) == data


@pytest.mark.parametrize("text", ["", "mZm9v", "uZm9v=", "uZm9v\n", "uZm 9v", "uZm9w!", "uZg", "zabc", "uZh"])
def test_multibase_has_one_spelling(text: str) -> None:
    if text == "uZg":  # the one canonical spelling among them
        assert multibase.decode(text) == b"f"
    else:
        with pytest.raises(ValueError):
            multibase.decode(text)


def test_multibase_is_kubos() -> None:
    assert multibase.encode(b"foo\xff?") == "uZm9v_z8"


@pytest.mark.parametrize(
    ("text", "url", "socket", "port"),
    [
        ("/ip4/127.0.0.1/tcp/5001", "http://127.0.0.1:5001", None, 5001),
        ("/ip4/127.0.0.1/tcp/5001\n", "http://127.0.0.1:5001", None, 5001),
        ("/ip6/::1/tcp/5001", "http://[::1]:5001", None, 5001),
        ("/dns4/kubo.lan/tcp/443/https", "https://kubo.lan:443", None, 443),
        ("http://localhost:5001", "http://localhost:5001", None, 5001),
        ("http://127.0.0.1:5001/api/v0", "http://127.0.0.1:5001", None, 5001),
        ("https://kubo.lan", "https://kubo.lan:443", None, 443),
        ("/unix/run/user/1000/ipfs.sock", "http://kubo", "/run/user/1000/ipfs.sock", None),
        ("/unix//run/user/1000/ipfs.sock", "http://kubo", "/run/user/1000/ipfs.sock", None),
    ],
)
def test_api_addresses(text: str, url: str, socket: str | None, port: int | None) -> None:
    address = parse_address(text)
    assert (address.url, address.socket, address.port) == (url, socket, port)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "5001", "/ip4/127.0.0.1/udp/5001", "/ip4/1.2.3.4/tcp/0", "ftp://x", "http://", "http://x:99999"]
)
def test_what_is_no_api_address_is_said_so(text: str) -> None:
    with pytest.raises(ConfigError, match="not an address of a Kubo API") as error:
        parse_address(text)
    assert "/ip4/127.0.0.1/tcp/5001" in error.value.hint


@pytest.mark.parametrize(
    ("secret", "header"),
    [
        (None, None),
        ("", None),
        ("bearer:abc", "Bearer abc"),
        ("abc", "Bearer abc"),
        ("basic:user:p:ss", "Basic dXNlcjpwOnNz"),
        ("basic:dXNlcjpwOnNz", "Basic dXNlcjpwOnNz"),
    ],
)
def test_secrets_as_kubo_spells_them(secret: str | None, header: str | None) -> None:
    assert authorization(secret) == header


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1.5ms", 0.0015),
        ("820µs", 0.00082),
        ("1m2.5s", 62.5),
        ("2h", 7200.0),
        ("n/a", None),
        ("", None),
        ("1.5", None),
        ("x1s", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == (None if seconds is None else pytest.approx(seconds))


def test_entries_of_p2p_ls() -> None:
    listener = P2PEntry("/x/ssh", "/p2p/12D3KooWme", "/ip4/127.0.0.1/tcp/22")
    leg = P2PEntry("/x/ssh", "/ip4/127.0.0.1/tcp/4022", "/p2p/12D3KooWyou")
    unix = P2PEntry("/x/ssh", "/unix/tmp/leg.sock", "/p2p/12D3KooWyou")
    assert [(e.is_listener, e.listener_port, e.leg_port, e.remote) for e in (listener, leg, unix)] == [
        (True, 22, None, None),
        (False, None, 4022, "12D3KooWyou"),
        (False, None, None, "12D3KooWyou"),
    ]
    assert Peer("a", "/ip4/1.2.3.4/tcp/4001/p2p/relay/p2p-circuit", None).relayed
    assert peer_of("/ip4/1.2.3.4/tcp/4001/p2p/12D3KooWme") == "12D3KooWme"
    assert peer_of("/ip4/1.2.3.4/tcp/4001") is None
    assert tcp_port("/ip4/127.0.0.1/udp/1") is None
    with pytest.raises(ValueError, match="not a port"):
        loopback_target(70000)


@pytest.mark.parametrize(
    ("message", "status", "hint"),
    [
        ("libp2p stream mounting not enabled", 500, "Experimental.Libp2pStreamMounting true"),
        ("experimental pubsub feature not enabled. Run daemon with…", 500, "Pubsub.Enabled true"),
        ("403 - Forbidden", 403, "[kubo] auth"),
        ("404 page not found", 404, "dragon doctor"),
        ("something new", 500, ""),
    ],
)
def test_refusals_say_what_to_do(message: str, status: int, hint: str) -> None:
    error = refused(message, status)
    assert hint in error.hint
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("lines", "meaning", "hint"),
    [
        (["Initializing", "Error: lock /h/kubo/repo.lock: someone else has the lock"], "in use by another", "stop that"),
        (["Error: serveHTTPApi: failed: listen tcp4 127.0.0.1:1: bind: address already in use"], "port", "next start"),
        (["write /h/kubo/x: no space left on device"], "disk is full", "free some space"),
        (["Error: Your programs version (16) is lower than your repos (18)."], "newer Kubo", "newer Kubo"),
        (["Error: something new"], "something new", "see /h/kubo.log"),
        ([], "without a word", "see /h/kubo.log"),
    ],
)  # fmt: skip
def test_an_end_is_explained_from_the_log(lines: list[str], meaning: str, hint: str) -> None:
    said, todo = ending(lines, "/h/kubo.log")
    assert meaning in said
    assert hint in todo
    assert "/h/kubo.log" in todo


def line(data: bytes, sender: str = "12D3KooWx", topic: str = "t") -> bytes:
    fields = {
        "from": sender,
        "data": multibase.encode(data),
        "seqno": multibase.encode(b"\x01"),
        "topicIDs": [multibase.encode(topic.encode())],
    }
    return json.dumps(fields).encode() + b"\n"


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=60), max_size=5), st.lists(st.integers(0, 600), max_size=6))
def test_messages_come_out_whole_however_the_stream_is_cut(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(line(payload) for payload in payloads)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    decoder = MessageDecoder()
    out = [message for start, end in itertools.pairwise(edges) for message in decoder.feed(stream[start:end])]
    assert out == [PubsubMessage("12D3KooWx", payload, b"\x01", ("t",)) for payload in payloads]


def test_foreign_lines_are_counted_and_errors_end_the_stream() -> None:
    decoder = MessageDecoder()
    bad = [b"{}\n", b"[]\n", b"nonsense\n", b'{"from":"x","data":"mZm9v","seqno":"u","topicIDs":[]}\n', b"\xff\n", b"\n"]
    assert decoder.feed(b"".join(bad) + line(b"x")) == [PubsubMessage("12D3KooWx", b"x", b"\x01", ("t",))]
    assert decoder.malformed == 5
    with pytest.raises(KuboUnreachable, match="topic closed"):
        decoder.feed(b'{"Message":"topic closed","Code":0,"Type":"error"}\n')
    with pytest.raises(KuboUnreachable, match="longer"):
        MessageDecoder().feed(os.urandom(16).hex().encode() * (MAX_LINE // 32 + 1))
