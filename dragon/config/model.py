"""The settings, as immutable values: every key of config.toml, its type, its default, and why.

The environment spells a key `DRAGON_<SECTION>_<KEY>`, a flag `--set section.key=value`. Unknown keys are errors.
Plain pydantic on purpose: pydantic-settings costs 5 MB of an idle node and forgets where a value came from.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from dragon.config.grammar import (
    Access,
    Address,
    Evidence,
    FilePath,
    HostName,
    HttpPath,
    KuboApi,
    KuboAuth,
    Labels,
    NodeAlias,
    NodeId,
    Port,
    PublicKey,
    RelayUrl,
    Route,
    Seconds,
    Slug,
    Slugs,
    Status,
    Swarm,
    UserName,
    UserPath,
    Variables,
    Weight,
    default_alias,
    with_entries,
)
from registry_schema.manifest import Scheme


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", validate_default=False)


class NodeSettings(Section):
    alias: NodeAlias = Field(default_factory=default_alias)
    """What people call this node; the machine's name unless set."""
    swarm: Swarm = "dragon"
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
    api: KuboApi | None = None
    """API address of an existing daemon."""
    auth: KuboAuth | None = None
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
    """Who writes the node's IPNS name: `auto` is `dragon` on a managed daemon, `astroport` on a station (its scripts publish
    the files that are laid down there), and `off` on any other daemon that is not ours."""

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
    test: HttpPath | None = None
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
    env: Variables | None = None
    """What `dragon env` prints: a list of names for the URL, or NAME = "text with {url}, {host}, {port}"."""


class Origins(Protocol):
    """What the settings were read from (`load`); looked into only when something is wrong, for it takes a parse per line."""

    def origin(self, path: tuple[str, ...]) -> object: ...


class CatalogueSettings(Section):
    only: Slugs | None = None
    """When set, nothing else is looked for."""
    private: Slugs | None = None
    """Never offered. Replaces the shipped choice (npm, qdrant, webtop)."""
    also_private: Slugs = ()
    """Never offered either; added to `private` or to the shipped choice. DRAGON_PRIVATE_SERVICES adds to it."""
    entries: dict[Slug, EntryOverride] = Field(default_factory=dict)
    """The `[catalogue.<slug>]` tables."""

    _sources: Origins | None = PrivateAttr(default=None)

    def place(self, key: str) -> str | None:
        """Return where a key or table of this section was written: what only shows beside the other tables is told with it."""
        return str(self._sources.origin(("catalogue", key))) if self._sources else None

    @model_validator(mode="before")
    @classmethod
    def _tables_are_entries(cls, data: Any) -> Any:
        return with_entries(cls.model_fields, data)


class ConnectSettings(Section):
    cascade: Literal["dual", "p2p-first", "production"] = "dual"
    """The order of routes: local, ssh, p2p; or p2p before ssh; or p2p alone."""
    strategy: Literal["p2c", "rotate", "random", "first"] = "p2c"
    """How one of several providers is chosen."""
    weights: dict[NodeId, Weight] = Field(default_factory=dict)
    """Node id → how many connections it carries where others carry one. Said here by who chooses, never by the provider."""
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
        return with_entries(cls.model_fields, data)


class GateSettings(Section):
    connections_per_caller: Annotated[int, Field(ge=1, le=65535)] = 128
    """Connections that one node may hold open to our services at once: a browser opens six, a busy program dozens."""
    connections: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    """Connections to all our services together, from everybody; whoever comes beyond either limit is closed at once."""


class ApiSettings(Section):
    tcp: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Loopback port of the control API besides its unix socket; 0 takes a free one; off unless set. Needs the token."""


class AstroportSettings(Section):
    """Living on an Astroport station. Everything here is without effect where there is none."""

    enabled: Literal["auto", "on", "off"] = "auto"
    """`auto`: on where ZEN_HOME (default ~/.zen) looks like a station."""
    bash_stations: bool = True
    """Whether stations that only run the Bash scripts are read from their IPNS names, shown (`trust: ipns`) and used last."""
    bash_first: bool = False
    """Lay nothing down before the station's own DRAGON_p2p_ssh.sh has published: its listeners are adopted, not owned."""
    captain: bool = False
    """Whether the captain's mail address is said in the manifest; it stands in the station's own 12345.json anyway."""
    docker_bridge: bool = False
    """Whether the generated x_*.sh also listen on docker's bridge address, besides loopback."""
    authorized_keys: bool = False
    """Whether SSH keys of stations of the same UPlanet (NOSTR kind 30850) are kept in ~/.ssh/authorized_keys."""
    beacon_port: Port = 12345
    """Port of the public read-only beacon, which Dragon serves with `[registry] publisher = "dragon"` only."""


class ConstellationSettings(Section):
    """NOSTR sync: which events this node's relay shall hold, and from whom."""

    enabled: bool = True
    """Whether `dragon serve` syncs by itself where there is a relay and somebody to sync for."""
    every: Annotated[float, Field(ge=60, le=604_800)] = 3600.0
    """Seconds between two runs of a serving node."""
    follow: bool = False
    """Whether a serving node also keeps live subscriptions through the tunnels (`dragon sync --follow`)."""
    timeout: Annotated[float, Field(ge=1, le=86_400)] = 1800.0
    """Seconds for one run; what was received until then is kept."""
    days: Annotated[float, Field(gt=0, le=36_500)] = 1.0
    """How far back a run looks."""
    kinds: Annotated[tuple[Annotated[int, Field(ge=0, le=65_535)], ...], Field(strict=False, min_length=1)] | None = None
    """Kinds of events; None: the default ones of docs/sync.md."""
    authors: Annotated[tuple[PublicKey, ...], Field(strict=False)] = ()
    """Public keys (`npub1…` or 64 hex digits) whose events are kept, besides a station's people."""
    relay: RelayUrl | None = None
    """The local relay (ws://127.0.0.1:7777); None: where the catalogue's strfry answers on this machine."""
    tool: UserPath | None = None
    """The `strfry` program that imports events; None: the station's ~/.zen/strfry/strfry, where there is one."""
    hosts: Annotated[tuple[HostName, ...], Field(strict=False)] = ()
    """Hosts whose relays may be reached at the public address that a peer publishes. Private ranges never are."""
    peers_at_once: Annotated[int, Field(ge=1, le=64)] = 4
    """Relays that are read at the same time."""
    both: bool = False
    """Whether events that a peer lacks are also sent to it."""
    mail_to: str | None = None
    """Where reports are mailed; none unless set."""
    mail_from: str | None = None
    """Sender of these mails; `mail_to` unless set."""
    smtp: str | None = None
    """host:port of the mail server; None: the `sendmail` command, where there is one."""


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
    astroport: AstroportSettings = Field(default_factory=AstroportSettings)
    constellation: ConstellationSettings = Field(default_factory=ConstellationSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)

    _overrides: dict[str, str] = PrivateAttr(default_factory=dict)
    """The flags that this was loaded with, so that reading the file again keeps them."""

    def flags(self, section: str) -> dict[str, str]:
        """Return the flags of one section, `section.key` → text: what a child process must be told as well."""
        return {key: text for key, text in self._overrides.items() if key.startswith(f"{section}.")}
