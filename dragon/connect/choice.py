"""Which provider: a pure decision that carries its reasons.

First every candidate that cannot serve is refused, each with the reason; then a strategy picks among the rest. The default is
the power of two choices (Mitzenmacher 2001) on peak-EWMA latency × (in flight + 1) / weight, as Finagle and linkerd do it: two
candidates drawn at random, the cheaper one taken. Clients that all know the same figures then do not all run to the same
provider (THREATS 22).

Against herds and flapping (THREATS 22) the default has two rules more: who is new, or just back from its breaker, takes part in
a share of the draws that grows (slow start); and a choice that stands is left only for one that costs half (hysteresis).

Who signs nothing (`trust: ipns`) is looked at only when nobody who signs is left in by a breaker, and has no part in any figure
of theirs: no unsigned byte changes a choice among the signed (THREATS, invariant I4).

What we measured outranks what a provider claims (THREATS 23): a claimed load only counts where we have no measure of our own.
Our own trouble must not look like everybody's death (THREATS 21): when hardly anybody would be left, all are used (panic mode).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from dragon.connect.breaker import CLOSED, Breaker
from dragon.connect.measure import PeakEwma
from dragon.errors import UsageError
from registry_schema.labels import labels_match

StrategyName = Literal["p2c", "rotate", "random", "first"]

PRIOR = 0.05
"""Seconds assumed of a provider that nobody here measured, when no other was measured either: a home line's round trip."""

WARNING_FACTOR = 2.0
"""A provider whose service says `warning` must be twice as quick to be preferred."""


SLOW_START = 30.0
"""Seconds in which a newcomer's share grows to the full: a beat, within which its load is told to everybody once."""

FIRST_SHARE = 0.1
"""A newcomer's part in the draws at first, as Envoy's `min_weight_percent`: some must go there, or it is never measured."""

GAIN = 2.0
"""How much cheaper another must be for a standing choice to be left. Peak-EWMA jumps by half between two answers of a provider
that did not change, and one connection more doubles an idle one's cost: neither is a reason to move."""

MINIMUM_SHARE = 0.25
"""The part of those who could serve that breakers never take away. Envoy panics at a half; swarms are small, and of three
providers two may really be dead. Below a quarter the common cause is rather ours: one of up to four, two of eight."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One provider of one slug, with what it says and what we measured. `load` is 0 to 1, `last_seen` seconds ago.

    `weight` is our operator's word (`[connect] weights`): a provider that could claim one would be preferred for ever.
    """

    node_id: str
    alias: str
    slug: str
    health: str = "passing"
    load: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    trust: str = "signed"
    source: str = "pubsub"
    last_seen: float = 0.0
    is_self: bool = False
    relayed: bool = False
    measured: PeakEwma | None = None
    in_flight: int = 0
    weight: float = 1.0
    breaker: Breaker = CLOSED

    @property
    def unsigned(self) -> bool:
        """Whether nobody signed what it says: it ranks behind all others (DESIGN §7, rule 6)."""
        return self.trust == "ipns"

    @property
    def name(self) -> str:
        """The alias and the end of the id, which is where ids differ: for people."""
        return f"{self.alias} (…{self.node_id[-8:]})"


@dataclass(frozen=True, slots=True)
class Refused:
    """A candidate that was not taken, and why. `fit`: it could have served."""

    candidate: Candidate
    because: str
    fit: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """`provider` is None when every candidate was refused. `others` holds all who were not taken, in id order."""

    provider: Candidate | None
    because: str
    others: tuple[Refused, ...]


class Strategy(Protocol):
    """Picks one of at least one eligible candidates, which come in id order, and says by which rule."""

    @property
    def name(self) -> StrategyName: ...

    def pick(self, eligible: Sequence[Candidate], at: float) -> tuple[Candidate, str]: ...


