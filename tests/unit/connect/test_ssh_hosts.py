"""Which host a service lies on: the file's words, a station's, and never a mixture of both."""

from __future__ import annotations

from typing import Any

import pytest

from dragon.config import SshOverride, SshSettings
from dragon.connect.ssh_hosts import SshHost, SshHosts

PORT = 11434


def of(slug: str = "ollama", settings: dict[str, Any] | None = None, **variables: str) -> SshHost | None:
    return SshHosts(SshSettings(**(settings or {})), variables, "me").of(slug, PORT)


@pytest.mark.parametrize(
    ("settings", "variables", "expected"),
    [
        ({}, {}, None),
        ({"host": "a"}, {}, ("a", "me", 22, 2122, PORT)),
        ({"host": "a", "user": "u", "port6": 1, "port4": 2}, {}, ("a", "u", 1, 2, PORT)),
        ({"host": "a", "entries": {"ollama": SshOverride(host="b", port4=3)}}, {}, ("b", "me", 22, 3, PORT)),
        ({"host": "a", "user": "u", "entries": {"ollama": SshOverride(port=9)}}, {}, ("a", "u", 22, 2122, 9)),
        ({"host": "a", "entries": {"ollama": SshOverride(off=True)}}, {}, None),
        ({"entries": {"comfyui": SshOverride(host="b")}}, {}, None),
        ({}, {"SWARM_REMOTE_HOST": "s"}, ("s", "me", 22, 2122, PORT)),
        ({}, {"REMOTE_HOST": "r"}, ("r", "me", 22, 2122, PORT)),
        ({}, {"REMOTE_HOST": "r", "SWARM_REMOTE_HOST": "s"}, ("s", "me", 22, 2122, PORT)),
        ({}, {"SWARM_REMOTE_HOST": "s", "OLLAMA_REMOTE_HOST": "o", "SWARM_REMOTE_USER": "u"}, ("o", "u", 22, 2122, PORT)),
        ({}, {"SWARM_REMOTE_HOST": "s", "OLLAMA_REMOTE_PORT_IPV4": "5"}, ("s", "me", 22, 5, PORT)),
        ({}, {"SWARM_REMOTE_HOST": "s", "REMOTE_PORT_IPV6": "6", "SWARM_REMOTE_PORT_IPV4": "4"}, ("s", "me", 6, 4, PORT)),
        ({}, {"SWARM_REMOTE_USER": "u"}, None),
        ({}, {"SWARM_REMOTE_HOST": "  "}, None),
        ({}, {"COMFYUI_REMOTE_HOST": "c"}, None),
        ({"station": False}, {"SWARM_REMOTE_HOST": "s"}, None),
        ({"host": "a"}, {"SWARM_REMOTE_USER": "u", "SWARM_REMOTE_PORT_IPV4": "9"}, ("a", "me", 22, 2122, PORT)),
        ({"entries": {"ollama": SshOverride(user="own", port=7)}}, {"REMOTE_HOST": "r"}, ("r", "own", 22, 2122, 7)),
        ({"entries": {"ollama": SshOverride(off=True)}}, {"REMOTE_HOST": "r"}, None),
    ],
)
def test_who_names_the_host(
    settings: dict[str, Any], variables: dict[str, str], expected: tuple[str, str, int, int, int] | None
) -> None:
    assert of("ollama", settings, **variables) == (SshHost(*expected) if expected else None)


def test_a_service_with_a_dash_has_a_variable_with_an_underscore() -> None:
    found = of("open-webui", OPEN_WEBUI_REMOTE_HOST="w")
    assert found is not None
    assert found.host == "w"


def test_without_a_known_port_there_is_nothing_to_reach() -> None:
    assert SshHosts(SshSettings(host="a"), {}, "me").of("unheard", None) is None


@pytest.mark.parametrize(
    "variables",
    [
        {"SWARM_REMOTE_HOST": "-oProxyCommand=id"},
        {"SWARM_REMOTE_HOST": "a b"},
        {"SWARM_REMOTE_HOST": "a", "SWARM_REMOTE_USER": "-x"},
        {"SWARM_REMOTE_HOST": "a", "SWARM_REMOTE_PORT_IPV4": "70000"},
        {"SWARM_REMOTE_HOST": "a", "SWARM_REMOTE_PORT_IPV4": "ssh"},
    ],
)
def test_nonsense_of_a_station_is_not_used_and_said(variables: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    assert of("ollama", None, **variables) is None
    assert "is not used" in caplog.text


@pytest.mark.parametrize(
    ("settings", "variables", "expected"),
    [
        ({}, {}, False),
        ({"host": "a"}, {}, True),
        ({"entries": {"ollama": SshOverride(host="a")}}, {}, True),
        ({"entries": {"ollama": SshOverride(port=1)}}, {}, False),
        ({}, {"COMFYUI_REMOTE_HOST": "c"}, True),
        ({}, {"SWARM_REMOTE_USER": "u"}, False),
        ({"station": False}, {"REMOTE_HOST": "c"}, False),
    ],
)
def test_whether_there_is_any(settings: dict[str, Any], variables: dict[str, str], expected: bool) -> None:
    assert SshHosts(SshSettings(**settings), variables, "me").any is expected
