"""From the Bash DRAGON to Dragon and back: every byte, from every point at which it may be cut off."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dragon.astroport import ledger as ledger_module
from dragon.astroport.ledger import Ledger
from dragon.astroport.shims import wrapper_text
from dragon.astroport.steps import Service
from dragon.astroport.takeover import (
    Machine,
    Options,
    Told,
    ledger_of,
    release,
    state_of,
    steps_of,
    take_over,
)
from dragon.astroport.unit import Manager
from dragon.astroport.zen import Zen
from dragon.errors import LocalError
from dragon.home import Home, write_atomically

CONFIG = '# mine\n[node]\nalias = "owl"  # the bird\n\n[registry]\nheartbeat = 20.0\n'


class Station:
    """A station in a folder, with a node that runs or not, and no systemd."""

    def __init__(self, folder: Path, *, config: str | None = CONFIG) -> None:
        self.folder = folder
        self.zen = Zen(folder / ".zen")
        self.home = Home(folder / "dragon")
        self.node_runs = True
        self.bash: list[str] = ["/x/ollama-12D3KooWOwl"]
        self.zen.services.mkdir(parents=True)
        self.zen.dragon_script.parent.mkdir()
        for script in (
            self.zen.dragon_script,
            *(self.zen.services / f"{name}.me.sh" for name in ("ollama", "dify.ai", "vane")),
        ):
            script.write_text(f"#!/bin/bash\n# the original {script.name}\n")
            script.chmod(0o755)
            os.utime(script, ns=(10**18, 10**18 + 5))
        (self.zen.services / "own.me.sh").write_text("the captain's own\n")
        (self.zen.services / "link.me.sh").symlink_to("own.me.sh")
        (self.zen.services / "strfry.me.sh").symlink_to("ollama.me.sh")
        (folder / "sync").mkdir()
        (folder / "sync" / "backfill_constellation.sh").write_bytes(b"#!/bin/bash\n\xff original")
        self.home.prepare()
        if config is not None:
            self.home.config_file.write_text(config)

    @property
    def machine(self) -> Machine:
        return Machine(
            zen=self.zen, home=self.home, command=("/opt/my dragon/dragon",),
            slugs=("ollama", "dify", "vane", "strfry", "comfyui"),
            manager=lambda scope: Manager(scope, {"PATH": "", "HOME": str(self.folder)}, self.folder / "etc", root=True),
            ipfs_path="/srv/ipfs", answers=lambda: self.node_runs, bash_listeners=lambda: list(self.bash),
            close_bash_listeners=self.bash.clear,
        )  # fmt: skip

    def take_over(self, options: Options | None = None) -> list[Told]:
        options, ledger = options or self.options, ledger_of(self.home)
        return list(take_over(steps_of(self.machine, ledger, options), ledger, options))

    @property
    def options(self) -> Options:
        return Options(nostr=self.folder / "sync")

    def release(self) -> list[Told]:
        ledger = ledger_of(self.home)
        return list(release(steps_of(self.machine, ledger, Options.of(ledger.options)), ledger))

    def state(self) -> str:
        ledger = ledger_of(self.home)
        return state_of([step.is_done() for step in steps_of(self.machine, ledger, self.options)], ledger)

    def tree(self) -> dict[str, tuple[int, bytes]]:
        """Everything below the station: path → (type and mode, content)."""
        return {
            str(path.relative_to(self.folder)): (
                path.lstat().st_mode,
                str(path.readlink()).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b"",
            )
            for path in sorted(self.folder.rglob("*"))
        }


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


def notes(told: list[Told]) -> list[str]:
    return [note for one in told for note in one.notes]


def test_there_twice_and_back_twice(station: Station) -> None:
    before = station.tree()
    assert {one.outcome for one in station.take_over()} == {"done", "already"}
    taken = station.tree()
    assert station.state() == "complete"
    assert {one.outcome for one in station.take_over()} == {"already"}
    assert station.tree() == taken
    assert station.bash == []

    assert {one.outcome for one in station.release()} == {"undone"}
    assert station.tree() == before
    assert station.zen.dragon_script.stat().st_mtime_ns == 10**18 + 5
    assert station.release() == []
    assert station.tree() == before
    assert station.state() == "none"
    station.take_over()
    assert {path: what for path, what in station.tree().items() if "takeover" not in path} == {
        path: what for path, what in taken.items() if "takeover" not in path
    }


def test_what_stands_there_then(station: Station) -> None:
    station.take_over()
    services = {path.name: path.read_text() for path in station.zen.services.iterdir()}
    assert services["ollama.me.sh"] == "#!/bin/sh\nexec '/opt/my dragon/dragon' me ollama \"$@\"\n"
    assert services["dify.ai.me.sh"].endswith(' me dify "$@"\n')
    assert services["own.me.sh"] == services["link.me.sh"] == "the captain's own\n"
    assert "comfyui.me.sh" not in services
    assert (station.zen.services / "link.me.sh").is_symlink()
    assert not (station.zen.services / "strfry.me.sh").is_symlink()
    assert (station.folder / "sync" / "backfill_constellation.sh").read_text().endswith(' sync --as backfill "$@"\n')
    assert station.home.config_file.read_text() == CONFIG.replace("[registry]\n", '[registry]\npublisher = "astroport"\n')
    unit = (station.folder / ".config" / "systemd" / "user" / "dragon-station.service").read_text()
    assert '\nExecStart="/opt/my dragon/dragon" serve\n' in unit
    assert f'"DRAGON_HOME={station.home.root}" "ZEN_HOME={station.zen.root}" "IPFS_PATH=/srv/ipfs"' in unit
    assert "\nType=notify\n" in unit


@pytest.mark.parametrize(
    ("word", "called", "code"),
    [("OFF", "stop", 0), ("off", "stop", 0), ("Stop", "stop", 0), ("ON", "start", 0), ("", "start", 0), ("x", "start", 0)],
)
def test_the_wrapper_speaks_the_words_of_the_original(tmp_path: Path, word: str, called: str, code: int) -> None:
    program = tmp_path / "a dragon's $(touch x)"
    program.write_text('#!/bin/sh\necho "$@"\nexit ${DRAGON_EXIT:-0}\n')
    program.chmod(0o755)
    wrapper = tmp_path / "DRAGON_p2p_ssh.sh"
    wrapper.write_text(wrapper_text([str(program)]))
    for failing in (False, True):
        done = subprocess.run(
            ["bash", str(wrapper), *([word] if word else [])], capture_output=True, text=True, timeout=30, cwd=tmp_path,
            env={**os.environ, "DRAGON_EXIT": "3" if failing else "0"},
        )  # fmt: skip
        assert (done.stdout, done.returncode) == (f"astroport {called}\n", 1 if failing else code)
    assert not (tmp_path / "x").exists()


def cut_off(station: Station, act: Callable[[], object], number: int, *, after: bool) -> bool:
    """Do `act` in a process that is killed before or after its `number`-th write; tell whether it came that far."""
    child = os.fork()
    if child == 0:
        count = iter(range(1_000_000))

        def deadly(path: Path, data: bytes, mode: int = 0o600) -> None:
            now = next(count) == number
            if now and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            write_atomically(path, data, mode)
            if now:
                os.kill(os.getpid(), signal.SIGKILL)

        setattr(ledger_module, "write_atomically", deadly)  # noqa: B010
        try:
            act()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("way", ["there", "back"])
@pytest.mark.parametrize("then", ["on", "release"])
def test_killed_anywhere_it_can_be_finished_or_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool, way: str, then: str
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a killed process loses nothing that it wrote
    for number in range(100):
        station = Station(tmp_path / str(number))
        before = station.tree()
        if way == "back":
            station.take_over()
        killed = cut_off(station, station.take_over if way == "there" else station.release, number, after=after)
        if then == "on":
            station.take_over()
            assert station.state() == "complete", number
        station.release()
        assert station.tree() == before, number
        if not killed:
            assert number > 5
            return
    raise AssertionError("it never came to an end")


def test_without_a_node_the_bash_side_is_left_alone_and_going_on_finishes(station: Station) -> None:
    station.node_runs = False
    with pytest.raises(LocalError, match="no node runs here") as refused:
        station.take_over()
    assert "systemctl --user enable --now dragon-station.service" in refused.value.hint
    assert "original" in station.zen.dragon_script.read_text()
    assert station.state() == "partial"
    station.node_runs = True
    station.take_over()
    assert station.state() == "complete"


def test_a_users_service_that_ends_with_the_logout_is_said(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    service = next(step for step in steps_of(station.machine, ledger_of(station.home), Options()) if step.name == "service")
    manager = Manager("user", {"PATH": ""}, root=False)
    assert isinstance(service, Service)
    lonely = replace(service, manager=manager, user="captain")
    monkeypatch.setattr("dragon.astroport.unit.LINGER", station.folder)
    assert any("loginctl enable-linger captain" in note for note in lonely.do())
    (station.folder / "captain").touch()
    assert not any("linger" in note for note in lonely.do())


def test_other_wishes_need_a_release_first(station: Station) -> None:
    station.take_over()
    with pytest.raises(LocalError, match="scope=user publisher=astroport"):
        station.take_over(Options(publisher="dragon", nostr=station.folder / "sync"))


def test_what_others_wrote_since_stays_and_so_does_the_copy(station: Station) -> None:
    station.take_over()
    script = station.zen.services / "ollama.me.sh"
    script.write_text("#!/bin/bash\n# a newer original\n")
    told = notes(station.release())
    assert script.read_text() == "#!/bin/bash\n# a newer original\n"
    kept = next(Path(note.rpartition(": ")[2]) for note in told if "ollama.me.sh was changed" in note)
    assert kept.read_text() == "#!/bin/bash\n# the original ollama.me.sh\n"


def test_a_newer_original_is_replaced_again_and_comes_back(station: Station) -> None:
    station.take_over()
    script = station.zen.services / "ollama.me.sh"
    script.write_text("#!/bin/bash\n# a newer original\n")
    assert station.state() == "partial"
    station.take_over()
    assert " me ollama " in script.read_text()
    station.release()
    assert script.read_text() == "#!/bin/bash\n# a newer original\n"


def test_a_stand_in_that_somebody_removed_costs_no_original(station: Station) -> None:
    before = station.tree()
    station.take_over()
    station.zen.dragon_script.unlink()
    for name in ("ollama.me.sh", "strfry.me.sh"):  # a file, and a link
        (station.zen.services / name).unlink()
    station.release()
    assert station.tree() == before


def test_a_file_that_was_removed_is_replaced_again_with_its_first_copy(tmp_path: Path) -> None:
    file, ledger = tmp_path / "script", Ledger(tmp_path / "dragon" / "ledger")
    for original in ("file", "link"):
        file.write_text("original") if original == "file" else file.symlink_to("elsewhere")
        with ledger.held():
            ledger.begin({"scope": "user"})
            ledger.replace(file, b"stand-in", 0o755)
            file.unlink()
            ledger.replace(file, b"stand-in", 0o755)
            assert ledger.restore(file) == "restored"
            ledger.end()
        assert str(file.readlink()) == "elsewhere" if original == "link" else file.read_text() == "original"
        file.unlink()


FAKE_SYSTEMCTL = """#!/bin/sh
echo "$@" >> {folder}/called
case "$2" in
    show) echo Version=252 ;;
    is-active) cat {folder}/active 2>/dev/null || echo inactive ;;
    is-enabled) echo enabled ;;
