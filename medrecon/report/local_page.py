"""The page of `medrecon open`: where scans are dropped, and reports are found again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jinja2.utils import htmlsafe_json_dumps

from medrecon import __version__
from medrecon.report.html import SELF, asset, content_policy, render, style_sheet


def local_page(bundles: Mapping[str, Sequence[str]], given: str | None) -> tuple[str, str]:
    """Make the page.

    Args:
        bundles: name -> its layers.
        given: name of the scan that was named on the command line.

    Returns:
        The HTML, and the content security policy that its header must carry: the page may talk to where it
        came from, and to nobody else.
    """
    style, script = style_sheet(1, asset("open.css")), asset("open.js")
    page = render(
        "open.html.j2",
        style=style,
        scripts=[script],
        connect=SELF,
        version=__version__,
        bundles=list(bundles),
        given=given,
        facts=htmlsafe_json_dumps({"bundles": {name: list(layers) for name, layers in bundles.items()}}),
    )
    return page, f"{content_policy(style, [script], connect=SELF)}; frame-ancestors 'none'"
