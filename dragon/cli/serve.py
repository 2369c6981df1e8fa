"""`dragon serve`: settings, log, signals and systemd around `dragon.node.serve`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Mapping, Sequence

from dragon.cli.logs import set_up_logging
from dragon.cli.notify import notify
from dragon.cli.output import note, print_json, print_line
from dragon.config import Settings, load_settings
from dragon.errors import DragonError, UsageError
from dragon.home import Home

log = logging.getLogger(__name__)


def overrides_from(
    *, alias: str | None, swarm: str | None, join: Sequence[str] | None, isolated: bool | None, settings: Sequence[str]
) -> dict[str, str]:
    """Return the flags of `serve` as `section.key` → text. Raises `UsageError` for a `--set` without `=`."""
    overrides: dict[str, str] = {}
    for word in settings:
        key, equals, value = word.partition("=")
        if not equals or "." not in key:
            raise UsageError(f"--set {word}: not SECTION.KEY=VALUE", "for example --set kubo.managed=false")
        overrides[key.strip()] = value
    named = {"node.alias": alias, "node.swarm": swarm, "node.join": ",".join(join) if join else None}
    overrides |= {key: value for key, value in named.items() if value is not None}
    if isolated is not None:
        overrides["node.isolated"] = "true" if isolated else "false"
    return overrides


def serve_until_stopped(home: Home, overrides: Mapping[str, str], *, dry_run: bool, level: int) -> None:
    """Run the node until SIGTERM or SIGINT, which are a clean leave; a second one ends it at once.

    Raises what keeps a node from running, as one `DragonError`.
    """
    settings = load_settings(home, overrides)
    set_up_logging(level)
    try:
        asyncio.run(_preview(settings, home) if dry_run else _serve(settings, home))
    except BaseExceptionGroup as group:
        raise _reason(group) from group


async def _preview(settings: Settings, home: Home) -> None:
    from dragon.preview import placeholder, preview

    document = await preview(settings, home)
    print_json(document)
    if document["node"] == placeholder():
        note("the node id is a stand-in: this home has none before its first start")


async def _serve(settings: Settings, home: Home) -> None:
    from dragon.node import serve

    stop, ready = asyncio.Event(), False

    def on_ready(node_id: str) -> None:
        nonlocal ready
        ready = True
        print_line(f"ready: {settings.node.alias} {node_id} in the swarm {settings.node.swarm}")
        sys.stdout.flush()
        notify("READY=1", f"STATUS=serving as {settings.node.alias} in the swarm {settings.node.swarm}")

    running = asyncio.create_task(serve(settings, home, on_ready=on_ready, stop=stop))

    def leave(name: str) -> None:
        if stop.is_set() or not ready:  # asked twice, or still starting: nothing to say goodbye to
            running.cancel()
        log.info("%s: leaving the swarm", name)
        notify("STOPPING=1")
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave, number.name)
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(_reload(home))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        await running
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    finally:
        for task in reloads:
            task.cancel()


async def _reload(home: Home) -> None:
    """SIGHUP is `dragon reload`: through the same door, so that there is one way."""
    from dragon.client import Control

    try:
        read = await asyncio.to_thread(Control(home).reload)
    except DragonError as error:
        log.error("the settings stay as they were: %s", error)
    else:
        log.info("settings read again; changed: %s", ", ".join(read["changed"]) or "nothing")
        if read["restart"]:
            log.warning("from the node's next start on: %s", ", ".join(read["restart"]))


def _reason(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that a person can act on when everything in `group` is of that kind, else the group itself."""
    expected, rest = group.split(DragonError)
    if expected is None or rest is not None:
        return group
    leaf: BaseException = expected
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf
