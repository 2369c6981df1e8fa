"""The kernel's table of TCP sockets: who listens, who is connected, and which process holds a socket.

On Linux through netlink `sock_diag` (sock_diag(7), linux/inet_diag.h): a dump of the listening sockets costs about 0.04 ms,
a hundredth of reading /proc/net/tcp. Where the kernel refuses that (some sandboxes), /proc/net/tcp{,6} is read; elsewhere
psutil is asked. All calls return at once (netlink answers within the send), except `owner_pids` and `owners`, which walk
/proc/*/fd: tens of milliseconds on a busy machine, so call those in a thread.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final, Literal

Source = Literal["netlink", "proc", "psutil"]

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER: Final = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence, port id."""
_REQUEST: Final = struct.Struct("=BBBxI2s2s16s16sI8s")
"""inet_diag_req_v2: family, protocol, extensions, states, then inet_diag_sockid."""
_MESSAGE: Final = struct.Struct("=BBBBHH16s16sI8sIIIII")
"""inet_diag_msg: family, state, timer, retransmits, sockid (ports big-endian), expires, rqueue, wqueue, uid, inode."""
_NO_COOKIE: Final = b"\xff" * 8
_NO_ADDRESS: Final = bytes(16)
_READ_BYTES: Final = 1 << 16
"""The kernel fills dump messages of at most 32 KiB."""

_STATES: Final = {
    1: "established", 2: "syn-sent", 3: "syn-recv", 4: "fin-wait-1", 5: "fin-wait-2", 6: "time-wait",
    7: "closed", 8: "close-wait", 9: "last-ack", 10: "listen", 11: "closing", 12: "new-syn-recv",
}  # fmt: skip
_ESTABLISHED, _LISTEN = 1, 10


@dataclass(frozen=True, slots=True, order=True)
class Socket:
    """One TCP socket of this network namespace."""

    family: int
    """`socket.AF_INET` or `AF_INET6`."""
    local_ip: str
    local_port: int
    remote_ip: str
    remote_port: int
    uid: int
    """User that made it; -1 where unknown."""
    inode: int
    """What /proc/*/fd calls it; 0 for a connection that nobody has accepted yet."""
    state: str

    @property
    def on_loopback(self) -> bool:
        """True when a connection to 127.0.0.1 reaches this listener."""
        address = ip_address(self.local_ip)
        if isinstance(address, IPv6Address):
            return address == IPv6Address("::") or (address.ipv4_mapped is not None and address.ipv4_mapped.is_loopback)
        return str(address) in ("0.0.0.0", "127.0.0.1")  # noqa: S104  # compared, not bound


class SockDiag:
    """One netlink channel to the kernel's socket table. Raises `OSError` where the kernel has none for us."""

    def __init__(self) -> None:
        self._channel = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG)
        self._channel.setblocking(False)  # the answer lies in the buffer when the request returns

    def __enter__(self) -> SockDiag:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def dump(self, family: int, state: int) -> bytes:
        """Return the kernel's messages on all sockets of `family` in `state`, as they come; compare them or `parse` them."""
        self._ask(family, 1 << state, _NLM_F_DUMP, bytes(2), bytes(2), _NO_ADDRESS, _NO_ADDRESS)
        parts: list[bytes] = []
        while True:
            part = self._channel.recv(_READ_BYTES)
            kind = _last_type(part)
            if kind == _NLMSG_ERROR:
                raise _refusal(part)
            parts.append(part)
            if kind == _NLMSG_DONE:
                return b"".join(parts)

    def find(self, local: tuple[str, int], remote: tuple[str, int]) -> Socket | None:
        """Return the connection from `local` to `remote`, or None. One question, whatever the number of sockets."""
        source, target = ip_address(local[0]), ip_address(remote[0])
        family = socket.AF_INET6 if source.version == 6 else socket.AF_INET
        ports = (struct.pack(">H", local[1]), struct.pack(">H", remote[1]))
        self._ask(family, 0xFFFFFFFF, 0, *ports, source.packed.ljust(16, b"\0"), target.packed.ljust(16, b"\0"))
        answer = self._channel.recv(_READ_BYTES)
        if _HEADER.unpack_from(answer)[1] == _NLMSG_ERROR:
            error = _refusal(answer)
            if error.errno == errno.ENOENT:
                return None
            raise error
        found = next(parse(answer), None)
        return found if found is not None and found.remote_port == remote[1] else None  # else a listener on that port

    def _ask(self, family: int, states: int, flags: int, sport: bytes, dport: bytes, source: bytes, target: bytes) -> None:
        body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, states, sport, dport, source, target, 0, _NO_COOKIE)
        length = _HEADER.size + len(body)
        self._channel.sendto(_HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST | flags, 1, 0) + body, (0, 0))


