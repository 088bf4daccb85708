"""HTML that opens from disk and asks nobody for anything: templates, escaping, a strict content policy."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from medrecon.report.palette import variables
from medrecon.report.words import clean

NOBODY, SELF = "'none'", "'self'"


@cache
def asset(name: str) -> str:
    """Read a file that is shipped with the page: style or script."""
    return (resources.files("medrecon.report") / "assets" / name).read_text(encoding="utf-8")


def style_sheet(colours: int, extra: str = "") -> str:
    """The page's style: its colours for so many layers, the rules, and rules of this page alone."""
    swatches = "".join(f".c{k} {{ background: var(--c{k}); }}\n" for k in range(colours))
    return variables(colours) + asset("page.css") + swatches + extra


def content_policy(style: str, scripts: Sequence[str], connect: str = NOBODY) -> str:
    """The Content-Security-Policy of a page: nothing but its own style, its own scripts and inline pictures.

    Whom its scripts may ask is nobody, or `SELF`: where the page came from.

    Source: W3C, Content Security Policy Level 3, sections 6.1 (fetch directives) and 2.3.1 (hashes).
    """
    allowed = " ".join(_hash(script) for script in scripts) or "'none'"
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {allowed}",
            f"style-src {_hash(style)}",
            "img-src data:",
            f"connect-src {connect}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode()}'"


def render(
    template: str, *, style: str, scripts: Sequence[str] = (), connect: str = NOBODY, **values: Any
) -> str:
    """Fill a template; each text that is not markup of ours is cleaned and escaped."""
    return (
        _environment()
        .get_template(template)
        .render(
            policy=Markup(content_policy(style, scripts, connect)),
            style=Markup(style),
            scripts=[Markup(script) for script in scripts],
            **values,
        )
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("medrecon.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: clean(value) if isinstance(value, str) and not _safe(value) else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _safe(text: str) -> bool:
    return isinstance(text, Markup)
