"""What of a folder is published, and what of its changes is news."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dragon.astroport import published
from dragon.astroport.published import Documents, read_tree


def lay(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_other_programs_files_are_part_of_it_and_what_is_hidden_or_no_file_is_not(tmp_path: Path) -> None:
    lay(tmp_path, moats="1", TW__mail__index="<p>", COINS__a="1", TW__mail__deep__er="2")
    (tmp_path / ".dragon-laying").mkdir()
    (tmp_path / ".dragon-laying" / "half").touch()
    (tmp_path / "TW" / ".hidden").touch()
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder-link").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / os.fsdecode(b"no-\xff-text")).touch()
    (tmp_path / "line\nbreak").touch()
    tree = read_tree(tmp_path)
    assert sorted(tree.files) == ["COINS/a", "TW/mail/deep/er", "TW/mail/index", "moats"]
    assert tree.left_out == ""


def test_a_missing_folder_is_empty(tmp_path: Path) -> None:
    assert read_tree(tmp_path / "gone").files == {}


def test_names_of_the_first_level_are_chosen_by_the_caller(tmp_path: Path) -> None:
    lay(tmp_path, keep__drop="1", drop__keep="2")
    assert sorted(read_tree(tmp_path, wanted=lambda name: name == "keep").files) == ["keep/drop"]


@pytest.mark.parametrize(
    ("change", "is_news"),
    [
        (lambda root: lay(root, **{"_MySwarm.moats": "2"}), False),
        (lambda root: lay(root, **{"_MySwarm.staom": "later"}), False),
        (lambda root: lay(root, **{"dragon.manifest": "the next beat"}), False),
        (lambda root: lay(root, **{"12345.json": json.dumps({"created": "2", "date": "b", "uptime": "2", "PAF": "1"})}), False),
        (lambda root: lay(root, **{"12345.json": json.dumps({"created": "2", "PAF": "2"})}), True),
        (lambda root: lay(root, **{"12345.json": "{torn"}), True),
        (lambda root: lay(root, **{"x_ollama.sh": "#!/bin/bash"}), True),
        (lambda root: (root / "HEX").unlink(), True),
        (lambda root: (root / "HEX").rename(root / "HEX2"), True),
        (lambda root: lay(root, TW__a="other program"), True),
    ],
)
def test_times_alone_are_no_news(tmp_path: Path, change: object, is_news: bool) -> None:
    document = json.dumps({"created": "1", "date": "a", "uptime": "1", "PAF": "1"})
    lay(
        tmp_path,
        **{"_MySwarm.moats": "1", "_MySwarm.staom": "now", "dragon.manifest": "beat", "12345.json": document, "HEX": "a"},
    )
    remembered: Documents = {}
    before = read_tree(tmp_path, documents=remembered).signature
    assert read_tree(tmp_path, documents=remembered).signature == before
    change(tmp_path)  # type: ignore[operator]
    assert (read_tree(tmp_path).signature != before) == is_news
    assert (read_tree(tmp_path, documents=remembered).signature != before) == is_news


def test_what_does_not_fit_is_told_and_the_first_level_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "MAX_FILES", 3)
    lay(tmp_path, a__1="1", a__2="2", a__3="3", moats="1", zz="2")
    tree = read_tree(tmp_path)
    assert list(tree.files) == ["moats", "zz", "a/1"]
    assert "2 files of" in tree.left_out
    monkeypatch.setattr(published, "MAX_FILES", 100)
    monkeypatch.setattr(published, "MAX_BYTES", 2)
    assert list(read_tree(tmp_path).files) == ["moats", "zz"]


def test_folders_end_at_a_depth(tmp_path: Path) -> None:
    lay(tmp_path, **{"__".join(["d"] * 30): "deep", "a": "1"})
    assert list(read_tree(tmp_path).files) == ["a"]
