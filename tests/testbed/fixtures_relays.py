"""pytest fixtures: real NOSTR relays, one that means harm, and a listener on the wire. All end with the test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.testbed.hostile_relay import HostileRelay
from tests.testbed.relay_programs import Unavailable
from tests.testbed.relays import Kind, Relay
from tests.testbed.wiretap import Wiretap

RelayFactory = Callable[..., Relay]
HostileFactory = Callable[..., HostileRelay]
WiretapFactory = Callable[..., Wiretap]


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelayFactory]:
    """`relay("sdk" | "khatru" | "plain", limit=500)` → a running relay."""
    with contextlib.ExitStack() as stack:
        count = iter(range(1_000_000))

        def start(kind: Kind = "sdk", **options: Any) -> Relay:
            try:
                return stack.enter_context(Relay(kind, tmp_path / f"relay{next(count)}", **options))
            except Unavailable as why:
                pytest.skip(f"{why} (python -m tests.testbed.packages provides it)")

        yield start


@pytest.fixture
def hostile() -> Iterator[HostileFactory]:
    """`hostile("forged-id", events)` → a running relay that misbehaves (`hostile_relay.MODES`)."""
    with contextlib.ExitStack() as stack:
        yield lambda *words, **options: stack.enter_context(HostileRelay(*words, **options))


@pytest.fixture
def wiretap() -> Iterator[WiretapFactory]:
    """`wiretap(relay.port)` → a proxy in front of it that reads along."""
    with contextlib.ExitStack() as stack:
        yield lambda *words, **options: stack.enter_context(Wiretap(*words, **options))
