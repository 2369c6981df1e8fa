"""What the integration tests stand on beside Python packages and Kubo: `python -m tests.testbed.packages`.

Two NOSTR relays are made for this user (`relay_programs`), then Debian packages are looked after.

As root on Debian (or a relative with apt-get) it installs what is missing, and nothing of it is left running. Elsewhere it
says loudly what is missing and which tests will be skipped. With everything there it returns at once, without asking apt.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.testbed import relay_programs

POLICY = Path("/usr/sbin/policy-rc.d")
"""invoke-rc.d and deb-systemd-invoke ask this script before they start a package's service (Debian policy 9.3.3)."""

SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/lib/systemd", "/lib/systemd")
"""Where daemons lie that a user's PATH need not name."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One package, the programs that show that it is there, and the tests that need it."""

    package: str
    programs: tuple[str, ...]
    tests: str


REQUIREMENTS = (
    Requirement("docker.io", ("dockerd", "containerd"), "containers (tests/integration/probe/test_container.py)"),
    Requirement("busybox-static", ("busybox",), "containers (tests/integration/probe/test_container.py)"),
    Requirement("systemd", ("systemd", "systemctl"), "systemd units (tests/integration/probe/test_systemd.py)"),
    Requirement("openssh-server", ("sshd",), "ssh (tests/integration/probe/test_ssh.py)"),
    Requirement("openssh-client", ("ssh", "ssh-keygen"), "ssh (tests/integration/probe/test_ssh.py)"),
    Requirement("iproute2", ("ip", "ss"), "two hosts in network namespaces"),
    Requirement("iptables", ("iptables",), "lossy links between hosts in network namespaces"),
    Requirement("procps", ("pgrep",), "process names as pgrep sees them"),
    Requirement("shellcheck", ("shellcheck",), "generated x_*.sh and the readers of a station's files (tests/unit/astroport)"),
    Requirement("jq", ("jq",), "readers of a station's files (tests/unit/astroport/consumers)"),
    Requirement("curl", ("curl",), "services reached as a station's scripts reach them"),
    Requirement("gawk", ("gawk",), "awk as a station's scripts need it"),
    Requirement("util-linux", ("nsenter", "unshare"), "systemd units (tests/integration/probe/test_systemd.py)"),
)


def program(name: str) -> str | None:
    """Return the path of a program, daemons' folders included; None where it is missing."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *SYSTEM_FOLDERS)))


def missing() -> list[Requirement]:
    """Return the requirements of which a program is missing."""
    return [each for each in REQUIREMENTS if not all(program(name) for name in each.programs)]


@contextmanager
def _nothing_started() -> Iterator[None]:
    """Keep packages from starting their daemons while they are installed; an existing policy of the machine is kept."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")  # 101: action forbidden by policy
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def _apt_get(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    command = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", *arguments]
    return subprocess.run(command, env=environment, text=True, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def install(packages: Sequence[str]) -> str | None:
    """Install Debian packages without starting anything; return None when done, else apt's last words."""
    updated = _apt_get("update")
    with _nothing_started():
        installed = _apt_get("install", "--yes", "--no-install-recommends", *packages)
    if installed.returncode == 0:
        return None
    return (updated.stderr + installed.stderr).strip()[-2000:] or f"apt-get exit code {installed.returncode}"


def relays() -> None:
    """Build and install the NOSTR relays of the tests where they are missing; needs no root, only Go and the registries."""
    if lacking := relay_programs.missing():
        print(f"relays for the tests: making {', '.join(lacking)} (half a minute and downloads) …", flush=True)
        for failure in relay_programs.provide():
            print(f"A RELAY IS MISSING, ITS TESTS WILL BE SKIPPED: {failure}", file=sys.stderr)


def main() -> int:
    relays()
    lacking = missing()
    if not lacking:
        print("system packages for the tests: all there")
        return 0
    names = [each.package for each in lacking]
    if sys.platform == "linux" and os.geteuid() == 0 and shutil.which("apt-get"):
        print(
            f"system packages for the tests: apt-get installs {' '.join(names)} (no service of them is started) …", flush=True
        )
        if (failure := install(names)) is not None:
            print(f"apt-get failed:\n{failure}", file=sys.stderr)
        lacking = missing()
        if not lacking:
            print("system packages for the tests: installed")
            return 0
    print("=" * 72, file=sys.stderr)
    print("SYSTEM PACKAGES ARE MISSING, TESTS WILL BE SKIPPED:", file=sys.stderr)
    for each in lacking:
        print(f"  {each.package}: {each.tests}", file=sys.stderr)
    print(f"To have them: as root on Debian, apt-get install {' '.join(each.package for each in lacking)}", file=sys.stderr)
    print("=" * 72, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
