"""medrecon shows what a neural network keeps of a medical scan, layer by layer.

    import medrecon

    scan = medrecon.find_one("t1.nii.gz")
    result = medrecon.reconstruct(scan, "level3,level4")
    result["level4"]           # (X, Y, Z), on the scan's grid, in its units
    result.save("out/")        # NIfTI, or a derived DICOM series from DICOM

Importing the package loads nothing heavy: a name is imported from its room when it is first used.
"""

__version__ = "0.2.0"

TYPE_CHECKING = False  # as typing has it; nothing is imported here, see `medrecon.__main__`

if TYPE_CHECKING:
    from medrecon.atlas.run import make_atlas
    from medrecon.bundle.config import bundle_names
    from medrecon.bundle.layers import layers
    from medrecon.contract import LayerInfo
    from medrecon.errors import MedreconError, ModelError, OutOfMemoryError, OutputError, UsageError
    from medrecon.evaluation import Fidelity, fidelity
    from medrecon.features import FeatureFile, decode, encode
    from medrecon.inference.pipeline import Pipeline, Record
    from medrecon.inference.reconstruction import Reconstruction, reconstruct
    from medrecon.io import Found, Scan, ScanError, find_one, find_scans, read_scan
    from medrecon.io.choices import with_hu
    from medrecon.reconstructor import Reconstructor
    from medrecon.training.linear import linear_inverse

__all__ = [
    "FeatureFile",
    "Fidelity",
    "Found",
    "LayerInfo",
    "MedreconError",
    "ModelError",
    "OutOfMemoryError",
    "OutputError",
    "Pipeline",
    "Reconstruction",
    "Reconstructor",
    "Record",
    "Scan",
    "ScanError",
    "UsageError",
    "bundle_names",
    "decode",
    "encode",
    "fidelity",
    "find_one",
    "find_scans",
    "layers",
    "linear_inverse",
    "make_atlas",
    "read_scan",
    "reconstruct",
    "with_hu",
]

_ROOMS = {
    "atlas.run": ("make_atlas",),
    "bundle.config": ("bundle_names",),
    "bundle.layers": ("layers",),
    "contract": ("LayerInfo",),
    "errors": ("MedreconError", "ModelError", "OutOfMemoryError", "OutputError", "UsageError"),
    "evaluation": ("Fidelity", "fidelity"),
    "features": ("FeatureFile", "decode", "encode"),
    "inference.pipeline": ("Pipeline", "Record"),
    "inference.reconstruction": ("Reconstruction", "reconstruct"),
    "io": ("Found", "Scan", "ScanError", "find_one", "find_scans", "read_scan"),
    "io.choices": ("with_hu",),
    "reconstructor": ("Reconstructor",),
    "training.linear": ("linear_inverse",),
}

if not TYPE_CHECKING:

    def __getattr__(name):
        """The name from its room (PEP 562)."""
        room = next((room for room, names in _ROOMS.items() if name in names), None)
        if room is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{room}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
