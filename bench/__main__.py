"""`python -m bench` runs all benchmarks, `python -m bench NAME…` some of them."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from bench.harness import measure, names, table


def stopped(number: int, frame: FrameType | None) -> None:
    """End as after an error, so that every daemon a benchmark started is ended, too."""
    raise SystemExit(128 + number)


def main(wanted: list[str]) -> int:
    known = names()
    if unknown := [name for name in wanted if name not in known]:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, stopped)
    for name in wanted or known:
        print(f"== {name}", flush=True)
        print(table(measure(name)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
