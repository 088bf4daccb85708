"""PACS in and out: what a node has, series into a local copy, derived series back; by DICOMweb or DIMSE.

`read_nodes` reads the file of nodes, `connect` gives an `Archive` to one of them, `pull` and `push` work with
it. They are imported when they are first used.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from medrecon.pacs.address import Address
    from medrecon.pacs.archive import Archive, ArchiveError
    from medrecon.pacs.connect import connect
    from medrecon.pacs.nodes import Node, read_nodes
    from medrecon.pacs.pulling import pull
    from medrecon.pacs.pushing import push
    from medrecon.pacs.query import Query


__all__ = [
    "Address",
    "Archive",
    "ArchiveError",
    "Node",
    "Query",
    "connect",
    "pull",
    "push",
    "read_nodes",
]

__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "address": ["Address"],
        "archive": ["Archive", "ArchiveError"],
        "connect": ["connect"],
        "nodes": ["Node", "read_nodes"],
        "pulling": ["pull"],
        "pushing": ["push"],
        "query": ["Query"],
    },
)
