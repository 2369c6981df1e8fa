"""Why bytes from the network are refused, as types.

    DragonError
    ├── LocalError                 ours: says what to do in `hint`
    └── RemoteError                the peer's: only these cost a peer anything
        └── Rejection              an envelope that is not admitted; `reason` is its counter's name
            ├── TooLarge           more than MAX_ENVELOPE bytes
            ├── Malformed          not msgpack, or not the shape of an envelope
            ├── NotCanonical       msgpack, but not the one encoding of its content
            ├── LimitExceeded      too deep, too many items, too long a text
            ├── UnsupportedVersion another envelope version
            ├── InvalidField       a manifest field outside its grammar
            ├── WrongSwarm         a manifest of another swarm
            ├── BadIdentity        the node id and the key do not belong together
            ├── BadSignature       not signed by the node it speaks for
            └── FromTheFuture      its sequence lies further ahead than clocks may differ

The roots live here because the contract stands below everything; `dragon.errors` draws and extends the whole tree.
"""

from typing import ClassVar


class DragonError(Exception):
    """Root of everything this project raises on purpose."""


class LocalError(DragonError):
    """Something on this machine is wrong. `hint` says in one line what to do about it; may be empty."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class RemoteError(DragonError):
    """A peer is wrong. Counted against that peer, never fatal to us."""


class Rejection(RemoteError):
    """An envelope that may not enter the view. `reason` is a stable word for counters and golden vectors."""

    reason: ClassVar[str] = "rejected"


class TooLarge(Rejection):
    reason = "too-large"


class Malformed(Rejection):
    reason = "malformed"


class NotCanonical(Rejection):
    reason = "not-canonical"


class LimitExceeded(Rejection):
    reason = "limit-exceeded"


class UnsupportedVersion(Rejection):
    reason = "unsupported-version"


class InvalidField(Rejection):
    reason = "invalid-field"


class WrongSwarm(Rejection):
    reason = "wrong-swarm"


class BadIdentity(Rejection):
    reason = "bad-identity"


class BadSignature(Rejection):
    reason = "bad-signature"


class FromTheFuture(Rejection):
    reason = "from-the-future"
