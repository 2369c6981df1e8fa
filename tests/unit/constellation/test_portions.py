"""Few large events or many small ones are asked for at once: what is under way takes little memory either way."""

from __future__ import annotations

import pytest

from dragon.constellation.frames import Frame
from dragon.constellation.portions import FIRST, LEAST, PORTION, Portions


def of(size: int, number: int = 10) -> list[Frame]:
    return [Frame("EVENT", text="x" * size)] * number


@pytest.mark.parametrize(
    ("pages", "count"),
    [
        ([], PORTION // FIRST),
        ([of(600)], 1024),
        ([of(600), of(600)], 1500),
        ([of(600)] * 9, 1500),
        ([of(600)] * 9 + [of(40_000)], 26),
        ([of(400_000)], LEAST),
        ([of(40_000), of(600)], 209),
        ([of(600), []], 1024),
        ([of(0)] * 20, 1500),
    ],
)
def test_how_many_are_asked_for_next(pages: list[list[Frame]], count: int) -> None:
    portions = Portions()
    for page in pages:
        portions.note(page)
    assert portions.count(1500) == count
    assert portions.count(7) == 7
