"""A chart as a piece of the page: text stays text, colours follow the page's, no style attribute is left."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_DROPPED = {"metadata", "style", "title"}
_FONT = re.compile(r"(?:.*\s)?([\d.]+)px\s+")


def inline_svg(figure: Figure, name: str, title: str, description: str, colours: Mapping[str, str]) -> Markup:
    """Draw a figure as an `<svg>` element for HTML.

    A strict content security policy forbids style attributes and style elements: they become presentation
    attributes, which it does not touch.

    Args:
        figure: drawn by matplotlib.
        name: of the chart; the ids within begin with it.
        title: what it is, for who cannot see it.
        description: what can be read off it.
        colours: "#rrggbb" as drawn -> the colour in the page ("var(--ink)").
    """
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "text.parse_math": False}):
        figure.savefig(stream, format="svg", facecolor=figure.get_facecolor(), metadata={"Date": None})
    root = ElementTree.fromstring(stream.getvalue())
    _tidy(root, name, colours)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib.update({"class": "chart", "role": "img", "aria-labelledby": f"{name}-t {name}-d"})
    for kind, text in (("desc", description), ("title", title)):
        told = ElementTree.Element(kind, {"id": f"{name}-{kind[0]}"})
        told.text = text
        root.insert(0, told)
    return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=False))


def _tidy(element: ElementTree.Element, name: str, colours: Mapping[str, str]) -> None:
    element.tag = element.tag.removeprefix(_SVG)
    if _LINK in element.attrib:
        element.set("href", element.attrib.pop(_LINK))
    for rule in element.attrib.pop("style", "").split(";"):
        key, _, value = (part.strip() for part in rule.partition(":"))
        if key == "font":
            found = _FONT.match(value)
            key, value = "font-size", found.group(1) if found else "9"
        if key and key != "font-family":
            element.set(key, value)
    for key, value in element.attrib.items():
        if key == "id":
            value = f"{name}-{value}"
        elif key == "href":
            value = f"#{name}-{value[1:]}"
        elif "url(#" in value:
            value = value.replace("url(#", f"url(#{name}-")
        element.set(key, colours.get(value.lower(), value))
    for child in list(element):
        if not isinstance(child.tag, str) or child.tag.removeprefix(_SVG) in _DROPPED:
            element.remove(child)
        else:
            _tidy(child, name, colours)
