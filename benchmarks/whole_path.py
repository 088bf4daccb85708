"""The whole way of one scan, file to file: medrecon beside AutoencoderKL and MedVAE with sliding windows.

    python benchmarks/whole_path.py SCAN            # a DICOM series or a NIfTI file; 15 minutes on two cores

Each run is a process of its own, and the contestants take turns: `medrecon reconstruct` in its default
precision, in float32, and without a network (reading and writing alone); MONAI's AutoencoderKL and MedVAE
(configurations and sources: `networks.py`) with and without bfloat16. Those get a crop, since they take
minutes for some million voxels; their time for the whole scan is that of their process with the network's
part scaled by the number of windows, and their peak memory is that of the crop. One whose package is not
installed is named as not measured, with the command that installs it. Peak memory is the largest
resident size that the system reports (ru_maxrss). The floor is the network's arithmetic at the faster of
the machine's two matrix-multiply rates plus the bytes written at its disk rate.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import HERE, PYTHON, markdown, parser_for, short_name, write_json
from networks import PEERS

Run = dict[str, Any]


def measured(command: Sequence[str | Path]) -> Run:
    """Run a command; its wall time in s, its peak memory in GiB, and the JSON that it prints.

    Raises:
        SystemExit: it failed.
    """
    with tempfile.TemporaryFile() as out:
        start = time.perf_counter()
        process = subprocess.Popen([str(part) for part in command], stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read().decode()
    if process.returncode:
        raise SystemExit(f"{' '.join(str(part) for part in command)}: exit code {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {"wall": wall, "peak_gib": usage.ru_maxrss * unit / 2**30, "told": json.loads(text)}


def machine_of(folder: Path, seconds: float) -> dict[str, Any]:
    """What `machine.py` says, from a process of its own: here torch would count in the children's peak."""
    report = folder / "machine.json"
    command = [*PYTHON, HERE / "machine.py", "--json", report, "--seconds", seconds]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    content: dict[str, Any] = json.loads(report.read_text("utf-8"))
    return content


def float32_copy(bundle: str, folder: Path) -> Path:
    """The same bundle, told not to use bfloat16."""
    from medrecon.bundle.config import find_bundle

    root = find_bundle(bundle)
    copy = folder / root.name
    shutil.copytree(root / "configs", copy / "configs")
    (copy / "models").symlink_to(root / "models")
    place = copy / "configs" / "metadata.json"
    meta = json.loads(place.read_text("utf-8"))
    meta["network_def"]["mixed_precision"] = False
    place.write_text(json.dumps(meta), encoding="utf-8")
    return copy


def measurable(names: Sequence[str]) -> list[str]:
    """The peers whose packages are installed."""
    return [name for name in names if not PEERS[name].missing]


def one_round(args: argparse.Namespace, folder: Path, float32: Path) -> dict[str, Run]:
    """Every contestant once."""
    output = folder / "output"
    medrecon = [*PYTHON, "-m", "medrecon", "reconstruct", args.scan, output, "--json", "--overwrite"]
    medrecon += ["--bundle", args.bundle, "--layers"]
    window = [*PYTHON, HERE / "sliding_window.py", args.scan, folder / "peer", "--overlap", str(args.overlap)]
    window += ["--crop", *map(str, args.crop), "--roi", *map(str, args.roi)]
    window += ["--channels", *map(str, args.channels)] if args.channels else []
    commands: dict[str, Sequence[str | Path]] = {
        "medrecon": [*medrecon, args.layers],
        "medrecon, float32": [*medrecon[:-2], float32, "--layers", args.layers],
        "medrecon, no network": [*medrecon, "input"],
    }
    for name in measurable(args.peers):
        commands[f"{PEERS[name].title}, bfloat16"] = [*window, "--network", name, "--bfloat16"]
        commands[f"{PEERS[name].title}, float32"] = [*window, "--network", name]
    runs = {}
    for name, command in commands.items():
        runs[name] = measured(command)
        print(f"{name}: {runs[name]['wall']:.1f} s, {runs[name]['peak_gib']:.2f} GiB", flush=True)
        shutil.rmtree(output, ignore_errors=True)
    options = ["--layers", args.layers, "--bundle", args.bundle, "--patch", str(args.patch)]
    runs["stages"] = measured([*PYTHON, HERE / "stages.py", args.scan, folder / "staged", *options])
    for place in folder.glob("staged*"):
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    return runs


def compare(rounds: Sequence[dict[str, Run]]) -> list[Run]:
    """The middle of the rounds for each contestant, and its time for the whole scan."""
    shape = rounds[0]["stages"]["told"]["shape"]
    voxels = math.prod(shape)
    rows = []
    for name in rounds[0]:
        if name == "stages":
            continue
        runs = [each[name] for each in rounds]
        row: Run = {"name": name, "peak_gib": max(run["peak_gib"] for run in runs), "share": 1.0}
        row["walls"] = [run["wall"] for run in runs]
        if name.startswith("medrecon"):
            network = [sum(r["network_seconds"] for r in run["told"]["results"]) for run in runs]
            row |= {"wall": statistics.median(row["walls"]), "network": statistics.median(network)}
        else:
            told = runs[0]["told"]
            factor = told["windows_whole"] / told["windows"]
            network = [run["told"]["network"] * factor for run in runs]
            whole = [r["wall"] - r["told"]["network"] + n for r, n in zip(runs, network, strict=True)]
            row |= {"wall": statistics.median(whole), "network": statistics.median(network)}
            row |= {"share": 1 / factor, "windows": told["windows"], "windows_whole": told["windows_whole"]}
            row["source"] = told["source"]
        row["megavoxels_per_second"] = voxels / row["wall"] / 1e6
        row["network_megavoxels_per_second"] = voxels / row["network"] / 1e6 if row["network"] else None
        rows.append(row)
    return rows


