"""Running containers, asked of Docker and Podman over their sockets (Docker Engine API, `GET /containers/json`)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from dragon.probe.evidence.sighting import CannotTell, Sighting

if TYPE_CHECKING:
    import aiohttp

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

MAX_ANSWER: Final = 8 << 20
"""Bytes of a container list: 2 kB a container, so thousands of them."""


@dataclass(frozen=True, slots=True)
class Container:
    names: tuple[str, ...]
    image: str
    ports: frozenset[int] | None
    """TCP ports of this machine that it publishes; None when it publishes none (its ports may be the machine's own)."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Where one container engine listens: the path of a unix socket, or a loopback address."""

    path: str = ""
    url: str = ""

    def __str__(self) -> str:
        return self.path or self.url


def engines(environ: Mapping[str, str], home: Path, uid: int) -> tuple[list[Engine], list[str]]:
    """Return the engines to ask and what to say of those that cannot be.

    `DOCKER_HOST` and `CONTAINER_HOST` (Podman) each replace the usual places of their engine. An engine on another machine is
    passed over: its containers do not run here.
    """
    found: list[Engine] = []
    troubles: list[str] = []
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    usual = {
        "DOCKER_HOST": (
            "/var/run/docker.sock",
            f"{runtime}/docker.sock",  # rootless Docker
            str(home / ".docker/run/docker.sock"),  # Docker Desktop
            str(home / ".docker/desktop/docker.sock"),
        ),
        "CONTAINER_HOST": ("/run/podman/podman.sock", f"{runtime}/podman/podman.sock"),
    }
    for variable, places in usual.items():
        if not (named := environ.get(variable)):
            found += [Engine(path=place) for place in places if _is_socket(place)]
        elif named.startswith("unix://"):
            found.append(Engine(path=named.removeprefix("unix://")))
        elif named.startswith(("tcp://", "http://")) and urlsplit(named).hostname in LOOPBACK:
            if environ.get("DOCKER_TLS_VERIFY"):
                troubles.append(f"{variable}={named} wants TLS, which Dragon does not speak to Docker: name its unix socket")
            else:
                found.append(Engine(url=f"http://{urlsplit(named).netloc}"))
        else:
            troubles.append(f"{variable}={named} is not on this machine: its containers are passed over")
    return list(dict.fromkeys(found)), troubles


def _is_socket(place: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(place).st_mode)  # noqa: PTH116  # Path.is_socket raises where a folder is closed to us
    except OSError:
        return False


async def ask(engine: Engine, timeout: float) -> list[Container]:
    """Return the running containers of one engine. Raises `CannotTell` saying what would help."""
    import aiohttp  # 15 MB that a command line which only parses the catalogue does not need

    connector: aiohttp.BaseConnector
    connector = aiohttp.UnixConnector(engine.path) if engine.path else aiohttp.TCPConnector(force_close=True)
    limit = aiohttp.ClientTimeout(total=timeout)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=limit) as session,
            session.get(f"{engine.url or 'http://engine'}/containers/json") as answer,
        ):
            if answer.status != 200:
                raise CannotTell(f"{engine} answers {answer.status}")
            return parse(await _json(answer))
    except aiohttp.ClientConnectorError as error:
        raise CannotTell(f"{engine}: {_advice(engine, error.os_error)}") from error
    except TimeoutError:
        raise CannotTell(f"{engine} gave no answer within {timeout:g} s") from None
    except (aiohttp.ClientError, ValueError) as error:
        raise CannotTell(f"{engine} does not speak like a container engine: {error}") from error


async def _json(answer: aiohttp.ClientResponse) -> Any:
    import json

    body = await answer.content.read(MAX_ANSWER)
    while (more := await answer.content.read(MAX_ANSWER)) and len(body) < MAX_ANSWER:
        body += more
    return json.loads(body)


def _advice(engine: Engine, error: OSError) -> str:
    if isinstance(error, PermissionError) or error.errno == 13:
        return "no permission (add this user to the group of the socket, usually `docker`)"
    if isinstance(error, FileNotFoundError):
        return "no such socket"
    return "nobody answers there"


def parse(document: Any) -> list[Container]:
    """Return the containers in an engine's answer. Raises `ValueError` when it has another shape."""
    if not isinstance(document, list):
        raise ValueError("not a list of containers")
    return [_container(each) for each in document if isinstance(each, dict)]


def _container(fields: Mapping[str, Any]) -> Container:
    names = tuple(str(name).lstrip("/") for name in fields.get("Names") or ())
    published = frozenset(
        port["PublicPort"]
        for port in fields.get("Ports") or ()
        if isinstance(port, dict) and port.get("Type", "tcp") == "tcp" and isinstance(port.get("PublicPort"), int)
    )
    return Container(names, str(fields.get("Image") or ""), published or None)


def sight(text: str, containers: Iterable[Container], troubles: Iterable[str], *, image_only: bool) -> Sighting:
    """Return whether a container runs whose name or image (or image alone) contains `text`, and the ports they publish."""
    matching = [
        each for each in containers if text in each.image or (not image_only and any(text in name for name in each.names))
    ]
    if matching:
        first = matching[0].names[0] if matching[0].names else "without a name"
        known = [each.ports for each in matching if each.ports is not None]
        ports = frozenset().union(*known) if len(known) == len(matching) else None
        return Sighting(True, f"container {first} ({matching[0].image})", ports)
    what = "image" if image_only else "container"
    said = "; ".join(troubles)
    if said:
        return Sighting(None, f"cannot tell whether {what} {text} runs: {said}")
    return Sighting(False, f"no {what} {text}")


def here() -> tuple[list[Engine], list[str]]:
    """Return the engines of this machine as this process may see them."""
    return engines(os.environ, Path(os.path.expanduser("~")), os.getuid())  # noqa: PTH111  # Path.home() may raise
