"""The doors of the control API: a Unix socket that only this user can open, and on request a loopback port with its token."""

from __future__ import annotations

import os
import secrets
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dragon.errors import HomeError, PortInUse
from dragon.home import write_atomically

TOKEN_BYTES = 32
"""Random bytes of the token: 256 bits, beyond guessing."""

BACKLOG = 1024
"""Callers that may wait to be accepted: hundreds of programs may ask for a forward in one moment. The kernel caps it at
net.core.somaxconn."""


@contextmanager
def control_socket(path: Path) -> Iterator[socket.socket]:
    """Listen on the Unix socket `path` (0600, in a folder only we can write); the file goes away again with the context.

    A socket file that nobody answers is what a killed node left, and is replaced. Raises `HomeError` for a folder of somebody
    else, or when a node answers there.
    """
    _private_folder(path.parent)
    _make_way(path)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        previous = os.umask(0o177)
        try:
            door.bind(str(path))
        except OSError as error:
            raise HomeError(
                f"the control socket {path} cannot be made: {error.strerror or error}",
                "set XDG_RUNTIME_DIR or TMPDIR to a short, writable folder of yours",
            ) from error
        finally:
            os.umask(previous)
        ours = path.stat().st_ino
        door.listen(BACKLOG)
        door.setblocking(False)
        try:
            yield door
        finally:
            with suppress(FileNotFoundError):
                if path.stat().st_ino == ours:
                    path.unlink()
    finally:
        door.close()


@contextmanager
def loopback_socket(port: int) -> Iterator[socket.socket]:
    """Listen on 127.0.0.1:`port` (0: a free one). Raises `PortInUse`."""
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortInUse(
                f"the control API cannot listen on 127.0.0.1:{port}: {error.strerror or error}", "set [api] tcp to another port"
            ) from error
        door.listen(BACKLOG)
        door.setblocking(False)
        yield door
    finally:
        door.close()


def api_token(path: Path) -> str:
    """Return the token in the file `path`; make a new one (0600) when there is none that was ours alone all the time."""
    with suppress(FileNotFoundError, UnicodeDecodeError):
        found = path.lstat()
        alone = stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
        if alone and len(token := path.read_text("ascii").strip()) >= TOKEN_BYTES:
            return token
    token = secrets.token_urlsafe(TOKEN_BYTES)
    write_atomically(path, f"{token}\n".encode())
    return token


def _private_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:
        raise HomeError(f"{folder} is not a folder", "remove it, or set XDG_RUNTIME_DIR") from None
    except OSError as error:
        raise HomeError(
            f"{folder} cannot be made: {error.strerror or error}", "set XDG_RUNTIME_DIR to a folder of yours"
        ) from error
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise HomeError(
            f"{folder} belongs to somebody else (uid {found.st_uid})",
            "that user could pose as your node: have it removed, or set XDG_RUNTIME_DIR to a folder of yours",
        )
    if not found.st_mode & 0o077:
        return
    if folder.name == f"dragon-{os.getuid()}":
        folder.chmod(0o700)
    elif found.st_mode & 0o022:  # a runtime folder is the system's own: never changed by us
        raise HomeError(
            f"others may write in {folder}", f"chmod 700 {folder}, or set XDG_RUNTIME_DIR to a folder that is yours alone"
        )


def _make_way(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise HomeError(f"{path} is in the way: it is not a socket", "remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor:
        visitor.settimeout(1.0)  # a live node accepts at once; a full backlog blocks, which is an answer too
        try:
            visitor.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except TimeoutError:
            pass
    raise HomeError(f"a node answers on {path} already", "use it, stop it, or give this one its own DRAGON_HOME")
