"""The bytes of `pubsub/sub` → messages. Pure: pieces in, values out."""

from __future__ import annotations

import json

from dragon.errors import KuboUnreachable
from dragon.kubo import multibase
from dragon.kubo.types import PubsubMessage

MAX_LINE = 2 << 20
"""A message of 1 MiB, Kubo's limit, is 1.4 MB of base64 plus its envelope; a longer line is not Kubo's."""


class MessageDecoder:
    """Cuts the stream into lines and the lines into messages; `malformed` counts lines that were neither."""

    def __init__(self) -> None:
        self._rest = b""
        self.malformed = 0

    def feed(self, piece: bytes) -> list[PubsubMessage]:
        """Return the messages that `piece` completes. Raises `KuboUnreachable` when Kubo itself reports the end."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > MAX_LINE:
            raise KuboUnreachable("the subscription sends lines longer than Kubo's limit")
        return [message for line in lines if (message := self._message(line)) is not None]

    def _message(self, line: bytes) -> PubsubMessage | None:
        if not line.strip():
            return None
        try:
            fields = json.loads(line)
            if fields.get("Type") == "error":
                raise KuboUnreachable(f"the subscription ended: {fields.get('Message', 'no reason given')}")
            return PubsubMessage(
                sender=str(fields["from"]),
                data=multibase.decode(fields["data"]),
                seqno=multibase.decode(fields["seqno"]),
                topics=tuple(multibase.decode(topic).decode("utf-8", "replace") for topic in fields["topicIDs"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            self.malformed += 1
            return None
