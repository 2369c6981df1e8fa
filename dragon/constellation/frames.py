"""What a relay says, taken apart (NIP-01, NIP-77, NIP-11). Pure.

Events are the bulk: of them only what the next step needs is read here (which subscription, which id, how old); they are
parsed whole and checked where verification runs.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

PROGRESS: Final = frozenset({"EVENT", "EOSE", "OK", "NEG-MSG", "NEG-ERR", "CLOSED"})
"""Words after which a relay is not stuck: all that answer a question of ours. A NOTICE, a challenge or noise are none."""

_EVENT: Final = re.compile(r'\s*\[\s*"EVENT"\s*,\s*"([^"\\]{1,64})"\s*,\s*\{')
_ID: Final = re.compile(r'"id"\s*:\s*"([0-9a-f]{64})"')
_TIME: Final = re.compile(r'"created_at"\s*:\s*(\d{1,16})')

_VERBS: Final = {"NEG-ERROR": "NEG-ERR"}
"""Words under another spelling: khatru 0.19 says so of a session that it does not know any more."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of a relay."""

    verb: str
    """`EVENT`, `EOSE`, `CLOSED`, `NOTICE`, `OK`, `AUTH`, `NEG-MSG`, `NEG-ERR`; empty for noise."""
    sub: str = ""
    """The subscription, or the id of the event that an `OK` is about."""
    words: tuple[Any, ...] = ()
    """What follows; nothing for events."""
    text: str = ""
    """Of an event: the whole message."""
    id: str = ""
    """Of an event: the id it claims, unchecked; empty where none is found."""
    created_at: int = 0
    """Of an event: the time it claims, unchecked."""

    @property
    def reason(self) -> str:
        """Return what the relay says besides: the last text of the message."""
        return next((word for word in reversed(self.words) if isinstance(word, str)), "")[:200]


def parse(text: str) -> Frame:
    """Return the message in `text`; what is no message is a frame without a verb."""
    if event := _EVENT.match(text):
        start = event.end()
        named, dated = _ID.search(text, start), _TIME.search(text, start)
        return Frame(
            "EVENT", event[1], text=text, id=named[1] if named else "", created_at=int(dated[1]) if dated else 0,
        )  # fmt: skip
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        return Frame("")
    if not isinstance(words, list) or not words or not isinstance(words[0], str) or words[0] == "EVENT":
        return Frame("")
    sub = words[1] if len(words) > 1 and isinstance(words[1], str) else ""
    return Frame(_VERBS.get(words[0], words[0]), sub, tuple(words[1 if words[0] in ("NOTICE", "AUTH") else 2 :]))


def document(text: str) -> Any:
    """Return the event object of an EVENT message, whatever it is; None where there is none."""
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return words[2] if isinstance(words, list) and len(words) > 2 else None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a relay says of itself (NIP-11), or what is safe to assume."""

    nip77: bool | None = None
    """None: it does not say."""
    page: int = 500
    """Events that one question brings at most: strfry's and nostr-sdk's bound, whatever is asked."""
    message_size: int = 128 * 1024
    """Bytes of a message that it accepts: strfry's default."""
    subscriptions: int = 20
    """Questions that may be open at once: strfry's default."""
    authentication: bool = False
    """Whether it wants to know who asks (NIP-42) before anything."""


def limits(document: Any) -> Limits:
    """Return what an information document (NIP-11) says, where it says it sensibly."""
    if not isinstance(document, dict):
        return Limits()
    said = document.get("limitation")
    said, plain, nips = said if isinstance(said, dict) else {}, Limits(), document.get("supported_nips")

    def number(name: str, default: int, lowest: int) -> int:
        value = said.get(name)
        return min(default, value) if type(value) is int and value >= lowest else default

    return Limits(
        nip77=77 in nips if isinstance(nips, list) else None,
        page=number("max_limit", plain.page, 1),
        message_size=number("max_message_length", plain.message_size, 4096),
        subscriptions=number("max_subscriptions", plain.subscriptions, 1),
        authentication=said.get("auth_required") is True,
    )
