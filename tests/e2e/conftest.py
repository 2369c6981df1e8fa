"""A swarm of three nodes with a service beside the first, as in the README."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.testbed.node import DragonNode, config_text, wait_for
from tests.testbed.ports import free_port

NodeFactory = Callable[..., DragonNode]


@pytest.fixture(scope="module")
def make_node(tmp_path_factory: pytest.TempPathFactory, kubo_binary: Path) -> Iterator[NodeFactory]:
    """Make nodes with homes of their own; all are ended afterwards, whatever state they are in."""
    made: list[DragonNode] = []

    def make(alias: str, *, env: dict[str, str] | None = None, config: str | None = None, **fields: object) -> DragonNode:
        home = tmp_path_factory.mktemp(alias)
        text = config if config is not None else config_text(alias=alias, **{"swarm": "e2e", **fields})  # type: ignore[arg-type]
        node = DragonNode(home, text, env={"DRAGON_KUBO_BINARY": str(kubo_binary), **(env or {})})
        made.append(node)
        return node

    yield make
    for node in made:
        node.cleanup()


class Swarm:
    """Three joined nodes; `port` is where node `a` expects its ollama."""

    def __init__(self, a: DragonNode, b: DragonNode, c: DragonNode, port: int) -> None:
        self.a, self.b, self.c, self.port = a, b, c, port

    @property
    def nodes(self) -> tuple[DragonNode, DragonNode, DragonNode]:
        return self.a, self.b, self.c


@pytest.fixture(scope="module")
def swarm(make_node: NodeFactory) -> Swarm:
    port = free_port()
    a = make_node("alpha", tables=f"[catalogue.ollama]\nport = {port}").start()
    join = a.json("status")["addresses"]
    b = make_node("beta", join=join, tables=f"[catalogue.ollama]\nport = {free_port()}").start()
    c = make_node("gamma", join=join, tables=f"[catalogue.ollama]\nport = {free_port()}").start()
    for node in (a, b, c):
        wait_for(partial(sees, node, {"alpha", "beta", "gamma"}), 30, partial(told, node))
    return Swarm(a, b, c, port)


def live(node: DragonNode) -> set[str]:
    """The aliases of the nodes that `node` holds for live, itself included."""
    return {peer["alias"] for peer in node.json("peers") if peer["state"] == "live"}


def sees(node: DragonNode, aliases: set[str]) -> bool:
    return live(node) == aliases


def told(node: DragonNode) -> str:
    """What a failed wait for a view shows."""
    return f"{node.json('peers')}\n{node.log}"
