"""MONAI Label and MONAI Deploy run the bundles: by their own functions, and by the calls that these make.

Both are large and pin other versions, so they are no part of the tests' environment; where they can be
imported, their own functions are called.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from medrecon.bundle.config import Bundle
from medrecon.inference.pipeline import Pipeline
from medrecon.inference.tiling import inferer_for
from medrecon.intensity_range import HU_WINDOW
from medrecon.io import find_one

from .conftest import smooth_nifti
from .names import NAMES, MakeBundle

bundles = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    smooth_nifti(tmp_path / "mr.nii.gz")
    return tmp_path / "mr.nii.gz"


@pytest.fixture
def expected(tmp_path: Path) -> Callable[[Path, Path], np.ndarray]:
    """`expected(bundle, image)`: what medrecon itself makes of it, (X, Y, Z), not rounded."""

    def run(bundle: Path, image: Path) -> np.ndarray:
        scan = find_one(image)
        made = Pipeline.from_bundle(
            bundle, scans=[scan], output=tmp_path / "out", layers="level4", device="cpu"
        )
        return made.run_in_memory(scan)[0]["level4"]

    return run


def loaded(network: torch.nn.Module, bundle: Path) -> torch.nn.Module:
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert set(state) == set(network.state_dict())
    network.load_state_dict(state)
    return network.eval()


@bundles
def test_its_pieces_without_metadata_as_monai_label_takes_them(
    name: str, small_bundle: MakeBundle, image: Path, expected: Callable[[Path, Path], np.ndarray]
) -> None:
    """It reads inference.json alone, sets `bundle_root` and `device`, and calls step after step itself."""
    bundle = small_bundle(name)
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "inference.json")
    parser["bundle_root"] = str(bundle)
    network = loaded(parser.get_parsed_content("network_def"), bundle)
    parser["device"] = "cpu"
    item: Any = {"image": str(image), "image_path": str(image), "device": "cpu"}
    for step in parser.get_parsed_content("preprocessing").transforms:
        item = step(item)
    with torch.no_grad():
        item["pred"] = parser.get_parsed_content("inferer")(item["image"][None], network)[0]
    for step in parser.get_parsed_content("postprocessing").transforms:
        item = step(item)
    np.testing.assert_allclose(item["pred"][0].numpy(), expected(bundle, image), rtol=0, atol=2e-3)


@bundles
def test_its_pieces_without_its_loader_as_monai_deploy_takes_them(
    name: str, small_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves LoadImage out and hands a CT as (X, Y, Z) with the names that its own reader gives."""
    bundle = small_bundle(name)
    monkeypatch.syspath_prepend(str(bundle))
    parser = ConfigParser()
    parser.read_meta(bundle / "configs" / "metadata.json")
    parser.read_config([bundle / "configs" / "inference.json"])
    parser.parse()
    preprocessing, postprocessing = (
        parser.get_parsed_content(key) for key in ("preprocessing", "postprocessing")
    )
    for steps in (preprocessing, postprocessing):
        steps.transforms = tuple(
            step
            for step in steps.transforms
            if not any(word in type(step).__name__ for word in ("LoadImage", "SaveImage"))
        )
    network = parser.get_parsed_content("network")
    hu = head_of_a_ct()
    affine = np.diag([0.7, 0.7, 2.0, 1.0])
    meta = {
        "affine": affine,
        "original_affine": affine,
        "original_channel_dim": "no_channel",
        "Modality": "CT",
    }
    item: Any = preprocessing({"image": MetaTensor(torch.from_numpy(hu.copy()), meta=meta)})
    assert item["image"].shape == (1, *hu.shape)
    assert 0.2 < float(item["image"].median()) < 0.6, "in the window of HU"
    with torch.no_grad():
        item["pred"] = parser.get_parsed_content("inferer")(inputs=item["image"][None], network=network)[0]
        assert float(item["pred"].min()) < 2
        home = postprocessing(item)["pred"]
    assert home.shape == (1, *hu.shape)
    control = preprocessing({"image": MetaTensor(torch.from_numpy(hu.copy()), meta=meta)})
    control["pred"] = control["image"].clone()
    assert np.array_equal(postprocessing(control)["pred"].numpy().round()[0], hu)


