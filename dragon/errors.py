"""Every error of the program, in one tree.

DragonError
├── LocalError                    ours: one line that says what is wrong, `hint` what to do; `exit_code` for the CLI
│   ├── UsageError            2   the words of a command or request are off
│   │   ├── UnknownService    2   no such slug in catalogue or view
│   │   └── AmbiguousNode     2   several nodes match an id part or alias
│   ├── ConfigError           2   config file, environment or flag: file, line, key, what was expected
│   ├── NotRunning            3   no node answers on this home's control socket
│   ├── NoProvider            4   nothing offers it, or nobody who does can be reached
│   ├── HomeError             1   DRAGON_HOME unwritable, full, or held by another node
│   ├── StoreError            1   the durable store cannot be used
│   ├── PortInUse             1   somebody else listens on the port that was asked for
│   ├── SshRefused            1   an SSH host is not who we think, or does not let us in: for the operator to set right
│   └── KuboError             1   the engine
│       ├── KuboMissing           no usable binary, and none could be had
│       ├── KuboUnreachable       the API does not answer (or not in time)
│       ├── KuboRefused           the API answered with an error; `message` is Kubo's own
│       ├── KuboUnfit             too old, or without a feature that is needed
│       └── KuboBusy              another Dragon uses this daemon
└── RemoteError                   the peer's: only these cost a peer anything
    ├── Rejection                 an envelope that is not admitted (registry_schema.errors draws its kinds)
    ├── ProtocolError             a peer broke the exchange's framing or limits
    ├── PeerUnreachable           a dial that failed or timed out
    └── ServiceFailed             the provider's service did not pass the catalogue's test
"""

from typing import ClassVar

from registry_schema.errors import DragonError, LocalError, Rejection, RemoteError

__all__ = [
    "AmbiguousNode",
    "ConfigError",
    "DragonError",
    "HomeError",
    "KuboBusy",
    "KuboError",
    "KuboMissing",
    "KuboRefused",
    "KuboUnfit",
    "KuboUnreachable",
    "LocalError",
    "NoProvider",
    "NotRunning",
    "PeerUnreachable",
    "PortInUse",
    "ProtocolError",
    "Rejection",
    "RemoteError",
    "ServiceFailed",
    "SshRefused",
    "StoreError",
    "UnknownService",
    "UsageError",
]


class UsageError(LocalError):
    exit_code: ClassVar[int] = 2


class UnknownService(UsageError):
    pass


class AmbiguousNode(UsageError):
    pass


class ConfigError(LocalError):
    exit_code: ClassVar[int] = 2


class NotRunning(LocalError):
    exit_code: ClassVar[int] = 3


class NoProvider(LocalError):
    exit_code: ClassVar[int] = 4


class HomeError(LocalError):
    pass


class StoreError(LocalError):
    pass


class PortInUse(LocalError):
    pass


class SshRefused(LocalError):
    pass


class KuboError(LocalError):
    pass


class KuboMissing(KuboError):
    pass


class KuboUnreachable(KuboError):
    pass


class KuboRefused(KuboError):
    pass


class KuboUnfit(KuboError):
    pass


class KuboBusy(KuboError):
    pass


class ProtocolError(RemoteError):
    pass


class PeerUnreachable(RemoteError):
    pass


class ServiceFailed(RemoteError):
    pass
