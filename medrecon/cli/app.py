"""The command `medrecon`: one file a verb; whatever is heavy is imported only when a verb runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from medrecon import __version__
from medrecon.cli import (
    atlas,
    audit,
    cohort,
    compare,
    decode,
    deidentify,
    demo,
    encode,
    features,
    invert,
    layers,
    open,
    pull,
    push,
    reconstruct,
    scans,
    serve,
    slicer,
    sweep,
    train,
)
from medrecon.cli.command import GroupedCommand, Unbroken, unbroken
from medrecon.cli.declare import option
from medrecon.cli.faults import usage_fault
from medrecon.cli.session import Session

VERBS = (
    reconstruct.reconstruct,
    layers.layers,
    scans.scans,
    compare.compare,
    demo.demo,
    atlas.atlas,
    audit.audit,
    open.open,
    invert.invert,
    encode.encode,
    decode.decode,
    features.features,
    cohort.cohort,
    pull.pull,
    push.push,
    serve.serve,
    deidentify.deidentify,
    train.train,
    sweep.sweep,
    slicer.slicer,
)

_ANYWHERE = {"--debug", "-q", "--quiet", "-v", "--verbose", "--log-json"}
"""Options of the program that may also stand after the verb."""

_USAGE_FAULT: type[Exception] = typer.BadParameter.__mro__[2]
"""click's ClickException: newer releases of Typer carry their own copy of click, older ones import it."""

_EXIT_CODES = (
    "Exit codes: 0 done, 2 usage, 3 input refused, 4 model or configuration, 5 output cannot be written, "
    "6 out of memory, 7 internal error, 8 some scans of several failed, 130 interrupted, 143 terminated. "
    "--debug, -q, -v and --log-json may stand before or after the command."
)

app = typer.Typer(
    name="medrecon",
    help="See what a neural network keeps of a medical scan: turn the features of any of its layers back "
    "into a scan. Not for diagnosis.",
    cls=Unbroken,
    epilog=unbroken(_EXIT_CODES),
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medrecon {__version__}")
        raise typer.Exit()


@app.callback()
def program(
    ctx: typer.Context,
    debug: Annotated[bool, option("--debug", "Show the traceback of an error.")] = False,
    quiet: Annotated[bool, option("--quiet -q", "Say nothing but results and errors.")] = False,
    verbose: Annotated[bool, option("--verbose -v", "Also show what libraries warn of.")] = False,
    log_json: Annotated[
        bool, option("--log-json", "Write each line on stderr as JSON: time, level, message.")
    ] = False,
    version: Annotated[
        bool, option("--version", "Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Keep the options that every verb shares."""
    ctx.obj = Session(quiet=quiet, verbose=verbose, debug=debug, log_json=log_json)


for _verb in VERBS:
    app.command(name=_verb.name, cls=GroupedCommand, epilog=_verb.epilog)(_verb.run)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process.

    Raises:
        SystemExit: always.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    end = given.index("--") if "--" in given else len(given)
    options, rest = given[:end], given[end:]
    shared = [word for word in options if word in _ANYWHERE]
    others = [word for word in options if word not in _ANYWHERE]
    try:
        code = app(shared + others + rest or ["--help"], prog_name="medrecon", standalone_mode=False)
    except _USAGE_FAULT as error:
        session = Session(json="--json" in others, debug="--debug" in shared, log_json="--log-json" in shared)
        code = session.fail_with(usage_fault(error), error)
    sys.exit(code or 0)
