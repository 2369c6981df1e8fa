"""From `sys.argv` to an exit code: 0 done, 1 failed, 2 usage, 3 no running node, 4 nothing offers it (DESIGN §8)."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TextIO

from dragon.errors import DragonError, LocalError
from dragon.text import complaint

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""


def main() -> NoReturn:
    """Run the command line of this process and leave with its exit code."""
    sys.stdout, sys.stderr = _fit(sys.stdout), _fit(sys.stderr)
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _reader_left()
    except OSError as error:
        code = _not_written(error, "--json" in sys.argv)
    sys.exit(code)


def run(words: Sequence[str]) -> int:
    """Run one command and return its exit code; every expected failure has been told on stderr, in one line."""
    try:
        return _run(words, as_json="--json" in words)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_left()
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        return _not_written(error, "--json" in words)


def _run(words: Sequence[str], *, as_json: bool) -> int:
    import typer  # here, so that Ctrl-C ends a command quietly also while it is being loaded

    from dragon.cli.app import app

    try:
        result = typer.main.get_command(app)(args=list(words) or ["--help"], prog_name="dragon", standalone_mode=False)
    except DragonError as error:
        hint = error.hint if isinstance(error, LocalError) else ""
        return _tell(str(error), hint, error.exit_code if isinstance(error, LocalError) else 1, as_json)
    except typer.TyperException as error:
        where = getattr(error, "ctx", None)  # of which command: only usage errors know it
        return _tell(error.format_message().rstrip("."), f"see: {where.command_path if where else 'dragon'} --help", 2, as_json)
    except typer.Abort:
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def _fit(stream: TextIO | None) -> TextIO:
    """Return `stream`, or a way to nowhere when its descriptor is closed (`>&-`).

    A terminal that lacks a letter gets a `?` instead of a traceback.
    """
    if stream is None:
        return Path(os.devnull).open("w")  # stays open until the process ends, as the stream it stands for
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")
    return stream


def _tell(error: str, hint: str, code: int, as_json: bool) -> int:
    print(json.dumps({"error": error, "hint": hint}) if as_json else complaint(error, hint), file=sys.stderr)
    return code


def _reader_left() -> int:
    """The reader of our output (`| head`) has gone: that is its right."""
    _forget_output()
    return 0


def _not_written(error: OSError, as_json: bool) -> int:
    _forget_output()
    return _tell(f"the output cannot be written: {error.strerror}", "free some space, or write it elsewhere", 1, as_json)


def _forget_output() -> None:
    """Lead what is still buffered nowhere, quietly: Python would complain once more when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
