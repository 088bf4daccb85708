"""Passwords and certificates: from the environment or the keyring when they are needed, kept nowhere."""

from __future__ import annotations

import os
import ssl

from medrecon.errors import ModelError, UsageError, in_short
from medrecon.pacs.nodes import Node


def password_of(node: Node) -> str:
    """The password of a node's user; "" where it asks for none.

    Raises:
        UsageError: it is not where the file of nodes says.
    """
    if node.password_env:
        return _variable(node, node.password_env)
    return _from_keyring(node) if node.keyring else ""


def token_of(node: Node) -> str:
    """The bearer token of a node; "" where it asks for none.

    Raises:
        UsageError: it is not where the file of nodes says.
    """
    return _variable(node, node.token_env) if node.token_env else ""


def tls_context(node: Node) -> ssl.SSLContext:
    """TLS that verifies the node's certificate and name, with our own certificate where there is one.

    Raises:
        ModelError: a file holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=node.ca or None)
        if node.certificate:
            context.load_cert_chain(node.certificate, node.key or None, password="")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"pacs:{node.name}: its certificates cannot be used ({in_short(error)})",
            remedy="check ca, certificate and key: PEM files, the key without a password",
        ) from None
    return context


def _variable(node: Node, name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise UsageError(f"pacs:{node.name}: the variable {name} is not set", remedy="set it")
    return value


def _from_keyring(node: Node) -> str:
    try:
        import keyring
    except ImportError:
        raise UsageError(
            f"pacs:{node.name}: keyring is not installed", remedy="pip install keyring, or use password_env"
        ) from None
    try:
        found = keyring.get_password(node.keyring, node.user)
    except Exception as error:
        raise UsageError(
            f"pacs:{node.name}: the keyring does not answer ({type(error).__name__})",
            remedy="unlock it, or use password_env",
        ) from None
    if not found:
        raise UsageError(
            f"pacs:{node.name}: the keyring has no password for it",
            remedy=f"keyring set {node.keyring} {node.user}",
        )
    return str(found)
