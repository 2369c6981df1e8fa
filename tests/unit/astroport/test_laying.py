"""Laying files where others write, wipe and plant things: only what changed, only what is ours, never through a link."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dragon.astroport.laying import STAGING, Found, Laid, Layer, Order
from dragon.astroport.placing import File
from dragon.errors import HomeError

NOBODY = 65534


def order(files: Mapping[str, str], *, mode: int = 0o644, token: object = None) -> Order:
    made = {name: File(text.encode(), mode) for name, text in files.items()}
    return Order(token or tuple(sorted(files.items())), frozenset(made), lambda _: made)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "zen").mkdir()
    return tmp_path / "zen" / "tmp" / "swarm"


@pytest.fixture
def layer(place: Path, tmp_path: Path) -> Layer:
    return again(place, tmp_path)


def again(place: Path, tmp_path: Path) -> Layer:
    """A layer as a restart makes it: only the journal is the same."""
    return Layer(place, tmp_path / "journal.json", within=tmp_path / "zen")


def tree(place: Path) -> dict[str, str]:
    return {str(path.relative_to(place)): path.read_text() for path in sorted(place.rglob("*")) if path.is_file()}


def stamps(place: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in [place, *sorted(place.rglob("*"))]}


def test_what_is_new_is_laid_and_the_same_again_touches_nothing(layer: Layer, place: Path, tmp_path: Path) -> None:
    wanted = {"a": order({"x": "1", "y": "2"}, mode=0o755), "b": order({"z": "3"})}
    assert layer.lay(wanted) == Laid(("a/x", "a/y", "b/z"))
    assert tree(place) == {"a/x": "1", "a/y": "2", "b/z": "3"}
    assert (place / "a" / "x").stat().st_mode & 0o777 == 0o755
    assert (place / "a").stat().st_mode & 0o777 == 0o755
    before = stamps(place)
    assert not layer.lay(wanted)
    assert not again(place, tmp_path).lay(wanted)
    assert stamps(place) == before


def test_only_what_changed_is_written(layer: Layer, place: Path) -> None:
    layer.lay({"a": order({"x": "1", "y": "2", "gone": "3"}), "b": order({"z": "4"})})
    before = stamps(place)
    assert layer.lay({"a": order({"x": "1", "y": "two", "new": "5"}), "b": order({"z": "4"})}) == Laid(
        ("a/new", "a/y"), ("a/gone",)
    )
    assert tree(place) == {"a/x": "1", "a/y": "two", "a/new": "5", "b/z": "4"}
    for same in ("a/x", "b/z", "b"):
        assert stamps(place)[str(place / same)] == before[str(place / same)]


def test_permissions_are_those_that_readers_need_whatever_the_umask(layer: Layer, place: Path) -> None:
    before = os.umask(0o077)
    try:
        layer.lay({"a": order({"x": "1"}, mode=0o755)})
        layer.lay({"a": order({"x": "2"}, mode=0o755)})
    finally:
        os.umask(before)
    assert (place / "a" / "x").stat().st_mode & 0o777 == 0o755
    assert (place / "a").stat().st_mode & 0o777 == 0o755


def test_nobody_is_asked_for_content_that_still_lies_there(layer: Layer) -> None:
    asked = []

    def render(_: Found) -> dict[str, File]:
        asked.append(1)
        return {"x": File(b"1")}

    for _ in range(3):
        layer.lay({"a": Order("same", frozenset({"x"}), render)})
    assert asked == [1]


@pytest.mark.parametrize("what", ["unlink", "write", "replace", "chmod", "wipe", "wipe root", "foreign"])
def test_what_others_do_to_our_files_is_mended(layer: Layer, place: Path, what: str) -> None:
    wanted = {"a": order({"x": "1", "y": "2"}, mode=0o755)}
    layer.lay(wanted)
    file = place / "a" / "x"
    match what:
        case "unlink":
            file.unlink()
        case "write":
            file.write_text("?")
        case "replace":
            (place / "a" / "tmp").write_text("1")
            (place / "a" / "tmp").rename(file)
        case "chmod":
            file.chmod(0o644)
        case "wipe":
            for each in (place / "a").iterdir():
                each.unlink()
            (place / "a").rmdir()
        case "wipe root":
            os.system(f"rm -r {place.parent}")
        case "foreign":
            (place / "a" / "theirs").write_text("kept")
    layer.lay(wanted)
    assert {name: text for name, text in tree(place).items() if "theirs" not in name} == {"a/x": "1", "a/y": "2"}
    assert file.stat().st_mode & 0o777 == 0o755
    if what == "foreign":
        assert (place / "a" / "theirs").read_text() == "kept"


@pytest.mark.parametrize("restart", [False, True])
def test_only_ours_is_taken_away(layer: Layer, place: Path, tmp_path: Path, restart: bool) -> None:
    layer.lay({"a": order({"x": "1"}), "b": order({"x": "1"}), "kept": order({"x": "1"})})
    (place / "b" / "theirs").write_text("t")
    (place / "bash").mkdir()
    (place / "bash" / "x").write_text("t")
    after = again(place, tmp_path) if restart else layer
    assert after.lay({}, keep={"kept"}).removed == ("a/x", "b/x")
    assert tree(place) == {"b/theirs": "t", "bash/x": "t", "kept/x": "1"}
    assert after.lay({}).removed == ("kept/x",)
    assert not (place / "a").exists()


def test_a_crash_between_journal_and_files_leaves_nothing_unknown(layer: Layer, place: Path, tmp_path: Path) -> None:
    def dies(_: Found) -> dict[str, File]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        layer.lay({"a": order({"x": "1"}), "b": Order(1, frozenset({"y"}), dies)})
    assert tree(place) == {"a/x": "1"}
    assert again(place, tmp_path).lay({}).removed == ("a/x",)
    assert list(place.iterdir()) == []


def test_a_crash_while_a_file_is_written_leaves_nothing_for_ever(layer: Layer, place: Path) -> None:
    layer.lay({"a": order({"x": "1", "y": "1"})})
    (place / "a" / ".x.dragon").write_text("half")
    layer.lay({"a": order({"x": "2", "y": "1"})})
    assert sorted(each.name for each in (place / "a").iterdir()) == ["x", "y"]
    (place / "a" / ".y.dragon").write_text("half")
    (place / STAGING / "b").mkdir(parents=True)
    (place / STAGING / "b" / "x").write_text("half")
    layer.lay({"b": order({"x": "2"})})
    assert [each.name for each in place.iterdir()] == ["b"]


def test_links_are_never_followed(layer: Layer, place: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("precious")
    layer.lay({"a": order({"x": "1"})})
    (place / "a" / "x").unlink()
    (place / "a" / "x").symlink_to(outside / "x")
    (place / "b").symlink_to(outside)
    with pytest.raises(HomeError, match=r"swarm/b is a link"):
        layer.lay({"a": order({"x": "1"}), "b": order({"x": "2"}), "c": order({"x": "3"})})
    assert (outside / "x").read_text() == "precious"
    assert not (place / "a" / "x").is_symlink()
    assert (place / "a" / "x").read_text() == "1"
    assert (place / "c" / "x").read_text() == "3"
    layer.lay({})
    assert (place / "b").is_symlink()
    assert sorted(each.name for each in outside.iterdir()) == ["x"]


@pytest.mark.parametrize("planted", ["folder", "pipe", "socket"])
def test_odd_things_in_our_way(layer: Layer, place: Path, planted: str) -> None:
    layer.lay({"a": order({"x": "1", "y": "2"})})
    (place / "a" / "x").unlink()
    match planted:
        case "folder":
            (place / "a" / "x").mkdir()
        case _:
            os.mkfifo(place / "a" / "x")
    (place / "a" / "y").unlink()
    if planted == "folder":
        with pytest.raises(HomeError, match="a/x"):
            layer.lay({"a": order({"x": "1", "y": "2"})})
    else:
        layer.lay({"a": order({"x": "1", "y": "2"})})
        assert (place / "a" / "x").read_text() == "1"
    assert (place / "a" / "y").read_text() == "2"
    assert [each.name for each in (place / "a").iterdir() if each.name.startswith(".")] == []
    layer.lay({})


def test_only_plain_files_are_read(layer: Layer, place: Path) -> None:
    layer.lay({"a": order({"x": "1"})})
    os.mkfifo(place / "a" / "doc")
    (place / "a" / "folder").mkdir()
    (place / "a" / "link").symlink_to(place / "a" / "x")
    open_files = len(list(Path("/proc/self/fd").iterdir()))
    seen: list[Found] = []

    def render(found: Found) -> dict[str, File]:
        seen.append(found)
        return {"x": File(b"1")}

    layer.lay({"a": Order("new", frozenset({"x"}), render, reads=("doc", "folder", "link", "x", "none"))})
    assert seen == [Found({"x": b"1"}, frozenset({"doc", "folder", "link"}))]
    assert len(list(Path("/proc/self/fd").iterdir())) == open_files


@pytest.fixture
def somebody() -> Iterator[Path]:
    """A folder of a user without any rights, as whom the test goes on: root may write anywhere."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    root = os.geteuid() == 0
    if root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(folder)


