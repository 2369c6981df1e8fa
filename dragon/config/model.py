"""The settings, as immutable values: every key of config.toml, its type, its default, and why.

The environment spells a key `DRAGON_<SECTION>_<KEY>`, a flag `--set section.key=value`. Unknown keys are errors.
Plain pydantic on purpose: pydantic-settings costs 5 MB of an idle node and forgets where a value came from.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from registry_schema import limits
from registry_schema.ids import is_node_id
from registry_schema.manifest import Labels as ManifestLabels
from registry_schema.manifest import Scheme
from registry_schema.texts import SLUG_PATTERN, Alias, SwarmName, clean_alias

_ALIAS: TypeAdapter[str] = TypeAdapter(Alias)
_SWARM: TypeAdapter[str] = TypeAdapter(SwarmName)
_LABELS: TypeAdapter[dict[str, str]] = TypeAdapter(ManifestLabels)
_KUBO_API = re.compile(r"(/(ip4|ip6|dns|dns4|dns6)/[^/]+/tcp/\d+(/https?)?|/unix/.+|https?://[^/]+/?)")
_EVIDENCE = re.compile(r"port|always|(process|systemd|docker|dockerimg):\S.{0,126}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*\.?")
_USER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}")
_SLUG = re.compile(SLUG_PATTERN.removeprefix("^").removesuffix("$"))


def alias_from(hostname: str) -> str:
    """Return the first label of `hostname` made to fit the alias grammar; `dragon` when nothing of it fits."""
    return clean_alias(hostname.split(".", 1)[0], otherwise="dragon")


def _default_alias() -> str:
    return alias_from(socket.gethostname())


def _fits(adapter: TypeAdapter[str], text: str) -> bool:
    try:
        adapter.validate_python(text, strict=True)
    except ValidationError:
        return False
    return True


def _slug(text: str) -> str:
    if not _SLUG.fullmatch(text):
        raise ValueError("a slug: 1 to 32 of a-z, 0-9 and '-', not beginning with '-'")
    return text


def _alias(text: str) -> str:
    if not _fits(_ALIAS, text):
        raise ValueError(
            f"a name of at most {limits.MAX_ALIAS} letters, digits and . _ - in words, beginning with a letter or digit"
        )
    return text


def _swarm(text: str) -> str:
    if not _fits(_SWARM, text):
        raise ValueError("a swarm name: 1 to 64 of a-z, A-Z, 0-9 and . _ -")
    return text


def _node_id(text: str) -> str:
    if not is_node_id(text):
        raise ValueError("a node id (12D3KooW… or Qm…)")
    return text


def _multiaddr(text: str) -> str:
    if not text.startswith("/") or "/p2p/" not in text or not is_node_id(text.rsplit("/p2p/", 1)[1]):
        raise ValueError("an address that ends in a node id: /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…")
    return text


def _kubo_api(text: str) -> str:
    if not _KUBO_API.fullmatch(text):
        raise ValueError("Kubo's API address: /ip4/127.0.0.1/tcp/5001, /unix/path/of.sock or http://host:5001")
    return text


def _kubo_auth(text: str) -> str:
    if not text.startswith(("bearer:", "basic:")):
        raise ValueError("bearer:TOKEN or basic:USER:PASSWORD, as in Kubo's API.Authorizations")
    return text


def _port(number: int) -> int:
    if not 1 <= number <= 65535:
        raise ValueError("a port, 1 to 65535")
    return number


def _labels(labels: dict[str, str]) -> dict[str, str]:
    try:
        return _LABELS.validate_python(labels, strict=True)
    except ValidationError as error:
        if error.errors()[0]["type"] == "too_long":
            raise ValueError(f"at most {limits.MAX_LABELS} labels") from None
        raise ValueError(
            'labels such as gpu = "rtx3090": names of a-z 0-9 . _ -, values of letters, digits, single spaces and _:/+@,()%=.-'
        ) from None


def _evidence(text: str) -> str:
    if not _EVIDENCE.fullmatch(text) or not text.isprintable():
        raise ValueError("process:NAME, systemd:UNIT, docker:NAME, dockerimg:IMAGE, port or always")
    if text.startswith("process:"):
        try:
            re.compile(text.removeprefix("process:"))
        except re.error as error:
            raise ValueError(f"a pattern that pgrep could match ({error})") from None
    return text


def _http_path(text: str) -> str:
    if not text.startswith("/") or not text.isprintable() or " " in text:
        raise ValueError("a path that begins with '/', such as /api/tags")
    return text


def _host(text: str) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in bare:
        with suppress(ValueError):
            return str(ipaddress.IPv6Address(bare))
    elif len(bare) <= 253 and _HOST_NAME.fullmatch(bare):
        return bare
    raise ValueError("a host name or an IP address, without user and port (those are keys of their own)")


def _user(text: str) -> str:
    if not _USER_NAME.fullmatch(text):
        raise ValueError("a login name on that host")
    return text


def _expanded(path: Path) -> Path:
    return path.expanduser()


def _variables(value: Any) -> Any:
    """A list of names is the usual case: each is the service's URL."""
    return dict.fromkeys(value, "{url}") if isinstance(value, list) and all(isinstance(one, str) for one in value) else value


