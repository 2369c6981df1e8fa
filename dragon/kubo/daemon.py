"""The managed daemon: a Kubo of our own, with its repo below `DRAGON_HOME`, kept running as long as the node runs.

It is configured at each start, restarted with a growing pause when it ends or hangs, and stopped with the node. A node that
was killed leaves its daemon behind: the next one adopts it when it is as it should be, and stops it otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from dragon.clock import Clock, SystemClock
from dragon.errors import KuboError, KuboRefused, KuboUnreachable
from dragon.home import Home
from dragon.kubo.client import KuboClient
from dragon.kubo.configuration import Network, Ports, network_of
from dragon.kubo.diagnosis import ending
from dragon.kubo.ports import any_port, is_free
from dragon.kubo.process import MARK, DaemonProcess, executable, left_over, lock_holder
from dragon.kubo.repo import Repo
from dragon.kubo.types import LOOPBACK, loopback_target

log = logging.getLogger(__name__)

START_LIMIT = 120.0
"""Seconds until the API must answer: 1 on an idle machine, more where a repo is migrated or the machine is busy."""

START_ASK = 2.0
"""Seconds for one question during the start: a port that another program has taken may accept and never answer."""

STOP_GRACE = 8.0
"""Seconds for a polite end: 0.04 without open subscriptions; with them Kubo would wait 30."""

PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before the first, second, … restart in a row."""

SETTLED = 60.0
"""Seconds after which a running daemon counts as healthy, and the next restart comes quickly again."""

HEALTH_INTERVAL = 5.0
"""Seconds between two questions whether it still answers."""

HEALTH_LIMIT = 5.0
"""Seconds an answer may take; a healthy daemon needs 1 ms."""

HUNG = 4
"""Unanswered questions in a row after which it is killed and started anew: with the limit of a call about 40 s, longer than
any pause of a busy machine, shorter than a lease."""

LOG_BOUND = 4 << 20
"""Bytes of the log file; what is older goes to one file `.1`."""

PORT_ATTEMPTS = 3
"""First starts with other ports: a free one may be taken between the choice and the daemon's bind."""


