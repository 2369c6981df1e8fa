"""A station's own list of services (`IA/modules.list`) and of private ones (`.env`), as settings of the catalogue.

    shipped catalogue ─► the station's rows ─► the operator's [catalogue.<slug>] tables       (later wins, key by key)

A row says how its service is detected and on which port; everything else of a service that Dragon knows (its test, its scheme,
whether it is private) stays as shipped. A line that cannot be read is told and passed over: a station's list never keeps a node
from starting. Source: ASTROPORT facts 1.4 and 1.7.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dragon.astroport.remote import MAX_ENV_BYTES
from dragon.astroport.zen import Zen
from dragon.config import CatalogueSettings, Settings
from dragon.config.model import EntryOverride
from dragon.errors import ConfigError
from dragon.probe import load_catalogue
from dragon.probe.entry import CatalogueEntry, parse_entry
from registry_schema.texts import SLUG_PATTERN

log = logging.getLogger(__name__)

MAX_LIST_BYTES = 64 * 1024
"""The list of 2026 has 3 kB for twenty services."""

MAX_ROWS = 256
"""Services of one list: a node offers 64 at most."""

MAX_TROUBLES = 20
"""Lines told as unreadable: a file that is something else altogether must not fill the log."""

LONGEST_LABEL = 80
"""As in a `[catalogue.<slug>]` table."""

_KINDS = {"pgrep": "process", "docker": "docker", "dockerimg": "dockerimg", "systemctl": "systemd"}
"""The list's kinds of check that name something → the catalogue's kinds of evidence."""

SSHD_CONFIG = Path("/etc/ssh/sshd_config")
"""Where the Bash DRAGON looks for the port of SSH."""

_SLUG = re.compile(SLUG_PATTERN)

_SSH_PORT = re.compile(r"^[ \t]*Port[ \t]+([0-9]{1,5})[ \t]*(?:#.*)?$", re.MULTILINE | re.IGNORECASE)

_PRIVATE = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?DRAGON_PRIVATE_SERVICES=(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>[^']*)'|(?P<bare>\S*))""",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Row:
    """One service that the list has published: where it listens, and the sign by which it is known to run."""

    slug: str
    port: int
    evidence: str
    label: str


@dataclass(frozen=True, slots=True)
class StationCatalogue:
    """What a station says of its services. `withheld`: slugs whose row says that they are never published."""

    rows: Mapping[str, Row]
    withheld: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    ssh_port: int | None = None
    troubles: tuple[str, ...] = ()


def with_station_catalogue(settings: Settings, zen: Zen, sshd_config: Path = SSHD_CONFIG) -> Settings:
    """Return `settings` with what the station's files say of its services laid under the operator's own tables.

    Reads three small files, so call it in a thread. What cannot be read is logged, and never fatal. The same `settings` come
    back where there is no station, or `[astroport] enabled` is off.
    """
    if settings.astroport.enabled == "off" or (settings.astroport.enabled == "auto" and not zen.is_station):
        return settings
    station = catalogue_from(zen, sshd_config)
    for trouble in station.troubles:
        log.warning("%s", trouble)
    return settings.model_copy(update={"catalogue": overlay(settings.catalogue, station)})


def catalogue_from(zen: Zen, sshd_config: Path = SSHD_CONFIG) -> StationCatalogue:
    """Return what `modules.list` and `.env` of `zen` say, and the port of this machine's sshd; nothing where they are not."""
    listed, why_list = _text(zen.modules_list, MAX_LIST_BYTES)
    variables, why_env = _text(zen.env_file, MAX_ENV_BYTES)
    rows, withheld, wrong_rows = parse_modules(listed)
    private, wrong_names = parse_private(variables)
    wrong = [f"{zen.modules_list}{each}" for each in wrong_rows] + [f"{zen.env_file}: {each}" for each in wrong_names]
    told = wrong[:MAX_TROUBLES]
    if len(wrong) > MAX_TROUBLES:
        told.append(f"{len(wrong) - MAX_TROUBLES} more lines cannot be read")
    configured, _ = _text(sshd_config, MAX_LIST_BYTES)  # root's own business where nobody else may read it
    return StationCatalogue(rows, withheld, private, ssh_port(configured), (*filter(None, (why_list, why_env)), *told))


def ssh_port(text: str) -> int | None:
    """Return the first `Port` of an sshd_config, None where it names none (ASTROPORT fact 1.2, step 11)."""
    found = _SSH_PORT.search(text)
    return int(found[1]) if found and 1 <= int(found[1]) <= 65535 else None


