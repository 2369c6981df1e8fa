"""`dragon serve` around the node: flags, signals, systemd, and the log. The node is a stand-in: tests/e2e has it."""

from __future__ import annotations

import io
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dragon.cli.logs import OneLine, set_up_logging
from dragon.cli.main import run
from dragon.cli.notify import notify
from dragon.cli.serve import overrides_from
from dragon.errors import UsageError
from dragon.home import Home

STAND_IN = """
import asyncio, sys, types
node = types.ModuleType("dragon.node")
async def serve(settings, home, *, on_ready, stop):
    print("started", settings.node.alias, flush=True)
    if settings.node.swarm == "never-up":
        await asyncio.Event().wait()
    if settings.node.swarm == "broken":
        from dragon.errors import KuboMissing
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail(KuboMissing("no Kubo", "install it")))
    on_ready("12D3KooWnode")
    await stop.wait()
    print("left", flush=True)
async def fail(error):
    raise error
async def preview(settings, home):
    return {"node": "none yet", "alias": settings.node.alias}
node.serve, node.preview, node.placeholder = serve, preview, lambda: "none yet"
sys.modules["dragon.node"] = sys.modules["dragon.preview"] = node
from dragon.cli import main
main()
"""


def start(home: Home, *flags: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", STAND_IN, "serve", "--alias", "one", *flags],
        env={**os.environ, "DRAGON_HOME": str(home.root), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_clean_leave_and_exit_0(home: Home, number: signal.Signals) -> None:
    process = start(home)
    assert line(process) == "started one"
    assert line(process) == "ready: one 12D3KooWnode in the swarm dragon"
    process.send_signal(number)
    out, log = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "left\n")
    assert "Traceback" not in log


def test_a_signal_before_it_is_up_ends_it_at_once_with_exit_0(home: Home) -> None:
    process = start(home, "--swarm", "never-up")
    assert line(process) == "started one"
    process.terminate()
    out, log = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in log


def test_what_keeps_a_node_from_running_is_one_line_also_out_of_a_group_of_tasks(home: Home) -> None:
    process = start(home, "--swarm", "broken")
    _, log = process.communicate(timeout=30)
    assert process.returncode == 1
    assert log == "dragon: no Kubo; install it\n"


def test_systemd_is_told_when_it_is_up_and_when_it_leaves(home: Home, tmp_path: Path) -> None:
    address = home.control_socket.parent / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(30)
        process = start(home, NOTIFY_SOCKET=str(address))
        assert manager.recv(1000).decode().splitlines()[0] == "READY=1"
        process.terminate()
        assert manager.recv(1000) == b"STOPPING=1"
        process.communicate(timeout=30)


def test_a_hangup_reads_the_settings_again_and_a_failure_is_only_logged(home: Home) -> None:
    process = start(home)
    assert line(process).startswith("started")
    assert line(process).startswith("ready")
    process.send_signal(signal.SIGHUP)  # this stand-in has no control API: that is told, and the node goes on
    assert process.stderr is not None
    assert "the settings stay as they were" in process.stderr.readline()
    process.terminate()
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "left\n")


def test_a_dry_run_prints_the_manifest_and_ends(home: Home) -> None:
    process = start(home, "--dry-run")
    out, log = process.communicate(timeout=30)
    assert (process.returncode, log) == (0, "")
    assert out == '{\n  "node": "none yet",\n  "alias": "one"\n}\n'


def test_a_mistake_in_the_settings_is_exit_2_before_anything_starts(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.config_file.write_text("[node]\nalais = 1\n")
    assert run(["serve"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"dragon: {home.config_file}:2: node.alais: no such setting; did you mean node.alias?")
    assert told.count("\n") == 1


def test_flags_become_settings() -> None:
    assert overrides_from(alias="a", swarm="s", join=["x", "y"], isolated=True, settings=["kubo.api=/unix/a=b"]) == {
        "node.alias": "a",
        "node.swarm": "s",
        "node.join": "x,y",
        "node.isolated": "true",
        "kubo.api": "/unix/a=b",
    }
    assert overrides_from(alias=None, swarm=None, join=None, isolated=None, settings=[]) == {}


@pytest.mark.parametrize("word", ["kubo", "kubo.api", "=x", "kubo=x"])
def test_a_setting_without_a_value_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match=r"SECTION\.KEY=VALUE"):
        overrides_from(alias=None, swarm=None, join=None, isolated=None, settings=[word])


def test_the_log_cannot_be_forged() -> None:
    """THREATS 10: a name with a newline and an escape code stays on its line."""
    record = logging.makeLogRecord(
        {"name": "dragon.x", "levelname": "INFO", "msg": "heard %s", "args": ("evil\n2026 ERROR root: owned\x1b[2J\u202e",)}
    )
    text = OneLine("%(levelname)s %(name)s: %(message)s").format(record)
    assert text == "INFO dragon.x: heard evil ⏎ 2026 ERROR root: owned�[2J�"


def test_a_traceback_is_one_line_too() -> None:
    try:
        raise ZeroDivisionError("x\ny")
    except ZeroDivisionError:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()})
    text = OneLine("%(message)s").format(record)
    assert "\n" not in text
    assert text.startswith("failed ⏎ Traceback")


@pytest.mark.usefixtures("logging_as_before")
def test_a_line_goes_above_a_live_display_that_began_after_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    set_up_logging(0)
    display = io.StringIO()
    monkeypatch.setattr(sys, "stderr", display)
    logging.getLogger("dragon.x").info("while Kubo starts")
    assert display.getvalue().endswith("INFO dragon.x: while Kubo starts\n")


def test_without_a_manager_nothing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert notify("READY=1") is False
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert notify("READY=1") is False
    monkeypatch.setenv("NOTIFY_SOCKET", "vsock:1:2")
    assert notify("READY=1") is False


def test_an_abstract_notify_socket_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"dragon-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        assert notify("READY=1", "STATUS=x") is True
        assert manager.recv(100) == b"READY=1\nSTATUS=x"
