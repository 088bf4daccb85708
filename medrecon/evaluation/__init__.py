"""How much of a scan a reconstruction kept, and the controls to hold it against."""

from medrecon.evaluation.controls import dct_code, mean_image
from medrecon.evaluation.fidelity import Fidelity, fidelity
from medrecon.evaluation.geometry import compare_geometry
from medrecon.evaluation.ssim import SSIM

__all__ = ["SSIM", "Fidelity", "compare_geometry", "dct_code", "fidelity", "mean_image"]
