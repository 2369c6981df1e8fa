"""The catalogue: shipped entries, overrides, what is private, names."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragon.config import load_settings
from dragon.errors import ConfigError, UnknownService
from dragon.home import Home
from dragon.probe import catalogue_of, load_catalogue
from dragon.probe.catalogue import Catalogue
from dragon.probe.entry import Evidence, parse_evidence

DEFAULT_PRIVATE = {"qdrant", "npm", "webtop-http", "webtop-https"}


def private(catalogue: Catalogue) -> set[str]:
    return {entry.slug for entry in catalogue.entries() if entry.private}


@pytest.mark.parametrize(
    ("slug", "port", "local_port", "evidence", "test"),
    [
        ("ollama", 11434, None, "process:ollama", "/api/tags"),
        ("comfyui", 8188, None, "systemd:comfyui.service", "/system_stats"),
        ("orpheus", 5005, None, "docker:orpheus", "/docs"),
        ("perplexica", 3001, None, "docker:perplexica", "/api/providers"),
        ("vane", 3002, None, "docker:vane", "/api/providers"),
        ("ssh", 22, None, "port", None),
        ("strfry", 7777, 9999, "port", "/"),
        ("open-webui", 8000, None, "docker:open-webui", "/api/config"),
        ("dify", 8010, None, "docker:dify-api", "/"),
        ("mirofish", 5050, None, "docker:mirofish", "/"),
        ("duniter-g1", 9944, None, "docker:duniter-smith", None),
        ("icecast", 8111, None, "always", "/status-json.xsl"),
        ("nextcloud-app", 8001, None, "dockerimg:nextcloud-aio", "/status.php"),
        ("nextcloud-aio", 8443, None, "dockerimg:nextcloud-aio", "/"),
        ("qdrant", 6333, None, "docker:qdrant", "/healthz"),
        ("npm", 81, None, "always", "/"),
        ("webtop-http", 3000, None, "dockerimg:linuxserver/webtop", "/"),
        ("webtop-https", 3001, None, "dockerimg:linuxserver/webtop", "/"),
    ],
)
def test_shipped_entries(slug: str, port: int, local_port: int | None, evidence: str, test: str | None) -> None:
    entry = load_catalogue().get(slug)
    assert (entry.port, entry.local_port, str(entry.evidence[0]), entry.test) == (port, local_port, evidence, test)
    assert entry.label != slug


def test_private_by_default() -> None:
    assert private(load_catalogue()) == DEFAULT_PRIVATE


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("qdrant", set()),
        ("qdrant ollama npm", {"ollama"}),  # Astroport's D1: two names and more published everything
        ("ollama  comfyui", {"ollama", "comfyui"}),
        (" ollama,comfyui, ssh ,", {"ollama", "comfyui", "ssh"}),
        ("OLLAMA\tstrfry\n", {"ollama", "strfry"}),
        ("leann ollama prometheus", {"ollama"}),  # names Dragon does not know are passed over
        ("", set()),
    ],
)
def test_the_stations_own_list_adds_any_number_of_names(text: str, hidden: set[str]) -> None:
    assert private(load_catalogue(also_private=text)) == DEFAULT_PRIVATE | hidden
    assert private(load_catalogue(also_private=text.replace(",", " ").split())) >= DEFAULT_PRIVATE
    assert private(load_catalogue(private=[], also_private=text)) == hidden | (
        {name for name in ("qdrant", "npm") if name in text}
    )  # fmt: skip


def test_private_replaces_the_shipped_choice() -> None:
    assert private(load_catalogue(private=[])) == set()
    assert private(load_catalogue(private=["ollama"])) == {"ollama"}
    assert private(load_catalogue(private=["webtop"])) == {"webtop-http", "webtop-https"}, "an alias names all that bear it"
    assert private(load_catalogue(private=["vane"])) == {"vane"}, "a slug names itself, also where it is an alias of another"


def test_an_entry_may_be_private_by_itself() -> None:
    own = {"notes": {"port": 9100, "private": True}}
    assert private(load_catalogue(overrides=own)) == DEFAULT_PRIVATE | {"notes"}
    assert private(load_catalogue(private=[], overrides=own)) == {"notes"}


def test_only_leaves_nothing_else_to_offer() -> None:
    catalogue = load_catalogue(only=["ollama", "qdrant"])
    assert {entry.slug for entry in catalogue.entries() if not entry.private} == {"ollama"}, "private stays private"
    assert catalogue.get("strfry").local_port == 9999, "the others stay known to consumers"


@pytest.mark.parametrize("key", ["only", "private"])
def test_a_typo_in_a_list_is_an_error_that_says_what_was_meant(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"\[catalogue\] {key}: no service 'qdrnt'") as caught:
        load_catalogue(**{key: ["qdrnt"]})  # type: ignore[arg-type]
    assert "qdrant" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[node]\nalias = "x"\n[catalogue]\nprivate = ["qdrnt"]\n', "config.toml:4: [catalogue] private: no service 'qdrnt'"),
        ('[catalogue]\nonly = [\n  "qdrnt",\n]\n', "config.toml:2: [catalogue] only: no service 'qdrnt'"),
        ('\n[catalogue.notes]\nlabel = "n"\n', "config.toml:2: [catalogue.notes] port: a service of your own needs its port"),
    ],
)
def test_what_shows_only_beside_the_other_tables_is_told_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        catalogue_of(load_settings(Home(tmp_path), environ={}).catalogue)
    assert str(caught.value).startswith(f"{tmp_path}/{words}")


def test_overrides_change_single_keys() -> None:
    shipped = load_catalogue().get("ollama")
    entry = load_catalogue(overrides={"ollama": {"port": 11435, "labels": {"gpu": "rtx"}, "test": None}}).get("ollama")
    assert entry.port == 11435
    assert entry.labels == {"gpu": "rtx"}
    assert (entry.evidence, entry.test, entry.reads) == (shipped.evidence, shipped.test, shipped.reads)


def test_a_service_of_ones_own_needs_only_its_port() -> None:
    entry = load_catalogue(overrides={"blog": {"port": 9000, "test": "/health"}}).get("blog")
    assert (entry.label, entry.scheme, entry.evidence) == ("blog", "http", (Evidence("port"),))
    assert load_catalogue(overrides={"blog": {"port": 9000}}).get("blog").scheme == "tcp"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "needs its port"),
        ({"port": 0}, "port: expected a port from 1 to 65535, not 0"),
        ({"port": True}, "not True"),
        ({"port": "80"}, "not '80'"),
        ({"port": 80, "evidence": ["pgrep:x"]}, "expected one of process:NAME"),
        ({"port": 80, "evidence": ["process:"]}, "process needs a name"),
        ({"port": 80, "evidence": ["port:80"]}, "port takes no name"),
        ({"port": 80, "evidence": ["systemd:--all"]}, "no unit name"),
        ({"port": 80, "evidence": ["systemd:a b"]}, "no unit name"),
        ({"port": 80, "evidence": ["process:("]}, "not a pattern"),
        ({"port": 80, "evidence": []}, "at least one"),
        ({"port": 80, "evidence": "port"}, "expected a list"),
        ({"port": 80, "test": "health"}, "begins with /"),
        ({"port": 80, "test": "/a b"}, "begins with /"),
        ({"port": 80, "test": "/", "scheme": "ssh"}, "cannot test"),
        ({"port": 80, "accept": [20]}, "from 100 to 599"),
        ({"port": 80, "scheme": "gopher"}, "expected one of http"),
        ({"port": 80, "routes": ["pigeon"]}, "expected one of local"),
        ({"port": 80, "labels": {"GPU": "x"}}, "'GPU' is no key"),
        ({"port": 80, "labels": {"gpu": "a\nb"}}, "printable"),
        ({"port": 80, "labels": {"gpu": "$(id)"}}, "'$(id)' cannot stand in a manifest"),
        ({"port": 80, "env": {"A-B": "x"}}, "'A-B' is no key"),
        ({"port": 80, "env": {"A": "{secret}"}}, "secret"),
        ({"port": 80, "access": "everybody"}, "expected one of members"),
        ({"port": 80, "prot": 1}, "prot: unknown key"),
        ({"port": 80, "sticky": 1}, "true or false"),
    ],
)
def test_what_is_off_is_named(table: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_catalogue(overrides={"blog": table})
    assert "[catalogue.blog]" in str(caught.value)
    assert words in str(caught.value)
    assert caught.value.hint


def test_a_slug_outside_the_grammar_is_named() -> None:
    with pytest.raises(ConfigError, match="lower-case letters"):
        load_catalogue(overrides={"My Blog": {"port": 80}})


def test_names_lead_to_entries() -> None:
    catalogue = load_catalogue()
    assert catalogue.get("Vane").port == 3002
    assert catalogue.slugs_for("vane") == ("vane", "perplexica")
    assert catalogue.slugs_for("perplexica") == ("perplexica", "vane")
    assert catalogue.slugs_for("webtop") == ("webtop-http", "webtop-https")
    with pytest.raises(UnknownService, match="no service 'olama'") as caught:
        catalogue.get("olama")
    assert "ollama" in caught.value.hint
    assert caught.value.exit_code == 2


def test_environment_for_programs() -> None:
    catalogue = load_catalogue(overrides={"blog": {"port": 9000, "env": ["BLOG_URL", "BLOG"]}})
    assert catalogue.get("ollama").environment("http://127.0.0.1:1", "127.0.0.1", 1)["OLLAMA_API_BASE"] == "http://127.0.0.1:1"
    assert catalogue.get("blog").environment("http://h:2", "h", 2) == {"BLOG_URL": "http://h:2", "BLOG": "http://h:2"}


@pytest.mark.parametrize(
    "text", ["process:ollama", "systemd:comfyui.service", "docker:orpheus", "dockerimg:a/b", "port", "always"]
)
def test_evidence_has_one_spelling(text: str) -> None:
    assert str(parse_evidence(text)) == text
    assert parse_evidence(text).is_specific == (":" in text)
