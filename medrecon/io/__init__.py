"""Scans in and out: find, check, read; write derived DICOM series, NIfTI, NRRD and MetaImage files.

What needs MONAI (readers, writers, transforms) or the tables of coded concepts is imported when it is first
used: listing the scans of a folder takes a fraction of a second, importing MONAI takes seconds.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
