"""PACS in and out: what a node has, series into a local copy, derived series back; by DICOMweb or DIMSE.

`read_nodes` reads the file of nodes, `connect` gives an `Archive` to one of them, `pull` and `push` work with
it. They are imported when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
