"""Rows in memory and in memory maps: sums that depend on nothing but the rows, and what is refused at the door."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_tables import Fit, same, table
from threadpoolctl import threadpool_info

from certnet.core.errors import FileFormatError, InvalidInputError
from certnet.rows import Block, Layout, MemoryRows, opening, rows_of
from certnet.rows.block import BLOCK, FAN, rows_per_block
from certnet.rows.memory import ArrayRows
from certnet.rows.sums import TreeSum, added, in_order, one_thread


@pytest.mark.parametrize("n", [1, 15, 16, 17, 16 * FAN, 16 * FAN + 1, 16 * FAN * FAN + 3])
def test_the_sum_is_that_over_all_rows(n):
    X, y, w = table(n)
    rows = MemoryRows.of(X, y, w, Layout(rows_in_block=16))
    part = Fit(np.ones((3, 2)) / 3)
    whole = part(Block(0, X, y, w / w.sum()))
    for a, b in zip(rows.total(part), whole):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)
    blocks = list(rows.blocks())
    assert [block.first for block in blocks] == list(range(0, n, 16))
    assert all(block.X.flags.c_contiguous and len(block) == len(block.X) == len(block.y) for block in blocks)
    assert sum(block.shares.sum() for block in blocks) == pytest.approx(1.0, abs=1e-14)
    assert len(rows) == n


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3 * FAN**2), st.integers(0, 5))
def test_the_order_of_a_sum_is_a_tree_of_its_length(n, seed):
    terms = [
        (float(x),) for x in np.random.default_rng(seed).standard_normal(n) * 10.0 ** np.arange(n)[::-1].clip(0, 9)
    ]

    def tree(nodes: list[tuple[float]]) -> tuple[float]:
        while len(nodes) > 1:
            nodes = [added(nodes[a : a + FAN]) for a in range(0, len(nodes), FAN)]
        return nodes[0]

    stream = TreeSum()
    for term in terms:
        stream.push(term)
    assert stream.total == tree(terms)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 700), st.integers(2, 4), st.integers(0, 3), st.booleans())
def test_threads_and_kinds_of_arrays_change_no_bit(n, jobs, seed, weighted):
    X, y, w = table(n, seed=seed)
    X = X.astype(np.float32).astype(np.float64)
    weights = w if weighted else None
    one = MemoryRows.of(X, y, weights, Layout(rows_in_block=4))
    same(one, MemoryRows.of(X, y, weights, Layout(rows_in_block=4, n_jobs=jobs)))
    same(one, ArrayRows.of(X.astype(np.float32), np.asfortranarray(y), weights, Layout(rows_in_block=4, n_jobs=jobs)))
    same(one, ArrayRows.of(X, y, weights, Layout(rows_in_block=4)).in_memory())
    same(one.sample(n // 2 + 1, seed), ArrayRows.of(X, y, weights, Layout(rows_in_block=4)).sample(n // 2 + 1, seed))


def test_blocks_depend_on_the_number_of_columns_alone():
    assert rows_per_block(1) == rows_per_block(256) == BLOCK
    assert BLOCK > rows_per_block(3072) >= 16
    assert rows_per_block(10**7) == 16
    assert rows_of(np.ones((10, 2)), np.ones(10), n_inputs=2, n_outputs=1).rows_per_block == BLOCK


def test_a_part_may_hand_out_the_same_array_again():
    rows = MemoryRows.of(*table(100)[:2], layout=Layout(rows_in_block=8))
    kept = np.ones(3)
    assert np.array_equal(rows.total(lambda block: (kept, len(block)))[0], np.full(3, 13.0))
    assert rows.total(lambda block: (kept, len(block)))[1] == 100
    assert np.array_equal(kept, np.ones(3))


def test_an_error_in_a_thread_ends_the_sum():
    rows = MemoryRows.of(*table(1000)[:2], layout=Layout(rows_in_block=8, n_jobs=3))

    def part(block: Block) -> tuple[float]:
        raise InvalidInputError(f"block {block.first}")

    with pytest.raises(InvalidInputError, match="block 0"):
        rows.total(part)


def test_few_items_are_held():
    held: list[int] = []

    def items():
        for i in range(20):
            held.append(i)
            yield i

    for done, _ in enumerate(in_order(lambda i: i, items(), 2)):
        assert len(held) - done <= 3


def test_description():
    X, y, w = table(5000, seed=3)
    X[:, 1] = 1e8 + X[:, 1]
    X[:, 2] = 0.1
    found = rows_of(X, y, w, n_inputs=3, n_outputs=2, rows_in_block=64).describe()
    shares = w / w.sum()
    np.testing.assert_allclose(found.mean, shares @ X, rtol=1e-12)
    np.testing.assert_allclose(found.scale, np.sqrt(shares @ (X - shares @ X) ** 2), rtol=1e-9, atol=1e-15)
    assert found.scale[2] == 0.0
    np.testing.assert_allclose(found.target_mean, shares @ y, rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(found.target_scale, np.sqrt(shares @ (y - shares @ y) ** 2), rtol=1e-12)


def test_the_digest_sees_every_change():
    X, y, w = table(50)
    digests = set()
    swapped = [X.copy(), y.copy(), w.copy()]
    for array in swapped:
        array[[7, 8]] = array[[8, 7]]
    moved = X.copy()
    moved[20, 1] = np.nextafter(moved[20, 1], 9.0)
    for inputs, targets, weights in [
        (X, y, w),
        (X, y, None),
        (moved, y, w),
        (X, swapped[1], w),
        (X, y, swapped[2]),
        (*swapped[:2], w),
        tuple(swapped),
        (X[:49], y[:49], w[:49]),
    ]:
        digests.add(rows_of(inputs, targets, weights, n_inputs=3, n_outputs=2).describe().digest)
    digests.add(rows_of(X, y, w, n_inputs=3, n_outputs=2, names=("a", "b", "c")).describe().digest)
    assert len(digests) == 9
    # blocks that change places too
    ends = [
        rows_of(array, np.ones(8), n_inputs=1, n_outputs=1, rows_in_block=4)
        for array in (np.eye(8)[:, :1], np.eye(8)[:, 4:5])
    ]
    assert ends[0].describe().digest != ends[1].describe().digest
    assert (
        rows_of(X, y, 7.0 * w, n_inputs=3, n_outputs=2).describe().digest
        == rows_of(X, y, w, n_inputs=3, n_outputs=2).describe().digest
    )


def test_samples():
    X, y, _ = table(1000)
    X[:, 0] = np.arange(1000)
    rows = rows_of(X, y, n_inputs=3, n_outputs=2)
    drawn = rows.sample(100, 7)
    assert isinstance(drawn, MemoryRows)
    assert len(drawn) == 100
    assert (np.diff(drawn.X[:, 0]) > 0).all()
    np.testing.assert_array_equal(drawn.X, X[drawn.X[:, 0].astype(int)])
    np.testing.assert_array_equal(drawn.y, y[drawn.X[:, 0].astype(int)])
    same(drawn, rows.sample(100, 7))
    assert drawn.describe().digest != rows.sample(100, 8).describe().digest
    assert rows.sample(1000, 0) is rows
    # every row as often as any other
    counts = np.zeros(1000)
    for seed in range(200):
        counts[rows.sample(100, seed).X[:, 0].astype(int)] += 1
    assert counts.mean() == 20.0
    assert counts.std() == pytest.approx(np.sqrt(200 * 0.1 * 0.9), rel=0.2)


def test_a_sample_has_rows_that_count():
    X, y, w = table(1000)
    w[:] = 0.0
    w[123] = 2.0
    rows = rows_of(X, y, w, n_inputs=3, n_outputs=2)
    drawn = rows.sample(3, 0)
    (total,) = drawn.total(lambda block: (block.shares.sum(),))
    assert total == 1.0
    assert 3 < len(drawn) <= 1000


def test_rows_can_be_sent():
    rows = rows_of(*table(100), n_inputs=3, n_outputs=2)
    same(rows, pickle.loads(pickle.dumps(rows)))
    assert repr(rows) == "MemoryRows(100 rows, 3 inputs, 2 outputs)"


@pytest.mark.parametrize("kind", ["bool", "int8", "uint64", "float16", "float32", ">f8", "list", "object"])
def test_numbers_of_every_kind(kind):
    X, y = np.arange(12).reshape(6, 2) % 3, np.arange(6) % 2
    given_X = X.tolist() if kind == "list" else X.astype(kind)
    given_y = y.tolist() if kind == "list" else y.astype(kind)
    rows = rows_of(given_X, given_y, n_inputs=2, n_outputs=1)
    assert isinstance(rows, MemoryRows)
    np.testing.assert_array_equal(rows.X, X.astype(bool) if kind == "bool" else X)
    assert rows.y.shape == (6, 1)
    assert rows.X.dtype == np.float64


@pytest.mark.parametrize("dtype", ["float64", "float32", "int16"])
@pytest.mark.parametrize("limit", [0, 64 << 20])
def test_memory_maps_and_files(tmp_path, monkeypatch, dtype, limit):
    monkeypatch.setattr(opening, "LOADED_BYTES", limit)
    X, y, w = table(300)
    X, y = (10 * X).astype(dtype), y[:, 0].astype(dtype)
    expected = MemoryRows.of(X, y[:, None], w, Layout(rows_in_block=8))
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    shape = {"n_inputs": 3, "n_outputs": 1, "rows_in_block": 8}
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    for found in (
        rows_of(tmp_path / "X.npy", tmp_path / "y.npy", w, **shape),
        rows_of(str(tmp_path / "X.npy"), str(tmp_path / "y.npy"), w, **shape, n_jobs=2),
        rows_of(mapped, y, w, **shape),
        rows_of(X, y.tolist(), w, **shape),
        rows_of(X, tmp_path / "y.npy", w, **shape),
    ):
        small = limit > 0 or (dtype == "float64" and found is not None and isinstance(found, MemoryRows))
        assert isinstance(found, MemoryRows if small else ArrayRows)
        same(found, expected)


def test_large_arrays_are_not_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "LOADED_BYTES", 0)
    X, y, _ = table(300)
    rows = rows_of(X, y, n_inputs=3, n_outputs=2)
    assert isinstance(rows, MemoryRows)
    assert np.shares_memory(rows.X, X)
    assert isinstance(rows_of(np.asfortranarray(X), y, n_inputs=3, n_outputs=2), ArrayRows)
    np.save(tmp_path / "X.npy", X)
    rows = rows_of(tmp_path / "X.npy", y, n_inputs=3, n_outputs=2)
    assert isinstance(rows, ArrayRows)
    assert np.shares_memory(next(rows.chunks()).X, rows._X)


@pytest.mark.parametrize("limit", [0, 64 << 20])
def test_what_is_not_finite_is_told_with_its_row(monkeypatch, limit):
    monkeypatch.setattr(opening, "LOADED_BYTES", limit)
    for value in (np.nan, np.inf, -np.inf):
        X, y, w = table(3000)
        X[2345, 1] = value
        with pytest.raises(InvalidInputError, match="2345"):
            rows_of(X, y, n_inputs=3, n_outputs=2)
        X, y, w = table(3000)
        y[2345, 1] = value
        with pytest.raises(InvalidInputError, match="2345"):
            rows_of(X, y, n_inputs=3, n_outputs=2)
        w[2345] = value
        with pytest.raises(InvalidInputError, match=r"sample_weight is -?\w+ in row 2345: weights are finite"):
            rows_of(X, table(3000)[1], w, n_inputs=3, n_outputs=2)
    w[2345] = -0.5
    with pytest.raises(InvalidInputError, match=r"sample_weight is -0.5 in row 2345"):
        rows_of(*table(3000)[:2], w, n_inputs=3, n_outputs=2)


def test_a_name_and_a_row(monkeypatch):
    monkeypatch.setattr(opening, "LOADED_BYTES", 0)
    X, y, _ = table(3000)
    X[2345, 1] = np.nan
    with pytest.raises(InvalidInputError, match=r"column 'b' of X is NaN or infinite in row 2345: remove or impute"):
        rows_of(X, y, n_inputs=3, n_outputs=2, names=("a", "b", "c"))


def test_large_finite_numbers_are_numbers():
    X, y, w = table(10)
    X[:] = 1.7e308
    rows = rows_of(X, y, 1e300 * w, n_inputs=3, n_outputs=2)
    assert rows.shares.sum() == pytest.approx(1.0)
    assert np.isfinite(rows.describe().mean).all()


@pytest.mark.parametrize("limit", [0, 64 << 20])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda X, y, w: (X[:, :2], y, w), "X has 2 columns, the network has 3 inputs"),
        (lambda X, y, w: (X, y[:, :1], w), r"y has 1 columns, the network has 2 output\(s\)"),
        (lambda X, y, w: (X, y[:7], w), "X has 9 samples"),
        (lambda X, y, w: (X, y.astype(str), w), "real numbers"),
        (lambda X, y, w: (X + 1j, y, w), "real numbers"),
        (lambda X, y, w: (X[:0], y[:0], w[:0]), "at least one is needed"),
        (lambda X, y, w: (X, y, w[:8]), r"sample_weight has shape \(8,\): a number for each of 9 rows"),
        (lambda X, y, w: (X, y, w[:, None]), r"sample_weight has shape \(9, 1\)"),
        (lambda X, y, w: (X, y, 0.0 * w), "sum to 0"),
        (lambda X, y, w: (X, y, "w"), "X has no names of columns"),
        (lambda X, y, w: (X, "y", w), "X has no names of columns"),
        (lambda X, y, w: (X, None, w), "y is missing"),
        (lambda X, y, w: (X[:, 0], y, w), "samples are rows"),
    ],
)
def test_refused(monkeypatch, limit, change, words):
    monkeypatch.setattr(opening, "LOADED_BYTES", limit)
    with pytest.raises(InvalidInputError, match=words):
        rows_of(*change(*table(9)), n_inputs=3, n_outputs=2)


def test_files_that_are_refused(tmp_path):
    X, y, _ = table(9)
    shape = {"n_inputs": 3, "n_outputs": 2}
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY nothing")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    np.save(tmp_path / "none.npy", np.empty((0, 3)))
    np.save(tmp_path / "short.npy", X)
    (tmp_path / "short.npy").write_bytes((tmp_path / "short.npy").read_bytes()[:-8])
    with pytest.raises(FileFormatError, match=r"bad.npy is not a readable .npy file"):
        rows_of(tmp_path / "bad.npy", y, **shape)
    with pytest.raises(FileFormatError, match=r"objects.npy is not a readable .npy file: it holds Python objects"):
        rows_of(tmp_path / "objects.npy", y, **shape)
    with pytest.raises(FileFormatError, match=r"missing\.npy"):
        rows_of(tmp_path / "missing.npy", y, **shape)
    with pytest.raises(FileFormatError, match=r"short\.npy"):
        rows_of(tmp_path / "short.npy", y, **shape)
    with pytest.raises((FileFormatError, InvalidInputError)):
        rows_of(tmp_path / "none.npy", y[:0], **shape)
    with pytest.raises(InvalidInputError, match=r"y.csv is no file that y is read from"):
        rows_of(X, tmp_path / "y.csv", **shape)


def test_frames_as_everywhere():
    X, y, w = table(20)
    frame = pd.DataFrame(X, columns=list("abc"))
    shape = {"n_inputs": 3, "n_outputs": 2}
    expected = rows_of(X, y, w, **shape, names=("a", "b", "c"))
    same(rows_of(frame[["c", "a", "b"]], y, w, **shape, names=("a", "b", "c")), expected)
    same(rows_of(frame, y, pd.Series(w), **shape), expected)  # its names are known
    with pytest.raises(InvalidInputError, match="X has no column 'd'"):
        rows_of(frame, y, **shape, names=("a", "b", "d"))


def test_frames_whose_columns_are_named():
    X, y, w = table(20)
    frame = pd.DataFrame(np.column_stack([X, y, w]), columns=["a", "b", "c", "t", "u", "w"])
    shape = {"n_inputs": 3, "n_outputs": 2}
    expected = rows_of(X, y, w, **shape, names=("a", "b", "c"))
    same(rows_of(frame, ["t", "u"], "w", **shape), expected)
    same(rows_of(frame, None, "w", target=("t", "u"), **shape), expected)
    same(rows_of(frame[list("wutcba")], ["t", "u"], "w", **shape, names=("a", "b", "c")), expected)
    same(rows_of(frame[list("wutcba")], ["t", "u"], "w", **shape, columns=["a", "b", "c"]), expected)
    same(rows_of(frame, y, w, **shape, columns=["a", "b", "c"]), expected)
    for y_, w_, more, words in [
        (["t", "v"], "w", {}, "X has no column 'v': it has 'a', 'b'"),
        (["t", "u"], "w", {"columns": ["a", "b"]}, "2 columns for inputs"),
        (["t", "u"], None, {}, "4 columns for inputs"),
        (["t", "u"], "w", {"columns": ["a", "b", "t"]}, "column 't' is named twice"),
        (["t", "t"], "w", {}, "column 't' is named twice"),
        ("t", "w", {"columns": ["a", "b", "c"]}, r"1 target column\(s\) are named"),
        (y, None, {"target": "t"}, "y and target are both given"),
        (None, None, {"target": 3}, "target must be the name of a column"),
        (y, None, {"columns": [1, 2, 3]}, "columns must be names"),
    ]:
        with pytest.raises(InvalidInputError, match=words):
            rows_of(frame, y_, w_, **shape, **more)
    frame.columns = range(6)
    with pytest.raises(InvalidInputError, match="not all columns of X have names that are text"):
        rows_of(frame, "t", **shape)


def test_numbers_of_threads():
    X, y, _ = table(9)
    assert rows_of(X, y, n_inputs=3, n_outputs=2, n_jobs=-1).layout.n_jobs >= 1
    with pytest.raises(InvalidInputError, match="n_jobs must be at least 1"):
        rows_of(X, y, n_inputs=3, n_outputs=2, n_jobs=0)


def threads_of_blas() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_one_thread_of_linear_algebra_until_the_last_has_left():
    before = threads_of_blas()
    outer, inner = one_thread(), one_thread()
    with outer:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(inner.__enter__).result()
            assert threads_of_blas() == {1}
        assert threads_of_blas() == {1}
    assert threads_of_blas() == {1}
    inner.__exit__(None, None, None)
    assert threads_of_blas() == before


def test_a_table_that_was_made_before():
    X, y, w = table(9)
    rows = rows_of(X, y, w, n_inputs=3, n_outputs=2)
    assert rows_of(rows, n_inputs=3, n_outputs=2) is rows
    with pytest.raises(InvalidInputError, match=r"a table with 3 inputs and 2 output\(s\), the network has 4 and 2"):
        rows_of(rows, n_inputs=4, n_outputs=2)
    for more in ({"y": y}, {"sample_weight": w}, {"target": "t"}, {"columns": ["a"]}):
        with pytest.raises(InvalidInputError, match="targets and weights of its own: give it alone"):
            rows_of(rows, **more, n_inputs=3, n_outputs=2)
