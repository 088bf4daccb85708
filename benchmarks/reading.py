"""Time the reading of a 200-slice 512 x 512 CT series: medrecon beside MONAI's ITKReader and SimpleITK.

    python benchmarks/reading.py            # 7 rounds, about two minutes
    python benchmarks/reading.py --rounds 3 --slices 100

The readers take turns in each round, so that a busy machine slows all of them alike; the ratios of the
medians are the result. Aim: medrecon at most 1/6 of MONAI's LoadImage and 1/2 of SimpleITK. The series is
made here: uncompressed explicit little endian, 12 bits in 16, noise, in page cache after the first round.
MONAI's ITKReader needs `pip install itk`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from monai.transforms import LoadImage
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medrecon.io import ScanReader, find_one, read_scan


def write_series(folder: Path, slices: int, side: int = 512) -> None:
    """A CT series of noise, with the attributes that a scanner writes."""
    rng = np.random.default_rng(0)
    study, series, frame = (generate_uid(entropy_srcs=[name]) for name in ("study", "series", "frame"))
    for k in range(slices):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[f"slice{k}"])
        ds.ImageType, ds.Modality = ["ORIGINAL", "PRIMARY", "AXIAL"], "CT"
        ds.PatientName, ds.PatientID = "Bench^Mark", "0"
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.SeriesNumber, ds.InstanceNumber, ds.KVP = 1, k + 1, 120
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [-180, -180, 1.5 * k], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness = [0.7, 0.7], 1.5
        ds.Rows = ds.Columns = side
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = -1024, 1, "HU"
        ds.add_new(0x00091001, "OB", bytes(4096))  # a private block, as scanners have them
        ds.PixelData = rng.integers(0, 4096, (side, side), np.uint16).tobytes()
        pydicom.dcmwrite(folder / f"IM{k:04d}.dcm", ds, enforce_file_format=True)


def with_simpleitk(folder: Path) -> np.ndarray:
    """SimpleITK's series reader with GDCM's sorting."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.GetArrayFromImage(reader.Execute())


def main() -> None:
    """Run the rounds and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--slices", type=int, default=200)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_series(folder, args.slices)
        readers: dict[str, Callable[[], object]] = {
            "raw bytes": lambda: [p.read_bytes() for p in sorted(folder.iterdir())],
            "medrecon find_one + read_scan": lambda: read_scan(find_one(folder)),
            "medrecon LoadImage(ScanReader)": lambda: LoadImage(reader=ScanReader())(folder),
            "medrecon LoadImage(ScanReader), dtype=None": lambda: LoadImage(reader=ScanReader(), dtype=None)(
                folder
            ),
            "SimpleITK series reader": lambda: with_simpleitk(folder),
            "MONAI LoadImage(ITKReader)": lambda: LoadImage(reader="ITKReader")(folder),
        }
        seconds: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(args.rounds + 1):
            for name, read in readers.items():
                start = time.perf_counter()
                read()
                seconds[name].append(time.perf_counter() - start)
    middle = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    print(f"{args.slices} x 512 x 512, {args.rounds} rounds after one to warm up")
    print(f"{'reader':46s} {'median s':>9s} {'min s':>7s} {'of MONAI':>9s} {'of SimpleITK':>13s}")
    for name, value in middle.items():
        of_monai = value / middle["MONAI LoadImage(ITKReader)"]
        of_sitk = value / middle["SimpleITK series reader"]
        print(f"{name:46s} {value:9.3f} {min(seconds[name][1:]):7.3f} {of_monai:9.3f} {of_sitk:13.3f}")


if __name__ == "__main__":
    main()
