"""Our own sequence: one number for order and time. Pure."""


def next_sequence(now_ms: int, last: int | None) -> int:
    """Return the sequence after `last` (None: there was none): the time, or one more where the clock does not give more.

    Never lower than before, whatever the clock does; the caller stores it before it is signed (DESIGN §5).
    """
    return now_ms if last is None else max(now_ms, last + 1)
