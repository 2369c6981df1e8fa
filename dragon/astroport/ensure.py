"""What a request needs, connected in one call: each service in a thread of its own, each with its result."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dragon.astroport.connecting import Connector, Control
from dragon.astroport.environment import read
from dragon.astroport.services import service_named
from dragon.astroport.status_file import Connection
from dragon.astroport.tags import Need
from dragon.astroport.words import Command
from dragon.errors import DragonError, LocalError


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one need: a connection, or why there is none."""

    need: Need
    connection: Connection | None
    error: DragonError | None = None
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.connection is not None

    @property
    def failure(self) -> str:
        """The line that callers of this service look for when there is no connection."""
        return service_named(self.need.service).failure

    @property
    def hint(self) -> str:
        return self.error.hint if isinstance(self.error, LocalError) else ""

    def document(self) -> dict[str, object]:
        """Return the result for programs; what does not apply is null."""
        found = self.connection
        return {
            "service": self.need.service,
            "required": self.need.required,
            "tags": list(self.need.because),
            "ok": self.ok,
            "type": found.kind if found else None,
            "provider": found.provider if found else None,
            "route": found.route if found else None,
            "port": found.port if found else None,
            "url": found.url if found else None,
            "message": None if found else self.failure,
            "error": None if self.error is None else str(self.error),
            "hint": None if self.error is None else self.hint,
        }


def ensure(needs: Sequence[Need], variables: Mapping[str, str], *, control: Callable[[], Control]) -> list[Result]:
    """Connect all of `needs` at the same time and return what became of each, in their order.

    `control` gives each thread a way of its own to the node.
    """
    results: dict[int, Result] = {}

    def meet(place: int, need: Need) -> None:
        notes: list[str] = []
        try:
            service = service_named(need.service)
            connector = Connector(control(), service, read(variables, service), say=notes.append, warn=notes.append)
            results[place] = Result(need, connector.connect(Command(need.verb)), None, tuple(notes))
        except DragonError as error:
            results[place] = Result(need, None, error, tuple(notes))

    threads = [threading.Thread(target=meet, args=(place, need), daemon=True) for place, need in enumerate(needs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[place] for place in range(len(needs))]


def exit_code(results: Sequence[Result]) -> int:
    """Return 0 when all that is required is connected, else the exit code of the first that is not."""
    failed = next((each for each in results if each.need.required and not each.ok), None)
    if failed is None:
        return 0
    return failed.error.exit_code if isinstance(failed.error, LocalError) else 1
