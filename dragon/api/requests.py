"""Requests parsed at the edge: bodies and queries into checked values, anything else a `UsageError`. Pure."""

from __future__ import annotations

import json
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dragon.config.trouble import expectation
from dragon.errors import UsageError
from registry_schema import limits
from registry_schema.texts import SLUG_PATTERN

MAX_BODY = 64 * 1024
"""Bytes of a request: the largest honest one (a forward with 32 labels) has 5 kB."""

MAX_DIGITS = 9
"""Digits of a number in a query: what is out of range is told as such, what is absurd is never converted."""

MAX_FIXES = 64
"""Findings that one request may ask to fix; the doctor knows about twenty."""

Slug = Annotated[str, Field(pattern=SLUG_PATTERN)]
Word = Annotated[str, Field(min_length=1, max_length=128)]

Port = Annotated[int, Field(ge=1, le=65535)]

SLUG_HINT = "a slug is 1 to 32 of a-z, 0-9 and '-', such as ollama: `dragon services` lists them"


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class SlugRequest(_Request):
    slug: Slug


class ForwardRequest(_Request):
    slug: Slug
    target: Word = "auto"
    where: Annotated[dict[Word, Word], Field(max_length=limits.MAX_LABELS)] = Field(default_factory=dict)
    via: Literal["local", "ssh6", "ssh4", "p2p"] | None = None
    spread: bool = False
    port: Port | None = None
    raw: bool = False
    strategy: Literal["p2c", "rotate", "random", "first"] | None = None
    pool: int | Literal["auto"] | None = None


class OffRequest(_Request):
    slug: Slug | None = None
    port: Port | None = None


class CheckRequest(_Request):
    slug: Slug
    port: Port | None = None
    via: Literal["local"] | None = None


class OfferingRequest(_Request):
    on: bool


class DoctorRequest(_Request):
    fix: Annotated[tuple[Word, ...], Field(max_length=MAX_FIXES, strict=False)]


Request = TypeVar("Request", bound=_Request)


def read(kind: type[Request], fields: object) -> Request:
    """Return `fields` as a request of `kind`; `UsageError` names the first field that is off."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = str(first["loc"][0]) if first["loc"] else "request"
        if place == "slug":
            raise UsageError("that is not the name of a service", SLUG_HINT) from None
        if first["type"] == "extra_forbidden":
            raise UsageError(f"{place}: no such field", f"fields: {', '.join(kind.model_fields)}") from None
        raise UsageError(f"{place}: expected {expectation(first)}", "correct it, then ask again") from None


def read_body(kind: type[Request], body: bytes) -> Request:
    """Return the JSON `body` as a request of `kind`. Raises `UsageError`."""
    try:
        fields = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise UsageError("the request is not JSON", "send one JSON object") from None
    return read(kind, fields)


def number(text: str | None) -> int | None:
    """Return the number of a query value such as `?port=11434`, None where there is none. Raises `UsageError`."""
    if text is None:
        return None
    if text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS:
        return int(text)
    raise UsageError("a number in the query has digits only", "for example ?port=11434")


def flag(text: str | None) -> bool:
    """Return the truth of a query value such as `?watch=1`. Raises `UsageError`."""
    if text in (None, "", "0", "false"):
        return False
    if text in ("1", "true"):
        return True
    raise UsageError("a switch in the query is 0 or 1", "for example ?watch=1")
