"""Random training volumes that look like scans: anatomies, contrasts and scanners by chance."""

from medrecon.phantoms.dataset import PhantomDataset
from medrecon.phantoms.generator import random_volume

__all__ = ["PhantomDataset", "random_volume"]
