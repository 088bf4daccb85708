"""What each layer of a network kept of a scan, measured and shown.

`AtlasNetwork` runs a bundle, `measure` makes a scan's scores and maps of it, `write_atlas` writes them; many
scans go through `write_summary`, two runs through `compare_atlases`. They are imported when first used.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from medrecon.atlas.compare import compare_atlases
    from medrecon.atlas.measuring import measure
    from medrecon.atlas.network import AtlasNetwork
    from medrecon.atlas.output import read_scores, write_atlas
    from medrecon.atlas.summary import write_summary


__all__ = ["AtlasNetwork", "compare_atlases", "measure", "read_scores", "write_atlas", "write_summary"]

__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "compare": ["compare_atlases"],
        "measuring": ["measure"],
        "network": ["AtlasNetwork"],
        "output": ["read_scores", "write_atlas"],
        "summary": ["write_summary"],
    },
)
