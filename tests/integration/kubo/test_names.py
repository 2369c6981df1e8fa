"""Directories with folders, and names beside the node's own, on a real daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dragon.errors import KuboError
from dragon.kubo.client import KuboClient
from registry_schema.ids import ed25519_node_id
from tests.testbed.kubo import KuboDaemon


async def test_a_directory_with_folders_odd_names_and_files_from_disk(
    kubos: tuple[KuboDaemon, KuboDaemon, KuboDaemon], tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(b"x" * 600_000)
    (tmp_path / "link").symlink_to(tmp_path / "big")
    files: dict[str, bytes | Path] = {
        "12345.json": b"{}",
        "TW/a+tag@b.org/index.html": b"<p>",
        "TW/a/b/c": b"deep",
        "TW-2": b"sorted between",
        'é "quoted" 100%.txt': b"odd",
        "big": tmp_path / "big",
        "gone": tmp_path / "gone",
        "link": tmp_path / "link",
        "folder": tmp_path,
    }
    async with KuboClient(kubos[0].api) as one, KuboClient(kubos[1].api) as other:
        cid = await one.add_directory(files)
        for name, content in files.items():
            expected = content if isinstance(content, bytes) else (b"x" * 600_000 if name == "big" else b"")
            assert await other.cat(f"/ipfs/{cid}/{name}", limit=1_000_000) == expected, name
        await one.unpin(cid)
        await one.unpin(cid)  # not pinned any more: nothing


async def test_a_second_name_of_a_node(kubos: tuple[KuboDaemon, KuboDaemon, KuboDaemon]) -> None:
    async with KuboClient(kubos[0].api) as one, KuboClient(kubos[1].api) as other:
        name = await one.key_id("MySwarm_test")
        assert name.startswith("k51")
        assert await one.key_id("MySwarm_test") == name  # found again
        cid = await one.add_directory({"12D3/12345.json": b"{}"})
        await one.name_publish(cid, lifetime="24h", ttl="1m", key="MySwarm_test")
        assert await other.name_resolve(name) == f"/ipfs/{cid}"


async def test_a_stopping_daemon_is_not_held_up_by_what_nobody_will_answer(kubo_factory: Callable[..., KuboDaemon]) -> None:
    """Kubo waits 30 s at its end for calls under way; looking for a name that nobody has may take minutes."""
    daemon, peer = kubo_factory(), kubo_factory()
    daemon.connect(peer)
    nobody = ed25519_node_id(Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    async with KuboClient(daemon.api) as client:
        async with client.subscribe("a/topic"):
            calls = [
                asyncio.create_task(client.name_resolve(nobody)),
                asyncio.create_task(client.cat(f"/ipns/{nobody}/x", limit=10)),
                asyncio.create_task(client.ls("/ipfs/bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy", limit=10)),
            ]
            await asyncio.wait(calls, timeout=0.5)
            waiting = [call for call in calls if not call.done()]
            assert waiting, "somebody answered for nobody"
            daemon.terminate()
            for call in waiting:
                with pytest.raises(KuboError):
                    await asyncio.wait_for(call, 20)
        assert daemon.process is not None
        assert await asyncio.to_thread(daemon.process.wait, 20) == 0
