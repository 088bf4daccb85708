"""Scans in and out: find, check, read; write derived DICOM series and NIfTI files."""

from medrecon.io.find import find_one, find_scans
from medrecon.io.read import ScanWarning, read_scan
from medrecon.io.reader import ScanReader, scan_of
from medrecon.io.scan import Found, LeftOut, ReadOptions, Scan, ScanError

__all__ = [
    "Found",
    "LeftOut",
    "ReadOptions",
    "Scan",
    "ScanError",
    "ScanReader",
    "ScanWarning",
    "find_one",
    "find_scans",
    "read_scan",
    "scan_of",
]
