"""One login on one SSH host: who it is was checked, a key let us in, and services of its 127.0.0.1 are reached through it.

Only direct-tcpip channels (RFC 4254 §7.2) are ever asked for: no shell, no command, no agent or port forwarding back to us; and
~/.ssh/config, whose ProxyCommand could run programs, is not read. This module is imported when the first SSH route is used.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import asyncssh

from dragon.config import SshSettings
from dragon.connect.ports import bind_first
from dragon.connect.relay import tune
from dragon.connect.ssh_channel import Session, SshChannel, loopback_pair
from dragon.connect.ssh_trust import Trust, look_up, remember
from dragon.errors import PeerUnreachable, SshRefused

log = logging.getLogger(__name__)

logging.getLogger("asyncssh").setLevel(logging.WARNING)  # it tells of every channel

UNANSWERED = 2
"""Keep-alive questions that may stay open: with the third silence of 1.5 s a host is given up, within five seconds."""

CLOSE_TIMEOUT = 2.0
"""Seconds for a host to take leave; beyond it the connection is cut."""

FASTEST = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
"""Ciphers to ask for before the library's own order: 1.4 times its throughput here, since processors have AES built in."""

USUAL_FILES = (Path("~/.ssh/known_hosts"), Path("/etc/ssh/ssh_known_hosts"))


@dataclass(frozen=True, slots=True)
class Address:
    """Where to log in. `family` is AF_INET6 or AF_INET."""

    host: str
    port: int
    user: str
    family: socket.AddressFamily

    def __str__(self) -> str:
        version = "IPv6" if self.family == socket.AF_INET6 else "IPv4"
        return f"{self.user}@{self.host} port {self.port} over {version}"


class _Doorkeeper(asyncssh.SSHClient):
    """Decides on a key that no file has, and hears of the end. Called in the event loop."""

    def __init__(self, trust: Trust, *, first_use: bool) -> None:
        self.trust = trust
        self.first_use = first_use
        self.offered: asyncssh.SSHKey | None = None
        self.on_lost: Callable[[Exception | None], None] = lambda _: None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.offered = key
        return self.first_use and not self.trust.is_known and key not in self.trust.revoked

    def connection_lost(self, exc: Exception | None) -> None:
        self.on_lost(exc)


class SshLink:
    """An open login. `used_at` is in the caller's clock; `is_open` turns false when the host is lost, and never back."""

    def __init__(self, address: Address, connection: asyncssh.SSHClientConnection, doorkeeper: _Doorkeeper) -> None:
        self.address = address
        self.is_open = True
        self._connection = connection
        self._channels: dict[object, SshChannel] = {}
        self._listeners: dict[int, socket.socket] = {}
        doorkeeper.on_lost = self._lost

    @property
    def channels(self) -> int:
        return len(self._channels)

    async def dial(self, port: int) -> socket.socket:
        """Return a fresh connection to `port` of the host's 127.0.0.1. It is ours until `hung_up`.

        Raises `PeerUnreachable` when the host refuses it or nothing listens there.
        """
        session = await self._channel(port)
        try:
            near, far = await loopback_pair()
        except BaseException:
            if session.channel is not None:
                session.channel.abort()
            raise
        self._channels[near] = SshChannel(far, partial(_ready, session), partial(self._ended, near))
        return near

    def listen(self, port: int) -> int:
        """Return a port of our 127.0.0.1 that leads to `port` there for as long as the login lasts, for the service's test."""
        listener = self._listeners.get(port)
        if listener is None:
            listener = self._listeners[port] = bind_first(iter((0,)))
            asyncio.get_running_loop().add_reader(listener, self._accept, listener, port)
        return int(listener.getsockname()[1])

    def hung_up(self, near: socket.socket) -> None:
        if (channel := self._channels.get(near)) is not None:
            channel.hang_up()

    async def close(self) -> None:
        """Cut the channels, take leave."""
        self.is_open = False
        for listener in self._listeners.values():
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        await asyncio.gather(*(channel.close() for channel in list(self._channels.values())))
        self._connection.close()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._connection.wait_closed()
        except TimeoutError:
            self._connection.abort()
            await self._connection.wait_closed()

    def _accept(self, listener: socket.socket, port: int) -> None:
        try:
            far, _ = listener.accept()
        except OSError:  # the caller left, or no descriptor is free: they try again
            return
        tune(far)
        self._channels[far] = SshChannel(far, partial(self._channel, port), partial(self._ended, far))

    async def _channel(self, port: int) -> Session:
        opening = asyncio.create_task(self._connection.create_connection(Session, "127.0.0.1", port))
        try:
            _, session = await asyncio.shield(opening)
        except asyncssh.ChannelOpenError as error:
            raise PeerUnreachable(_refused(self.address, port, error)) from error
        except (asyncssh.Error, OSError) as error:
            raise PeerUnreachable(f"{self.address}: {_reason(error)}") from error
        except asyncio.CancelledError:
            opening.add_done_callback(_abandoned)
            raise
        assert isinstance(session, Session)
        return session

    def _ended(self, key: object, _: SshChannel) -> None:
        self._channels.pop(key, None)

    def _lost(self, error: Exception | None) -> None:
        if self.is_open:
            self.is_open = False
            log.info("the login %s ended: %s", self.address, _reason(error) if error else "the host closed it")


