"""What features as files cost: size, time, and what float16 and int8 take from the image.

    python benchmarks/latents.py SCANS --held-out 'ct_abdomen_*' 'mr_t1_sag_head_*' ...

For each scan, bundle and layer: the feature file as float32, float16 and int8 (a scale for each channel),
its size beside the voxels of the scan (16 bits each), the relative error of the features, the seconds from
file to file of encoding and of decoding, and the PSNR of the decoded volume against the scan, over the range
that the network sees as [0, 1]. The volume from float32 features is compared with what `medrecon reconstruct`
makes of the scan: the largest difference, as a share of that range. Without --held-out every scan is taken.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import (
    add_scan_options,
    add_weights_option,
    decibels,
    markdown,
    parser_for,
    pick_scans,
    short_name,
    write_json,
)
from machine import describe
from monai.data import list_data_collate

from medrecon.errors import MedreconError
from medrecon.evaluation.fidelity import fidelity
from medrecon.features import FeatureDecoder, FeatureEncoder
from medrecon.features.file import FeatureFile
from medrecon.features.metadata import DTYPES
from medrecon.features.model import open_decoder
from medrecon.intensity_range import intensity_range
from medrecon.io import Scan, read_scan

Row = dict[str, Any]


class Bench:
    """One bundle, opened for encoding, decoding, and reconstructing at one go.

    Args:
        bundle: name or folder.
        weights: overrides of its configuration, for other weights than its own.
        device: where it runs.
    """

    def __init__(self, bundle: str, weights: dict[str, Any], device: str) -> None:
        self.name = Path(bundle).name
        self.encoder = FeatureEncoder.from_bundle(
            bundle, None, device=device, overrides=weights, measure=False
        )
        self.model = self.encoder.model
        decoder = open_decoder(bundle, self.model.device)
        if weights:  # the decoder of the same weights
            decoder = self.model
        self.decoder = FeatureDecoder(decoder)
        self._preprocessing = self.model.bundle.build("preprocessing")
        self._inferer = self.model.bundle.build("inferer")

    def reconstruct(self, scan: Scan, layer: str) -> tuple[np.ndarray, float]:
        """What `medrecon reconstruct` makes of a scan, before it is rounded; and the network's seconds."""
        image = list_data_collate([self._preprocessing({"image": scan})])["image"]
        self._inferer.results = [layer]
        start = time.perf_counter()
        with torch.inference_mode():
            made = self._inferer(image.to(self.model.device), self.model.network)[0, 0]
        return made.as_tensor().numpy(), time.perf_counter() - start

    def measure(self, scan: Scan, layer: str, folder: Path) -> list[Row]:
        """A row for each type of stored numbers."""
        source = read_scan(scan)
        low, high = intensity_range(source, scan.units)
        reference, seconds = self.reconstruct(scan, layer)
        rows = []
        for dtype in DTYPES:
            encoder = FeatureEncoder(self.model, layer, dtype, measure=False)
            made = encoder.run(scan, folder / "features.safetensors", overwrite=True)
            start = time.perf_counter()
            with FeatureFile(made.path) as file:
                volume = self.decoder.volume(file, layer)
            decoding = time.perf_counter() - start
            (facts,) = made.facts.layers
            row = {
                "bundle": self.name,
                "scan": short_name(scan.path),
                "units": scan.units,
                "shape": list(scan.shape),
                "layer": layer,
                "dtype": dtype,
                "bytes": made.size,
                "share": made.size / (2 * source.size),
                "relative_error": facts.relative_error,
                "psnr": fidelity(source, volume, units=scan.units).psnr,
                "encode_seconds": made.seconds,
                "decode_seconds": decoding,
                "reconstruct_seconds": seconds,
            }
            if dtype == "float32":
                inside = source >= low if scan.units == "HU" else np.ones(source.shape, bool)
                wrong = np.abs((volume - low) / (high - low) - reference)[inside]
                row["difference"] = float(wrong.max())
            rows.append(row)
        for row in rows:
            row["cost"] = rows[0]["psnr"] - row["psnr"]
        return rows


def summary(rows: Sequence[Row]) -> str:
    """A line for each bundle, layer and type: means over the scans, and the worst of what it costs."""
    head = ["bundle", "layer", "type", "size, share of 16-bit voxels", "relative error", "PSNR dB"]
    head += ["costs dB, mean (most)", "encode s", "decode s", "reconstruct s"]
    lines = []
    for key in dict.fromkeys((row["bundle"], row["layer"], row["dtype"]) for row in rows):
        some = [row for row in rows if (row["bundle"], row["layer"], row["dtype"]) == key]

        def mean(name: str, some: Sequence[Row] = some) -> float:
            return statistics.mean(row[name] for row in some)

        cost = f"{mean('cost'):.3f} ({max(row['cost'] for row in some):.3f})"
        line = [*key, f"{100 * mean('share'):.1f} %", f"{mean('relative_error'):.2g}", decibels(mean("psnr"))]
        line += ["" if key[2] == "float32" else cost]
        line += [f"{mean(name):.1f}" for name in ("encode_seconds", "decode_seconds", "reconstruct_seconds")]
        lines.append(line)
    return markdown(head, lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write JSON."""
    parser = parser_for(__doc__ or "", "latents")
    add_scan_options(parser, held_out=())
    parser.add_argument("--bundles", nargs="+", default=["volume_autoencoder", "slice_autoencoder"])
    add_weights_option(parser)
    parser.add_argument("--layers", nargs="+", default=["level3", "level4"])
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    if args.crop:
        parser.error("--crop is not for this benchmark: files are measured, of whole scans")
    scans, refused = pick_scans(args.scans, args.held_out, args.hu)
    given = {name: file for name, _, file in (text.partition("=") for text in args.weights)}
    rows: list[Row] = []
    refusals = [f"{error.path.name if error.path else ''}: {error.message}" for error in refused]
    with tempfile.TemporaryDirectory() as folder:
        for bundle in args.bundles:
            name = Path(bundle).name
            bench = Bench(bundle, {"weights": Path(given[name])} if name in given else {}, args.device)
            for scan in scans:
                for layer in args.layers:
                    try:
                        rows += bench.measure(scan, layer, Path(folder))
                    except MedreconError as error:
                        refusals.append(f"{scan.path.name}: {error.message}")
                        continue
                    told = ", ".join(f"{row['dtype']} {row['psnr']:.2f} dB" for row in rows[-3:])
                    print(f"{rows[-1]['scan']}, {name}, {layer}: {told}", flush=True)
    if not rows:
        raise SystemExit(f"no scan of {args.scans} can be measured: " + "; ".join(refusals))
    print(f"\nMeans over {len({row['scan'] for row in rows})} scans:\n\n{summary(rows)}")
    worst = max(row["difference"] for row in rows if "difference" in row)
    print(f"\nfloat32 features against reconstruct: at most {worst:.1e} of the intensity range")
    if refusals:
        print("\nRefused:\n- " + "\n- ".join(refusals))
    content = {"machine": describe(), "held_out": args.held_out, "scans": rows, "refused": refusals}
    write_json(args.json, {**content, "largest_difference": worst})


if __name__ == "__main__":
    main()
