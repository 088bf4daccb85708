"""How time and memory of the network grow with the size of a volume: the exponents, fitted.

    python benchmarks/scaling.py            # two minutes on two cores, up to 512x512x300

Volumes of random voxels through the bundle's network and its tiling, each size in a process of its own,
without weights (they change neither time nor memory). The slope of log time over log voxels is 1 where cost
grows with the number of voxels. Peak memory is the system's (ru_maxrss), less that of the same process before
the volume was there; the volume and its result count. It grows with the working memory of the volume up to
the largest tile (`--most`), and with the volume's own bytes from there on.
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

SIZES = [[64, 64, 64], [128, 128, 128], [256, 256, 128], [512, 512, 100], [512, 512, 300]]
UNIT = 1 if sys.platform == "darwin" else 1024


def shape_of(text: str) -> list[int]:
    """ "512x512x300" -> its three sides."""
    x, y, z = map(int, text.split("x"))
    return [x, y, z]


def one(size: Sequence[int], bundle: str, layers: str, repeats: int, most: int | None) -> dict[str, Any]:
    """One size, in this process: seconds (the best), peak memory in GiB, tiles."""
    import torch

    from medrecon.blocks.tiles import arithmetic, largest_tile
    from medrecon.bundle.config import Bundle
    from medrecon.bundle.workflow import channels_last
    from medrecon.inference.memory import affordable_voxels
    from medrecon.inference.tiling import SliceInferer, VolumeInferer

    network: Any = channels_last(Bundle.open(bundle).architecture()).eval()
    volume = network.encoder.spatial_dims == 3
    inferer: Any = (VolumeInferer if volume else SliceInferer)([layers], most)
    with torch.inference_mode():
        inferer(torch.rand(1, 1, 32, 32, 32), network)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        image = torch.rand(1, 1, *size)
        seconds, processor = [], []
        for _ in range(repeats):
            start, worked = time.perf_counter(), time.process_time()
            inferer(image, network)
            seconds.append(time.perf_counter() - start)
            processor.append(time.process_time() - worked)
    told: dict[str, Any] = {"size": list(image.shape[2:]), "voxels": image.numel()}
    told |= {"seconds": min(seconds), "processor_seconds": min(processor)}
    told["seconds_range"] = [min(seconds), max(seconds)]
    told["peak_gib"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * UNIT / 2**30
    if volume:
        limit = most or affordable_voxels(torch.device("cpu"), network.inversion.bytes_per_voxel)
        tiles = inferer.plan(size, network, limit)
        told |= {"tiles": len(tiles), "tile": list(largest_tile(tiles))}
        told["arithmetic"] = arithmetic(size, tiles)
    return told


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The exponent b of y = a * x ** b, least squares in the logarithms; NaN where it cannot be told.

    Points whose y is 0 (no memory beyond what the process had before) are left out.
    """
    logs = [(math.log(x), math.log(y)) for x, y in points if y > 0]
    if len({x for x, _ in logs}) < 2:
        return math.nan
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    across = sum((x - mean_x) * (y - mean_y) for x, y in logs)
    return across / sum((x - mean_x) ** 2 for x, _ in logs)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table and the slopes, write JSON."""
    parser = parser_for(__doc__ or "", "scaling")
    parser.add_argument("--sizes", nargs="+", type=shape_of, default=SIZES, metavar="XxYxZ")
    parser.add_argument("--bundle", default="volume_autoencoder")
    parser.add_argument("--layers", default="level4")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--most", type=int, help="voxels of a tile; default: what memory allows")
    parser.add_argument("--one", type=shape_of, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        print(json.dumps(one(args.one, args.bundle, args.layers, args.repeats, args.most)))
        return
    from whole_path import machine_of, measured

    common = ["--bundle", args.bundle, "--layers", args.layers, "--repeats", args.repeats]
    common += ["--most", args.most] if args.most else []
    script = [*PYTHON, HERE / "scaling.py", *common]
    sizes = ["x".join(map(str, size)) for size in args.sizes]
    rows = [measured([*script, "--one", size])["told"] for size in sizes]
    report = Path(args.json)
    report.parent.mkdir(parents=True, exist_ok=True)
    machine = machine_of(report.parent, 1.0)
    head = [
        "size",
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
            size,
            f"{row['voxels'] / 1e6:.2f}",
            f"{row['seconds']:.2f}",
            f"{row['processor_seconds']:.2f}",
            f"{row['voxels'] / row['seconds'] / 1e6:.2f}",
            f"{row['peak_gib']:.2f}",
            f"{row['peak_gib'] * 2**30 / row['voxels']:.0f}",
            row.get("tiles", ""),
            f"{row['arithmetic']:.2f}" if "arithmetic" in row else "",
        ]
        for size, row in zip(sizes, rows, strict=True)
    ]
    what = machine["machine"]
    print(f"{what['cpu']}, {what['threads']} threads, load {what['load_average']}, {args.layers}\n")
    print(markdown(head, lines))
    slopes = {
        "seconds": slope([(row["voxels"], row["seconds"]) for row in rows]),
        "processor_seconds": slope([(row["voxels"], row["processor_seconds"]) for row in rows]),
        "peak_gib": slope([(row["voxels"], row["peak_gib"]) for row in rows]),
    }
    print(
        f"\ntime grows as voxels ** {slopes['seconds']:.2f} (processor's time, which a busy machine "
        f"disturbs less: {slopes['processor_seconds']:.2f}), memory as voxels ** {slopes['peak_gib']:.2f}"
    )
    write_json(args.json, {**machine, "rows": rows, "slopes": slopes})


if __name__ == "__main__":
    main()
