"""One task in a worker: whatever happens becomes a row."""

from __future__ import annotations

import json
import math
import platform
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from threadpoolctl import threadpool_limits

from certnet._version import __version__
from certnet.study.kinds import kind_named
from certnet.study.tasks import Row, Settings, Task

__all__ = ["VOLATILE", "failed_row", "perform"]

VOLATILE: Final = frozenset({"seconds", "method_seconds", "memory_mb", "host", "finished", "versions"})
"""Columns that say when, where, how fast and in how much memory a row was made; all others are the same in all runs."""

_PACKAGES: Final = ("numpy", "scipy", "scikit-learn", "numba", "torch")


def perform(task: Task[Settings], artifacts: Sequence[bytes]) -> tuple[Row, bytes | None]:
    """The row of a task, failed or not, and its artifact; one thread per task, so that workers do not compete."""
    begin = time.perf_counter()
    with warnings.catch_warnings(record=True) as heard, threadpool_limits(limits=1):
        warnings.simplefilter("always")
        try:
            outcome = kind_named(task.kind).execute(task, artifacts)
            columns = _plain(dict(outcome.row))
            json.dumps(columns, allow_nan=False)  # a row that is no row is a failure of its task, not of the study
        except Exception as error:  # noqa: BLE001 - a failure is a row
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            return failed_row(task, reason, traceback.format_exc(), time.perf_counter() - begin), None
    status = "failed" if outcome.failure else "done"
    row = _row(task, status, outcome.failure, time.perf_counter() - begin) | columns
    row["warnings"] = sorted({f"{one.category.__name__}: {one.message}" for one in heard})
    return row, outcome.artifact


def failed_row(task: Task[Settings], reason: str, trace: str = "", seconds: float = 0.0) -> Row:
    """The row of a task that gave nothing; it names what the task was."""
    plain = task.settings.plain()
    names = {key: plain[key] for key in ("trial", "weight", "start", "method") if key in plain}
    return _row(task, "failed", reason, seconds) | {"data": task.group.get("data", "")} | names | {"traceback": trace}


def _row(task: Task[Settings], status: str, reason: str, seconds: float) -> Row:
    return {
        "task": task.name,
        "digest": task.digest,
        "kind": task.kind,
        "status": status,
        "reason": reason,
        "seed": task.seed,
        "seconds": seconds,
        "memory_mb": _peak_memory(),
        "host": socket.gethostname(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
    }


def _peak_memory() -> float | None:
    """MB that this process has held at most so far; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 2.0**20 if sys.platform == "darwin" else 2.0**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def _versions() -> dict[str, str]:
    found = {"certnet": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _plain(value: Any) -> Any:
    """Nested plain values with None for NaN and infinities, which JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value.item() if hasattr(value, "item") else value