def parse(messages: bytes, ports: Collection[int] | None = None) -> Iterator[Socket]:
    """Yield the sockets in the kernel's messages; only those on local `ports`, where these are given."""
    offset = 0
    while offset + _HEADER.size <= len(messages):
        length, kind, *_ = _HEADER.unpack_from(messages, offset)
        if length < _HEADER.size:
            return
        if kind == _SOCK_DIAG_BY_FAMILY and length >= _HEADER.size + _MESSAGE.size:
            family, state, _, _, sport, dport, source, target, *_, uid, inode = _MESSAGE.unpack_from(
                messages, offset + _HEADER.size
            )
            port = socket.ntohs(sport)
            if ports is None or port in ports:
                size = 4 if family == socket.AF_INET else 16
                yield Socket(
                    family,
                    socket.inet_ntop(family, source[:size]),
                    port,
                    socket.inet_ntop(family, target[:size]),
                    socket.ntohs(dport),
                    uid,
                    inode,
                    _STATES.get(state, str(state)),
                )
        offset += (length + 3) & ~3


def _last_type(part: bytes) -> int:
    """Return the type of the last message in one read: DONE or ERROR end a dump."""
    offset, kind = 0, 0
    while offset + _HEADER.size <= len(part):
        length, kind, *_ = _HEADER.unpack_from(part, offset)
        if length < _HEADER.size:
            break
        offset += (length + 3) & ~3
    return int(kind)


def _refusal(message: bytes) -> OSError:
    number = -int(struct.unpack_from("=i", message, _HEADER.size)[0])
    return OSError(number, os.strerror(number))


class ListeningWatch:
    """Looks at the listening sockets again and again, at next to no cost while nothing changes.

    The kernel's raw answer is compared with the last one; only a different one is parsed. The channel stays open, so `close`.
    """

    def __init__(self) -> None:
        self._channel: SockDiag | None = None
        self._raw: object = None
        self.source: Source = "psutil"
        if sys.platform == "linux":
            self.source = "proc"
            try:
                self._channel = SockDiag()
                self._channel.dump(socket.AF_INET, _LISTEN)
            except OSError:
                self.close()
            else:
                self.source = "netlink"

    def __enter__(self) -> ListeningWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def look(self, ports: frozenset[int] | None = None) -> list[Socket] | None:
        """Return the listening sockets, sorted, or None when nothing was said differently than at the last look.

        With `ports`, only those on these ports: on a machine where others come and go all the time, that is ten times cheaper.
        """
        if self._channel is not None:
            parts = (self._channel.dump(socket.AF_INET, _LISTEN), self._channel.dump(socket.AF_INET6, _LISTEN))
            if (parts, ports) == self._raw:
                return None
            self._raw = (parts, ports)
            return sorted(each for part in parts for each in parse(part, ports))
        sockets = [each for each in _listening_elsewhere() if ports is None or each.local_port in ports]
        if sockets == self._raw:
            return None
        self._raw = sockets
        return sockets


def listening() -> list[Socket]:
    """Return all listening TCP sockets, sorted. Raises `OSError` only where no source at all can be read."""
    with ListeningWatch() as watch:
        return watch.look() or []


def established(port: int) -> list[Socket]:
    """Return the established connections whose local port is `port`."""
    if sys.platform == "linux":
        try:
            with SockDiag() as channel:
                found = [
                    each for family in (socket.AF_INET, socket.AF_INET6) for each in parse(channel.dump(family, _ESTABLISHED))
                ]
        except OSError:
            found = _read_proc("established")
    else:
        found = _ask_psutil("established")
    return [each for each in found if each.local_port == port]


