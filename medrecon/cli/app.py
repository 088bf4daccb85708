"""The command `medrecon`: thin verbs; whatever is heavy is imported only when a verb runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from medrecon import __version__
from medrecon.cli.faults import usage_fault
from medrecon.cli.options import (
    Bundle,
    Device,
    Hu,
    Json,
    NiftiForm,
    ResampleTilt,
    Series,
    Volume,
)
from medrecon.cli.session import Outcome, Session
from medrecon.cli.verbs import atlas as _atlas
from medrecon.cli.verbs import cohort as _cohort
from medrecon.cli.verbs import decode as _decode
from medrecon.cli.verbs import encode as _encode
from medrecon.cli.verbs import invert as _invert
from medrecon.cli.verbs import layers as _layers
from medrecon.cli.verbs import reconstruct as _reconstruct
from medrecon.cli.verbs import slicer as _slicer
from medrecon.cli.verbs import sweep as _sweep
from medrecon.cli.verbs import train as _train

_ANYWHERE = {"--debug", "-q", "--quiet", "-v", "--verbose"}
"""Options of the program that may also stand after the verb."""

_USAGE_FAULT: type[Exception] = typer.BadParameter.__mro__[2]
"""click's ClickException: newer releases of Typer carry their own copy of click, older ones import it."""

_EXIT_CODES = (
    "Exit codes: 0 done, 2 usage, 3 input refused, 4 model or configuration, 5 output cannot be written, "
    "6 out of memory, 7 internal error, 8 some scans of several failed, 130 interrupted. "
    "--debug, -q and -v may stand before or after the command."
)

app = typer.Typer(
    name="medrecon",
    help="See what a neural network keeps of a medical scan: turn the features of any of its layers back "
    "into a scan. Not for diagnosis.",
    epilog=_EXIT_CODES,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _session(ctx: typer.Context, as_json: bool) -> Session:
    session: Session = ctx.obj
    session.json = as_json
    return session


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medrecon {__version__}")
        raise typer.Exit()


@app.callback()
def program(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also show what libraries warn of.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Keep the options that every verb shares."""
    ctx.obj = Session(quiet=quiet, verbose=verbose, debug=debug)


app.command(name="reconstruct", epilog=_reconstruct.EXAMPLES)(_reconstruct.reconstruct)


app.command(name="layers", epilog=_layers.EXAMPLES)(_layers.layers)


@app.command()
def scans(
    ctx: typer.Context,
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A folder (searched to the bottom) or a file.")
    ],
    volume: Volume = None,
    resample_tilt: ResampleTilt = False,
    nifti_form: NiftiForm = "",
    as_json: Json = False,
) -> None:
    """List the scans in a folder: modality, shape, spacing, orientation; and what is left out, and why."""

    def work() -> Outcome:
        from medrecon.cli.inspect import list_scans

        return list_scans(path, volume=volume, resample_tilt=resample_tilt, nifti_form=nifti_form)

    _session(ctx, as_json).run(work)


@app.command(epilog="Example:  medrecon compare CT_SERIES/ CT_level3/")
def compare(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The scan to compare with.")],
    recon: Annotated[Path, typer.Argument(metavar="RECON", help="Its reconstruction.")],
    series: Series = None,
    volume: Volume = None,
    hu: Hu = False,
    as_json: Json = False,
) -> None:
    """Check that two scans share their grid, then measure MAE (HU or source units), PSNR and SSIM."""

    def work() -> Outcome:
        from medrecon.cli.inspect import compare_scans

        return compare_scans(source, recon, series=series, volume=volume, hu=hu)

    _session(ctx, as_json).run(work)


@app.command()
def demo(
    ctx: typer.Context,
    output: Annotated[
        Path, typer.Argument(metavar="[OUTPUT]", help="Folder for the results.", show_default=True)
    ] = Path("demo_output"),
    bundle: Bundle = "volume_autoencoder",
    device: Device = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results of a run before.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Reconstruct the sample CT and MR from each layer, measure them beside two controls, and draw them."""
    session = _session(ctx, as_json)

    def work() -> Outcome:
        from medrecon.cli.demo import run_demo

        return run_demo(session, output, bundle=bundle, device=device, overwrite=overwrite)

    session.run(work)


app.command(name="invert", epilog=_invert.EXAMPLES)(_invert.invert)
app.command(name="slicer", epilog=_slicer.EXAMPLES)(_slicer.slicer)
app.command(name="encode", epilog=_encode.EXAMPLES)(_encode.encode)
app.command(name="decode", epilog=_decode.EXAMPLES)(_decode.decode)
app.command(name="train", epilog=_train.EXAMPLES)(_train.train)
app.command(name="sweep", epilog=_sweep.EXAMPLES)(_sweep.sweep)
app.command(name="atlas", epilog=_atlas.EXAMPLES)(_atlas.atlas)
app.command(name="cohort", epilog=_cohort.EXAMPLES)(_cohort.cohort)


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
        session = Session(json="--json" in others, debug="--debug" in shared)
        code = session.fail_with(usage_fault(error), error)
    sys.exit(code or 0)
