"""Lines of a log: one line each, nothing in them that could steer a terminal, as text or as JSON."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone

from medrecon.cli.faults import one_line


class LogLines(logging.Formatter):
    """What libraries and medrecon log, as the lines that the command itself writes.

    Args:
        as_json: write each as a JSON object.
    """

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        text = one_line(record.getMessage())
        return as_json_line(text, record.levelno) if self._as_json else text


def as_json_line(text: str, level: int) -> str:
    """`{"time": ..., "level": ..., "message": ...}` in ASCII: control characters are escaped."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    return json.dumps({"time": now, "level": logging.getLevelName(level).lower(), "message": text})
