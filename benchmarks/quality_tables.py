"""The tables of quality.py, in Markdown, from its figures alone."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from common import decibels, is_exact, markdown
from scoring import BANDS
from throughput import PEER
from throughput import table as throughput_table

from medrecon.reconstructor import INPUT

OURS, TWIN, START = "medrecon", "pixels alone", "linear start"
DCT, KLT_NAME, ADAPTIVE, CODE = "DCT", "KLT", "adaptive linear code", "transform code"
Row = dict[str, Any]


def find(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    """The rows with these values."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def mean_psnr(rows: Sequence[Row]) -> str:
    """Mean and least PSNR; "exact" where all are, ">" where some are."""
    finite = [row["psnr"] for row in rows if not is_exact(row["psnr"])]
    if not finite:
        return "exact"
    more = "> " if len(finite) < len(rows) else ""
    return f"{more}{statistics.mean(finite):.1f} ({min(finite):.1f})"


def means(rows: Sequence[Row]) -> str:
    """Every code at every rate: its means over the scans of each modality."""
    modalities = sorted({row["modality"] for row in rows})
    head = ["code", "dims", "level", "values per voxel", "measured"]
    for name in modalities:
        mae = "MAE HU" if name == "CT" else "MAE % of range"
        head += [f"{name} PSNR dB (least)", f"{name} SSIM", f"{name} MS-SSIM", f"{name} {mae}"]
        head.append(f"{name} perceptual")
    lines = []
    kinds = dict.fromkeys((row["dims"], row["code"], row["result"]) for row in rows)
    for dims, code, result in sorted(kinds, key=lambda kind: (-kind[0], kind[2], _order(kind[1]))):
        ours = find(rows, dims=dims, code=code, result=result)
        rate, spent = ours[0]["values_per_voxel"], [row["measured"] for row in ours if "measured" in row]
        line = [code, f"{dims}D", result, "" if rate is None else f"{rate:.4g}"]
        line.append(f"{statistics.mean(spent):.4f}" if spent else "")
        for name in modalities:
            some = find(ours, modality=name)
            if not some:
                line += [""] * 5
                continue
            error = "mae" if name == "CT" else "mae_percent"
            line.append(mean_psnr(some))
            line += [f"{statistics.mean(row[key] for row in some):.4f}" for key in ("ssim", "ms_ssim")]
            line.append(f"{statistics.mean(row[error] for row in some):.2f}")
            seen = [row["perceptual"] for row in some if "perceptual" in row]
            line.append(f"{statistics.mean(seen):.4f}" if seen else "")
        lines.append(line)
    return markdown(head, lines)


def _order(code: str) -> int:
    return (OURS, TWIN, START, CODE, ADAPTIVE, KLT_NAME, DCT, PEER).index(code)


def scan_by_scan(rows: Sequence[Row], noise: Sequence[Row], level: str) -> str:
    """One level: PSNR of every code, a line for each scan, and the noise bound."""
    some = find(rows, result=level)
    kinds = dict.fromkeys((row["dims"], row["code"]) for row in some)
    kinds = dict.fromkeys(sorted(kinds, key=lambda kind: (-kind[0], _order(kind[1]))))
    head = ["scan", "", *(f"{dims}D {code}" for dims, code in kinds), "noise bound"]
    lines = []
    columns: dict[Any, list[float | None]] = {kind: [] for kind in kinds}
    for scan in dict.fromkeys(row["scan"] for row in some):
        ours = find(some, scan=scan)
        line = [scan, ours[0]["modality"]]
        for dims, code in kinds:
            (row,) = find(ours, dims=dims, code=code)
            columns[dims, code].append(row["psnr"])
            line.append(decibels(row["psnr"]))
        bound = find(noise, scan=scan)[0]["bounds"].get(level)
        line.append("none" if bound is None or bound == float("inf") else f"{bound:.1f}")
        lines.append(line)
    last = ["mean", ""]
    for values in columns.values():
        finite = [v for v in values if v is not None and not is_exact(v)]
        last.append(f"{statistics.mean(finite):.1f}" if len(finite) == len(values) else "")
    return markdown(head, [*lines, [*last, ""]])


