"""What samples of the generative decoder are worth, on scans that no training saw.

    python benchmarks/samples.py SCANS --bundle slice_autoencoder --results level4 level5 --output OUT

Writes `OUT/samples.md`, `samples.json` (all figures, scan by scan) and a sheet of pictures for each result.
Measured in [0, 1] on the middle of each scan that --held-out names, for the deterministic decoder, for the
samples, and for a control: samples of the same local scale whose noise the flow leaves white.

- power: of the image over the source's, in bands of cycles per voxel (over the axes that the network sees,
  under a Hann window): 1 is right, less is blur, more is too much texture. Geometric mean over the scans.
- perceptual distance by a 3D network that is in no loss (--judge, deepbet's brain network), as in quality.py.
- features: root mean square difference of the features of a result to those it was made from, over the
  standard deviation of these.
- PSNR (peak 1): of the deterministic decoder, of one sample, of the mean of all. The mean of N perfect
  samples is 10 lg(1 + 1/N) dB below the best answer (0.11 dB for 39, 0.22 for 19); `of many`: that of
  the mean of ever more samples, whose squared error is less by their variance over N.
- coverage: share of voxels that lie between two of the N samples, by their rank, where calibrated samples
  would hold 50 and 90 % (N = 39: the 10th and the 30th, the 2nd and the 38th); `detail` of those voxels alone
  around which the source is not flat (the upper half by local deviation).
- seconds: for one sample, on this machine, threads as they are.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import HELD_OUT, add_scan_options, markdown, matches, pick_scans
from machine import describe
from monai.data import MetaTensor
from scoring import BANDS, Judge, Volume, load
from torch.nn import functional

from medrecon.bundle.config import Bundle
from medrecon.inference.sampler import Sampler
from medrecon.transforms import ScanIntensity

Row = dict[str, Any]
DECODER, SAMPLE, CONTROL = "deterministic", "sample", "white noise"


def power(image: torch.Tensor, dims: int) -> np.ndarray:
    """Power in each of `BANDS` of (1, 1, X, Y, Z)."""
    values = image[0, 0].double().numpy()
    values = values - values.mean()
    axes, squared = (0, 1, 2)[:dims], np.zeros((1, 1, 1))
    for axis in axes:
        shape = [-1 if other == axis else 1 for other in range(3)]
        n = values.shape[axis]
        values = values * np.hanning(n + 2)[1:-1].reshape(shape)
        squared = squared + np.fft.fftfreq(n).reshape(shape) ** 2
    band = np.broadcast_to(np.digitize(np.sqrt(squared), BANDS[1:]), values.shape).ravel()
    spectrum = np.abs(np.fft.fftn(values, axes=axes)) ** 2
    return np.bincount(band, spectrum.ravel(), minlength=len(BANDS))[: len(BANDS) - 1]


def psnr(image: torch.Tensor, source: torch.Tensor) -> float:
    """Decibels, peak 1."""
    return float(-10 * (image - source).square().mean().clamp(min=1e-12).log10())


def features_of(sampler: Sampler, image: torch.Tensor, result: str) -> list[torch.Tensor]:
    """Of the layers of a result."""
    encoder = sampler.network.encoder
    if encoder.spatial_dims == 2:
        image = image[0].permute(3, 0, 1, 2)
    with torch.inference_mode(), sampler.network.precision(image.device):
        return [encoder(image, [name])[name].float() for name in result.split("+")]


def off(sampler: Sampler, image: torch.Tensor, wanted: Sequence[torch.Tensor], result: str) -> float:
    """How far the features of an image are from those wanted."""
    found = features_of(sampler, image, result)
    shares = [float((a - b).square().mean() / b.var()) for a, b in zip(found, wanted, strict=True)]
    return float(np.sqrt(np.mean(shares)))


def between(samples: torch.Tensor, source: torch.Tensor, share: float) -> torch.Tensor:
    """Where the source lies within the middle `share` of the samples (N, ...) by rank."""
    count = len(samples)
    out = round((1 - share) / 2 * (count + 1))
    ordered = samples.sort(dim=0).values
    return (source >= ordered[out - 1]) & (source <= ordered[count - out])


def white(sampler: Sampler) -> Sampler:
    """The control: the same scale, and a flow that leaves noise as it is."""
    generative: Any = copy.deepcopy(sampler.generative)
    torch.nn.init.zeros_(generative.leave.weight)
    torch.nn.init.zeros_(generative.leave.bias)
    other = copy.copy(sampler)
    other.generative = generative
    return other


def detailed(source: torch.Tensor) -> torch.Tensor:
    """The half of the voxels around which the source varies most."""
    size = [min(5, n - 1 + n % 2) for n in source.shape[2:]]
    around = [n // 2 for n in size]

    def mean(x: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool3d(x, size, 1, around, count_include_pad=False)

    deviation = (mean(source.square()) - mean(source).square()).clamp(min=0)
    return deviation > deviation.median()


def measure(
    sampler: Sampler, source: torch.Tensor, result: str, count: int, distance: Callable[..., Any] | None
) -> tuple[Row, dict[str, torch.Tensor]]:
    """The figures of one scan and result, and images for the sheet."""
    dims = sampler.network.encoder.spatial_dims
    wanted, base = features_of(sampler, source, result), sampler.base(source, result)
    start = time.perf_counter()
    samples = torch.cat([sampler.draw(base, result, number, image=source) for number in range(count)])
    seconds = (time.perf_counter() - start) / count
    control = white(sampler).draw(base, result, 0, image=source)
    mean, few = samples.mean(0, keepdim=True), [samples[k : k + 1] for k in range(min(3, count))]
    images = {DECODER: [base], SAMPLE: few, CONTROL: [control]}
    there, busy = power(source, dims), detailed(source)
    noise = float(samples.var(0).mean()) / count
    many = max(float((mean - source).square().mean()) - noise, 1e-12)
    row: Row = {"seconds": seconds, "psnr_mean": psnr(mean, source), "voxels": source.numel()}
    row["psnr_of_many"] = -10 * float(np.log10(many))
    for name, these in images.items():
        row[name] = {
            "psnr": float(np.mean([psnr(image, source) for image in these])),
            "features": float(np.mean([off(sampler, image, wanted, result) for image in these])),
            "power": np.mean([power(image, dims) / there for image in these], axis=0).tolist(),
            "perceptual": float(distance(these[0], source)) if distance else None,
        }
    for share in (0.5, 0.9):
        inside = between(samples, source[0], share)
        row[f"coverage_{share:.0%}"] = [float(inside.float().mean()), float(inside[busy[0]].float().mean())]
    sheet = {"source": source, DECODER: base, "sample 1": few[0], "sample 2": few[-1], "mean": mean}
    return row, sheet | {"deviation": samples.std(0, keepdim=True)}


def scans(args: argparse.Namespace) -> Iterator[tuple[Volume, torch.Tensor]]:
    """The middle of each scan, and the same as the network gets it."""
    found, _ = pick_scans(args.scans, args.held_out, args.hu)
    for scan in found:
        if args.only and not matches(scan.path.name, args.only):
            continue
        volume = load(scan, args.crop)
        values = MetaTensor(torch.from_numpy(volume.values)[None], meta={"units": volume.units})
        yield volume, ScanIntensity()(values).as_tensor()[None].float()


def draw_sheet(rows: Sequence[tuple[str, dict[str, torch.Tensor]]], title: str, path: Path) -> None:
    """One line of pictures for each scan."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(rows[0][1])
    figure, axes = pyplot.subplots(
        len(rows), len(names), figsize=(2.2 * len(names), 2.3 * len(rows)), squeeze=False
    )
    for line, (scan, images) in zip(axes, rows, strict=True):
        source = images["source"]
        low, high = (float(x) for x in np.quantile(source.numpy(), [0.005, 0.995]))
        for place, name in zip(line, names, strict=True):
            middle = images[name][0, 0, :, :, source.shape[4] // 2].T.flip(0)
            limits = (0.0, (high - low) / 4) if name == "deviation" else (low, high)
            place.imshow(middle, cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="nearest")
            place.set_axis_off()
            place.set_title(f"{scan[:24]}\n{name}" if name == "source" else name, fontsize=7)
    figure.suptitle(title, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def document(content: Row) -> str:
    """The tables, over all scans."""
    head = ["", "PSNR, dB", "of the mean", "of many", "perceptual", "features", *_bands()]
    parts = []
    for result, rows in content["results"].items():
        lines = []
        for name in (DECODER, SAMPLE, CONTROL):
            these = [row[name] for row in rows]
            judged = [each["perceptual"] for each in these if each["perceptual"] is not None]
            ratios = np.exp(np.log(np.maximum([each["power"] for each in these], 1e-12)).mean(0))
            lines.append(
                [
                    name,
                    f"{np.mean([each['psnr'] for each in these]):.2f}",
                    f"{np.mean([row['psnr_mean'] for row in rows]):.2f}" if name == SAMPLE else "",
                    f"{np.mean([row['psnr_of_many'] for row in rows]):.2f}" if name == SAMPLE else "",
                    f"{np.mean(judged):.4f}" if judged else "",
                    f"{np.mean([each['features'] for each in these]):.4f}",
                    *(f"{ratio:.2f}" for ratio in ratios),
                ]
            )
        covered = {
            share: np.mean([row[f"coverage_{share}"] for row in rows], axis=0) for share in ("50%", "90%")
        }
        said = "; ".join(
            f"{share}: {all_:.3f} (detail {busy:.3f})" for share, (all_, busy) in covered.items()
        )
        speed = np.sum([row["voxels"] for row in rows]) / np.sum([row["seconds"] for row in rows]) / 1e6
        parts += [
            f"## {content['bundle']}, {result}, {len(rows)} scans, {content['samples']} samples each",
            markdown(head, lines),
            f"Coverage of {said}. {np.mean([row['seconds'] for row in rows]):.2f} s a sample "
            f"({speed:.2f} million voxels a second).",
        ]
    return "\n\n".join(parts) + "\n"


def _bands() -> list[str]:
    names = [f"1/{round(1 / edge)}" for edge in BANDS[1:]]
    return [f"power to {name}" for name in names]


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_scan_options(made, HELD_OUT)
    made.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help="some of those held out")
    made.add_argument("--bundle", required=True)
    made.add_argument("--results", nargs="+", required=True)
    made.add_argument("--samples", type=int, default=39, help="39 and 19 have ranks for 50 and 90 %%")
    made.add_argument("--steps", type=int, help="of the flow; by default the bundle's")
    made.add_argument("--corrections", type=int, help="of the features; by default the bundle's")
    made.add_argument("--generative", type=Path, help="weights to measure instead of the bundle's")
    made.add_argument("--encoder-weights", type=Path, help="for a bundle that wants them")
    made.add_argument("--judge", type=Path, help="deepbet's weights")
    made.add_argument("--output", type=Path, default=Path("samples"))
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write tables and sheets."""
    args = parser().parse_args(argv)
    given = {"generative_weights": args.generative, "encoder_weights": args.encoder_weights}
    asked = {"device": "cpu", "samples": args.samples}
    bundle = Bundle.open(args.bundle, asked | {k: v for k, v in given.items() if v})
    sampler: Sampler = bundle.build("sampler")
    sampler.check(args.results)
    if args.steps:
        sampler.steps = args.steps
    if args.corrections is not None:
        sampler.corrections = args.corrections
    distance = Judge(args.judge).distance if args.judge else None
    results: dict[str, list[Row]] = {result: [] for result in args.results}
    sheets: dict[str, list[tuple[str, dict[str, torch.Tensor]]]] = {result: [] for result in args.results}
    content: Row = {
        "machine": describe(),
        "bundle": bundle.name,
        "crop": args.crop,
        "samples": args.samples,
        "steps": sampler.steps,
        "corrections": sampler.corrections,
        "results": results,
    }
    args.output.mkdir(parents=True, exist_ok=True)
    for volume, source in scans(args):
        for result in args.results:
            with torch.inference_mode():
                row, sheet = measure(sampler, source, result, args.samples, distance)
            results[result].append({"scan": volume.name, **row})
            sheets[result].append((volume.name, sheet))
            print(
                volume.name, result, json.dumps({k: v for k, v in row.items() if "coverage" in k}), flush=True
            )
        (args.output / "samples.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    text = document(content)
    (args.output / "samples.md").write_text(text, encoding="utf-8")
    for result, rows in sheets.items():
        draw_sheet(rows, f"{bundle.name}, {result}", args.output / f"samples_{bundle.name}_{result}.png")
    print(text)


if __name__ == "__main__":
    main()
