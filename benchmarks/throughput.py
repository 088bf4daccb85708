"""How fast the networks encode and decode, and which share of the machine's matrix-multiply rate that is.

    python benchmarks/throughput.py         # five minutes

A block of voxels (128x128x128; for the slice bundle 32 slices of 256x256) through encoder and decoder
alone, for each level, in float32 and in the default precision; beside them MONAI's AutoencoderKL as MAISI has
it (3D, channels 64, 128, 256, random weights) on one window of 64x64x64. Arithmetic is counted by torch
(FlopCounterMode: one multiplication and one addition are two), so the share is of the rate that
`machine.py` measures for the same type of number. An own network's encoder finds its price on the block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from common import markdown, parser_for, write_json
from machine import LABELS, ceilings, describe, times_of
from networks import autoencoderkl
from torch.utils.flop_counter import FlopCounterMode

from medrecon.bundle.config import Bundle
from medrecon.bundle.workflow import channels_last
from medrecon.reconstructor import has_native_bfloat16

PEER = "AutoencoderKL"
Row = dict[str, Any]


def count(work: Callable[[], object]) -> int:
    """Floating-point operations of a piece of work, as torch counts them."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def count_flops(network: Any, image: torch.Tensor, level: str) -> int:
    """Floating-point operations of encoding an image and decoding one level of it."""
    return count(lambda: network(image, level))


def timed(work: Callable[[], object], device: torch.device, seconds: float) -> list[float]:
    """The times of a piece of work, waited for where it runs on a GPU."""
    if device.type != "cuda":
        return times_of(work, seconds)

    def whole() -> None:
        work()
        torch.cuda.synchronize(device)

    whole()
    return times_of(whole, seconds)


def time_level(network: Any, image: torch.Tensor, level: str, seconds: float) -> dict[str, list[float]]:
    """Seconds to encode, to decode, and for both."""
    device = image.device
    with torch.inference_mode():
        both = timed(lambda: network(image, level), device, seconds)
        with torch.autocast(device.type, torch.bfloat16, enabled=network.mixed_precision):
            features = network.encoder(image, [level])
            encode = timed(lambda: network.encoder(image, [level]), device, seconds)
            decode = timed(lambda: network.inversion(features, image.shape[2:]), device, seconds)
    return {"both": both, "encode": encode, "decode": decode}


def time_peer(channels: Sequence[int], side: int, device: torch.device, seconds: float) -> Iterator[Row]:
    """AutoencoderKL on one window, in each precision."""
    torch.manual_seed(0)
    network = autoencoderkl(channels).to(device)
    image = torch.rand(1, 1, side, side, side, device=device)
    flops = count(lambda: network.reconstruct(image))
    for precision, mixed in precisions(device).items():
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            latent = network.encode(image)[0]
            encode = timed(lambda: network.encode(image), device, seconds)
            decode = timed(lambda latent=latent: network.decode(latent), device, seconds)  # type: ignore[misc]
        both = [min(encode) + min(decode), max(encode) + max(decode)]
        took = {"both": both, "encode": encode, "decode": decode}
        yield row_of(PEER, "1/16", precision, image.numel(), flops, took)


def precisions(device: torch.device) -> dict[str, bool]:
    """Types of number -> whether it is mixed precision."""
    return {"float32": False} | ({"bfloat16": True} if has_native_bfloat16(device) else {})


def row_of(
    name: str, level: str, precision: str, voxels: int, flops: int, took: dict[str, list[float]]
) -> Row:
    """The figures of one contestant: the best of the times, and the range of those for both."""
    best = {what: min(times) for what, times in took.items()}
    return {
        "bundle": name,
        "level": level,
        "precision": precision,
        "megavoxels_per_second": voxels / best["both"] / 1e6,
        "megavoxels_per_second_range": [voxels / max(took["both"]) / 1e6, voxels / best["both"] / 1e6],
        "encode_megavoxels_per_second": voxels / best["encode"] / 1e6,
        "decode_megavoxels_per_second": voxels / best["decode"] / 1e6,
        "flop_per_voxel": flops / voxels,
        "gflops": flops / best["both"] / 1e9,
    }


