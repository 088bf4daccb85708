"""Time to write a scan: ours beside raw bytes, SimpleITK and nibabel, in turn, in one run.

    python benchmarks/writing.py [--slices 200] [--rounds 5] [--folder FOLDER]

About a minute. The CT is made here (512 x 512, int16, noisy). Ours includes what the others leave out: the
source's headers are read, the files flushed to the disk, read back, compared and hashed. "ours, bare" is the
DICOM writer without that, to compare what is alike.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medrecon.io import Derivation, DicomSeriesWriter, NiftiWriter, Scan, find_one
from medrecon.io.dicom.writing.instance import derived_file
from medrecon.io.dicom.writing.source import source_slices

LEVEL3 = Derivation("benchmark", "0", "ab" * 32, "level3", lossy=True, values_per_voxel=1 / 16)


def make_ct(folder: Path, slices: int) -> np.ndarray:
    """Write the source series; returns its HU, (X, Y, Z) int16."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(-1, 1, 512), np.linspace(-1, 1, 512), indexing="ij")
    body = np.where(x**2 / 0.7 + y**2 / 0.5 < 1, 40.0, -1000.0)
    volume = (body[:, :, None] + rng.normal(0, 20, (512, 512, slices))).clip(-1024, 3071).astype(np.int16)
    folder.mkdir()
    image = Dataset()
    image.SOPClassUID = CTImageStorage
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(image, name, generate_uid())
    image.Modality, image.PatientName, image.PatientID, image.KVP = "CT", "Bench", "1", "120"
    image.ImageType, image.SeriesNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], "1"
    image.ImageOrientationPatient, image.PixelSpacing, image.SliceThickness = (
        [1, 0, 0, 0, 1, 0],
        [0.7, 0.7],
        "1",
    )
    image.Rows = image.Columns = 512
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 1
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.RescaleIntercept, image.RescaleSlope = "0", "1"
    for index in range(slices):
        image.SOPInstanceUID, image.InstanceNumber = generate_uid(), index + 1
        image.ImagePositionPatient = [0, 0, index]
        image.PixelData = np.ascontiguousarray(volume[:, :, index].T).tobytes()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.save_as(folder / f"{index:04d}.dcm", enforce_file_format=True)
    return volume


def raw(volume: np.ndarray, path: Path) -> None:
    """One file of pixels a slice: the least that a series can cost."""
    path.mkdir()
    slices = np.ascontiguousarray(volume.transpose(2, 1, 0))
    for index, pixels in enumerate(slices):
        (path / f"{index:04d}").write_bytes(pixels.tobytes())


def sitk_slices(volume: np.ndarray, path: Path) -> None:
    """SimpleITK's documented way to a series: a file a slice, with few tags."""
    path.mkdir()
    slices = np.ascontiguousarray(volume.transpose(2, 1, 0))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index, pixels in enumerate(slices):
        image = sitk.GetImageFromArray(pixels)
        image.SetMetaData("0008|0060", "CT")
        image.SetMetaData("0020|0032", f"0\\0\\{index}")
        image.SetMetaData("0020|0013", str(index + 1))
        writer.SetFileName(str(path / f"{index:04d}.dcm"))
        writer.Execute(image)


def sitk_copy(volume: np.ndarray, path: Path, scan: Scan) -> None:
    """SimpleITK with all attributes of the source copied, as a derived series needs."""
    path.mkdir()
    slices = np.ascontiguousarray(volume.transpose(2, 1, 0))
    reader, writer = sitk.ImageFileReader(), sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index, (file, pixels) in enumerate(zip(scan.files, slices, strict=True)):
        reader.SetFileName(str(file))
        reader.ReadImageInformation()
        image = sitk.GetImageFromArray(pixels)
        for key in reader.GetMetaDataKeys():
            image.SetMetaData(key, reader.GetMetaData(key))
        image.SetMetaData("0020|000e", f"1.2.3.{index // slices.shape[0]}")
        image.SetMetaData("0008|0018", f"1.2.3.4.{index}")
        writer.SetFileName(str(path / f"{index:04d}.dcm"))
        writer.Execute(image)


def bare(volume: np.ndarray, path: Path, scan: Scan) -> None:
    """Our writer's files, without flushing, reading back and hashing."""
    writer = DicomSeriesWriter(LEVEL3)
    plan, slices = writer._plan(scan, volume)
    path.mkdir()
    for index, source in enumerate(slices):
        with (path / f"{index:04d}.dcm").open("wb") as file:
            for part in derived_file(source, index, plan):
                file.write(part)


def ours(volume: np.ndarray, path: Path, scan: Scan) -> None:
    """A derived series or a NIfTI file, with all that is promised."""
    writer = NiftiWriter(LEVEL3) if path.name.endswith((".nii", ".gz")) else DicomSeriesWriter(LEVEL3)
    writer.set_data_array(volume, channel_dim=None)
    writer.set_scan(scan)
    writer.write(path)


def nibabel_save(volume: np.ndarray, path: Path, scan: Scan) -> None:
    """nibabel as one uses it."""
    nib.save(nib.Nifti1Image(volume, scan.affine), path)


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write (a folder on the disk to measure)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        work = Path(name)
        volume = make_ct(work / "source", options.slices)
        scan = find_one(work / "source")
        real = volume.astype(np.float32)
        jobs: dict[str, Callable[[Path], None]] = {
            "DICOM: raw bytes": lambda path: raw(volume, path),
            "DICOM: ours, bare": lambda path: bare(volume, path, scan),
            "DICOM: ours": lambda path: ours(volume, path, scan),
            "DICOM: ours from float32": lambda path: ours(real, path, scan),
            "DICOM: SimpleITK, 3 tags": lambda path: sitk_slices(volume, path),
            "DICOM: SimpleITK, all tags": lambda path: sitk_copy(volume, path, scan),
            "headers of the source": lambda path: (source_slices(scan), None)[1],
            ".nii.gz: ours": lambda path: ours(volume, path.with_suffix(".nii.gz"), scan),
            ".nii.gz: nibabel": lambda path: nibabel_save(volume, path.with_suffix(".nii.gz"), scan),
            ".nii: ours": lambda path: ours(volume, path.with_suffix(".nii"), scan),
            ".nii: nibabel": lambda path: nibabel_save(volume, path.with_suffix(".nii"), scan),
        }
        seconds: dict[str, list[float]] = {job: [] for job in jobs}
        for number in range(options.rounds + 1):
            for job, run in jobs.items():
                folder = work / "out"
                folder.mkdir()
                start = time.perf_counter()
                run(folder / "out")
                taken = time.perf_counter() - start
                if number:  # the first round warms up
                    seconds[job].append(taken)
                shutil.rmtree(folder)
    rows = {job: statistics.median(times) for job, times in seconds.items()}
    print(f"{options.slices} x 512 x 512 int16, median of {options.rounds} rounds")
    for job, median in rows.items():
        base = (
            rows["DICOM: raw bytes" if job.startswith("DICOM") else f"{job.split(':')[0]}: nibabel"]
            if ":" in job
            else median
        )
        print(f"{job:28s} {median:7.3f} s  {min(seconds[job]):7.3f} min  {median / base:6.2f} x")


if __name__ == "__main__":
    main()
