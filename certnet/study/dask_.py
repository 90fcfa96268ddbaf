"""A Dask cluster as a pool of workers: the only module that imports dask and distributed."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final, final

from certnet.core.errors import InvalidInputError, MissingDependencyError
from certnet.study.pools import Pool, Result
from certnet.study.tasks import Settings, Task
from certnet.study.work import perform

__all__ = ["DaskPool", "check_address"]

_ADDRESS: Final = re.compile(r"(?:(?:tcp|tls|ws|wss|ucx)://)?(?:\[[^\s\]]+\]|[^\s:/]+):([0-9]{1,5})")


@final
class DaskPool(Pool):
    """The workers of a scheduler, which come and go as they like: a task of a dead one is run again by another.

    Workers need certnet and the data (``CERTNET_DATA_HOME``, tables at the same path); rows and networks travel with
    the tasks, so they need not see the study's folder.

    Parameters
    ----------
    scheduler : str
        Its address, such as ``tcp://10.0.0.1:8786``.
    timeout : float
        Seconds to wait for its answer, and for a first worker.

    Raises
    ------
    MissingDependencyError
        Dask is not installed.
    InvalidInputError
        The scheduler does not answer, or has no workers.
    """

    def __init__(self, scheduler: str, *, timeout: float = 10.0) -> None:
        check_address(scheduler)
        self._distributed = _import_distributed()
        self._scheduler = scheduler
        self._silence = contextlib.ExitStack()
        self._silence.enter_context(_silent())
        self._client = self._connected(timeout)
        try:
            self._client.wait_for_workers(1, timeout=timeout)
        except TimeoutError as error:
            self.close()
            raise InvalidInputError(
                f"the Dask scheduler {scheduler} has no workers after {timeout:g} s: start some with "
                f"`dask worker {scheduler} --nthreads 1`"
            ) from error

    @property
    def width(self) -> int:
        """Threads of all workers now; one where all have gone, since others may come."""
        with self._answering():
            return max(1, sum(self._client.ncores().values()))

    def submit(self, task: Task[Settings], artifacts: Sequence[bytes]) -> Future[Result]:
        with self._answering():
            inner = self._client.submit(perform, task, list(artifacts), pure=False)  # impure: run, not remembered
        outer: Future[Result] = Future()
        inner.add_done_callback(lambda done: _settle(done, outer))
        return outer

    def worker_died(self, error: BaseException) -> bool:
        return isinstance(error, self._distributed.KilledWorker)

    def restart(self) -> None:
        """The scheduler replaces its workers itself."""

    def close(self) -> None:
        with self._silence:
            self._client.close(timeout=5)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InvalidInputError(
                f"the Dask scheduler {self._scheduler} is lost: finished rows are kept; start it again, and resume"
            ) from error

    def _connected(self, timeout: float) -> Any:
        # made in two steps, for a client that did not connect is to be closed here: it would wait again, and print a
        # traceback, when it is collected
        client = self._distributed.Client.__new__(self._distributed.Client)
        try:
            client.__init__(self._scheduler, timeout=timeout, set_as_default=False)
        except (OSError, ValueError) as error:
            with self._silence, contextlib.suppress(Exception):
                client.close(timeout=1)
            client.status = "closed"
            raise InvalidInputError(
                f"the Dask scheduler {self._scheduler!r} does not answer within {timeout:g} s: start it with "
                "`dask scheduler`, and give the address that it prints (tcp://host:8786)"
            ) from error
        return client


def check_address(scheduler: str) -> None:
    """Refuse what cannot be the address of a scheduler, before anything waits for its answer.

    Raises
    ------
    InvalidInputError
    """
    found = _ADDRESS.fullmatch(scheduler)
    if found is None or int(found[1]) > 65535:
        raise InvalidInputError(
            f"the address {scheduler!r} of the Dask scheduler is malformed: tcp://HOST:PORT is needed, as "
            "`dask scheduler` prints it"
        )


@contextmanager
def _silent() -> Iterator[None]:
    """No log of distributed: it prints a traceback where the scheduler is lost, which is told in a line here."""
    log = logging.getLogger("distributed.client")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _settle(done: Any, outer: Future[Result]) -> None:
    """Hand the outcome of a Dask future on."""
    if done.cancelled():
        outer.set_exception(ConnectionError("the Dask scheduler is lost"))
        return
    error = done.exception()
    if error is not None:
        outer.set_exception(error)
    else:
        outer.set_result(done.result())


def _import_distributed() -> Any:
    if importlib.util.find_spec("distributed") is None or importlib.util.find_spec("dask") is None:
        raise MissingDependencyError(
            'a Dask cluster needs certnet[dask]: pip install "dask>=2024.8" "distributed>=2024.8"'
        )
    import distributed

    return distributed
