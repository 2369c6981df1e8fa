"""The commands: each asks the running node and prints the answer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dragon.cli import output, tables
from dragon.cli.astroport import app as astroport
from dragon.cli.examples import examples
from dragon.cli.sync import app as sync
from dragon.errors import UsageError
from dragon.home import Home

if TYPE_CHECKING:
    from dragon.client import Control

app = typer.Typer(
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from dragon import __version__

        output.print_line(f"dragon {__version__}")
        raise typer.Exit


@app.callback()
def dragon(
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")] = False,
) -> None:
    """Share what this machine runs with a swarm of peers, and use what they run."""


app.add_typer(astroport, name="astroport")
app.add_typer(sync, name="sync")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Stay, and print again on every change.")]


def _known_slugs(incomplete: str) -> list[str]:
    """Complete a slug from what the running node sees; nothing where none runs."""
    from dragon.errors import DragonError

    try:
        return [str(service["slug"]) for service in _node().services() if str(service["slug"]).startswith(incomplete)]
    except DragonError:
        return []


Slug = Annotated[str, typer.Argument(metavar="SLUG", help="Service, such as ollama.", autocompletion=_known_slugs)]
AnySlug = Annotated[
    str | None, typer.Argument(metavar="[SLUG]", help="One service; all without it.", autocompletion=_known_slugs)
]


def _node() -> Control:
    from dragon.client import Control

    return Control(Home.locate())


@app.command(
    epilog=examples(
        "dragon serve --dry-run",
        "dragon serve --swarm ourtown --alias kitchen",
        "dragon serve --join /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…",
    )
)
def serve(
    alias: Annotated[str | None, typer.Option(metavar="NAME", help="What people call this node.")] = None,
    swarm: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the swarm.")] = None,
    join: Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help="A peer to connect to (repeatable).")] = None,
    isolated: Annotated[bool | None, typer.Option("--isolated/--public", help="Talk to nobody but --join peers.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Any other setting.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print exactly what would be published, and end.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings and errors only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="An error as JSON; a dry run is JSON always.")] = False,
) -> None:
    """Run a node in the foreground.

    Finds what runs here, offers it to the swarm, and sees and reaches what others offer. SIGTERM leaves cleanly.
    """
    from dragon.cli.serve import overrides_from, serve_until_stopped

    overrides = overrides_from(alias=alias, swarm=swarm, join=join, isolated=isolated, settings=settings or [])
    serve_until_stopped(Home.locate(), overrides, dry_run=dry_run, level=-1 if quiet else int(verbose))


@app.command(epilog=examples("dragon demo --once"))
def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the story instead of staying up.")] = False,
) -> None:
    """Show the whole idea with three nodes here.

    Starts a swarm of its own on this machine, and uses a service of one node from another.
    """
    from dragon.cli.demo import tell

    raise typer.Exit(tell(once=once))


@app.command(epilog=examples("dragon status --json"))
def status(as_json: Json = False) -> None:
    """Show this node."""
    document = _node().status()
    output.print_json(document) if as_json else output.print_table(tables.status(document))


@app.command(epilog=examples("dragon doctor", "dragon doctor --fix"))
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Apply the fixes that are offered, after asking.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Check node, Kubo and machine.

    Says what to do about each problem; works without a running node, too.
    """
    from dragon.cli.doctor import examine

    raise typer.Exit(examine(Home.locate(), _node(), fix=fix, yes=yes, as_json=as_json))


@app.command(epilog=examples("dragon peers --watch"))
def peers(
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask peers for news first.")] = False,
    as_json: Json = False,
    watch: Watch = False,
) -> None:
    """List the nodes of the swarm."""
    if refresh:
        with output.waiting("asking peers for news"):
            _node().refresh()
    _listing("peers", None, tables.peers, as_json, watch)


@app.command(epilog=examples("dragon services", "dragon services ollama --json"))
def services(slug: AnySlug = None, as_json: Json = False, watch: Watch = False) -> None:
    """List what is offered, and by whom."""
    _listing("services", slug, tables.services, as_json, watch)


@app.command(
    epilog=examples(
        "dragon forward ollama",
        "dragon forward ollama auto --where model=llama3.2",
        "dragon forward comfyui 2 --port 8188",
        "dragon forward ollama --pool auto",
    )
)
def forward(
    slug: Slug,
    target: Annotated[
        str, typer.Argument(metavar="[TARGET]", help="auto, a provider's number, alias, or 4 or more letters of its id.")
    ] = "auto",
    where: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only with this label (repeatable).")] = None,
    via: Annotated[str | None, typer.Option(metavar="ROUTE", help="Only this route: local, ssh6, ssh4 or p2p.")] = None,
    spread: Annotated[bool, typer.Option("--spread", help="Choose anew for every connection.")] = False,
    port: Annotated[int | None, typer.Option(metavar="PORT", min=1, max=65535, help="The local port.")] = None,
    pool: Annotated[str | None, typer.Option(metavar="N|auto", help="Keep N providers warm, or as many as needed.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Hand the port to Kubo: a tenth faster, no failover.")] = False,
    as_json: Json = False,
) -> None:
    """Open a local port that leads to a service.

    Prints its URL. The port stays until `dragon off`; when a provider dies, the next one takes over behind it.
    """
    labels = _labels(where or [])
    size = _pool_size(pool)
    with output.waiting(f"trying who offers {slug}; Ctrl-C gives up"):
        opened = _node().forward(slug, target, where=labels, via=via, spread=spread, port=port, raw=raw, pool=size)
    if as_json:
        return output.print_json(opened)
    output.print_line(str(opened["url"]))
    provider = tables.short_id(opened.get("provider"))
    return output.note(f"{slug} on {provider} by {opened.get('route')}{', already open' if opened.get('reused') else ''}")


