"""What writers of volume files share: MONAI's interface, the source, a file that is whole or not there."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageWriter
from monai.utils import convert_data_type

from medrecon.errors import OutputError
from medrecon.io.derivation import Derivation, identity_derivation
from medrecon.io.files.outputs import LOG, Written, hash_file
from medrecon.io.files.publish import publish
from medrecon.io.meta import scan_of
from medrecon.io.scan import Scan
from medrecon.io.value_form import ValueForm


class VolumeWriter(ImageWriter):
    """Write a volume in the geometry of its source as one file: `set_data_array`, `set_metadata`, `write`.

    Args:
        derivation: how the volume was made; None for a copy of the source's voxels.
        overwrite: replace a file that is there.
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

    def write(self, filename: PathLike, verbose: bool = False, **kwargs: Any) -> Written:
        """Write the file, whole or not at all.

        Raises:
            OutputError: it exists, does not fit the disk, or does not read back as it was meant.
        """
        path = Path(filename)
        if self.scan is None or self.data_obj is None:
            raise OutputError("nothing to write", path=path, remedy="set the array and the metadata first")
        volume = np.asarray(self.data_obj)
        if volume.shape != self.scan.shape:
            raise OutputError(
                f"a volume of {volume.shape} does not fit the source of {self.scan.shape}",
                path=path,
                remedy="invert the transforms first",
            )
        form = self.form_of(volume, self.scan)
        with publish(path, self.overwrite) as part:
            self.save(form.store(volume), self.scan, form, part, path)
            digest = hash_file(part)
        said = [form.warning] if form.warning else []
        for line in said:
            LOG.warning("%s: %s", path, line)
        kind = self.format_of(path)
        return Written(
            path, self.scan.key, self.result, kind, form.words, 0, tuple(said), {path.name: digest}
        )

    @abstractmethod
    def format_of(self, path: Path) -> str:
        """The format of the file that is written at this path."""

    @abstractmethod
    def form_of(self, volume: np.ndarray, scan: Scan) -> ValueForm:
        """How the values are stored."""

    @abstractmethod
    def save(self, stored: np.ndarray, scan: Scan, form: ValueForm, part: Path, final: Path) -> None:
        """Write the stored numbers (Z, Y, X) to the file `part` and read them back.

        Raises:
            OutputError: the file `final`, which it will be, does not read back as it was written.
        """
