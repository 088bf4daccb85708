"""What all writers of results share: MONAI's interface, the source, a volume that fits it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageWriter
from monai.utils import convert_data_type

from medrecon.errors import OutputError
from medrecon.io.derivation import Derivation, identity_derivation
from medrecon.io.meta import scan_of
from medrecon.io.scan import Scan


class ResultWriter(ImageWriter):
    """Takes a volume and its source: `set_data_array`, `set_metadata` (or `set_scan`), then `write`.

    Args:
        derivation: how the volume was made; None for a copy of the source's voxels.
        overwrite: replace an output that is there.
        result: name of the result, for the record.
    """

    def __init__(
        self,
        derivation: Derivation | None = None,
        overwrite: bool = False,
        result: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.derivation = derivation or identity_derivation()
        self.overwrite, self.result = overwrite, result or self.derivation.layers
        self.scan: Scan | None = None

    def set_data_array(self, data_array: Any, channel_dim: int | None = 0, **kwargs: Any) -> None:
        """Take the volume: (1, X, Y, Z) or, with `channel_dim=None`, (X, Y, Z); in the source's units."""
        array = convert_data_type(data_array, np.ndarray)[0]
        if channel_dim is not None:
            array = np.take(array, 0, axis=channel_dim)
        self.data_obj = array

    def set_metadata(self, meta_dict: Mapping[str, Any] | None = None, **options: Any) -> None:
        """Take the metadata that `ScanReader` gave, from which the source is found again."""
        self.scan = scan_of(meta_dict or {})

    def set_scan(self, scan: Scan) -> None:
        """Name the source at once, in place of `set_metadata`."""
        self.scan = scan

    def taken(self, path: Path) -> tuple[np.ndarray, Scan]:
        """The volume (X, Y, Z) and its source.

        Args:
            path: what is to be written, for the message.

        Raises:
            OutputError: nothing was set, or they do not fit each other.
        """
        if self.scan is None or self.data_obj is None:
            raise OutputError("nothing to write", path=path, remedy="set the array and the metadata first")
        volume = np.asarray(self.data_obj)
        if volume.shape != self.scan.shape:
            raise OutputError(
                f"a volume of {volume.shape} does not fit the source of {self.scan.shape}",
                path=path,
                remedy="invert the transforms first",
            )
        return volume, self.scan
