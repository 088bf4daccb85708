"""Another network on a crop of a scan: JSON on stdout. A child process of `whole_path.py`.

    python benchmarks/sliding_window.py SCAN OUTPUT --network medvae --crop 112 112 64

The networks are those of `networks.py`, with random weights: for time and memory only. The whole scan is
read, by medrecon's own reader, and a whole volume written, by MONAI's SaveImage; the network sees the middle
of it, through SlidingWindowInferer.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from networks import PEERS


def count_windows(shape: Sequence[int], roi: Sequence[int], overlap: float) -> int:
    """How many windows MONAI cuts a volume into: each a share of its own side away from the one before."""
    counts = []
    for n, side in zip(shape, roi, strict=True):
        step = max(1, int(side * (1 - overlap)))
        counts.append(1 + max(0, math.ceil((n - side) / step)))
    return math.prod(counts)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Read, reconstruct the crop, write; return the seconds of each and the voxels of the crop."""
    import torch
    from monai.inferers import SlidingWindowInferer
    from monai.transforms import CenterSpatialCrop, LoadImage, SaveImage, ScaleIntensityRange
    from monai.utils import convert_to_tensor

    from medrecon.io import ScanReader

    start = time.perf_counter()
    whole = LoadImage(reader=ScanReader(), image_only=True, ensure_channel_first=True)(args.source)
    read = time.perf_counter()
    shape = whole.shape[1:]
    crop = CenterSpatialCrop([min(n, c) for n, c in zip(shape, args.crop, strict=True)])(whole)
    scaled = convert_to_tensor(ScaleIntensityRange(-1024, 3071, 0, 1)(crop), track_meta=False)
    image = scaled[None].float()
    torch.manual_seed(0)
    peer = PEERS[args.network]
    reconstruct = peer.prepare(args.channels or peer.channels)
    roi = [min(side, n // 4 * 4) for side, n in zip(args.roi, crop.shape[1:], strict=True)]
    inferer = SlidingWindowInferer(roi, sw_batch_size=1, overlap=args.overlap, mode="gaussian")
    windows = 0

    def one_window(window: torch.Tensor) -> torch.Tensor:
        nonlocal windows
        windows += 1
        return reconstruct(window)

    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
        reconstruct(torch.zeros(1, 1, 8, 8, 8))  # what a first call loads is no part of a window
        begin = time.perf_counter()
        inferer(image, one_window)
        end = time.perf_counter()
    SaveImage(output_dir=args.output, output_postfix="", separate_folder=False, print_log=False)(whole)
    return {
        "source": peer.source,
        "read": read - start,
        "network": end - begin,
        "write": time.perf_counter() - end,
        "shape": list(shape),
        "voxels": image.numel(),
        "windows": windows,
        "windows_whole": count_windows(shape, roi, args.overlap),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Print the result as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--network", choices=PEERS, default="autoencoderkl")
    parser.add_argument("--crop", nargs=3, type=int, default=[112, 112, 64])
    parser.add_argument("--roi", nargs=3, type=int, default=[64, 64, 64])
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--channels", nargs="+", type=int, help="default: its authors'")
    parser.add_argument("--bfloat16", action="store_true", help="autocast, as medrecon does")
    print(json.dumps(run(parser.parse_args(argv))))


if __name__ == "__main__":
    main()
