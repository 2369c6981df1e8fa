"""`DRAGON_HOME`: where a node keeps everything it writes, and the rules for writing there.

Two homes are two nodes. Files are replaced atomically; the control socket lives elsewhere, because unix socket paths end at
108 bytes.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dragon.errors import HomeError


@dataclass(frozen=True, slots=True)
class Home:
    """The layout below one `DRAGON_HOME`. Nothing is created before `prepare`."""

    root: Path

    @classmethod
    def locate(cls, explicit: Path | None = None) -> Home:
        """Return the home from `explicit`, `DRAGON_HOME`, or the platform's user data folder, in this order."""
        chosen = explicit or os.environ.get("DRAGON_HOME")
        if chosen:
            return cls(Path(chosen).expanduser().absolute())
        from platformdirs import user_data_path  # only where no home is named: 15 ms of every command otherwise

        return cls(user_data_path("dragon", appauthor=False))

    @property
    def config_file(self) -> Path:
        return self.root / "config.toml"

    @property
    def database(self) -> Path:
        return self.root / "registry.sqlite"

    @property
    def tunnels_journal(self) -> Path:
        """The Kubo listeners and legs that are ours: what a crash leaves behind is closed by it at the next start."""
        return self.root / "tunnels.json"

    @property
    def known_hosts(self) -> Path:
        """Keys of SSH hosts that were trusted on first use, where the operator asked for that."""
        return self.root / "known_hosts"

    @property
    def kubo_repo(self) -> Path:
        return self.root / "kubo"

    @property
    def kubo_log(self) -> Path:
        return self.root / "kubo.log"

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    @property
    def lock_file(self) -> Path:
        return self.root / "node.lock"

    @property
    def legs(self) -> Path:
        """A folder only we can enter, for the private ends of Kubo's forwards where those are unix sockets."""
        return self.root / "legs"

    @property
    def control_socket(self) -> Path:
        """The control API's unix socket: in `XDG_RUNTIME_DIR`, else in a folder of this user below the temp folder.

        Named by a hash of the home, so that the path stays short however deep the home lies.
        """
        name = f"dragon-{hashlib.sha256(bytes(self.root)).hexdigest()[:16]}.sock"
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        if runtime and len(runtime) < 64 and Path(runtime).is_dir():
            return Path(runtime) / name
        return Path(tempfile.gettempdir()) / f"dragon-{os.getuid()}" / name

    @property
    def control_sockets(self) -> tuple[Path, ...]:
        """Where a program may find the control socket of a node of this home: where its own would be, then where a node says.

        A node that systemd started and a program that cron started have other ideas of `XDG_RUNTIME_DIR` than a shell.
        """
        with suppress(OSError, UnicodeDecodeError):
            said = Path(self.control_pointer.read_text().removesuffix("\n"))
            if said.is_absolute() and said != self.control_socket:
                return self.control_socket, said
        return (self.control_socket,)

    @property
    def control_pointer(self) -> Path:
        """The file in which a running node says where its control socket is."""
        return self.root / "control.path"

    def prepare(self) -> None:
        """Create the home (0700) and show that it can be written; `HomeError` says what is in the way."""
        with _explained(self.root):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.root / f".write-{os.getpid()}"
            probe.write_bytes(b"dragon")
            probe.unlink()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold this home for one node; `HomeError` names the node that has it. The kernel releases it with the process."""
        with _explained(self.root):
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
                raise HomeError(
                    f"{self.root} is in use by another node (pid {owner})",
                    "stop that node, or give this one its own DRAGON_HOME",
                ) from None
            with _explained(self.root):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` by `data` in one step: readers see the old or the new bytes, also after a crash.

    Raises `HomeError` when the disk is full or the place cannot be written; the old file is then still there.
    """
    with _explained(path):
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(mode)
            temporary.replace(path)
        except BaseException:
            with suppress(FileNotFoundError):
                temporary.unlink()
            raise


def set_aside(path: Path) -> Path:
    """Rename a torn or foreign file to `<name>.aside-<n>` next to it and return the new place; never overwrites."""
    with _explained(path):
        number = 1
        while (place := path.with_name(f"{path.name}.aside-{number}")).exists():
            number += 1
        return path.rename(place)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HomeError(f"the disk of {path} is full", "free some space, then start again; nothing was lost") from error
        if error.errno in (errno.EEXIST, errno.ENOTDIR):
            raise HomeError(f"{path} is no folder, or lies below a file", "set DRAGON_HOME to a folder of your own") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise HomeError(
                f"{path} cannot be written: {error.strerror}", "make it writable; DRAGON_HOME and ZEN_HOME choose other places"
            ) from error
        raise HomeError(f"{path}: {error.strerror or error}", "set DRAGON_HOME to a folder of your own") from error
