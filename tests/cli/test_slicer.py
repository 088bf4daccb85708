"""The verb `slicer`: its description obeys Slicer's rules, and it runs as Slicer calls it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medrecon import __version__, layers
from medrecon.bundle.config import Bundle
from medrecon.cli.slicer_module import BUNDLE, DEFAULT_LAYER
from medrecon.report.scene import DEFAULT_LAYER as SCENE_LAYER

from .conftest import Run

HEAD = ("category", "title", "description", "version", "documentation-url", "license", "contributor")
SCALARS = {"boolean", "integer", "float", "double", "string", "string-enumeration", "directory"}
VOLUMES = {"image", "file"}
CHILDREN = {"name", "label", "description", "default", "flag", "longflag", "element", "channel", "index"}
ATTRIBUTES = {
    "image": {"type", "fileExtensions", "reference", "hidden", "multiple"},
    "file": {"fileExtensions"},
}
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@pytest.fixture
def run(medrecon: Run) -> Run:
    """Runs `medrecon slicer ...`: exit code, stdout, stderr."""
    return lambda *words: medrecon("slicer", *words)


def faults(text: str) -> list[str]:
    """What breaks the rules of ModuleDescription.xsd and ModuleDescriptionParser.cxx."""
    root, wrong = ElementTree.fromstring(text.encode()), []
    if not text.startswith("<?xml"):
        wrong.append("does not start right away")
    groups = list(root)[len(HEAD) :]
    if root.tag != "executable" or tuple(child.tag for child in root)[: len(HEAD)] != HEAD:
        wrong.append("head")
    if not groups or {group.tag for group in groups} != {"parameters"}:
        wrong.append("groups")
    names: list[str] = []
    indices: list[int] = []
    for group in groups:
        if [child.tag for child in group][:2] != ["label", "description"]:
            wrong.append("group without label and description")
        for parameter in list(group)[2:]:
            said = {child.tag: (child.text or "").strip() for child in parameter}
            name = said.get("name", "")
            names.append(name)
            flagged = [said[tag].lstrip("-") for tag in ("flag", "longflag") if tag in said]
            names += flagged if flagged != [name] else []
            wrong += [
                f"{name}: {part} is no variable" for part in (name, *flagged) if not VARIABLE.fullmatch(part)
            ]
            wrong += [f"{name}: unknown <{tag}>" for tag in set(said) - CHILDREN]
            wrong += [f"{name}: no {tag}" for tag in ("label", "description") if not said.get(tag)]
            if parameter.tag not in SCALARS | VOLUMES:
                wrong.append(f"{name}: unknown kind {parameter.tag}")
            if set(parameter.attrib) - ATTRIBUTES.get(parameter.tag, set()):
                wrong.append(f"{name}: unknown attribute")
            if bool(flagged) == ("index" in said):
                wrong.append(f"{name}: needs a flag or an index, and not both")
            if "index" in said:
                indices.append(int(said["index"]))
            if (parameter.tag in VOLUMES) != (said.get("channel") in ("input", "output")):
                wrong.append(f"{name}: channel")
            elements = [child.text for child in parameter.iter("element")]
            if parameter.tag.endswith("enumeration") and said.get("default") not in elements:
                wrong.append(f"{name}: the default is no choice")
            if parameter.tag == "boolean" and said.get("default") not in ("true", "false"):
                wrong.append(f"{name}: the default is neither true nor false")
    wrong += [f"{name} twice" for name in set(names) if names.count(name) > 1]
    if indices != list(range(len(indices))):
        wrong.append("indices")
    return wrong


def call_of(text: str, values: Mapping[str, str]) -> list[str]:
    """The arguments that Slicer makes of a description and what was chosen (vtkSlicerCLIModuleLogic.cxx)."""
    flagged: list[str] = []
    indexed: dict[int, str] = {}
    for parameter in ElementTree.fromstring(text.encode()).iterfind("parameters/*"):
        if parameter.find("name") is None:
            continue
        said = {child.tag: (child.text or "").strip() for child in parameter}
        value = values.get(said["name"], said.get("default", ""))
        if "index" in said:
            indexed[int(said["index"])] = value
        elif parameter.tag == "boolean":
            flagged += [said["longflag"]] if value == "true" else []
        elif value or parameter.tag not in ("string", "file", "directory", "image"):
            flagged += [said["longflag"], value]
    return flagged + [indexed[index] for index in sorted(indexed)]


def write_nrrd(path: Path, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A volume as Slicer hands it over; its values (X, Y, Z) and its affine in RAS mm."""
    values = np.random.default_rng(seed).integers(-500, 900, (10, 14, 18)).astype(np.int16)
    image = sitk.GetImageFromArray(values)
    turn = np.deg2rad(9.0)
    image.SetDirection([np.cos(turn), -np.sin(turn), 0, np.sin(turn), np.cos(turn), 0, 0, 0, 1])
    image.SetSpacing((0.9, 0.8, 2.0))
    image.SetOrigin((-12.5, 33.25, 101.0))
    sitk.WriteImage(image, str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return values.transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def test_description(run: Run) -> None:
    code, out, err = run("--xml")
    assert (code, err) == (0, "")
    assert faults(out) == []
    assert ElementTree.fromstring(out.encode()).findtext("version") == __version__


@pytest.mark.parametrize(
    ("there", "instead", "fault"),
    [
        ("<longflag>--hu</longflag>", "<longflag>--hu-values</longflag>", "no variable"),
        ("<longflag>--hu</longflag>", "<longflag>--layers</longflag>", "layers twice"),
        ("<index>1</index>", "<index>0</index>", "indices"),
        ("<default>auto</default>", "<default>gpu</default>", "no choice"),
        ("<default>false</default>", "<default>no</default>", "neither"),
        ("<channel>output</channel>", "", "channel"),
        ("<version>", "<versions/><version>", "head"),
        ('<?xml version="1.0" encoding="utf-8"?>', "\n", "right away"),
    ],
)
def test_rules_find_planted_faults(there: str, instead: str, fault: str, run: Run) -> None:
    text = run("--xml")[1]
    assert there in text
    assert any(fault in found for found in faults(text.replace(there, instead, 1)))


def choice(text: str, name: str) -> tuple[list[str], str]:
    """The elements and the default of a choice."""
    [found] = [p for p in ElementTree.fromstring(text.encode()).iter() if p.findtext("name") == name]
    assert found.tag == "string-enumeration"
    return [element.text or "" for element in found.iter("element")], found.findtext("default") or ""


@pytest.mark.parametrize("bundle", [(), ("--bundle", "slice_autoencoder")])
def test_layers_of_the_own_bundles_are_offered(bundle: tuple[str, ...], run: Run) -> None:
    name = bundle[-1] if bundle else BUNDLE
    offered, default = choice(run("--xml", *bundle)[1], "layers")
    assert offered == [*(layer.name for layer in layers(name)), "input"]
    assert default == DEFAULT_LAYER == SCENE_LAYER
    assert default == Bundle.open(name).meta["network_def"]["layers"]


def test_layers_of_a_chosen_bundle_are_offered(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    assert run("--install", tmp_path, "--bundle", tiny_bundle)[0] == 0
    text = (tmp_path / "MedreconReconstruct.xml").read_text()
    assert faults(text) == []
    assert choice(text, "layers") == ([*(layer.name for layer in layers(tiny_bundle)), "input"], "coarse4")
    call = call_of(text, {"inputVolume": "a.nrrd", "outputVolume": "b.nii.gz"})
    assert call[call.index("--bundle") + 1] == str(tiny_bundle.resolve())
    before = sorted((path.name, path.read_bytes()) for path in tmp_path.glob("Medrecon*"))
    assert run("--install", tmp_path, "--bundle", "no_such_bundle")[0] == 4
    assert sorted((path.name, path.read_bytes()) for path in tmp_path.glob("Medrecon*")) == before


def test_other_layers_take_the_place_of_the_choice(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    write_nrrd(tmp_path / "a.nrrd")
    chosen = {
        "inputVolume": str(tmp_path / "a.nrrd"),
        "outputVolume": str(tmp_path / "b.nii.gz"),
        "bundle": str(tiny_bundle),
        "device": "cpu",
    }
    text = run("--xml")[1]
    assert "--other" not in call_of(text, chosen), "an empty field asks for nothing"
    code, out, _ = run(*call_of(text, {**chosen, "other": "coarse2+coarse4"}))
    assert code == 0
    assert "<filter-name>medrecon coarse2+coarse4</filter-name>" in out
    code, _, err = run(*call_of(text, chosen))
    assert (code, "coarse2" in err) == (4, True), "the choice is of another bundle: the layers are named"


def test_description_is_light_and_alone_on_stdout() -> None:
    code = (
        "import sys; from medrecon.cli.app import main\n"
        "try: main(['slicer', '--xml'])\n"
        "except SystemExit as end: assert not end.code\n"
        "sys.exit(', '.join({'torch', 'monai', 'numpy', 'pydicom'} & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert faults(done.stdout) == []


def test_end_to_end_as_slicer_calls_it(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    values, affine = write_nrrd(tmp_path / "BCDE_vtkMRMLScalarVolumeNodeB.nrrd")
    output = tmp_path / "BCDE_vtkMRMLScalarVolumeNodeC.nii.gz"
    chosen = {
        "inputVolume": str(tmp_path / "BCDE_vtkMRMLScalarVolumeNodeB.nrrd"),
        "outputVolume": str(output),
        "bundle": str(tiny_bundle),
        "layers": "input",
        "device": "cpu",
        "hu": "true",
    }
    call = call_of(run("--xml")[1], chosen)
    assert call[-2:] == [chosen["inputVolume"], chosen["outputVolume"]]
    assert "--hu" in call
    assert "--weights" not in call
    for _ in range(2):  # Slicer uses the same names again
        code, out, err = run(*call)
        assert (code, err) == (0, ""), "whatever is on stderr is an error in Slicer"
    found = nib.load(output)
    assert np.array_equal(np.asarray(found.dataobj), values)
    assert np.abs(found.affine - affine).max() < 1e-5
    progress = [float(v) for v in re.findall(r"<filter-progress>([^<]*)</filter-progress>", out)]
    assert progress == sorted(progress)
    assert (progress[0], progress[-1]) == (0.0, 1.0)
    assert re.search(r"<filter-name>medrecon input</filter-name>", out)


def test_layers_are_joined(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    write_nrrd(tmp_path / "a.nrrd")
    common = (tmp_path / "a.nrrd", tmp_path / "b.nii.gz", "--bundle", tiny_bundle, "--device", "cpu")
    assert run(*common, "--layers", "coarse2+coarse4")[0] == 0
    code, _, err = run(*common, "--layers", "coarse2,coarse4")
    assert code == 2
    assert "join layers by plus" in err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "no input or no output"),
        (("a.nrrd", "out"), 2, "name a .nii.gz file"),
        (("missing.nrrd", "out.nii.gz"), 3, "missing.nrrd"),
    ],
)
def test_refusals_are_one_line_on_stderr(
    arguments: tuple[str, ...],
    code: int,
    said: str,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    found, _, err = run(*arguments)
    assert found == code
    assert said in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_installed_module(run: Run, tmp_path: Path, tiny_bundle: Path) -> None:
    folder = tmp_path / "slicer modules"
    for _ in range(2):
        code, out, err = run("--install", folder)
        assert (code, err) == (0, "")
    assert str(folder) in out
    launcher, described = folder / "MedreconReconstruct.py", folder / "MedreconReconstruct.xml"
    assert {launcher, described} == set(folder.iterdir())
    assert described.read_text() == run("--xml")[1]
    assert launcher.read_text().startswith("#!"), "else Slicer takes it for a scripted module"
    write_nrrd(tmp_path / "a.nrrd")
    call = [str(tmp_path / "a.nrrd"), str(tmp_path / "b.nii.gz"), "--layers", "coarse2", "--device", "cpu"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    poison = {"PYTHONHOME": "/nowhere", "PYTHONPATH": "/nowhere", "LD_LIBRARY_PATH": "/nowhere"}
    before = {f"APPLAUNCHER_0_{name}": value for name, value in clean.items()}
    before["APPLAUNCHER_0_PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    environment = {**clean, **before, "APPLAUNCHER_LEVEL": "1", **poison}
    # Slicer's Python would run it; isolated, this one stands in for it
    done = subprocess.run(
        [sys.executable, "-I", str(launcher), *call, "--bundle", str(tiny_bundle)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "<filter-progress>1</filter-progress>" in done.stdout
    assert (tmp_path / "b.nii.gz").is_file()


def test_launcher_says_when_medrecon_has_moved(run: Run, tmp_path: Path) -> None:
    run("--install", tmp_path)
    launcher = tmp_path / "MedreconReconstruct.py"
    launcher.write_text(launcher.read_text().replace(sys.executable, "/nowhere/python"))
    done = subprocess.run([sys.executable, str(launcher)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "slicer --install again" in done.stderr
