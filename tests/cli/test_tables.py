"""Tables at any width: no number is broken, no line is too long, and what is left out is named."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from medrecon.cli.tables import print_table

COLUMNS = ("scan", "layer", "values per voxel", "PSNR (dB)", "half width of the interval", "MAE", "path")
NUMBERS = ("values per voxel", "PSNR (dB)", "half width of the interval", "MAE")
ROWS = [
    (
        f"a scan with a name that is long {n}",
        f"level{n}",
        "0.0625",
        f"{40 + n}.31",
        "123.456",
        "12.3 HU",
        "/x" * 20,
    )
    for n in range(3)
]


def shown(width: int, **options: object) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False, markup=False, emoji=False)
    print_table(
        console, COLUMNS, ROWS, right=NUMBERS, spare=("half width of the interval", "path"), **options
    )
    return stream.getvalue()


@pytest.mark.parametrize("width", [56, 64, 80, 100, 120, 200])
def test_it_fits_and_no_number_is_broken(width: int) -> None:
    text = shown(width, whole=("layer",))
    assert max(map(len, text.splitlines())) <= width
    for cell in ("0.0625", "41.31", "12.3 HU", "level2"):
        assert cell in text
    assert "…" not in text
    spared = text.partition("not shown for want of room:")[2]
    assert ("123.456" in text) != ("half width of the interval" in spared)
    assert ("/x/x" in text) != ("path" in spared)


def test_all_is_shown_where_there_is_room() -> None:
    text = shown(200)
    assert "not shown" not in text
    assert "half width of the interval" in text
    assert "path" in shown(80).partition("not shown")[2] or "/x/x" in shown(80)
    assert "half width" in shown(80).partition("not shown")[2], "the first that can be spared goes first"


def test_nothing_steers_the_terminal() -> None:
    stream = io.StringIO()
    print_table(Console(file=stream, width=80), ("name", ""), [("a\x1b[31mb\nc", None)])
    assert "a?[31mb c" in stream.getvalue()
    assert "-" in stream.getvalue()
