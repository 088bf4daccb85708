"""medrecon shows what a neural network keeps of a medical scan, layer by layer.

Importing the package loads nothing heavy: torch, MONAI and the readers are imported by the submodules.
"""

__version__ = "0.2.0"
