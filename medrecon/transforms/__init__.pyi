from .coarsen import RandCoarseCropd as RandCoarseCropd
from .intensity import HU_WINDOW as HU_WINDOW
from .intensity import PERCENTILES as PERCENTILES
from .intensity import ScanIntensity as ScanIntensity
from .intensity import ScanIntensityd as ScanIntensityd
from .intensity import intensity_range as intensity_range
