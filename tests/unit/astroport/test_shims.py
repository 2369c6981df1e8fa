"""The scripts that callers know by their paths."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dragon.astroport.shims import files, is_ours, sync_scripts, text_of, wrapper_text, write
from dragon.cli.executable import executable
from dragon.errors import HomeError, LocalError

COMMAND = ("/opt/my dragon's/bin/dragon",)


def test_two_lines_that_call_it_with_every_word_as_it_is(tmp_path: Path) -> None:
    program = tmp_path / "my dragon's $(touch x)" / "dragon"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s|" "$@"\nexit 7\n')
    program.chmod(0o755)
    write(tmp_path / "out", ["ollama", "dify"], (str(program),))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["dify.ai.me.sh", "dify.me.sh", "ollama.me.sh"]
    shim = tmp_path / "out" / "dify.ai.me.sh"
    assert shim.stat().st_mode & 0o777 == 0o755
    assert len(shim.read_text().splitlines()) == 2
    for start in ([str(shim)], ["bash", str(shim)]):
        called = subprocess.run([*start, "P2P", "a b", "$(x)", ""], capture_output=True, text=True, cwd=tmp_path, timeout=30)
        assert (called.stdout, called.returncode) == ("me|dify|P2P|a b|$(x)||", 7)
    assert not (tmp_path / "x").exists()


def test_again_changes_nothing_and_a_moved_dragon_is_followed(tmp_path: Path) -> None:
    assert {one.change for one in write(tmp_path, ["ollama", "ssh"], COMMAND)} == {"written"}
    assert {one.change for one in write(tmp_path, ["ollama", "ssh"], COMMAND)} == {"unchanged"}
    (tmp_path / "ssh.me.sh").chmod(0o600)
    assert [one.change for one in write(tmp_path, ["ollama", "ssh"], COMMAND)] == ["unchanged", "replaced"]
    assert {one.change for one in write(tmp_path, ["ollama", "ssh"], ("/usr/bin/python3", "-m", "dragon"))} == {"replaced"}
    assert (tmp_path / "ssh.me.sh").read_text() == '#!/bin/sh\nexec /usr/bin/python3 -m dragon me ssh "$@"\n'


@pytest.mark.parametrize("link", [False, True])
def test_what_others_wrote_is_kept(tmp_path: Path, link: bool) -> None:
    foreign, folder = tmp_path / "theirs", tmp_path / "services"
    folder.mkdir()
    theirs = "#!/bin/bash\n# a manager\n"
    if link:
        foreign.write_text(text_of("ollama", COMMAND))
        (folder / "ollama.me.sh").symlink_to(foreign)
    else:
        (folder / "ollama.me.sh").write_text(theirs)
    with pytest.raises(LocalError) as refused:
        write(folder, ["comfyui", "ollama"], COMMAND)
    assert "ollama.me.sh" in str(refused.value)
    assert "--force" in refused.value.hint
    assert [path.name for path in folder.iterdir()] == ["ollama.me.sh"]

    done = {one.path.name: one for one in write(folder, ["comfyui", "ollama"], COMMAND, force=True)}
    kept = done["ollama.me.sh"].kept
    assert kept is not None
    assert kept.is_symlink() if link else kept.read_text() == theirs
    assert (folder / "ollama.me.sh").read_text() == text_of("ollama", COMMAND)
    assert not (folder / "ollama.me.sh").is_symlink()
    assert {one.change for one in write(folder, ["comfyui", "ollama"], COMMAND)} == {"unchanged"}


def test_places_and_paths_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeError):
        write(tmp_path / "file", ["ollama"], COMMAND)
    with pytest.raises(LocalError):
        text_of("ollama", ["/a\nb/dragon"])
    (tmp_path / "ollama.me.sh").mkdir()
    with pytest.raises(HomeError):
        write(tmp_path, ["ollama"], COMMAND)


def test_dify_has_its_second_name_only_where_there_is_dify() -> None:
    assert files(["ollama"]) == {"ollama.me.sh": "ollama"}
    assert files(["dify"]) == {"dify.me.sh": "dify", "dify.ai.me.sh": "dify"}


def test_the_executable_is_absolute() -> None:
    assert Path(executable()[0]).is_absolute()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck on this machine")
def test_shellcheck_has_nothing_to_say(tmp_path: Path) -> None:
    command = ("/usr/bin/env", "DRAGON_HOME=/a b/c", *COMMAND)
    texts = [text_of("ollama", command), wrapper_text(command), *sync_scripts(tmp_path, command).values()]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.sh").write_text(text)
        assert is_ours(text.encode())
    files = [str(path) for path in sorted(tmp_path.glob("*.sh"))]
    done = subprocess.run(["shellcheck", *files], capture_output=True, text=True, timeout=60)
    assert (len(files), done.stdout) == (4, "")
