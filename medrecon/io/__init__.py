"""Scans in and out: find, check, read; write derived DICOM series and NIfTI files."""

from medrecon.io.derivation import Derivation
from medrecon.io.dicom_writer import DicomSeriesWriter
from medrecon.io.find import find_one, find_scans
from medrecon.io.manifest import manifest_path, write_manifest
from medrecon.io.nifti_writer import NiftiWriter
from medrecon.io.outputs import Written
from medrecon.io.plan import plan_outputs
from medrecon.io.publish import publish
from medrecon.io.read import ScanWarning, read_scan
from medrecon.io.reader import ScanReader, scan_of
from medrecon.io.save import SaveReconstructiond
from medrecon.io.scan import Found, LeftOut, ReadOptions, Scan, ScanError

__all__ = [
    "Derivation",
    "DicomSeriesWriter",
    "Found",
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
]
