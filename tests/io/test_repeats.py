"""Images of one kind at the same positions: every volume holds every position, or it is said or refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medrecon.io import ScanError, find_one, find_scans

from .made_series import planes, write_slices

N, T = 8, 3
Slices = list[dict[str, Any]]


def images(times: int = T, positions: int = N) -> list[tuple[int, int]]:
    """(repeat, position) of all images, repeat by repeat."""
    return list(itertools.product(range(times), range(positions)))


def clock(seconds: float) -> str:
    """A TM value."""
    return f"{10 + int(seconds // 3600):02d}{int(seconds // 60) % 60:02d}{seconds % 60:06.3f}"


def number(k: int) -> dict[str, Any]:
    return {"InstanceNumber": k + 1}


WAYS: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "multiband, by time": lambda t, k: {
        "AcquisitionTime": clock(12.0 * t + 3 * (k % 4)),
        "InstanceNumber": None,
    },
    "multiband, by trigger": lambda t, k: {"TriggerTime": 1200 * t + 70 * (k % 4), "InstanceNumber": None},
    "multiband, numbered": lambda t, k: {
        "AcquisitionTime": clock(12.0 * t + 3 * (k % 4)),
        **number(t * N + k),
    },
    "multiband of three": lambda t, k: {"AcquisitionTime": clock(9.0 * t + 3 * (k % 3)), **number(t * N + k)},
    "odd and even packages": lambda t, k: {"AcquisitionNumber": 1 + 2 * t + k % 2, "InstanceNumber": None},
    "lower and upper package": lambda t, k: {"AcquisitionNumber": 1 + 2 * t + k // 4, "InstanceNumber": None},
    "packages with a time": lambda t, k: {
        "AcquisitionTime": clock(30.0 * t + 15 * (k % 2)),
        **number(t * N + k),
    },
    "numbers, repeat by repeat": lambda t, k: number(t * N + k),
    "numbers, position by position": lambda t, k: number(k * T + t),
    "numbers with gaps": lambda t, k: {"InstanceNumber": 1000 * t + 7 * k},
    "cine with times of each slice": lambda t, k: {"TriggerTime": 41 * t + 3 * k, "InstanceNumber": None},
    "cine with jitter": lambda t, k: {"TriggerTime": 40 * t + (k * 7) % 11, **number(k * T + t)},
    "acquisition number": lambda t, k: {"AcquisitionNumber": t + 1, "InstanceNumber": None},
    "one time for each repeat": lambda t, k: {"AcquisitionTime": clock(2.0 * t), "InstanceNumber": None},
    "over midnight": lambda t, k: {
        "AcquisitionDate": f"2024010{1 + (t > 0)}",
        "AcquisitionTime": "235959.5" if t == 0 else clock(t)[:-4],
        "InstanceNumber": None,
    },
    "date and time in one": lambda t, k: {
        "AcquisitionDateTime": f"2024010110{t:02d}{k:02d}.25",
        "InstanceNumber": None,
    },
    "content time": lambda t, k: {"ContentTime": clock(t * 10 + k), "InstanceNumber": None},
    "temporal position": lambda t, k: {"TemporalPositionIdentifier": t + 1, "InstanceNumber": None},
    "repetition time of each repeat": lambda t, k: {"RepetitionTime": 500 + 100 * t, "InstanceNumber": None},
    "jittering repetition time": lambda t, k: {"RepetitionTime": 500 + 10 * t + k, **number(t * N + k)},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_volume_holds_every_position(way: str, tmp_path: Path) -> None:
    slices = [{"z": 3 * k, "value": 100 * t + k, **WAYS[way](t, k)} for t, k in images()]
    write_slices(tmp_path / "s", [slices[i] for i in np.random.default_rng(0).permutation(len(slices))])
    with pytest.raises(ScanError, match=rf"holds {T} volumes .*--volume 0 \.\.\. {T - 1}"):
        find_one(tmp_path / "s")
    for t in range(T):
        scan = find_one(tmp_path / "s", volume=t)
        assert planes(scan) == [100 * t + k for k in range(N)]
        assert scan.spacing[2] == pytest.approx(3)
        assert not [note for note in scan.notes if "left out" not in note]


def test_repeats_whose_positions_are_nearly_the_same(tmp_path: Path) -> None:
    slices = [
        {"z": 3 * k + (0, 0.002, 0.05)[t], "value": 100 * t + k, **number(t * N + k)} for t, k in images()
    ]
    write_slices(tmp_path / "s", slices)
    assert [planes(find_one(tmp_path / "s", volume=t))[5] for t in range(T)] == [5, 105, 205]


def test_the_order_of_times_is_taken_and_that_numbers_contradict_it_is_said(tmp_path: Path) -> None:
    slices = [
        {
            "z": 3 * k,
            "value": 100 * t + k,
            "TriggerTime": 40 * t,
            **number(k * T + (T - 1 - t if k % 2 else t)),
        }
        for t, k in images()
    ]
    slices[0]["TriggerTime"] = 1
    write_slices(tmp_path / "s", slices)
    scan = find_one(tmp_path / "s", volume=1)
    assert planes(scan) == [100 + k for k in range(N)]
    assert any("told apart by TriggerTime; Instance Numbers give another order" in n for n in scan.notes)


EARLY = {
    "numbers": lambda t, k: number(t * N + k),
    "acquisition number": lambda t, k: {"AcquisitionNumber": t + 1, "InstanceNumber": None},
    "temporal position": lambda t, k: {"TemporalPositionIdentifier": t + 1, "InstanceNumber": None},
    "multiband": lambda t, k: {"AcquisitionTime": clock(12.0 * t + 3 * (k % 4)), **number(t * N + k)},
}


@pytest.mark.parametrize("way", EARLY)
def test_a_scan_that_stopped_early(way: str, tmp_path: Path) -> None:
    there = [(t, k) for t, k in images() if t < T - 1 or k < 5]
    write_slices(tmp_path / "s", [{"z": 3 * k, "value": 100 * t + k, **EARLY[way](t, k)} for t, k in there])
    with pytest.raises(ScanError, match=r"holds 3 volumes .*2 \([^)]*: 5 of 8 slices\)"):
        find_one(tmp_path / "s")
    for t in range(T):
        scan = find_one(tmp_path / "s", volume=t)
        assert planes(scan) == [100 * t + k for k in range(5 if t == 2 else N)]
        assert "volume 2 holds 5 of the 8 positions" in scan.notes


@pytest.mark.parametrize("order", ["repeat by repeat", "position by position"])
def test_a_slice_lost_in_the_middle_shifts_no_other_into_its_volume(order: str, tmp_path: Path) -> None:
    there = [(t, k) for t, k in images() if (t, k) != (1, 4)]
    numbers = {"repeat by repeat": lambda t, k: t * N + k, "position by position": lambda t, k: k * T + t}[
        order
    ]
    write_slices(
        tmp_path / "s", [{"z": 3 * k, "value": 100 * t + k, **number(numbers(t, k))} for t, k in there]
    )
    with pytest.raises(
        ScanError, match=r"different slices at the same position: .* 7 of 8|.*--accept same-position"
    ):
        find_one(tmp_path / "s", volume=0)
    scan = find_one(tmp_path / "s", accept=["same-position"])
    assert planes(scan)[:4] == [0, 1, 2, 3]
    assert any("15 slice(s) at the position of another one are not read" in note for note in scan.notes)


def test_an_end_slice_lost_from_one_repeat_is_said(tmp_path: Path) -> None:
    there = [(t, k) for t, k in images() if (t, k) != (1, 7)]
    write_slices(
        tmp_path / "s",
        [{"z": 3 * k, "value": 100 * t + k, "TemporalPositionIdentifier": t + 1} for t, k in there],
    )
    assert "volume 1 holds 7 of the 8 positions" in find_one(tmp_path / "s", volume=1).notes


def test_stacks_that_overlap_in_part(tmp_path: Path) -> None:
    slices = [{"z": 3 * k, "value": k, "AcquisitionNumber": 1} for k in range(6)]
    slices += [{"z": 3 * k, "value": 100 + k, "AcquisitionNumber": 2} for k in range(4, 10)]
    write_slices(tmp_path / "s", slices)
    with pytest.raises(ScanError, match=r"0 \(AcquisitionNumber 1: 6 of 10 slices\)"):
        find_one(tmp_path / "s")
    assert planes(find_one(tmp_path / "s", volume=0)) == list(range(6))
    assert planes(find_one(tmp_path / "s", volume=1)) == [100 + k for k in range(4, 10)]


def test_two_echoes_times_magnitude_and_phase(tmp_path: Path) -> None:
    """Slice by slice, with one Instance Number after the other."""
    kinds = list(itertools.product((10, 30), "MP"))
    slices = [
        {
            "z": 3 * k,
            "value": 100 * v + k,
            "EchoTime": echo,
            "ImageType": ["ORIGINAL", "PRIMARY", part],
            **number(4 * k + v),
        }
        for k in range(N)
        for v, (echo, part) in enumerate(kinds)
    ]
    write_slices(tmp_path / "s", slices)
    with pytest.raises(
        ScanError, match=r"differ in EchoTime and ImageType: 0 \(EchoTime 10, ImageType ORIGINAL.PRIMARY.M: 8"
    ):
        find_one(tmp_path / "s")
    for v in range(4):
        assert planes(find_one(tmp_path / "s", volume=v)) == [100 * v + k for k in range(N)]


def test_diffusion_with_repeats(tmp_path: Path) -> None:
    """Three b 0 and two directions: the repeats of b 0 are told apart by their numbers."""
    kinds = [(0.0, None), (1000.0, [1.0, 0, 0]), (0.0, None), (1000.0, [0, 1.0, 0]), (0.0, None)]
    slices = []
    for v, (b, direction) in enumerate(kinds):
        for k in range(N):
            mark = {} if direction is None else {"DiffusionGradientOrientation": direction}
            slices.append(
                {"z": 3 * k, "value": 100 * v + k, "DiffusionBValue": b, **mark, **number(v * N + k)}
            )
    write_slices(tmp_path / "s", slices)
    found = [planes(find_one(tmp_path / "s", volume=v)) for v in range(5)]
    assert [values[0] for values in found[:3]] == [0, 200, 400]
    assert sorted(found) == [[100 * v + k for k in range(N)] for v in range(5)]


def test_phases_times_repeats(tmp_path: Path) -> None:
    """Two marks that may differ within a volume, together: three phases of two repeats."""
    kinds = list(itertools.product((1, 2), (0, 40, 80)))
    slices = [
        {"z": 3 * k, "value": 100 * v + k, "AcquisitionNumber": a, "TriggerTime": t, "InstanceNumber": None}
        for v, (a, t) in enumerate(kinds)
        for k in range(N)
    ]
    write_slices(tmp_path / "s", slices)
    found = sorted(planes(find_one(tmp_path / "s", volume=v)) for v in range(6))
    assert found == [[100 * v + k for k in range(N)] for v in range(6)]


def test_nothing_tells_them_apart(tmp_path: Path) -> None:
    write_slices(tmp_path / "s", [{"z": 3 * k, "InstanceNumber": None} for _, k in images()])
    with pytest.raises(ScanError, match=r"each position holds 3, and no mark.*--accept same-position"):
        find_one(tmp_path / "s")


def test_images_of_one_position(tmp_path: Path) -> None:
    write_slices(tmp_path / "s", [{"z": 4, "value": t} for t in range(5)])
    with pytest.raises(
        ScanError, match=r"all 5 images are at one position .*--volume 0 \.\.\. 4, of a single slice"
    ):
        find_one(tmp_path / "s")
    assert planes(find_one(tmp_path / "s", volume=3)) == [3]
    assert len(find_scans(tmp_path / "s", volume=3).left_out) == 4
