"""The nodes that a user or a hospital knows: one TOML file, without passwords."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from medrecon.errors import ModelError, UsageError, near
from medrecon.pacs.tables import checked_table, read_toml

_LONGEST_AET = 16


@dataclass(frozen=True)
class Node:
    """One PACS, as the file of nodes describes it; either `url` or `host` and `port`, or both.

    Attributes:
        name: what the user calls it.
        url: of its DICOMweb service, such as "https://pacs.example.org/dicom-web".
        host, port, aet: where it listens for DIMSE, and the AE title that it is called by.
        calling_aet: the AE title that it knows us by.
        tls: whether DIMSE goes through TLS.
        ca: file of the certificates to trust in the place of the system's.
        certificate, key: files of our own certificate, where the node asks for one.
        user: of HTTP's basic authentication.
        password_env, token_env: variables of the environment that hold its password, or a bearer token.
        keyring: service in the system's keyring that holds the password of `user`.
        retrieve: "get" (C-GET) or "move" (C-MOVE to `receive_host` and `receive_port`).
        receive_host, receive_port: where this machine listens while it waits for what C-MOVE sends.
        query: False for a node that takes instances and answers no query.
        timeout: seconds without an answer after which it counts as gone.
    """

    name: str
    url: str = ""
    host: str = ""
    port: int = 0
    aet: str = "ANY-SCP"
    calling_aet: str = "MEDRECON"
    tls: bool = False
    ca: str = ""
    certificate: str = ""
    key: str = ""
    user: str = ""
    password_env: str = ""
    token_env: str = ""
    keyring: str = ""
    retrieve: str = "get"
    receive_host: str = ""
    receive_port: int = 0
    query: bool = True
    timeout: float = 60.0

    @property
    def address(self) -> str:
        """Host and port, for messages."""
        return urlsplit(self.url).netloc if self.url else f"{self.host}:{self.port}"


def nodes_path() -> Path:
    """Where the file of nodes is looked for: `~/.config/medrecon/pacs.toml`, or in XDG_CONFIG_HOME."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(home) if home else Path.home() / ".config") / "medrecon" / "pacs.toml"


def read_nodes(path: Path | None = None) -> dict[str, Node]:
    """All nodes of the file, by name.

    Args:
        path: the file; None takes `nodes_path`.

    Raises:
        UsageError: there is no such file.
        ModelError: it is broken, or says what cannot be meant.
    """
    path = path or nodes_path()
    if not path.exists():
        raise UsageError(
            "is not there, so no PACS is known", path=path, remedy="write it, or name yours with --pacs"
        )
    tables = read_toml(path)
    return {name: _node(name, table, path) for name, table in tables.items()}


def find_node(name: str, path: Path | None = None) -> Node:
    """One of the nodes.

    Raises:
        UsageError: it is not in the file.
        ModelError: the file is broken.
    """
    nodes = read_nodes(path)
    if name not in nodes:
        known = near(name, nodes) or (f": there are {', '.join(nodes)}" if nodes else "")
        raise UsageError(
            f"no PACS is called '{name}'{known}", path=path or nodes_path(), remedy="add it there"
        )
    return nodes[name]


def _node(name: str, table: object, path: Path) -> Node:
    """The node of one table.

    Raises:
        ModelError: a key or value is none of a node's.
    """
    for key in ("password", "token"):
        if isinstance(table, Mapping) and key in table:
            raise ModelError(
                f"[{name}] holds a {key}",
                path=path,
                remedy=f"put it into the environment and name the variable as {key}_env",
            )
    values = checked_table(Node, table, name, path)
    node = Node(name=name, **{key: _expanded(key, value) for key, value in values.items()})
    fault = _fault(node)
    if fault:
        raise ModelError(f"[{name}] {fault[0]}", path=path, remedy=fault[1])
    return node


def _expanded(key: str, value: Any) -> Any:
    return str(Path(value).expanduser()) if key in ("ca", "certificate", "key") and value else value


def _fault(node: Node) -> tuple[str, str] | None:
    """What is wrong with a node, and what to do; None for a good one."""
    if not node.url and not node.host:
        return "has no address", "give it a url (DICOMweb), or host and port (DIMSE)"
    if node.url and (told := _url_fault(node)):
        return told
    if node.host and not 0 < node.port < 65536:
        return f"port is {node.port}", "give the port of its DIMSE service, such as 104 or 11112"
    for key, title in (("aet", node.aet), ("calling_aet", node.calling_aet)):
        if not title.strip() or len(title) > _LONGEST_AET or not title.isascii() or "\\" in title:
            return f"{key} is {title!r}", f"an AE title has 1 to {_LONGEST_AET} ASCII characters"
    if node.retrieve not in ("get", "move"):
        return f"retrieve is '{node.retrieve}'", "write get or move"
    if node.retrieve == "move" and node.host and not (node.receive_host and 0 < node.receive_port < 65536):
        return "retrieves by C-MOVE, but nothing receives", "give receive_host and receive_port"
    if node.timeout <= 0:
        return f"timeout is {node.timeout}", "give seconds"
    for file in (node.ca, node.certificate, node.key):
        if file and not Path(file).is_file():
            return f"names a file that is not there: {file}", "check its path"
    return None


def _url_fault(node: Node) -> tuple[str, str] | None:
    try:
        parts = urlsplit(node.url)
        port = parts.port
    except ValueError:
        return "url is none", "write https://HOST[:PORT]/dicom-web"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return "url is none", "write https://HOST[:PORT]/dicom-web"
    if parts.username is not None or parts.password is not None:
        return "url holds a name or password", "write them as user and password_env"
    if parts.query or parts.fragment:
        return "url has a query", "write https://HOST[:PORT]/dicom-web"
    secret = node.user or node.password_env or node.token_env or node.keyring
    if parts.scheme == "http" and secret and not _is_here(parts.hostname):
        return "would send its password unencrypted", "use https"
    return None


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
