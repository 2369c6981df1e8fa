"""Clients of the real daemons, closed after each test."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from dragon.kubo.client import KuboClient
from tests.testbed.kubo import KuboDaemon

Kubos = tuple[KuboDaemon, KuboDaemon, KuboDaemon]


@pytest.fixture
async def client(kubos: Kubos) -> AsyncIterator[KuboClient]:
    async with KuboClient(kubos[0].api) as client:
        yield client


@pytest.fixture
async def other(kubos: Kubos) -> AsyncIterator[KuboClient]:
    async with KuboClient(kubos[1].api) as client:
        yield client


@pytest.fixture
def unique() -> str:
    """A name nobody else uses on the shared daemons: for topics and protocols."""
    return uuid.uuid4().hex[:12]
