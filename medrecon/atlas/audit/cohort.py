"""What is kept of each scan and of its second views: a few thousand numbers by layer, in bounded memory."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.fft import dctn

from medrecon.atlas.audit.asked import Asked
from medrecon.atlas.audit.defences import Defence
from medrecon.atlas.audit.grid import on_common_grid, second_view
from medrecon.atlas.audit.network import AuditNetwork, Seen, pooled
from medrecon.contract import Progress
from medrecon.evaluation.controls import dct_code, lowest_first
from medrecon.io.scan import Scan
from medrecon.reconstructor import parse_layers

SCAN, FEATURES, RECONSTRUCTION, LINEAR = "scan itself", "features", "reconstruction", "linear code"
PLAIN = ""
"""The scan as it is, where others are second views of it."""

MOST_VALUES = 8192
MOST_BYTES = 512 << 20
_DECODED = 8  # scans on which a defence's cost in fidelity is measured

Key = tuple[str, str, str, str]
"""View, result ("" for the scan itself), what it is of the above, defence."""


@dataclass
class Cohort:
    """Each scan as few numbers.

    Attributes:
        patients: (n,) whose each scan is.
        most: values that are kept of a layer at most.
        vectors: what -> (n, values) float32.
        errors: result -> mean squared error of each scan's reconstruction, in [0, 1].
        control: result -> that of a linear code of as many values as the layer has.
        defended: (result, defence) -> that of some scans' reconstructions from what leaves.
    """

    patients: np.ndarray
    most: int
    vectors: dict[Key, np.ndarray] = field(default_factory=dict)
    errors: dict[str, list[float]] = field(default_factory=dict)
    control: dict[str, list[float]] = field(default_factory=dict)
    defended: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def put(self, place: int, key: Key, values: np.ndarray) -> None:
        """Keep the values of the scan at this place."""
        if key not in self.vectors:
            self.vectors[key] = np.zeros((len(self.patients), len(values)), np.float32)
        self.vectors[key][place] = values

    @staticmethod
    def psnr(errors: Sequence[float]) -> float | None:
        """The mean PSNR over scans, dB of the range [0, 1]; None of nothing, or where nothing is lost."""
        if not errors or min(errors) < 1e-9:
            return None
        return float(np.mean([-10 * math.log10(error) for error in errors]))


def gather(
    network: AuditNetwork,
    scans: Sequence[Scan],
    patients: Sequence[int],
    asked: Asked,
    progress: Progress | None = None,
) -> Cohort:
    """Run the network over each scan and its second views, one after the other.

    Args:
        network: made for these scans.
        scans: the cohort.
        patients: whose each is.
        asked: the common grid, second views, defences, and the seed.
        progress: called with (volumes done, volumes in all).

    Raises:
        ScanError: a scan cannot be read.
        ModelError: the network cannot take one.
    """
    kinds = (1 + len(asked.views)) * (1 + len(network.results) * (3 + len(asked.defences)))
    most = max(64, min(MOST_VALUES, MOST_BYTES // (4 * len(scans) * kinds)))
    cohort = Cohort(np.asarray(patients), most)
    total, done = len(scans) * (1 + len(asked.views)), 0
    for place, scan in enumerate(scans):
        volume = on_common_grid(scan, asked.size, asked.spacing)
        for view in (PLAIN, *asked.views):
            drawn = zlib.crc32(f"{scan.key} {view} {asked.seed}".encode())
            shown = second_view(view, volume, np.random.default_rng(drawn)) if view else volume
            _keep(cohort, place, view, network, network.see(shown), asked.defences, drawn)
            done += 1
            if progress is not None:
                progress(done, total)
    return cohort


def _keep(
    cohort: Cohort,
    place: int,
    view: str,
    network: AuditNetwork,
    seen: Seen,
    defences: Sequence[Defence],
    drawn: int,
) -> None:
    image = seen.image.as_tensor()[0].float()
    cohort.put(place, (view, "", SCAN, ""), pooled(image[None], cohort.most))
    spectrum = dctn(image.numpy(), norm="ortho").ravel()[lowest_first(tuple(image.shape))]
    for result in network.results:
        layers = parse_layers(result)
        kept = np.concatenate([pooled(seen.fields[layer], cohort.most // len(layers)) for layer in layers])
        cohort.put(place, (view, result, FEATURES, ""), kept)
        cohort.put(place, (view, result, LINEAR, ""), spectrum[: len(kept)])
        made = network.invert(result, seen)
        cohort.put(place, (view, result, RECONSTRUCTION, ""), pooled(made[None], cohort.most))
        if view == PLAIN:
            flat = network.network.encoder.spatial_dims == 2
            code = dct_code(image.numpy(), min(1.0, network.rate(result)), (16, 16, 1 if flat else 16))
            cohort.errors.setdefault(result, []).append(_error(made, image))
            cohort.control.setdefault(result, []).append(_error(torch.as_tensor(code), image))
    for defence, fields in _defended(seen, defences, drawn):
        for result in network.results:
            layers = parse_layers(result)
            kept = np.concatenate([pooled(fields[layer], cohort.most // len(layers)) for layer in layers])
            cohort.put(place, (view, result, FEATURES, defence.name), kept)
            if view == PLAIN and place < _DECODED:
                error = _error(network.invert(result, seen, fields), image)
                cohort.defended.setdefault((result, defence.name), []).append(error)


def _defended(
    seen: Seen, defences: Sequence[Defence], drawn: int
) -> Iterator[tuple[Defence, dict[str, torch.Tensor]]]:
    for defence in defences:
        generator = torch.Generator().manual_seed(drawn)
        yield defence, {name: defence.on(name, field, generator) for name, field in seen.fields.items()}


def _error(made: torch.Tensor, image: torch.Tensor) -> float:
    return float((made - image).square().mean())
