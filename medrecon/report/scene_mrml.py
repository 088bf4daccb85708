"""MRML, 3D Slicer's scene: a flat list of nodes that name each other by id.

Source: vtkMRMLNode::WriteXML and ReadXMLAttributes of each class, and what Slicer 5.13 writes itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

_VERSION = "Slicer 5.8.1"
_LONGEST = 4000

CLASSES = {
    "Volume": "ScalarVolume",
    "VolumeDisplay": "ScalarVolumeDisplay",
    "Slice": "Slice",
    "SliceComposite": "SliceComposite",
    "ColorLegendDisplay": "ColorLegendDisplay",
}
"""Tags whose class has another name, or is spelled out for the reader; the others are `vtkMRML<tag>Node`."""


class MrmlScene:
    """Nodes of a scene, written in the order in which they are added."""

    def __init__(self) -> None:
        self._root = ElementTree.Element("MRML", version=_VERSION, userTags="")
        self._counts: dict[str, int] = {}

    def add(
        self,
        tag: str,
        name: str,
        *,
        singleton: str = "",
        description: str = "",
        attributes: Mapping[str, str] | None = None,
        references: Mapping[str, str | Sequence[str]] | None = None,
        **values: str | float | Sequence[float],
    ) -> str:
        """Add a node.

        Args:
            tag: its XML tag, such as "VolumeDisplay".
            name: shown in Slicer.
            singleton: of nodes that a scene has one of for each tag, such as the views.
            description: shown in Slicer's data tree.
            attributes: key -> value, free text kept with the node; keys are of letters, digits, '.' and '_'.
            references: role -> id or ids of other nodes.
            values: XML attributes of the node's class; sequences are joined by blanks.

        Returns:
            Its id.
        """
        kind = CLASSES.get(tag, tag)
        number = self._counts[tag] = self._counts.get(tag, 0) + 1
        node = ElementTree.SubElement(self._root, tag)
        identity = f"vtkMRML{kind}Node{singleton or number}"
        node.set("id", identity)
        node.set("name", clean(name))
        if singleton:
            node.set("singletonTag", singleton)
        if description:
            node.set("description", clean(description))
        if attributes:
            node.set("attributes", _pairs({key: _escaped(value) for key, value in attributes.items()}))
        if references:
            named = {role: ids if isinstance(ids, str) else " ".join(ids) for role, ids in references.items()}
            node.set("references", _pairs(named) + ";")
        for key, value in values.items():
            node.set(key, clean(value) if isinstance(value, str) else numbers(value))
        return identity

    def xml(self) -> bytes:
        """The scene as a `.mrml` file."""
        ElementTree.indent(self._root, " ")
        text: bytes = ElementTree.tostring(self._root, encoding="UTF-8", xml_declaration=True)
        return text + b"\n"


def clean(text: str) -> str:
    """Text without what XML 1.0 cannot hold (control characters, lone surrogates), of bounded length."""
    kept = re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)
    return kept if len(kept) <= _LONGEST else kept[: _LONGEST - 3] + "..."


def numbers(value: float | Sequence[float]) -> str:
    """Numbers in the shortest form that reads back the same."""
    several = value if isinstance(value, Sequence) else (value,)
    return " ".join(str(v) if isinstance(v, (bool, int)) else repr(float(v)) for v in several)


def _pairs(values: Mapping[str, str]) -> str:
    return ";".join(f"{key}:{value}" for key, value in values.items())


def _escaped(value: str) -> str:
    """A value inside `attributes`: Slicer splits at ';' and reads '%' as the start of an escape."""
    return clean(value).replace("%", "%25").replace(";", "%3B")