def _variable(text: str) -> str:
    if not _ENV_NAME.fullmatch(text):
        raise ValueError("the name of an environment variable, such as OLLAMA_API_BASE")
    return text


def _template(text: str) -> str:
    try:
        text.format(url="", host="", port=0)
    except (LookupError, ValueError):
        raise ValueError("a text with {url}, {host} and {port} at most") from None
    return text


def _access(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if isinstance(value, str) and value not in ("members", "public"):
        raise ValueError("members, public or a list of node ids")
    if not isinstance(value, str):
        for one in value:
            _node_id(one)
    return value


Slug: TypeAlias = Annotated[str, AfterValidator(_slug)]
Slugs: TypeAlias = Annotated[tuple[Slug, ...], Field(strict=False)]
Port: TypeAlias = Annotated[int, AfterValidator(_port)]
Labels: TypeAlias = Annotated[dict[str, str], AfterValidator(_labels)]
Seconds: TypeAlias = Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)]
FilePath: TypeAlias = Annotated[Path, Field(strict=False)]
UserPath: TypeAlias = Annotated[Path, Field(strict=False), AfterValidator(_expanded)]
HostName: TypeAlias = Annotated[str, AfterValidator(_host)]
UserName: TypeAlias = Annotated[str, AfterValidator(_user)]
Address: TypeAlias = Annotated[str, AfterValidator(_multiaddr)]
NodeId: TypeAlias = Annotated[str, AfterValidator(_node_id)]
Evidence: TypeAlias = Annotated[str, AfterValidator(_evidence)]
Variable: TypeAlias = Annotated[str, AfterValidator(_variable)]
Template: TypeAlias = Annotated[str, AfterValidator(_template)]
Status: TypeAlias = Annotated[int, Field(ge=100, le=599)]
Route: TypeAlias = Literal["local", "ssh6", "ssh4", "p2p"]
Access: TypeAlias = Annotated[str | Annotated[tuple[str, ...], Field(strict=False)], AfterValidator(_access)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", validate_default=False)


def _with_entries(section: type[Section], data: Any) -> Any:
    """Return the section's `data` with the tables that are none of its keys gathered under `entries`."""
    if not isinstance(data, dict) or "entries" in data:
        return data
    entries = {key: value for key, value in data.items() if key not in section.model_fields and isinstance(value, dict)}
    return {**{key: value for key, value in data.items() if key not in entries}, "entries": entries}


class NodeSettings(Section):
    alias: Annotated[str, AfterValidator(_alias)] = Field(default_factory=_default_alias)
    """What people call this node; the machine's name unless set."""
    swarm: Annotated[str, AfterValidator(_swarm)] = "dragon"
    """The swarm it belongs to: nodes of one name see one another."""
    join: Annotated[tuple[Address, ...], Field(strict=False)] = ()
    """Peers to connect to and to stay connected with."""
    isolated: bool = False
    """True: the managed Kubo talks to nobody but `join` peers, and listens on loopback."""
    labels: Labels = Field(default_factory=dict)
    """Said of the whole node in its manifest."""


class KuboSettings(Section):
    managed: bool = True
    """True: a Kubo daemon of our own below DRAGON_HOME. Setting `api` means an existing one."""
    api: Annotated[str, AfterValidator(_kubo_api)] | None = None
    """API address of an existing daemon."""
    auth: Annotated[str, AfterValidator(_kubo_auth)] | None = None
    """Its API secret. Never printed."""
    repo: FilePath | None = None
    """Repo of an existing daemon, from which its API address is read; IPFS_PATH where `managed` is false."""
    binary: FilePath | None = None
    """The `ipfs` to run instead of one that is found."""
    swarm_key: FilePath | None = None
    """A Kubo swarm.key: makes the managed daemon's network a closed one."""


class SwarmSettings(Section):
    admit: Annotated[tuple[NodeId, ...], Field(strict=False)] = ()
    """When not empty, only these nodes enter the view: a closed swarm by list."""


class RegistrySettings(Section):
    heartbeat: Seconds = 30.0
    """Seconds between two beats of an unchanged manifest."""
    lease: Annotated[float, Field(ge=5, le=3600)] = 90.0
    """Seconds for which we ask to be believed without a new beat (three beats)."""
    keep_hours: Annotated[float, Field(gt=0, le=8760)] = 48.0
    """Hours for which a silent node is remembered."""
    publisher: Literal["auto", "dragon", "off", "astroport"] = "auto"
    """Who writes the node's IPNS name: `auto` is `dragon` on a managed daemon and `off` on one that is not ours."""

    @model_validator(mode="after")
    def _believable(self) -> RegistrySettings:
        if self.lease < self.heartbeat:
            raise ValueError(f"a lease longer than the heartbeat ({self.heartbeat:g} s); three beats are usual")
        return self


class EntryOverride(Section):
    """A `[catalogue.<slug>]` table: None means: as shipped."""

    label: Annotated[str, Field(min_length=1, max_length=80)] | None = None
    port: Port | None = None
    local_port: Port | None = None
    evidence: Annotated[tuple[Evidence, ...], Field(strict=False, min_length=1)] | None = None
    test: Annotated[str, AfterValidator(_http_path)] | None = None
    accept: Annotated[tuple[Status, ...], Field(strict=False, min_length=1)] | None = None
    scheme: Scheme | None = None
    sticky: bool | None = None
    labels: Labels | None = None
    aliases: Slugs | None = None
    routes: Annotated[tuple[Route, ...], Field(strict=False, min_length=1)] | None = None
    access: Access | None = None
    private: bool | None = None
    reads: dict[str, str] | None = None
    """Labels from the test's JSON answer: label → path."""
    env: Annotated[dict[Variable, Template], BeforeValidator(_variables)] | None = None
    """What `dragon env` prints: a list of names for the URL, or NAME = "text with {url}, {host}, {port}"."""


class CatalogueSettings(Section):
    only: Slugs | None = None
    """When set, nothing else is looked for."""
    private: Slugs | None = None
    """Never offered. Replaces the shipped choice (npm, qdrant, webtop)."""
    also_private: Slugs = ()
    """Never offered either; added to `private` or to the shipped choice. DRAGON_PRIVATE_SERVICES adds to it."""
    entries: dict[Slug, EntryOverride] = Field(default_factory=dict)
    """The `[catalogue.<slug>]` tables."""

    @model_validator(mode="before")
    @classmethod
    def _tables_are_entries(cls, data: Any) -> Any:
        return _with_entries(cls, data)


class ConnectSettings(Section):
    cascade: Literal["dual", "p2p-first", "production"] = "dual"
    """The order of routes: local, ssh, p2p; or p2p before ssh; or p2p alone."""
    strategy: Literal["p2c", "rotate", "random", "first"] = "p2c"
    """How one of several providers is chosen."""
    idle_seconds: Seconds = 600.0
    """Seconds without a connection after which a forward's leg is closed; its port stays."""
    test_timeout: Seconds = 5.0
    """Seconds for the catalogue's test of a service."""
    dial_timeout: Seconds = 10.0
    """Seconds for a provider to be reached (Kubo's own limit of 30 s is longer than a person waits)."""


class SshOverride(Section):
    """A `[ssh.<slug>]` table: where this service lies, when not on the host of `[ssh]`. None: as said there."""

    host: HostName | None = None
    user: UserName | None = None
    port6: Port | None = None
    port4: Port | None = None
    port: Port | None = None
    """The service's own port on the host's 127.0.0.1, where that is not the catalogue's."""
    off: bool = False
    """Never over SSH, whatever the rest says."""


class SshSettings(Section):
    """The SSH steps of the cascade. Without a host there are none."""

    host: HostName | None = None
    """The machine that runs services for us. None: what a station's environment names, else nothing."""
    user: UserName | None = None
    """Login name there; ours here unless set."""
    port6: Port = 22
    """Its SSH port over IPv6 (route ssh6)."""
    port4: Port = 2122
    """Its SSH port over IPv4 (route ssh4): stations forward this one through their box."""
    known_hosts: Annotated[tuple[UserPath, ...], Field(strict=False)] | None = None
    """Files with host keys that are trusted; None: ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts. Only read."""
    trust_on_first_use: bool = False
    """True: the key of a host that nobody knows is believed once and kept in DRAGON_HOME/known_hosts."""
    keys: Annotated[tuple[UserPath, ...], Field(strict=False)] = ()
    """Private key files to log in with; none: those of ~/.ssh with their usual names."""
    agent: bool = True
    """Whether the running ssh-agent (SSH_AUTH_SOCK) is asked for keys too."""
    keepalive: Seconds = 1.5
    """Seconds of silence after which the host is asked whether it lives. Three without an answer end the connection, so that
    what runs through it ends within five seconds."""
    connect_timeout: Seconds = 3.0
    """Seconds for the host to accept a connection: what the stations' scripts wait."""
    station: bool = True
    """Whether a station's variables (SWARM_REMOTE_HOST and its like) count where the file names no host."""
    entries: dict[Slug, SshOverride] = Field(default_factory=dict)
    """The `[ssh.<slug>]` tables."""

    @model_validator(mode="before")
    @classmethod
    def _tables_are_entries(cls, data: Any) -> Any:
        return _with_entries(cls, data)


class GateSettings(Section):
    connections_per_caller: Annotated[int, Field(ge=1, le=65535)] = 128
    """Connections that one node may hold open to our services at once: a browser opens six, a busy program dozens."""
    connections: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    """Connections to all our services together, from everybody; whoever comes beyond either limit is closed at once."""


class ApiSettings(Section):
    tcp: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Loopback port of the control API besides its unix socket; 0 takes a free one; off unless set. Needs the token."""


class Settings(Section):
    """All of it. A value: the same words give an equal one."""

    node: NodeSettings = Field(default_factory=NodeSettings)
    kubo: KuboSettings = Field(default_factory=KuboSettings)
    swarm: SwarmSettings = Field(default_factory=SwarmSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    catalogue: CatalogueSettings = Field(default_factory=CatalogueSettings)
    connect: ConnectSettings = Field(default_factory=ConnectSettings)
    ssh: SshSettings = Field(default_factory=SshSettings)
    gate: GateSettings = Field(default_factory=GateSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)

    _overrides: dict[str, str] = PrivateAttr(default_factory=dict)
    """The flags that this was loaded with, so that reading the file again keeps them."""
