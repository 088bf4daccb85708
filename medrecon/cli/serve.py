"""The command `serve`: a node that receives, reconstructs by rules and sends on, until it is stopped."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrecon.cli.command import verb
from medrecon.cli.declare import option
from medrecon.cli.faults import fault_of
from medrecon.cli.options import Device
from medrecon.cli.pacs import Pacs
from medrecon.cli.session import Outcome, Session
from medrecon.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from medrecon.pacs.archive import Archive
    from medrecon.pacs.node.settings import Settings


@verb("medrecon serve node.toml /var/lib/medrecon", "medrecon serve node.toml spool/ --dry-run")
def serve(
    session: Session,
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG", help="The TOML file of the node: whom it listens to, and its rules."
        ),
    ],
    spool: Annotated[
        Path,
        typer.Argument(
            metavar="SPOOL",
            help="Its folder, for it alone: what has arrived, the queue, results that are not sent yet.",
        ),
    ],
    pacs: Pacs,
    until_idle: Annotated[
        bool, option("--until-idle", "Stop when nothing is left to do, instead of waiting for more.")
    ] = False,
    dry_run: Annotated[
        bool, option("--dry-run", "Check the file, the bundles and the destinations, and stop.")
    ] = False,
    device: Device = "auto",
) -> Outcome:
    """Receive series, reconstruct them by rules, send them on.

    By C-STORE and STOW-RS. What is acknowledged is on the disk: a node that is killed goes on where it was.
    /health, /metrics (Prometheus) and a page of the queue are on its HTTP port. SIGTERM stops it in order.
    """
    from medrecon.pacs.node.service import Service
    from medrecon.pacs.node.settings import read_settings

    settings = read_settings(config)

    def connect(name: str) -> Archive:
        return pacs.connect(session, name)

    _check(settings, pacs, session)
    token = _token(settings)
    if dry_run:
        for rule in settings.rules:
            with connect(rule.destination) as archive:
                archive.echo()
        return _ended(settings, {}, "nothing was started")
    if not session.quiet:
        logging.getLogger("medrecon").setLevel(logging.INFO)
    service = Service(settings, spool, connect, device=device, explain=_explained)
    before = {number: signal.signal(number, lambda *_: service.stop()) for number in _STOPS}
    try:
        with service.listening(token):
            session.say(_greeting(settings))
            service.run(until_idle=until_idle)
        return _ended(settings, service.queue.counts(), "stopped; what waits is done after the next start")
    finally:
        service.close()
        for number, handler in before.items():
            signal.signal(number, handler)


_STOPS = (signal.SIGTERM, signal.SIGINT)


def _check(settings: Settings, pacs: Pacs, session: Session) -> None:
    """See that each rule's bundle, layers and destination are there.

    Raises:
        ModelError: a bundle or a layer is not.
        UsageError: a destination is not.
    """
    from medrecon.bundle.config import Bundle, layers_of
    from medrecon.bundle.results import check_results, parse_results
    from medrecon.pacs.nodes import find_node

    for rule in settings.rules:
        find_node(rule.destination, pacs.pacs)
        bundle = Bundle.open(rule.bundle)
        check_results(
            parse_results(rule.layers), [layer.name for layer in layers_of(bundle)], where=bundle.root
        )


def _token(settings: Settings) -> str:
    if not settings.token_env:
        return ""
    token = os.environ.get(settings.token_env, "")
    if not token:
        raise UsageError(f"the variable {settings.token_env} is not set", remedy="set it: token_env names it")
    return token


def _explained(error: BaseException) -> str:
    fault = fault_of(error)
    return f"{fault.message}; {fault.remedy}" if fault.remedy else fault.message


def _greeting(settings: Settings) -> str:
    ways = []
    if settings.dicom_port:
        ways.append(f"C-STORE as {settings.aet} on {settings.listen}:{settings.dicom_port}")
    if settings.http_port:
        ways.append(f"STOW-RS and http://{settings.listen}:{settings.http_port}/")
    return f"listening: {', '.join(ways)}; {len(settings.rules)} rules"


def _ended(settings: Settings, counts: dict[str, int], words: str) -> Outcome:
    def show(console: Console) -> None:
        told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        console.print(f"{told}: {words}" if told else words)

    return Outcome({"rules": [rule.name for rule in settings.rules], "series": counts}, show)