class ManagedDaemon:
    """A daemon of our own; `async with` starts and stops it.

    Attributes: `api` (multiaddr), `ports`, `node_id`, `pid`, `restarts`, `adopted`, `trouble` (one line while it is down or
    hangs, else empty), `before_stop` (awaited before the daemon is told to stop: close subscriptions there).
    """

    def __init__(
        self,
        home: Home,
        binary: Path,
        *,
        isolated: bool = False,
        swarm_key: Path | None = None,
        clock: Clock | None = None,
        health_interval: float = HEALTH_INTERVAL,
        health_limit: float = HEALTH_LIMIT,
    ) -> None:
        self._home = home
        self._binary = binary
        self._repo = Repo(home.kubo_repo, network_of(isolated=isolated, closed=swarm_key is not None), swarm_key)
        self._clock: Clock = clock or SystemClock()
        self._health_interval = health_interval
        self._health_limit = health_limit
        self._process: DaemonProcess | None = None
        self._supervision: asyncio.Task[None] | None = None
        self._log_start = 0
        self.ports = Ports(0, 0)
        self.node_id = ""
        self.restarts = 0
        self.adopted = False
        self.trouble = ""
        self.before_stop: list[Callable[[], Awaitable[None]]] = []

    @property
    def api(self) -> str:
        return loopback_target(self.ports.api)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._repo.prepare, self._binary)
        self.node_id = self._repo.node_id
        try:
            if not await self._adopt():
                await self._first_start()
        except BaseException:
            await self._end()
            raise
        self._supervision = asyncio.create_task(self._supervise(), name="kubo-daemon")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._supervision:
            self._supervision.cancel()
            await asyncio.gather(self._supervision, return_exceptions=True)
        for hook in self.before_stop:
            try:
                await hook()
            except KuboError as failure:
                log.debug("before stopping Kubo: %s", failure)
        await self._end()

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process and not await process.stop(STOP_GRACE):
            log.warning("Kubo did not stop within %s s and was killed", STOP_GRACE)

    def _environment(self) -> dict[str, str]:
        return {**self._repo.environment(), MARK: str(self._repo.path)}

    # -- starting -----------------------------------------------------------------------------------------------------

    async def _adopt(self) -> bool:
        """Take over the daemon of a node that was killed, if it is as it should be; else end it. Return whether we have one."""
        pid = await asyncio.to_thread(left_over, self._repo.path)
        if pid is None:
            return False
        process = DaemonProcess(pid)
        ports = await asyncio.to_thread(self._repo.ports_as_configured)
        fit = ports is not None and executable(pid) == self._binary.resolve()
        if ports is not None and fit:
            self.ports = ports
            if await self._answers():
                self._process, self.adopted = process, True
                log.info("Kubo (pid %d) was left running by a node that is gone: adopted", pid)
                return True
        log.info("Kubo (pid %d) was left running by a node that is gone, and %s: stopped", pid, "hangs" if fit else "differs")
        await process.stop(STOP_GRACE)
        return False

    async def _first_start(self) -> None:
        kept = self._repo.ports
        for attempt in range(PORT_ATTEMPTS):
            self.ports = _free(kept if attempt == 0 else None, self._repo.network)
            await asyncio.to_thread(self._repo.configure, self.ports)
            try:
                await self._launch()
                return
            except KuboRefused as error:
                if "port" not in str(error) or attempt == PORT_ATTEMPTS - 1:
                    raise
                log.info("%s: trying others", error)

    async def _launch(self) -> None:
        """Start the daemon and return when it answers as who it is; raise what its log says when it ends instead."""
        self._bound_log()
        self._log_start = self._home.kubo_log.stat().st_size if self._home.kubo_log.exists() else 0
        command = [str(self._binary), "daemon", "--migrate=true"]
        process = await DaemonProcess.start(command, self._environment(), self._home.kubo_log)
        self._process, self.adopted = process, False
        try:
            async with asyncio.timeout(START_LIMIT):
                ended = asyncio.ensure_future(process.wait())
                try:
                    while not await self._answers(START_ASK):
                        if ended.done():
                            process.forget()
                            raise await asyncio.to_thread(self._explained)
                        await asyncio.wait([ended], timeout=0.05)
                finally:
                    ended.cancel()
                    await asyncio.gather(ended, return_exceptions=True)
        except TimeoutError:
            await process.kill()
            raise KuboUnreachable(f"Kubo did not answer within {START_LIMIT:.0f} s", f"see {self._home.kubo_log}") from None
        self.trouble = ""
        log.info("Kubo runs (pid %d, %s)", process.pid, self.api)

    async def _answers(self, limit: float | None = None) -> bool:
        """Tell whether at our API address our daemon, and no other program, answers."""
        async with KuboClient(self.api) as client:
            try:
                async with asyncio.timeout(limit or self._health_limit):
                    return (await client.identity()).node_id == self.node_id
            except (KuboError, TimeoutError):
                return False

    def _explained(self) -> KuboRefused:
        """The error for a daemon that ended while it started, out of its log."""
        with contextlib.suppress(OSError), self._home.kubo_log.open("rb") as file:
            file.seek(self._log_start)
            lines = file.read(LOG_BOUND).decode("utf-8", "replace").splitlines()[-50:]
            meaning, hint = ending(lines, self._home.kubo_log)
            holder = lock_holder(self._repo.path / "repo.lock") if "in use by another process" in meaning else None
            return KuboRefused(meaning + (f" (pid {holder})" if holder else ""), hint)
        return KuboRefused("Kubo ended while it started", f"see {self._home.kubo_log}")

    # -- keeping it running -------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        failures = 0
        while True:
            began = self._clock.monotonic()
            reason = await self._watch()
            failures = 0 if self._clock.monotonic() - began > SETTLED else failures
            while True:
                self.trouble = f"Kubo {reason}"
                pause = PAUSES[min(failures, len(PAUSES) - 1)]
                log.warning("Kubo %s: started again in %s s", reason, pause)
                await self._clock.sleep(pause)
                failures += 1
                try:
                    await self._launch()
                except KuboError as error:
                    reason = f"does not start: {error}" + (f" ({error.hint})" if error.hint else "")
                else:
                    self.restarts += 1
                    break

    async def _watch(self) -> str:
        """Return, in words, why the daemon must be started again: it ended, or it hung and was killed."""
        process = self._process
        assert process is not None, "supervision begins after the start"
        ended = asyncio.ensure_future(process.wait())
        unanswered = 0
        try:
            while unanswered < HUNG:
                looked = asyncio.ensure_future(self._clock.sleep(self._health_interval))
                try:
                    await asyncio.wait({ended, looked}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    looked.cancel()
                if ended.done():
                    process.forget()
                    return "ended unexpectedly"
                unanswered = 0 if await self._answers() else unanswered + 1
                self.trouble = f"Kubo does not answer (asked {unanswered} times)" if unanswered else ""
                await asyncio.to_thread(self._bound_log)
            await process.kill()
            return "hung and was killed"
        finally:
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)

    def _bound_log(self) -> None:
        """Keep the log small. The daemon appends, so it can be emptied under its hands."""
        path = self._home.kubo_log
        try:
            if path.stat().st_size > LOG_BOUND:
                shutil.copyfile(path, path.with_name(path.name + ".1"))
                os.truncate(path, 0)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.debug("%s: %s", path, error)


def _free(kept: Ports | None, network: Network) -> Ports:
    """The kept ports as far as they are free, else others; several addresses of one port must all be free."""
    host = LOOPBACK if network == "isolated" else "0.0.0.0"  # noqa: S104  libp2p listens everywhere, its API never does
    api = kept.api if kept and is_free(LOOPBACK, kept.api) else any_port(LOOPBACK)
    swarm = kept.swarm if kept and is_free(host, kept.swarm) else any_port(host)
    return Ports(api, swarm)
