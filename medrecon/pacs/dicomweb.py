"""A PACS over DICOMweb (PS3.18): QIDO-RS, WADO-RS and STOW-RS by dicomweb-client."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import requests
from dicomweb_client import DICOMwebClient
from pydicom import Dataset
from requests.auth import AuthBase, HTTPBasicAuth
from retrying import RetryError

from medrecon.errors import MedreconError, in_short
from medrecon.pacs.archive import SERIES_FIELDS, STUDY_FIELDS, Archive, ArchiveError, Keep
from medrecon.pacs.credentials import password_of, token_of
from medrecon.pacs.nodes import Node
from medrecon.pacs.query import text_of
from medrecon.pacs.reasons import reason
from medrecon.pacs.transport import TooLarge, Transport

_PAGE = 1000
_ATTEMPTS, _PAUSE_MS = 2, 250
_BATCH_BYTES = 32 << 20
_READ_BYTES = 1 << 16
"""What of an instance is lost at most, beside the one under way, when a connection breaks."""

_WHOLE = 1 << 40
"""No body is sent in chunks, which some servers do not take."""

_AS_STORED = (("application/dicom", "*"),)
_GONE = (401, 403)

Search = Callable[..., list[dict[str, Any]]]


class _Bearer(AuthBase):
    """A token in the header of each request."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class DicomWebArchive(Archive):
    """A node's DICOMweb service.

    Proxies and passwords that the environment may hold for other programs are not used, and it is not
    followed to another address.

    Args:
        node: with a `url`.

    Raises:
        UsageError: its password is not where the file of nodes says.
    """

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._session = requests.Session()
        self._session.trust_env = False
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, Transport(node.timeout))
        self._session.max_redirects = 0
        self._session.headers["Accept-Encoding"] = "identity"  # pixels are slow to compress, and gain little
        self._session.verify = node.ca or True
        if node.certificate:
            self._session.cert = (node.certificate, node.key) if node.key else node.certificate
        token, password = token_of(node), password_of(node)
        if token:
            self._session.auth = _Bearer(token)
        elif node.user:
            self._session.auth = HTTPBasicAuth(node.user.encode(), password.encode())
        self._client = self._connected(_READ_BYTES)
        self._client.set_http_retry_params(max_attempts=_ATTEMPTS, wait_exponential_multiplier=_PAUSE_MS)
        self._sender = self._connected(_WHOLE)
        self._sender.set_http_retry_params(retry=False)

    def _connected(self, chunk_size: int) -> DICOMwebClient:
        url, timeout = self.node.url.rstrip("/"), self.node.timeout
        return DICOMwebClient(url, self._session, timeout=timeout, chunk_size=chunk_size, permissive_uid=True)

    def close(self) -> None:
        """End the session."""
        self._session.close()

    def echo(self) -> None:
        """Ask for one study."""
        self.studies({}, 0)

    def studies(self, keys: Mapping[str, str], most: int) -> list[Dataset]:
        """By QIDO-RS."""
        return self._search(
            self._client.search_for_studies, "StudyInstanceUID", most + 1, STUDY_FIELDS, dict(keys)
        )

    def series(self, keys: Mapping[str, str]) -> list[Dataset]:
        """By QIDO-RS."""
        filters = dict(keys)
        study = filters.pop("StudyInstanceUID", None)

        def search(**given: Any) -> list[dict[str, Any]]:
            return self._client.search_for_series(study, **given)

        found = self._search(search, "SeriesInstanceUID", None, SERIES_FIELDS, filters)
        for each in found:
            if study and not text_of(each, "StudyInstanceUID"):
                each.StudyInstanceUID = study
        return found

    def instances(self, study: str, series: str) -> dict[str, str]:
        """By QIDO-RS."""

        def search(**given: Any) -> list[dict[str, Any]]:
            return self._client.search_for_instances(study, series, **given)

        found = self._search(search, "SOPInstanceUID", None, ("SOPClassUID",), {})
        return {text_of(each, "SOPInstanceUID"): text_of(each, "SOPClassUID") for each in found}

    def _search(
        self, search: Search, uid: str, most: int | None, fields: Sequence[str], filters: dict[str, str]
    ) -> list[Dataset]:
        """All pages of an answer, or as many as hold `most`; each object once, also where pages repeat it."""
        found: dict[str, Dataset] = {}
        asked = 0
        while most is None or len(found) < most:
            page = min(_PAGE, _PAGE if most is None else most - len(found))
            with self._told():
                try:
                    answer = search(limit=page, offset=asked, fields=list(fields), search_filters=filters)
                except requests.HTTPError as error:
                    if _status(error) != 404:
                        raise
                    answer = []
                read = [Dataset.from_json(each) for each in answer]
                new = {text_of(each, uid): each for each in read if text_of(each, uid) not in found}
            if "" in new:
                raise self.error(f"answers without {uid}", "report it to who runs it")
            if not new:
                break
            found |= new
            asked += len(read)
        return list(found.values())

    def fetch(self, study: str, series: str, wanted: Mapping[str, str], *, whole: bool, keep: Keep) -> None:
        """By WADO-RS: the series in one stream, or some of its instances one by one; encoded as stored."""
        with self._told():
            if whole:
                for dataset in self._client.iter_series(study, series, media_types=_AS_STORED):
                    keep(_as_file(dataset))
                return
            for uid in wanted:
                with contextlib.suppress(_Missing), self._told():
                    keep(_as_file(self._client.retrieve_instance(study, series, uid, media_types=_AS_STORED)))

    def store(self, files: Sequence[Path]) -> Iterator[tuple[Path, str]]:
        """By STOW-RS, some files at a time."""
        for batch in _batches(files):
            datasets = [pydicom.dcmread(path) for path in batch]
            with self._told():
                try:
                    answer = self._sender.store_instances(datasets)
                except requests.HTTPError as error:
                    told = _failures(error.response)
                    if told is None:
                        raise
                    answer = told
            failed = {
                text_of(item, "ReferencedSOPInstanceUID"): reason(item.get("FailureReason"))
                for item in answer.get("FailedSOPSequence", [])
            }
            for path, dataset in zip(batch, datasets, strict=True):
                yield path, failed.get(str(dataset.SOPInstanceUID), "")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Whatever goes wrong on the way becomes one line; no address with a query in it is repeated.

        Raises:
            ArchiveError: what went wrong.
        """
        try:
            yield
        except MedreconError:
            raise
        except requests.exceptions.SSLError as error:
            raise self.error(
                f"TLS with {self.node.address} does not verify ({_why(error)})",
                "name its authority as ca in the file of nodes",
            ) from None
        except requests.exceptions.Timeout:
            raise self.error(
                f"no answer from {self.node.address} within {self.node.timeout:g} s",
                "try again later, or raise its timeout",
            ) from None
        except TooLarge:
            raise self.error("its answer has no end", "ask for less, or report it to who runs it") from None
        except requests.exceptions.TooManyRedirects:
            raise self.error("sends us to another address", "write that one as its url") from None
        except requests.HTTPError as error:
            raise self._refusal(_status(error)) from None
        except RetryError as error:
            code = getattr(error.last_attempt.value, "status_code", 0)
            raise self._refusal(code) from None
        except requests.exceptions.ChunkedEncodingError:
            raise self.error("the connection broke in the middle", "the same command goes on") from None
        except requests.exceptions.ConnectionError as error:
            raise self.error(
                f"cannot be reached at {self.node.address} ({_why(error)})",
                "check that it runs, and its url in the file of nodes",
            ) from None
        except Exception as error:  # whatever reading an answer that is none can raise
            raise self.error(
                f"{self.node.address} answers what is no DICOMweb ({type(error).__name__})",
                "check its url in the file of nodes",
            ) from error

    def _refusal(self, code: int) -> ArchiveError:
        if code in _GONE:
            return self.error(
                f"refuses us (HTTP {code})", "check user, password_env or token_env, and its rights"
            )
        if code == 404:
            return _Missing(f"pacs:{self.node.name}: has no such study, series or service", remedy="check")
        return self.error(f"answers HTTP {code}", "see its log")


class _Missing(ArchiveError):
    """What was asked for is not there."""


def _as_file(dataset: Dataset) -> bytes:
    stream = BytesIO()
    pydicom.dcmwrite(stream, dataset)
    return stream.getvalue()


def _batches(files: Sequence[Path]) -> Iterator[list[Path]]:
    batch: list[Path] = []
    total = 0
    for path in files:
        size = path.stat().st_size
        if batch and total + size > _BATCH_BYTES:
            yield batch
            batch, total = [], 0
        batch.append(path)
        total += size
    if batch:
        yield batch


def _status(error: requests.HTTPError) -> int:
    return 0 if error.response is None else error.response.status_code


def _failures(response: requests.Response | None) -> Dataset | None:
    """What an answer of HTTP 409 says of each instance; None where it says nothing."""
    if response is None:
        return None
    try:
        answer = response.json()
        told = Dataset.from_json(answer[0] if isinstance(answer, list) else answer)
    except Exception:
        return None
    return told if "FailedSOPSequence" in told else None


def _why(error: BaseException) -> str:
    """The innermost reason, without the address that requests puts around it."""
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    inner = getattr(error, "reason", None)
    if isinstance(inner, BaseException):
        return _why(inner)
    said = error.args[-1] if error.args else error
    return in_short(str(said).rpartition(": ")[2] or type(error).__name__, 80)