@app.command(epilog=examples("dragon forwards --watch"))
def forwards(as_json: Json = False, watch: Watch = False) -> None:
    """List the open forwards."""
    _listing("forwards", None, tables.forwards, as_json, watch)


@app.command(epilog=examples("dragon providers ollama"))
def providers(slug: Slug, as_json: Json = False, watch: Watch = False) -> None:
    """Show how providers performed.

    Per provider and route: attempts, failures, latency, speed. Kept over restarts of the node.
    """
    _listing("providers", slug, tables.providers, as_json, watch)


@app.command(epilog=examples("dragon off ollama", "dragon off"))
def off(slug: AnySlug = None, as_json: Json = False) -> None:
    """Close the forwards of a service, or all of them."""
    closed = _node().off(slug)
    if as_json:
        output.print_json({"closed": closed})
    else:
        output.print_line("no forward was open" if not closed else f"closed {closed} forward{'s' if closed > 1 else ''}")


@app.command(epilog=examples("dragon explain ollama"))
def explain(slug: Slug, as_json: Json = False) -> None:
    """Tell why a provider is chosen.

    Names every candidate, who told of it and when, what was measured, and which rule decided.
    """
    document = _node().explain(slug)
    if as_json:
        return output.print_json(document)
    if document.get("candidates"):
        output.print_table(tables.candidates(document))
    return output.print_line(str(document.get("because") or ""))


@app.command()
def env(slug: Slug, as_json: Json = False) -> None:
    """Print the variables of a service for a shell.

    Use it as: eval "$(dragon env ollama)"
    """
    from dragon.cli.shell import exports

    document = _node().env(slug)
    if as_json:
        return output.print_json(document)
    for line in exports(document["variables"]):
        output.print_line(line)
    return None


@app.command()
def reload(as_json: Json = False) -> None:
    """Let the node read its settings again.

    What concerns services counts at once: one that became private is withdrawn. The rest waits for the next start.
    """
    document = _node().reload()
    if as_json:
        return output.print_json(document)
    output.print_line(f"changed: {', '.join(document['changed']) or 'nothing'}")
    if document["restart"]:
        output.print_line(f"from the node's next start on: {', '.join(document['restart'])}")
    return None


@app.command(
    add_help_option=False,  # HELP and its synonyms are words of the service
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
def me(words: Annotated[list[str] | None, typer.Argument(metavar="SERVICE [WORD]...")] = None) -> None:
    """Connect as the *.me.sh scripts do.

    Words: STATUS SCAN LOCAL SSH SSH6 SSH4 P2P [n|id|auto] TEST OFF HELP; none connects. Exit codes 0 and 1.
    """
    from dragon.cli.me import obey

    raise typer.Exit(obey(words or []))


@app.command(epilog=examples("dragon ensure --tags '#search #image'"))
def ensure(
    tags: Annotated[str, typer.Option("--tags", metavar="TEXT", help="Tags of a message, or all of it.")] = "",
    as_json: Json = False,
) -> None:
    """Connect all that a request needs.

    Always ollama; more by its tags: #search #image #video #music #pierre #amelie.
    """
    from dragon.cli.ensure import meet

    raise typer.Exit(meet(tags, as_json=as_json))


@app.command()
def version(as_json: Json = False) -> None:
    """Print the versions."""
    from dragon import __version__
    from dragon.errors import NotRunning

    try:
        running: dict[str, Any] | None = _node().version()
    except NotRunning:
        running = None
    if as_json:
        document = {"version": __version__, "python": sys.version.split()[0], "node": running, "home": str(Home.locate().root)}
        return output.print_json(document)
    output.print_line(f"dragon {__version__}")
    return output.note(f"running node: {running['version'] if running else 'none'}")


def _listing(listing: str, slug: str | None, render: Any, as_json: bool, watch: bool) -> None:
    if watch:
        return output.watch(_node().watch(listing, slug), as_json, render)
    node = _node()
    if listing == "services":
        documents = node.services(slug)
    elif listing == "providers":
        documents = node.providers(slug or "")
    else:
        documents = node.peers() if listing == "peers" else node.forwards()
    return output.print_json(documents) if as_json else output.print_table(render(documents))


def _pool_size(word: str | None) -> int | str | None:
    if word is None or word == "auto":
        return word
    if word.isascii() and word.isdecimal() and len(word) <= 3:
        return int(word)
    raise UsageError(f"--pool {word}: neither a number nor auto", "for example --pool 2")


def _labels(words: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in map(_pair, words):
        if found.setdefault(key, value) != value:
            raise UsageError(f"--where {key}: both {found[key]} and {value}", "a label is wished for with one value")
    return found


def _pair(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not key or not equals or not value:
        raise UsageError(f"--where {word}: not KEY=VALUE", "for example --where model=llama3.2")
    return key, value
