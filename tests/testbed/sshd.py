"""A real OpenSSH server of the tests' own, on loopback, with its own keys; and real `ssh -L` tunnels through it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from tests.testbed.packages import program
from tests.testbed.ports import free_port

START_SECONDS = 30.0


class SshServer:
    """An `sshd` on 127.0.0.1:`port`. Stopping it ends its tunnels too."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dragon-sshd-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[subprocess.Popen[bytes]] = []

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

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
        sshd, keygen = program("sshd"), program("ssh-keygen")
        assert sshd is not None
        assert keygen is not None
        for name in ("host_key", "user_key"):
            subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)], check=True)
        shutil.copy(self.folder / "user_key.pub", self.folder / "authorized_keys")
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd confines its unprivileged half; Debian's unit makes it
        config = self.folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host_key\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\nStrictModes no\nPermitRootLogin yes\n"
            "PasswordAuthentication no\nAllowTcpForwarding yes\nLogLevel ERROR\n"
        )
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sshd, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._wait_for(self.port, self._process)

    def tunnel(self, remote_port: int, *, local_port: int | None = None, direction: str = "-L") -> int:
        """Open `ssh -L local:127.0.0.1:remote` (or `-R`) through this server; return the local port once it listens."""
        port = local_port if local_port is not None else free_port()
        command = [
            "ssh", "-F", "none", "-N", "-p", str(self.port), "-i", str(self.folder / "user_key"),
            "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={self.folder}/known_hosts",
            "-o", "ExitOnForwardFailure=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
            direction, f"127.0.0.1:{port}:127.0.0.1:{remote_port}", f"{pwd.getpwuid(os.getuid()).pw_name}@127.0.0.1",
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            client = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self._clients.append(client)
        self._wait_for(port, client)
        return port

    def _wait_for(self, port: int, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
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
            process.terminate()
        for process in ending:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
