"""Pictures of what each layer kept."""

import matplotlib

if matplotlib.matplotlib_fname() == "matplotlibrc":  # of the current folder, which may be one of data
    matplotlib.rcdefaults()

from medrecon.report.layers import SOFT_TISSUE, layers_figure

__all__ = ["SOFT_TISSUE", "layers_figure"]
