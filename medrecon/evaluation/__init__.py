"""How much of a scan a reconstruction kept, and the controls to hold it against.

`ScoreReconstructiond`, which needs MONAI, is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medrecon.evaluation.controls import dct_code, mean_image
from medrecon.evaluation.fidelity import Fidelity, fidelity
from medrecon.evaluation.geometry import compare_geometry
from medrecon.evaluation.msssim import ms_ssim
from medrecon.evaluation.relative_error import normalised_error
from medrecon.evaluation.ssim import SSIM
from medrecon.evaluation.table import FidelityTable

if TYPE_CHECKING:
    from medrecon.evaluation.transform import ScoreReconstructiond

__all__ = [
    "SSIM",
    "Fidelity",
    "FidelityTable",
    "ScoreReconstructiond",
    "compare_geometry",
    "dct_code",
    "fidelity",
    "mean_image",
    "ms_ssim",
    "normalised_error",
]


def __getattr__(name: str) -> Any:
    """The name that needs MONAI (PEP 562)."""
    if name == "ScoreReconstructiond":
        return import_module("medrecon.evaluation.transform").ScoreReconstructiond
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
