"""What each level of both bundles keeps of real scans, beside what a user would pick instead.

    python benchmarks/quality.py SCANS --autoencoderkl RUN --output OUT

One command makes every table: `OUT/quality.md`, `quality.json` (all figures, scan by scan) and a picture of
the worst places for each bundle. Measured are the scans that --held-out names; the others of SCANS, on which
the networks were trained, fit the KLT. --weights measures other weights than those in the bundles.

- levels: PSNR over 4095 HU for CT and over the robust range (0.5 to 99.5 percentile) for other units; SSIM
  and MS-SSIM in 3D; MAE in HU, or in per cent of that range. Results are rounded to whole numbers where the
  scan holds no others, as in the files that medrecon writes; so are all the codes below.
- the networks' controls: `pixels alone`, the same network trained without the perceptual term (--twin), and
  `linear start`, the network without what it learned.
- linear codes of as many values: the lowest frequencies of DCT blocks (16 along each axis, 32 where a level's
  stride is 32; of slices likewise), a KLT of blocks (8x8x8; 16x16), and of the transform codes (--codes)
  what the encoder kept through the plain inverse transform. `measured` counts the values spent there:
  coefficients that are not zero, and two for each block.
- the transform code of as many values (--codes), which spends them where a scan is busy.
- error by spatial frequency: its power over the source's, in bands of cycles per voxel.
- perceptual distance by a 3D network that is in no loss (--judge, deepbet's brain network): its first four
  layers, vectors scaled to unit length, mean squared difference.
- AutoencoderKL as train_autoencoderkl.py leaves it (1/16 value per voxel), in blended windows.
- JPEG 2000 and HTJ2K, slice by slice, at the bits per voxel of the level's features (8 bits a value, entropy
  coded), beside the PSNR that is left after that rounding. Their headers are not counted at that rate.
- the noise bound: see bounds.py for what it says and what it cannot.
- throughput: as throughput.py has it (--no-throughput leaves it out).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import throughput
from bits import measure_bits
from bounds import estimate_noise
from common import (
    HELD_OUT,
    HERE,
    add_scan_options,
    add_weights_option,
    is_exact,
    matches,
    pick_scans,
    write_json,
)
from machine import describe
from peers import KLT, MaisiLike, linear_part, linear_start, training_images
from quality_tables import ADAPTIVE, CODE, DCT, KLT_NAME, OURS, PEER, START, TWIN, document
from scoring import (
    Judge,
    Volume,
    error_by_frequency,
    load,
    low_frequencies,
    open_network,
    rate_of,
    reconstruct,
    score_fully,
)
from worst import Place, draw, find_worst

from medrecon.contract import LayerInfo
from medrecon.errors import MedreconError
from medrecon.intensity_range import intensity_range
from medrecon.reconstructor import INPUT

Row = dict[str, Any]
Networks = dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Contest:
    """What is measured beside the networks.

    Attributes:
        networks: bundle -> (network, inferer).
        twins: bundle -> the same network, trained without the perceptual term.
        codes: spatial dimensions -> (network, inferer) of the transform code.
        klts: spatial dimensions -> the KLT.
        peers: spatial dimensions -> AutoencoderKL.
        judge: the perceptual distance.
    """

    networks: Networks
    twins: dict[str, Any]
    codes: dict[int, tuple[Any, Any]]
    klts: dict[int, KLT]
    peers: dict[int, MaisiLike]
    judge: Judge | None


def row_of(
    volume: Volume,
    dims: int,
    code: str,
    result: str,
    rate: float | None,
    recon: np.ndarray,
    judge: Judge | None = None,
) -> Row:
    """The figures of one code on one scan."""
    perceptual = {"perceptual": judge(volume, recon)} if judge and result != INPUT else {}
    return {
        "scan": volume.name,
        "modality": volume.modality,
        "shape": list(volume.values.shape),
        "dims": dims,
        "code": code,
        "result": result,
        "values_per_voxel": rate,
        **score_fully(volume, recon),
        **perceptual,
        "by_frequency": error_by_frequency(volume, recon, dims),
    }


def measure(volume: Volume, contest: Contest, subsets: Sequence[str]) -> Iterator[tuple[Row, np.ndarray]]:
    """A row for each code and level of one scan, and the reconstruction behind it."""
    judge = contest.judge
    for bundle, (network, inferer) in contest.networks.items():
        layers = network.layers()
        dims = len(layers[0].stride)
        results = [INPUT, *(layer.name for layer in layers), *subsets]
        for result, recon in reconstruct(volume, network, inferer, results):
            row = row_of(volume, dims, OURS, result, rate_of(layers, result), recon, judge)
            yield row | {"bundle": bundle}, recon
        lossy = [layer for layer in layers if layer.values_per_voxel < 1]  # else every linear code is exact
        beside = {TWIN: contest.twins.get(bundle), START: linear_start(network)}
        for code, other in beside.items():
            if other is None:
                continue
            for result, recon in reconstruct(volume, other, inferer, [layer.name for layer in lossy]):
                yield row_of(volume, dims, code, result, rate_of(layers, result), recon, judge), recon
        yield from _codes(volume, dims, lossy, contest)
    for dims, peer in contest.peers.items():
        recon = peer.code(volume)
        yield row_of(volume, dims, PEER, "level4", 1 / 16, recon, judge), recon


def _codes(
    volume: Volume, dims: int, layers: Sequence[LayerInfo], contest: Contest
) -> Iterator[tuple[Row, np.ndarray]]:
    """The codes of as many values as each of these layers holds."""
    judge = contest.judge
    code, inferer = contest.codes.get(dims, (None, None))
    linear = linear_part(code)
    known = [layer.name for layer in code.layers()] if code else []
    for layer in layers:
        name, rate = layer.name, layer.values_per_voxel
        recon = low_frequencies(volume, dims, rate, max(16, layer.stride[0]))
        yield row_of(volume, dims, DCT, name, rate, recon, judge), recon
        if dims in contest.klts:
            recon = contest.klts[dims].code(volume, rate)
            yield row_of(volume, dims, KLT_NAME, name, rate, recon, judge), recon
        if name not in known:
            continue
        ((_, recon),) = reconstruct(volume, code, inferer, [name])
        yield row_of(volume, dims, CODE, name, rate, recon, judge), recon
        if linear is not None:
            plain, counter = linear
            counter.values = 0
            ((_, recon),) = reconstruct(volume, plain, inferer, [name])
            row = row_of(volume, dims, ADAPTIVE, name, rate, recon, judge)
            yield row | {"measured": counter.values / volume.values.size}, recon


def flags(rows: Sequence[Row]) -> list[str]:
    """What needs an explanation: a level that keeps more than the one above, or less than a linear code."""
    found = []
    by_place = {(r["code"], r["dims"], r["scan"], r["result"]): r for r in rows}
    for (code, dims, scan, result), row in by_place.items():
        where = f"{scan}, {dims}D: {result}"
        if code == ADAPTIVE and row["measured"] > 1.01 * row["values_per_voxel"]:
            found.append(f"{where} spends {row['measured'] / row['values_per_voxel']:.2f} times its values")
        if code != OURS:
            continue
        if result == INPUT and not is_exact(row["psnr"]):
            found.append(f"{where} is not exact (largest error {row['max_error']:g} {row['units']})")
        for other in (DCT, KLT_NAME, ADAPTIVE, CODE, START):
            linear = by_place.get((other, dims, scan, result))
            if linear is None or is_exact(row["psnr"]):
                continue
            if is_exact(linear["psnr"]) or row["psnr"] < linear["psnr"]:
                found.append(f"{where} is below the {other}")
        number = int(result[5:]) if result[5:].isdigit() else 0
        above = by_place.get((code, dims, scan, f"level{number - 1}"))
        if above is None or is_exact(above["psnr"]):
            continue
        if is_exact(row["psnr"]) or row["psnr"] > above["psnr"]:
            found.append(f"{where} keeps more than {above['result']}")
    return found


def noise_of(volume: Volume, rates: dict[str, float]) -> Row:
    """A scan's noise, and the bound that it sets for each rate."""
    low, high = intensity_range(volume.values, volume.units)
    values = np.clip(volume.values, low, high) if volume.units == "HU" else volume.values
    noise = estimate_noise(values)
    bounds = {name: noise.bound(high - low, rate) for name, rate in rates.items() if rate < 1}
    place = {"scan": volume.name, "modality": volume.modality, "units": volume.units}
    return {**place, **asdict(noise), "peak": high - low, "bounds": bounds}


