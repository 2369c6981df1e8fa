"""What kinds of events are called: for people, and in the lines that a station's report reader counts by.

Names: the NIPs' own, and for a station's kinds what its registry of kinds says. Categories: ASTROPORT facts 4.6.
"""

from __future__ import annotations

from collections.abc import Mapping

KIND_NAMES: Mapping[int, str] = {
    0: "profiles", 1: "notes", 3: "follow lists", 4: "direct messages", 5: "deletions", 6: "reposts", 7: "reactions",
    8: "badge awards", 21: "videos", 22: "short videos", 40: "channels", 41: "channel metadata", 42: "channel messages",
    44: "channel mutes", 1063: "files", 1111: "comments", 1222: "voice messages", 1244: "voice comments",
    1506: "justice requests", 1984: "reports", 1985: "labels", 1986: "film tags", 9735: "zaps", 10000: "analytics",
    10001: "pinned", 22242: "relay sign-ins", 30001: "lists", 30005: "playlists", 30008: "profile badges",
    30009: "badge definitions", 30023: "articles", 30024: "article drafts", 30078: "application data", 30303: "vouchers",
    30312: "meeting spaces", 30313: "meetings", 30315: "statuses", 30500: "permit definitions", 30501: "permit requests",
    30502: "permit attestations", 30503: "permit credentials", 30504: "crafts", 30505: "objects", 30506: "justice",
    30508: "matches", 30800: "identities", 30850: "economic health", 30851: "economic reports", 30904: "crowdfunding",
    31900: "workflows", 31901: "workflow runs", 31902: "workflow results", 31910: "n² memories", 31922: "calendar days",
    31923: "calendar events", 31924: "calendars", 31925: "calendar replies",
}  # fmt: skip

STATS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("dms", (4,)),
    ("public", ()),  # whatever is no direct message
    ("deletions", (5,)),
    ("videos", (21, 22)),
    ("files", (1063,)),
    ("comments", (1111,)),
    ("voice", (1222, 1244)),
    ("tags", (1985,)),
    ("tmdb", (1986, 30001)),
    ("channels", (40, 41, 42, 44)),
    ("playlists", (30005, 10001)),
    ("status", (30315,)),
    ("did", (30800,)),
    ("ore_spaces", (30312,)),
    ("ore_meetings", (30313,)),
    ("oracle", (30500, 30501, 30502, 30503)),
    ("economic_health", (30850, 30851)),
    ("workflows", (31900, 31901, 31902)),
    ("n2_memory", (31910,)),
    ("nip52_calendar", (31922, 31923, 31924, 31925)),
    ("profiles", (0,)),
    ("text", (1,)),
    ("contacts", (3,)),
    ("reposts", (6,)),
    ("reactions", (7,)),
    ("blog", (30023,)),
    ("drafts", (30024,)),
    ("analytics", (10000,)),
    ("encrypted_analytics", ()),  # told from the others by an event's tags, which a count by kind does not hold
    ("badge_awards", (8,)),
    ("profile_badges", (30008,)),
    ("badge_definitions", (30009,)),
    ("love_ledger", (30305,)),
    ("wotx2_objects", (30505, 1505)),
    ("wotx2_justice", (30506, 1506)),
    ("vibration_matches", (30508,)),
    ("friction_reports", (1984,)),
    ("zaps", (9735,)),
    ("crowdfunding", (30904,)),
)
"""The fields of a SYNC_STATS line after `events`, in their order, and the kinds that each counts."""


def kind_name(kind: int) -> str:
    """Return what events of `kind` are called, in the plural."""
    return KIND_NAMES.get(kind, f"kind {kind}")


def stats(by_kind: Mapping[int, int]) -> dict[str, int]:
    """Return the fields of a SYNC_STATS line for events counted by kind."""
    total = sum(by_kind.values())
    counted = {"events": total} | {name: sum(by_kind.get(kind, 0) for kind in kinds) for name, kinds in STATS}
    counted["public"] = total - counted["dms"]
    return counted
