"""Whether an SSH host is who we think: its key against the known_hosts files (sshd(8)), and what is said when it is not.

A key is believed when a file has it for this host. A host without any key is unknown: refused, or, when the operator asked for
trust on first use, believed once and kept in the node's own file. A host with another key is refused in any case.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from dragon.errors import SshRefused
from dragon.home import write_atomically

log = logging.getLogger(__name__)

_writing = threading.Lock()

SSH_PORT = 22
"""The port that a known_hosts entry without a port means."""


ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
"""Host key algorithms in OpenSSH's own order of preference (ssh_config(5)), without those on SHA-1 (RFC 9142)."""


@dataclass(frozen=True, slots=True)
class KnownKey:
    """One line of a file that speaks of the host. `exact`: it names the very port, too."""

    file: Path
    line: int
    key: asyncssh.SSHKey
    exact: bool


@dataclass(frozen=True, slots=True)
class Trust:
    """What the files say of one host and port."""

    host: str
    port: int
    keys: tuple[KnownKey, ...] = ()
    authorities: tuple[asyncssh.SSHKey, ...] = ()
    revoked: tuple[asyncssh.SSHKey, ...] = ()

    @property
    def is_known(self) -> bool:
        return bool(self.keys or self.authorities)

    def algorithms(self) -> list[str]:
        """Return the host key algorithms to ask for, those of known keys first.

        All the others follow, so that a host with a key of another kind shows it and is told from one that is out of order.
        """
        known = [name.decode() for each in self.keys for name in each.key.sig_algorithms]
        plain = [name for name in known if name in ALGORITHMS]
        certified = [f"{name}-cert-v01@openssh.com" for name in ALGORITHMS] if self.authorities else []
        return list(dict.fromkeys([*certified, *plain, *ALGORITHMS]))

    def refusal(self, offered: asyncssh.SSHKey | None, own_file: Path) -> SshRefused:
        """Return the error for a host whose key was not believed. `offered` is None when it was not even looked at: revoked."""
        where = name_in_file(self.host, self.port)
        shown = f" ({offered.get_algorithm()} {offered.get_fingerprint()})" if offered is not None else ""
        if self.revoked and (offered is None or offered in self.revoked):
            return SshRefused(f"the SSH key of {where} is marked as revoked{shown}", "do not use that host")
        changed = [known for known in self.keys if known.exact]
        if changed:
            first = changed[0]
            return SshRefused(
                f"THE SSH HOST KEY OF {where} HAS CHANGED{shown}: {first.file}:{first.line} has another one",
                f"somebody may be in between. If the host was set up anew, remove line {first.line} of {first.file} "
                f"(ssh-keygen -f {first.file} -R '{where}'), then connect once with ssh",
            )
        return SshRefused(
            f"the SSH host key of {where} is not known{shown}",
            f"compare the fingerprint and connect once with `ssh -p {self.port} {self.host}`, "
            f"or set ssh.trust_on_first_use = true (kept in {own_file})",
        )


def name_in_file(host: str, port: int) -> str:
    """Return how known_hosts names a host and port: `host`, or `[host]:port` where that is not 22."""
    return host if port == SSH_PORT else f"[{host}]:{port}"


def look_up(files: Sequence[Path], host: str, port: int) -> Trust:
    """Return what `files` say of `host`; a line that cannot be read costs only itself. Blocks: it reads the files.

    As ssh does, an entry without a port counts for every port of the host on which nothing else is known.
    """
    exact: list[KnownKey] = []
    loose: list[KnownKey] = []
    authorities: list[asyncssh.SSHKey] = []
    revoked: list[asyncssh.SSHKey] = []
    for file in files:
        for number, text in enumerate(_lines(file), 1):
            try:
                line = asyncssh.import_known_hosts(text)
            except ValueError as error:
                log.debug("%s:%s is passed over: %s", file, number, error)
                continue
            for name, into in ((name_in_file(host, port), exact), *(() if port == SSH_PORT else ((host, loose),))):
                keys, cas, bad, *_ = line.match(name, "", None)
                into += [KnownKey(file, number, key, into is exact) for key in keys]
                authorities += cas
                revoked += bad
    return Trust(host, port, tuple(exact or loose), tuple(dict.fromkeys(authorities)), tuple(dict.fromkeys(revoked)))


def remember(file: Path, host: str, port: int, key: asyncssh.SSHKey) -> None:
    """Add a line for the host to `file`. Blocks. Raises `HomeError` where it cannot be written."""
    line = f"{name_in_file(host, port)} {key.export_public_key('openssh').decode().strip()}"
    with _writing:
        write_atomically(file, "".join(f"{each}\n" for each in (*_lines(file), line)).encode())


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        log.warning("%s is not read: %s", file, error.strerror or error)
        return []
