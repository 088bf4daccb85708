"""Three ways to invert each layer of a frozen network, and what they must beat, on the middle of real scans.

    python benchmarks/inversion_methods.py SCANS --encoder-weights vgg16_features.safetensors

A decoder (one pass of the bundle's trained inversion), optimisation from grey (`ImageOptimiser`), and decode,
then refine (the same from the decoder's image): PSNR, SSIM, normalised error, MAE and the time of one image.
Beside them the controls: "random weights" inverts the layer of the same network before any training, by
optimisation; "other features" decodes what the layer sees of another scan, and "mean image" is one grey: both
must be far worse than every method.

Several slices of each scan (a 3D network: one block), of --size voxels around the middle. PSNR over 4095 HU
for CT, both clipped to it, and over the scan's robust range for other units. Progress is kept in the JSON
file after each scan: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import HELD_OUT, add_scan_options, markdown, parser_for, pick_scans, write_json
from machine import describe
from monai.data import MetaTensor
from scoring import Volume, load

from medrecon.bundle.config import Bundle
from medrecon.evaluation import fidelity, normalised_error
from medrecon.intensity_range import intensity_range
from medrecon.inversion import ImageOptimiser
from medrecon.inversion.upsample import fit_size
from medrecon.reconstructor import parse_layers
from medrecon.transforms import ScanIntensity

Row = dict[str, Any]
DECODER, OPTIMISED, REFINED = "decoder", "optimisation", "decode, then refine"
RANDOM, OTHER, MEAN = "random weights", "other features", "mean image"


@dataclass(frozen=True)
class Crop:
    """A piece of a scan as the network gets it.

    Attributes:
        volume: where it comes from.
        index: its slice; of a block, the first.
        image: (1, 1, *spatial), mapped by the range of the whole scan.
        low, high: the values that became 0 and 1.
    """

    volume: Volume
    index: int
    image: torch.Tensor
    low: float
    high: float

    def row(self, recon: torch.Tensor) -> Row:
        """What was kept of it, in the scan's units."""
        width = self.high - self.low
        source, found = (v[0, 0].double().numpy() * width + self.low for v in (self.image, recon))
        whole = self.volume.values.dtype.kind in "iu"
        got = fidelity(
            np.rint(source) if whole else source,
            np.rint(found) if whole else found,
            units=self.volume.units,
            data_range=(self.low, self.high),
        )
        return {
            **{"scan": self.volume.name, "modality": self.volume.modality, "index": self.index},
            **{"psnr": got.psnr, "ssim": got.ssim, "mae": got.mae, "mae_percent": 100 * got.mae / width},
            "normalised_error": normalised_error(source, found),
        }


