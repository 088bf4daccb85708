"""Every benchmark in turn, and one page of what they found.

    python benchmarks/everything.py SCANS SCAN --output OUT      # hours; README.md has the time of each
    python benchmarks/everything.py SCANS SCAN --only machine throughput --output OUT

SCANS is the folder of scans, SCAN one large CT of it. Each benchmark is a process of its own;
OUT gets its tables (NAME.txt), its figures (NAME.json) and `summary.md`. One that fails does not stop the
others. The same command again skips those that are done (--again repeats them).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from common import HERE, markdown
from plots import draw


def plan(scans: Path, scan: Path, output: Path, minutes: float) -> dict[str, list[str]]:
    """Name -> the words after `python`, in the order in which they run."""
    peers = {dims: str(output / f"autoencoderkl_{dims}") for dims in ("volume", "slice")}
    made = {
        "machine": ["machine.py"],
        "throughput": ["throughput.py"],
        "scaling": ["scaling.py"],
        "reading": ["reading.py"],
        "writing": ["writing.py"],
        "whole_path": ["whole_path.py", str(scan)],
        "cohort": ["cohort.py"],
        "soak": ["soak.py"],
        "baselines": ["baselines.py", str(scans)],
        "subset_vs_single": ["subset_vs_single.py", str(scans)],
        "training_data": ["training_data.py", str(scans)],
    }
    train = ["train_autoencoderkl.py", str(scans), "--minutes", str(minutes)]
    apart = {
        f"train_autoencoderkl_{dims}": [*train, peer, "--bundle", f"{dims}_autoencoder"]
        for dims, peer in peers.items()
    }
    apart["quality"] = ["quality.py", str(scans), "--autoencoderkl", *peers.values()]
    apart["quality"] += ["--output", str(output / "quality")]
    for name, words in made.items():
        if name not in ("reading", "writing"):
            words += ["--json", str(output / f"{name}.json")]
    return made | apart


def main(argv: Sequence[str] | None = None) -> None:
    """Run them, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scans", type=Path, help="folder of scans, searched to the bottom")
    parser.add_argument("scan", type=Path, help="one CT, a DICOM series")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these benchmarks")
    parser.add_argument("--minutes", type=float, default=40, help="that AutoencoderKL is trained")
    parser.add_argument("--again", action="store_true", help="repeat what is done")
    args = parser.parse_args(argv)
    plans = plan(args.scans, args.scan, args.output, args.minutes)
    unknown = sorted(set(args.only or ()) - set(plans))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}: there are {', '.join(plans)}")
    args.output.mkdir(parents=True, exist_ok=True)
    ledger = args.output / "summary.json"
    done: dict[str, dict[str, float | int]] = json.loads(ledger.read_text()) if ledger.is_file() else {}
    for name in args.only or plans:
        if name in done and not done[name]["exit_code"] and not args.again:
            continue
        print(f"{name} ...", flush=True)
        start = time.perf_counter()
        with (args.output / f"{name}.txt").open("w", encoding="utf-8") as out:
            words = [sys.executable, "-W", "ignore", str(HERE / plans[name][0]), *plans[name][1:]]
            code = subprocess.run(words, stdout=out, stderr=subprocess.STDOUT, check=False).returncode
        done[name] = {"exit_code": code, "minutes": round((time.perf_counter() - start) / 60, 2)}
        ledger.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
    rows = [(name, each["exit_code"] or "done", f"{each['minutes']:.1f}") for name, each in done.items()]
    parts = ["# Benchmarks", markdown(("benchmark", "exit code", "minutes"), rows)]
    for name in done:
        text = (args.output / f"{name}.txt").read_text("utf-8").strip()
        parts.append(f"## {name}\n\n{text}")
    pictures = [f"![{path.stem}]({path.name})" for path in draw(args.output)]
    parts[2:2] = pictures
    (args.output / "summary.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"\n{parts[1]}\n\nwritten: {args.output / 'summary.md'}")
    if any(done[name]["exit_code"] for name in args.only or plans):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