def gains(rows: Sequence[Row], level: str, dims: int, other: str) -> list[float]:
    """PSNR of a level less that of another code, on each scan where neither is exact.

    Of the code in 3D, where there is none of these dimensions.
    """
    found = []
    for row in find(rows, code=OURS, result=level, dims=dims):
        there = find(rows, code=other, result=level, scan=row["scan"])
        there = find(there, dims=dims) or find(there, dims=3)
        if there and not is_exact(row["psnr"]) and not is_exact(there[0]["psnr"]):
            found.append(row["psnr"] - there[0]["psnr"])
    return found


def ratios(rows: Sequence[Row], level: str, dims: int) -> list[float]:
    """Perceptual distance of a level over that of its twin, on each scan."""
    found = []
    for row in find(rows, code=OURS, result=level, dims=dims):
        there = find(rows, code=TWIN, result=level, dims=dims, scan=row["scan"])
        if there and "perceptual" in row:
            found.append(row["perceptual"] / there[0]["perceptual"])
    return found


def frequency_table(rows: Sequence[Row]) -> str:
    """Share of the source's power that is lost in each band of spatial frequency, means over the scans."""
    bands = [f"{low:.3g} to {high:.3g}" for low, high in itertools.pairwise(BANDS)]
    lines = []
    for dims in sorted({row["dims"] for row in rows}, reverse=True):
        for code in (OURS, START, DCT, CODE):
            some = [row for row in find(rows, dims=dims, code=code) if row["result"] != INPUT]
            for result in dict.fromkeys(row["result"] for row in some):
                lost = zip(*(row["by_frequency"] for row in find(some, result=result)), strict=True)
                lines.append([code, f"{dims}D", result, *(f"{statistics.mean(band):.3f}" for band in lost)])
    return markdown(["code", "dims", "level", *bands], lines)


def bits_table(bits: Sequence[Row]) -> str:
    """Each level at 8 bits, and the codecs at its rate."""
    codecs = list(bits[0]["codecs"]) if bits else []
    head = ["scan", "level", "bundle", "bits per voxel", "PSNR dB", "at 8 bits"]
    head += [*codecs, *(f"bits {name} needs for it" for name in codecs)]
    lines = []
    for row in sorted(bits, key=lambda row: (row["level"], row["bundle"], row["scan"])):
        line = [row["scan"], row["level"], row["bundle"], f"{row['bits_per_voxel']:.3f}"]
        line += [decibels(row["psnr"]), decibels(row["psnr_8_bits"])]
        there = [row["codecs"][name] for name in codecs]
        line += ["out of reach" if value is None else f"{value:.1f}" for value in there]
        needs = [row["codec_bits_for_our_psnr"][name] for name in codecs]
        line += ["out of reach" if value is None else f"{value:.3f}" for value in needs]
        lines.append(line)
    return markdown(head, lines)


def noise_table(noise: Sequence[Row]) -> str:
    """Noise and bounds of each scan."""
    levels = list(noise[0]["bounds"]) if noise else []
    head = ["scan", "sigma", "% of range", "noisy voxels", *(f"{level} dB" for level in levels)]
    lines = []
    for row in noise:
        line = [row["scan"], f"{row['sigma']:.3g} {row['units']}", f"{100 * row['sigma'] / row['peak']:.2f}"]
        line.append(f"{row['share']:.0%}")
        bounds = [row["bounds"][level] for level in levels]
        line += ["none" if value == float("inf") else f"{value:.1f}" for value in bounds]
        lines.append(line)
    return markdown(head, lines)


