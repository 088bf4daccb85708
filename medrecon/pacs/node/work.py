"""One job: a series through its rule's bundle, and the results to their destination. One bundle in memory."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medrecon.errors import OutputError
from medrecon.io.files.publish import publish
from medrecon.pacs.archive import Archive
from medrecon.pacs.node.queue import Job
from medrecon.pacs.node.settings import Rule
from medrecon.pacs.pushing import delivered, outgoing, push

if TYPE_CHECKING:
    from medrecon.inference.pipeline import Pipeline
    from medrecon.io.scan import Scan


class Stopped(Exception):
    """The node is to stop; the job is done after the next start."""


class Worker:
    """Does jobs, one after the other.

    Args:
        rules: by name.
        spool: the node's folder.
        device: where networks run.
        connect: name of a destination -> a connection.
        stopping: whether the node is to stop; asked from tile to tile.

    Attributes:
        network_seconds: that its networks ran, since the start.
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        spool: Path,
        device: str,
        connect: Callable[[str], Archive],
        stopping: Callable[[], bool],
    ) -> None:
        self._rules, self._derived, self._device = rules, spool / "derived", device
        self._connect, self._stopping = connect, stopping
        self.network_seconds = 0.0
        self._kept: tuple[tuple[str, str], Pipeline] | None = None

    def do(self, job: Job, files: Sequence[Path], sending: Callable[[], None]) -> list[str]:
        """Reconstruct what is not there yet, and send it.

        Args:
            job: which.
            files: the instances of its series.
            sending: called before the first of its results is sent.

        Returns:
            What must be said, one line each.

        Raises:
            Stopped: the node is to stop.
            MedreconError: it cannot be done, now or at all.
        """
        rule = self._rules[job.rule]
        made = self._place(job)
        revision = job.content[:16] if job.late else ""
        notes = [] if made.is_dir() else self._reconstruct(rule, files, made, revision)
        sending()
        with self._connect(rule.destination) as archive:
            done = []
            found, _ = outgoing([made])
            for series in found:
                done.append(push(archive, series, lambda number, of: self._look()))
            delivered(done)
        refused = [why for each in done for _, why in each.refused]
        if refused:
            raise OutputError(
                f"pacs:{rule.destination}: {len(refused)} instances are refused: {refused[0]}",
                remedy="see what it accepts",
            )
        return notes

    def discard(self, job: Job) -> None:
        """Remove the results of a job that has ended."""
        shutil.rmtree(self._place(job), ignore_errors=True)

    def sweep(self, jobs: Iterable[Job]) -> None:
        """Remove what a killed node left of jobs that have ended."""
        kept = {self._place(job) for job in jobs}
        for folder in self._derived.glob("*"):
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _place(self, job: Job) -> Path:
        name = hashlib.sha256(f"{job.series}\n{job.rule}\n{job.content}".encode()).hexdigest()[:16]
        return self._derived / name

    def _look(self) -> None:
        if self._stopping():
            raise Stopped

    def _reconstruct(self, rule: Rule, files: Sequence[Path], made: Path, revision: str) -> list[str]:
        """All scans of a series through a bundle, into a folder that appears when all of them are there."""
        from medrecon.io import find_scans

        found = find_scans(sorted(files))
        if found.refused:
            raise found.refused[0]
        notes: list[str] = []
        with publish(made) as part:
            pipeline = self._pipeline(rule, found.scans, part / "out", revision)
            for _, outcome in pipeline.run_each(
                found.scans, lambda _: contextlib.nullcontext(lambda done, of: self._look())
            ):
                if isinstance(outcome, Exception):
                    raise outcome
                notes += outcome.notes
                self.network_seconds += outcome.network_seconds
        return notes

    def _pipeline(self, rule: Rule, scans: Sequence[Scan], output: Path, revision: str) -> Pipeline:
        """Made of the one of the job before, where bundle and layers are the same.

        Else that one goes before the next comes; so it does when a job fails here.
        """
        from medrecon.inference.pipeline import Pipeline

        wanted = rule.bundle, rule.layers
        kept, self._kept = self._kept, None
        if kept is not None and kept[0] == wanted:
            pipeline = kept[1].for_others(scans, output, revision)
        else:
            del kept
            pipeline = Pipeline.from_bundle(
                rule.bundle,
                scans=scans,
                output=output,
                layers=rule.layers,
                device=self._device,
                output_format="dicom",
                revision=revision,
            )
        self._kept = wanted, pipeline
        return pipeline
