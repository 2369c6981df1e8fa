"""The grammar of single values in config.toml: each type says in its error what would have been right."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Container
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from registry_schema import limits
from registry_schema.ids import is_node_id
from registry_schema.manifest import Labels as ManifestLabels
from registry_schema.texts import SLUG_PATTERN, Alias, SwarmName, clean_alias

_ALIAS: TypeAdapter[str] = TypeAdapter(Alias)
_SWARM: TypeAdapter[str] = TypeAdapter(SwarmName)
_LABELS: TypeAdapter[dict[str, str]] = TypeAdapter(ManifestLabels)
_KUBO_API = re.compile(r"(/(ip4|ip6|dns|dns4|dns6)/[^/]+/tcp/\d+(/https?)?|/unix/.+|https?://[^/]+/?)")
_EVIDENCE = re.compile(r"port|always|(process|systemd|docker|dockerimg):\S.{0,126}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*\.?")
_USER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}")
_PUBLIC_KEY = re.compile(r"[0-9a-fA-F]{64}")
_RELAY_URL = re.compile(r"wss?://[^\s/@]+(/\S*)?")
_SLUG = re.compile(SLUG_PATTERN.removeprefix("^").removesuffix("$"))


def alias_from(hostname: str) -> str:
    """Return the first label of `hostname` made to fit the alias grammar; `dragon` when nothing of it fits."""
    return clean_alias(hostname.split(".", 1)[0], otherwise="dragon")


def default_alias() -> str:
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


def _public_key(text: str) -> str:
    """Return the 64 hex digits of a NOSTR public key, which people also write as `npub1…` (NIP-19)."""
    key = _key_of_npub(text) if text.startswith("npub1") else text
    if not _PUBLIC_KEY.fullmatch(key):
        raise ValueError("a NOSTR public key: 64 hex digits, or npub1… without a mistyped or missing character")
    return key.lower()


def _key_of_npub(text: str) -> str:
    from pynostr.bech32 import Encoding, bech32_decode, convertbits  # its `key` would load libsecp256k1 and more

    prefix, groups, encoding = bech32_decode(text)
    key = convertbits(groups, 5, 8, pad=False) if (prefix, encoding) == ("npub", Encoding.BECH32) else None
    return bytes(key or ()).hex()


def _relay_url(text: str) -> str:
    if not _RELAY_URL.fullmatch(text):
        raise ValueError("a relay's address, such as ws://127.0.0.1:7777")
    return text


Slug: TypeAlias = Annotated[str, AfterValidator(_slug)]
Slugs: TypeAlias = Annotated[tuple[Slug, ...], Field(strict=False)]
Port: TypeAlias = Annotated[int, AfterValidator(_port)]
Labels: TypeAlias = Annotated[dict[str, str], AfterValidator(_labels)]
Seconds: TypeAlias = Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)]
Weight: TypeAlias = Annotated[float, Field(ge=0.01, le=100, allow_inf_nan=False, strict=False)]
FilePath: TypeAlias = Annotated[Path, Field(strict=False)]
UserPath: TypeAlias = Annotated[Path, Field(strict=False), AfterValidator(_expanded)]
HostName: TypeAlias = Annotated[str, AfterValidator(_host)]
UserName: TypeAlias = Annotated[str, AfterValidator(_user)]
Address: TypeAlias = Annotated[str, AfterValidator(_multiaddr)]
PublicKey: TypeAlias = Annotated[str, AfterValidator(_public_key)]
NodeId: TypeAlias = Annotated[str, AfterValidator(_node_id)]
Evidence: TypeAlias = Annotated[str, AfterValidator(_evidence)]
Variable: TypeAlias = Annotated[str, AfterValidator(_variable)]
Template: TypeAlias = Annotated[str, AfterValidator(_template)]
Status: TypeAlias = Annotated[int, Field(ge=100, le=599)]
Route: TypeAlias = Literal["local", "ssh6", "ssh4", "p2p"]
Access: TypeAlias = Annotated[str | Annotated[tuple[str, ...], Field(strict=False)], AfterValidator(_access)]
NodeAlias: TypeAlias = Annotated[str, AfterValidator(_alias)]
Swarm: TypeAlias = Annotated[str, AfterValidator(_swarm)]
KuboApi: TypeAlias = Annotated[str, AfterValidator(_kubo_api)]
KuboAuth: TypeAlias = Annotated[str, AfterValidator(_kubo_auth)]
HttpPath: TypeAlias = Annotated[str, AfterValidator(_http_path)]
RelayUrl: TypeAlias = Annotated[str, AfterValidator(_relay_url)]
Variables: TypeAlias = Annotated[dict[Variable, Template], BeforeValidator(_variables)]


def with_entries(keys: Container[str], data: Any) -> Any:
    """Return a section's `data` with the tables that are none of its `keys` gathered under `entries`."""
    if not isinstance(data, dict) or "entries" in data:
        return data
    entries = {key: value for key, value in data.items() if key not in keys and isinstance(value, dict)}
    return {**{key: value for key, value in data.items() if key not in entries}, "entries": entries}
