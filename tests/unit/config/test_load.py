"""What the user wrote → settings, or one line that says where it is wrong and what was expected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.config import Settings, alias_from, load_settings, reload_settings
from dragon.config.changes import changed_keys
from dragon.errors import ConfigError
from dragon.home import Home

NODE = "12D3KooWGRUVh7YmoTTqNNTWMhgaLwvTAt4ppMWBKhWvXmGRWbH8"
KEY, NPUB = (
    "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e",
    "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg",
)
NSEC = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5"
"""The examples of NIP-19: a public key in both its forms, and a private one."""


def load(tmp_path: Path, text: str | None = None, flags: Mapping[str, str] | None = None, **environ: Any) -> Settings:
    if text is not None:
        (tmp_path / "config.toml").write_text(text)
    return load_settings(Home(tmp_path), flags, environ)


def test_without_a_word_everything_has_its_default(tmp_path: Path) -> None:
    found = load(tmp_path)
    assert found.node.swarm == "dragon"
    assert found.node.alias
    assert found.kubo.managed is True
    assert found.catalogue.only is None
    assert (found.registry.heartbeat, found.registry.lease) == (30.0, 90.0)
    assert found.api.tcp is None


def test_a_full_file(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        f"""
        [node]
        alias = "Étoile du nord"
        join = ["/ip4/192.0.2.1/tcp/4001/p2p/{NODE}"]
        isolated = true
        labels = {{ site = "Lyon" }}
        [swarm]
        admit = ["{NODE}"]
        [catalogue]
        only = ["ollama", "strfry"]
        private = ["npm"]
        [catalogue.ollama]
        port = 11435
        evidence = ["process:ollama", "docker:ollama"]
        access = "public"
        env = ["OLLAMA_API_BASE"]
        [catalogue.wiki]
        port = 8080
        evidence = ["port"]
        access = ["{NODE}"]
        env = {{ WIKI = "{{url}}/wiki" }}
        [connect]
        cascade = "p2p-first"
        """,
    )
    assert found.node.alias == "Étoile du nord"
    assert found.node.isolated is True
    assert found.node.labels == {"site": "Lyon"}
    assert found.catalogue.only == ("ollama", "strfry")
    assert set(found.catalogue.entries) == {"ollama", "wiki"}
    assert found.catalogue.entries["ollama"].env == {"OLLAMA_API_BASE": "{url}"}
    assert found.catalogue.entries["ollama"].test is None
    assert found.catalogue.entries["wiki"].access == (NODE,)
    assert found.connect.cascade == "p2p-first"


def test_flags_win_over_the_environment_that_over_the_file(tmp_path: Path) -> None:
    file = '[node]\nalias = "file"\nswarm = "file"\nisolated = true\n'
    found = load(tmp_path, file, {"node.alias": "flag"}, DRAGON_NODE_ALIAS="variable", DRAGON_NODE_SWARM="variable")
    assert (found.node.alias, found.node.swarm, found.node.isolated) == ("flag", "variable", True)


@pytest.mark.parametrize(
    ("key", "text", "read"),
    [
        ("node.join", f"/ip4/192.0.2.1/tcp/1/p2p/{NODE}, /ip4/192.0.2.2/tcp/1/p2p/{NODE}", lambda s: len(s.node.join) == 2),
        ("node.isolated", "yes", lambda s: s.node.isolated is True),
        ("node.labels", "gpu=rtx3090, site=Lyon", lambda s: s.node.labels == {"gpu": "rtx3090", "site": "Lyon"}),
        ("node.labels.gpu", "rtx3090", lambda s: s.node.labels == {"gpu": "rtx3090"}),
        ("kubo.binary", "/opt/ipfs", lambda s: s.kubo.binary == Path("/opt/ipfs")),
        ("registry.heartbeat", "2.5", lambda s: s.registry.heartbeat == 2.5),
        ("catalogue.only", "", lambda s: s.catalogue.only == ()),
        ("catalogue.only", "ollama strfry", lambda s: s.catalogue.only == ("ollama", "strfry")),
        ("catalogue.ollama.port", "11435", lambda s: s.catalogue.entries["ollama"].port == 11435),
        ("catalogue.ollama.accept", "200,204", lambda s: s.catalogue.entries["ollama"].accept == (200, 204)),
        ("catalogue.ollama.access", "public", lambda s: s.catalogue.entries["ollama"].access == "public"),
        ("catalogue.ollama.access", NODE, lambda s: s.catalogue.entries["ollama"].access == (NODE,)),
        ("api.tcp", "8765", lambda s: s.api.tcp == 8765),
        ("constellation.authors", f"{NPUB}, {KEY.upper()}", lambda s: s.constellation.authors == (KEY, KEY)),
        ("connect.weights", f"{NODE}=2.5", lambda s: s.connect.weights == {NODE: 2.5}),
        (f"connect.weights.{NODE}", "4", lambda s: s.connect.weights == {NODE: 4.0}),
    ],
)
def test_every_kind_of_value_as_a_flag_and_as_a_variable(tmp_path: Path, key: str, text: str, read: object) -> None:
    assert callable(read)
    assert read(load(tmp_path, flags={key: text}))
    if text and key.count(".") == 1:
        variables: dict[str, Any] = {f"DRAGON_{key.replace('.', '_').upper()}": text}
        assert read(load(tmp_path, **variables))


def test_a_variable_reaches_into_a_catalogue_table(tmp_path: Path) -> None:
    found = load(tmp_path, DRAGON_CATALOGUE_WEBTOP_HTTP_LOCAL_PORT="9000")
    assert found.catalogue.entries["webtop-http"].local_port == 9000


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    assert load(tmp_path, '[node]\nalias = "file"\n', DRAGON_NODE_ALIAS="").node.alias == "file"


def test_variables_that_are_no_settings_are_left_alone(tmp_path: Path) -> None:
    assert load(tmp_path, DRAGON_KUBO_DIST="http://127.0.0.1:9/", DRAGON_HOME="/x", DRAGONFLY="1") == load(tmp_path)


def test_the_stations_private_list_is_added(tmp_path: Path) -> None:
    found = load(tmp_path, '[catalogue]\nalso_private = ["ssh"]\n', DRAGON_PRIVATE_SERVICES="qdrant ollama")
    assert found.catalogue.also_private == ("ssh", "qdrant", "ollama")
    assert found.catalogue.private is None


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ('[node]\n\nalais = "x"\n', 3, ["node.alais", "did you mean node.alias?"]),
        ('[nod]\nalias = "x"\n', 1, ["nod", "did you mean node?"]),
        ('alias = "x"\n', 1, ["alias", "did you mean node.alias?"]),
        ('[node]\nalias = "x"\nheartbeat = 3\n', 3, ["node.heartbeat", "did you mean registry.heartbeat?"]),
        ("[registry]\nheartbeet = 30\n", 2, ["did you mean registry.heartbeat?"]),
        ("[node]\nalias = 3\n", 2, ["node.alias", "text in quotes", "not 3"]),
        ('[node]\nalias = "a;b"\n', 2, ["node.alias", "letters"]),
        ('[node]\nswarm = "two words"\n', 2, ["node.swarm", "a swarm name"]),
        ('[node]\njoin = "x"\n', 2, ["node.join", "a list"]),
        ('[node]\njoin = [\n  # one\n  "/ip4/1.2.3.4/tcp/1",\n]\n', 2, ["node.join", "/p2p/"]),
        ('[node]\nisolated = "yes"\n', 2, ["node.isolated", "true or false"]),
        ("[node.labels]\ngpu = 3\n", 2, ["node.labels.gpu", "text"]),
        ('[node]\nlabels = { GPU = "x" }\n', 2, ["node.labels", "a-z"]),
        ('[catalogue]\nonley = ["ollama"]\n', 2, ["catalogue.onley", "did you mean catalogue.only?"]),
        ('[catalogue]\nonly = ["Ollama"]\n', 2, ["catalogue.only", "a slug"]),
        ("[catalogue]\nollama = 3\n", 2, ["catalogue.ollama", "no such setting"]),
        ('[catalogue]\nprivate = ["x"]\n\n[catalogue.ollama]\nport = 70000\n', 5, ["catalogue.ollama.port", "1 to 65535"]),
        ("[catalogue.ollama]\nprot = 1\n", 2, ["did you mean catalogue.ollama.port?"]),
        ("[catalogue.Ollama]\nport = 1\n", 1, ["catalogue.Ollama", "a slug"]),
        ('[catalogue.x]\nevidence = ["proces:x"]\n', 2, ["catalogue.x.evidence", "process:NAME"]),
        ('[catalogue.x]\nevidence = ["process:("]\n', 2, ["catalogue.x.evidence", "pgrep"]),
        ('[catalogue.x]\nscheme = "htp"\n', 2, ["catalogue.x.scheme", "http"]),
        ('[catalogue.x]\naccess = "membres"\n', 2, ["catalogue.x.access", "members"]),
        ('[catalogue.x]\nenv = ["A B"]\n', 2, ["catalogue.x.env", "environment variable"]),
        ('[catalogue.x]\nenv = { A = "{nonsense}" }\n', 2, ["catalogue.x.env", "{url}"]),
        ('[connect]\ncascade = "dul"\n', 2, ["connect.cascade", "dual"]),
        ("[connect]\nweights = { beta = 2 }\n", 2, ["connect.weights.beta", "node id"]),
        (f"[connect.weights]\n{NODE} = 0\n", 2, [f"connect.weights.{NODE}", "0.01"]),
        ('[constellation]\nauthors = ["5ba5"]\n', 2, ["constellation.authors", "npub1", '"5ba5"']),
        (f'[constellation]\nauthors = ["{NPUB[:-1]}"]\n', 2, ["constellation.authors", "missing character"]),
        (f'[constellation]\nauthors = ["{NPUB[:-1]}8"]\n', 2, ["constellation.authors", "mistyped"]),
        ('[constellation]\nauthors = ["npub1"]\n', 2, ["constellation.authors", "64 hex digits"]),
        ("[connect]\nidle_seconds = 0\n", 2, ["connect.idle_seconds", "more than 0"]),
        ("[connect]\nidle_seconds = nan\n", 2, ["connect.idle_seconds"]),
        ("[registry]\nheartbeat = 30\nlease = 20\n", 1, ["lease", "heartbeat"]),
        ('[kubo]\nmanaged = true\napi = "/ip4/127.0.0.1/tcp/5001"\n', 2, ["exclude"]),
        ('[kubo]\napi = "localhost:5001"\n', 2, ["kubo.api", "/ip4/127.0.0.1/tcp/5001"]),
        ("node = 3\n", 1, ["node", "a table"]),
        ('[node]\nalias = "x\n', 2, ["TOML"]),
        ('[node]\nalias = "a"\nalias = "b"\n', 3, ["TOML"]),
        ("[node\n", 1, ["TOML"]),
        ('[node]\nalias = """\nnever\nended\n', 4, ["TOML"]),
        ("[node]\r\nalais = 1\r\n", 2, ["node.alais"]),
    ],
)
def test_a_mistake_names_file_line_key_and_what_was_expected(tmp_path: Path, text: str, line: int, told: list[str]) -> None:
    (tmp_path / "config.toml").write_bytes(text.encode())
    with pytest.raises(ConfigError) as caught:
        load_settings(Home(tmp_path), environ={})
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/config.toml:{line}: "), message
    assert all(words in message for words in told), message
    assert "\n" not in message
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_a_private_key_in_the_place_of_a_public_one_is_refused_and_never_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f'[constellation]\nauthors = ["{NSEC}"]\n')
    assert "constellation.authors" in str(caught.value)
    assert "a private key" in str(caught.value)
    assert NSEC[6:20] not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"DRAGON_NODE_ALAIS": "x"}, ["DRAGON_NODE_ALAIS", "did you mean DRAGON_NODE_ALIAS?"]),
        ({"DRAGON_SWARM": "x"}, ["DRAGON_SWARM"]),
        ({"DRAGON_NODE_ISOLATED": "maybe"}, ["DRAGON_NODE_ISOLATED", "true or false", "maybe"]),
        ({"DRAGON_API_TCP": "eight"}, ["DRAGON_API_TCP", "a whole number"]),
        ({"DRAGON_PRIVATE_SERVICES": "NPM"}, ["DRAGON_PRIVATE_SERVICES", "a slug"]),
    ],
)
def test_a_mistake_in_a_variable_names_it(tmp_path: Path, environ: dict[str, str], told: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(Home(tmp_path), environ=environ)
    assert all(words in str(caught.value) for words in told), str(caught.value)


@pytest.mark.parametrize("key", ["node.alais", "nod.alias", "node", "node.alias.deeper", "catalogue.ollama.prot", ""])
def test_an_unknown_flag_is_an_error(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=f"flag: {re.escape(key)}"):
        load_settings(Home(tmp_path), {key: "x"}, {})


def test_a_secret_is_never_repeated(tmp_path: Path) -> None:
    for text, flags in (('[kubo]\nauth = "hunter2"\n', {}), ("", {"kubo.auth": "hunter2"})):
        with pytest.raises(ConfigError) as caught:
            load(tmp_path, text, flags)
        assert "hunter2" not in str(caught.value) + caught.value.hint


def test_naming_an_api_means_an_existing_daemon(tmp_path: Path) -> None:
    assert load(tmp_path, flags={"kubo.api": "/unix/run/kubo.sock"}).kubo.managed is False


def test_ipfs_path_counts_only_where_the_managed_daemon_was_refused(tmp_path: Path) -> None:
    assert load(tmp_path, IPFS_PATH="/x").kubo.repo is None
    assert load(tmp_path, flags={"kubo.managed": "false"}, IPFS_PATH="/x").kubo.repo == Path("/x")
    assert load(tmp_path, "[kubo]\nmanaged = false\n", IPFS_PATH="/x").kubo.repo == Path("/x")


def test_a_config_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"[node]\nalias = \xff\n")
    with pytest.raises(ConfigError, match=r"config.toml:2: not UTF-8"):
        load_settings(Home(tmp_path), environ={})
    (tmp_path / "config.toml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(ConfigError, match="larger"):
        load_settings(Home(tmp_path), environ={})
    (tmp_path / "config.toml").unlink()
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(Home(tmp_path), environ={})


def test_reading_again_keeps_the_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DRAGON_NODE_ALIAS", "DRAGON_CATALOGUE_PRIVATE"):
        monkeypatch.delenv(name, raising=False)
    before = load(tmp_path, '[catalogue]\nonly = ["ollama"]\n', {"catalogue.private": "ssh"})
    (tmp_path / "config.toml").write_text('[catalogue]\nonly = ["strfry"]\n')
    after = reload_settings(Home(tmp_path), before)
    assert (after.catalogue.only, after.catalogue.private) == (("strfry",), ("ssh",))


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("", "", []),
        ('[node]\nalias = "a"', '[node]\nalias = "b"', ["node.alias"]),
        ("", '[catalogue]\nprivate = ["ollama"]\n[gate]\nconnections = 5', ["catalogue.private", "gate.connections"]),
        ("[catalogue.ollama]\nport = 1", "[catalogue.ollama]\nport = 2", ["catalogue.ollama"]),
        ("[catalogue.b]\nport = 1\n[catalogue.a]\nport = 2", "[catalogue.b]\nport = 1", ["catalogue.a"]),
        ("", '[ssh.qdrant]\noff = true\n[ssh]\nhost = "x"', ["ssh.host", "ssh.qdrant"]),
    ],
)
def test_what_changed_is_named_as_it_is_written(tmp_path: Path, before: str, after: str, changed: list[str]) -> None:
    assert changed_keys(load(tmp_path, before), load(tmp_path, after)) == changed


@given(st.text(max_size=80))
@settings(max_examples=150)
def test_any_host_name_becomes_an_alias_that_the_grammar_takes(hostname: str) -> None:
    load_settings(Home(Path("/nonexistent")), {}, {"DRAGON_NODE_ALIAS": alias_from(hostname)})
    assert alias_from("station-7.example.org") == "station-7"
