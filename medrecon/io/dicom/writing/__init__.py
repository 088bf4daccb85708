"""DICOM out: a derived series made from the headers of its source."""
