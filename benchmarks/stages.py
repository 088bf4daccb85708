"""The stages of one scan's way through a bundle, each timed: JSON on stdout. A child of `whole_path.py`.

    python benchmarks/stages.py SCAN OUTPUT --layers level4 --bundle volume_autoencoder

The steps are those of `medrecon.inference.pipeline.Pipeline.run`, with the bundle's own objects.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def run(source: Path, output: Path, layers: str, bundle: str, patch: int) -> dict[str, Any]:
    """Do it; the seconds of each stage, what was read and written, and the arithmetic of the network."""
    last = time.perf_counter()
    seconds: dict[str, float] = {}

    def lap(name: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[name] = now - last
        last = now

    import torch
    from monai.data import MetaTensor
    from throughput import count_flops

    from medrecon.inference.pipeline import Pipeline
    from medrecon.io import find_one

    lap("import")
    scan = find_one(source)
    lap("find")
    pipeline = Pipeline.from_bundle(bundle, scans=[scan], output=output, layers=layers)
    parts = {key: pipeline.bundle.build(key) for key in ("preprocessing", "inferer", "postprocessing")}
    lap("build")
    with torch.inference_mode():
        item = parts["preprocessing"]({"image": scan})
        lap("read")
        made = parts["inferer"](item["image"].as_tensor()[None].to(pipeline.device), pipeline.network)[0]
        lap("network")
        parts["postprocessing"]({**item, "pred": MetaTensor(made).copy_meta_from(item["image"])})
        lap("write")
    network: Any = pipeline.network
    dims = network.encoder.spatial_dims
    image = torch.rand(1, 1, *[patch] * dims)
    flops = sum(count_flops(network, image, name) for name in pipeline.results if name != "input")
    files = [path for place in pipeline.targets.values() for path in [place, *place.rglob("*")]]
    return {
        "seconds": seconds,
        "shape": list(scan.shape),
        "flop_per_voxel": flops / image.numel(),
        "megabytes_written": sum(path.stat().st_size for path in files if path.is_file()) / 1e6,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Print the result as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--layers", default="level4")
    parser.add_argument("--bundle", default="volume_autoencoder")
    parser.add_argument("--patch", type=int, default=64, help="side of the block whose arithmetic is counted")
    args = parser.parse_args(argv)
    print(json.dumps(run(args.source, args.output, args.layers, args.bundle, args.patch)))


if __name__ == "__main__":
    main()
