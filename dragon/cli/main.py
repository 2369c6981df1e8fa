"""From `sys.argv` to an exit code: 0 done, 1 failed, 2 usage, 3 no running node, 4 nothing offers it (DESIGN §8)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from dragon.errors import DragonError, LocalError
from dragon.text import clean

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""

_SENTENCE_ENDS = (".", "?", "!", ":", ";")


def main() -> NoReturn:
    """Run the command line of this process and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a letter gets a `?` instead of a traceback
            stream.reconfigure(errors="replace")
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _reader_left()
    sys.exit(code)


def run(words: Sequence[str]) -> int:
    """Run one command and return its exit code; every expected failure has been told on stderr, in one line."""
    from dragon.cli.app import app

    as_json = "--json" in words
    known = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    try:
        result = typer.main.get_command(app)(args=list(words) or ["--help"], prog_name="dragon", standalone_mode=False)
    except DragonError as error:
        hint = error.hint if isinstance(error, LocalError) else ""
        return _tell(str(error), hint, error.exit_code if isinstance(error, LocalError) else 1, as_json)
    except typer.TyperException as error:
        command = words[0] if words and words[0] in known else ""
        return _tell(error.format_message(), " ".join(f"see: dragon {command} --help".split()), 2, as_json)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_left()
    return result if isinstance(result, int) else 0


def _tell(error: str, hint: str, code: int, as_json: bool) -> int:
    if as_json:
        line = json.dumps({"error": error, "hint": hint})
    else:
        message = clean(error, 2000)
        line = f"dragon: {message}"
        if hint:
            line += f"{'' if message.endswith(_SENTENCE_ENDS) else ';'} {clean(hint, 2000)}"
    print(line, file=sys.stderr)
    return code


def _reader_left() -> int:
    """The reader of our output (`| head`) has gone: that is its right. What is still buffered goes nowhere, quietly."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return 0
