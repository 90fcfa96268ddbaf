"""Where tasks are run: in this process, or in processes of this machine (joblib's loky). Dask is in ``dask_``."""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any, final

from certnet.core.errors import InvalidInputError
from certnet.study.tasks import Row, Settings, Task
from certnet.study.work import perform

__all__ = ["InlinePool", "LokyPool", "Pool", "Result", "worker_count"]

Result = tuple[Row, bytes | None]

_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


class Pool(ABC):
    """Workers that run tasks."""

    @property
    @abstractmethod
    def width(self) -> int:
        """How many tasks run at once."""

    @abstractmethod
    def submit(self, task: Task[Settings], artifacts: Sequence[bytes]) -> Future[Result]:
        """Begin a task; its result is that of :func:`certnet.study.work.perform`.

        Where the workers are dead it raises what :meth:`worker_died` tells.
        """

    @abstractmethod
    def worker_died(self, error: BaseException) -> bool:
        """Does an error mean that a worker died, rather than that the task could not be sent?"""

    @abstractmethod
    def restart(self) -> None:
        """Workers anew, after one has died."""

    @abstractmethod
    def close(self) -> None:
        """End at once; tasks in progress are lost."""


@final
class InlinePool(Pool):
    """This process: a task is done when ``submit`` returns."""

    @property
    def width(self) -> int:
        return 1

    def submit(self, task: Task[Settings], artifacts: Sequence[bytes]) -> Future[Result]:
        future: Future[Result] = Future()
        future.set_result(perform(task, artifacts))
        return future

    def worker_died(self, error: BaseException) -> bool:
        return False

    def restart(self) -> None:
        """Nothing can have died."""

    def close(self) -> None:
        """Nothing is open."""


@final
class LokyPool(Pool):
    """Processes of joblib's loky backend, one BLAS thread each."""

    def __init__(self, n_jobs: int) -> None:
        self._n_jobs = worker_count(n_jobs)
        self._executor = self._made()

    @property
    def width(self) -> int:
        return self._n_jobs

    def submit(self, task: Task[Settings], artifacts: Sequence[bytes]) -> Future[Result]:
        future: Future[Result] = self._executor.submit(perform, task, list(artifacts))
        return future

    def worker_died(self, error: BaseException) -> bool:
        return isinstance(error, BrokenProcessPool)

    def restart(self) -> None:
        self.close()
        self._executor = self._made()

    def close(self) -> None:
        self._executor.shutdown(wait=True, kill_workers=True)

    def _made(self) -> Any:
        from joblib.externals.loky import ProcessPoolExecutor

        return ProcessPoolExecutor(
            max_workers=self._n_jobs, env=_THREADS, initializer=_end_with, initargs=(os.getpid(),)
        )


def worker_count(n_jobs: int) -> int:
    """Worker processes that ``n_jobs`` asks for: itself, or one per core for −1.

    Raises
    ------
    InvalidInputError
        It is neither −1 nor at least 1.
    """
    from joblib import cpu_count

    if n_jobs != -1 and n_jobs < 1:
        raise InvalidInputError(f"n_jobs must be a number of processes from 1, or -1 for one per core, got {n_jobs}")
    return n_jobs if n_jobs > 0 else int(cpu_count())


def _end_with(parent: int) -> None:
    """Watch for the parent's end: loky's workers would wait for ever after a parent that was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
