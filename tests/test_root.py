"""What `import medrecon` offers: no name vanishes unnoticed, nothing heavy is imported, all is typed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import medrecon

Make = Callable[..., np.ndarray]

PUBLIC = {
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
}


def test_no_name_vanishes_and_none_is_added_unnoticed() -> None:
    assert set(medrecon.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(medrecon, name).__name__ == name
        assert getattr(medrecon, name).__doc__
    assert set(dir(medrecon)) >= PUBLIC
    with pytest.raises(AttributeError, match="no attribute 'reconstrct'"):
        medrecon.reconstrct  # noqa: B018 # type: ignore[attr-defined]


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(medrecon.__file__).read_text("utf-8"))
    conditions = [node for node in tree.body if isinstance(node, ast.If)]
    (seen,) = (node for node in conditions if isinstance(node.test, ast.Name))
    names = {alias.name for node in seen.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names == PUBLIC
    for node in seen.body:
        assert isinstance(node, ast.ImportFrom)
        room = str(node.module).removeprefix("medrecon.")
        assert set(medrecon._ROOMS[room]) == {alias.name for alias in node.names}


def test_importing_it_imports_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules); import medrecon, medrecon.errors; medrecon.UsageError\n"
        "print(*sorted(name.split('.')[0] for name in set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {
        "medrecon",
        "difflib",
        "_",
        "heapq",
        "_heapq",
        "pathlib",
        "fnmatch",
    } | set(sys.stdlib_module_names)


def test_a_session_in_a_notebook(tmp_path: Path, tiny_bundle: Path, make_nifti: Make) -> None:
    values = make_nifti(tmp_path / "t1.nii.gz")
    (name, *_) = [layer.name for layer in medrecon.layers(tiny_bundle)]
    scan = medrecon.find_one(tmp_path / "t1.nii.gz")
    result = medrecon.reconstruct(scan, ["input", name], bundle=tiny_bundle, device="cpu")
    assert list(result.images) == ["input", name]
    np.testing.assert_array_equal(result["input"], values)
    assert result[name].shape == scan.shape
    kept = medrecon.fidelity(medrecon.read_scan(scan), result[name], units=scan.units, spacing=scan.spacing)
    assert 0 < kept.mae < np.inf
    written = result.save(tmp_path / "out")
    for key, path in written.items():
        again = medrecon.read_scan(medrecon.find_one(path))
        np.testing.assert_allclose(again, result[key], atol=1e-3 * float(np.ptp(values)))
    encoded = medrecon.encode(
        scan, tmp_path / "t1.safetensors", layers=name, bundle=tiny_bundle, device="cpu"
    )
    decoded = medrecon.decode(encoded.path, tmp_path / "again.nii.gz", bundle=tiny_bundle, device="cpu")
    back = medrecon.read_scan(medrecon.find_one(decoded.outputs[name]))
    np.testing.assert_allclose(back, result[name], atol=1e-3 * float(np.ptp(values)))


def test_a_scan_shows_itself(tmp_path: Path, tiny_bundle: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "ct", description="Doe^Jane <script>")
    scan = medrecon.find_one(tmp_path / "ct")
    page = scan._repr_html_()
    assert page.count("data:image/png;base64,") == 1
    assert "HU" in page
    assert "Doe" not in page
    assert len(repr(scan)) < 1000
    result = medrecon.reconstruct(scan, "input", bundle=tiny_bundle, device="cpu")
    assert result._repr_html_().count("data:image/png;base64,") == 2
    (tmp_path / "ct").rename(tmp_path / "moved")
    assert "data:image" not in scan._repr_html_()
