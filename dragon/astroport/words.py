"""The words of `dragon me`: what a caller asks for, or an error; never a connection by accident. Pure.

    dragon me <service>                       connect as the cascade says
    dragon me <service> STATUS|SCAN|TEST|OFF|HELP|LOCAL|SSH|SSH6|SSH4
    dragon me <service> P2P [n | part of an id | auto | random]
    dragon me <service> <a word of its own>   MODELS, FREE, IMAGE, MUSIC, VOICES, STATS

In any case. Every synonym that one of the managers has is understood for every service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dragon.astroport.services import Service
from dragon.errors import UsageError

Verb = Literal[
    "auto", "status", "scan", "test", "off", "help", "local", "ssh", "ssh6", "ssh4", "p2p",
    "models", "free", "image", "music", "voices", "stats",
]  # fmt: skip

COMMON: Mapping[Verb, tuple[str, ...]] = {
    "status": ("STATUS", "ST"),
    "scan": ("SCAN", "DETECT", "LIST", "DISCOVER"),
    "test": ("TEST",),
    "local": ("LOCAL",),
    "ssh": ("SSH",),
    "ssh6": ("SSH6", "IPV6"),
    "ssh4": ("SSH4", "IPV4"),
    "p2p": ("P2P", "SWARM", "IPFS"),
    "off": ("OFF", "DISCONNECT", "CLOSE", "STOP"),
    "help": ("HELP", "-H", "--HELP"),
}
"""Verb → its words, the one that is printed first."""

OWN: Mapping[str, Verb] = {
    "MODELS": "models",
    "FREE": "free",
    "UNLOAD": "free",
    "IMAGE": "image",
    "MUSIC": "music",
    "VOICES": "voices",
    "STATS": "stats",
}

MEANINGS: Mapping[Verb, str] = {
    "auto": "connect: what is connected already, this machine, SSH, the swarm",
    "status": "tell whether it is connected, and to what",
    "scan": "list the ways to it and the nodes that offer it",
    "test": "test what is connected now",
    "local": "connect to the service of this machine only",
    "ssh": "connect over SSH, IPv6 before IPv4",
    "ssh6": "connect over SSH on IPv6",
    "ssh4": "connect over SSH on IPv4",
    "p2p": "connect over the swarm: to the best node, the n-th of SCAN, or by a part of its id",
    "off": "close what this node opened",
    "help": "print this",
    "models": "list the models",
    "free": "let it free its memory",
    "image": "connect to make images: a node with at most 2 jobs waiting",
    "music": "connect to make music: a node with at most 1 job waiting",
    "voices": "list the voices",
    "stats": "tell what the relay says of itself",
}

CONNECTING: frozenset[Verb] = frozenset({"auto", "local", "ssh", "ssh6", "ssh4", "p2p", "image", "music"})
"""Verbs that open a connection."""


@dataclass(frozen=True, slots=True)
class Best:
    """Whoever serves best, or anyone at random."""

    random: bool = False


@dataclass(frozen=True, slots=True)
class Number:
    """The n-th node that SCAN prints."""

    n: int


@dataclass(frozen=True, slots=True)
class Part:
    """A node id, a part of one, or an alias."""

    text: str


Target = Best | Number | Part


@dataclass(frozen=True, slots=True)
class Command:
    verb: Verb
    target: Target = Best()


def parse(service: Service, words: Sequence[str]) -> Command:
    """Return what `words` ask of `service`; no word, or an empty one as scripts pass on, asks to connect.

    Raises `UsageError` that lists the words there are.
    """
    given = [word.strip() for word in words]
    while given and not given[-1]:
        given.pop()
    if not given:
        return Command("auto")
    verb = vocabulary(service).get(given[0].upper())
    if verb is None:
        raise UsageError(f"{service.slug} has no word {given[0]!r}", f"words are {', '.join(printed(service))}")
    if verb == "p2p" and len(given) == 2:
        return Command(verb, target_of(given[1]))
    if len(given) > 1:
        raise UsageError(f"too many words: {' '.join(given)}", "only P2P takes one more: a number, a part of an id, or auto")
    return Command(verb)


def target_of(text: str) -> Target:
    """Return which node `text` asks for. Any run of digits is a number: no id is so short that one could be meant."""
    if text.lower() in ("", "auto"):
        return Best()
    if text.lower() == "random":
        return Best(random=True)
    if text.isascii() and text.isdecimal():
        return Number(int(text[:9]))  # nobody has a thousand million nodes; longer ones are as wrong
    return Part(text)


def vocabulary(service: Service) -> dict[str, Verb]:
    """Return every word that `service` understands, in capitals."""
    words = {word: verb for verb, synonyms in COMMON.items() for word in synonyms}
    return {**words, **{word: OWN[word] for word in service.words}}


def printed(service: Service) -> list[str]:
    """Return the words of `service` as an error names them, without synonyms."""
    return [*(synonyms[0] for synonyms in COMMON.values()), *service.words]


def help_lines(service: Service) -> list[str]:
    """Return what HELP prints."""
    rows = [("(no word)", MEANINGS["auto"])]
    rows += [
        (" | ".join(synonyms) + (" [n|id|auto]" if verb == "p2p" else ""), MEANINGS[verb]) for verb, synonyms in COMMON.items()
    ]
    own = dict.fromkeys(OWN[word] for word in service.words)
    rows += [(" | ".join(word for word in service.words if OWN[word] == verb), MEANINGS[verb]) for verb in own]
    wide = max(len(left) for left, _ in rows)
    return [f"dragon me {service.slug} [word]: {service.name}", *(f"  {left:{wide}}  {right}" for left, right in rows)]
