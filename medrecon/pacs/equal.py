"""Whether two DICOM objects say the same, however each is encoded."""

from __future__ import annotations

from collections.abc import Sized

import numpy as np
from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

from medrecon.pacs.derived import is_ours

_PIXELS = Tag("PixelData")
_PADDING = Tag("DataSetTrailingPadding")
_MADE = frozenset(
    Tag(keyword)
    for keyword in (
        "InstanceCreationDate",
        "InstanceCreationTime",
        "SeriesDate",
        "SeriesTime",
        "ContentDate",
        "ContentTime",
        "ContributionDateTime",
        "DimensionOrganizationUID",
    )
)
"""What differs each time the same is derived again."""


def same_object(one: Dataset, other: Dataset) -> bool:
    """Whether all attributes and all pixels are equal; group lengths, padding and encoding do not count.

    Of what medrecon derived, the time when it did so does not count either.
    """
    passed = _MADE if is_ours(one) and is_ours(other) else frozenset()
    return _same_dataset(one, other, passed | {_PIXELS, _PADDING}) and _same_pixels(one, other)


def _same_dataset(one: Dataset, other: Dataset, passed: frozenset[BaseTag]) -> bool:
    tags = [{tag for tag in set(each.keys()) - passed if tag.element} for each in (one, other)]
    return tags[0] == tags[1] and all(_same_element(one[tag], other[tag], passed) for tag in tags[0])


def _same_element(one: DataElement, other: DataElement, passed: frozenset[BaseTag]) -> bool:
    if one.VR == "SQ" and other.VR == "SQ":
        pairs = zip(one.value, other.value, strict=False)
        return len(one.value) == len(other.value) and all(_same_dataset(*pair, passed) for pair in pairs)
    return _plain(one) == _plain(other)


def _plain(element: DataElement) -> object:
    """The value, without what an encoding may pad or leave open."""
    value = element.value
    if value is None or (isinstance(value, Sized) and len(value) == 0):
        return ""
    if isinstance(value, bytes):
        return value.rstrip(b"\0 ")
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, MultiValue):
        return [part if isinstance(part, (int, float)) else str(part).strip(" \0") for part in value]
    return str(value).strip(" \0")


def _same_pixels(one: Dataset, other: Dataset) -> bool:
    if (_PIXELS in one) != (_PIXELS in other):
        return False
    if _PIXELS not in one:
        return True
    if (
        one.file_meta.TransferSyntaxUID == other.file_meta.TransferSyntaxUID
        and one.PixelData == other.PixelData
    ):
        return True
    try:
        return bool(np.array_equal(one.pixel_array, other.pixel_array))
    except Exception:  # pixels that cannot be decoded are compared as bytes alone
        return False
