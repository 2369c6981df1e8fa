"""The official release: downloaded, verified against the SHA-512 file published beside it, unpacked.

Layout of the distribution site: `<base>/kubo/v<version>/kubo_v<version>_<os>-<arch>.tar.gz` and the same with `.sha512`.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import platform
import re
import shutil
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from dragon.errors import KuboMissing
from dragon.kubo.progress import Progress

DIST = "https://dist.ipfs.tech"
"""Kubo's own distribution site; `DRAGON_KUBO_DIST` names a mirror with the same layout."""

TIMEOUT = 20.0
"""Seconds without a byte after which a download is given up."""

MAX_ARCHIVE = 256 << 20
"""Bytes; a release is about 50 MB. More is not one."""

_SYSTEMS = {"Linux": "linux", "Darwin": "darwin", "FreeBSD": "freebsd"}
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64", "riscv64": "riscv64"}


def archive_name(version: str, system: str, machine: str) -> str:
    """Return the file name of a release for `platform.system()` and `platform.machine()`; `KuboMissing` where there is none."""
    try:
        return f"kubo_v{version}_{_SYSTEMS[system]}-{_MACHINES[machine.lower()]}.tar.gz"
    except KeyError:
        raise KuboMissing(f"there is no Kubo release for {system} on {machine}") from None


def download(version: str, work: Path, progress: Progress) -> Path:
    """Return the binary, unpacked below `work`.

    Raises `KuboMissing`: unreachable, truncated, wrong checksum, no binary inside.
    """
    base = os.environ.get("DRAGON_KUBO_DIST", DIST).rstrip("/")
    url = f"{base}/kubo/v{version}/{archive_name(version, platform.system(), platform.machine())}"
    archive, binary = work / "kubo.tar.gz", work / "ipfs"
    try:
        expected = _checksum(url + ".sha512")
        progress.step(f"downloading {url}")
        found = _fetch(url, archive, progress)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise KuboMissing(f"{url} cannot be downloaded: {getattr(error, 'reason', None) or error}") from error
    if found != expected:
        raise KuboMissing(f"{url} is not what was published: its SHA-512 is {found[:16]}…, not {expected[:16]}…")
    try:
        with tarfile.open(archive) as tar, binary.open("wb") as out:
            inside = tar.extractfile("kubo/ipfs")
            if inside is None:
                raise KeyError("kubo/ipfs")
            shutil.copyfileobj(inside, out)
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise KuboMissing(f"{url} holds no kubo/ipfs: {str(error).splitlines()[0]}") from error
    return binary


def _checksum(url: str) -> str:
    with _open(url) as answer:
        text = answer.read(4096).decode("ascii", "replace")
    match = re.match(r"[0-9a-f]{128}\b", text)
    if not match:
        raise KuboMissing(f"{url} is no SHA-512 file")
    return match[0]


def _fetch(url: str, archive: Path, progress: Progress) -> str:
    """Write the answer to `archive` and return its SHA-512 in hex."""
    digest = hashlib.sha512()
    with _open(url) as answer, archive.open("wb") as out:
        length, done = int(answer.headers.get("Content-Length") or 0), 0
        while piece := answer.read(1 << 20):
            done += len(piece)
            if done > MAX_ARCHIVE:
                raise KuboMissing(f"{url} is larger than any Kubo release")
            digest.update(piece)
            out.write(piece)
            progress.detail(f"downloading Kubo: {done >> 20} MB" + (f" of {length >> 20}" if length else ""))
    if length and done < length:
        raise KuboMissing(f"{url} was cut off after {done} of {length} bytes")
    return digest.hexdigest()


def _open(url: str) -> http.client.HTTPResponse:
    if not url.startswith(("http://", "https://")):
        raise KuboMissing(f"{url} is no http(s) address", "correct DRAGON_KUBO_DIST")
    return urllib.request.urlopen(url, timeout=TIMEOUT)  # type: ignore[no-any-return]  # noqa: S310  checked above
