"""Features of a scan as a file, and the scan that a decoder makes of them without the source.

`encode` writes the layers that are named as safetensors (`medrecon.features.file`); `decode`
turns such a file into a volume on the source's grid, in the source's units.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
