"""Write NRRD and MetaImage with SimpleITK: compressed, header and values in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medrecon.errors import OutputError
from medrecon.io.formats import format_named
from medrecon.io.itk.header import itk_path, place_image
from medrecon.io.itk.volume import read_text, text_scan
from medrecon.io.result_form import choose_form
from medrecon.io.scan import ReadOptions, Scan, ScanError
from medrecon.io.value_form import ValueForm
from medrecon.io.volume_writer import VolumeWriter


class ItkWriter(VolumeWriter):
    """Write a volume as `.nrrd` or `.mha` in its source's geometry, LPS, in mm; arguments as `VolumeWriter`.

    Neither format knows a slope and an intercept: values of a scaled source are written as they are.
    """

    def form_of(self, volume: np.ndarray, scan: Scan) -> ValueForm:
        """How the values are stored."""
        return choose_form(volume, scan, scaling=False)

    def save(self, stored: np.ndarray, scan: Scan, form: ValueForm, part: Path, final: Path) -> None:
        """Write the stored numbers (Z, Y, X) to the file `part` and read them back.

        Raises:
            OutputError: the file `final`, which it will be, does not read back as it was written.
        """
        nrrd = format_named(final) == "nrrd"
        image = sitk.GetImageFromArray(stored)
        place_image(image, scan.affine)
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("NrrdImageIO" if nrrd else "MetaImageIO")
        writer.UseCompressionOn()
        writer.SetCompressionLevel(1)
        named = part.with_name("new.nrrd" if nrrd else "new.mha")  # ITK decides by the ending, too
        try:
            writer.SetFileName(itk_path(named))
            writer.Execute(image)
            self._check(named, stored, scan.affine)
        except UnicodeError:
            raise OutputError(
                "ITK takes no path that is not Unicode", path=final, remedy="choose another folder"
            ) from None
        except (RuntimeError, OSError, ScanError) as error:
            why = " ".join(str(error).split())[-200:]
            raise OutputError(
                f"cannot be written, or does not read back ({why})", path=final, remedy="check the disk"
            ) from error
        named.rename(part)

    def _check(self, written: Path, stored: np.ndarray, affine: np.ndarray) -> None:
        scan = text_scan(written, None, ReadOptions(max_bytes=max(stored.nbytes, ReadOptions.max_bytes)))
        values, _ = read_text(scan)
        scale = max(1.0, float(np.abs(affine).max()))
        if not np.array_equal(values.transpose(2, 1, 0), stored):
            raise OSError("other values")
        if np.abs(scan.affine - affine).max() > 1e-6 * scale:
            raise OSError("another place")