def measure(
    bundles: Sequence[str],
    seconds: float = 3.0,
    side: int = 128,
    matrix: int = 2048,
    peer_channels: Sequence[int] = (64, 128, 256),
    peer_side: int = 64,
    device: str = "cpu",
) -> tuple[dict[str, float], list[Row]]:
    """Time everything: the machine's ceilings, and a row for each contestant, level and precision."""
    place = torch.device(device)
    before = ceilings(seconds, matrix)
    rows: list[Row] = []
    for bundle in bundles:
        network: Any = channels_last(Bundle.open(bundle).architecture()).eval().to(place)
        dims = network.encoder.spatial_dims
        shape = (1, 1, side, side, side) if dims == 3 else (side // 4, 1, 2 * side, 2 * side)
        image = torch.rand(shape, device=place)
        for precision, mixed in precisions(place).items():
            network.mixed_precision = mixed
            for layer in network.layers():
                flops = count_flops(network, image, layer.name)
                took = time_level(network, image, layer.name, seconds)
                rows.append(row_of(Path(bundle).name, layer.name, precision, image.numel(), flops, took))
    rows += time_peer(peer_channels, peer_side, place, seconds)
    # before and after, the better of both: a busy machine must not make a ceiling low
    rates = {key: max(before[key], value) for key, value in ceilings(seconds, matrix).items()}
    for row in rows:
        ceiling = rates[f"{row['precision']}_gflops"] if place.type == "cpu" else None
        row["share_of_matmul"] = row["gflops"] / ceiling if ceiling else None
        peer = next(r for r in rows if r["bundle"] == PEER and r["precision"] == row["precision"])
        row["times_autoencoderkl"] = row["megavoxels_per_second"] / peer["megavoxels_per_second"]
    return rates, rows


def table(rows: Sequence[Row]) -> str:
    """All rows in Markdown."""
    head = ["network", "level", "precision", "Mvoxel/s", "encode", "decode", "kFLOP per voxel", "GFLOP/s"]
    lines = [
        [
            *(row[key] for key in ("bundle", "level", "precision")),
            *(f"{value:.3g}" for key, value in row.items() if key.endswith("megavoxels_per_second")),
            f"{row['flop_per_voxel'] / 1e3:.1f}",
            f"{row['gflops']:.0f}",
            "" if row["share_of_matmul"] is None else f"{row['share_of_matmul']:.0%}",
            f"{row['times_autoencoderkl']:.0f}",
        ]
        for row in rows
    ]
    return markdown([*head, "of matrix multiply", f"times {PEER}"], lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write JSON."""
    parser = parser_for(__doc__ or "", "throughput")
    parser.add_argument("--bundles", nargs="+", default=["volume_autoencoder", "slice_autoencoder"])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each figure")
    parser.add_argument("--side", type=int, default=128, help="of the block of voxels")
    parser.add_argument("--matrix", type=int, default=2048, help="side of the matrices of the ceilings")
    parser.add_argument("--peer-channels", nargs=3, type=int, default=[64, 128, 256])
    parser.add_argument("--peer-side", type=int, default=64, help="of the AutoencoderKL's window")
    parser.add_argument(
        "--device", default="cpu", help="on a GPU no share is given: the ceilings are the CPU's"
    )
    args = parser.parse_args(argv)
    what = describe()
    sizes = (args.seconds, args.side, args.matrix, args.peer_channels, args.peer_side, args.device)
    rates, rows = measure(args.bundles, *sizes)
    print(f"{what['cpu']}, {what['threads']} threads, load {what['load_average']}: ", end="")
    print(", ".join(f"{LABELS[key]} {value:.0f}" for key, value in rates.items()) + "\n")
    print(table(rows))
    write_json(args.json, {"machine": what, "ceilings": rates, "networks": rows})


if __name__ == "__main__":
    main()
