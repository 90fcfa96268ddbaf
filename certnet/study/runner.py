"""Running a study: every task once, in any order that its needs allow, on any number of workers and machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from types import MappingProxyType
from typing import Final

from certnet.core.errors import FileFormatError, InvalidInputError, OutputError
from certnet.core.validation import one_of, positive_number
from certnet.study.kinds.splits import check_data
from certnet.study.leases import Leases
from certnet.study.load import kind_of
from certnet.study.packages import check_packages
from certnet.study.pools import InlinePool, LokyPool, Pool, Result, worker_count
from certnet.study.progress import Progress, seconds_left, underway
from certnet.study.spec import Study, StudySpec
from certnet.study.store import Store
from certnet.study.tables import collect
from certnet.study.tasks import Row, Settings, Task, parse_shard, shard
from certnet.study.work import failed_row

__all__ = ["BACKENDS", "progress_of", "run_study"]

BACKENDS: Final = ("loky", "dask")
_WAIT: Final = 0.5  # seconds between looks at what other processes have done
_DEATHS: Final = 2  # of workers, the last one with nothing else running, that a task is given


def run_study(
    study: Study[StudySpec],
    folder: str | Path,
    *,
    n_jobs: int = 1,
    backend: str = "loky",
    scheduler: str | None = None,
    part: str | None = None,
    retry_failed: bool = False,
    timeout: float = 10.0,
    watch: Callable[[Progress], None] = lambda progress: None,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Store:
    """Compute the rows that ``folder`` does not have yet; rows do not depend on how they are computed.

    Parameters
    ----------
    study : Study
    folder : path
        Made if need be. Any number of processes and machines may run the same study in one folder at the same time.
    n_jobs : int
        Worker processes of the backend "loky"; 1 runs all in this process, −1 is one per core.
    backend : {"loky", "dask"}
    scheduler : str, optional
        Address of the Dask scheduler, for "dask".
    part : str, optional
        ``"i/n"``: only the i-th of n parts of the tasks.
    retry_failed : bool
        Run the tasks of failed rows again.
    timeout : float
        Seconds that a scheduler has to answer.
    watch : callable
        Told the progress whenever it changes.
    tell : callable
        Told in a sentence what a user should know: of a study that was changed since, or of files that are damaged.

    Returns
    -------
    Store

    Raises
    ------
    InvalidInputError
        Options that do not exist or go together, a scheduler that does not answer or is lost, a solver or device that
        the study names and that cannot be used.
    MissingDependencyError
        A package that tasks need and that is not installed, before any work.
    DatasetError, FileFormatError
        Data that cannot be read, before any work.
    OutputError
        The folder is of another kind of study or version, cannot be written, or the disk is full. Finished rows are
        kept.
    """
    _check_workers(n_jobs, backend, scheduler, timeout)
    chosen = parse_shard(part)
    check_data(study)
    if scheduler is None:  # else it is the workers' machines that count
        kind_of(study).check(study)
    tasks = kind_of(study).tasks(study)
    mine = tasks if chosen is None else shard(tasks, *chosen)
    if scheduler is None:
        check_packages(tasks, _left(folder, study, mine, failed=retry_failed))
    store = Store.create(folder, study)
    if store.changed:
        tell(_of_change(store, tasks))
    _forget(store, tasks, failed=retry_failed, tell=tell)
    pool = _pool(n_jobs, scheduler, timeout)
    try:
        with Leases(store.leases) as leases:
            _Run(store, mine, pool, leases, watch, tell).go()
    finally:
        pool.close()
    return store


def progress_of(
    store: Store,
    tasks: Sequence[Task[Settings]],
    width: int = 1,
    *,
    damaged: Callable[[FileFormatError], None] | None = None,
) -> Progress:
    """How far a folder is, whoever works on it; ``damaged`` as for :func:`certnet.study.collect`."""
    rows: dict[str, Row] = {}
    for task in tasks:
        if store.has(task.digest):
            rows.update((task.digest, row) for row in collect(store, [task], damaged=damaged))
    live = Leases(store.leases).live()
    return _counted(tasks, rows, len(live - set(rows)), max(width, len(live)))


def _counted(
    tasks: Sequence[Task[Settings]],
    rows: dict[str, Row],
    running: int,
    width: int,
    ages: Mapping[str, float] = MappingProxyType({}),
) -> Progress:
    failed = sum(row["status"] != "done" for row in rows.values())
    left = [task for task in tasks if task.digest not in rows]
    finished = [(task, rows[task.digest]) for task in tasks if task.digest in rows]
    rest = seconds_left(left, finished, width, ages)
    return Progress(len(rows) - failed, failed, running, len(left), rest, underway(left, finished, ages), width)


def _check_workers(n_jobs: int, backend: str, scheduler: str | None, timeout: float) -> None:
    worker_count(n_jobs)
    positive_number(timeout, "timeout (--timeout, in seconds)")
    one_of(backend, "backend", BACKENDS)
    if backend == "dask" and scheduler is None:
        raise InvalidInputError(
            "backend 'dask' needs a scheduler, and --scheduler is missing: give its address "
            "(--backend dask --scheduler tcp://host:8786)"
        )
    if backend != "dask" and scheduler is not None:
        raise InvalidInputError(f"a scheduler is for backend 'dask', got it with {backend!r}: add --backend dask")
    if scheduler is not None:
        from certnet.study.dask_ import check_address

        check_address(scheduler)


def _pool(n_jobs: int, scheduler: str | None, timeout: float) -> Pool:
    if scheduler is not None:
        from certnet.study.dask_ import DaskPool

        return DaskPool(scheduler, timeout=timeout)
    return InlinePool() if n_jobs == 1 else LokyPool(n_jobs)


def _of_change(store: Store, tasks: Sequence[Task[Settings]]) -> str:
    """What becomes of the rows of a folder whose study says something else now."""
    there, wanted = store.finished(), {task.digest for task in tasks}
    others = len(there - wanted)
    stay = f"; {others} row(s) of other settings stay in the folder" if others else ""
    return (
        f"the study is not the one that {store.folder} was last run with (different: {store.changed}): "
        f"{len(there & wanted)} of its {len(wanted)} rows are there and are used{stay}"
    )


def _left(
    folder: str | Path, study: Study[StudySpec], tasks: Sequence[Task[Settings]], *, failed: bool
) -> list[Task[Settings]]:
    """The tasks that a run would compute; ``failed``: those of failed rows as well."""
    try:
        store = Store.open(folder, study)
    except (OutputError, FileFormatError):  # no folder yet, or one that is refused in a moment
        return list(tasks)

    def there(digest: str) -> bool:
        try:
            return store.has(digest) and (store.row(digest)["status"] == "done" or not failed)
        except FileFormatError:  # damaged, and so to be removed
            return False

    return [task for task in tasks if not there(task.digest)]


def _forget(store: Store, tasks: Sequence[Task[Settings]], *, failed: bool, tell: Callable[[str], None]) -> None:
    """Remove rows that are damaged, and failed ones where they are to be tried again."""
    for task in tasks:
        row = _row(store, task, tell) if store.has(task.digest) else None
        if failed and row is not None and row["status"] != "done":
            store.forget(task.digest)


def _row(store: Store, task: Task[Settings], tell: Callable[[str], None]) -> Row | None:
    """The row of a task; None where it is damaged, and so removed."""
    try:
        return store.row(task.digest)
    except FileFormatError:
        tell(f"{store.row_path(task.digest)} is damaged: {task.name} is run again")
        store.forget(task.digest)
        return None


class _Run:
    """A run in progress: what is left, what is in flight, and who was running when a worker died."""

    def __init__(
        self,
        store: Store,
        tasks: Sequence[Task[Settings]],
        pool: Pool,
        leases: Leases,
        watch: Callable[[Progress], None],
        tell: Callable[[str], None],
    ) -> None:
        self._store, self._tasks, self._pool, self._leases = store, tasks, pool, leases
        self._watch, self._tell = watch, tell
        self._rows: dict[str, Row] = {}
        self._left = {task.digest: task for task in tasks}
        self._flying: dict[Future[Result], Task[Settings]] = {}
        self._begun: dict[str, float] = {}  # when, of those in flight
        self._deaths: dict[str, int] = {}
        self._remade: set[str] = set()  # tasks that are run again, for what they had given was damaged

    def go(self) -> None:
        self._look()
        while self._left:
            began = self._begin()
            if self._flying:
                done, _ = wait(self._flying, timeout=_WAIT, return_when=FIRST_COMPLETED)
                self._land([(future, self._flying.pop(future)) for future in done])
            elif not began:
                time.sleep(_WAIT)  # the rest is with other processes
            self._look()
        self._leases.sweep(self._rows)

    def _look(self) -> None:
        """Notice the rows that there are now, ours and others'."""
        for task in [task for task in self._left.values() if self._store.has(task.digest)]:
            row = _row(self._store, task, self._tell)
            if row is not None:
                self._rows[task.digest] = row
                del self._left[task.digest]
        self._report()

    def _report(self) -> None:
        now = time.monotonic()
        ages = {digest: now - begin for digest, begin in self._begun.items()}
        self._watch(_counted(self._tasks, self._rows, len(ages), self._pool.width, ages))

    def _begin(self) -> bool:
        """Start tasks until all workers are busy; was anything begun?"""
        flying = {task.digest for task in self._flying.values()}
        suspects = [digest for digest in self._deaths if digest in self._left]
        began = False
        for task in list(self._left.values()):
            if len(self._flying) >= (1 if suspects else self._pool.width):
                break
            if suspects and task.digest != suspects[0]:
                continue  # what ran when a worker died runs alone, so that the guilty one is known
            if task.digest not in flying and self._ready(task) and self._leases.take(task.digest):
                began = True
                if not self._launch(task):
                    break
        return began

    def _ready(self, task: Task[Settings]) -> bool:
        return all(need in self._rows or self._store.has(need) for need in task.needs)

    def _launch(self, task: Task[Settings]) -> bool:
        """Send a leased task to the workers, unless its row was written meanwhile or cannot be; do they live?"""
        if self._store.has(task.digest):
            self._leases.release(task.digest)
            return True
        for need in task.needs:
            row = self._rows.get(need) or self._store.row(need)
            if row["status"] != "done":
                self._finish(task, failed_row(task, f"it needs {row['task']}, which failed: {row['reason']}"), None)
                return True
        artifacts = self._artifacts(task)
        if artifacts is None:
            return True
        self._begun[task.digest] = time.monotonic()
        if self._pool.width == 1:
            self._report()  # a pool in this process is silent until the task has ended
        try:
            future = self._pool.submit(task, artifacts)
        except Exception as error:
            del self._begun[task.digest]
            if not self._pool.worker_died(error):
                raise
            self._leases.release(task.digest)
            if not self._flying:  # a worker died idle; else those that it was busy with will tell
                self._pool.restart()
            return False
        self._flying[future] = task
        return True

    def _artifacts(self, task: Task[Settings]) -> list[bytes] | None:
        """What the task needs; None where that is damaged, and so is made again first, or the task fails."""
        found: list[bytes] = []
        for need in task.needs:
            try:
                found.append(self._store.artifact(need))
            except FileFormatError as error:
                maker = next((one for one in self._tasks if one.digest == need), None)
                if maker is None or need in self._remade:
                    self._finish(task, failed_row(task, str(error)), None)
                else:
                    self._tell(f"{self._store.artifact_path(need)} is damaged: {maker.name} is run again")
                    self._remade.add(need)
                    self._store.forget_artifact(need)
                    self._rows.pop(need, None)
                    self._left[need] = maker
                    self._leases.release(task.digest)
                return None
        return found

    def _land(self, landed: Sequence[tuple[Future[Result], Task[Settings]]]) -> None:
        dead = False
        for future, task in landed:
            self._begun.pop(task.digest, None)
            error = future.exception()
            if error is None:
                self._finish(task, *future.result())
            elif self._pool.worker_died(error):
                dead = True
                self._mourn(task, error)
            elif isinstance(error, ConnectionError):
                raise InvalidInputError(f"{error}: finished rows are kept; start it again, and resume") from error
            else:
                self._finish(task, failed_row(task, f"{type(error).__name__}: {error}"), None)
        if dead:
            for task in self._flying.values():  # a pool that is broken loses all that it runs
                self._leases.release(task.digest)
                self._deaths.setdefault(task.digest, 1)
            self._flying.clear()
            self._begun.clear()
            self._pool.restart()

    def _mourn(self, task: Task[Settings], error: BaseException) -> None:
        self._deaths[task.digest] = self._deaths.get(task.digest, 0) + 1
        if self._deaths[task.digest] < _DEATHS:
            self._leases.release(task.digest)
            return
        reason = f"the worker process died {_DEATHS} times (out of memory?): {type(error).__name__}"
        self._finish(task, failed_row(task, reason, str(error)), None)

    def _finish(self, task: Task[Settings], row: Row, artifact: bytes | None) -> None:
        """Write what a task gave, and give its lease back."""
        try:
            if artifact is not None and not self._store.has(task.digest):
                self._store.write_artifact(task.digest, artifact)
            self._store.write_row(task.digest, row)
        except OutputError as error:
            kept = len(self._store.finished())
            raise OutputError(
                f"{error}; {kept} finished rows are kept in {self._store.folder}: make room there, and resume"
            ) from error
        self._leases.release(task.digest)
