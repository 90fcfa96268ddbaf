"""A real Dask cluster on the loopback, whose workers' processes a test may kill."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Cluster", "free_port", "two_workers"]

Cluster = tuple[str, list[subprocess.Popen[bytes]]]
"""Address of the scheduler, and the workers' processes."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def two_workers(folder: Path) -> Iterator[Cluster]:
    """A scheduler and two workers, one thread each, that can import what stands beside the tests."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    here = Path(__file__).parent
    paths = os.pathsep.join(filter(None, (str(here), str(here.parent), os.environ.get("PYTHONPATH", ""))))
    where = {
        "cwd": folder,
        "env": {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": paths},
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    place, run = ["--host", "127.0.0.1", "--no-dashboard"], [sys.executable, "-m"]
    scheduler = subprocess.Popen([*run, "distributed.cli.dask_scheduler", *place, "--port", str(port)], **where)
    options = ["--nthreads", "1", "--no-nanny", *place]
    workers = [subprocess.Popen([*run, "distributed.cli.dask_worker", address, *options], **where) for _ in range(2)]
    try:
        yield address, workers
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()
