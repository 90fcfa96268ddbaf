"""A small study on a table of its own, for the tests of certnet.study: seconds for all of it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from certnet.study import Store, Study, collect, load_study
from certnet.study.load import kind_of
from certnet.study.work import VOLATILE

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
CERTNET = [sys.executable, "-m", "certnet"]

NO_ARRAYS = b"PK\x05\x06" + bytes(18)
"""An .npz file without arrays, for tasks that only pretend."""

TINY = """\
kind = "objectives"
trials = 2
hidden = 4
weights = [0.01]

[[tables]]
name = "mine"
csv = "mine.csv"
target = "y"
inputs = ["a", "b"]
test_fraction = 0.2

[attack]
epsilons = [0.0, 0.2]
steps = 2
restarts = 1

[starts.mlp]
epochs = 30

[methods.C-l2]
penalty = "l2"

[methods.joint]

[expected]
never_worse = ["joint", "C-l2"]

[quick]
trials = 1
"""


def write_study(folder: Path, text: str = TINY, name: str = "tiny.toml") -> Path:
    """The study file beside its table of 40 rows."""
    rng = np.random.default_rng(5)
    X = rng.standard_normal((40, 2))
    y = X[:, 0] - np.abs(X[:, 1])
    rows = (f"{a!r},{b!r},{i % 4 == 0:d},{t!r}\n" for i, ((a, b), t) in enumerate(zip(X.tolist(), y.tolist())))
    (folder / "mine.csv").write_text("a,b,held,y\n" + "".join(rows))
    path = folder / name
    path.write_text(text)
    return path


def tiny_study(folder: Path, text: str = TINY) -> Study:
    return load_study(write_study(folder, text))


def table(study: Study, folder: Path) -> list[dict[str, Any]]:
    """All rows in order, without the columns that may differ between runs."""
    tasks = kind_of(study).tasks(study)
    rows = collect(Store.open(folder, study), tasks)
    return [{key: value for key, value in row.items() if key not in VOLATILE} for row in rows]


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)


def same(a: Any, b: Any) -> bool:
    """Equal values, numbers up to rounding: sums over memory of another alignment may differ in the last digits."""
    if isinstance(a, float) and isinstance(b, float):
        return bool(np.isclose(a, b, rtol=1e-6, atol=1e-9, equal_nan=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)