esac
"""


def managed(station: Station) -> tuple[Machine, Path]:
    """A station whose systemd says what the test wants; what it was told stands in a file."""
    program = station.folder.parent / f"{station.folder.name}-bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(FAKE_SYSTEMCTL.format(folder=program.parent))
    program.chmod(0o755)
    environ = {"PATH": f"{program.parent}:/usr/bin:/bin", "HOME": str(station.folder)}
    return replace(station.machine, manager=lambda scope: Manager(scope, environ)), program.parent


def test_a_node_that_was_started_by_hand_must_end_first(station: Station) -> None:
    machine, told = managed(station)
    ledger = ledger_of(station.home)
    with pytest.raises(LocalError, match="this service did not start") as refused:
        list(take_over(steps_of(machine, ledger, station.options), ledger, station.options))
    assert "end that one" in refused.value.hint
    assert "enable" not in (told / "called").read_text()
    assert "original" in station.zen.dragon_script.read_text()


def test_a_running_service_is_restarted_with_a_changed_unit_and_only_then(station: Station) -> None:
    machine, told = managed(station)
    (told / "active").write_text("active\n")
    for command, restarts in ((("/opt/a",), 1), (("/opt/a",), 1), (("/opt/b",), 2)):
        ledger = ledger_of(station.home)
        steps = steps_of(replace(machine, command=command), ledger, station.options)
        list(take_over(steps, ledger, station.options))
        assert (told / "called").read_text().count("--user restart dragon-station.service") == restarts


def test_settings_that_were_edited_since_lose_only_the_one_key(station: Station) -> None:
    station.take_over()
    edited = station.home.config_file.read_text().replace('alias = "owl"', 'alias = "raven"')
    station.home.config_file.write_text(edited)
    station.release()
    assert station.home.config_file.read_text() == CONFIG.replace("owl", "raven")


def test_a_config_that_was_not_there_goes_again(tmp_path: Path) -> None:
    station = Station(tmp_path, config=None)
    station.take_over()
    assert station.home.config_file.read_text() == '[registry]\npublisher = "astroport"\n'
    assert stat.S_IMODE(station.home.config_file.stat().st_mode) == 0o600
    station.release()
    assert not station.home.config_file.exists()


def test_a_torn_ledger_is_set_aside_and_said(station: Station) -> None:
    station.take_over()
    manifest = station.home.root / "astroport" / "takeover" / "manifest.json"
    manifest.write_text('{"version": 1')
    ledger = ledger_of(station.home)
    assert "manifest.json.aside-1" in ledger.notice
    assert not ledger.exists
    assert any(manifest.with_name("copies").iterdir())


def test_only_one_at_a_time(station: Station) -> None:
    with Ledger(station.home.root / "astroport" / "takeover").held(), pytest.raises(LocalError, match="under way"):
        station.take_over()


def test_a_machine_without_rights_for_system_units_says_the_commands(tmp_path: Path) -> None:
    station = Station(tmp_path)
    machine = station.machine
    options = Options(scope="system")
    poor = Machine(**{
        **{name: getattr(machine, name) for name in machine.__slots__},
        "manager": lambda scope: Manager(scope, {"PATH": ""}, tmp_path / "etc", root=False),
    })  # fmt: skip
    ledger = ledger_of(station.home)
    told = notes(list(take_over(steps_of(poor, ledger, options), ledger, options)))
    staged = station.home.root / "astroport" / "dragon-station.service"
    assert told == [
        f"sudo install -m 0644 {staged} {tmp_path / 'etc' / 'dragon-station.service'}",
        "sudo systemctl daemon-reload",
    ]
    assert f'\nReadWritePaths="-{station.home.root}" "-{station.zen.root}"\n' in staged.read_text()
    assert not (tmp_path / "etc").exists()
    list(release(steps_of(poor, ledger, options), ledger))
    assert not staged.exists()