def open_peer(run: Path, device: str) -> tuple[MaisiLike, Row]:
    """What train_autoencoderkl.py left in a folder."""
    facts: Row = json.loads((run / "autoencoderkl.json").read_text("utf-8"))
    return MaisiLike.trained(facts["channels"], facts["dims"], run / "model.pt", device), facts


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_scan_options(made, HELD_OUT)
    made.add_argument(
        "--only", nargs="+", metavar="PATTERN", help="measure these of the held-out scans alone"
    )
    made.add_argument(
        "--output", type=Path, default=HERE / "results" / "quality", help="folder, made if missing"
    )
    made.add_argument("--bundles", nargs="+", default=["volume_autoencoder", "slice_autoencoder"])
    made.add_argument("--codes", nargs="*", default=["volume_transform_code", "slice_transform_code"])
    add_weights_option(made)
    made.add_argument(
        "--twin",
        nargs="+",
        default=[],
        metavar="BUNDLE=FILE",
        help="weights trained with the pixel term alone",
    )
    made.add_argument(
        "--judge", type=Path, metavar="FILE", help="deepbet's weights, for the perceptual distance"
    )
    made.add_argument("--subsets", nargs="*", default=[], help="joined levels to measure too: level3+level4")
    made.add_argument(
        "--autoencoderkl", type=Path, nargs="+", default=[], metavar="RUN", help="of train_autoencoderkl.py"
    )
    made.add_argument("--no-klt", action="store_true", help="fit no KLT: the training scans are not read")
    made.add_argument("--bits", nargs="*", default=["level4", "level5"], help="levels set beside codecs")
    made.add_argument("--codec-slices", type=int, default=1000, help="that codecs are run on, evenly spread")
    made.add_argument("--worst", default="level4", help="the level whose worst places are drawn")
    made.add_argument("--no-throughput", action="store_true", help="for a machine that is busy")
    made.add_argument("--seconds", type=float, default=3.0, help="for each figure of the throughput")
    made.add_argument("--side", type=int, default=128, help="of the block of voxels of the throughput")
    made.add_argument("--unstated", default="MR", help="modality of files that do not say theirs")
    made.add_argument("--device", default="cpu")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write tables, figures and pictures."""
    args = parser().parse_args(argv)
    scans, refused = pick_scans(args.scans, args.held_out, args.hu)
    if args.only:
        scans = [scan for scan in scans if matches(scan.path.name, args.only)]
        refused = [e for e in refused if e.path and matches(e.path.name, args.only)]
    refusals = [f"{error.path.name if error.path else ''}: {error.message}" for error in refused]
    networks: Networks = {
        Path(name).name: open_network(name, args.weights, args.device) for name in args.bundles
    }
    codes = [open_network(name, device=args.device) for name in args.codes]
    named = {name.partition("=")[0] for name in args.twin}
    twins = {
        Path(name).name: open_network(name, args.twin, args.device)[0]
        for name in args.bundles
        if Path(name).name in named
    }
    levels = {x.name: x.values_per_voxel for network, _ in networks.values() for x in network.layers()}
    trained = [open_peer(run, args.device) for run in args.autoencoderkl]
    peers = {peer.dims: peer for peer, _ in trained}
    fitted_on: list[str] = []
    klts: dict[int, KLT] = {}
    if not args.no_klt:
        fitted_on, images = training_images(args.scans, args.held_out, args.hu)
        dims = {len(network.layers()[0].stride) for network, _ in networks.values()}
        klts = {d: KLT(d, images) for d in sorted(dims)} if images else {}
        del images
    by_dims = {len(network.layers()[0].stride): (network, inferer) for network, inferer in codes}
    judge = Judge(args.judge, args.device) if args.judge else None
    contest = Contest(networks, twins, by_dims, klts, peers, judge)
    content: dict[str, Any] = {
        "machine": describe(),
        "held_out": args.held_out,
        "crop": args.crop,
        "weights": args.weights,
        "klt_fitted_on": fitted_on,
        "autoencoderkl": [facts for _, facts in trained],
        "rates": levels,
        "rows": [],
        "bits": [],
        "noise": [],
        "refused": refusals,
    }
    args.output.mkdir(parents=True, exist_ok=True)
    places: dict[str, list[Place]] = {bundle: [] for bundle in networks}
    for scan in scans:
        start = time.perf_counter()
        try:
            volume = load(scan, args.crop, args.unstated)
        except MedreconError as error:
            refusals.append(f"{scan.path.name}: {error.message}")
            continue
        for row, recon in measure(volume, contest, args.subsets):
            content["rows"].append(row)
            if row["code"] == OURS and row["result"] == args.worst:
                data_range = tuple(row["data_range"])
                width = data_range[1] - data_range[0]
                places[row["bundle"]].append(find_worst(volume, recon, row["dims"], width, data_range))
        content["bits"] += measure_bits(volume, networks, args.bits, args.codec_slices) if args.bits else []
        content["noise"].append(noise_of(volume, levels))
        print(f"{volume.name}: {time.perf_counter() - start:.0f} s", flush=True)
        write_json(args.output / "quality.json", content)  # what is there, if the rest is cut short
    if not content["rows"]:
        raise SystemExit(f"no scan of {args.scans} can be measured: " + "; ".join(refusals))
    if not args.no_throughput:
        rates, speeds = throughput.measure(args.bundles, args.seconds, args.side, device=args.device)
        content |= {"ceilings": rates, "throughput": speeds}
    content["flags"] = flags(content["rows"])
    content["worst"] = []
    for bundle, found in places.items():
        if found:
            title = f"{bundle}, {args.worst}: where the error of each scan is largest"
            draw(found, title, args.output / f"worst_{bundle}_{args.worst}.png")
        content["worst"] += [{"bundle": bundle, **place.facts()} for place in found]
    text = document(content)
    (args.output / "quality.md").write_text(text, encoding="utf-8")
    print(text)
    write_json(args.output / "quality.json", content)


if __name__ == "__main__":
    main()
