"""MONAI's AutoencoderKL on a crop of a scan: JSON on stdout. A child process of `whole_path.py`.

    python benchmarks/autoencoderkl.py SCAN OUTPUT --crop 112 112 64

The network of MAISI's VAE (3D, channels 64, 128, 256, four latent channels at stride 4: 1/16 value per
voxel), with random weights: for time and memory only. The whole scan is read, by medrecon's own reader, and
a whole volume written, by MONAI's SaveImage; the network sees the middle of it, through
SlidingWindowInferer. `build` gives the network to the other benchmarks.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def count_windows(shape: Sequence[int], roi: Sequence[int], overlap: float) -> int:
    """How many windows MONAI cuts a volume into: each a share of its own side away from the one before."""
    counts = []
    for n, side in zip(shape, roi, strict=True):
        step = max(1, int(side * (1 - overlap)))
        counts.append(1 + max(0, math.ceil((n - side) / step)))
    return math.prod(counts)


def build(channels: Sequence[int]) -> Any:
    """MONAI's AutoencoderKL as MAISI has it, but for the widths: four latent channels, no attention."""
    from monai.networks.nets import AutoencoderKL

    return AutoencoderKL(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        channels=channels,
        latent_channels=4,
        num_res_blocks=[2] * len(channels),
        norm_num_groups=min(32, *channels),
        attention_levels=[False] * len(channels),
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    ).eval()


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
    network = build(args.channels)
    roi = [min(side, n // 4 * 4) for side, n in zip(args.roi, crop.shape[1:], strict=True)]
    inferer = SlidingWindowInferer(roi, sw_batch_size=1, overlap=args.overlap, mode="gaussian")
    windows = 0

    def reconstruct(window: torch.Tensor) -> torch.Tensor:
        nonlocal windows
        windows += 1
        return network.reconstruct(window)

    begin = time.perf_counter()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
        inferer(image, reconstruct)
    end = time.perf_counter()
    SaveImage(output_dir=args.output, output_postfix="", separate_folder=False, print_log=False)(whole)
    return {
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
    parser.add_argument("--crop", nargs=3, type=int, default=[112, 112, 64])
    parser.add_argument("--roi", nargs=3, type=int, default=[64, 64, 64])
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--channels", nargs="+", type=int, default=[64, 128, 256])
    parser.add_argument("--bfloat16", action="store_true", help="autocast, as medrecon does")
    print(json.dumps(run(parser.parse_args(argv))))


if __name__ == "__main__":
    main()
