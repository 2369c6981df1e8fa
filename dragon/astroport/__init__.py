"""Living beside Astroport, or in the place of its scripts. Nothing here ever runs what came from another machine.

Two parts that share the layout (`zen`) and little else. In a command's own process, on the standard library alone: the language
of the `*.me.sh` (`dragon me`), the stand-ins, the takeover. In the node: `station` is the root of what lays, keeps, publishes
and reads a station's files (`upkeep`, `publication`, `http_beacon`, `bash_stations`), `identity` how a node becomes the
station's.
"""
