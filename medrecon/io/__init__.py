"""Scans in and out: find, check, read; write derived DICOM series, NIfTI, NRRD and MetaImage files.

What needs MONAI (readers, writers, transforms) or the tables of coded concepts is imported when it is first
used: listing the scans of a folder takes a fraction of a second, importing MONAI takes seconds.
"""

from typing import TYPE_CHECKING

import lazy_loader

from medrecon.io.derivation import Derivation
from medrecon.io.files.destinations import plan_outputs
from medrecon.io.files.outputs import Written
from medrecon.io.files.publish import publish
from medrecon.io.find import find_one, find_scans
from medrecon.io.manifest import manifest_path, write_manifest
from medrecon.io.meta import scan_of
from medrecon.io.read import ScanWarning, read_scan
from medrecon.io.scan import Found, LeftOut, ReadOptions, Scan, ScanError

if TYPE_CHECKING:
    from medrecon.io.dicom.writing.parametric_map import write_parametric_map
    from medrecon.io.dicom.writing.writer import DicomSeriesWriter
    from medrecon.io.itk.writing import ItkWriter
    from medrecon.io.nifti.writing import NiftiWriter
    from medrecon.io.reader import ScanReader
    from medrecon.io.save import SaveReconstructiond
    from medrecon.io.writers import write_volume


__all__ = [
    "Derivation",
    "DicomSeriesWriter",
    "Found",
    "ItkWriter",
    "LeftOut",
    "NiftiWriter",
    "ReadOptions",
    "SaveReconstructiond",
    "Scan",
    "ScanError",
    "ScanReader",
    "ScanWarning",
    "Written",
    "find_one",
    "find_scans",
    "manifest_path",
    "plan_outputs",
    "publish",
    "read_scan",
    "scan_of",
    "write_manifest",
    "write_parametric_map",
    "write_volume",
]

__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "dicom.writing.parametric_map": ["write_parametric_map"],
        "dicom.writing.writer": ["DicomSeriesWriter"],
        "itk.writing": ["ItkWriter"],
        "nifti.writing": ["NiftiWriter"],
        "reader": ["ScanReader"],
        "save": ["SaveReconstructiond"],
        "writers": ["write_volume"],
    },
)
