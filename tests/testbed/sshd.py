"""A real OpenSSH server of the tests' own, on loopback, with its own keys; and real `ssh -L` tunnels through it."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import psutil

from tests.testbed.packages import program
from tests.testbed.ports import free_port

START_SECONDS = 30.0


class SshServer:
    """An `sshd` on `addresses` with one `port`. Stopping it ends its tunnels too. `options` are further lines of its config."""

    def __init__(self, addresses: Sequence[str] = ("127.0.0.1",), options: Sequence[str] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dragon-sshd-"))
        self.port = free_port()
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self._addresses = tuple(addresses)
        self._options = tuple(options)
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[subprocess.Popen[bytes]] = []

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def user_key(self) -> Path:
        """A private key that is let in."""
        return self.folder / "user_key"

    def known_line(self, host: str) -> str:
        """Return the line that a known_hosts file has for this server under the name `host`."""
        return f"[{host}]:{self.port} {(self.folder / 'host_key.pub').read_text().strip()}\n"

    def new_key(self, name: str) -> Path:
        """Make a key pair in the server's folder, in place of one of that name; return the private one's file."""
        keygen = program("ssh-keygen")
        assert keygen is not None
        file = self.folder / name
        file.unlink(missing_ok=True)
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
        return file

    def kill(self) -> None:
        """End it and every connection it serves with SIGKILL, as a crash of the host would, and collect it."""
        assert self._process is not None
        for each in [*psutil.Process(self.pid).children(recursive=True), psutil.Process(self.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        self._process.wait()
        self._process = None

    def freeze(self, signal_number: int = signal.SIGSTOP) -> None:
        """Stop it and every connection it serves where they are: connected, and silent. `thaw` lets them go on."""
        for each in [*psutil.Process(self.pid).children(recursive=True), psutil.Process(self.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(signal_number)

    def thaw(self) -> None:
        self.freeze(signal.SIGCONT)

    def connections(self) -> int:
        """Return how many connections it serves now."""
        return len(psutil.Process(self.pid).children())

    def start(self) -> None:
        """Run it again after `kill`, on the same port with the keys as they are now."""
        self._run()

    def __enter__(self) -> SshServer:
        try:
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _launch(self) -> None:
        for name in ("host_key", "user_key"):
            self.new_key(name)
        shutil.copy(self.folder / "user_key.pub", self.folder / "authorized_keys")
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd confines its unprivileged half; Debian's unit makes it
        config = self.folder / "sshd_config"
        listen = "".join(f"ListenAddress {each}\n" for each in self._addresses)
        config.write_text(
            "".join(f"{line}\n" for line in self._options)  # the first word on a matter is the one that counts
            + f"Port {self.port}\n{listen}HostKey {self.folder}/host_key\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\nStrictModes no\nPermitRootLogin yes\n"
            "PasswordAuthentication no\nAllowTcpForwarding yes\nLogLevel ERROR\n"
        )
        self._run()

    def _run(self) -> None:
        sshd = program("sshd")
        assert sshd is not None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sshd, "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._wait_for(self.port, self._process, self._addresses[0])

    def tunnel(self, remote_port: int, *, local_port: int | None = None, direction: str = "-L") -> int:
        """Open `ssh -L local:127.0.0.1:remote` (or `-R`) through this server; return the local port once it listens."""
        port = local_port if local_port is not None else free_port()
        command = [
            "ssh", "-F", "none", "-N", "-p", str(self.port), "-i", str(self.folder / "user_key"),
            "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={self.folder}/known_hosts",
            "-o", "ExitOnForwardFailure=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
            direction, f"127.0.0.1:{port}:127.0.0.1:{remote_port}", f"{self.user}@127.0.0.1",
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            client = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self._clients.append(client)
        self._wait_for(port, client)
        return port

    def _wait_for(self, port: int, process: subprocess.Popen[bytes], host: str = "127.0.0.1") -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection((host, port), timeout=5).close()
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"port {port} never opened:\n{(self.folder / 'log').read_text()[-2000:]}") from None
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """End clients, then the server; may be called again."""
        ending = [*self._clients, *([self._process] if self._process is not None else [])]
        self._clients, self._process = [], None
        for process in ending:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in ending:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
