"""How time and memory of the network grow with the size of a volume: the exponents, fitted.

    python benchmarks/scaling.py            # three minutes on two cores

Cubes of random voxels through the bundle's network and its tiling, each size in a process of its own, without
weights (they change neither time nor memory). The slope of log time over log voxels is 1 where cost grows
with the number of voxels. Peak memory is the system's (ru_maxrss), less that of the same process before the
volume was there. It grows with the working memory of the volume up to the largest tile (`--most`), and with
the volume's own bytes from there on.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import HERE, PYTHON, markdown, parser_for, write_json

UNIT = 1 if sys.platform == "darwin" else 1024


def one(side: int, bundle: str, layers: str, repeats: int, most: int | None) -> dict[str, Any]:
    """One size, in this process: seconds (the best), peak memory in GiB, tiles."""
    import torch

    from medrecon.bundle import Bundle
    from medrecon.cuts import arithmetic, largest_tile
    from medrecon.tiling import SliceInferer, VolumeInferer, affordable_voxels, bytes_per_voxel
    from medrecon.workflow import channels_last

    network: Any = channels_last(Bundle.open(bundle).architecture()).eval()
    volume = network.encoder.spatial_dims == 3
    inferer: Any = (VolumeInferer if volume else SliceInferer)([layers], most)
    with torch.inference_mode():
        inferer(torch.rand(1, 1, 32, 32, 32), network)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        image = torch.rand(1, 1, side, side, side)
        seconds, processor = [], []
        for _ in range(repeats):
            start, worked = time.perf_counter(), time.process_time()
            inferer(image, network)
            seconds.append(time.perf_counter() - start)
            processor.append(time.process_time() - worked)
    told: dict[str, Any] = {"voxels": side**3, "seconds": min(seconds), "side": side}
    told["processor_seconds"] = min(processor)
    told["peak_gib"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * UNIT / 2**30
    if volume:
        limit = most or affordable_voxels(torch.device("cpu"), bytes_per_voxel(network))
        tiles = inferer.plan([side] * 3, network, limit)
        told |= {"tiles": len(tiles), "tile": list(largest_tile(tiles))}
        told["arithmetic"] = arithmetic([side] * 3, tiles)
    return told


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The exponent b of y = a * x ** b, least squares in the logarithms."""
    logs = [(math.log(x), math.log(y)) for x, y in points]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    across = sum((x - mean_x) * (y - mean_y) for x, y in logs)
    return across / sum((x - mean_x) ** 2 for x, _ in logs)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table and the slopes, write JSON."""
    parser = parser_for(__doc__ or "", "scaling")
    parser.add_argument("--sides", nargs="+", type=int, default=[64, 96, 128, 192, 256])
    parser.add_argument("--bundle", default="volume_autoencoder")
    parser.add_argument("--layers", default="level4")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--most", type=int, help="voxels of a tile; default: what memory allows")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        print(json.dumps(one(args.one, args.bundle, args.layers, args.repeats, args.most)))
        return
    from whole_path import machine_of, measured

    common = ["--bundle", args.bundle, "--layers", args.layers, "--repeats", args.repeats]
    common += ["--most", args.most] if args.most else []
    rows = [measured([*PYTHON, HERE / "scaling.py", "--one", side, *common])["told"] for side in args.sides]
    report = Path(args.json)
    report.parent.mkdir(parents=True, exist_ok=True)
    machine = machine_of(report.parent, 1.0)
    head = [
        "side",
        "million voxels",
        "s",
        "processor s",
        "million voxels/s",
        "GiB",
        "bytes a voxel",
        "tiles",
        "arithmetic",
    ]
    lines = [
        [
            row["side"],
            f"{row['voxels'] / 1e6:.2f}",
            f"{row['seconds']:.2f}",
            f"{row['processor_seconds']:.2f}",
            f"{row['voxels'] / row['seconds'] / 1e6:.2f}",
            f"{row['peak_gib']:.2f}",
            f"{row['peak_gib'] * 2**30 / row['voxels']:.0f}",
            row.get("tiles", ""),
            f"{row['arithmetic']:.2f}" if "arithmetic" in row else "",
        ]
        for row in rows
    ]
    what = machine["machine"]
    print(f"{what['cpu']}, {what['threads']} threads, load {what['load_average']}, {args.layers}\n")
    print(markdown(head, lines))
    slopes = {
        "seconds": slope([(row["voxels"], row["seconds"]) for row in rows]),
        "processor_seconds": slope([(row["voxels"], row["processor_seconds"]) for row in rows]),
        "peak_gib": slope([(row["voxels"], max(row["peak_gib"], 1e-6)) for row in rows]),
    }
    print(
        f"\ntime grows as voxels ** {slopes['seconds']:.2f} (processor's time, which a busy machine "
        f"disturbs less: {slopes['processor_seconds']:.2f}), memory as voxels ** {slopes['peak_gib']:.2f}"
    )
    write_json(args.json, {**machine, "rows": rows, "slopes": slopes})


if __name__ == "__main__":
    main()
