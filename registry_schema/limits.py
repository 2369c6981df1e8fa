"""The bounds of the contract, each with its reason. Part of the protocol: changing one is a new version."""

MAX_ENVELOPE = 32 * 1024
"""Bytes of a whole envelope. 64 offers with labels fit; 10,000 nodes stay below 320 MB; far under pubsub's 1 MiB."""

MAX_DEPTH = 8
"""Nesting of maps and lists inside a payload. A manifest needs 4; the rest is room for newer versions."""

MAX_ITEMS = 4096
"""Values in one payload, counted over all levels: bounds the work that 32 KiB of one-byte items can cause.
A manifest that uses every other limit to the full has about 3,500."""

MAX_LENGTH = 256
"""Entries of one list or map. Decoders reserve room for the length that a list declares before they read it: such headers one
inside the other, as deep as msgpack goes (1,024), then reserve 2 MB at most."""

MAX_TEXT = 4096
"""UTF-8 bytes of any one string, also in fields that this version does not know: the longest text of the grammar
(1,024 characters) in the longest UTF-8 (4 bytes)."""

MAX_OFFERS = 64
"""Offers of one node. A station of the mission runs about fifteen."""

MAX_LABELS = 32
"""Labels of one offer or node: an ollama with thirty models names each of them."""

MAX_AGENTS = 16
"""Agents of one node."""

MAX_CAPACITIES = 32
"""Capacity figures of one node."""

MAX_ALIAS = 48
"""Characters of a node's alias: a host name's usual length, and it fits a column of a listing."""

MAX_LABEL = 128
"""Characters of a label's value: the longest model names seen have about ninety."""

MAX_STATION_TEXT = 1024
"""Characters of a station's text: an RSA-4096 line of `authorized_keys` needs about 800."""

MAX_NUMBER = 2**53 - 1
"""Largest magnitude of a number other than the sequence: exact in every language, JavaScript's too."""

MAX_SKEW_MS = 5 * 60 * 1000
"""Milliseconds that a sequence may lie ahead of our clock (DESIGN §5): what NTP-less home machines really show."""

MAX_SEQUENCE = 2**63 - 1
"""Largest sequence: a signed 64-bit integer everywhere, also in SQLite."""

MIN_TTL, MAX_TTL = 5, 3600
"""Seconds of a lease that a manifest may ask for; the receiver caps it again by its own policy."""

DIGEST_BUCKETS = 16
"""Id-prefix buckets of a view digest: a difference names 1/16 of the view to exchange."""

DIGEST_BYTES = 8
"""Bytes kept of each bucket's hash: an accidental match hides a difference once in 2**64."""