def connection(local: tuple[str, int], remote: tuple[str, int]) -> Socket | None:
    """Return the socket here that is connected from `local` to `remote`, or None.

    For an accepted loopback connection, `connection(peername, sockname)` is the caller's own socket: its inode leads to its
    process. IPv4 addresses find IPv4 connections of dual-stack sockets too.
    """
    if sys.platform == "linux":
        try:
            with SockDiag() as channel:
                return channel.find(local, remote)
        except OSError:
            pass
    wanted = (*local, *remote)
    for each in established(local[1]):
        if (_plain(each.local_ip), each.local_port, _plain(each.remote_ip), each.remote_port) == wanted:
            return each
    return None


def owner_pids(inode: int, among: Collection[int] | None = None) -> set[int] | None:
    """Return the processes that hold socket `inode`; None where nothing was found and not every process could be read.

    `among` narrows the search to these pids. Walks /proc/*/fd: call it in a thread when `among` is None.
    """
    found, complete = owners({inode}, among)
    return found[inode] if found[inode] or complete else None


def owners(inodes: Collection[int], among: Collection[int] | None = None) -> tuple[dict[int, set[int]], bool]:
    """Return, for each of `inodes`, the processes that hold it, and whether every process's files could be read."""
    found: dict[int, set[int]] = {inode: set() for inode in inodes}
    wanted = {f"socket:[{inode}]": inode for inode in inodes if inode}
    complete = sys.platform == "linux"
    for pid in _pids() if among is None else among:
        folder = f"/proc/{pid}/fd"
        try:
            names = os.listdir(folder)  # noqa: PTH208  # ten thousand Path objects a walk otherwise
        except PermissionError:
            complete = False
            continue
        except OSError:
            continue  # it ended
        for name in names:
            try:
                target = os.readlink(f"{folder}/{name}")  # noqa: PTH115
            except OSError:
                continue
            if target in wanted:
                found[wanted[target]].add(pid)
    return found, complete


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208
    except OSError:
        return []


def _plain(address: str) -> str:
    """Return an IPv4-mapped IPv6 address as IPv4."""
    return address.removeprefix("::ffff:") if "." in address else address


def _listening_elsewhere() -> list[Socket]:
    return sorted(_read_proc("listen") if sys.platform == "linux" else _ask_psutil("listen"))


def _read_proc(state: str) -> list[Socket]:
    """Return the sockets in `state` by /proc/net/tcp and tcp6 (proc_net_tcp.txt of the kernel)."""
    code = f"{next(number for number, name in _STATES.items() if name == state):02X}"
    found: list[Socket] = []
    for family, path in ((socket.AF_INET, "/proc/net/tcp"), (socket.AF_INET6, "/proc/net/tcp6")):
        try:
            with open(path) as table:  # noqa: PTH123
                next(table, None)
                for line in table:
                    columns = line.split()
                    if columns[3] == code:
                        local, remote = _proc_address(family, columns[1]), _proc_address(family, columns[2])
                        found.append(Socket(family, *local, *remote, int(columns[7]), int(columns[9]), state))
        except FileNotFoundError:
            continue  # a kernel without IPv6
    return found


def _proc_address(family: int, text: str) -> tuple[str, int]:
    """Read `0100007F:1F90`: 32-bit words in the machine's byte order, then the port."""
    address, _, port = text.partition(":")
    words = bytes.fromhex(address)
    packed = b"".join(struct.pack("=I", int.from_bytes(words[place : place + 4], "big")) for place in range(0, len(words), 4))
    return socket.inet_ntop(family, packed), int(port, 16)


def _ask_psutil(state: str) -> list[Socket]:
    import psutil  # only where there is no /proc: 8 MB that Linux nodes spare

    wanted = psutil.CONN_LISTEN if state == "listen" else psutil.CONN_ESTABLISHED
    found: list[Socket] = []
    for each in psutil.net_connections("tcp"):
        if each.status == wanted and each.laddr:
            remote = (each.raddr.ip, each.raddr.port) if each.raddr else ("", 0)
            found.append(Socket(int(each.family), each.laddr.ip, each.laddr.port, *remote, -1, 0, state))
    return found
