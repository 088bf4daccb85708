"""Write deploy/requirements.lock (pins with hashes) and deploy/sbom.json (CycloneDX 1.6) for the container.

    python3.11 deploy/lock.py        on Linux, for the machine that it runs on; takes minutes

Nothing is installed: pip resolves `medrecon[dicom,pacs]` under constraints.txt and says what it would take.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WANTED = ".[dicom,pacs]"


def resolved() -> list[dict[str, Any]]:
    """What pip would take: name, version, hash and licence of each package but our own."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run(
            [
                *pip,
                "--only-binary",
                ":all:",
                "--report",
                report,
                "-c",
                "constraints.txt",
                "torch==2.13.0",
                WANTED,
            ],
            cwd=ROOT,
            check=True,
        )
        taken = json.loads(report.read_text("utf-8"))["install"]
    packages = [
        {
            "name": item["metadata"]["name"],
            "version": item["metadata"]["version"].partition("+")[0],
            "sha256": item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256", ""),
            "license": item["metadata"].get("license_expression") or _classified(item["metadata"]),
        }
        for item in taken
        if item["metadata"]["name"] != "medrecon"
    ]
    return sorted(packages, key=lambda package: package["name"].lower())


def _classified(metadata: dict[str, Any]) -> str:
    licences = [
        line.rpartition(" :: ")[2] for line in metadata.get("classifier", []) if line.startswith("License ::")
    ]
    return licences[0] if licences else ""


def lock_text(packages: list[dict[str, Any]]) -> str:
    """A file for `pip install --no-deps --require-hashes -r`; torch, which GPUs differ in, comes before."""
    lines = [
        f"{each['name']}=={each['version']} --hash=sha256:{each['sha256']}"
        for each in packages
        if each["name"] != "torch"
    ]
    return "\n".join(
        ["# made by deploy/lock.py for Linux on x86-64 and Python 3.11, beside torch", *lines, ""]
    )


def sbom_text(packages: list[dict[str, Any]]) -> str:
    """A CycloneDX 1.6 document."""
    components = [
        {
            "type": "library",
            "name": each["name"],
            "version": each["version"],
            "purl": f"pkg:pypi/{each['name'].lower().replace('_', '-')}@{each['version']}",
            "hashes": [{"alg": "SHA-256", "content": each["sha256"]}],
            **({"licenses": [{"license": {"name": each["license"]}}]} if each["license"] else {}),
        }
        for each in packages
    ]
    document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components}
    return json.dumps(document, indent=1) + "\n"


def main() -> None:
    """Write both files."""
    packages = resolved()
    (ROOT / "deploy" / "requirements.lock").write_text(lock_text(packages), encoding="utf-8")
    (ROOT / "deploy" / "sbom.json").write_text(sbom_text(packages), encoding="utf-8")


if __name__ == "__main__":
    main()
