"""The page of `medrecon open` in a real browser: a scan is chosen, measured and read."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medrecon.cli.app import main

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")

PATIENCE = 120  # seconds, on cores that others use as well


def scan(path: Path) -> Path:
    x, y, z = np.ogrid[-1:1:24j, -1:1:24j, -1:1:16j]
    values = np.where(x**2 + y**2 + 0 * z < 0.6, 900, 0) + np.random.default_rng(1).normal(
        0, 20, (24, 24, 16)
    )
    nib.save(nib.Nifti1Image(values.astype(np.int16), np.eye(4)), path)
    return path


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The command itself, as a user starts it."""
    command = [sys.executable, "-m", "medrecon", "open", "--no-browser", "--device", "cpu"]
    with subprocess.Popen(
        [*command, "--results", str(tmp_path / "results")], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        found = next(line for line in process.stderr if line.startswith("open http://127.0.0.1:"))
        yield found.split()[1]
        process.terminate()


@pytest.fixture
def chromium() -> Iterator[Any]:
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((found for name in names if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


def until(chromium: Any, script: str, wanted: Callable[[Any], bool]) -> Any:
    ends = time.monotonic() + PATIENCE
    while not wanted(found := chromium.execute_script(script)):
        assert time.monotonic() < ends, f"{script} stays {found!r}"
        time.sleep(0.1)
    return found


@pytest.mark.browser
@pytest.mark.slow
def test_a_scan_is_dropped_and_its_report_opens(address: str, chromium: Any, tmp_path: Path) -> None:
    chromium.get(address)
    shown = "return document.querySelectorAll('[name=layer]').length"
    until(chromium, shown, lambda count: count == 5)
    chromium.find_element("name", "files").send_keys(str(scan(tmp_path / "brain.nii.gz")))
    until(chromium, "return document.getElementById('chosen').textContent", lambda t: "brain.nii.gz" in t)
    for box in chromium.find_elements("name", "layer")[2:]:
        box.click()
    chromium.find_element("css selector", "#new button").click()
    until(chromium, "return document.getElementById('viewer')?.dataset.state ?? ''", lambda s: s == "all")
    assert "/results/" in chromium.current_url
    assert chromium.execute_script("return document.querySelectorAll('button[data-layer]').length") == 3
    chromium.get(address)
    until(chromium, "return document.querySelectorAll('#results a').length", lambda count: count == 1)

    drop = """const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(3000)], 'broken.nii'));
        const drop = new DragEvent('drop', {dataTransfer: data, bubbles: true});
        document.getElementById('drop').dispatchEvent(drop);"""
    chromium.execute_script(drop)
    until(chromium, "return document.getElementById('chosen').textContent", lambda t: "broken.nii" in t)
    chromium.find_element("css selector", "#new button").click()
    why = until(chromium, "return document.querySelector('#jobs .failed')?.textContent ?? ''", bool)
    assert ";" in why, "what is wrong, and what to do"

    chromium.find_element("name", "files").send_keys(str(scan(tmp_path / "again.nii.gz")))
    chromium.execute_script("document.querySelector('[name=bundle]').value = 'slice_autoencoder'")
    chromium.find_element("css selector", "#new button").click()
    stop = "const button = document.querySelector('#jobs button'); button?.click(); return Boolean(button)"
    until(chromium, stop, bool)
    until(chromium, "return document.querySelector('#jobs li').textContent", lambda t: "stopped" in t)
    assert chromium.current_url == address
    assert chromium.get_log("browser") == []
    assert len(list((tmp_path / "results").iterdir())) == 1, "nothing half-written"


def test_what_cannot_be_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for words, code, said in (
        (["nowhere.nii"], 2, "there is no nowhere.nii"),
        (["--results", str(tmp_path / "file" / "x")], 5, "cannot be made"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["open", "--no-browser", *words])
        assert ended.value.code == code
        assert said in capsys.readouterr().err
