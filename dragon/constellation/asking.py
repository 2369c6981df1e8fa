"""Questions to a relay and their whole answers: pages (REQ), reconciliation messages (NEG), events that it is to take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from dragon.constellation.frames import Frame
from dragon.constellation.relay import Relay, RelayFailed, RelaySilent
from dragon.constellation.store import refusal
from dragon.errors import RemoteError

EXCESS = 1000
"""Messages besides the events that were asked for, after which a relay that never comes to an end is given up."""


class NoNegentropy(RemoteError):
    """The relay does not speak NIP-77, or not to us."""


class TooMany(RemoteError):
    """More events than the relay compares at once."""


async def read(relay: Relay, filters: Sequence[dict[str, Any]], into: Sequence[list[Frame]]) -> None:
    """Ask all `filters` at once, each with a `limit`, and put the events of each `into` its list as they come.

    `RelayFailed` where one is refused; what came before that is there all the same.
    """
    names = {relay.name(): position for position, _ in enumerate(filters)}
    room = 2 * sum(each["limit"] for each in filters) + EXCESS
    open_names = dict(names)
    async with relay.asked() as answer:
        for name, position in names.items():
            await relay.send("REQ", name, filters[position])
        while open_names:
            frame = await answer()
            room -= 1
            if room < 0:
                raise RelayFailed("sends more than it was asked for")
            if frame.sub not in names:
                continue
            if frame.verb == "EVENT" and frame.sub in open_names:
                into[names[frame.sub]].append(frame)
            elif frame.verb == "EOSE" and open_names.pop(frame.sub, None) is not None:
                await relay.send("CLOSE", frame.sub)
            elif frame.verb == "CLOSED" and frame.sub in open_names:
                raise RelayFailed(f"refuses: {frame.reason or 'no reason given'}")


async def reconcile(relay: Relay, name: str, message: bytes, opening: dict[str, Any] | None = None) -> bytes:
    """Send a negentropy message, with the filter when it is the first of its session; return the answer.

    Raises `NoNegentropy` where the first one is not answered as NIP-77 has it, `TooMany`, or `RelayFailed`.
    """
    # Who says that it speaks NIP-77 may take its time for reading its set; of others it is soon assumed that they do not.
    soon = opening is not None and relay.limits.nip77 is not True
    try:
        async with relay.asked(relay.patience.negentropy if soon else None) as answer:
            if opening is None:
                await relay.send("NEG-MSG", name, message.hex())
            else:
                await relay.send("NEG-OPEN", name, opening, message.hex())
            for turn in range(EXCESS):
                frame = await answer()
                if frame.sub == name and frame.verb in ("NEG-MSG", "NEG-ERR", "NEG-CLOSE", "CLOSED"):
                    if turn == 0 and opening is None and frame.verb == "NEG-ERR" and "closed" in str(frame.words).lower():
                        # khatru answers a NEG-OPEN a moment before it knows the comparison: who is quick asks again.
                        await relay.send("NEG-MSG", name, message.hex())
                        continue
                    return _message(frame, first=opening is not None)
    except RelaySilent as error:
        if opening is None:
            raise
        raise NoNegentropy(str(error)) from None
    raise RelayFailed("sends other things than answers")


def _message(frame: Frame, *, first: bool) -> bytes:
    said = next((word for word in frame.words if isinstance(word, str)), "")
    if frame.verb == "NEG-MSG":
        try:
            return bytes.fromhex(said)
        except ValueError:
            raise RelayFailed("answers negentropy with something else than hex") from None
    if "too many" in said or "RESULTS_TOO_BIG" in said:
        raise TooMany(said)
    raise NoNegentropy(said) if first else RelayFailed(f"ends the comparison: {said}")


async def offer(relay: Relay, events: Sequence[Frame]) -> tuple[int, Counter[str]]:
    """Send `events` to the relay; return how many it took anew, and why it declined others."""
    taken, declined, waiting = 0, Counter[str](), {event.id for event in events}
    async with relay.asked() as answer:
        for event in events:
            text = event.text
            await relay.send_text('["EVENT",' + text[text.index("{") : text.rindex("}") + 1] + "]")
        room = 2 * len(events) + EXCESS
        while waiting and (room := room - 1):
            frame = await answer()
            if frame.verb == "OK" and frame.sub in waiting:
                waiting.discard(frame.sub)
                reason = refusal(frame.reason)
                if frame.words[:1] == (True,) and reason != "duplicate":
                    taken += 1
                elif reason != "duplicate":
                    declined[reason] += 1
    return taken, declined
