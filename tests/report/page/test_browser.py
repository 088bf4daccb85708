"""The page in headless Chromium, opened from disk: driven by mouse, wheel and keys; no request, no error."""

from __future__ import annotations

import io
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from medrecon.cli.app import main
from medrecon.evaluation.findings import FindingMeter
from medrecon.evaluation.marked import sphere
from medrecon.report.page import write_page

sys.path.insert(0, str(Path(__file__).parent))
import made

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
ScrollOrigin = pytest.importorskip("selenium.webdriver.common.actions.wheel_input").ScrollOrigin

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("without_figures")]

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--window-size=1280,900",
    "--force-device-scale-factor=1",
)
PATIENCE = 60  # seconds, on cores that others use as well


@pytest.fixture
def browse() -> Iterator[Callable[..., Any]]:
    """Opens a page in a Chromium of its own: `browse(page, *flags)`; skips where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((found for name in names if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    opened = []

    def browse(page: Path, *flags: str) -> Any:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for flag in (*FLAGS, *flags):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        chromium = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        opened.append(chromium)
        chromium.set_page_load_timeout(PATIENCE)
        chromium.set_script_timeout(PATIENCE)
        chromium.get(page.as_uri())
        return chromium

    yield browse
    for chromium in opened:
        if chromium.service.is_connectable():  # else the test has ended it
            chromium.quit()


def until(chromium: Any, script: str, wanted: Callable[[Any], bool]) -> Any:
    ends = time.monotonic() + PATIENCE
    while not wanted(found := chromium.execute_script(script)):
        assert time.monotonic() < ends, f"{script} stays {found!r}"
        time.sleep(0.1)
    return found


STATE = "return document.getElementById('viewer').dataset.state"
PANES = "return [0, 1].map((n) => ({...document.getElementById(`pane-${n}`).dataset}))"


def start_viewer(chromium: Any) -> None:
    until(chromium, STATE, lambda state: state in ("all", "failed"))
    assert chromium.execute_script(STATE) == "all"


def pixels(chromium: Any, pane: int) -> np.ndarray:
    picture = chromium.find_element("id", f"pane-{pane}").screenshot_as_png
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.split()]


def after(chromium: Any, act: Callable[[], Any], what: str = "at") -> list[float]:
    """Do something; both panes must then agree on what changed."""
    before = chromium.execute_script(PANES)[0][what]
    act()
    panes = until(chromium, PANES, lambda panes: panes[0][what] != before)
    assert panes[0][what] == panes[1][what], "the panes are linked"
    return numbers(panes[0][what])


def requests(chromium: Any) -> set[str]:
    events = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return {url for url in urls if not url.startswith("data:")}


def asked_for(log: Path) -> set[str]:
    """What a page asked the network for, by Chromium's own log; the browser's own requests have no origin."""
    content = json.loads(log.read_text(encoding="utf-8"))
    begins = content["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    events = [event.get("params", {}) for event in content["events"] if event["type"] == begins]
    return {p["url"] for p in events if "url" in p and p.get("initiator") != "not an origin"}


def log_of(browse: Callable[..., Any], page: Path, log: Path, use: Callable[[Any], None]) -> set[str]:
    chromium = browse(page, f"--log-net-log={log}", "--net-log-capture-mode=IncludeSensitive")
    use(chromium)
    chromium.quit()  # the log is whole only then
    return asked_for(log)


def test_a_page_that_asks_is_seen_in_the_log(browse: Callable[..., Any], tmp_path: Path) -> None:
    address = "http://127.0.0.1:9/seen.png"
    page = tmp_path / "asks.html"
    page.write_text(f"<!doctype html><title>asks</title><img src='{address}'>")
    assert log_of(browse, page, tmp_path / "net.json", lambda _: None) == {address}


@pytest.mark.slow
@pytest.mark.real_data
def test_the_page_of_a_real_ct_asks_for_nothing(
    browse: Callable[..., Any], shared_dir: Path, tmp_path: Path
) -> None:
    source = shared_dir / "data" / "real" / "ct_torso_totalseg_3mm.nii.gz"
    with pytest.raises(SystemExit) as ended:
        main(["atlas", str(source), str(tmp_path / "out"), "--hu", "--layers", "level4", "--device", "cpu"])
    assert not ended.value.code
    page = tmp_path / "out" / "report.html"
    seen: set[str] = set()

    def use(chromium: Any) -> None:
        start_viewer(chromium)
        chromium.find_element("id", "pane-0").send_keys(Keys.ARROW_RIGHT)
        assert chromium.get_log("browser") == []
        seen.update(requests(chromium))

    assert log_of(browse, page, tmp_path / "net.json", use) == set()
    assert seen == {page.as_uri()}


def wheel(chromium: Any, pane: Any, amount: int, **keys: bool) -> None:
    origin = ScrollOrigin.from_element(pane)
    actions = webdriver.ActionChains(chromium)
    if keys:
        actions.key_down(Keys.CONTROL)
    actions.scroll_from_origin(origin, 0, amount)
    if keys:
        actions.key_up(Keys.CONTROL)
    actions.perform()


def click(chromium: Any, element: Any) -> None:
    chromium.execute_script("arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", element)
    element.click()


def drag(chromium: Any, pane: Any, start: tuple[int, int], by: tuple[int, int]) -> None:
    actions = webdriver.ActionChains(chromium)
    actions.move_to_element_with_offset(pane, *start).click_and_hold()
    actions.move_by_offset(by[0] // 2, by[1] // 2).move_by_offset(by[0] - by[0] // 2, by[1] - by[1] // 2)
    actions.release().perform()


def test_the_scrubber_is_driven_by_mouse_wheel_and_keys(browse: Callable[..., Any], tmp_path: Path) -> None:
    scores = made.scan(window=(-100.0, 100.0))
    page = write_page(tmp_path / "report.html", scores, made.volumes(scores))
    chromium = browse(page)
    start_viewer(chromium)
    big, error = (chromium.find_element("id", f"pane-{n}") for n in (0, 1))
    top = big.location["y"] + big.size["height"]
    assert top < 900, "the picture is whole on the first screen"

    both, map_ = pixels(chromium, 0), pixels(chromium, 1)
    width = both.shape[1]
    soft = both[both.shape[0] // 2 + 40, width // 2 - 60 : width // 2 - 30, 0]
    assert np.median(soft) == pytest.approx(255 * 140 / 200, abs=12), "40 HU in this window"
    colour = np.abs(map_[..., 0] - map_[..., 2])
    assert (colour > 60).mean() > (np.abs(both[..., 0] - both[..., 2]) > 60).mean() + 0.005

    layer = "return document.getElementById('viewer').dataset.layer"
    assert chromium.execute_script(layer) == "level3"
    big.send_keys(Keys.ARROW_LEFT)
    until(chromium, layer, lambda name: name == "level1")
    assert np.abs(pixels(chromium, 0)[:, width // 2 + 20 :] - both[:, width // 2 + 20 :]).max() > 40
    left = np.s_[8:-8, 8 : width // 2 - 20]  # without the frame of the focus
    np.testing.assert_array_equal(pixels(chromium, 0)[left], both[left])
    assert "level1: 20.0 HU off on average in the body" in chromium.find_element("id", "told").text
    depth = chromium.find_element("id", "depth")
    depth.send_keys(Keys.ARROW_LEFT)
    until(chromium, layer, lambda name: name == "source")
    plain = pixels(chromium, 1)
    assert np.abs(plain[..., 0] - plain[..., 2]).max() < 30, "the source has no error"
    assert depth.get_attribute("aria-valuetext") == "the source itself"
    big.send_keys("2")
    until(chromium, layer, lambda name: name == "level3")

    here = numbers(chromium.execute_script(PANES)[0]["at"])
    up = after(chromium, lambda: wheel(chromium, error, -40))
    assert up[2] - here[2] == pytest.approx(3.0), "one slice towards the head"
    assert after(chromium, lambda: big.send_keys(Keys.ARROW_DOWN)) == here
    right = after(chromium, lambda: big.send_keys(Keys.SHIFT, Keys.ARROW_RIGHT))
    assert right[0] - here[0] == pytest.approx(-1.5), "to the right of the picture is the patient's left"
    clicked = after(
        chromium,
        lambda: (
            webdriver.ActionChains(chromium).move_to_element_with_offset(error, 50, -20).click().perform()
        ),
    )
    assert clicked[0] < here[0]
    assert clicked[1] > here[1]
    assert clicked[2] == here[2]

    assert len(found_here(chromium)["kept"]) == 2
    assert "its surroundings. Kept, with 95 % intervals: level1" in chromium.find_element("id", "here").text

    zoomed = after(chromium, lambda: wheel(chromium, error, -250, control=True), "zoom")
    assert zoomed == [pytest.approx(2, abs=0.01)]
    assert after(chromium, lambda: big.send_keys("+"), "zoom")[0] > zoomed[0]
    pan = after(
        chromium,
        lambda: (
            webdriver.ActionChains(chromium).key_down(Keys.SHIFT).perform()
            or drag(chromium, big, (-100, 40), (-30, 0))
        ),
        "pan",
    )
    webdriver.ActionChains(chromium).key_up(Keys.SHIFT).perform()
    assert pan[0] != 0
    after(chromium, lambda: big.send_keys("0"), "zoom")

    wipe = "return Number(document.querySelector('[name=wipe]').value)"
    drag(chromium, big, (0, 60), (width // 4, 0))
    assert until(chromium, wipe, lambda value: value != 50) == pytest.approx(75, abs=2)
    big.send_keys("[")
    until(chromium, wipe, lambda value: value == pytest.approx(70, abs=2))

    window = "return document.getElementById('window-now').textContent"
    before = chromium.execute_script(window)
    drag(chromium, error, (-40, 0), (60, 30))
    assert until(chromium, window, lambda text: text != before)
    chromium.find_element("name", "window").send_keys("lung")
    until(chromium, window, lambda text: text == "−1350 to 150")

    crosshair = chromium.find_element("name", "crosshair")
    assert crosshair.is_selected()
    marked = pixels(chromium, 0)
    big.send_keys("c")
    until(chromium, "return document.querySelector('[name=crosshair]').checked", lambda on: not on)
    assert (marked != pixels(chromium, 0)).any()

    assert chromium.get_log("browser") == []
    assert requests(chromium) == {page.as_uri()}
    injected = "const s = document.createElement('script'); s.textContent = 'window.bad = 1';"
    assert chromium.execute_script(f"{injected} document.body.append(s); return window.bad") is None


def found_here(chromium: Any) -> dict[str, Any]:
    finding = "return document.getElementById('viewer').dataset.finding ?? ''"
    return dict(json.loads(until(chromium, finding, bool)))


def click_at(chromium: Any, wanted: tuple[float, float]) -> list[float]:
    """Click a point (mm to the right and to the front) in the axial picture; the voxel that it lies in."""

    def clicked(x: float, y: float) -> list[float]:
        pane = chromium.find_element("id", "pane-0")
        webdriver.ActionChains(chromium).move_to_element_with_offset(
            pane, round(x), round(y)
        ).click().perform()
        chromium.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        return numbers(chromium.execute_script(PANES)[0]["at"])

    first, second = clicked(60, 60), clicked(-60, -60)
    each = [(b - a) / -120 for a, b in zip(first, second, strict=True)]
    chromium.execute_script("delete document.getElementById('viewer').dataset.finding")
    return clicked(*(60 + (w - a) / mm for w, a, mm in zip(wanted, first, each, strict=False)))


def test_a_click_measures_what_the_command_measures(browse: Callable[..., Any], tmp_path: Path) -> None:
    scores = made.scan(window=(-100.0, 100.0))
    volumes = made.volumes(scores)
    chromium = browse(write_page(tmp_path / "report.html", scores, volumes))
    start_viewer(chromium)
    at = click_at(chromium, (-7.5, 0.0))
    chromium.execute_script("delete document.getElementById('viewer').dataset.finding")
    chromium.find_element("name", "radius").send_keys("8")
    found = found_here(chromium)
    meter = FindingMeter(sphere("here", made.AFFINE, made.SHAPE, at, 8.0), volumes.source, made.AFFINE)
    assert found["contrast"] == pytest.approx(meter.source.contrast, rel=1e-6)
    assert abs(found["contrast"]) > 200, "it is the ball"
    for layer, clicked in zip(scores.layers, found["kept"], strict=True):
        kept = meter.of(np.rint(volumes.reconstructions[layer.layer]))
        assert clicked == pytest.approx([kept.kept, kept.low, kept.high], rel=1e-5)
        assert clicked[2] - clicked[1] > 0.001
    assert found["exact"]
    assert "not from all" not in chromium.find_element("id", "here").text
    assert not chromium.find_element("id", "read-held").is_displayed()


@pytest.mark.slow
def test_a_click_where_voxels_are_left_out_says_so(browse: Callable[..., Any], tmp_path: Path) -> None:
    scores = made.scan(window=(-100.0, 100.0))
    page = write_page(tmp_path / "report.html", scores, made.volumes(scores, (80, 72, 40)), most_bytes=6e5)
    chromium = browse(page)
    start_viewer(chromium)
    facts = json.loads(chromium.execute_script("return document.getElementById('viewer-facts').textContent"))
    assert len(facts["parts"]) > 1
    click_at(chromium, (20.0, 15.0))
    assert not found_here(chromium)["exact"]
    assert "not from all" in chromium.find_element("id", "here").text
    held = chromium.find_element("id", "read-held")
    assert not held.is_displayed(), "the planes of the opening point are whole"
    chromium.find_element("id", "pane-0").send_keys(Keys.ARROW_UP, Keys.SHIFT, Keys.ARROW_RIGHT)
    until(chromium, "return document.getElementById('read-held').hidden", lambda hidden: not hidden)
    assert "of the nearest voxel in this page" in held.text


@pytest.mark.slow
def test_full_screen_slices_that_open_and_a_picture_that_moves(
    browse: Callable[..., Any], tmp_path: Path
) -> None:
    page = write_page(tmp_path / "report.html", made.scan(), made.volumes())
    chromium = browse(page)
    start_viewer(chromium)
    chromium.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    click(chromium, chromium.find_element("id", "export"))
    exported = "return document.getElementById('viewer').dataset.exported"
    until(chromium, exported, lambda count: count == "3")
    ends = time.monotonic() + PATIENCE
    while not (tmp_path / "layers.gif").exists():
        assert time.monotonic() < ends
        time.sleep(0.1)
    with Image.open(tmp_path / "layers.gif") as picture:
        frames = [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(picture)]
        assert picture.info["loop"] == 0
    assert len(frames) == 3, "the source and two layers"
    half = frames[0].shape[1] // 2
    assert frames[0][:-30, half:].max() < 40, "the source has no error"
    assert frames[2][:-30, half:].max() > 150
    assert np.ptp(frames[0][:-30, :half]) > 150
    assert np.abs(frames[0][:-30, :half] - frames[2][:-30, :half]).max() > 40

    tile = chromium.find_element("css selector", "#slices .strip button.tile")
    small = tile.size["width"]
    click(chromium, tile)
    large = until(
        chromium, "return document.querySelector('#large img')?.width ?? 0", lambda width: width > 1.5 * small
    )
    assert large <= 1280
    webdriver.ActionChains(chromium).send_keys(Keys.ESCAPE).perform()
    until(chromium, "return document.getElementById('large').open", lambda is_open: not is_open)

    click(chromium, chromium.find_element("id", "full"))
    until(chromium, "return document.fullscreenElement?.id ?? ''", lambda name: name == "viewer")
    assert chromium.get_log("browser") == []
    assert requests(chromium) == {page.as_uri()}


def test_without_scripts_the_slices_are_there(browse: Callable[..., Any], tmp_path: Path) -> None:
    page = write_page(tmp_path / "report.html", made.scan(), made.volumes())
    chromium = browse(page, "--blink-settings=scriptEnabled=false")
    assert "needs JavaScript" in chromium.find_element("id", "viewer-state").text
    assert not chromium.find_element("id", "viewer-body").is_displayed()
    assert chromium.find_element("css selector", "#poster img").is_displayed()
    assert chromium.find_element("css selector", "#slices .strip img").is_displayed()


def test_hostile_texts_in_the_browser(browse: Callable[..., Any], tmp_path: Path) -> None:
    scores = made.scan(
        made.layer(made.HOSTILE), label=made.HOSTILE, units=made.HOSTILE, facts={"a": made.HOSTILE}
    )
    page = write_page(tmp_path / "report.html", scores, made.volumes(scores))
    chromium = browse(page)
    start_viewer(chromium)
    assert "<img src=x" in chromium.find_element("tag name", "h1").text
    assert chromium.execute_script("return document.querySelectorAll('img[src=x]').length") == 0
    assert chromium.get_log("browser") == []
    assert requests(chromium) == {page.as_uri()}


@pytest.mark.slow
def test_it_fits_a_phone(browse: Callable[..., Any], tmp_path: Path) -> None:
    page = write_page(tmp_path / "report.html", made.scan(), made.volumes())
    chromium = browse(page)
    metrics = {"width": 360, "height": 780, "deviceScaleFactor": 2, "mobile": True}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= 360
