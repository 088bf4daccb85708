"""The page of `medrecon open`: where scans are dropped, and reports are found again."""

from __future__ import annotations

from medrecon import __version__
from medrecon.report.html import SELF, asset, content_policy, render, style_sheet


def local_page(given: str | None) -> tuple[str, str]:
    """Make the page.

    Args:
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
        given=given,
    )
    return page, f"{content_policy(style, [script], connect=SELF)}; frame-ancestors 'none'"