def aims(content: dict[str, Any]) -> str:
    """What the project set out to reach, and what it reached."""
    rows, bits, lines = content["rows"], content["bits"], []

    def line(what: str, aim: str, values: Sequence[float], form: Callable[[float], str]) -> None:
        if values:
            lines.append([what, aim, form(statistics.mean(values)), form(min(values))])

    def gain(value: float) -> str:
        return f"{value:+.2f} dB"

    for dims in sorted({row["dims"] for row in rows}, reverse=True):
        for level, aim in (("level4", "+1.5 dB mean, 0 dB each"), ("level5", "+2 dB mean")):
            name = f"{dims}D {level} over"
            line(f"{name} DCT", aim, gains(rows, level, dims, DCT), gain)
            for other in (KLT_NAME, ADAPTIVE, CODE, START, TWIN):
                aim = "-1 dB mean" if other == TWIN else ""
                line(f"{name} {other}", aim, gains(rows, level, dims, other), gain)
            near = ratios(rows, level, dims)
            line(f"{dims}D {level}, perceptual distance, of {TWIN}", "0.75", near, "{:.2f}".format)
        line(f"{dims}D level4 over {PEER}", "+3 dB mean", gains(rows, "level4", dims, PEER), gain)
        exact = find(rows, code=OURS, result="level1", dims=dims)
        if exact:
            lines.append([f"{dims}D level1", "55 dB", mean_psnr(exact), ""])
    for bundle in dict.fromkeys(row["bundle"] for row in bits):
        for level in dict.fromkeys(row["level"] for row in bits):
            for codec in bits[0]["codecs"]:
                ours = find(bits, bundle=bundle, level=level)
                over = [
                    row["psnr_8_bits"] - row["codecs"][codec]
                    for row in ours
                    if row["codecs"][codec] is not None
                ]
                aim = "0 dB" if (level, codec) == ("level4", "JPEG 2000") else ""
                line(f"{bundle} {level} at 8 bits over {codec}, {len(over)} scans", aim, over, gain)
    for row in content.get("throughput", []):
        if row["level"] == "level4":
            what = f"{row['bundle']} {row['level']} {row['precision']}"
            times, share = f"{row['times_autoencoderkl']:.0f}", row["share_of_matmul"]
            lines.append([f"{what}: times {PEER}'s speed", "50 on CPU, 10 on GPU", times, ""])
            if share is not None:
                lines.append([f"{what}: share of matrix multiply", "60 %", f"{share:.0%}", ""])
    return markdown(["", "aim", "mean", "least"], lines)


def document(content: dict[str, Any]) -> str:
    """Everything as one page."""
    rows, noise = content["rows"], content["noise"]
    machine = content["machine"]
    parts = ["# Quality of each level", f"{machine['cpu']}, torch {machine['torch']}, {machine['date']}."]
    parts.append(f"Held out from training: {', '.join(row['scan'] for row in noise)}.")
    if content["crop"]:
        parts.append(f"Only the middle {content['crop']} voxels of each scan.")
    if content["klt_fitted_on"]:
        parts.append(f"The KLT is fitted on {', '.join(content['klt_fitted_on'])}.")
    for facts in content["autoencoderkl"]:
        channels = ", ".join(map(str, facts["channels"]))
        how = f"channels {channels}, trained for {facts['minutes']:.0f} minutes, {facts['steps']} steps"
        threads = f"{facts['machine']['threads']} threads of {facts['machine']['cpu']}"
        parts.append(f"{PEER} in {facts['dims']}D: {how}, on {facts['machine']['gpu'] or threads}.")
    parts += ["## Aims", aims(content), "## Means over the scans", means(rows)]
    for level in [name for name, rate in content["rates"].items() if rate < 1]:
        parts += [f"## {level}, scan by scan: PSNR in dB", scan_by_scan(rows, noise, level)]
    parts += ["## Error by spatial frequency, cycles per voxel", frequency_table(rows)]
    parts.append("Power of the error over that of the source: 0 kept, 1 as bad as leaving the band out.")
    if content["bits"]:
        slices = max(row["slices"] for row in content["bits"])
        parts += ["## At the same bits per voxel", bits_table(content["bits"])]
        parts.append(
            f"PSNR in dB over the slices that codecs were run on, {slices} of a scan at most. At our rate "
            "the codecs' headers are given to them for nothing; in the bits that they need, they count."
        )
    parts += ["## Noise", noise_table(noise)]
    parts.append(
        "sigma: median of the finest diagonal Haar coefficients over 0.6745 (Donoho and Johnstone 1994), "
        "flat places left out. Bound: peak^2 / (sigma^2 (s - r)), s the share of noisy voxels, r the values "
        "per voxel: beyond it values must be spent on noise. Where neighbours share their noise (resampled "
        "scans, soft kernels) sigma is too low and the bound too high; where fine structure fills the image, "
        "or noise varies over it, the bound can be too low."
    )
    if content.get("throughput"):
        parts += ["## Throughput", throughput_table(content["throughput"])]
    flagged = content["flags"]
    parts += ["## To be explained", "- " + "\n- ".join(flagged) if flagged else "Nothing."]
    if content["refused"]:
        parts += ["## Refused", "- " + "\n- ".join(content["refused"])]
    return "\n\n".join(parts) + "\n"
