"""The decoders that the field starts from, trained as long as the own network on the same data.

    python benchmarks/baselines.py SCANS                    # ten minutes on two cores; --minutes 3 each

Three networks by the bundle's train.yaml, only `network_def` changed, each for the same wall time with its
learning rate annealed over it: a plain autoencoder (convolution and max-pool down, convolution and
upsampling up, sigmoid); transposed convolutions with a sigmoid on the frozen features of the own encoder
before any training (a linear code, from which 1/16 value per voxel loses as little as the control does);
and the bundle's own network. All reconstruct the same level. Compared is PSNR on scans that none of them saw.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import HELD_OUT, add_scan_options, markdown, parser_for, pick_scans, write_json
from machine import describe
from scoring import control, load, score
from short_training import psnr_of, train

from medrecon.bundle.config import Bundle, layers_of


def network_defs(bundle: str, level: str) -> dict[str, dict[str, Any] | None]:
    """`network_def` of each contestant; None is the bundle's own."""
    own = Bundle.open(bundle).meta["network_def"]
    dims = own["encoder"]["spatial_dims"]

    layers = f"$[layer for layer in @network_def#encoder.layers() if layer.name == '{level}']"

    def joined(encoder: dict[str, Any], decoder: str) -> dict[str, Any]:
        inversion = {"_target_": f"medrecon.inversion.{decoder}", "layers": layers}
        return {"_target_": own["_target_"], "encoder": encoder, "inversion": inversion}

    plain = {"_target_": "medrecon.encoders.PlainEncoder", "spatial_dims": dims}
    frozen = {"_target_": "medrecon.encoders.FrozenEncoder", "encoder": own["encoder"]}
    return {
        "plain autoencoder": joined(plain, "PlainDecoder"),
        "transposed convolutions on frozen features": joined(frozen, "TransposedDecoder"),
        "own network": None,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, print the table, write JSON."""
    parser = parser_for(__doc__ or "", "baselines")
    add_scan_options(parser, HELD_OUT)
    parser.set_defaults(crop=[128, 128, 64])
    parser.add_argument("--bundle", default="volume_autoencoder")
    parser.add_argument("--level", default="level4", help="a level that all contestants have")
    parser.add_argument("--minutes", type=float, default=3, help="of training, each")
    parser.add_argument("--patch", nargs="+", type=int, help="overrides patch_size")
    parser.add_argument("--batch", type=int, help="overrides batch_size")
    args = parser.parse_args(argv)
    scans, refused = pick_scans(args.scans, args.held_out, args.hu)
    volumes = [load(scan, args.crop) for scan in scans]
    given = {"patch_size": args.patch, "batch_size": args.batch}
    overrides: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    overrides["training_results"] = {args.level: 1}
    rows: dict[str, list[float]] = {}
    facts: dict[str, dict[str, float]] = {}
    for name, definition in network_defs(args.bundle, args.level).items():
        changes = overrides if definition is None else overrides | {"network_def": definition}
        done = train(args.bundle, args.scans, args.held_out, changes, seconds=60 * args.minutes)
        rows[name] = psnr_of(args.bundle, done.network, volumes, args.level)
        layer = next(x for x in done.network.layers() if x.name == args.level)
        facts[name] = {
            "steps": done.steps,
            "seconds": done.seconds,
            "parameters": done.parameters,
            "values_per_voxel": layer.values_per_voxel,
        }
        print(f"{name}: {statistics.mean(rows[name]):.2f} dB, {facts[name]}", flush=True)
    layers = layers_of(Bundle.open(args.bundle))
    rows["linear control"] = [score(v, control(v, layers, args.level)).psnr for v in volumes]
    lines = [
        [volume.name, volume.modality, *(f"{values[i]:.1f}" for values in rows.values())]
        for i, volume in enumerate(volumes)
    ]
    lines.append(["mean", "", *(f"{statistics.mean(values):.1f}" for values in rows.values())])
    print(f"\nPSNR in dB at {args.level}, middle {args.crop} of each scan, {args.minutes:g} minutes each:\n")
    print(markdown(["scan", "modality", *rows], lines))
    for name, fact in facts.items():
        million = fact["parameters"] / 1e6
        print(f"\n{name}: {fact['steps']} steps, {million:.2f} million weights trained", end="")
        print(f", {fact['values_per_voxel']:.4g} values per voxel", end="")
    if refused:
        print("\n\nRefused: " + ", ".join(str(error.path and error.path.name) for error in refused))
    content = {
        "machine": describe(),
        "bundle": Path(args.bundle).name,
        "level": args.level,
        "crop": args.crop,
        "minutes": args.minutes,
        "scans": [volume.name for volume in volumes],
        "psnr": rows,
        "facts": facts,
    }
    write_json(args.json, content)


if __name__ == "__main__":
    main()
