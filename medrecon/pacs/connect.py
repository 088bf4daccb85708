"""From a node to a connection."""

from __future__ import annotations

from medrecon.errors import UsageError
from medrecon.pacs.archive import Archive
from medrecon.pacs.nodes import Node


def connect(node: Node, via: str = "") -> Archive:
    """A connection to a node: DICOMweb where it has a url, else DIMSE.

    Args:
        node: which.
        via: "dicomweb" or "dimse" for a node that has both; "" takes the first.

    Raises:
        UsageError: the node does not have that, or the extra is not installed.
        ArchiveError: it cannot be reached.
    """
    via = via or ("dicomweb" if node.url else "dimse")
    if not (node.url if via == "dicomweb" else node.host):
        lacking = "url" if via == "dicomweb" else "host and port"
        raise UsageError(f"pacs:{node.name} has no {lacking}", remedy="add it to the file of nodes")
    try:
        if via == "dicomweb":
            from medrecon.pacs.dicomweb import DicomWebArchive

            return DicomWebArchive(node)
        from medrecon.pacs.dimse import DimseArchive

        return DimseArchive(node)
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed", remedy="pip install 'medrecon[pacs]'") from None
