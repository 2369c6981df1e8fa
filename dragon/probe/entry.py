"""A catalogue entry: how one service is detected, checked and used. Parsed from plain tables (TOML, settings)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, cast, get_args

from dragon.errors import ConfigError
from registry_schema.manifest import Health, Scheme
from registry_schema.texts import LABEL_KEY_PATTERN, SLUG_PATTERN, clean_label

__all__ = ["CatalogueEntry", "Evidence", "Health", "Scheme", "parse_entry", "parse_evidence"]

EvidenceKind = Literal["process", "systemd", "docker", "dockerimg", "port", "always"]
Route = Literal["local", "ssh6", "ssh4", "p2p"]
ROUTES: Final[tuple[Route, ...]] = get_args(Route)
SCHEMES: Final[tuple[Scheme, ...]] = get_args(Scheme)
_BARE_KINDS: Final = frozenset({"port", "always"})
_SLUG = re.compile(SLUG_PATTERN)
_LABEL_KEY = re.compile(LABEL_KEY_PATTERN)
_UNIT = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9:_.@\\-]{0,254}$")
_ENVIRONMENT_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


@dataclass(frozen=True, slots=True)
class Evidence:
    """One sign that a service runs here, written `kind:name` or `kind`."""

    kind: EvidenceKind
    name: str = ""

    @property
    def is_specific(self) -> bool:
        """True when the sign names this service; an open port alone could be anybody's."""
        return self.kind not in _BARE_KINDS

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """How one service is detected, checked and used."""

    slug: str
    port: int
    """TCP port on which the service listens here, and its usual port elsewhere."""
    label: str = ""
    """Its name for people."""
    local_port: int | None = None
    """The local port that a forward to it prefers, where that is not `port`."""
    scheme: Scheme = "tcp"
    evidence: tuple[Evidence, ...] = (Evidence("port"),)
    """Any of these shows that it runs."""
    test: str | None = None
    """Path of the HTTP request that shows that it works; None: the scheme's own greeting, or a connection."""
    accept: tuple[int, ...] = ()
    """HTTP codes that pass the test; empty: any 2xx."""
    sticky: bool = False
    """True when a client must stay on one provider."""
    private: bool = False
    """True when it is never offered."""
    aliases: tuple[str, ...] = ()
    """Further names that lead here. An alias that is also a slug means that slug first (`Catalogue.slugs_for`)."""
    routes: tuple[Route, ...] = ROUTES
    """Ways by which it may be reached."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that every offer of it carries."""
    reads: Mapping[str, str] = field(default_factory=dict)
    """Labels told by the test's JSON answer: label key → path into it (`models.*.name`)."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Names that `dragon env` exports → template with `{url}`, `{host}`, `{port}`."""
    access: Literal["members", "public"] | tuple[str, ...] = "members"
    """Who may use our offer of it: nodes of the swarm, anybody, or these node ids."""

    def environment(self, url: str, host: str, port: int) -> dict[str, str]:
        """Return what `dragon env` exports for a forward that listens at `host`:`port`."""
        return {name: template.format(url=url, host=host, port=port) for name, template in self.env.items()}


def parse_evidence(text: str) -> Evidence:
    """Return the evidence spelled `process:NAME`, `systemd:UNIT`, `docker:NAME`, `dockerimg:IMAGE`, `port` or `always`.

    Raises `ValueError` saying what was expected.
    """
    kind, colon, name = text.partition(":")
    if kind not in get_args(EvidenceKind):
        raise ValueError(f"{text!r} is no evidence: expected one of process:NAME, systemd:UNIT, docker:NAME, "
                         "dockerimg:IMAGE, port, always")  # fmt: skip
    if (kind in _BARE_KINDS) != (not colon) or (colon and not name.strip()):
        raise ValueError(f"{text!r} is no evidence: {kind} {'takes no name' if kind in _BARE_KINDS else 'needs a name'}")
    if kind == "systemd" and not _UNIT.match(name):
        raise ValueError(f"{text!r}: {name!r} is no unit name")
    if kind == "process":
        try:
            re.compile(name)
        except re.error as error:
            raise ValueError(f"{text!r}: not a pattern that pgrep could match: {error}") from None
    return Evidence(cast(EvidenceKind, kind), name)


