"""Where the binary comes from: searched in order, downloaded from a site with the official layout, built by `go`."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import platform
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dragon.errors import KuboMissing
from dragon.home import Home
from dragon.kubo.binary import VERSION, cache_dir, find, find_or_install, parse_version
from dragon.kubo.build import module_dir
from dragon.kubo.progress import Lines, Silent
from dragon.kubo.release import archive_name

RUNS = b"#!/bin/sh\necho 0.43.0\n"
"""What stands for a Kubo where only its version is asked for."""


class Said(Silent):
    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)


class Site:
    """A distribution site with the official layout, on loopback; `files` is what it serves by path."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.asked: list[str] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                content = site.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if self.path in site.cut else content)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.path = f"/kubo/v{VERSION}/{archive_name(VERSION, platform.system(), platform.machine())}"

    def publish(self, program: bytes = RUNS, *, member: str = "kubo/ipfs") -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            entry = tarfile.TarInfo(member)
            entry.size, entry.mode = len(program), 0o755
            tar.addfile(entry, io.BytesIO(program))
        self.files[self.path] = out.getvalue()
        name = self.path.rsplit("/", 1)[-1]
        self.files[self.path + ".sha512"] = f"{hashlib.sha512(out.getvalue()).hexdigest()}  {name}\n".encode()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    site = Site()
    monkeypatch.setenv("DRAGON_KUBO_DIST", site.url + "/")
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield site
    site.server.shutdown()
    site.server.server_close()
    thread.join()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home and a cache of this test's own, and a PATH without `ipfs` and `go`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "echo", "sleep", "cat", "cp", "chmod"):
        found = next(Path(folder) / name for folder in os.environ["PATH"].split(":") if (Path(folder) / name).exists())
        (tools / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tools))
    return Home(tmp_path / "home")


@pytest.fixture
def program(tmp_path: Path) -> Callable[[Path, str], Path]:
    def make(path: Path, script: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return make


def test_the_search_order_and_what_is_passed_over(home: Home, tmp_path: Path, program: Callable[[Path, str], Path]) -> None:
    said = Said()
    assert find(home, progress=said) is None
    cached = program(cache_dir() / "ipfs", "echo 0.43.0")
    assert find(home) == cached
    own = program(home.bin / "ipfs", "echo 0.41.0")
    assert find(home) == own
    on_path = program(tmp_path / "tools" / "ipfs", "echo 0.40.1")
    assert find(home) == on_path
    program(on_path, "echo 0.39.0")
    program(own, "exit 1")
    assert find(home, progress=said) == cached
    assert [str(on_path) in said.steps[0], "older than 0.40" in said.steps[0]] == [True, True]
    assert [str(own) in said.steps[1], "does not run" in said.steps[1]] == [True, True]
    assert parse_version("0.43.0-rc1\n") == (0, 43, 0)
    assert parse_version("kubo") is None


def test_a_release_is_downloaded_verified_and_kept(home: Home, site: Site) -> None:
    site.publish()
    said = Said()
    binary = find_or_install(home, progress=said)
    assert binary == cache_dir() / "ipfs"
    assert binary.read_bytes() == RUNS
    assert any(site.path in step for step in said.steps)
    assert sorted(path.name for path in cache_dir().iterdir()) == [".lock", "ipfs"]
    asked = len(site.asked)
    assert find_or_install(home) == binary
    assert len(site.asked) == asked


def wrong_checksum(site: Site) -> None:
    site.files[site.path + ".sha512"] = b"0" * 128 + b"  kubo\n"


def no_checksum(site: Site) -> None:
    site.files[site.path + ".sha512"] = b"<html>not here</html>"


def checksum_missing(site: Site) -> None:
    del site.files[site.path + ".sha512"]


def cut(site: Site) -> None:
    site.cut.add(site.path)


def cut_checksum(site: Site) -> None:
    site.cut.add(site.path + ".sha512")


def not_there(site: Site) -> None:
    site.files.clear()


def other_content(site: Site) -> None:
    site.publish(member="kubo/README")


def hostile_member(site: Site) -> None:
    site.publish(member="../../ipfs")


def no_archive(site: Site) -> None:
    site.files[site.path] = b"nonsense"
    site.files[site.path + ".sha512"] = hashlib.sha512(b"nonsense").hexdigest().encode()


def does_not_run(site: Site) -> None:
    site.publish(b"#!/bin/sh\nexit 1\n")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (wrong_checksum, "not what was published"),
        (no_checksum, "no SHA-512 file"),
        (checksum_missing, "cannot be downloaded"),
        (cut, "cannot be downloaded|cut off"),
        (cut_checksum, "cannot be downloaded|no SHA-512 file"),
        (not_there, "cannot be downloaded"),
        (other_content, "holds no kubo/ipfs"),
        (hostile_member, "holds no kubo/ipfs"),
        (no_archive, "holds no kubo/ipfs"),
        (does_not_run, "does not run"),
    ],
)
def test_a_faulty_download_leaves_nothing_and_says_why(
    home: Home, site: Site, fault: Callable[[Site], None], reason: str
) -> None:
    site.publish()
    fault(site)
    with pytest.raises(KuboMissing, match=reason) as error:
        find_or_install(home)
    assert "no Go on PATH" in str(error.value)  # the next way was tried as well
    assert VERSION in error.value.hint
    assert "\n" not in str(error.value)
    assert [path.name for path in cache_dir().iterdir()] == [".lock"]


