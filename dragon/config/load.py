"""Files, environment and flags into `Settings`; flags win over the environment, that over the file, that over the defaults."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dragon.config.keys import PREFIX, KeyPath, all_paths, keys_at, nearest, type_of, variable_name, variable_path
from dragon.config.model import Settings
from dragon.config.source import Origin, line_of, syntax_error_line
from dragon.config.trouble import expectation, place_of, unexpected, unknown
from dragon.config.words import items, parse_text
from dragon.errors import ConfigError
from dragon.home import Home

NOT_SETTINGS = frozenset({"DRAGON_HOME", "DRAGON_PRIVATE_SERVICES", "DRAGON_KUBO_DIST"})
"""Variables with the prefix that are no `DRAGON_<SECTION>_<KEY>`: the home, the stations' own list of private slugs, and the
mirror of Kubo's releases, which is asked before there is a home."""

MAX_CONFIG_BYTES = 1 << 20
"""A config file is written by a person; more than 1 MiB is a wrong path (a database, a log)."""


def load_settings(home: Home, overrides: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of `home`: its config.toml, then `environ` (os.environ), then `overrides` (`section.key` → text).

    Lists in variables and flags are separated by commas or blanks, maps are `key=value` pairs. An empty variable is one that is
    not set. Raises `ConfigError` naming the place, the key, and what was expected there.
    """
    environ = os.environ if environ is None else environ
    sources = _Sources()
    _read_file(home.config_file, sources)
    _read_environment(environ, sources)
    for key, text in (overrides or {}).items():
        sources.put_text(tuple(key.split(".")), text, Origin("flag"))
    _existing_daemon(sources, environ)
    try:
        settings = Settings.model_validate(sources.tree)
        settings._overrides.update(overrides or {})
        settings.catalogue._sources = sources
        return settings
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        path = place_of(detail)
        if detail["type"] == "extra_forbidden":
            raise unknown(path, sources.origin(path)) from None
        raise unexpected(path, sources.origin(path), expectation(detail), detail["input"]) from None


def reload_settings(home: Home, settings: Settings) -> Settings:
    """Return the settings as file and environment are now, under the same flags that `settings` were loaded with."""
    return load_settings(home, settings._overrides)


@dataclass(slots=True)
class _Sources:
    """The sources read so far: one tree of values, and for those that are not the file's, where they came from."""

    tree: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, Origin] = field(default_factory=dict)
    file: Path | None = None
    text: str = ""

    def put(self, path: KeyPath, value: Any, origin: Origin) -> None:
        branch = self.tree
        for part in path[:-1]:
            branch = branch.setdefault(part, {})
            if not isinstance(branch, dict):
                raise unexpected(path, self.origin(path), "a table", branch)
        branch[path[-1]] = value
        self.origins[path] = origin

    def put_text(self, path: KeyPath, text: str, origin: Origin) -> None:
        """Place the value of a variable or flag, converted to the type of its key."""
        kind = type_of(path)
        if kind is None:
            raise unknown(path, origin)
        try:
            value = parse_text(text, kind)
        except ValueError as error:
            raise unexpected(path, origin, str(error), text) from None
        self.put(path, value, origin)

    def origin(self, path: KeyPath) -> Origin:
        """Return where `path`, or else the nearest table around it, was written."""
        for length in range(len(path), 0, -1):
            if found := self.origins.get(path[:length]):
                return found
            if line := line_of(self.text, path[:length]):
                return Origin(str(self.file), line)
        return Origin(str(self.file or "settings"))


def _read_file(file: Path, sources: _Sources) -> None:
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_CONFIG_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):  # a home that is no folder is told when it is prepared
        return
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read: {error.strerror or error}", "make it a readable file, or remove it"
        ) from error
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{file} is larger than {MAX_CONFIG_BYTES} bytes", "this is not a config file: remove or replace it")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{file}:{line}: not UTF-8 text", "TOML files are UTF-8: save it with that encoding") from None
    text = text.replace("\r\n", "\n")
    try:
        sources.tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, message = syntax_error_line(error, text)
        raise ConfigError(
            f"{file}:{line}: not valid TOML: {message}", "correct that line (https://toml.io/en/v1.0.0)"
        ) from None
    sources.file, sources.text = file, text
    for name, section in sources.tree.items():
        if name not in keys_at(()):
            raise unknown((name,), sources.origin((name,)))
        if not isinstance(section, dict):
            raise unexpected((name,), sources.origin((name,)), f"a table: [{name}] on a line of its own", section)


def _read_environment(environ: Mapping[str, str], sources: _Sources) -> None:
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in NOT_SETTINGS or not environ[name].strip():
            continue
        path = variable_path(name)
        if path is None:
            near = nearest(name, [variable_name(one) for one in all_paths()])
            raise ConfigError(
                f"{name} (environment): no such setting{f'; did you mean {near}?' if near else ''}",
                "unset it, or spell it DRAGON_<SECTION>_<KEY>",
            )
        sources.put_text(path, environ[name], Origin(f"{name} (environment)"))
    if private := items(environ.get("DRAGON_PRIVATE_SERVICES", "")):
        section = sources.tree.get("catalogue", {})
        already = section.get("also_private", []) if isinstance(section, dict) else []
        path = ("catalogue", "also_private")
        sources.put(
            path, [*(already if isinstance(already, list) else []), *private], Origin("DRAGON_PRIVATE_SERVICES (environment)")
        )


def _existing_daemon(sources: _Sources, environ: Mapping[str, str]) -> None:
    """Naming an API means an existing daemon; IPFS_PATH counts only where the managed one was refused."""
    kubo = sources.tree.get("kubo", {})
    if "api" in kubo and "managed" not in kubo:
        kubo["managed"] = False
    elif "api" in kubo and kubo["managed"] is True:
        raise ConfigError(
            f"{sources.origin(('kubo', 'managed'))}: kubo.managed = true and kubo.api exclude one another",
            "remove kubo.api for a daemon of our own, or kubo.managed to use the existing one",
        )
    if kubo.get("managed") is False and not {"api", "repo"} & kubo.keys() and (repo := environ.get("IPFS_PATH", "").strip()):
        sources.put(("kubo", "repo"), repo, Origin("IPFS_PATH (environment)"))
