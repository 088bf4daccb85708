"""What a layer's features tell of who the patient is, measured over a cohort.

`run_audit` is the whole of it: scans on a common grid, what the network makes of them, and the match of each
scan to the others of the same patient. It is imported when first used.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from medrecon.atlas.audit.run import run_audit


__all__ = ["run_audit"]

__getattr__, _, _ = lazy_loader.attach(__name__, submod_attrs={"run": ["run_audit"]})
