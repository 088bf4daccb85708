"""A network small enough to be seen through: average pooling, and repetition as its inversion."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from medrecon.contract import Decoder, Encoder, Features, LayerInfo, Progress
from medrecon.inference.tiling import ResultsInferer
from medrecon.io import Derivation, Scan, find_scans
from medrecon.reconstructor import Reconstructor


class Pool(Encoder):
    """Layers "coarse2" and "coarse4": means over 2 and 4 voxels along each axis."""

    def layers(self) -> list[LayerInfo]:
        return [LayerInfo(f"coarse{step}", 1, (step,) * 3, (step,) * 3) for step in (2, 4)]

    def forward(self, image: torch.Tensor, names: list[str] | None = None) -> Features:
        wanted = names or [layer.name for layer in self.layers()]
        return {name: functional.avg_pool3d(image, int(name[-1]), ceil_mode=True) for name in wanted}


class Repeat(Decoder):
    """Repeats the finest of the features over the voxels that it came from."""

    def forward(
        self, features: Features, shape: Sequence[int], progress: Progress | None = None
    ) -> torch.Tensor:
        name = min(features)
        up = functional.interpolate(features[name], scale_factor=int(name[-1]))
        return up[..., : shape[0], : shape[1], : shape[2]]


class WholeInferer(ResultsInferer):
    """Runs the network on the whole volume at once, once for each result."""

    def _fill(self, work: Any) -> None:
        for number, result in enumerate(self.results):
            made = work.image if result == "input" else work.network(work.image, result)
            work.output[:, number] = made[:, 0]
            work.progress(number + 1, len(self.results))


class Fails(WholeInferer):
    """An inferer that fails on scans with a given number of slices, in the way that it is told."""

    def __init__(self, results: list[str], slices: int, error: str) -> None:
        super().__init__(results)
        self.slices = slices
        self.error = error

    def __call__(self, image: torch.Tensor, network: Reconstructor, **options: Any) -> torch.Tensor:
        if image.shape[-1] == self.slices:
            kinds = {"memory": MemoryError, "interrupt": KeyboardInterrupt, "bug": ZeroDivisionError}
            raise kinds[self.error]("planted")
        return super().__call__(image, network, **options)


def all_scans(source: str) -> tuple[Scan, ...]:
    """The scans in a folder."""
    return find_scans(source).scans


def derivations(results: list[str]) -> dict[str, Derivation]:
    """The provenance of each result."""
    return {
        result: Derivation(
            model="tiny",
            version="0.0.1",
            weights_sha256="",
            layers=result,
            lossy=result != "input",
            values_per_voxel=None,
        )
        for result in results
    }


class Dies(WholeInferer):
    """An inferer that kills its own process at scans with a given number of slices, as often as it is told.

    Each death leaves a file `<marks>.<number>`.
    """

    def __init__(self, results: list[str], slices: int, times: int, marks: str) -> None:
        super().__init__(results)
        self.slices, self.times, self.marks = slices, times, marks

    def __call__(self, image: torch.Tensor, network: Reconstructor, **options: Any) -> torch.Tensor:
        if image.shape[-1] == self.slices:
            for number in range(self.times):
                mark = Path(f"{self.marks}.{number}")
                if not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(image, network, **options)


class Waits(WholeInferer):
    """An inferer that lets some scans through and holds the others until a file `<marks>.open` is there."""

    def __init__(self, results: list[str], free: int, marks: str) -> None:
        super().__init__(results)
        self.free, self.marks = free, Path(marks)

    def __call__(self, image: torch.Tensor, network: Reconstructor, **options: Any) -> torch.Tensor:
        self.marks.mkdir(exist_ok=True)
        (self.marks / f"{os.getpid()}.{time.monotonic_ns()}").touch()
        held = len(list(self.marks.iterdir())) > self.free
        while held and not self.marks.with_suffix(".open").exists():
            time.sleep(0.05)
        return super().__call__(image, network, **options)


class Meets(WholeInferer):
    """An inferer that begins when so many workers have a scan each: none does all before another is there."""

    def __init__(self, results: list[str], workers: int, marks: str) -> None:
        super().__init__(results)
        self.workers, self.marks = workers, Path(marks)

    def __call__(self, image: torch.Tensor, network: Reconstructor, **options: Any) -> torch.Tensor:
        self.marks.mkdir(exist_ok=True)
        (self.marks / str(os.getpid())).touch()
        end = time.monotonic() + 300
        while len(list(self.marks.iterdir())) < self.workers and time.monotonic() < end:
            time.sleep(0.05)
        return super().__call__(image, network, **options)


class Sleeps(WholeInferer):
    """An inferer that sleeps the first time that it meets a scan with a given number of slices."""

    def __init__(self, results: list[str], slices: int, mark: str) -> None:
        super().__init__(results)
        self.slices, self.mark = slices, Path(mark)

    def __call__(self, image: torch.Tensor, network: Reconstructor, **options: Any) -> torch.Tensor:
        if image.shape[-1] == self.slices and not self.mark.exists():
            self.mark.write_text(str(os.getpid()))
            time.sleep(600)
        return super().__call__(image, network, **options)