def parse_entry(slug: str, table: Mapping[str, Any], base: CatalogueEntry | None = None) -> CatalogueEntry:
    """Return the entry of `slug` that `table` describes, its missing (or None) keys taken from `base`.

    Raises `ConfigError` that names the key and says what was expected.
    """
    if not _SLUG.match(slug):
        raise _wrong(slug, "", "a slug is lower-case letters, digits and dashes, at most 32")
    given = {key: value for key, value in table.items() if value is not None}
    known = {each.name for each in fields(CatalogueEntry)} - {"slug"}
    for key in given:
        if key not in known:
            raise _wrong(slug, key, f"unknown key; known are {', '.join(sorted(known))}")
    values: dict[str, Any] = {}
    for key, value in given.items():
        try:
            values[key] = _READERS[key](value)
        except (ValueError, TypeError, LookupError) as error:
            raise _wrong(slug, key, str(error)) from None
    if base is not None:
        entry = replace(base, **values)
    elif "port" in values:
        entry = CatalogueEntry(slug=slug, **values)
    else:
        raise _wrong(slug, "port", "a service of your own needs its port (1 to 65535)")
    if entry.test and entry.scheme in ("tcp", "ssh"):
        if "scheme" in given:
            raise _wrong(slug, "test", f"an HTTP path cannot test a service of scheme {entry.scheme}")
        entry = replace(entry, scheme="http")
    return entry if entry.label else replace(entry, label=slug)


def _wrong(slug: str, key: str, why: str) -> ConfigError:
    place = f"[catalogue.{slug}]" + (f" {key}" if key else "")
    return ConfigError(f"{place}: {why}", f"correct {place} in config.toml")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > 128 or not value.isprintable():
        raise ValueError(f"expected a printable text of at most 128 characters, not {value!r}")
    return value


def _port(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise ValueError(f"expected a port from 1 to 65535, not {value!r}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, not {value!r}")
    return value


def _path(value: Any) -> str:
    path = _text(value)
    if not path.startswith("/") or any(character.isspace() for character in path):
        raise ValueError(f"expected a path that begins with /, not {value!r}")
    return path


def _code(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 100 <= value <= 599:
        raise ValueError(f"expected HTTP codes from 100 to 599, not {value!r}")
    return value


def _slug(value: Any) -> str:
    if not isinstance(value, str) or not _SLUG.match(value):
        raise ValueError(f"expected lower-case letters, digits and dashes, at most 32, not {value!r}")
    return value


def _one_of(choices: Sequence[str]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}, not {value!r}")
        return str(value)

    return read


def _each(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def read_all(value: Any) -> tuple[Any, ...]:
        if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
            raise ValueError(f"expected a list, not {value!r}")
        return tuple(read(each) for each in value)

    return read_all


def _mapping(key_grammar: re.Pattern[str]) -> Callable[[Any], dict[str, str]]:
    def read(value: Any) -> dict[str, str]:
        if not isinstance(value, Mapping):
            raise ValueError(f"expected a table, not {value!r}")
        for key in value:
            if not isinstance(key, str) or not key_grammar.match(key):
                raise ValueError(f"{key!r} is no key here ({key_grammar.pattern})")
        return {key: _text(text) for key, text in value.items()}

    return read


def _labels(value: Any) -> dict[str, str]:
    labels = _mapping(_LABEL_KEY)(value)
    for key, text in labels.items():
        if clean_label(text) != text:
            raise ValueError(f"{key}: {text!r} cannot stand in a manifest; {clean_label(text)!r} could")
    return labels


def _environment(value: Any) -> dict[str, str]:
    """A list of names is the usual case: each is the service's URL."""
    table = value if isinstance(value, Mapping) else dict.fromkeys(_each(_text)(value), "{url}")
    read = _mapping(_ENVIRONMENT_NAME)(table)
    for template in read.values():
        template.format(url="", host="", port=0)
    return read


def _access(value: Any) -> str | tuple[str, ...]:
    if isinstance(value, str):
        return _one_of(("members", "public"))(value)
    return cast(tuple[str, ...], _each(_text)(value))


def _evidence(value: Any) -> tuple[Evidence, ...]:
    found = cast(tuple[Evidence, ...], _each(lambda each: parse_evidence(_text(each)))(value))
    if not found:
        raise ValueError("expected at least one evidence; `always` is one")
    return found


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "port": _port,
    "label": _text,
    "local_port": _port,
    "scheme": _one_of(SCHEMES),
    "evidence": _evidence,
    "test": _path,
    "accept": _each(_code),
    "sticky": _flag,
    "private": _flag,
    "aliases": _each(_slug),
    "routes": _each(_one_of(ROUTES)),
    "labels": _labels,
    "reads": _mapping(_LABEL_KEY),
    "env": _environment,
    "access": _access,
}
"""One reader per key of a table: plain value → typed value, `ValueError` saying what was expected."""
