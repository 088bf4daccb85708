"""Write a derived DICOM series: one file a slice, made from the source's headers."""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from pydicom import Dataset

from medrecon.errors import OutputError
from medrecon.io.derivation import Derivation
from medrecon.io.dicom.writing.carried import attempt, whole
from medrecon.io.dicom.writing.instance import derived_file
from medrecon.io.dicom.writing.plan import SeriesPlan
from medrecon.io.dicom.writing.source import SourceSlice, is_padded, source_slices, stored_form
from medrecon.io.dicom.writing.stored_values import Encoded, encode
from medrecon.io.files.outputs import LOG, Written
from medrecon.io.files.publish import publish
from medrecon.io.find import find_one
from medrecon.io.geometry import RAS_FROM_LPS
from medrecon.io.read import read_scan
from medrecon.io.result_writer import ResultWriter
from medrecon.io.scan import Scan, ScanError

_WRITERS = 4  # files written, read back and hashed while the next are made
_MOVED = 0.25  # share of a voxel by which a slice may be off the grid before the grid counts as another one


class DicomSeriesWriter(ResultWriter):
    """Write a volume as a DICOM series derived from its source series.

    MONAI's writer interface: `set_data_array`, `set_metadata`, `write`. The source is found again from the
    metadata (`scan_of`), since attributes do not travel with a MetaTensor.

    Args:
        derivation: how the volume was made; None for a copy of the source's voxels.
        overwrite: replace a series that medrecon wrote before.
        result: name of the result, for the record.
        series_offset: added to a hundred times the source's SeriesNumber.
        synthetic: "YES" or "NO" for SyntheticData (0008,001C); "" leaves it out: what an institution counts
            as synthetic is its own decision.
    """

    def __init__(
        self,
        derivation: Derivation | None = None,
        overwrite: bool = False,
        result: str = "",
        series_offset: int = 1,
        synthetic: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(derivation, overwrite, result, **kwargs)
        self.series_offset, self.synthetic = series_offset, synthetic

    def write(self, filename: PathLike, verbose: bool = False, **kwargs: Any) -> Written:
        """Write the series into the folder `filename`, whole or not at all.

        Raises:
            OutputError: it exists, does not fit the disk, or does not read back as it was meant.
            ScanError: the source cannot be read any more.
        """
        path = Path(filename)
        volume, scan = self.taken(path)
        with publish(path, self.overwrite) as part, ThreadPoolExecutor(_WRITERS) as pool:
            plan, slices = self._plan(scan, volume, pool)
            part.mkdir()
            hashes: dict[str, str] = {}
            waiting: deque[tuple[str, Future[str]]] = deque()
            for index, source in enumerate(slices):
                file = part / f"IM{index + 1:05d}.dcm"
                parts = derived_file(source, index, plan)
                waiting.append((file.name, pool.submit(_write, file, *parts, path)))
                slices[index].header = Dataset()  # let go of it
                while len(waiting) > (_WRITERS if index + 1 < len(slices) else 0):
                    name, written = waiting.popleft()
                    hashes[name] = written.result()
            _check_geometry(part, scan, plan, path)
        said = _said(plan, slices, scan)
        for line in said:
            LOG.warning("%s: %s", path, line)
        return Written(
            path,
            scan.key,
            self.result,
            "dicom",
            _words(plan.encoded),
            plan.encoded.clipped,
            tuple(said),
            hashes,
        )

    def _plan(
        self, scan: Scan, volume: np.ndarray, pool: ThreadPoolExecutor
    ) -> tuple[SeriesPlan, list[SourceSlice]]:
        voxels = pool.submit(read_scan, scan) if is_padded(scan) else None
        slices = source_slices(scan)
        form = stored_form(scan)
        encoded = encode(volume, form, shift=scan.modality != "PT")
        first = slices[0].header
        plan = SeriesPlan(
            derivation=self.derivation,
            source_series=scan.series_uid,
            source_id=scan.series_uid or slices[0].uid or scan.key,
            volume="" if scan.volume is None else str(scan.volume),
            offset=self.series_offset,
            encoded=encoded,
            padding=None if voxels is None else _padding(first, voxels, encoded, form),
            geometry=_moved(slices, scan),
            synthetic=self.synthetic,
            photometric=str(first.get("PhotometricInterpretation", "MONOCHROME2")),
        )
        return plan, slices


def _write(file: Path, head: bytes, pixels: memoryview, final: Path) -> str:
    """Write one file, read it back and compare; returns its SHA-256.

    Raises:
        OutputError: the disk gives back something else.
    """
    with file.open("wb") as stream:
        stream.write(head)
        stream.write(pixels)
    data = memoryview(_read_back(file))
    if data[: len(head)] != head or data[len(head) :] != pixels:
        raise OutputError(
            f"{file.name} does not read back as it was written", path=final, remedy="check the disk"
        )
    return hashlib.sha256(data).hexdigest()


def _read_back(file: Path) -> bytes:
    return file.read_bytes()


def _check_geometry(part: Path, scan: Scan, plan: SeriesPlan, final: Path) -> None:
    """Find the written series as any reader would, and compare its grid with the source's.

    Raises:
        OutputError: it is not found, or stands elsewhere.
    """
    try:
        back = find_one(part, max_bytes=scan.options.max_bytes, accept=scan.options.accept)
    except ScanError as error:
        raise OutputError(
            f"the series cannot be read back ({error.message})", path=final, remedy="report it"
        ) from error
    limit = 1e-6 if plan.geometry is None else 1e-3
    if back.shape != scan.shape or np.abs(back.affine - scan.affine).max() > limit:
        raise OutputError("the series reads back with another grid", path=final, remedy="report it")


def _padding(first: Dataset, voxels: Future[np.ndarray], encoded: Encoded, form: Any) -> int | None:
    """PixelPaddingValue in the new stored units, if it is still just what the padded voxels hold."""
    value = whole(attempt(first, "PixelPaddingValue"))
    if value is None or len(set(form.slopes)) > 1 or len(set(form.intercepts)) > 1:
        return None
    low, high = form.limits
    if value > high and form.signed:  # an unsigned VR in a signed image
        value -= 1 << 16
    if not low <= value <= high:
        return None
    slope, intercept = float(form.slopes[0]), float(form.intercepts[0])
    physical = value * slope + intercept
    new = (physical - float(encoded.form.intercepts[0])) / float(encoded.form.slopes[0])
    if new != round(new) or not encoded.form.limits[0] <= new <= encoded.form.limits[1]:
        return None
    source = voxels.result().transpose(2, 1, 0)
    for before, after in zip(source, encoded.stored, strict=True):  # a slice at a time: float64 is large
        padded = np.rint((before - np.float64(intercept)) / slope) == value
        if not np.array_equal(padded, after == int(new)):
            return None
    return int(new)


def _moved(slices: list[SourceSlice], scan: Scan) -> np.ndarray | None:
    """The LPS affine where the scan's grid is not that of its headers (resampled, or made), else None."""
    affine = RAS_FROM_LPS @ scan.affine
    if scan.recipe.placed:
        return affine
    limit = _MOVED * min(scan.spacing)
    for index, source in enumerate(slices):
        place = attempt(source.header, "ImagePositionPatient")
        here = (affine @ [0, 0, index, 1])[:3]
        if not place or np.linalg.norm(np.array(place, float) - here) > limit:
            return affine
    first = next(iter(scan.recipe))
    return affine if (first.columns, first.rows) != scan.shape[:2] else None


def _words(encoded: Encoded) -> str:
    form = encoded.form
    slopes = sorted(set(form.slopes))
    slope = f"slope {slopes[0]:g}" if len(slopes) == 1 else f"slopes {slopes[0]:g} to {slopes[-1]:g}"
    kind = (
        f"{'int' if form.signed else 'uint'}16, {form.bits} bits, {slope}, intercept {form.intercepts[0]:g}"
    )
    return f"{kind} ({'as the source' if encoded.as_source else 'the values do not fit the source encoding'})"


def _said(plan: SeriesPlan, slices: list[SourceSlice], scan: Scan) -> list[str]:
    said = []
    if plan.encoded.clipped:
        said.append(f"{plan.encoded.clipped} of {plan.encoded.stored.size} voxels clipped to 16 bits")
    if plan.encoded.coarse:
        said.append(
            f"stored in steps of {plan.encoded.form.slopes[0]:g}: the values do not fit 16 bits otherwise"
        )
    if slices[0].frame:
        said.append(f"written as {len(slices)} single-frame images, the source is one enhanced object")
    if plan.replaced:
        said.append(f"the source has no {' and no '.join(sorted(plan.replaced))}: made anew")
    if plan.geometry is not None:
        said.append(
            "written with a geometry that was made, the source has none"
            if scan.recipe.placed
            else "written on the resampled grid, not on the source's"
        )
    lost = sorted(frozenset().union(*(source.lost for source in slices)))
    if lost:
        shown = ", ".join(lost[:6]) + (f" and {len(lost) - 6} more" if len(lost) > 6 else "")
        said.append(f"attributes of the source that cannot be carried over: {shown}")
    if not slices[0].uid:
        said.append("no references to the source images: their SOP Instance UIDs are missing or invalid")
    return said
