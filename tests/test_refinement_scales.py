"""A word on inputs whose spreads have little in common."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import certnet
from certnet.errors import ScaleWarning


@pytest.fixture
def net() -> certnet.ShallowNetwork:
    rng = np.random.default_rng(0)
    return certnet.ShallowNetwork(rng.standard_normal((4, 3)), np.zeros(4), rng.standard_normal((1, 4)), np.zeros(1))


def table(scales: list[float]) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(1).standard_normal((30, 3)) * scales
    return X, X @ np.ones((3, 1))


def refined(net, X, y, **options):
    return certnet.refine(net, X, y, weight=0.01, method="joint", **options)


def test_uneven_inputs_are_named(net):
    X, y = table([1.0, 3e3, 0.5])
    with pytest.warns(ScaleWarning, match=r"input 1 has a standard deviation of .*, input 2 of .*: .*Standardise"):
        refined(net, X, y)


@pytest.mark.parametrize("scales", [[1.0, 100.0, 0.5], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1e5, 0.0, 1e5]])
def test_others_are_not(net, scales):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScaleWarning)
        refined(net, *table(scales))


def test_names_of_a_table_are_used(net, tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    X, y = table([1.0, 3e3, 0.5])
    pq.write_table(
        pa.table({"age": X[:, 0], "income": X[:, 1], "ph": X[:, 2], "price": y[:, 0]}), tmp_path / "t.parquet"
    )
    with pytest.warns(ScaleWarning, match="input 'income' has .*, input 'ph' of"):
        certnet.refine(net, tmp_path / "t.parquet", "price", weight=0.01, effort="quick")
