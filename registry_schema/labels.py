"""Labels that hold several values, and the rule by which a consumer's wish matches them.

A label holds one text. A list is spelled over several keys: the first value under the key itself, the next under `<key>.2`,
`<key>.3`, …: an ollama with two models says `model=llama3.2:latest`, `model.2=mistral:7b`. A wish `model=…` is met when any of
them meets it. A value that ends in `:latest` is also met by the name alone, as image and model registries read names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from registry_schema import limits
from registry_schema.texts import clean_label

_IMPLIED_TAG = ":latest"

_LONGEST_KEY = 32
"""As the manifest's `LabelKey` has it."""


def spell_list(key: str, values: Iterable[str], room: int = limits.MAX_LABELS) -> dict[str, str]:
    """Return the labels that spell `values` under `key`, at most `room` of them, each value once, in order.

    Values that a manifest could not carry (`texts.LabelValue`) are left out: a name that was altered would be no name.
    """
    labels: dict[str, str] = {}
    for value in dict.fromkeys(values):
        spelled = key if not labels else f"{key}.{len(labels) + 1}"
        if len(labels) >= room or len(spelled) > _LONGEST_KEY:
            break
        if clean_label(value) == value:
            labels[spelled] = value
    return labels


def values_of(labels: Mapping[str, str], key: str) -> Iterator[str]:
    """Yield every value that `labels` hold under `key`, however many keys spell them."""
    prefix = f"{key}."
    for name, value in labels.items():
        if name == key or (name.startswith(prefix) and name[len(prefix) :].isdecimal()):
            yield value


def labels_match(labels: Mapping[str, str], where: Mapping[str, str] | None) -> bool:
    """Return whether `labels` meet every wish of `where`; no wish is always met."""
    return all(any(_meets(value, wish) for value in values_of(labels, key)) for key, wish in (where or {}).items())


def _meets(value: str, wish: str) -> bool:
    return value == wish or value == wish + _IMPLIED_TAG or value + _IMPLIED_TAG == wish


def values_meeting(wish: str) -> frozenset[str]:
    """Return every value that meets `wish`: what an index of values has to look up."""
    bare = {wish.removesuffix(_IMPLIED_TAG)} if wish.endswith(_IMPLIED_TAG) else set()
    return frozenset({wish, wish + _IMPLIED_TAG} | bare)
