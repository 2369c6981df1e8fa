"""How old an envelope may claim to be, and whose clock is off: pure arithmetic on times, no state. THREATS 3 and 16.

The lease of an envelope counts from when it was first heard anywhere, so an age travels with every relayed one. A relay may
lie about it; but a sequence is the time at which its node spoke, by that node's clock. So a relayed envelope is at least as old
as its sequence says, less what clocks may differ: the lag that we measured when that node last spoke to us itself, else the
usual lag of those who do (which is our own clock's error), and one beat of tolerance. A lying relay gains that one beat, not a
lease. Where its victim's clock ran ahead unnoticed, it gains that much more, which the bound on sequences keeps below five
minutes. Nor can it make us forget who lives, and its mark with it: an envelope is not older than its sequence either, but for
what a clock may run ahead.
"""

from __future__ import annotations


def relayed_age(claimed: float, *, behind: float, allowance: float, max_skew: float) -> float:
    """Return the seconds for which a relayed envelope counts as heard already: what its carrier claims, within its sequence.

    `behind`: seconds from its sequence to our wall clock; `allowance`: how much of that may be clocks, not age; `max_skew`: how
    far a clock may run ahead of ours at all.
    """
    return max(min(claimed, behind + max_skew), behind - allowance, 0.0)


def clock_reason(lag: float, max_skew: float) -> str:
    """Return why a node that spoke to us itself is skewed, or nothing. `lag` in seconds, positive when its clock is behind."""
    if abs(lag) <= max_skew:
        return ""
    return f"its clock is {spell_seconds(abs(lag))} {'behind' if lag > 0 else 'ahead of'} ours"


def spell_seconds(seconds: float) -> str:
    """Return a duration for people: `70 s`, `12 min`, `26 h`, `400 d`."""
    for unit, size, least in (("d", 86400, 3 * 86400), ("h", 3600, 3 * 3600), ("min", 60, 5 * 60)):
        if seconds >= least:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
