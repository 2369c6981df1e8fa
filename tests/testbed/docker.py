"""A real Docker daemon of the tests' own: own folders, own socket, no network changes, an image made from busybox.

with DockerDaemon() as docker:
    docker.run("orpheus", port=5005)        # a web server in a container of that name, on this machine's loopback
    DOCKER_HOST = docker.host
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from tests.testbed.packages import program

IMAGE = "dragon-testbed/web"
START_SECONDS = 60.0
PAGES = ("docs", "api/providers", "api/config", "index.html", "healthz")
"""What the container's web server answers with 200: the paths that the catalogue tests."""


class DockerDaemon:
    """A `dockerd` in its own folder. Stopping it removes its containers, mounts and cgroup folders."""

    def __init__(self) -> None:
        # Not under pytest's tmp_path: unix socket paths end at 108 bytes, and Docker's own are long.
        self.folder = Path(tempfile.mkdtemp(prefix="dragon-dockerd-"))
        self.socket = self.folder / "docker.sock"
        self.cgroup = f"/{self.folder.name}"
        self._process: subprocess.Popen[bytes] | None = None
        self._containers: set[str] = set()

    @property
    def host(self) -> str:
        """The value for `DOCKER_HOST`."""
        return f"unix://{self.socket}"

    def __enter__(self) -> DockerDaemon:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        dockerd, setpriv = program("dockerd"), program("setpriv")
        assert dockerd is not None
        command = [
            dockerd, "--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs",
            f"--data-root={self.folder}/data", f"--exec-root={self.folder}/exec", f"--pidfile={self.folder}/pid",
            f"--cgroup-parent={self.cgroup}", f"--host={self.host}", f"--config-file={self.folder}/daemon.json",
        ]  # fmt: skip
        (self.folder / "daemon.json").write_text("{}")  # the machine's own settings stay out
        guard = [setpriv, "--pdeathsig", "TERM"] if setpriv else []  # it leaves with the tests, however those end
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*guard, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dockerd did not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)
        self.cli("import", "-", IMAGE, stdin=_root_filesystem())

    def run(self, name: str, *, port: int, image: str = IMAGE) -> None:
        """Start a container called `name` whose web server listens on 127.0.0.1:`port` of this machine."""
        if image != IMAGE:
            self.cli("tag", IMAGE, image)
        self._containers.add(name)
        server = ("/bin/httpd", "-f", "-p", f"127.0.0.1:{port}", "-h", "/www")
        self.cli("run", "--detach", "--name", name, "--network=host", image, *server)

    def remove(self, name: str) -> None:
        self.cli("rm", "--force", "--volumes", name)
        self._containers.discard(name)

    def remove_all(self) -> None:
        for name in list(self._containers):
            self.remove(name)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the daemon where it is: its socket takes connections, nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def cli(self, *arguments: str, stdin: bytes = b"") -> str:
        """Return what `docker …` prints. Raises `RuntimeError` with its own words when it fails."""
        docker = program("docker")
        assert docker is not None
        done = subprocess.run(
            [docker, *arguments], input=stdin, env=self._environment(), capture_output=True, timeout=60, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"docker {' '.join(arguments)}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode()

    def _environment(self) -> Mapping[str, str]:
        return {**os.environ, "DOCKER_HOST": self.host, "DOCKER_CONFIG": str(self.folder / "client")}

    def _answers(self) -> bool:
        if not self.socket.exists():
            return False
        try:
            self.cli("version")
        except (RuntimeError, subprocess.TimeoutExpired):
            return False
        return True

    def stop(self) -> None:
        """End containers and daemon, by what is ours only; may be called again."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            for name in list(self._containers):
                try:
                    self.remove(name)
                except (RuntimeError, subprocess.TimeoutExpired):
                    continue  # the daemon ends it below
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        _unmount_below(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        remove_cgroups(self.folder.name)


def _unmount_below(folder: Path) -> None:
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in sorted((each for each in mounted if each.startswith(f"{folder}/")), key=len, reverse=True):
        subprocess.run(["umount", "--lazy", place], stderr=subprocess.DEVNULL, check=False)


def remove_cgroups(name: str) -> None:
    """Remove the empty cgroup folders `name` of every hierarchy, deepest first."""
    root = Path("/sys/fs/cgroup")
    for top in (root / name, *root.glob(f"*/{name}")):
        folders = [top, *(Path(place) for place, _, _ in os.walk(top))]
        for folder in sorted(set(folders), key=lambda path: len(path.parts), reverse=True):
            try:
                folder.rmdir()
            except OSError:
                continue  # a process is still leaving it, or it is gone


def _root_filesystem() -> bytes:
    """Return a tar archive of a machine that can serve files: busybox and a few pages."""
    busybox = program("busybox")
    assert busybox is not None
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        _add(tar, "bin/busybox", Path(busybox).read_bytes(), 0o755)
        for name in ("sh", "httpd"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for page in PAGES:
            _add(tar, f"www/{page}", b"{}", 0o644)
    return archive.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    tar.addfile(member, io.BytesIO(content))
