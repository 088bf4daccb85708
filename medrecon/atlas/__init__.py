"""What each layer of a network kept of a scan, measured and shown.

`Engine` runs a bundle, `measure` makes a scan's scores and maps of it, `write_atlas` writes them; many scans
go through `write_summary`, two runs through `compare_atlases`. They are imported when they are first used.
"""

from typing import TYPE_CHECKING

from medrecon.lazy import lazily

if TYPE_CHECKING:
    from medrecon.atlas.cohort import write_summary
    from medrecon.atlas.compare import compare_atlases
    from medrecon.atlas.engine import Engine
    from medrecon.atlas.measuring import measure
    from medrecon.atlas.output import read_scores, write_atlas

_PLACES = {
    "Engine": "engine",
    "compare_atlases": "compare",
    "measure": "measuring",
    "read_scores": "output",
    "write_atlas": "output",
    "write_summary": "cohort",
}

__all__ = ["Engine", "compare_atlases", "measure", "read_scores", "write_atlas", "write_summary"]

__getattr__ = lazily(__name__, _PLACES)
