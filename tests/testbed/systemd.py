"""A real systemd of the tests' own: a user manager in its own cgroup and mounts, with units that the tests write.

    with SystemdUser() as systemd:
        systemd.start("comfyui.service", "ExecStart=/usr/bin/python3 …")
        XDG_RUNTIME_DIR = systemd.runtime                 # `systemctl --user` reaches it
        PATH = f"{systemd.bin}:{PATH}"                    # plain `systemctl` reaches it too, as the system's manager

DANGER, and why it is confined so: a systemd that starts in the machine's root cgroup moves every process of the machine into a
scope of its own. So the child first enters a cgroup made for it, then a cgroup namespace whose root that is, and stops unless
/proc/self/cgroup says so; the hierarchies and /run are mounted anew in a mount namespace where nothing else is seen.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from tests.testbed.docker import remove_cgroups
from tests.testbed.packages import program

START_SECONDS = 60.0
_MANAGER = next((path for path in ("/lib/systemd/systemd", "/usr/lib/systemd/systemd") if Path(path).exists()), "")
_EXIT = signal.SIGRTMIN + 24
"""systemd(1): the manager exits; units that run are left to us."""

_ENTER = """
set -e
for procs in {procs}; do echo $$ > "$procs"; done
where=$(grep -E '^([0-9]+:name=systemd|0:):' /proc/self/cgroup)
[ -z "$(grep -vE ':/{name}$' <<< "$where")" ]
exec unshare --mount --cgroup --propagation private "$BASH" -c {confined}
"""
"""Enter the cgroup, prove it, leave the machine's view behind."""

_CONFINED = """
set -e
where=$(grep -E '^([0-9]+:name=systemd|0:):' /proc/self/cgroup)
[ -z "$(grep -vE ':/$' <<< "$where")" ]
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system
ln -s {folder}/run/systemd/private /run/systemd/private
umount -R /sys/fs/cgroup
if [ -n "{hybrid}" ]; then
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
else
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
exec env -i PATH="$PATH" LANG=C.UTF-8 HOME={folder}/home XDG_RUNTIME_DIR={folder}/run \\
    SYSTEMD_UNIT_PATH={folder}/units:/usr/lib/systemd/user {manager} --user --unit=basic.target --log-target=console
"""

_FRONT = """#!/bin/sh
# systemctl as a machine would have it whose system manager is the one of the tests.
case " $* " in *" --user "*) exec {systemctl} "$@" ;; esac
exec {nsenter} --target {pid} --mount -- {systemctl} "$@"
"""


class SystemdUser:
    """A `systemd --user` as a plain child process. Stopping it ends its units and removes its cgroup folders."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dragon-sd-"))
        self.runtime = self.folder / "run"
        self.units = self.folder / "units"
        self.bin = self.folder / "bin"
        self._process: subprocess.Popen[bytes] | None = None
        self._started: list[str] = []

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> SystemdUser:
        try:
            self._launch()
        except BaseException:
            self.stop_manager()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop_manager()

    def _launch(self) -> None:
        for folder in (self.runtime, self.units, self.bin, self.folder / "home"):
            folder.mkdir(mode=0o700)
        groups = self._cgroups()
        assert groups, "no cgroup hierarchy to confine systemd in"
        for group in groups:
            group.mkdir()
        hybrid = "yes" if Path("/sys/fs/cgroup/systemd").is_dir() else ""
        confined = _CONFINED.format(folder=shlex.quote(str(self.folder)), hybrid=hybrid, manager=_MANAGER)
        enter = _ENTER.format(
            procs=" ".join(shlex.quote(str(group / "cgroup.procs")) for group in groups),
            name=self.folder.name,
            confined=shlex.quote(confined),
        )
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", enter], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while self.systemctl("is-active", "basic.target") != "active":
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"systemd --user did not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)
        front = self.bin / "systemctl"
        front.write_text(_FRONT.format(systemctl=program("systemctl"), nsenter=program("nsenter"), pid=self.pid))
        front.chmod(0o755)

    def _cgroups(self) -> list[Path]:
        """Return the folders of our own cgroup: in the named and the unified hierarchy (hybrid), or in the only one."""
        root = Path("/sys/fs/cgroup")
        tops = [root / "systemd", root / "unified"] if (root / "systemd").is_dir() else [root]
        return [top / self.folder.name for top in tops if (top / "cgroup.procs").exists()]

    def systemctl(self, *arguments: str) -> str:
        """Return what `systemctl --user …` prints (its exit code is in the word it prints)."""
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(self.runtime)}
        done = subprocess.run(
            ["systemctl", "--user", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout.strip()

    def start(self, unit: str, service: str) -> None:
        """Write `unit` with this `[Service]` section, start it, return once it is active."""
        (self.units / unit).write_text(f"[Unit]\nDescription={unit} of the tests\n[Service]\n{service}\n")
        self.systemctl("daemon-reload")
        self._started.append(unit)
        self.systemctl("start", unit)
        if (state := self.systemctl("is-active", unit)) != "active":
            raise RuntimeError(f"{unit} is {state}:\n{(self.folder / 'log').read_text()[-2000:]}")

    def stop(self, unit: str) -> None:
        self.systemctl("stop", unit)
        if unit in self._started:
            self._started.remove(unit)

    def stop_manager(self) -> None:
        """End units, manager and cgroup folders; may be called again."""
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is None:
                for unit in list(self._started):
                    self.stop(unit)
                process.send_signal(_EXIT)
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            self._end_what_is_left()
        remove_cgroups(self.folder.name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_what_is_left(self) -> None:
        """End the processes in our own cgroup: children of units that outlived their manager."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            left = {
                int(pid)
                for group in self._cgroups()
                for procs in group.rglob("cgroup.procs")
                for pid in procs.read_text().split()
            }  # fmt: skip
            if not left:
                return
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)
