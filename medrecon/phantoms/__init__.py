"""Random training volumes that look like scans: anatomies, contrasts and scanners by chance."""

from medrecon.phantoms.dataset import PhantomDataset
from medrecon.phantoms.generator import labelled_volume, random_contrasts, random_volume
from medrecon.phantoms.patient import patient_scan

__all__ = ["PhantomDataset", "labelled_volume", "patient_scan", "random_contrasts", "random_volume"]