def prior_of(candidates: Sequence[Candidate]) -> float:
    """Return the seconds to assume of an unmeasured candidate: the (lower) median of what was measured of the others."""
    known = sorted(each.measured.cost for each in candidates if each.measured is not None)
    return known[(len(known) - 1) // 2] if known else PRIOR


def cost(candidate: Candidate, prior: float, at: float) -> float:
    """Return what one more connection to `candidate` would cost, in weighted seconds."""
    measured = candidate.measured
    seconds = prior * (1.0 + candidate.load) if measured is None else measured.estimate(at, prior)
    if candidate.health == "warning":
        seconds *= WARNING_FACTOR
    if candidate.breaker.state(at) == "open":  # in panic mode: the more it failed, the later its turn
        seconds *= candidate.breaker.failures + 1
    return seconds * (candidate.in_flight + 1) / candidate.weight


def share(candidate: Candidate, at: float) -> float:
    """Return the part of the draws that `candidate` takes part in, `FIRST_SHARE` to 1.

    It grows from the first answer, or from when its breaker closed, whichever is later.
    """
    measured, closed_at = candidate.measured, candidate.breaker.closed_at
    if measured is None or candidate.breaker.opened_at is not None:
        return FIRST_SHARE
    begun = max(
        float("-inf") if measured.since is None else measured.since,
        float("-inf") if closed_at is None else closed_at,
    )
    return min(max((at - begun) / SLOW_START, FIRST_SHARE), 1.0)


class PowerOfTwo:
    name: StrategyName = "p2c"

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def pick(self, eligible: Sequence[Candidate], at: float) -> tuple[Candidate, str]:
        if len(eligible) == 1:
            return eligible[0], "the only one that can serve"
        prior = prior_of(eligible)
        present = self._present(eligible, at)
        absent = len(eligible) - len(present)
        note = f"; {absent} in slow start sat this draw out" if absent else ""
        if len(present) == 1:
            return present[0], f"p2c: the only one in this draw{note}"
        # Equals keep the order of the draw: by id, all who know nothing yet would run to the lowest one.
        first, second = sorted(self._rng.sample(present, 2), key=lambda each: cost(each, prior, at))
        mine, theirs = cost(first, prior, at), cost(second, prior, at)
        return first, f"p2c: cost {mine * 1000:.1f} against {theirs * 1000:.1f} of {second.name}{note}"

    def _present(self, eligible: Sequence[Candidate], at: float) -> Sequence[Candidate]:
        """Return who takes part in this draw. Shares count against the largest: where all are new, nobody is."""
        shares = [share(each, at) for each in eligible]
        full = max(shares)
        return [each for each, part in zip(eligible, shares, strict=True) if part >= full or self._rng.random() < part / full]


class Rotate:
    """Each in turn, in id order; who joins or leaves does not disturb the order of the rest."""

    name: StrategyName = "rotate"

    def __init__(self) -> None:
        self._last: dict[tuple[str, bool], str] = {}

    def pick(self, eligible: Sequence[Candidate], at: float) -> tuple[Candidate, str]:
        turn = (eligible[0].slug, eligible[0].unsigned)
        last = self._last.get(turn, "")
        taken = next((each for each in eligible if each.node_id > last), eligible[0])
        self._last[turn] = taken.node_id
        return taken, "rotate: next in id order"


class AtRandom:
    name: StrategyName = "random"

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def pick(self, eligible: Sequence[Candidate], at: float) -> tuple[Candidate, str]:
        return self._rng.choice(eligible), f"random: one of {len(eligible)}"


class First:
    name: StrategyName = "first"

    def pick(self, eligible: Sequence[Candidate], at: float) -> tuple[Candidate, str]:
        return eligible[0], "first in id order"


def strategy_named(name: str, rng: random.Random) -> Strategy:
    """Return a new strategy of one of the four names of DESIGN §6. Raises `UsageError`."""
    match name:
        case "rotate":
            return Rotate()
        case "random":
            return AtRandom(rng)
        case "first":
            return First()
        case "p2c":
            return PowerOfTwo(rng)
    raise UsageError(f"no strategy is called {name!r}", "strategies are p2c, rotate, random and first")


def lacking(labels: Mapping[str, str], where: Mapping[str, str]) -> str | None:
    """Return the first wish of `where` that `labels` do not meet, as `key=value`; None when all are met."""
    return next((f"{key}={wish}" for key, wish in where.items() if not labels_match(labels, {key: wish})), None)


def refusal(candidate: Candidate, where: Mapping[str, str], at: float) -> str | None:
    """Return why `candidate` cannot serve, None when it can. The breaker is not asked here: see `_kept`."""
    missing = lacking(candidate.labels, where)
    if missing is not None:
        return f"has no {missing}"
    if candidate.health == "critical":
        return "says itself that the service is critical"
    if candidate.relayed:
        return "reachable only through a relay, over which tunnels do not run"
    return None


def _breaker_says(breaker: Breaker, at: float) -> str:
    state = breaker.state(at)
    if state == "half-open":
        return f"breaker half-open, being tried ({breaker.why})"
    assert breaker.opened_at is not None
    wait = breaker.opened_at + breaker.cooldown - at
    return f"breaker open for {wait:.0f} s more: {breaker.why}"


def choose(
    candidates: Sequence[Candidate],
    strategy: Strategy,
    at: float,
    *,
    where: Mapping[str, str] | None = None,
    tried: Mapping[str, str] | None = None,
    incumbent: str | None = None,
    ailing: str | None = None,
) -> Decision:
    """Return the decision among `candidates` at monotonic time `at`.

    `where` holds labels that must be there; `tried` maps node ids that failed in this very attempt to how. `incumbent` is the
    node id of the choice that stands (p2c leaves it only for a clear gain); `ailing` is our own trouble, to be told.
    """
    ordered = sorted(candidates, key=lambda each: each.node_id)
    others: dict[str, Refused] = {}
    fit: list[Candidate] = []
    for each in ordered:
        because = refusal(each, where or {}, at)
        if because is None:
            fit.append(each)
        else:
            others[each.node_id] = Refused(each, because)
    eligible, panic = _eligible(fit, tried or {}, at)
    left_in = {each.node_id for each in eligible}
    for each in fit:
        if each.node_id not in left_in:
            others[each.node_id] = Refused(each, (tried or {}).get(each.node_id) or _passed_over(each, at))
    if not eligible:
        return Decision(None, "nobody can serve", tuple(others[each.node_id] for each in ordered))
    taken, because = strategy.pick(eligible, at)
    if strategy.name == "p2c" and incumbent is not None:
        taken, because = _settled(taken, because, eligible, incumbent, at)
    because = "; ".join(each for each in (because, panic, ailing and f"{ailing}: no failure is held against anybody") if each)
    for each in eligible:
        if each is not taken:
            others[each.node_id] = Refused(each, _possible(each, at), fit=True)
    return Decision(taken, because, tuple(others[each.node_id] for each in ordered if each is not taken))


def _eligible(fit: Sequence[Candidate], tried: Mapping[str, str], at: float) -> tuple[Sequence[Candidate], str]:
    """Return those to pick from, all of one trust, with what is to be said of open breakers among them."""
    tiers = [[each for each in fit if not each.unsigned], [each for each in fit if each.unsigned]]
    closed = [[each for each in tier if each.breaker.permits(at) and each.node_id not in tried] for tier in tiers]
    if closed[1] and not closed[0]:
        return closed[1], "nobody who signs can serve"
    for tier in tiers:
        kept, panic = _kept(tier, at)
        eligible = [each for each in kept if each.node_id not in tried]
        if not eligible:  # all who are left were tried just now: the others' breakers may be wrong
            eligible = [each for each in tier if each.node_id not in tried]
            panic = panic or "nobody else is left, so open breakers are tried too"
        if eligible:
            return eligible, panic
    return (), ""


def _passed_over(candidate: Candidate, at: float) -> str:
    if candidate.breaker.permits(at):
        return f"trust {candidate.trust} ranks behind signed"
    return _breaker_says(candidate.breaker, at)


def _kept(fit: Sequence[Candidate], at: float) -> tuple[Sequence[Candidate], str]:
    """Return those whom their breakers leave in, and in panic mode all, with what is to be said of it."""
    kept = [each for each in fit if each.breaker.permits(at)]
    least = math.ceil(len(fit) * MINIMUM_SHARE)
    if len(kept) >= least:
        return kept, ""
    if not kept:
        return fit, "every breaker is open, so all are tried"
    return fit, f"panic: only {len(kept)} of {len(fit)} breakers are closed, at least {least} should be, so all are used"


def _settled(
    picked: Candidate, because: str, eligible: Sequence[Candidate], incumbent: str, at: float
) -> tuple[Candidate, str]:
    """Return the standing choice where `picked` is no clear gain over it, else `picked`."""
    standing = next((each for each in eligible if each.node_id == incumbent), None)
    if standing is None or standing is picked:
        return picked, because
    prior = prior_of(eligible)
    mine, theirs = cost(standing, prior, at), cost(picked, prior, at)
    if theirs * GAIN < mine:
        return picked, f"{because}; left {standing.name}, which costs {mine * 1000:.1f}"
    return (
        standing,
        f"stays: cost {mine * 1000:.1f}, and {picked.name} with {theirs * 1000:.1f} is no clear gain",
    )


def _possible(candidate: Candidate, at: float) -> str:
    part = share(candidate, at)
    state = candidate.breaker.state(at)
    notes = [
        f"slow start: {part:.0%} of the draws" if part < 1 and candidate.measured is not None else "",
        f"never measured: {part:.0%} of the draws" if candidate.measured is None else "",
        f"weight {candidate.weight:g}" if candidate.weight != 1 else "",
        f"breaker {state}" if state != "closed" else "on probation" if candidate.breaker.on_probation(at) else "",
    ]
    return "; ".join(["could serve, was not picked", *(each for each in notes if each)])
