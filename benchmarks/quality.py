"""What each level of both bundles keeps of real scans, beside the linear code of as many values.

    python benchmarks/quality.py SCANS --held-out 'ct_abdomen_*' '*_stroke_*' ...

PSNR over 4095 HU for CT and over the robust range (0.5 to 99.5 percentile) for other units; SSIM in 3D; MAE
in HU, or in per cent of that range. Results are rounded to whole numbers where the scan holds no others, as
in the files that medrecon writes; so is the control: the lowest frequencies of DCT blocks as large as the
level's stride. A result of several levels is charged the sum of their values, although levels repeat one
another. Without --held-out every scan is measured, those of the training too.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import (
    add_scan_options,
    add_weights_option,
    decibels,
    is_exact,
    markdown,
    parser_for,
    pick_scans,
    write_json,
)
from machine import describe
from scoring import Volume, control, load, open_network, rate_of, reconstruct, score

from medrecon.errors import MedreconError
from medrecon.reconstructor import INPUT

Row = dict[str, Any]


def measure(volume: Volume, bundle: str, network: Any, inferer: Any, results: Sequence[str]) -> list[Row]:
    """The figures of every result of one scan."""
    rows = []
    for result, recon in reconstruct(volume, network, inferer, [INPUT, *results]):
        got = score(volume, recon)
        width = got.data_range[1] - got.data_range[0]
        row: Row = {
            "bundle": bundle,
            "scan": volume.name,
            "modality": volume.modality,
            "shape": list(volume.values.shape),
            "result": result,
            "values_per_voxel": rate_of(network.layers(), result),
            **got.to_dict(),
            "mae_percent": 100 * got.mae / width,
        }
        if result != INPUT:
            linear = score(volume, control(volume, network.layers(), result))
            row |= {"control_psnr": linear.psnr, "control_ssim": linear.ssim, "control_mae": linear.mae}
            row["gain"] = None if is_exact(row["psnr"]) else row["psnr"] - linear.psnr
        rows.append(row)
    return rows


def flags(rows: Sequence[Row], order: Sequence[str]) -> list[str]:
    """What needs an explanation: a level that keeps more than the one above it, or less than the control."""
    found = []
    by_place = {(r["bundle"], r["scan"], r["result"]): r for r in rows}
    for (bundle, scan, result), row in by_place.items():
        where = f"{bundle}, {scan}: {result}"
        if result == INPUT and not is_exact(row["psnr"]):
            found.append(f"{where} is not exact (largest error {row['max_error']:g} {row['units']})")
        if result in order and row["gain"] is not None and row["gain"] < 0:
            found.append(f"{where} is {-row['gain']:.2f} dB below the linear control")
        if result in order[1:]:
            above = by_place[bundle, scan, order[order.index(result) - 1]]
            if not is_exact(above["psnr"]) and (is_exact(row["psnr"]) or row["psnr"] > above["psnr"]):
                found.append(f"{where} keeps more than {above['result']}")
    return found


def summary(rows: Sequence[Row], bundle: str) -> str:
    """One bundle: a line for each result, its means over the scans of each modality."""
    ours = [row for row in rows if row["bundle"] == bundle]
    modalities = sorted({row["modality"] for row in ours})
    head = ["layers", "values per voxel"]
    for name in modalities:
        mae = "MAE HU" if name == "CT" else "MAE % of range"
        head += [f"{name} PSNR dB (least)", f"{name} SSIM", f"{name} {mae}"]
        head.append(f"{name} gain over DCT dB (least)")
    lines = []
    for result in dict.fromkeys(row["result"] for row in ours):
        rate = next(row["values_per_voxel"] for row in ours if row["result"] == result)
        line = [result, "" if rate is None else f"{rate:.4g}"]
        for name in modalities:
            some = [row for row in ours if row["result"] == result and row["modality"] == name]
            finite = [row["psnr"] for row in some if not is_exact(row["psnr"])]
            gains = [row["gain"] for row in some if row.get("gain") is not None]
            errors = [row["mae" if name == "CT" else "mae_percent"] for row in some]
            more = "> " if finite and len(finite) < len(some) else ""
            mean, least = (statistics.mean(finite), min(finite)) if finite else (None, None)
            line.append("exact" if mean is None else f"{more}{mean:.1f} ({decibels(least)})")
            line.append(f"{statistics.mean(row['ssim'] for row in some):.4f}")
            line.append(f"{statistics.mean(errors):.2f}")
            line.append(f"{statistics.mean(gains):+.1f} ({min(gains):+.1f})" if gains and not more else "")
        lines.append(line)
    return markdown(head, lines)


def scan_by_scan(rows: Sequence[Row], result: str) -> str:
    """One result: a line for each scan, the bundles side by side."""
    bundles = list(dict.fromkeys(row["bundle"] for row in rows))
    head = ["scan", "modality", "voxels"]
    for bundle in bundles:
        head += [f"{bundle} PSNR dB", "DCT dB", "gain dB", "SSIM", "MAE"]
    lines = []
    for scan in dict.fromkeys(row["scan"] for row in rows):
        some = {row["bundle"]: row for row in rows if row["scan"] == scan and row["result"] == result}
        first = next(iter(some.values()))
        line = [scan, first["modality"], "x".join(map(str, first["shape"]))]
        for bundle in bundles:
            row = some[bundle]
            gain = "" if row["gain"] is None else f"{row['gain']:+.2f}"
            mae = f"{row['mae']:.2f} HU" if row["units"] == "HU" else f"{row['mae_percent']:.2f} %"
            line += [decibels(row["psnr"]), decibels(row["control_psnr"]), gain, f"{row['ssim']:.4f}", mae]
        lines.append(line)
    return markdown(head, lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write JSON."""
    parser = parser_for(__doc__ or "", "quality")
    add_scan_options(parser, held_out=())
    parser.add_argument("--bundles", nargs="+", default=["volume_autoencoder", "slice_autoencoder"])
    add_weights_option(parser)
    parser.add_argument("--subsets", nargs="*", default=["level3+level4", "level2+level3+level4"])
    parser.add_argument("--unstated", default="MR", help="modality of files that do not say theirs")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    scans, refused = pick_scans(args.scans, args.held_out, args.hu)
    networks = {Path(name).name: open_network(name, args.weights, args.device) for name in args.bundles}
    rows: list[Row] = []
    refusals = [f"{error.path.name if error.path else ''}: {error.message}" for error in refused]
    levels: list[str] = []
    for scan in scans:
        try:
            volume = load(scan, args.crop, args.unstated)
        except MedreconError as error:
            refusals.append(f"{scan.path.name}: {error.message}")
            continue
        for bundle, (network, inferer) in networks.items():
            levels = [layer.name for layer in network.layers()]
            rows += measure(volume, bundle, network, inferer, [*levels, *args.subsets])
            deepest = next(row for row in rows[::-1] if row["result"] == levels[-1])
            print(f"{volume.name}, {bundle}: {levels[-1]} {decibels(deepest['psnr'])} dB", flush=True)
    if not rows:
        raise SystemExit(f"no scan of {args.scans} can be measured: " + "; ".join(refusals))
    if args.crop:
        print(f"\nOnly the middle {args.crop} voxels of each scan.")
    for bundle in networks:
        count = len({row["scan"] for row in rows})
        print(f"\n{bundle}, means over {count} scans:\n\n{summary(rows, bundle)}")
    for level in levels[1:]:
        print(f"\n{level}, scan by scan:\n\n{scan_by_scan(rows, level)}")
    noticed = flags(rows, levels)
    print("\nTo be explained: " + ("nothing" if not noticed else "\n- " + "\n- ".join(noticed)))
    if refusals:
        print("\nRefused:\n- " + "\n- ".join(refusals))
    content = {"machine": describe(), "held_out": args.held_out, "crop": args.crop, "scans": rows}
    write_json(args.json, {**content, "flags": noticed, "refused": refusals})


if __name__ == "__main__":
    main()
