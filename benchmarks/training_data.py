"""Do generated volumes do instead of scans? The same training on scans, on generated volumes, and on both.

    python benchmarks/training_data.py SCANS                # half an hour on two cores

From the same first weights, by the bundle's train.yaml, with as many steps each: `phantom_share` 0 (scans
alone), as configured, and 1 (generated volumes alone: no patient's scan is read, neither for the encoder's
sets of coefficients nor for the decoder). --weights adds weights that are there, such as the shipped ones.
Compared is PSNR on real scans that none of them saw.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import HELD_OUT, add_scan_options, markdown, parser_for, pick_scans, write_json
from machine import describe
from scoring import load, open_network
from short_training import psnr_of, train


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, print the table, write JSON."""
    parser = parser_for(__doc__ or "", "training_data")
    add_scan_options(parser, HELD_OUT)
    parser.set_defaults(crop=[192, 192, 64])
    parser.add_argument("--bundle", default="volume_autoencoder")
    parser.add_argument("--levels", nargs="+", default=["level3", "level4", "level5"])
    parser.add_argument("--steps", type=int, default=1000, help="of each training")
    parser.add_argument("--shares", nargs="*", type=float, default=[0.0, 0.3, 1.0], help="of phantoms")
    parser.add_argument("--weights", nargs="*", default=[], type=Path, help="measure these too")
    args = parser.parse_args(argv)
    scans, refused = pick_scans(args.scans, args.held_out, args.hu)
    volumes = [load(scan, args.crop) for scan in scans]
    psnr: dict[str, dict[str, list[float]]] = {}
    minutes: dict[str, float] = {}

    def measure(name: str, network: Any) -> None:
        psnr[name] = {level: psnr_of(args.bundle, network, volumes, level) for level in args.levels}
        means = ", ".join(f"{level} {statistics.mean(found):.2f}" for level, found in psnr[name].items())
        print(f"{name}: {means} dB", flush=True)

    for share in args.shares:
        name = {0.0: "scans alone", 1.0: "phantoms alone"}.get(share, f"{share:.0%} phantoms")
        begin = time.perf_counter()
        done = train(args.bundle, args.scans, args.held_out, {"phantom_share": share}, steps=args.steps)
        minutes[name] = (time.perf_counter() - begin) / 60
        measure(name, done.network)
    for file in args.weights:
        network, _ = open_network(args.bundle, [f"{Path(args.bundle).name}={file}"])
        measure(str(file), network)
    for level in args.levels:
        print(f"\nPSNR in dB at {level}, {Path(args.bundle).name}, middle {args.crop} of each scan:\n")
        rows = [
            [volume.name, *(f"{found[level][i]:.2f}" for found in psnr.values())]
            for i, volume in enumerate(volumes)
        ]
        rows.append(["mean", *(f"{statistics.mean(found[level]):.2f}" for found in psnr.values())])
        print(markdown(["scan", *psnr], rows))
    content = {
        "machine": describe(),
        "bundle": Path(args.bundle).name,
        "crop": args.crop,
        "steps": args.steps,
        "scans": [volume.name for volume in volumes],
        "refused": [str(error.path and error.path.name) for error in refused],
        "psnr": psnr,
        "minutes": minutes,
    }
    write_json(args.json, content)


if __name__ == "__main__":
    main()