@pytest.mark.parametrize("where", ["zen/tmp", "zen/tmp/swarm", "zen/tmp/swarm/a"])
def test_places_that_may_not_be_written(somebody: Path, where: str) -> None:
    (somebody / "zen").mkdir()
    layer = again(somebody / "zen" / "tmp" / "swarm", somebody)
    layer.lay({"a": order({"x": "1"})})
    spot = somebody / where
    spot.chmod(0o000 if where == "zen/tmp" else 0o500)
    try:
        with pytest.raises(HomeError, match="cannot be written") as refused:
            layer.lay({"a": order({"x": "2"}), "b": order({"y": "3"})})
    finally:
        spot.chmod(0o700)
    assert refused.value.hint
    assert "\n" not in str(refused.value)
    assert "a/x" in layer.lay({"a": order({"x": "2"})}).changed
    assert tree(somebody / "zen" / "tmp" / "swarm")["a/x"] == "2"


def test_another_users_folder_is_left_alone(somebody: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can make another user's folder")
    os.seteuid(0)
    (somebody / "zen" / "tmp").mkdir(parents=True)
    os.seteuid(NOBODY)
    with pytest.raises(HomeError, match="cannot be written"):
        again(somebody / "zen" / "tmp" / "swarm", somebody).lay({"a": order({"x": "1"})})


def test_places_that_are_none(layer: Layer, place: Path, tmp_path: Path) -> None:
    (tmp_path / "zen" / "tmp").write_text("a file")
    with pytest.raises(HomeError):
        layer.lay({"a": order({"x": "1"})})
    (tmp_path / "zen" / "tmp").unlink()
    (tmp_path / "zen").rmdir()
    with pytest.raises(HomeError, match="is missing"):
        layer.lay({"a": order({"x": "1"})})
    assert not (tmp_path / "zen").exists()


@pytest.mark.parametrize("name", ["../x", "", ".x", "a/b", "x\n", "é", "-x", "a" * 200])
def test_names_are_one_plain_word(layer: Layer, place: Path, name: str) -> None:
    with pytest.raises(HomeError):
        layer.lay({"a": order({name: "1"})})
    with pytest.raises(HomeError):
        layer.lay({name: order({"x": "1"})})
    assert not place.exists() or list(place.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"root": 1}', '{"root": "/", "folders": {"../../etc": ["passwd"]}}', "[" * 9999]
)
def test_a_torn_journal_is_set_aside(place: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "journal.json").write_text(text)
    layer = again(place, tmp_path)
    assert layer.lay({"a": order({"x": "1"})}).changed == ("a/x",)
    assert (tmp_path / "journal.json.aside-1").read_text() == text
    assert again(place, tmp_path).lay({}).removed == ("a/x",)


