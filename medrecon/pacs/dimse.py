"""A PACS over DIMSE (PS3.7): C-FIND, C-GET or C-MOVE, and C-STORE by pynetdicom."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from medrecon.errors import MedreconError, in_short
from medrecon.io.dicom.reading.kinds import IMAGES
from medrecon.pacs.archive import SERIES_FIELDS, STUDY_FIELDS, Archive, ArchiveError, Keep
from medrecon.pacs.credentials import tls_context
from medrecon.pacs.nodes import Node
from medrecon.pacs.query import text_of
from medrecon.pacs.reasons import reason
from medrecon.pacs.syntaxes import SYNTAXES

_FIND = StudyRootQueryRetrieveInformationModelFind
_GET = StudyRootQueryRetrieveInformationModelGet
_MOVE = StudyRootQueryRetrieveInformationModelMove
_PENDING = (0xFF00, 0xFF01)
_CANCELLED = 0xFE00
_MOST_CONTEXTS = 126
_MOST_ANSWERS = 100_000
"""Answers to one query: more than any series has instances, or any study series."""


class DimseArchive(Archive):
    """A node's DIMSE service. Each question is an association of its own, as nodes close idle ones.

    Args:
        node: with `host` and `port`.
    """

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._tls = (tls_context(node), node.host) if node.tls else None

    def echo(self) -> None:
        """By C-ECHO."""
        with self._associated([build_context(Verification)]) as association:
            self._check(association.send_c_echo(), "does not answer C-ECHO")

    def studies(self, keys: Mapping[str, str], most: int) -> list[Dataset]:
        """By C-FIND, cancelled when there are more than `most`."""
        return self._find("STUDY", {**dict.fromkeys(("StudyInstanceUID", *STUDY_FIELDS), ""), **keys}, most)

    def series(self, keys: Mapping[str, str]) -> list[Dataset]:
        """By C-FIND."""
        asked = dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID", *SERIES_FIELDS), "")
        found = self._find("SERIES", {**asked, **keys})
        for each in found:
            if "StudyInstanceUID" in keys and not text_of(each, "StudyInstanceUID"):
                each.StudyInstanceUID = keys["StudyInstanceUID"]
        return found

    def instances(self, study: str, series: str) -> dict[str, str]:
        """By C-FIND."""
        asked = {
            "StudyInstanceUID": study,
            "SeriesInstanceUID": series,
            "SOPInstanceUID": "",
            "SOPClassUID": "",
        }
        found = self._find("IMAGE", asked)
        return {text_of(each, "SOPInstanceUID"): text_of(each, "SOPClassUID") for each in found}

    def _find(self, level: str, keys: Mapping[str, str], most: int | None = None) -> list[Dataset]:
        identifier = Dataset()
        identifier.QueryRetrieveLevel = level
        for key, value in keys.items():
            setattr(identifier, key, value or None)
        uid = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}[level]
        found: dict[str, Dataset] = {}
        with self._associated([build_context(_FIND)]) as association:
            for number, (status, answer) in enumerate(
                association.send_c_find(identifier, _FIND, msg_id=1), start=1
            ):
                if number > _MOST_ANSWERS:
                    association.abort()
                    raise self.error("its answer has no end", "ask for less, or report it to who runs it")
                if status and status.Status in _PENDING:
                    if answer is None or not text_of(answer, uid):
                        raise self.error(f"answers without {uid}", "report it to who runs it")
                    found[text_of(answer, uid)] = answer
                    if most is not None and len(found) > most:
                        association.send_c_cancel(1, query_model=_FIND)
                        association.abort()
                        break
                else:
                    self._check(status, "refuses the query")
        return list(found.values())

    def fetch(self, study: str, series: str, wanted: Mapping[str, str], *, whole: bool, keep: Keep) -> None:
        """By C-GET on the association itself, or by C-MOVE to a port of this machine."""
        identifier = Dataset()
        identifier.QueryRetrieveLevel = "SERIES" if whole else "IMAGE"
        identifier.StudyInstanceUID, identifier.SeriesInstanceUID = study, series
        if not whole:
            identifier.SOPInstanceUID = list(wanted)
        failed: list[Exception] = []

        def receive(event: evt.Event) -> int:
            if failed:
                return 0xA700
            try:
                keep(event.encoded_dataset())
            except Exception as error:  # raised again where the transfer ends
                failed.append(error)
                return 0xA700
            return 0

        classes = {kind for kind in wanted.values() if kind} or set(IMAGES)
        try:
            retrieve = self._move if self.node.retrieve == "move" else self._get
            retrieve(identifier, classes, receive, failed)
        except MedreconError:
            if not failed:
                raise
        if failed:
            raise failed[0]

    def _get(
        self, identifier: Dataset, classes: Iterable[str], receive: Any, failed: list[Exception]
    ) -> None:
        storage = [build_context(kind, SYNTAXES) for kind in sorted(classes)[:_MOST_CONTEXTS]]
        roles = [build_role(UID(str(each.abstract_syntax)), scp_role=True) for each in storage]
        handlers = [(evt.EVT_C_STORE, receive)]
        contexts = [build_context(_GET), *storage]
        with self._associated(contexts, roles, handlers) as association:
            for status, _ in association.send_c_get(identifier, _GET):
                if failed:
                    association.abort()
                    break
                if not (status and status.Status in _PENDING):
                    self._check(status, "does not send by C-GET", partly=True)

    def _move(
        self, identifier: Dataset, classes: Iterable[str], receive: Any, failed: list[Exception]
    ) -> None:
        node = self.node
        receiver = AE(ae_title=node.calling_aet)
        receiver.require_called_aet = True
        receiver.require_calling_aet = [node.aet]
        receiver.maximum_associations = 4
        for kind in classes:
            receiver.add_supported_context(kind, SYNTAXES)
        try:
            server = receiver.start_server(
                (node.receive_host, node.receive_port), block=False, evt_handlers=[(evt.EVT_C_STORE, receive)]
            )
        except OSError as error:
            raise self.error(
                f"nothing can listen on {node.receive_host}:{node.receive_port} ({error.strerror})",
                "choose another receive_port in the file of nodes",
            ) from None
        try:
            with self._associated([build_context(_MOVE)]) as association:
                for status, _ in association.send_c_move(identifier, node.calling_aet, _MOVE):
                    if failed:
                        association.abort()
                        break
                    if not (status and status.Status in _PENDING):
                        self._check(status, "does not send by C-MOVE", partly=True)
        finally:
            if server is not None:
                server.shutdown()

    def store(self, files: Sequence[Path]) -> Iterator[tuple[Path, str]]:
        """By C-STORE, each file in the encoding that it has."""
        kinds = {path: _kind_of(path) for path in files}
        contexts: dict[tuple[str, str], PresentationContext] = {
            kind: build_context(*kind) for kind in dict.fromkeys(kinds.values())
        }
        with self._associated(list(contexts.values())[:_MOST_CONTEXTS]) as association:
            accepted = {
                (str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in association.accepted_contexts
            }
            for path, kind in kinds.items():
                if kind not in accepted:
                    yield path, "its SOP class or transfer syntax is not supported"
                    continue
                status = association.send_c_store(pydicom.dcmread(path))
                if not status:
                    raise self.error("the connection broke in the middle", "the same command goes on")
                yield path, reason(status.Status)

    def _check(self, status: Dataset, what: str, *, partly: bool = False) -> None:
        """Refuse a final status that is neither success nor, where that may be, a success in parts."""
        if not status:
            raise self.error("the connection broke in the middle", "the same command goes on")
        code = int(status.Status)
        if code in (0, _CANCELLED) or (partly and code >> 12 == 0xB):
            return
        comment = text_of(status, "ErrorComment")
        words = reason(code) + (f": {in_short(comment, 60)}" if comment else "")
        raise self.error(f"{what}: {words}", "check what the node allows, and retrieve in the file of nodes")

    @contextlib.contextmanager
    def _associated(
        self, contexts: list[PresentationContext], roles: Sequence[Any] = (), handlers: Sequence[Any] = ()
    ) -> Iterator[Association]:
        """An association for these contexts, the first of which the node must accept.

        Raises:
            ArchiveError: there is none.
        """
        node, refusals = self.node, list[A_ASSOCIATE_RJ]()

        def note(event: evt.Event) -> None:
            """A refusal; pynetdicom loses it where the connection is closed in the same moment."""
            if isinstance(event.pdu, A_ASSOCIATE_RJ):
                refusals.append(event.pdu)

        entity = AE(ae_title=node.calling_aet)
        entity.acse_timeout = entity.connection_timeout = node.timeout
        entity.dimse_timeout = entity.network_timeout = node.timeout
        association = entity.associate(
            node.host,
            node.port,
            contexts=contexts,
            ae_title=node.aet,
            ext_neg=list(roles) or None,
            tls_args=self._tls,
            evt_handlers=[*handlers, (evt.EVT_PDU_RECV, note)],
        )
        try:
            if not association.is_established:
                raise self._unassociated(association, refusals)
            if contexts[0].abstract_syntax not in {c.abstract_syntax for c in association.accepted_contexts}:
                service = UID(str(contexts[0].abstract_syntax)).name
                raise self.error(f"does not offer {service}", "check what it offers to our AE title")
            yield association
        finally:
            if association.is_established:
                association.release()

    def _unassociated(self, association: Association, refusals: Sequence[A_ASSOCIATE_RJ]) -> ArchiveError:
        """Why there is no association."""
        node = self.node
        for refusal in refusals:
            said = refusal.reason_str or "no reason given"
            return self.error(
                f"refuses the association ({said.lower()})",
                f"check aet ({node.aet}) and calling_aet ({node.calling_aet}) in the file of nodes",
            )
        try:
            with socket.create_connection((node.host, node.port), timeout=min(node.timeout, 10)) as plain:
                if self._tls:
                    self._tls[0].wrap_socket(plain, server_hostname=node.host).close()
        except ssl.SSLError as error:
            verified = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else ""
            said = verified or error.reason or "no TLS there"
            return self.error(
                f"TLS with {node.address} does not verify ({in_short(said, 80)})",
                "name its authority as ca in the file of nodes",
            )
        except ConnectionResetError:
            return self.error(f"{node.address} speaks no TLS", "check tls and port in the file of nodes")
        except OSError as error:
            return self.error(
                f"cannot be reached at {node.address} ({in_short(error.strerror or error, 80)})",
                "check that it runs, and host and port in the file of nodes",
            )
        if association.accepted_contexts or association.rejected_contexts:
            return self.error(
                "offers none of the services that are asked for", "check what it offers to our AE title"
            )
        return self.error(
            f"no DICOM association with {node.address} within {node.timeout:g} s",
            "check its port, and whether it wants TLS",
        )


def _kind_of(path: Path) -> tuple[str, str]:
    """SOP class and transfer syntax of a file."""
    meta = pydicom.filereader.read_file_meta_info(path)
    return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
