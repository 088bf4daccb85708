"""The page in headless Chromium, opened from disk: three panes, one crosshair, no request, no error."""

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
from PIL import Image

from medrecon.cli.app import main
from medrecon.report.page import write_page

sys.path.insert(0, str(Path(__file__).parent))
import made

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--window-size=1280,900",
    "--force-device-scale-factor=1",
)
PATIENCE = 180  # seconds: shaders are compiled by software, on cores that others use as well


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
PLACES = "return [...document.querySelectorAll('.panes canvas')].map((c) => c.dataset.at)"


def start_viewer(chromium: Any) -> None:
    chromium.execute_script("document.querySelector('#viewer').scrollIntoView({behavior: 'instant'})")
    until(chromium, STATE, lambda state: state in ("ready", "failed", "absent"))


def pixels(chromium: Any, pane: int) -> np.ndarray:
    picture = chromium.find_element("id", f"pane-{pane}").screenshot_as_png
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


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
        assert chromium.execute_script(STATE) == "ready"
        chromium.find_element("id", "pane-0").send_keys(Keys.ARROW_RIGHT)
        assert chromium.get_log("browser") == []
        seen.update(requests(chromium))

    assert log_of(browse, page, tmp_path / "net.json", use) == set()
    assert seen == {page.as_uri()}


def test_three_panes_and_one_crosshair(browse: Callable[..., Any], tmp_path: Path) -> None:
    scores = made.scan(window=(-100.0, 100.0))
    page = write_page(tmp_path / "report.html", scores, made.volumes(scores))
    chromium = browse(page)
    assert chromium.execute_script(STATE) == "waiting", "nothing starts before it is seen"
    start_viewer(chromium)
    assert chromium.execute_script(STATE) == "ready"

    source, result, error = (pixels(chromium, pane) for pane in range(3))
    for picture in (source, result, error):
        assert np.ptp(picture) > 150, "something is drawn"
    height, width = source.shape[:2]
    soft = source[height // 2 + 20 : height // 2 + 60, width // 4 : width // 4 + 40, 0]
    assert np.median(soft) == pytest.approx(255 * 140 / 200, abs=12), "40 HU in this window"
    colour = np.abs(error[..., 0] - error[..., 2])
    assert (colour > 60).mean() > (np.abs(source[..., 0] - source[..., 2]) > 60).mean() + 0.005

    before = chromium.execute_script(PLACES)
    assert len(set(before)) == 1
    seen = [before[0]]
    for pane in range(3):
        canvas = chromium.find_element("id", f"pane-{pane}")
        actions = webdriver.ActionChains(chromium)
        actions.move_to_element_with_offset(canvas, -30 + 25 * pane, 20).click().perform()
        now = until(chromium, PLACES, lambda places: places[0] != seen[-1])
        assert len(set(now)) == 1, "a click in one pane moves all three"
        seen.append(now[0])
    assert len(set(seen)) == 4

    canvas = chromium.find_element("id", "pane-0")
    for key, axis, step in ((Keys.ARROW_RIGHT, 0, -1.5), (Keys.ARROW_UP, 1, 1.5), (Keys.PAGE_UP, 2, 3.0)):
        start = chromium.execute_script(PLACES)[0]
        canvas.send_keys(key)
        places = until(chromium, PLACES, lambda found, start=start: found[0] != start)
        moved = np.subtract(*([float(v) for v in at.split()] for at in (places[0], start)))
        # the click lies anywhere in its voxel, the key goes to the centre of the next one
        assert len(set(places)) == 1
        assert abs(moved[axis] - step) <= abs(step) / 2 + 0.02
    canvas.send_keys("2")
    layer = "return document.getElementById('viewer').dataset.layer"
    until(chromium, layer, lambda name: name == "level3")
    assert np.abs(pixels(chromium, 1) - result).max() > 40, "another layer is shown"
    read = chromium.find_element("css selector", ".readout").text
    assert "HU" in read

    assert chromium.get_log("browser") == []
    assert requests(chromium) == {page.as_uri()}
    injected = "const s = document.createElement('script'); s.textContent = 'window.bad = 1';"
    assert chromium.execute_script(f"{injected} document.body.append(s); return window.bad") is None


def test_without_webgl_the_page_says_so(browse: Callable[..., Any], tmp_path: Path) -> None:
    page = write_page(tmp_path / "report.html", made.scan(), made.volumes())
    chromium = browse(page, "--disable-gpu", "--disable-3d-apis")
    start_viewer(chromium)
    assert chromium.execute_script(STATE) == "absent"
    assert "WebGL 2" in chromium.find_element("id", "viewer-state").text
    assert not chromium.find_element("id", "viewer-body").is_displayed()
    broken = "return [...document.images].filter((i) => !i.complete || !i.naturalWidth).length"
    until(chromium, broken, lambda count: count == 0)


def test_hostile_texts_in_the_browser(browse: Callable[..., Any], tmp_path: Path) -> None:
    scores = made.scan(
        made.layer(made.HOSTILE), label=made.HOSTILE, units=made.HOSTILE, facts={"a": made.HOSTILE}
    )
    page = write_page(tmp_path / "report.html", scores, made.volumes(scores))
    chromium = browse(page)
    start_viewer(chromium)
    assert chromium.execute_script(STATE) == "ready"
    assert "<img src=x" in chromium.find_element("tag name", "h1").text
    assert chromium.execute_script("return document.querySelectorAll('img[src=x]').length") == 0
    assert chromium.get_log("browser") == []
    assert requests(chromium) == {page.as_uri()}


def test_it_fits_a_phone(browse: Callable[..., Any], tmp_path: Path) -> None:
    page = write_page(tmp_path / "report.html", made.scan(), made.volumes(), viewer=False)
    chromium = browse(page)
    metrics = {"width": 360, "height": 780, "deviceScaleFactor": 2, "mobile": True}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= 360
