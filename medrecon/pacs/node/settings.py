"""What a node listens on, whom it listens to, and what it does with which series: one TOML file."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from medrecon.errors import ModelError
from medrecon.pacs.query import Query
from medrecon.pacs.tables import checked_table, read_toml


@dataclass(frozen=True)
class Rule:
    """Which series are reconstructed, how, and where the results go.

    Attributes:
        name: what the log and the page call it.
        modality, description: of the series; `*` and `?` stand for any text and character.
        calling_aet: only from this AE title; "" takes all that may send.
        layers: as `medrecon reconstruct --layers`.
        bundle: as `--bundle`.
        destination: a PACS of the file of nodes.
        instances: a series is whole with this many, without waiting; 0 for unknown.
    """

    name: str = ""
    modality: str = ""
    description: str = ""
    calling_aet: str = ""
    layers: str = ""
    bundle: str = "volume_autoencoder"
    destination: str = ""
    instances: int = 0

    def wants(self, header: Dataset, calling_aet: str) -> bool:
        """Whether a series is its: by the header of one instance and who sent it."""
        asked = Query(modality=self.modality, description=self.description)
        return self.calling_aet in ("", calling_aet) and asked.wants_series(header, header)


@dataclass(frozen=True)
class Settings:
    """A node.

    Attributes:
        rules: what is done.
        aet: its AE title: what is called otherwise is refused.
        calling_aets: the AE titles that may send. None may, unless it is named.
        listen: the address that it binds to.
        dicom_port: for C-STORE; 0 for none.
        http_port: for STOW-RS, /health, /metrics and the page of the queue; 0 for none.
        token_env: the variable that holds the token that STOW-RS asks for; without one STOW-RS is for this
            machine alone.
        stable_seconds: a series is whole when nothing of it has come for so long.
        retries: attempts at a job before it is given up, with pauses that double from `retry_seconds`.
        retry_seconds: the first pause.
        keep_hours: how long a series stays on the disk after it is done.
        max_associations: that are open at once.
        max_instance_mib: of one instance, or one request of STOW-RS.
        min_free_gib: with less free disk than this, nothing is taken.
    """

    rules: tuple[Rule, ...]
    aet: str = "MEDRECON"
    calling_aets: tuple[str, ...] = ()
    listen: str = "127.0.0.1"
    dicom_port: int = 11112
    http_port: int = 8042
    token_env: str = ""
    stable_seconds: float = 30.0
    retries: int = 10
    retry_seconds: float = 10.0
    keep_hours: float = 24.0
    max_associations: int = 10
    max_instance_mib: int = 1024
    min_free_gib: float = 5.0

    @property
    def is_local(self) -> bool:
        """Whether it can only be reached from this machine."""
        try:
            return ipaddress.ip_address(self.listen).is_loopback
        except ValueError:
            return self.listen == "localhost"


def read_settings(path: Path) -> Settings:
    """The node of a file: a table `[node]`, and a table `[[rule]]` for each rule.

    Raises:
        UsageError: there is no such file.
        ModelError: it is broken, or says what cannot be meant.
    """
    tables = read_toml(path)
    unknown = next(iter(tables.keys() - {"node", "rule"}), None)
    if unknown is not None:
        raise ModelError(f"has an unknown table '{unknown}'", path=path, remedy="write [node] and [[rule]]")
    listed = tables.get("rule", [])
    if not isinstance(listed, list) or not listed:
        raise ModelError("has no rule", path=path, remedy="write [[rule]] with layers and destination below")
    rules = [
        Rule(**{"name": f"rule{number}", **checked_table(Rule, table, "rule", path)})
        for number, table in enumerate(listed, start=1)
    ]
    given = checked_table(Settings, tables.get("node", {}), "node", path)
    settings = Settings(tuple(rules), **given)
    fault = _fault(settings)
    if fault:
        raise ModelError(fault[0], path=path, remedy=fault[1])
    return settings


def _fault(settings: Settings) -> tuple[str, str] | None:
    """What is wrong, and what to do; None for a good one."""
    for rule in settings.rules:
        if not rule.layers or not rule.destination:
            lacking = "destination" if rule.layers else "layers"
            return f"[[rule]] {rule.name} has no {lacking}", f"name its {lacking}"
    if len({rule.name for rule in settings.rules}) < len(settings.rules):
        return "two rules have one name", "name them differently"
    if settings.dicom_port and not settings.calling_aets:
        return "[node] calling_aets is empty, so nobody may send", "name the AE titles that may"
    for title in (settings.aet, *settings.calling_aets):
        if not title.strip() or len(title) > 16 or not title.isascii() or "\\" in title:
            return f"[node] {title!r} is no AE title", "it has 1 to 16 ASCII characters"
    for port in (settings.dicom_port, settings.http_port):
        if not 0 <= port < 65536:
            return f"[node] {port} is no port", "give one from 1 to 65535, or 0 for none"
    if not settings.dicom_port and not settings.http_port:
        return "[node] has no port", "give dicom_port or http_port"
    counts = {
        "stable_seconds": settings.stable_seconds,
        "retry_seconds": settings.retry_seconds,
        "max_associations": settings.max_associations,
        "max_instance_mib": settings.max_instance_mib,
        "retries": settings.retries,
    }
    for key, value in counts.items():
        if value <= 0:
            return f"[node] {key} is {value}", "give more than 0"
    return None
