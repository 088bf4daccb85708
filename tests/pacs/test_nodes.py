"""The file of nodes: what is refused, in one line, and where passwords come from."""

from __future__ import annotations

import dataclasses
import re
import sys
import types
from pathlib import Path

import pytest

from medrecon.errors import MedreconError, ModelError, UsageError
from medrecon.pacs.credentials import password_of, token_of
from medrecon.pacs.nodes import Node, find_node, nodes_path, read_nodes

GOOD = 'url = "https://pacs.example.org/dicom-web"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "pacs.toml"
    path.write_text(text)
    return path


def test_a_node_is_read(tmp_path: Path) -> None:
    text = f'[a]\n{GOOD}\n[b]\nhost = "10.1.1.1"\nport = 104\naet = "ARCHIVE"\ntimeout = 5\n'
    nodes = read_nodes(written(tmp_path, text))
    assert nodes["a"] == Node("a", url="https://pacs.example.org/dicom-web")
    assert (nodes["b"].host, nodes["b"].port, nodes["b"].aet, nodes["b"].timeout) == (
        "10.1.1.1",
        104,
        "ARCHIVE",
        5,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a", "no TOML"),
        ("a = 1", "no table"),
        ("[a]", "no address"),
        ("[a]\nurl = 3", "url is 3"),
        ('[a]\nurl = "ftp://x/y"', "url is none"),
        ('[a]\nurl = "https://x:99999/y"', "url is none"),
        ('[a]\nurl = "https://"', "url is none"),
        ('[a]\nurl = "https://me:secret@x/y"', "holds a name or password"),
        ('[a]\nurl = "https://x/y?key=secret"', "has a query"),
        ('[a]\nurl = "http://x/y"\nuser = "me"\npassword_env = "P"', "unencrypted"),
        (f'[a]\n{GOOD}password = "secret"', "holds a password"),
        (f'[a]\n{GOOD}token = "secret"', "holds a token"),
        (f'[a]\n{GOOD}adress = "x"', "unknown key 'adress'"),
        ('[a]\nhost = "x"', "port is 0"),
        ('[a]\nhost = "x"\nport = true', "port is True"),
        ('[a]\nhost = "x"\nport = 70000', "port is 70000"),
        ('[a]\nhost = "x"\nport = 104\naet = "SEVENTEEN LETTERS"', "aet is"),
        ('[a]\nhost = "x"\nport = 104\naet = " "', "aet is"),
        ('[a]\nhost = "x"\nport = 104\nretrieve = "push"', "retrieve is 'push'"),
        ('[a]\nhost = "x"\nport = 104\nretrieve = "move"', "nothing receives"),
        (f"[a]\n{GOOD}timeout = 0", "timeout is 0"),
        (f'[a]\n{GOOD}ca = "/no/such.pem"', "not there: /no/such.pem"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ModelError) as refused:
        read_nodes(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)
    assert "secret" not in str(refused.value)


def test_the_page_says_what_is_so(repo: Path, tmp_path: Path) -> None:
    page = (repo / "docs" / "use" / "pacs.md").read_text(encoding="utf-8")
    example = page.partition("```toml\n")[2].partition("```")[0]
    ca = tmp_path / "hospital-ca.pem"
    ca.touch()
    nodes = read_nodes(written(tmp_path, example.replace("/etc/ssl/hospital-ca.pem", str(ca))))
    assert list(nodes) == ["research", "archive"]
    table = page[page.index("| Key |") : page.index("A node that has both")]
    told = set(
        re.findall(
            r"`(\w+)(?: = false)?`", "".join(line.split("|")[1] for line in table.splitlines()[2:] if line)
        )
    )
    assert told == {field.name for field in dataclasses.fields(Node)} - {"name"}


def test_an_unknown_node_and_a_missing_file_are_usage_errors(tmp_path: Path) -> None:
    path = written(tmp_path, f"[research]\n{GOOD}")
    with pytest.raises(UsageError, match="did you mean 'research'"):
        find_node("reserch", path)
    with pytest.raises(UsageError, match="there are research"):
        find_node("x", path)
    with pytest.raises(UsageError, match="is not there"):
        find_node("x", tmp_path / "none.toml")


def test_the_file_is_in_the_users_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert nodes_path() == tmp_path / "medrecon" / "pacs.toml"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert nodes_path() == tmp_path / ".config" / "medrecon" / "pacs.toml"


def test_passwords_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node("a", url="https://x", user="me", password_env="PACS_PASSWORD", token_env="PACS_TOKEN")
    monkeypatch.delenv("PACS_PASSWORD", raising=False)
    with pytest.raises(UsageError, match="PACS_PASSWORD is not set"):
        password_of(node)
    monkeypatch.setenv("PACS_PASSWORD", "secret")
    monkeypatch.setenv("PACS_TOKEN", "token")
    assert (password_of(node), token_of(node)) == ("secret", "token")
    assert password_of(Node("a", url="https://x")) == token_of(Node("a", url="https://x")) == ""


def test_passwords_come_from_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node("a", url="https://x", user="me", keyring="pacs")
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(UsageError, match="keyring is not installed"):
        password_of(node)
    kept = {("pacs", "me"): "secret"}
    fake = types.SimpleNamespace(get_password=lambda service, user: kept.get((service, user)))
    monkeypatch.setitem(sys.modules, "keyring", fake)
    assert password_of(node) == "secret"
    kept.clear()
    with pytest.raises(UsageError, match="has no password"):
        password_of(node)

    def locked(service: str, user: str) -> str:
        raise RuntimeError("secret thing is locked")

    fake.get_password = locked
    with pytest.raises(MedreconError) as refused:
        password_of(node)
    assert "RuntimeError" in str(refused.value)
    assert "secret" not in str(refused.value)