async def log_in(address: Address, settings: SshSettings, own_file: Path) -> SshLink:
    """Return a login on `address`.

    `own_file` holds the keys that were trusted on first use. Raises `SshRefused` when the host's key is not believed or none of
    our keys lets us in, `PeerUnreachable` when nobody answers, `HomeError` when a trusted key cannot be kept.
    """
    files = [*(file.expanduser() for file in settings.known_hosts or USUAL_FILES), own_file]
    trust = await asyncio.to_thread(look_up, files, address.host, address.port)
    doorkeeper = _Doorkeeper(trust, first_use=settings.trust_on_first_use)
    options = await asyncio.to_thread(_options, address, settings, trust, lambda: doorkeeper)
    try:
        connection = await asyncssh.connect(address.host, address.port, family=address.family, options=options)
    except asyncssh.HostKeyNotVerifiable as error:
        refusal = trust.refusal(doorkeeper.offered, own_file)
        log.error("%s: %s", refusal, refusal.hint)
        raise refusal from error
    except asyncssh.PermissionDenied as error:
        keys = ", ".join(map(str, settings.keys)) or "those of ~/.ssh"
        raise SshRefused(
            f"{address}: none of our keys lets us in",
            f"tried: {keys}{' and the agent' if settings.agent else ''}; add the public key there (ssh-copy-id), or set "
            "ssh.user and ssh.keys",
        ) from error
    except (OSError, asyncssh.Error) as error:
        raise PeerUnreachable(f"{address}: {_reason(error)}") from error
    link = SshLink(address, connection, doorkeeper)
    if doorkeeper.offered is not None:
        try:
            await asyncio.to_thread(remember, own_file, address.host, address.port, doorkeeper.offered)
        except BaseException:
            await link.close()
            raise
        log.warning(
            "%s: trusted on first use, key %s, kept in %s", address, doorkeeper.offered.get_fingerprint(), own_file
        )  # fmt: skip
    return link


def _options(
    address: Address, settings: SshSettings, trust: Trust, client: Callable[[], asyncssh.SSHClient]
) -> asyncssh.SSHClientConnectionOptions:
    """Return what asyncssh is told; reads key files. Raises `SshRefused` for a file that is no usable key."""
    try:
        return asyncssh.SSHClientConnectionOptions(
            client_factory=client,
            config=None,
            username=address.user,
            server_host_key_algs=trust.algorithms(),
            known_hosts=([each.key for each in trust.keys], list(trust.authorities), list(trust.revoked)),
            client_keys=[str(file) for file in settings.keys] or (),
            agent_path=() if settings.agent else None,
            encryption_algs=FASTEST,
            preferred_auth="publickey",
            gss_host=None,
            connect_timeout=settings.connect_timeout,
            keepalive_interval=settings.keepalive,
            keepalive_count_max=UNANSWERED,
        )
    except (OSError, asyncssh.KeyImportError) as error:  # a locked key (KeyEncryptionError) is one of the latter
        raise SshRefused(
            f"ssh.keys: {_reason(error)}", "name private key files that need no passphrase; let ssh-agent hold the others"
        ) from error


async def _ready(session: Session) -> Session:
    return session


def _refused(address: Address, port: int, error: asyncssh.ChannelOpenError) -> str:
    if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
        return f"{address} does not let us forward to its port {port} (AllowTcpForwarding, PermitOpen in its sshd_config)"
    return f"nothing answers on port {port} of {address} ({_reason(error)})"


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        number = error.errno or 0  # negative: of a name; where asyncio words an error its own way, it repeats the address
        return os.strerror(number) if number > 0 else error.strerror or str(error)
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


def _abandoned(opening: asyncio.Task[tuple[asyncssh.SSHTCPChannel[bytes], asyncssh.SSHTCPSession[bytes]]]) -> None:
    """Close a channel whose caller gave up while it was being opened."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].abort()
