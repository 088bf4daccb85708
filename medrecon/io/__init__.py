"""Scans in and out: find, check, read; write derived DICOM series and NIfTI files.

What needs MONAI (readers, writers, transforms) or the tables of coded concepts is imported when it is first
used: listing the scans of a folder takes a fraction of a second, importing MONAI takes seconds.
"""

from typing import TYPE_CHECKING

from medrecon.io.derivation import Derivation
from medrecon.io.features import FeatureFile
from medrecon.io.features_facts import FeatureFacts, LayerFacts
from medrecon.io.find import find_one, find_scans
from medrecon.io.manifest import manifest_path, write_manifest
from medrecon.io.meta import scan_of
from medrecon.io.outputs import Written
from medrecon.io.plan import plan_outputs
from medrecon.io.publish import publish
from medrecon.io.read import ScanWarning, read_scan
from medrecon.io.scan import Found, LeftOut, ReadOptions, Scan, ScanError
from medrecon.lazy import lazily

if TYPE_CHECKING:
    from medrecon.io.dicom.parametric_map import write_error_map
    from medrecon.io.dicom.writer import DicomSeriesWriter
    from medrecon.io.nifti.writer import NiftiWriter
    from medrecon.io.reader import ScanReader
    from medrecon.io.save import SaveReconstructiond

_LATER = {
    "DicomSeriesWriter": "dicom.writer",
    "NiftiWriter": "nifti.writer",
    "SaveReconstructiond": "save",
    "ScanReader": "reader",
    "write_error_map": "dicom.parametric_map",
}

__all__ = [
    "Derivation",
    "DicomSeriesWriter",
    "FeatureFacts",
    "FeatureFile",
    "Found",
    "LayerFacts",
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
    "write_error_map",
    "write_manifest",
]

__getattr__ = lazily(__name__, _LATER)