def test_a_refused_connection_goes_on_to_building(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: Callable[[Path, str], Path]
) -> None:
    monkeypatch.setenv("DRAGON_KUBO_DIST", "http://127.0.0.1:1")
    go = """
        case "$1" in
          version) echo "go version go1.26.5 linux/amd64" ;;
          build)
            test -f go.mod && test -f go.sum || exit 9
            echo "github.com/ipfs/kubo/core" >&2
            while [ "$1" != -o ]; do shift; done
            { echo '#!/bin/sh'; echo 'echo 0.43.0'; } > "$2" ;;
        esac
    """
    program(tmp_path / "tools" / "go", go)
    said = Said()
    assert find_or_install(home, progress=said) == cache_dir() / "ipfs"
    assert any("cannot be downloaded" in step for step in said.steps)
    assert any("building Kubo" in step for step in said.steps)
    assert sorted(path.name for path in cache_dir().iterdir()) == [".lock", "ipfs"]


@pytest.mark.parametrize(
    ("go", "reason"),
    [
        ("echo go version go1.20.4 linux/amd64", "Go 1.20.4 is too old"),
        ("echo go version go1.26 linux/amd64", "Go 1.26.0 is too old"),
        ("echo 'go: go.mod requires go >= 1.26.5 (running go 1.22.0; GOTOOLCHAIN=local)' >&2; exit 1", "requires go >= 1.26.5"),
        ('if [ "$1" = version ]; then echo go version go1.27.0; else echo "x: no such host" >&2; exit 1; fi', "no such host"),
    ],
)
def test_a_go_that_cannot_build_it_is_one_clear_line(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: Callable[[Path, str], Path], go: str, reason: str
) -> None:
    monkeypatch.setenv("DRAGON_KUBO_DIST", "http://127.0.0.1:1")
    program(tmp_path / "tools" / "go", go)
    with pytest.raises(KuboMissing, match=reason) as error:
        find_or_install(home)
    assert "Go >= 1.26.5" in error.value.hint
    assert [path.name for path in cache_dir().iterdir()] == [".lock"]


def test_two_at_once_install_once(home: Home, site: Site) -> None:
    site.publish()
    results: list[Path] = []
    threads = [threading.Thread(target=lambda: results.append(find_or_install(home))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [cache_dir() / "ipfs"] * 4
    assert site.asked.count(site.path) == 1


def test_the_command_prints_the_path_or_one_line(home: Home, site: Site) -> None:
    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "dragon.kubo.binary"], capture_output=True, text=True, check=False)

    failed = run()
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert "Traceback" not in failed.stderr
    assert "no Kubo on this machine" in failed.stderr
    site.publish()
    done = run()
    assert (done.returncode, done.stdout.strip()) == (0, str(cache_dir() / "ipfs"))


def test_an_unwritable_cache_is_one_clear_line(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(KuboMissing, match="cannot be written") as error:
        find_or_install(home)
    assert "XDG_CACHE_HOME" in error.value.hint


def test_the_module_pins_this_version() -> None:
    assert f"require github.com/ipfs/kubo v{VERSION}" in (module_dir() / "go.mod").read_text()
    assert f"github.com/ipfs/kubo v{VERSION} h1:" in (module_dir() / "go.sum").read_text()


@pytest.mark.parametrize(
    ("system", "machine", "suffix"),
    [("Linux", "x86_64", "linux-amd64"), ("Linux", "aarch64", "linux-arm64"), ("Darwin", "arm64", "darwin-arm64")],
)
def test_release_names(system: str, machine: str, suffix: str) -> None:
    assert archive_name(VERSION, system, machine) == f"kubo_v{VERSION}_{suffix}.tar.gz"
    with pytest.raises(KuboMissing, match="no Kubo release"):
        archive_name(VERSION, "Plan9", machine)


def test_plain_progress_is_a_line_now_and_then() -> None:
    at, out = [0.0], io.StringIO()
    lines = Lines(out, lambda: at[0])
    lines.step("building")
    for second in range(25):
        at[0] = second
        lines.detail(f"{second} packages")
    assert out.getvalue().splitlines() == ["building", "  … 10 packages", "  … 20 packages"]
