"""`dragon doctor`: findings, fixes after asking, exit codes."""

from __future__ import annotations

import io
import json
import sys

import pytest

from dragon.cli.main import run
from dragon.home import Home
from tests.testbed.backend import ServedBackend


def test_findings_with_the_command_that_mends_each(node: ServedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "PROBLEM" in shown
    assert "pubsub: ipfs config --json Pubsub.Enabled true" in shown


def test_as_json_it_is_the_nodes_own_list(node: ServedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == node.backend.findings


def test_fixes_are_not_applied_where_nobody_can_be_asked(
    node: ServedBackend, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert run(["doctor", "--fix"]) == 2
    assert "--yes" in capsys.readouterr().err
    assert ("repair", ("pubsub",)) not in node.backend.asked


@pytest.mark.parametrize(("answer", "code", "repaired"), [("y\n", 0, True), ("n\n", 130, False)])
def test_fixes_are_applied_after_a_yes(
    node: ServedBackend,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    code: int,
    repaired: bool,
) -> None:
    class Person(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Person(answer))
    assert run(["doctor", "--fix"]) == code
    assert "ipfs config --json Pubsub.Enabled true" in capsys.readouterr().out
    assert (("repair", ("pubsub",)) in node.backend.asked) == repaired


def test_yes_asks_nothing(node: ServedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--fix", "--yes", "--json"]) == 0
    assert all(finding["ok"] for finding in json.loads(capsys.readouterr().out))


def test_what_is_not_essential_is_no_failure(node: ServedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    node.backend.findings = [{"name": "swarm", "ok": False, "detail": "alone", "fix": "", "fixable": False, "essential": False}]
    assert run(["doctor"]) == 0
    assert "note" in capsys.readouterr().out


def test_without_a_node_the_machine_is_examined(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    run(["doctor", "--json"])
    found = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert found["node"]["fix"] == "dragon serve"
    assert found["home"]["ok"] is True


def test_a_wrong_config_is_a_finding(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.config_file.write_text("[node]\nalais = 1\n")
    assert run(["doctor"]) == 1
    assert "config.toml:2: node.alais" in capsys.readouterr().out
