"""NOSTR sync: the relays of a constellation hold the same events of the people it cares about.

In: authors, kinds, a window, the local relay, and ports that lead to the peers' relays. Out: verified events in the local
relay, and a report. It runs in the process of `dragon sync`, which a serving node starts every hour: however large a backfill
is, it costs the node no memory, and its death nothing.
"""
