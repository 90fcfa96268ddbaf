"""A Dask cluster: a scheduler that does not answer, and a real one, one of whose two workers is killed in mid-run."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from dask_cluster import Cluster, free_port, two_workers
from studies import TINY, same, table, tiny_study

from certnet.core.errors import InvalidInputError, MissingDependencyError
from certnet.study import Progress, dask_, run_study

needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="Dask is not installed (certnet[dask])"
)


@needs_dask
def test_a_scheduler_that_does_not_answer(tmp_path):
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(InvalidInputError, match=r"does not answer within 0.5 s: start it with `dask scheduler`"):
        run_study(tiny_study(tmp_path), tmp_path / "out", backend="dask", scheduler=address, timeout=0.5)


def test_a_client_that_did_not_connect_is_closed(monkeypatch):
    """distributed's own closes itself when it is collected: it would wait again, and print a traceback."""
    made: list[Client] = []

    class Client:
        def __init__(self, *_: object, **__: object) -> None:
            self.status = "connecting"
            made.append(self)
            raise OSError

        def close(self, timeout: float) -> None:
            raise TimeoutError

    monkeypatch.setattr(dask_, "_import_distributed", lambda: SimpleNamespace(Client=Client))
    with pytest.raises(InvalidInputError, match="does not answer"):
        dask_.DaskPool("tcp://127.0.0.1:1", timeout=0.5)
    assert [client.status for client in made] == ["closed"]
    assert not logging.getLogger("distributed.client").disabled


def test_the_log_of_distributed_is_silent_while_the_client_works(caplog):
    with dask_._silent():
        logging.getLogger("distributed.client").error("thirty lines")
    assert caplog.records == []
    logging.getLogger("distributed.client").error("one")
    assert [record.message for record in caplog.records] == ["one"]


def test_without_dask(tmp_path, monkeypatch):
    monkeypatch.setattr(dask_.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"certnet\[dask\]"):
        run_study(tiny_study(tmp_path), tmp_path / "out", backend="dask", scheduler="tcp://127.0.0.1:1")


def test_a_scheduler_that_is_lost():
    class Lost:
        def ncores(self):
            raise ConnectionResetError

        submit = ncores

    pool = object.__new__(dask_.DaskPool)
    pool._client, pool._scheduler = Lost(), "tcp://there:1"
    with pytest.raises(InvalidInputError, match="tcp://there:1 is lost: finished rows are kept"):
        pool.width  # noqa: B018
    done, outer = Future(), Future()
    done.cancel()
    dask_._settle(done, outer)
    assert isinstance(outer.exception(), ConnectionError)  # which ends the run


@pytest.fixture
def cluster(tmp_path) -> Iterator[Cluster]:
    with two_workers(tmp_path) as made:
        yield made


@needs_dask
@pytest.mark.slow
def test_two_workers_one_of_them_killed(cluster, tmp_path):
    """The table is that of one process; what ran on the killed worker was run again by the other."""
    address, workers = cluster
    study = tiny_study(tmp_path, TINY.replace("trials = 2", "trials = 6"))
    run_study(study, tmp_path / "alone")
    half = threading.Event()

    def watch(now: Progress) -> None:
        if now.done >= 4 and not half.is_set():
            half.set()
            os.kill(workers[0].pid, signal.SIGKILL)

    run_study(study, tmp_path / "out", backend="dask", scheduler=address, timeout=60.0, watch=watch)
    assert half.is_set()
    assert workers[0].wait(timeout=120) == -signal.SIGKILL
    assert workers[1].poll() is None
    assert same(table(study, tmp_path / "out"), table(study, tmp_path / "alone"))
    assert len(table(study, tmp_path / "out")) == 18
