"""Pictures of what each layer kept."""

from medrecon.report.curve import fidelity_curve
from medrecon.report.layers import SOFT_TISSUE, layers_figure

__all__ = ["SOFT_TISSUE", "fidelity_curve", "layers_figure"]
