"""Help texts: every command has one, and what they show as examples can be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from dragon.cli.app import app
from dragon.cli.main import run

ROOT = typer.main.get_command(app)
ROOT_FOLDER = Path(__file__).parents[3]


def commands(command: object, *words: str) -> Iterator[tuple[str, ...]]:
    yield words
    for name, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield from commands(inner, *words, name)


COMMANDS = list(commands(ROOT))


@pytest.fixture(autouse=True)
def a_usual_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def help_of(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    assert run([*words, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of(words, capsys)
    assert shown.startswith(("Usage: ", "dragon me"))
    assert all(len(line) <= 80 for line in shown.splitlines() if "`dragon me" not in line)
    assert "..." not in shown.replace("ARGS]...", ""), "a first line that a list of commands would cut"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_examples_are_commands_that_are_understood(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    _, _, examples = help_of(words, capsys).partition("Example")
    for line in examples.splitlines()[1:]:
        program, *typed = shlex.split(line)
        assert program == "dragon"
        assert typed[: len(words)] == list(words)
        command = ROOT
        for word in words:
            command = command.commands[word]  # type: ignore[attr-defined]
        command.make_context("dragon", typed[len(words) :])


def test_the_main_commands_have_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("serve", "forward", "peers", "services", "explain", "doctor", "off", "ensure"):
        assert "Example" in help_of((name,), capsys)


@pytest.mark.parametrize("words", [[], ["astroport"]], ids=["dragon", "astroport"])
def test_a_group_alone_is_a_question_for_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("Usage: dragon")
    assert "Commands:" in printed.out
    assert printed.err == ""


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("frobnicate", "dragon --help"),
        ("peers --jsn", "dragon peers --help"),
        ("astroport frobnicate", "dragon astroport --help"),
        ("astroport takeover --dry", "dragon astroport takeover --help"),
        ("sync frobnicate", "dragon sync --help"),
    ],
)
def test_wrong_words_name_the_page_of_their_command(words: str, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words.split()) == 2
    assert capsys.readouterr().err.endswith(f"; see: {page}\n")


DOCS = sorted((ROOT_FOLDER / "docs").glob("*.md"))
PAGES = [ROOT_FOLDER / "README.md", ROOT_FOLDER / "CHANGELOG.md", *DOCS]
LEFT_OUT = re.compile(r"[…|<>]|\[|--\w+-completion")
"""Where a page leaves words out or names alternatives; and what would act while it is parsed."""


def shown_commands(page: Path) -> list[str]:
    text = page.read_text()
    inline = re.findall(r"`(dragon [^`\n]+)`", text)
    typed = re.findall(r"^(?:\$ )?(dragon [a-z].*?)(?:  #.*)?$", text, re.MULTILINE)
    return [command for command in [*inline, *typed] if not LEFT_OUT.search(command)]


def what_is_wrong_with(shown: str) -> str:
    """Return what the parser says of a command; a page may name one without its words (`dragon forward`)."""
    command, words = ROOT, shlex.split(shown)[1:]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
    try:
        command.make_context(shown, words)
    except typer.Exit:  # --version has answered
        return ""
    except typer.TyperException as error:
        message = error.format_message()
        return "" if message.startswith("Missing argument") else message
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_that_a_page_shows_are_understood(page: Path) -> None:
    assert {shown: wrong for shown in shown_commands(page) if (wrong := what_is_wrong_with(shown))} == {}


def test_pages_show_commands() -> None:
    assert sum(len(shown_commands(page)) for page in PAGES) > 100
