"""What each word means, and that no other word connects."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.astroport.nodes import nodes_of, pick
from dragon.astroport.services import service_named
from dragon.astroport.tags import needs_of
from dragon.astroport.words import Best, Command, Number, Part, Verb, help_lines, parse, vocabulary
from dragon.errors import AmbiguousNode, NoProvider, UsageError
from tests.unit.astroport.control import OWL, RAVEN, SELF, provider

OLLAMA = service_named("ollama")


@pytest.mark.parametrize(
    ("words", "verb"),
    [
        ("", "auto"), ("STATUS", "status"), ("st", "status"), ("Scan", "scan"), ("DETECT", "scan"), ("list", "scan"),
        ("DISCOVER", "scan"), ("help", "help"), ("-h", "help"), ("--help", "help"), ("-H", "help"), ("OFF", "off"),
        ("disconnect", "off"), ("close", "off"), ("stop", "off"), ("TEST", "test"), ("local", "local"), ("ssh", "ssh"),
        ("SSH6", "ssh6"), ("ipv6", "ssh6"), ("ssh4", "ssh4"), ("IPV4", "ssh4"),
        ("p2p", "p2p"), ("swarm", "p2p"), ("IPFS", "p2p"),
    ],
)  # fmt: skip
def test_the_common_words_in_any_case(words: str, verb: Verb) -> None:
    for name in (
        "ollama",
        "comfyui",
        "perplexica",
        "vane",
        "orpheus",
        "strfry",
        "dify.ai",
        "ssh",
        "nextcloud-app",
        "own-service",
    ):
        assert parse(service_named(name), [words]).verb == verb


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("ollama", {"MODELS": "models", "FREE": "free", "UNLOAD": "free"}),
        ("comfyui", {"IMAGE": "image", "MUSIC": "music", "FREE": "free"}),
        ("orpheus", {"VOICES": "voices"}),
        ("strfry", {"STATS": "stats"}),
        ("perplexica", {}),
    ],
)
def test_services_have_words_of_their_own(name: str, own: dict[str, str]) -> None:
    service = service_named(name)
    everything = {"MODELS", "FREE", "UNLOAD", "IMAGE", "MUSIC", "VOICES", "STATS"}
    for word in everything:
        if word in own:
            assert parse(service, [word.lower()]).verb == own[word]
        else:
            with pytest.raises(UsageError):
                parse(service, [word])


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("", Best()), ("auto", Best()), ("AUTO", Best()), ("random", Best(random=True)), ("RANDOM", Best(random=True)),
        ("1", Number(1)), ("007", Number(7)), ("0", Number(0)), ("12345", Number(12345)),
        ("BhvjEY", Part("BhvjEY")), ("-1", Part("-1")),
        ("٣", Part("٣")),
    ],
)  # fmt: skip
def test_targets(text: str, target: object) -> None:
    assert parse(OLLAMA, ["P2P", text]) == Command("p2p", target)  # type: ignore[arg-type]


def test_more_words_than_there_is_a_use_for_are_an_error() -> None:
    for words in (["STATUS", "now"], ["P2P", "1", "2"], ["LOCAL", "1"], ["", "P2P"]):
        with pytest.raises(UsageError):
            parse(OLLAMA, words)
    assert parse(OLLAMA, ["STATUS", "", " "]).verb == "status"


@given(st.text(min_size=1).filter(lambda text: text.strip().upper() not in {"", *vocabulary(OLLAMA)}))
@settings(max_examples=200)
def test_an_unknown_word_never_connects(word: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(OLLAMA, [word])
    assert "STATUS, SCAN" in refused.value.hint
    assert "MODELS" in refused.value.hint


@pytest.mark.parametrize("name", ["../etc", "a b", "", "$(reboot)", "x" * 33, "ollama\n", "-h"])
def test_what_no_service_can_be_called(name: str) -> None:
    if name.strip().lower() == "ollama":
        assert service_named(name).slug == "ollama"
        return
    with pytest.raises(UsageError):
        service_named(name)


def test_names_messages_and_variables() -> None:
    assert service_named("DIFY.AI").slug == "dify"
    assert service_named("Ollama").failure == "Error: Failed to maintain Ollama connection"
    assert service_named("comfyui").failure == "Erreur : Le port ComfyUI n'est pas accessible"
    assert service_named("perplexica").failure == "Could not establish connection to Perplexica API"
    assert service_named("vane").failure == "Could not establish connection to Perplexica API"
    assert service_named("orpheus").failure == "Could not establish connection to any Orpheus TTS API"
    assert service_named("open-webui").p2p_port_variable == "OPEN_WEBUI_P2P_PORT"


def test_help_names_every_word() -> None:
    for name in ("ollama", "comfyui", "orpheus", "strfry", "whatever"):
        text = "\n".join(help_lines(service_named(name)))
        assert all(word in text for word in vocabulary(service_named(name)))


NODES = nodes_of(
    [
        {"slug": "perplexica", "providers": [provider(RAVEN, "raven"), provider(SELF, "self", 2)]},
        {"slug": "vane", "providers": [provider(OWL, "owl"), provider(RAVEN, "raven", 2)]},
    ]
)


def test_numbers_run_over_all_names_of_a_service_and_self_is_last() -> None:
    assert [(node.n, node.alias) for node in NODES] == [(1, "owl"), (2, "raven"), (3, "self")]


@pytest.mark.parametrize(
    ("target", "alias"),
    [(Number(1), "owl"), (Number(2), "raven"), (Part(OWL), "owl"), (Part("BETA"), "raven"), (Part("Raven"), "raven"),
     (Part("a" * 9), "owl")],
)  # fmt: skip
def test_a_target_is_one_node(target: Number | Part, alias: str) -> None:
    assert pick(target, NODES, "vane").alias == alias


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (Number(0), "Invalid selection: 0 (valid: 1-2)"),
        (Number(3), "Invalid selection: 3 (valid: 1-2)"),
        (Part("zzz"), "Node not found: zzz"),
        (Part("self"), "Node not found: self"),
    ],
)
def test_a_target_that_is_no_node_is_told(target: Number | Part, says: str) -> None:
    with pytest.raises(NoProvider) as refused:
        pick(target, NODES, "vane")
    assert str(refused.value) == says


def test_several_matches_are_listed_and_nobody_is_taken() -> None:
    with pytest.raises(AmbiguousNode) as refused:
        pick(Part("12D3Koo"), NODES, "vane")
    assert "owl" in str(refused.value)
    assert "raven" in str(refused.value)
    unsigned = provider(OWL.replace("ALPHA", "GAMMA"), "owl", trust="ipns")
    both = nodes_of([{"slug": "vane", "providers": [provider(OWL, "owl"), unsigned]}])
    assert pick(Part("owl"), both, "vane").node_id == OWL  # nobody takes a name by not signing
    with pytest.raises(NoProvider, match="No vane nodes found in swarm"):
        pick(Number(1), NODES[2:], "vane")


@pytest.mark.parametrize(
    ("text", "services"),
    [
        ("", "ollama!"),
        ("#BRO who are you, image?", "ollama!"),
        ("#search", "ollama! perplexica! comfyui?"),
        ("#BRO #Image of a fox", "ollama! comfyui!"),
        ("#search #image", "ollama! perplexica! comfyui!"),
        ("#image #search", "ollama! comfyui! perplexica!"),
        ("#video", "ollama! comfyui!"),
        ("#pierre #amelie", "ollama! orpheus!"),
        ("search,music", "ollama! perplexica! comfyui!"),
        ("#youtube #mem #images #searching", "ollama!"),
    ],
)
def test_tags_to_services(text: str, services: str) -> None:
    assert " ".join(f"{need.service}{'!' if need.required else '?'}" for need in needs_of(text)) == services


def test_the_strictest_word_of_a_service_counts_and_each_tag_is_remembered() -> None:
    for text in ("#image #music", "#music #image"):
        (comfyui,) = [need for need in needs_of(text) if need.service == "comfyui"]
        assert comfyui.verb == "music"
        assert set(comfyui.because) == {"#image", "#music"}
