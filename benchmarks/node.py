"""Studies an hour through `medrecon serve`, beside the network's own time, and the node's memory meanwhile.

    python benchmarks/node.py http://127.0.0.1:8042/dicom-web      # an empty PACS that takes STOW-RS

CT phantoms are sent by C-STORE, one after the other; the derived series go to that PACS. It needs
medrecon[pacs].
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from common import PYTHON, markdown, parser_for, write_json

_EVERY = 0.5  # seconds
_SLICE_MM = 2.0


def write_study(folder: Path, size: Sequence[int], seed: int) -> list[Path]:
    """A CT phantom as a DICOM series of a study of its own."""
    import numpy as np
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    from medrecon.phantoms import random_volume

    volume, _ = random_volume((size[0], size[1], size[2]), np.random.default_rng(seed), "CT")
    hu = np.asarray(volume).round().astype(np.int16)
    study, series, frame = (generate_uid(entropy_srcs=["medrecon", str(seed), name]) for name in "abc")
    folder.mkdir(parents=True)
    paths = []
    for index in range(size[2]):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
        ds.SOPInstanceUID = generate_uid(entropy_srcs=["medrecon", str(seed), str(index)])
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.PatientName, ds.PatientID, ds.Modality, ds.SeriesNumber = "Phantom", str(seed), "CT", 1
        ds.ImageType, ds.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], index + 1
        ds.ImageOrientationPatient, ds.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 1]
        ds.ImagePositionPatient, ds.SliceThickness = [0, 0, _SLICE_MM * index], _SLICE_MM
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "HU"
        ds.Rows, ds.Columns, ds.SamplesPerPixel = size[1], size[0], 1
        ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME2", 1
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit, ds.PixelData = 15, hu[..., index].T.tobytes()
        paths.append(folder / f"{index:04d}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def metric(text: str, name: str) -> float:
    """The value of a line of /metrics."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def metrics(port: int) -> str:
    """What the node says; "" while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return ""


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def settings(folder: Path, destination: str, layers: str, bundle: str) -> tuple[list[str], int, int]:
    """The files of a node; the command that starts it, its DICOM port and its HTTP port."""
    dicom, http = free_port(), free_port()
    (folder / "node.toml").write_text(
        f'[node]\ncalling_aets = ["BENCH"]\ndicom_port = {dicom}\nhttp_port = {http}\nmin_free_gib = 0.5\n'
        f'stable_seconds = 1\nkeep_hours = 0.0\n[[rule]]\nmodality = "CT"\nlayers = "{layers}"\n'
        f'bundle = "{bundle}"\ndestination = "there"\n'
    )
    (folder / "pacs.toml").write_text(f'[there]\nurl = "{destination}"\ntimeout = 60\n')
    words = ["serve", "node.toml", "spool", "--pacs", "pacs.toml", "--device", "cpu", "-q"]
    return [*PYTHON, "-m", "medrecon", *words], dicom, http


def send(node: Any, study: list[Path]) -> int:
    """As a scanner does: what is not acknowledged is sent again. How often the connection broke."""
    from medrecon.pacs import ArchiveError, connect

    left, broken = list(study), 0
    while left:
        try:
            with connect(node) as archive:
                for path, why in archive.store(list(left)):
                    if why:
                        raise SystemExit(f"the node refuses: {why}")
                    left.remove(path)
        except ArchiveError:
            broken += 1
            time.sleep(_EVERY)
    return broken


def through(folder: Path, options: Any) -> dict[str, Any]:
    """Send the studies, and watch the node until all are done."""
    from medrecon.pacs import Node

    command, dicom, http = settings(folder, options.destination, options.layers, options.bundle)
    process = subprocess.Popen(command, cwd=folder)
    try:
        while not metrics(http):
            if process.poll() is not None:
                raise SystemExit(process.returncode)
            time.sleep(_EVERY)
        node = Node("node", host="127.0.0.1", port=dicom, aet="MEDRECON", calling_aet="BENCH", timeout=60)
        memory, sent, broken = [], 0, 0
        begun, text = time.monotonic(), metrics(http)
        while metric(text, 'medrecon_series{state="done"}') < options.studies:
            if sent < options.studies and sent < metric(text, 'medrecon_jobs_total{outcome="done"}') + 4:
                broken += send(node, write_study(folder / "studies" / str(sent), options.size, sent))
                sent += 1
            memory.append(psutil.Process(process.pid).memory_info().rss / 2**20)
            time.sleep(_EVERY)
            text = metrics(http)
        seconds = time.monotonic() - begun
    finally:
        process.terminate()
        process.wait()
    quarters = [memory[k * len(memory) // 4 : (k + 1) * len(memory) // 4] for k in range(4)]
    return {
        "studies": options.studies,
        "studies an hour": round(3600 * options.studies / seconds),
        "seconds a study": round(seconds / options.studies, 2),
        "of that the job, sending included": round(
            metric(text, "medrecon_job_seconds_total") / options.studies, 2
        ),
        "of that the network alone": round(
            metric(text, "medrecon_network_seconds_total") / options.studies, 2
        ),
        "connections that broke": broken,
        "most MiB in each quarter": [round(max(quarter)) for quarter in quarters if quarter],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table, and write it as JSON."""
    parser = parser_for(__doc__ or "", "node")
    parser.add_argument(
        "destination", help="address of an empty PACS, with its root: http://HOST:PORT/dicom-web"
    )
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--size", type=int, nargs=3, default=(128, 128, 32), metavar=("X", "Y", "Z"))
    parser.add_argument("--layers", default="level4")
    parser.add_argument("--bundle", default="volume_transform_code")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        found = through(Path(folder), options)
    print(f"\nload {os.getloadavg()[0]:.1f}\n")
    print(markdown(("", "found"), found.items()))
    write_json(options.json, {"size": list(options.size), "bundle": options.bundle, **found})


if __name__ == "__main__":
    main()
