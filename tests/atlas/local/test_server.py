"""The local page lets in who has its address, and nobody else."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from medrecon.atlas.local.jobs import Jobs
from medrecon.atlas.local.server import Desk, LocalServer
from medrecon.atlas.local.uploads import Uploads, plain_name
from medrecon.errors import UsageError


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServer]:
    jobs = Jobs(tmp_path / "results")

    def start(scan: Path, title: str, asked: Mapping[str, Any], after: Callable[[], None]) -> Any:
        if asked.get("bundle") == "none":
            raise UsageError("there is no such network", remedy="choose another")

        def work(output: Path, progress: Callable[[int, int], None]) -> None:
            progress(1, 2)
            while title == "endless":
                progress(1, 2)
            output.mkdir()
            names = [f.name for f in scan.iterdir()] if scan.is_dir() else [scan.name]
            scores = {"label": ",".join(sorted(names)), "facts": {"model": "m"}}
            (output / "metrics.json").write_text(json.dumps(scores))
            (output / "report.html").write_text("<!doctype html><title>r</title>")
            if title == "broken":
                raise UsageError("it is broken", remedy="mend it")

        return jobs.add(title, work, after)

    page = "<!doctype html><title>p</title>", "default-src 'none'"
    desk = Desk(jobs, start, lambda: page, lambda: {"b": ["level1"]})
    desk.uploads = Uploads(most_bytes=1000, most_files=3)
    with LocalServer(desk) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def ask(
    server: LocalServer, path: str, content: Any = None, *, raw: bytes | None = None, **headers: str
) -> tuple[int, Any, http.client.HTTPMessage]:
    link = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    body = raw if raw is not None else None if content is None else json.dumps(content).encode()
    given = {
        "Host": f"127.0.0.1:{server.server_port}",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    link.putrequest("GET" if body is None else "POST", path, skip_host=True)
    for key, value in given.items():
        link.putheader(key, value)
    if body is not None and "Content-Length" not in given:
        link.putheader("Content-Length", str(len(body)))
    link.endheaders(body)
    answer = link.getresponse()
    text = answer.read()
    link.close()
    return answer.status, json.loads(text) if text.startswith(b"{") else text, answer.headers


def here(server: LocalServer, path: str, *args: Any, **more: Any) -> tuple[int, Any, http.client.HTTPMessage]:
    return ask(server, f"/{server.token}/{path}", *args, **more)


def finished(server: LocalServer) -> dict[str, Any]:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        _, state, _ = here(server, "state")
        if state["jobs"] and state["jobs"][0]["state"] in ("done", "failed"):
            return dict(state)
        time.sleep(0.02)
    raise AssertionError(state)


def test_it_listens_on_this_machine_alone(server: LocalServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert len(server.token) >= 43, "256 bits"


@pytest.mark.parametrize(
    "path", ["/", "/state", "/x/", "//", "/{t}x/", "/{s}/state", "/{t}%00/state", "/%C3%A9/"]
)
def test_without_the_secret_there_is_nothing(path: str, server: LocalServer) -> None:
    status, content, _ = ask(server, path.format(t=server.token, s=server.token[:-1]))
    assert status == 404
    assert "medrecon" not in str(content).lower()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""])
def test_another_name_for_this_host_is_refused(host: str, server: LocalServer) -> None:
    """DNS rebinding: a page elsewhere whose name is made to point here sends its own name."""
    assert here(server, "state", Host=host.format(port=server.server_port))[0] == 421
    assert here(server, "state", Host=f"localhost:{server.server_port}")[0] == 200


def test_other_origins_are_refused_and_may_read_nothing(server: LocalServer) -> None:
    assert here(server, "run", {}, Origin="https://evil.example")[0] == 403
    assert here(server, "upload", {}, Origin="null")[0] == 403
    status, _, headers = here(server, "upload", {}, Origin=f"http://127.0.0.1:{server.server_port}")
    assert status == 200
    assert not [name for name in headers if name.lower().startswith("access-control")]
    _, _, headers = here(server, "")
    assert headers["Content-Security-Policy"] == "default-src 'none'"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_scan_goes_in_and_its_report_comes_out(server: LocalServer) -> None:
    upload = here(server, "upload", {})[1]["upload"]
    assert here(server, f"upload/{upload}/..%2F..%2Fa%20b.dcm", raw=b"12345")[0] == 200
    assert here(server, f"upload/{upload}/a%20b.dcm", raw=b"67")[0] == 200
    status, job, _ = here(server, "run", {"upload": upload, "title": "CT", "bundle": "b"})
    assert (status, job["number"], job["title"]) == (200, 1, "CT")
    state = finished(server)
    (result,) = state["results"]
    assert result["label"] == "000002_a_b.dcm,a_b.dcm", "plain names, none lost"
    status, page, headers = here(server, f"results/{result['name']}/report.html")
    assert (status, page) == (200, b"<!doctype html><title>r</title>")
    assert headers["Content-Type"].startswith("text/html")
    time.sleep(0.05)
    assert here(server, "run", {"upload": upload})[0] == 422, "an upload is removed once it was measured"


def test_nothing_outside_of_the_results_is_served(server: LocalServer, tmp_path: Path) -> None:
    result = tmp_path / "results" / "one"
    result.mkdir()
    (result / "report.html").write_text("r")
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "results" / "top.json").write_text("{}")
    (result / "link.json").symlink_to(tmp_path / "secret.json")
    (tmp_path / "results" / "away").symlink_to(tmp_path)
    (result / "key.pem").write_text("k")
    assert here(server, "results/one/report.html")[0] == 200
    for path in (
        "one/../../secret.json",
        "one/..%2F..%2Fsecret.json",
        "one/%2e%2e/%2e%2e/secret.json",
        "..%2F/secret.json",
        "../secret.json",
        "one/link.json",
        "away/secret.json",
        "one/key.pem",
        "one/%2Fetc%2Fhostname.json",
        ".",
        "one",
        "one/",
        "one//report.html/x.json",
        "one/report.html%00.png",
    ):
        status, content, _ = here(server, f"results/{path}")
        assert status == 404, path
        assert content == {"error": "Not Found"}


def test_uploads_have_bounds(server: LocalServer) -> None:
    upload = here(server, "upload", {})[1]["upload"]
    status, content, _ = here(server, f"upload/{upload}/a", raw=b"", Content_Length="2000")
    assert (status, "larger than" in content["error"]) == (422, True)
    for name in "abc":
        assert here(server, f"upload/{upload}/{name}", raw=b"1")[0] == 200
    assert "more than 3 files" in here(server, f"upload/{upload}/d", raw=b"1")[1]["error"]
    assert here(server, "upload/unknown/a", raw=b"1")[0] == 422
    assert here(server, f"upload/{upload}/a", raw=b"", Content_Length="-1")[0] == 411
    assert here(server, "run", raw=b"[" * 70_000)[0] == 413
    assert here(server, "run", raw=b"[" * 5000)[0] == 400
    assert here(server, "run", raw=b"[]")[0] == 400


def test_errors_are_told(server: LocalServer, tmp_path: Path) -> None:
    status, content, _ = here(server, "run", {"title": "x"})
    assert (status, content["error"]) == (422, "no scan was chosen; drop a file or a folder")
    server.desk.given = tmp_path
    status, content, _ = here(server, "run", {"bundle": "none"})
    assert (status, content["error"]) == (422, "there is no such network; choose another")
    here(server, "run", {"title": "broken"})
    assert finished(server)["jobs"][0]["error"] == "it is broken; mend it"


def test_a_job_that_runs_and_one_that_waits_are_stopped(server: LocalServer, tmp_path: Path) -> None:
    server.desk.given = tmp_path
    for title in ("endless", "endless", "one", "more"):
        here(server, "run", {"title": title})
    ends = time.monotonic() + 60

    def states() -> list[str]:
        return [job["state"] for job in reversed(here(server, "state")[1]["jobs"])]

    def until(wanted: list[str]) -> None:
        while states() != wanted:
            assert time.monotonic() < ends, states()
            time.sleep(0.02)

    until(["running", "waiting", "waiting", "waiting"])
    for number in (1, 3):
        assert here(server, "stop", {"number": number})[0] == 200
    until(["stopped", "running", "stopped", "waiting"])
    assert here(server, "stop", {"number": 2})[0] == 200
    until(["stopped", "stopped", "stopped", "done"])
    for number in (1, 4, 5, "x", None, True):
        assert here(server, "stop", {"number": number})[0] == 422, number


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\ct.nii.gz", "ct.nii.gz"),
        ("..", "file"),
        (".hidden", "hidden"),
        ("", "file"),
        ("a\0b\n.dcm", "a_b_.dcm"),
        ("ä" * 300 + ".nii.gz", "_" * 73 + ".nii.gz"),
    ],
)
def test_names_are_plain(given: str, plain: str) -> None:
    assert plain_name(given) == plain
