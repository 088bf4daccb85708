"""Encode, then decode without the scan: the same file as `reconstruct` writes, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from safetensors import safe_open
from torch import nn

from medrecon.encoders import TappedEncoder
from medrecon.encoders.adapt import ZScore
from medrecon.features import FeatureEncoder, decode, encode, tiles
from medrecon.features.file import FeatureFile
from medrecon.features.model import open_encoder
from medrecon.features.tiles import decode_image, encode_image
from medrecon.inference.pipeline import Pipeline
from medrecon.inference.tiling import SliceInferer, VolumeInferer
from medrecon.inversion import FusionDecoder
from medrecon.io import find_one
from medrecon.io.scan import ScanError
from medrecon.reconstructor import Reconstructor

BUNDLES = [f"{kind}_{name}" for kind in ("volume", "slice") for name in ("autoencoder", "transform_code")]

Make = Callable[..., np.ndarray]
CPU = torch.device("cpu")


def reconstructed(bundle: Path, source: Path, output: Path, layers: str, form: str = "nifti") -> Path:
    scan = find_one(source)
    pipeline = Pipeline.from_bundle(
        bundle, scans=[scan], output=output, layers=layers, device="cpu", output_format=form
    )
    return pipeline.run(scan).outputs[layers]


QUICK = ("nifti", "dicom", "dicom", "nifti")
"""The kind of file that the quick tests take with each bundle: volumes and slices with both."""


def values(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *zip(BUNDLES, QUICK, strict=True),
        *(
            pytest.param(name, "dicom" if quick == "nifti" else "nifti", marks=pytest.mark.slow)
            for name, quick in zip(BUNDLES, QUICK, strict=True)
        ),
    ],
)
def test_float32_features_give_what_reconstruct_writes(
    name: str, kind: str, tmp_path: Path, make_bundle: Callable, make_ct: Make, make_nifti: Make
) -> None:
    source = tmp_path / ("t1.nii.gz" if kind == "nifti" else "series")
    make_nifti(source, (35, 20, 18)) if kind == "nifti" else make_ct(source, (20, 35, 7))
    bundle = make_bundle(name)
    encode(find_one(source), tmp_path / "f.safetensors", layers="level3,level4", bundle=bundle, device="cpu")
    done = decode(tmp_path / "f.safetensors", tmp_path / "out", bundle=bundle, device="cpu")
    assert list(done.outputs) == ["level3", "level4"]
    joined = tmp_path / "joined.nii.gz"
    decode(tmp_path / "f.safetensors", joined, layers="level4+level3", bundle=bundle, device="cpu")
    for result, path in {**done.outputs, "level4+level3": joined}.items():
        reference = reconstructed(bundle, source, tmp_path / f"ref_{result}.nii.gz", result)
        assert np.array_equal(values(path), values(reference)), result
        assert nib.load(path).header == nib.load(reference).header
    assert not np.array_equal(values(done.outputs["level3"]), values(done.outputs["level4"]))


def test_padding_below_the_window_comes_back(tmp_path: Path, make_bundle: Callable, make_ct: Make) -> None:
    make_ct(tmp_path / "series", (24, 20, 5))
    for file in (tmp_path / "series").iterdir():
        image = pydicom.dcmread(file)
        pixels = image.pixel_array.astype(np.int32)
        pixels[:3, :] = 0  # -2048 HU
        image.RescaleIntercept = "-2048"
        image.PixelData = (pixels + np.where(pixels, 1024, 0)).astype("<u2").tobytes()
        image.save_as(file)
    bundle, scan = make_bundle("slice_transform_code"), find_one(tmp_path / "series")
    encoded = encode(scan, tmp_path / "f.safetensors", layers="level4", bundle=bundle, device="cpu")
    assert encoded.facts.padding["shape"] == [1, 24, 20, 5]
    decode(tmp_path / "f.safetensors", tmp_path / "out.nii.gz", bundle=bundle, device="cpu")
    back = values(tmp_path / "out.nii.gz")
    assert (back[:, :3] == -2048).all()
    assert (back[:, 3:] == -2048).mean() < 0.01


@pytest.mark.parametrize("dims", [2, 3])
def test_pieces_leave_no_seams(dims: int, make_bundle: Callable) -> None:
    name = {2: "slice_transform_code", 3: "volume_transform_code"}[dims]
    model = open_encoder(make_bundle(name), CPU)
    torch.manual_seed(0)
    image = torch.rand(131, 20, 18)
    image[:70] *= 0.1  # pieces that would each spend a budget of their own
    infos = list(model.layers.values())

    def encoded(most: int | None) -> dict[str, np.ndarray]:
        made: dict[str, np.ndarray] = {}
        for blocks in encode_image(model.network, image, infos, CPU, most=most):
            for layer, block in blocks.items():
                if layer not in made:
                    ends = [index.stop for index in block.index]
                    made[layer] = np.full(ends if dims == 3 else [18, *ends[1:]], np.nan, np.float32)
                assert np.isnan(made[layer][block.index]).all()  # each value once
                made[layer][block.index] = block.values
        return made

    whole, cut = encoded(1 << 24), encoded(131 * 20 * (2 if dims == 2 else 11))
    slices = image.permute(2, 0, 1)[:, None] if dims == 2 else image[None, None]
    with torch.inference_mode(), model.network.encoder.conditioned_on(slices):
        direct = model.network.encoder(slices, None)
    for layer in whole:
        size = float(np.abs(whole[layer]).max())
        assert np.array_equal(whole[layer], direct[layer].numpy() if dims == 2 else direct[layer][0].numpy())
        assert np.abs(whole[layer] - cut[layer]).max() < 1e-5 * size
        assert np.array_equal(whole[layer] != 0, cut[layer] != 0)
    stored = {
        info.name: _facts(info.name, whole[info.name].shape, info) for info in infos if info.name != "level1"
    }

    def read(name: str, *index: slice) -> np.ndarray:
        return np.ascontiguousarray(whole[name][index])

    one = decode_image(model.network, read, stored, image.shape, CPU, most=1 << 24)
    many = decode_image(model.network, read, stored, image.shape, CPU, most=131 * 20 * 2 if dims == 2 else 1)
    assert float((one - many).abs().max()) < 1e-5 * float(one.abs().max())
    inferer = (SliceInferer if dims == 2 else VolumeInferer)(["+".join(stored)], most_voxels=131 * 20 * 4)
    tiled = inferer(image[None, None], model.network)[0, 0].detach()
    assert float((one - tiled).abs().max()) < 1e-5 * float(one.abs().max())


def test_statistics_of_the_whole_volume_reach_each_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = TappedEncoder(nn.Sequential(nn.Conv3d(1, 2, 3, padding=1)), ["0"], intensity=ZScore())
    network = Reconstructor(encoder, FusionDecoder(encoder.layers(), widths=(4,)), mixed_precision=False)
    monkeypatch.setattr(tiles, "encoder_halo", lambda layers: 1)
    image = torch.rand(40, 12, 12)
    image[20:] += 3
    (whole,) = encode_image(network, image, network.encoder.layers(), CPU)
    cut = list(encode_image(network, image, network.encoder.layers(), CPU, most=8 * 12 * 12))
    assert len(cut) > 3
    (name,) = whole
    for blocks in cut:
        np.testing.assert_allclose(blocks[name].values, whole[name].values[blocks[name].index], atol=1e-5)
    assert not network.encoder.is_conditioned


def _facts(name: str, shape: tuple[int, ...], info: object):
    from medrecon.features.metadata import LayerFacts

    return LayerFacts(name, shape, info.stride, info.receptive_field, info.values_per_voxel)


def test_a_derived_series_is_the_one_that_reconstruct_writes(
    tmp_path: Path, make_bundle: Callable, make_ct: Make
) -> None:
    make_ct(tmp_path / "in" / "series", (20, 24, 5))
    make_ct(tmp_path / "in" / "other", (20, 24, 5), description="other", seed=1)
    bundle, scan = make_bundle("slice_transform_code"), find_one(tmp_path / "in" / "series")
    features = tmp_path / "f.safetensors"
    encode(scan, features, layers="level3", bundle=bundle, device="cpu")
    reference = reconstructed(bundle, tmp_path / "in" / "series", tmp_path / "ref", "level3", "dicom")
    (tmp_path / "in").rename(tmp_path / "moved")
    decode(features, tmp_path / "out", bundle=bundle, source=tmp_path / "moved", device="cpu")
    for name in sorted(path.name for path in reference.iterdir()):
        one, other = (pydicom.dcmread(folder / name) for folder in (reference, tmp_path / "out"))
        assert one.SOPInstanceUID == other.SOPInstanceUID
        assert one.PixelData == other.PixelData
    with pytest.raises(ScanError, match="is not the series that these features were made from"):
        decode(features, tmp_path / "b", bundle=bundle, source=tmp_path / "moved" / "other", device="cpu")
    shifted = replace(scan, affine=scan.affine + np.eye(4, k=3))
    with pytest.raises(ScanError, match="has another grid"):
        decode(features, tmp_path / "b", bundle=bundle, source=shifted, device="cpu")
    assert not (tmp_path / "b").exists()


GEOMETRY = (
    "    - { _target_: Orientationd, keys: image, axcodes: LPS, labels: null }\n"
    "    - { _target_: Spacingd, keys: image, pixdim: [1.3, 1.1, 2.5] }\n"
    "    - { _target_: medrecon.transforms"
)


def test_geometry_before_the_network_is_undone_without_the_scan(
    tmp_path: Path, make_bundle: Callable, make_nifti: Make
) -> None:
    from medrecon.errors import ModelError

    make_nifti(tmp_path / "t1.nii.gz", (30, 22, 17))
    bundle = make_bundle("volume_transform_code")
    plain = make_bundle("volume_transform_code", folder="plain")
    config = bundle / "configs" / "inference.yaml"
    config.write_text(config.read_text().replace("    - { _target_: medrecon.transforms", GEOMETRY))
    scan, features = find_one(tmp_path / "t1.nii.gz"), tmp_path / "f.safetensors"
    encoded = encode(scan, features, layers="level4", bundle=bundle, device="cpu")
    assert encoded.facts.image_shape != encoded.facts.shape
    assert len(encoded.facts.geometry) >= 2
    decode(features, tmp_path / "out.nii.gz", bundle=bundle, device="cpu")
    reference = reconstructed(bundle, tmp_path / "t1.nii.gz", tmp_path / "ref.nii.gz", "level4")
    assert np.array_equal(values(tmp_path / "out.nii.gz"), values(reference))
    assert nib.load(reference).header == nib.load(tmp_path / "out.nii.gz").header
    with pytest.raises(ModelError, match="which the bundle does not have"):
        decode(features, tmp_path / "b.nii.gz", bundle=plain, device="cpu")


@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_the_loss_that_is_written_is_the_loss_there_is(
    name: str, dtype: str, tmp_path: Path, make_bundle: Callable, make_nifti: Make
) -> None:
    make_nifti(tmp_path / "t1.nii.gz", (20, 18, 9))
    bundle, scan = make_bundle(name), find_one(tmp_path / "t1.nii.gz")
    exact = encode(scan, tmp_path / "a.safetensors", layers="level4", bundle=bundle, device="cpu")
    coarse = encode(
        scan, tmp_path / "b.safetensors", layers="level4", bundle=bundle, dtype=dtype, device="cpu"
    )
    with safe_open(coarse.path, framework="np") as stored:
        assert stored.get_slice("level4").get_dtype() == {"float16": "F16", "int8": "I8"}[dtype]
    with FeatureFile(exact.path) as one, FeatureFile(coarse.path) as other:
        before, after = one.read("level4").astype(np.float64), other.read("level4").astype(np.float64)
    (layer,) = coarse.facts.layers
    error = np.linalg.norm(after - before) / np.linalg.norm(before)
    assert 0 < error < {"float16": 1e-3, "int8": 3e-2}[dtype]
    assert layer.relative_error == pytest.approx(error, rel=1e-3)
    source = values(tmp_path / "t1.nii.gz").astype(np.float64)
    width = coarse.facts.intensity["high"] - coarse.facts.intensity["low"]
    psnr = []
    for path in (exact.path, coarse.path):
        with FeatureFile(path) as file:
            from medrecon.features import FeatureDecoder
            from medrecon.features.model import open_decoder

            made = FeatureDecoder(open_decoder(bundle, CPU)).volume(file, "level4")
        psnr.append(-10 * np.log10(np.square((made - source) / width).mean()))
    assert layer.psnr_float32 == pytest.approx(psnr[0], abs=1e-3)
    assert layer.psnr == pytest.approx(psnr[1], abs=1e-3)
    assert layer.psnr_voxels == source.size


def test_the_middle_of_a_large_volume_is_measured_as_a_part_of_the_whole(
    tmp_path: Path, make_bundle: Callable, make_nifti: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medrecon.features import rounding_loss

    monkeypatch.setattr(rounding_loss, "MOST_MEASURED", 32 * 16 * 16)
    make_nifti(tmp_path / "t1.nii.gz", (150, 20, 18))
    bundle, scan = make_bundle("volume_transform_code"), find_one(tmp_path / "t1.nii.gz")
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    decoded = rounding_loss._decoded
    monkeypatch.setattr(rounding_loss, "_decoded", lambda *a: seen.append(decoded(*a)) or seen[-1])
    encoder = FeatureEncoder.from_bundle(bundle, "level3", "int8", device="cpu")
    (layer,) = encoder.run(scan, tmp_path / "f.safetensors").facts.layers
    assert 0 < layer.psnr_voxels <= 32 * 16 * 16
    encode(scan, tmp_path / "a.safetensors", layers="level3", bundle=bundle, device="cpu")
    with FeatureFile(tmp_path / "a.safetensors") as file:
        layers = {"level3": file.facts.layers[0]}
        whole = decode_image(encoder.model.network, file.read, layers, (150, 20, 18), CPU)
    part = seen[0][1]
    starts = range(0, 150 - len(part) + 1)
    (at,) = [x for x in starts if torch.allclose(whole[x : x + len(part), :16, :16], part, atol=1e-5)]
    assert at > 0


@pytest.mark.parametrize("name", ["volume_transform_code", "slice_transform_code"])
def test_a_file_is_as_small_as_the_rate_says(
    name: str, tmp_path: Path, make_bundle: Callable, make_nifti: Make
) -> None:
    voxels = make_nifti(tmp_path / "t1.nii.gz", (64, 64, 64)).size
    bundle, scan = make_bundle(name), find_one(tmp_path / "t1.nii.gz")
    for dtype, each in (("int8", 1), ("float32", 4)):
        encoder = FeatureEncoder.from_bundle(bundle, "level4", dtype, device="cpu", measure=False)
        done = encoder.run(scan, tmp_path / f"{dtype}.safetensors")
        (layer,) = done.facts.layers
        assert 0.9 / 16 < layer.values_per_voxel <= 1 / 16
        places = int(np.prod(layer.positions))
        assert layer.kept + places == round(layer.values_per_voxel * voxels)
        with safe_open(done.path, framework="np") as file:
            sizes = {key: file.get_tensor(key).nbytes for key in file.keys()}  # noqa: SIM118
        assert sizes["level4"] == layer.kept * each
        assert sizes["level4:which"] == 2 * places
        assert sizes["level4:sets"] < 8000
        assert done.size < sum(sizes.values()) + 16_000  # scales as text
        assert encoder.size(scan) == pytest.approx(sizes["level4"] + sizes["level4:which"], rel=0.1)
