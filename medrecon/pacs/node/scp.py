"""The way in by C-STORE: only from AE titles that are named, only to ours, within limits."""

from __future__ import annotations

import threading
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from medrecon.errors import UsageError, told_as
from medrecon.io.dicom.reading.kinds import IMAGES
from medrecon.pacs.node.intake import Intake
from medrecon.pacs.node.settings import Settings
from medrecon.pacs.syntaxes import SYNTAXES

_SILENCE = 60
_MIB = 1 << 20


def start_scp(settings: Settings, intake: Intake) -> Any:
    """Listen for C-STORE and C-ECHO, in threads.

    Returns:
        The server; its `shutdown` ends it.

    Raises:
        UsageError: the port is taken.
    """
    entity = AE(ae_title=settings.aet)
    entity.require_called_aet = True
    entity.require_calling_aet = list(settings.calling_aets)
    entity.maximum_associations = settings.max_associations
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _SILENCE
    entity.add_supported_context(Verification)
    for kind in sorted(IMAGES):
        entity.add_supported_context(kind, SYNTAXES)
    limit = settings.max_instance_mib * _MIB
    coming = _Coming(limit)

    def store(event: evt.Event) -> int:
        coming.begin(event.assoc)
        return intake.take(event.encoded_dataset(), str(event.assoc.requestor.ae_title).strip())

    handlers: list[Any] = [
        (evt.EVT_C_STORE, store),
        (evt.EVT_DATA_RECV, coming.count),
        (evt.EVT_CONN_CLOSE, lambda event: coming.begin(event.assoc)),
    ]
    address = settings.listen, settings.dicom_port
    where, remedy = f"cannot listen on {address[0]}:{address[1]}", "choose another listen or dicom_port"
    with told_as(UsageError, where, remedy=remedy):
        return entity.start_server(address, block=False, evt_handlers=handlers)


class _Coming:
    """Ends an association that sends more than one instance may have, before it fills the memory."""

    def __init__(self, limit: int) -> None:
        self._limit, self._lock = limit, threading.Lock()
        self._bytes: dict[int, int] = {}

    def begin(self, association: Any) -> None:
        """An instance has come whole, or the association has ended."""
        with self._lock:
            self._bytes.pop(id(association), None)

    def count(self, event: evt.Event) -> None:
        """Some bytes of an instance have come."""
        with self._lock:
            total = self._bytes[id(event.assoc)] = self._bytes.get(id(event.assoc), 0) + len(event.data)
        if total > self._limit * 1.1 + _MIB:
            event.assoc.abort()
