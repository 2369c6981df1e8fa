"""What a daemon that is not ours must have, for `dragon doctor`: each lack with the exact command that mends it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dragon.errors import KuboError, KuboRefused, KuboUnfit
from dragon.kubo.binary import MINIMUM, VERSION, parse_version
from dragon.kubo.client import KuboClient

RESTART = "restart the daemon (`ipfs shutdown`, then `ipfs daemon`, or its systemd unit)"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `fix` is the exact command, empty where all is well; `apply` does the same through the API, None where the
    operator must act. What is applied counts from the daemon's next start. A node cannot run without what is `essential`."""

    name: str
    ok: bool
    detail: str
    fix: str = ""
    apply: Callable[[], Awaitable[None]] | None = None
    essential: bool = True


@dataclass(frozen=True, slots=True)
class _Feature:
    name: str
    call: str
    setting: str
    without: str
    essential: bool


_FEATURES = (
    _Feature("stream mounting", "p2p/ls", "Experimental.Libp2pStreamMounting", "no tunnels", True),
    _Feature("pubsub", "pubsub/ls", "Pubsub.Enabled", "changes are not heard", True),
    _Feature("IPNS over pubsub", "name/pubsub/state", "Ipns.UsePubsub", "names take seconds to minutes instead of ms", False),
)


async def examine(kubo: KuboClient) -> list[Finding]:
    """Return what holds and what lacks, the answering daemon first. Raises nothing: a dead daemon is a finding."""
    try:
        identity = await kubo.identity()
    except KuboError as error:
        return [Finding("Kubo", False, str(error), error.hint)]
    found = [Finding("Kubo", True, f"{identity.node_id} at {kubo.address}"), _version(identity.version)]
    try:
        config: Mapping[str, Any] = await (await kubo.administration()).config()
    except KuboError:  # an API secret may allow the calls we need and not this one
        config = {}
    found.extend([await _feature(kubo, feature, config) for feature in _FEATURES])
    return found


async def require(kubo: KuboClient) -> None:
    """Return when a node can run on this daemon; else raise `KuboUnfit` (or `KuboUnreachable`) with all that lacks."""
    await kubo.identity()
    lacking = [finding for finding in await examine(kubo) if finding.essential and not finding.ok]
    if lacking:
        raise KuboUnfit(
            f"Kubo at {kubo.address} lacks " + ", ".join(f"{finding.name} ({finding.detail})" for finding in lacking),
            "run `dragon doctor --fix`, or by hand: " + "; ".join(finding.fix for finding in lacking if finding.fix),
        )


def _version(text: str) -> Finding:
    version = parse_version(text)
    if version is not None and version >= MINIMUM:
        return Finding("version", True, text)
    return Finding("version", False, f"{text} is older than 0.40", f"install Kubo {VERSION}, then {RESTART}")


async def _feature(kubo: KuboClient, feature: _Feature, config: Mapping[str, Any]) -> Finding:
    try:
        answer = await kubo.ask(feature.call)
        if answer.get("Enabled", True):
            return Finding(feature.name, True, "on", essential=feature.essential)
        detail = f"off: {feature.without}"
    except KuboRefused as error:
        detail = f"off: {feature.without} ({error})"
    except KuboError as error:
        return Finding(feature.name, False, str(error), error.hint, essential=feature.essential)
    value: Any = config
    for part in feature.setting.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is True:
        return Finding(feature.name, False, "on in its config, but not yet in the daemon", RESTART, essential=feature.essential)

    async def apply() -> None:
        await (await kubo.administration()).config_set(feature.setting, True)

    return Finding(
        feature.name, False, detail, f"ipfs config --json {feature.setting} true", apply, essential=feature.essential
    )