def show(rows: Sequence[Run], peers: Sequence[str]) -> None:
    """Print the table of the contestants and the ratios; name the peers that are not installed."""
    lines = []
    for row in rows:
        rate = row["network_megavoxels_per_second"]
        whole = row["share"] == 1
        lines.append(
            [
                row["name"]
                + ("" if whole else f" (from {row['windows']} of {row['windows_whole']} windows)"),
                f"{row['wall']:.1f}",
                f"{row['megavoxels_per_second']:.3f}",
                "" if rate is None or "no network" in row["name"] else f"{rate:.3f}",
                f"{row['peak_gib']:.2f}" + ("" if whole else " (crop)"),
            ]
        )
    for peer in (PEERS[name] for name in peers):
        if peer.missing:
            lines.append([f"{peer.title}: not measured, needs {peer.install}", *[""] * 4])
    head = ["", "file to file s", "million voxels/s", "network alone, million voxels/s", "peak memory GiB"]
    print("\n" + markdown(head, lines))
    by_name = {row["name"]: row for row in rows}
    pairs = (("medrecon", "bfloat16"), ("medrecon, float32", "float32"), ("medrecon", "float32"))
    for peer in measurable(peers):
        for ours, precision in pairs:
            theirs = f"{PEERS[peer].title}, {precision}"
            a, b = by_name[ours], by_name[theirs]
            print(
                f"\n{ours} : {theirs} = {b['wall'] / a['wall']:.1f} file to file, "
                f"{b['network'] / a['network']:.1f} network alone (voxels/s)"
            )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the rounds, print the tables, write JSON."""
    parser = parser_for(__doc__ or "", "whole_path")
    parser.add_argument("scan", type=Path, help="a DICOM series or a file")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--layers", default="level4")
    parser.add_argument("--bundle", default="volume_autoencoder")
    parser.add_argument("--patch", type=int, default=64, help="side of the block whose arithmetic is counted")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each ceiling of the machine")
    parser.add_argument("--crop", nargs=3, type=int, default=[112, 112, 64], help="for the peers")
    parser.add_argument("--roi", nargs=3, type=int, default=[64, 64, 64], help="their sliding window")
    parser.add_argument("--overlap", type=float, default=0.25, help="of their windows")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=["autoencoderkl", "medvae"])
    parser.add_argument("--channels", nargs="+", type=int, help="their widths; default: their authors'")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        machine = machine_of(folder, args.seconds)
        float32 = float32_copy(args.bundle, folder)
        rounds = []
        for number in range(args.rounds):
            print(f"round {number + 1} of {args.rounds}", flush=True)
            rounds.append(one_round(args, folder, float32))
    told = [each["stages"]["told"] for each in rounds]
    shape, voxels = told[0]["shape"], math.prod(told[0]["shape"])
    seconds = {key: statistics.median(t["seconds"][key] for t in told) for key in told[0]["seconds"]}
    rows = compare(rounds)
    rates = machine["ceilings"]
    precision = max(rates["bfloat16_gflops"], rates["float32_gflops"]) * 1e9
    arithmetic, disk = (
        told[0]["flop_per_voxel"] * voxels / precision,
        told[0]["megabytes_written"] / rates["disk_mbs"],
    )
    what = machine["machine"]
    print(f"\n{short_name(args.scan)}, {'x'.join(map(str, shape))}, {args.layers}, {args.rounds} rounds")
    print(f"{what['cpu']}, {what['threads']} threads, load {what['load_average']}, torch {what['torch']}")
    show(rows, args.peers)
    print("\nStages of medrecon, s (a run of its own):\n")
    print(markdown(list(seconds), [[f"{value:.2f}" for value in seconds.values()]]))
    print(
        f"\nFloor: {arithmetic:.2f} s of arithmetic ({told[0]['flop_per_voxel'] / 1e3:.1f} kFLOP/voxel at "
        f"{precision / 1e9:.0f} GFLOP/s) + {disk:.2f} s of writing at {rates['disk_mbs']:.0f} MB/s; "
        f"medrecon takes {rows[0]['wall'] / (arithmetic + disk):.1f} times that"
    )
    content = {**machine, "scan": short_name(args.scan), "shape": shape, "layers": args.layers}
    floor = {"arithmetic": arithmetic, "disk": disk}
    write_json(args.json, {**content, "runs": rows, "stages": seconds, "floor": floor, "crop": args.crop})


if __name__ == "__main__":
    main()
