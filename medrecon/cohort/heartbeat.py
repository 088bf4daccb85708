"""Signs of life: the run tells its workers that it lives, each worker tells the run that it is at work."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from medrecon.errors import OutputError

LEASE = 300.0
"""Seconds without a sign of the run after which a worker on another machine ends."""

_BEAT = 2.0
_RUN, _PULSES = "run", "pulses"
_SUPERSEDED = 75


def host_code() -> str:
    """Tells this machine from others, without its name: what workers write is handed on with the results."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Lease:
    """The run that a worker belongs to; as written in its folder, so that a worker can tell when it is over.

    Attributes:
        state: the hidden folder of the run.
        token: differs for each run.
        host: code of the machine where it runs; `process` and `born` name its process there.
    """

    state: Path
    token: str
    host: str
    process: int
    born: float

    @classmethod
    def of_this_process(cls, state: Path) -> Lease:
        """A new lease, written down."""
        born = psutil.Process().create_time()
        lease = cls(state, uuid.uuid4().hex, host_code(), os.getpid(), born)
        (state / _PULSES).mkdir(exist_ok=True)
        (state / _RUN).write_text(lease.token, encoding="ascii")
        return lease

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Renew it while the block runs."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(_BEAT):
                with contextlib.suppress(OSError):
                    os.utime(self.state / _RUN)

        thread = threading.Thread(target=renew, daemon=True, name="medrecon-lease")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def holds(self) -> bool:
        """Whether the run is still the one that holds the output; asked by its workers."""
        try:
            if (self.state / _RUN).read_text(encoding="ascii") != self.token:
                return False
        except OSError:
            return False
        if self.host != host_code():
            return True
        try:
            return psutil.Process(self.process).create_time() == self.born
        except psutil.Error:
            return False

    def renewed(self) -> float:
        """When it was last renewed, by the file system's clock; 0 when that cannot be seen."""
        try:
            return (self.state / _RUN).stat().st_mtime
        except OSError:
            return 0.0

    def beats(self) -> dict[str, float]:
        """Worker -> its last sign of life, by the file system's clock; asked by the run."""
        found = {}
        with contextlib.suppress(OSError), os.scandir(self.state / _PULSES) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    found[entry.name] = entry.stat().st_mtime
        return found


class Pulse:
    """A worker's side: beats while a study is being worked on, and ends the process when its run is over."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.busy = False
        self.name = f"{host_code()}-{os.getpid()}"
        self._seen, self._since = lease.renewed(), time.monotonic()

    def start(self) -> Pulse:
        """Let it beat."""
        threading.Thread(target=self._beat, daemon=True, name="medrecon-pulse").start()
        return self

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Beat while the block runs.

        Raises:
            OutputError: the run is over.
        """
        if not self.lease.holds():
            raise OutputError("the run that asked for it is over", path=self.lease.state.parent)
        self._sign()
        self.busy = True
        try:
            yield
        finally:
            self.busy = False

    def _beat(self) -> None:
        while True:
            time.sleep(_BEAT)
            if self._is_over():
                os._exit(_SUPERSEDED)  # nothing is lost: what is unfinished lies in the hidden folder
            if self.busy:
                self._sign()

    def _sign(self) -> None:
        with contextlib.suppress(OSError):
            (self.lease.state / _PULSES / self.name).touch()

    def _is_over(self) -> bool:
        if not self.lease.holds():
            return True
        renewed = self.lease.renewed()
        if renewed != self._seen:
            self._seen, self._since = renewed, time.monotonic()
        return time.monotonic() - self._since > LEASE
