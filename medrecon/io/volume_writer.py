"""What writers of volume files share: a file that is whole or not there."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike

from medrecon.io.files.outputs import LOG, Written, hash_file
from medrecon.io.files.publish import publish
from medrecon.io.formats import format_named
from medrecon.io.result_writer import ResultWriter
from medrecon.io.scan import Scan
from medrecon.io.value_form import ValueForm


class VolumeWriter(ResultWriter):
    """Write a volume in the geometry of its source as one file; arguments as `ResultWriter`."""

    def write(self, filename: PathLike, verbose: bool = False, **kwargs: Any) -> Written:
        """Write the file, whole or not at all.

        Raises:
            OutputError: it exists, does not fit the disk, or does not read back as it was meant.
        """
        path = Path(filename)
        volume, scan = self.taken(path)
        form = self.form_of(volume, scan)
        with publish(path, self.overwrite) as part:
            self.save(form.store(volume), scan, form, part, path)
            digest = hash_file(part)
        said = [form.warning] if form.warning else []
        for line in said:
            LOG.warning("%s: %s", path, line)
        kind = format_named(path)
        return Written(path, scan.key, self.result, kind, form.words, 0, tuple(said), {path.name: digest})

    @abstractmethod
    def form_of(self, volume: np.ndarray, scan: Scan) -> ValueForm:
        """How the values are stored."""

    @abstractmethod
    def save(self, stored: np.ndarray, scan: Scan, form: ValueForm, part: Path, final: Path) -> None:
        """Write the stored numbers (Z, Y, X) to the file `part` and read them back.

        Raises:
            OutputError: the file `final`, which it will be, does not read back as it was written.
        """
