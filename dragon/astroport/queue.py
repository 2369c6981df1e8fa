"""How many jobs a ComfyUI has waiting, and how many are too many.

Source: the managers' rule: a node is taken for an image with at most 2 jobs running and pending, for music with at most 1; one
whose queue cannot be read is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping

from dragon.astroport.asking import ask_json
from dragon.astroport.words import Verb
from dragon.errors import LocalError

USUAL_LIMIT = 2
LIMITS: Mapping[Verb, int] = {"music": 1}


def jobs_at(port: int) -> int | None:
    """Return the jobs running and pending at a ComfyUI, None when it does not tell."""
    try:
        return jobs_in(ask_json(port, "GET", "/queue"))
    except LocalError:
        return None


def jobs_in(document: object) -> int | None:
    """Return the jobs in the answer to `GET /queue`, None when it is none."""
    if not isinstance(document, dict):
        return None
    lists = [document.get(key) for key in ("queue_running", "queue_pending")]
    return sum(len(each) for each in lists if isinstance(each, list)) if all(isinstance(each, list) for each in lists) else None


def busy_line(waiting: Mapping[str, int | None], names: Mapping[str, str]) -> str:
    """Return who has how many jobs, for people."""
    return ", ".join(
        f"{names.get(node_id, node_id)} {'cannot be asked' if jobs is None else f'has {jobs} jobs'}"
        for node_id, jobs in waiting.items()
    )
