"""The command `open`: a page on this machine where scans are dropped and their reports open."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medrecon.cli.command import verb
from medrecon.cli.declare import option
from medrecon.cli.options import Device
from medrecon.cli.session import Outcome, Session
from medrecon.errors import OutputError, UsageError, told_as

if TYPE_CHECKING:
    from medrecon.atlas.local import Jobs


@verb(
    "medrecon open",
    "medrecon open chest.zip --results my_results",
    "medrecon open --port 8080 --no-browser",
    takes="about a second until the page is there; then as `atlas`, scan by scan. Ctrl+C ends it.",
)
def open(
    session: Session,
    source: Annotated[
        Path | None, typer.Argument(metavar="SCAN", help="A scan that the page offers first.")
    ] = None,
    results: Annotated[Path, option("--results FOLDER", "Where reports are kept, and found again.")] = Path(
        "medrecon_results"
    ),
    port: Annotated[int, option("--port PORT", "0 takes a free one.", min=0, max=65535)] = 0,
    browser: Annotated[
        bool, option("--browser/--no-browser", "Open the page in the default browser.")
    ] = True,
    device: Device = "auto",
) -> Outcome:
    """Open a page where scans are dropped and reports read.

    The page is served to this machine alone (127.0.0.1), at an address with a secret in it. Nothing leaves
    the machine. Uploads are kept in a temporary folder until they are measured.
    """
    from concurrent.futures import Future, ThreadPoolExecutor

    from medrecon.atlas.local import Jobs, LocalServer
    from medrecon.atlas.local.server import Desk
    from medrecon.report.local_page import local_page

    if source is not None and not source.exists():
        raise UsageError(f"there is no {source}", remedy="name a folder or a file, or none")
    with told_as(OutputError, "cannot be made", path=results, remedy="choose another --results"):
        jobs = Jobs(results)
    page = local_page(None if source is None else source.name)
    bundles: Future[dict[str, list[str]]] = ThreadPoolExecutor(1).submit(_bundles)  # while the page opens
    desk = Desk(
        jobs,
        lambda *asked: _start(jobs, bundles.result(), device, *asked),
        lambda: page,
        lambda: bundles.result() if bundles.done() else None,
        source,
    )
    with told_as(UsageError, f"port {port}", remedy="choose another --port, or none"):
        server = LocalServer(desk, port)
    with server:
        session.say(f"open {server.address}")
        session.say(f"results are kept in {jobs.folder}; Ctrl+C ends")
        if browser:
            webbrowser.open(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            session.say("ended")
    done = [job["result"] for job in jobs.data() if job["result"]]
    return Outcome({"results": str(jobs.folder), "done": done}, lambda console: None)


def _bundles() -> dict[str, list[str]]:
    """The bundles that come with medrecon, and their layers: takes seconds, for PyTorch and MONAI."""
    from medrecon.bundle.config import Bundle, bundle_names, layers_of

    return {name: [layer.name for layer in layers_of(Bundle.open(name))] for name in bundle_names()}


def _start(
    jobs: Jobs,
    bundles: Mapping[str, list[str]],
    device: str,
    scan: Path,
    title: str,
    asked: Mapping[str, Any],
    after: Callable[[], None],
) -> Any:
    """Check what was asked for, and let it wait for its turn.

    Raises:
        UsageError: it is nothing that the page offers.
    """
    from medrecon.atlas.run import make_atlas
    from medrecon.io.files.archive import is_zip, unpacked

    bundle, layers = str(asked.get("bundle", "")), asked.get("layers")
    if bundle not in bundles:
        raise UsageError("there is no such network", remedy=f"choose one of {', '.join(bundles)}")
    known = isinstance(layers, list) and bool(layers) and all(layer in bundles[bundle] for layer in layers)
    if layers is not None and not known:
        raise UsageError("there is no such layer", remedy=f"choose some of {', '.join(bundles[bundle])}")

    def measure(folder: Path, output: Path, progress: Callable[[int, int], None]) -> None:
        make_atlas(
            folder,
            output,
            layers,
            bundle=bundle,
            device=device,
            hu=asked.get("hu") is True,
            progress=progress,
        )

    def work(output: Path, progress: Callable[[int, int], None]) -> None:
        if is_zip(scan):
            with unpacked(scan) as folder:
                measure(folder, output, progress)
        else:
            measure(scan, output, progress)

    return jobs.add(title, work, after)
