"""Rows of Dask collections: the same bits as in memory however they are cut, and a worker that dies in a sum."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from dask_cluster import Cluster, two_workers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from row_tables import Fatal, Fit, same, same_blocks, table

from certnet.core.errors import InvalidInputError
from certnet.rows import MemoryRows, dask_, opening, rows_of
from certnet.rows.dask_ import DaskRows

dask = pytest.importorskip("dask", reason="Dask is not installed (certnet[dask])")
da = pytest.importorskip("dask.array")
needs_frames = pytest.mark.skipif(
    importlib.util.find_spec("dask.dataframe") is None
    or importlib.util.find_spec("pyarrow") is None
    or (int(dask.__version__.split(".")[0]) < 2025 and importlib.util.find_spec("dask_expr") is None),
    reason="Dask's DataFrame needs pandas and pyarrow, and before 2025 dask-expr (dask[dataframe])",
)
needs_cluster = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="distributed is not installed (certnet[dask])"
)

SHAPE = {"n_inputs": 3, "n_outputs": 2}
SMALL = {**SHAPE, "rows_in_block": 2}


@pytest.fixture
def large(monkeypatch):
    """Nothing is small enough to be loaded."""
    monkeypatch.setattr(opening, "LOADED_BYTES", 0)


def frame_of(X: np.ndarray, y: np.ndarray, w: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(np.column_stack([X, y, w]), columns=list("abctuw"))


def cut(n: int, cuts: list[int]) -> tuple[int, ...]:
    return tuple(np.diff(sorted({0, n, *(c for c in cuts if c < n)})).tolist())


cuts_of_rows = st.lists(st.integers(1, 399), max_size=6)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 400), cuts_of_rows, cuts_of_rows, st.sampled_from(["threads", "synchronous"]), st.booleans())
def test_arrays_give_the_same_bits_as_in_memory(large, n, of_X, of_y, scheduler, weighted):
    X, y, w = table(n)
    weights = da.from_array(w, chunks=(cut(n, of_y),)) if weighted else None
    with dask.config.set(scheduler=scheduler):
        found = rows_of(
            da.from_array(X, chunks=(cut(n, of_X), (1, 2))),
            da.from_array(y, chunks=(cut(n, of_y), 2)),
            weights,
            **SMALL,
        )
        assert isinstance(found, DaskRows)
        expected = rows_of(X, y, w if weighted else None, **SMALL)
        same(found, expected)
        same(found.in_memory(), expected)
        same(found.sample(n // 3 + 1, 5), expected.sample(n // 3 + 1, 5))
        same_blocks(found, expected)


@needs_frames
@pytest.mark.parametrize("n", [1, 133])
def test_frames_give_the_same_bits_as_in_memory(large, n):
    import dask.dataframe as dd

    X, y, w = table(n)
    frame = frame_of(X, y, w)
    there = dd.from_pandas(frame, npartitions=5)
    assert isinstance(rows_of(there, ["t", "u"], "w", **SMALL), DaskRows)
    expected = rows_of(frame, ["t", "u"], "w", **SMALL)
    arrays = there.to_dask_array(lengths=True)
    for found in (
        rows_of(there, ["t", "u"], "w", **SMALL),
        rows_of(there, target=["t", "u"], sample_weight="w", **SMALL, names=("a", "b", "c")),
        rows_of(there[list("wutcba")], ["t", "u"], there["w"], **SMALL, columns=["a", "b", "c"]),
        rows_of(there[["a", "b", "c"]], there[["t", "u"]], there["w"], **SMALL),
        rows_of(there[["a", "b", "c"]], arrays[:, 3:5], there["w"], **SMALL),
        rows_of(arrays[:, :3], arrays[:, 3:5], arrays[:, 5], **SMALL, names=("a", "b", "c")),
    ):
        same(found, expected)
    one = rows_of(there[["a", "b", "c"]], there["t"], n_inputs=3, n_outputs=1, rows_in_block=2)
    same(
        one,
        rows_of(frame[["a", "b", "c"]], frame["t"], n_inputs=3, n_outputs=1, rows_in_block=2, names=("a", "b", "c")),
    )
    numbered = dd.from_pandas(frame[["a", "b", "c"]].rename(columns={"a": 0, "b": 1, "c": 2}), npartitions=2)
    same(rows_of(numbered, there[["t", "u"]], **SMALL), rows_of(X, y, **SMALL))
    with pytest.raises(InvalidInputError, match="has columns without names"):
        rows_of(numbered, "t", **SMALL)


@needs_frames
def test_files_that_dask_reads_are_those_that_are_read_here(large, tmp_path):
    import dask.dataframe as dd

    for k in range(3):
        frame_of(*table(40 + k, seed=k)).to_parquet(tmp_path / f"{k}.parquet")
    there = dd.read_parquet(tmp_path)
    same(rows_of(there, ["t", "u"], "w", **SMALL), rows_of(tmp_path, ["t", "u"], "w", **SMALL))


def test_small_collections_are_loaded():
    X, y, w = table(100)
    found = rows_of(da.from_array(X), da.from_array(y), da.from_array(w), **SHAPE)
    assert isinstance(found, MemoryRows)
    same(found, rows_of(X, y, w, **SHAPE))


@pytest.mark.parametrize("kind", ["float32", "int8", "bool", "uint64"])
def test_numbers_of_every_kind(large, kind):
    X, y, _ = table(50)
    X, y = (10 * X).astype(kind), y.astype(kind)
    same(rows_of(da.from_array(X, chunks=7), da.from_array(y, chunks=9), **SMALL), rows_of(X, y, **SMALL))


def test_unknown_lengths():
    X, y, _ = table(100)
    unknown = da.from_array(X, chunks=10)
    unknown = unknown[unknown[:, 0] > 0]
    with pytest.raises(
        InvalidInputError, match=r"X is a Dask Array of unknown length: .*X\.compute_chunk_sizes\(\).*lengths=True"
    ):
        rows_of(unknown, da.from_array(y), **SHAPE)
    unknown.compute_chunk_sizes()
    with pytest.raises(InvalidInputError, match=rf"X has {len(unknown)} samples and y has 100"):
        rows_of(unknown, da.from_array(y), **SHAPE)
    same(rows_of(unknown, unknown[:, :2], **SHAPE), rows_of(X[X[:, 0] > 0], X[X[:, 0] > 0, :2], **SHAPE))


@needs_frames
def test_frames_of_unknown_length_are_counted():
    import dask.dataframe as dd

    frame = frame_of(*table(100))
    there = dd.from_pandas(frame, npartitions=4)
    same(
        rows_of(there[there["a"] > 0], ["t", "u"], "w", **SHAPE),
        rows_of(frame[frame["a"] > 0], ["t", "u"], "w", **SHAPE),
    )


@needs_frames
def test_partitions_of_different_columns():
    import dask.dataframe as dd

    frame = frame_of(*table(20))
    parts = [dask.delayed(frame), dask.delayed(frame.rename(columns={"b": "B"}))]
    with pytest.raises(
        InvalidInputError, match=r"partition 1 of X has the columns \['a', 'B'.* all partitions need the same"
    ):
        rows_of(dd.from_delayed(parts, meta=frame.iloc[:0], verify_meta=False), ["t", "u"], "w", **SHAPE)
    text = frame.assign(b=["x"] * 20)
    parts = [dask.delayed(frame), dask.delayed(text)]
    with pytest.raises(InvalidInputError, match=r"partition 1 of a Dask DataFrame: column 'b' is text"):
        rows_of(dd.from_delayed(parts, meta=frame.iloc[:0], verify_meta=False), ["t", "u"], "w", **SHAPE)
    missing = frame.assign(b=pd.array([1.0] * 19 + [None], dtype="Float64"))
    with pytest.raises(InvalidInputError, match=r"column 'b' .* row 19"):
        rows_of(dd.from_pandas(missing, npartitions=2), ["t", "u"], "w", **SHAPE)


def lie(shape: tuple[int, int]) -> da.Array:
    return da.from_delayed(dask.delayed(np.ones)((5, 3)), shape, dtype=float)


@pytest.mark.parametrize(
    ("X", "y", "weights", "words"),
    [
        (da.ones((9, 2)), da.ones((9, 2)), None, "X has 2 columns, the network has 3 inputs"),
        (da.ones((9, 3)), da.ones(9), None, r"y has 1 columns, the network has 2 output\(s\)"),
        (da.ones((9, 3)), da.ones((8, 2)), None, "X has 9 samples and y has 8"),
        (da.ones((9, 3)), da.ones((9, 2)), da.ones(8), "X has 9 samples and sample_weight has 8"),
        (da.ones((9, 3)), da.ones((9, 2)), da.ones((9, 2)), "sample_weight has 2 columns"),
        (da.ones((9, 3)), da.ones((9, 2)), da.zeros(9), "sum to 0"),
        (da.ones((9, 3)), da.ones((9, 2)), -da.ones(9), "sample_weight is -1 in row 0"),
        (da.ones((0, 3)), da.ones((0, 2)), None, "at least one is needed"),
        (da.ones(9), da.ones((9, 2)), None, "rows of samples are needed"),
        (da.ones((9, 3, 1)), da.ones((9, 2)), None, "rows of samples are needed"),
        (da.ones((9, 3), dtype=complex), da.ones((9, 2)), None, "X has dtype complex128: real numbers"),
        (da.ones((9, 3)).astype(str), da.ones((9, 2)), None, "real numbers are needed"),
        (da.ones((9, 3)), np.ones((9, 2)), None, r"y is no Dask collection.*dask\.array\.from_array\(y"),
        (np.ones((9, 3)), da.ones((9, 2)), None, "X is no Dask collection"),
        (da.ones((9, 3)), da.ones((9, 2)), np.ones(9), "sample_weight is no Dask collection"),
        (da.ones((9, 3)), "t", None, "X is a Dask Array or has columns without names"),
        (da.ones((9, 3)), None, None, "y is missing"),
        (dask.delayed(np.ones)((9, 3)), da.ones((9, 2)), None, "X is a Delayed of Dask: an Array, DataFrame"),
        (lie((9, 3)), da.ones((9, 2)), None, r"X has a chunk of shape \(5, 3\) at row 0, where .* \(9, 3\)"),
    ],
)
def test_refused(X, y, weights, words):
    with pytest.raises(InvalidInputError, match=words):
        rows_of(X, y, weights, **SHAPE)


def test_what_is_not_finite_is_told_with_its_row(large):
    X, y, _ = table(3000)
    X[2345, 1] = np.nan
    with pytest.raises(InvalidInputError, match="column 1 of X is NaN or infinite in row 2345"):
        rows_of(da.from_array(X, chunks=700), da.from_array(y, chunks=700), **SHAPE)


@needs_cluster
@pytest.mark.parametrize("kind", ["connection", "cancelled", "killed"])
def test_a_cluster_that_is_lost(monkeypatch, kind):
    from distributed import KilledWorker

    errors = {
        "connection": ConnectionResetError("gone"),
        "cancelled": dask_.CancelledError("lost"),
        "killed": KilledWorker("_sum_of", SimpleNamespace(address="tcp://there:1"), 3),
    }

    def compute(*_: object) -> None:
        raise errors[kind]

    monkeypatch.setattr(dask, "compute", compute)
    with pytest.raises(InvalidInputError, match=r"the Dask cluster did not give a sum .*start it again .* and resume"):
        rows_of(da.ones((9, 3)), da.ones((9, 2)), **SHAPE)


@pytest.fixture
def cluster(tmp_path) -> Iterator[Cluster]:
    with two_workers(tmp_path) as made:
        yield made


@needs_cluster
@pytest.mark.slow
def test_two_workers_one_of_which_dies_in_a_sum(cluster, tmp_path, large):
    """Its chunk and what it held of a collection that was persisted are computed again by the other."""
    from distributed import Client

    address, workers = cluster
    X, y, w = table(600)
    part = Fit(np.ones((3, 2)) / 3)
    expected = rows_of(X, y, w, **SMALL)
    with Client(address, timeout=60) as client:
        client.wait_for_workers(2, timeout=60)
        there = dask.persist(*(da.from_array(array, chunks=150) for array in (X, y, w)))
        found = rows_of(*there, **SMALL)
        same(found, expected)
        results = found.total(Fatal(part, 320, tmp_path / "mark"))
        same(found.sample(100, 3), expected.sample(100, 3))
        bad = X.copy()
        bad[77, 1] = np.inf
        with pytest.raises(InvalidInputError, match="column 1 of X is NaN or infinite in row 77"):
            rows_of(da.from_array(bad, chunks=150), there[1], **SMALL)
    for a, b in zip(results, expected.total(part)):
        np.testing.assert_array_equal(a, b)
    assert (tmp_path / "mark").exists()
    assert sorted(worker.poll() is None for worker in workers) == [False, True]
    assert threading.active_count() < 20
