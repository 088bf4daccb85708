"""How fast the networks encode and decode, and which share of the machine's matrix-multiply rate that is.

    python benchmarks/throughput.py         # two minutes

A block of voxels (128x128x128; for the slice bundle 32 slices of 256x256) through encoder and decoder
alone, for each level, in float32 and in the default precision. Arithmetic is counted by torch
(FlopCounterMode: one multiplication and one addition are two), so the share is of the rate that
`machine.py` measures for the same type of number.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import markdown, parser_for, write_json
from machine import LABELS, best_time, ceilings, describe
from torch.utils.flop_counter import FlopCounterMode

from medrecon.bundle import Bundle
from medrecon.reconstructor import has_native_bfloat16
from medrecon.workflow import channels_last


def count_flops(network: Any, image: torch.Tensor, level: str) -> int:
    """Floating-point operations of encoding an image and decoding one level of it."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image, level)
    return int(counter.get_total_flops())


def time_level(network: Any, image: torch.Tensor, level: str, seconds: float) -> dict[str, float]:
    """Seconds to encode, to decode, and for both."""
    with torch.inference_mode():
        both = best_time(lambda: network(image, level), seconds)
        with torch.autocast(image.device.type, torch.bfloat16, enabled=network.mixed_precision):
            features = network.encoder(image, [level])
            encode = best_time(lambda: network.encoder(image, [level]), seconds)
            decode = best_time(lambda: network.inversion(features, image.shape[2:]), seconds)
    return {"both": both, "encode": encode, "decode": decode}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write JSON."""
    parser = parser_for(__doc__ or "", "throughput")
    parser.add_argument("--bundles", nargs="+", default=["volume_autoencoder", "slice_autoencoder"])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each figure")
    parser.add_argument("--side", type=int, default=128, help="of the block of voxels")
    parser.add_argument("--matrix", type=int, default=2048, help="side of the matrices of the ceilings")
    args = parser.parse_args(argv)
    what, before = describe(), ceilings(args.seconds, args.matrix)
    rows: list[dict[str, Any]] = []
    for bundle in args.bundles:
        network: Any = channels_last(Bundle.open(bundle).architecture()).eval()
        dims = network.encoder.spatial_dims
        side = args.side
        image = torch.rand((1, 1, side, side, side) if dims == 3 else (side // 4, 1, 2 * side, 2 * side))
        types = {"float32": False} | ({"bfloat16": True} if has_native_bfloat16(image.device) else {})
        for precision, mixed in types.items():
            network.mixed_precision = mixed
            for layer in network.layers():
                flops = count_flops(network, image, layer.name)
                took = time_level(network, image, layer.name, args.seconds)
                rows.append(
                    {
                        "bundle": Path(bundle).name,
                        "level": layer.name,
                        "precision": precision,
                        "megavoxels_per_second": image.numel() / took["both"] / 1e6,
                        "encode_megavoxels_per_second": image.numel() / took["encode"] / 1e6,
                        "decode_megavoxels_per_second": image.numel() / took["decode"] / 1e6,
                        "flop_per_voxel": flops / image.numel(),
                        "gflops": flops / took["both"] / 1e9,
                    }
                )
    # before and after, the better of both: a busy machine must not make a ceiling low
    rates = {key: max(before[key], value) for key, value in ceilings(args.seconds, args.matrix).items()}
    for row in rows:
        row["share_of_matmul"] = row["gflops"] / rates[f"{row['precision']}_gflops"]
    print(f"{what['cpu']}, {what['threads']} threads, load {what['load_average']}: ", end="")
    print(", ".join(f"{LABELS[key]} {value:.0f}" for key, value in rates.items()) + "\n")
    head = ["bundle", "level", "precision", "Mvoxel/s", "encode", "decode", "kFLOP per voxel", "GFLOP/s"]
    lines = [
        [
            *(row[key] for key in ("bundle", "level", "precision")),
            *(f"{value:.1f}" for key, value in row.items() if "megavoxels" in key),
            f"{row['flop_per_voxel'] / 1e3:.1f}",
            f"{row['gflops']:.0f}",
            f"{row['share_of_matmul']:.0%}",
        ]
        for row in rows
    ]
    print(markdown([*head, "of matrix multiply"], lines))
    write_json(args.json, {"machine": what, "ceilings": rates, "networks": rows})


if __name__ == "__main__":
    main()