def parse_modules(text: str) -> tuple[dict[str, Row], tuple[str, ...], list[str]]:
    """Return the rows of a modules.list by slug, the slugs that it never publishes, and what was wrong with other lines."""
    shipped = {entry.slug: entry for entry in load_catalogue().entries()}
    rows: dict[str, Row] = {}
    withheld: list[str] = []
    wrong: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = [field.strip() for field in line.split("|")]
        if not fields[0] or fields[0].startswith("#"):
            continue
        try:
            row = _row(fields, shipped)
        except ValueError as error:
            wrong.append(f":{number}: {error}")
            continue
        slug = fields[0]
        if slug in rows or slug in withheld:
            wrong.append(f":{number}: {slug} stands there already; its first line counts")
        elif len(rows) + len(withheld) >= MAX_ROWS:
            wrong.append(f":{number}: more than {MAX_ROWS} services; the rest is not read")
            break
        elif row is None:
            withheld.append(slug)
        else:
            rows[slug] = row
    return rows, tuple(withheld), wrong


def parse_private(text: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the slugs that `DRAGON_PRIVATE_SERVICES` of a station's `.env` names, any number, and what was no slug there.

    The last assignment counts, as in a shell. Where that one has to be computed, every slug that stands literally in any of
    them is hidden: rather one service too few than one too many.
    """
    assigned = (found.group("double", "single", "bare") for found in _PRIVATE.finditer(text))
    values = [next(part for part in parts if part is not None) for parts in assigned]
    counted = values if values and "$" in values[-1] else values[-1:]
    names = [name.lower() for value in counted for name in re.split(r"[\s,;\"'\\]+", value) if name]
    slugs = dict.fromkeys(name for name in names if _SLUG.fullmatch(name))
    return tuple(slugs), [f"DRAGON_PRIVATE_SERVICES: {name[:64]!r} is no slug" for name in names if name not in slugs]


def overlay(settings: CatalogueSettings, station: StationCatalogue) -> CatalogueSettings:
    """Return `settings` over what the station says: the operator's tables win key by key; private lists add up."""
    shipped = {entry.slug: entry for entry in load_catalogue().entries()}
    entries = {slug: EntryOverride.model_validate(_table(row, shipped.get(slug))) for slug, row in station.rows.items()}
    if station.ssh_port is not None and "ssh" not in entries:
        entries["ssh"] = EntryOverride(port=station.ssh_port)
    for slug, own in settings.entries.items():
        said = own.model_dump(exclude_none=True)
        entries[slug] = entries[slug].model_copy(update=said) if slug in entries else own
    withheld = [slug for slug in station.withheld if slug in shipped and slug not in settings.entries]
    hidden = dict.fromkeys((*settings.also_private, *station.private, *withheld))
    return settings.model_copy(update={"entries": entries, "also_private": tuple(hidden)})


def _row(fields: list[str], shipped: Mapping[str, CatalogueEntry]) -> Row | None:
    """Return what a line says, None when it is never published. Raises `ValueError` saying what is wrong with it."""
    if len(fields) < 3:
        raise ValueError("expected name|port|check|group|label")
    slug, port, check = fields[:3]
    if not _SLUG.fullmatch(slug):
        raise ValueError(f"{slug[:64]!r} is no slug: 1 to 32 of a-z, 0-9 and '-'")
    evidence = _evidence(check)
    if port in ("", "-") or evidence is None:
        return None
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise ValueError(f"{slug}: {port[:64]!r} is no port")
    label = fields[4] if len(fields) > 4 and fields[4].isprintable() else ""
    row = Row(slug, int(port), evidence, label[:LONGEST_LABEL].strip())
    try:
        parse_entry(slug, _table(row, shipped.get(slug)), shipped.get(slug))
        EntryOverride.model_validate(_table(row, shipped.get(slug)))
    except (ConfigError, ValueError):
        raise ValueError(f"{slug}: the check {check[:64]!r} cannot be used") from None
    return row


def _evidence(check: str) -> str | None:
    """Return the catalogue's evidence for a check of the list, None for the ones that never publish."""
    if check == "auto":
        return "port"
    kind, colon, name = check.partition(":")
    if kind not in _KINDS or not colon or not name:
        return None
    if kind == "systemctl" and "." not in name:
        name += ".service"
    return f"{_KINDS[kind]}:{name}"


def _table(row: Row, shipped: CatalogueEntry | None) -> dict[str, object]:
    """Return what a row says as a `[catalogue.<slug>]` table.

    A service that Dragon knows keeps the specific signs that it knows besides: a station whose ollama runs in docker has it
    seen, whatever its list was written for.
    """
    if shipped is None:
        return {"port": row.port, "evidence": (row.evidence,), **({"label": row.label} if row.label else {})}
    known = [str(each) for each in shipped.evidence if each.is_specific]
    return {"port": row.port, "evidence": tuple(dict.fromkeys((row.evidence, *known)))}


def _text(file: Path, limit: int) -> tuple[str, str]:
    """Return the text of `file` and "", or "" and why it is not read; both empty where there is none."""
    try:
        with file.open("rb") as stream:
            data = stream.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        return "", ""
    except OSError as error:
        return "", f"{file} is not read: {error.strerror or error}"
    if len(data) > limit:
        return "", f"{file} is not read: larger than {limit} bytes"
    return data.decode("utf-8", "replace"), ""