def test_the_journal_of_another_place_says_nothing_of_this_one(layer: Layer, place: Path, tmp_path: Path) -> None:
    layer.lay({"a": order({"x": "1"})})
    other = tmp_path / "zen" / "other"
    (other / "a").mkdir(parents=True)
    (other / "a" / "x").write_text("theirs")
    Layer(other, tmp_path / "journal.json", within=tmp_path / "zen").lay({})
    assert tree(other) == {"a/x": "theirs"}


def test_readers_never_miss_a_file(layer: Layer, place: Path) -> None:
    """While files change and come anew, a reader sees the old or the new one, whole, and never an empty folder."""
    wrong: list[str] = []
    stop = threading.Event()
    layer.lay({"a": order({"x": "0" * 4096, "y": "0" * 4096})})

    def read() -> None:
        while not stop.is_set():
            for name in ("x", "y"):
                text = (place / "a" / name).read_text()
                if len(text) != 4096 or len(set(text)) != 1:
                    wrong.append(text)
            wrong.extend(each.name for each in place.iterdir() if each.name != "a" and not each.name.startswith("."))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(300):
            layer.lay({"a": order({"x": str(number % 10) * 4096, "y": str(number % 7) * 4096})})
    finally:
        stop.set()
        reader.join()
    assert wrong == []
    assert not (place / STAGING).exists()


@pytest.fixture
def unlucky(place: Path) -> Order:
    """An order during whose rendering somebody wipes everything, twice."""
    wipes = iter(range(2))

    def render(_: Found) -> dict[str, File]:
        if next(wipes, None) is not None:
            os.system(f"rm -r {place.parent}")
        return {"x": File(b"1")}

    return Order("t", frozenset({"x"}), render)


def test_a_wipe_in_the_middle_is_survived(layer: Layer, place: Path, unlucky: Order) -> None:
    assert layer.lay({"a": order({"x": "0"}), "b": unlucky}).changed == ("a/x", "b/x")
    assert tree(place) == {"a/x": "0", "b/x": "1"}