def head_of_a_ct() -> np.ndarray:
    hu = np.random.default_rng(0).normal(40, 20, (36, 30, 9)).round().astype(np.int16)
    hu[:5] = -1000
    return hu


@bundles
def test_monai_label(
    name: str, small_bundle: MakeBundle, image: Path, expected: Callable[[Path, Path], np.ndarray]
) -> None:
    infer = pytest.importorskip("monailabel.tasks.infer.bundle", reason="MONAI Label is not installed")
    bundle = small_bundle(name)
    task = infer.BundleInferTask(str(bundle), {})
    assert task.is_valid()
    assert task.info()["config"]["model_filename"] == ["model.pt"]
    asked = {"image": str(image), "device": "cpu", "result_extension": ".nii.gz", "result_dtype": "float32"}
    written, _ = task({**asked, "model_filename": "model.pt"})
    made = nib.load(written)
    np.testing.assert_allclose(made.affine, nib.load(image).affine, atol=1e-4)
    np.testing.assert_allclose(made.get_fdata(), expected(bundle, image), rtol=0, atol=2e-3)


@bundles
@pytest.mark.filterwarnings("ignore")
def test_monai_deploy(name: str, small_bundle: MakeBundle, repo: Path) -> None:
    operators = pytest.importorskip(
        "monai.deploy.operators.monai_bundle_inference_operator",
        reason="MONAI Deploy is not installed",
        exc_type=ImportError,
    )
    core = pytest.importorskip("monai.deploy.core")
    bundle, hu = small_bundle(name), head_of_a_ct()
    facts = {
        "row_pixel_spacing": 0.7,
        "col_pixel_spacing": 0.7,
        "depth_pixel_spacing": 2.0,
        "nifti_affine_transform": np.diag([0.7, 0.7, 2.0, 1.0]),
        "Modality": "CT",
    }
    page = (repo / "docs" / "use" / "monai.md").read_text("utf-8")
    shown: dict[str, Any] = {}
    exec(page.partition("needs MONAI Deploy -->\n```python\n")[2].partition("```")[0], shown)
    operator = shown["ReconstructionOperator"](
        core.Fragment(),
        app_context=core.AppContext({}),
        input_mapping=[operators.IOMapping("image", core.Image, core.IOType.IN_MEMORY)],
        output_mapping=[operators.IOMapping("pred", core.Image, core.IOType.IN_MEMORY)],
        bundle_path=bundle,
        name="reconstruct",
    )
    port = Port(core.Image(hu.T.copy(), facts))
    operator.compute(port, port, None)
    made = port.sent["pred"].asnumpy().T
    assert (made.shape, made.dtype) == (hu.shape, np.int16)
    network = loaded(Bundle.open(bundle).build("network_def"), bundle)
    image = (hu.astype(np.float32) - HU_WINDOW[0]) / (HU_WINDOW[1] - HU_WINDOW[0])
    with torch.no_grad():
        plain = inferer_for(network, ["level4"])(torch.from_numpy(image)[None, None], network)[0, 0].numpy()
    wanted = plain * (HU_WINDOW[1] - HU_WINDOW[0]) + HU_WINDOW[0]
    np.testing.assert_allclose(made, wanted, rtol=0, atol=1)


class Port:
    """Where the operator gets its image from and puts its result."""

    def __init__(self, image: Any) -> None:
        self.image, self.sent = image, {}

    def receive(self, name: str) -> Any:
        return self.image

    def get(self, name: str) -> None:
        return None

    def emit(self, value: Any, name: str) -> None:
        self.sent[name] = value