def crops(volume: Volume, size: int, count: int, dims: int) -> list[Crop]:
    """Evenly spaced slices of the middle half of a scan, or its middle block for a 3D network."""
    low, high = intensity_range(volume.values, volume.units)
    scaled: Any = ScanIntensity()(
        MetaTensor(torch.from_numpy(volume.values)[None], meta={"units": volume.units})
    )
    values = scaled.as_tensor().float()[0]
    middle = [slice(max(0, (n - size) // 2), max(0, (n - size) // 2) + size) for n in values.shape]
    if dims == 3:
        return [Crop(volume, middle[2].start, values[tuple(middle)][None, None].clone(), low, high)]
    places = np.linspace(0.25, 0.75, count + 2)[1:-1] if count > 1 else [0.5]
    indices = [int(place * values.shape[2]) for place in places]
    return [Crop(volume, k, values[middle[0], middle[1], k][None, None].clone(), low, high) for k in indices]


def untrained(encoder: torch.nn.Module) -> torch.nn.Module:
    """The same network with the weights that it had before any training."""
    made = copy.deepcopy(encoder)
    torch.manual_seed(0)
    for module in made.modules():
        if isinstance(module, torch.nn.modules.conv._ConvNd):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
        elif hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return made


@dataclass(frozen=True)
class Contest:
    """The encoder, its decoder if there is one, and the settings of the optimisation."""

    encoder: Any
    decoder: Any
    steps: int
    refining: int

    def methods(self, layers: Sequence[str], other: torch.Tensor) -> Iterator[tuple[str, Callable[..., Any]]]:
        """Each method: from an image (1, 1, *spatial) to what is found of it, and how that ended."""

        def optimised(encoder: Any, steps: int, start: Any = None) -> Callable[..., Any]:
            def invert(image: torch.Tensor) -> tuple[torch.Tensor, Row]:
                inversion = ImageOptimiser(encoder, start=start, steps=steps)
                found = inversion(encoder(image, layers), image.shape[2:])
                end = inversion.outcomes[0]
                return found, {"steps": end.steps, "distance": end.distance, "converged": end.converged}

            return invert

        def decoded(image: torch.Tensor) -> tuple[torch.Tensor, Row]:
            return self.decoder(self.encoder(image, layers), image.shape[2:]), {}

        elsewhere = decoded if self.decoder is not None else optimised(self.encoder, self.refining)
        if self.decoder is not None:
            yield DECODER, decoded
        yield OPTIMISED, optimised(self.encoder, self.steps)
        if self.decoder is not None:
            yield REFINED, optimised(self.encoder, self.refining, self.decoder)
        yield RANDOM, optimised(untrained(self.encoder), self.refining)
        yield OTHER, lambda image: elsewhere(fit_size(other, image.shape[2:]))
        yield MEAN, lambda image: (image.mean().expand_as(image), {})


def measure(
    contest: Contest, pieces: Sequence[Crop], others: Sequence[Crop], layers: Sequence[str]
) -> list[Row]:
    """Every method on every piece of one scan; `others` are of another scan."""
    rows = []
    for piece, other in zip(pieces, others, strict=True):
        for result in layers:
            for name, method in contest.methods(parse_layers(result), other.image):
                start = time.perf_counter(), time.process_time()
                with torch.no_grad():
                    found, facts = method(piece.image)
                facts["seconds"] = time.perf_counter() - start[0]
                facts["cpu_seconds"] = time.process_time() - start[1]
                rows.append({"layer": result, "method": name, **piece.row(found), **facts})
            best = {row["method"]: f"{row['psnr']:.1f}" for row in rows if row["layer"] == result}
            print(f"{piece.volume.name} {piece.index}, {result}: {best}", flush=True)
    return rows


def summary(rows: Sequence[Row], layers: Sequence[str]) -> str:
    """A line for each layer and method, its means over the pieces of each modality."""
    modalities = sorted({row["modality"] for row in rows})
    head = ["layer", "method"]
    for name in modalities:
        mae = "MAE HU" if name == "CT" else "MAE % of range"
        head += [f"{name} PSNR dB (least)", f"{name} SSIM", f"{name} normalised error", f"{name} {mae}"]
    lines = []
    for result in layers:
        for method in dict.fromkeys(row["method"] for row in rows):
            some = [row for row in rows if (row["layer"], row["method"]) == (result, method)]
            line = [result, method]
            for name in modalities:
                ours = [row for row in some if row["modality"] == name]
                psnr = [row["psnr"] for row in ours]
                line.append(f"{statistics.mean(psnr):.1f} ({min(psnr):.1f})")
                line.append(f"{statistics.mean(row['ssim'] for row in ours):.3f}")
                line.append(f"{statistics.mean(row['normalised_error'] for row in ours):.3f}")
                error = "mae" if name == "CT" else "mae_percent"
                line.append(f"{statistics.mean(row[error] for row in ours):.2f}")
            line += [f"{statistics.mean(row[t] for row in some):.2f}" for t in ("seconds", "cpu_seconds")]
            lines.append(line)
    return markdown([*head, "s an image", "of CPU"], lines)


def flags(rows: Sequence[Row], layers: Sequence[str]) -> list[str]:
    """What needs an explanation: a control as good as a method, a refinement worse than its start."""

    def mean(result: str, method: str) -> float:
        return statistics.mean(r["psnr"] for r in rows if (r["layer"], r["method"]) == (result, method))

    found = []
    names = {row["method"] for row in rows}
    for result in layers:
        for method in sorted(names & {DECODER, OPTIMISED, REFINED}):
            for control in (OTHER, MEAN):
                if mean(result, method) < mean(result, control) + 1:
                    found.append(f"{result}: {method} is not 1 dB above {control}")
        if REFINED in names and mean(result, REFINED) < mean(result, DECODER):
            found.append(f"{result}: refining made the decoder's image worse")
    return found


def open_bundle(args: argparse.Namespace) -> tuple[Any, Any]:
    """The encoder of a bundle, and its decoder unless that is not wanted or not trained yet."""
    overrides: dict[str, Any] = {"device": args.device, "encoder_weights": args.encoder_weights}
    if args.weights:
        overrides["weights"] = args.weights
    opened = Bundle.open(args.bundle, {k: v for k, v in overrides.items() if v is not None})
    if args.no_decoder:
        return opened.architecture().encoder.to(args.device).eval(), None
    network = opened.build("network")
    return network.encoder, network.inversion.eval()


def main(argv: Sequence[str] | None = None) -> None:
    """Invert, measure, print the table, write JSON."""
    parser = parser_for(__doc__ or "", "inversion_methods")
    add_scan_options(parser, HELD_OUT)
    parser.add_argument("--bundle", default="frozen_encoder_inversion")
    parser.add_argument("--encoder-weights", type=Path, help="the frozen network's own weights")
    parser.add_argument("--weights", type=Path, help="of the decoder, instead of the bundle's own")
    parser.add_argument("--no-decoder", action="store_true", help="optimisation and controls only")
    names = ["relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"]
    parser.add_argument("--layers", nargs="+", default=names, metavar="NAME")
    parser.add_argument("--size", type=int, default=128, help="voxels along each axis of a piece")
    parser.add_argument("--slices", type=int, default=2, help="of each scan")
    parser.add_argument("--steps", type=int, default=300, help="of optimisation from grey")
    parser.add_argument("--refining", type=int, default=100, help="steps from the decoder's image")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    scans, refused = pick_scans(args.scans, args.held_out, args.hu)
    encoder, decoder = open_bundle(args)
    contest = Contest(encoder, decoder, args.steps, args.refining)
    dims = len(encoder.layers()[0].stride)
    volumes = [load(scan, args.crop) for scan in scans]
    pieces = [crops(volume, args.size, args.slices, dims) for volume in volumes]
    asked = ("bundle", "layers", "size", "slices", "steps", "refining", "crop", "no_decoder")
    settings = {name: getattr(args, name) for name in asked}
    rows: list[Row] = []
    if args.json.is_file():
        before = json.loads(args.json.read_text("utf-8"))
        rows = before["rows"] if before["settings"] == settings else []
    for number, volume in enumerate(volumes):
        if any(row["scan"] == volume.name for row in rows):
            continue
        rows += measure(contest, pieces[number], pieces[(number + 1) % len(pieces)], args.layers)
        write_json(args.json, {"machine": describe(), "settings": settings, "rows": rows})
    count = len({row["scan"] for row in rows})
    print(f"\nMeans over {count} scans, {len(rows) // len(args.layers)} results for each layer:\n")
    print(summary(rows, args.layers))
    noticed = flags(rows, args.layers)
    print("\nTo be explained: " + ("nothing" if not noticed else "\n- " + "\n- ".join(noticed)))
    if refused:
        print("\nRefused: " + ", ".join(str(error.path and error.path.name) for error in refused))
    write_json(args.json, {"machine": describe(), "settings": settings, "rows": rows, "flags": noticed})


if __name__ == "__main__":
    main()
