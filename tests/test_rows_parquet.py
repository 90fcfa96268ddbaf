"""Rows of Parquet files: the same bits as in memory however the files are cut, and what is refused."""

from __future__ import annotations

import pickle
import subprocess
import sys
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from row_tables import Fit, same, same_blocks, table

from certnet.core.errors import FileFormatError, InvalidInputError, MissingDependencyError
from certnet.rows import Block, Layout, MemoryRows, Rows, opening, parquet_, rows_of
from certnet.rows.parquet_ import ParquetRows

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (certnet[parquet])")
pq = pytest.importorskip("pyarrow.parquet")

SHAPE = {"n_inputs": 3, "n_outputs": 2}
NAMES = ("a", "b", "c", "t", "u", "w")


def arrow(X: np.ndarray, y: np.ndarray, w: np.ndarray, order: str = "abctuw") -> pa.Table:
    columns = dict(zip(NAMES, np.column_stack([X, y, w]).T))
    return pa.table({name: columns[name] for name in order})


def write(folder: Path, n: int, cuts: list[int], group: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Files whose rows end at the cuts, in groups of so many rows."""
    X, y, w = table(n, seed=seed)
    edges = [0, *sorted(cut for cut in cuts if cut < n), n]
    for k, (a, b) in enumerate(pairwise(edges)):
        shuffled = "abctuw" if k % 2 == 0 else "wutcba"
        pq.write_table(arrow(X[a:b], y[a:b], w[a:b], shuffled), folder / f"part-{k:03d}.parquet", row_group_size=group)
    return X, y, w


@pytest.fixture
def large(monkeypatch):
    """Nothing is small enough to be loaded."""
    monkeypatch.setattr(opening, "LOADED_BYTES", 0)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 400),
    st.lists(st.integers(0, 399), max_size=5),
    st.integers(1, 200),
    st.integers(1, 3),
    st.booleans(),
)
def test_the_same_bits_as_in_memory(tmp_path_factory, large, n, cuts, group, jobs, weighted):
    folder = tmp_path_factory.mktemp("table")
    X, y, w = write(folder, n, cuts, group)
    more = {"rows_in_block": 2, "n_jobs": jobs}
    found = rows_of(folder, ["t", "u"], "w" if weighted else None, columns=["a", "b", "c"], **SHAPE, **more)
    assert isinstance(found, ParquetRows)
    names = parquet_.Columns(("a", "b", "c"), ("t", "u"))
    expected = MemoryRows.of(X, y, w if weighted else None, Layout(names, rows_in_block=2))
    same(found, expected)
    same(found.in_memory(), expected)
    same(found.sample(n // 3 + 1, 5), expected.sample(n // 3 + 1, 5))
    same_blocks(found, expected)


def test_ways_to_name_files_and_columns(tmp_path, large):
    X, y, w = write(tmp_path, 100, [30, 60], 17)
    (tmp_path / "_metadata").write_bytes(b"of others")
    (tmp_path / ".part.parquet").write_bytes(b"hidden")
    files = sorted(tmp_path.glob("part-*.parquet"))
    expected = rows_of(tmp_path, ("t", "u"), "w", **SHAPE)
    for found in (
        rows_of(str(tmp_path), None, "w", target=["t", "u"], **SHAPE),
        rows_of(files, ["t", "u"], "w", **SHAPE),
        rows_of([str(file) for file in files], ["t", "u"], "w", columns=("a", "b", "c"), **SHAPE),
        rows_of(files, ["t", "u"], "w", **SHAPE, names=("a", "b", "c")),
        rows_of(files, ["t", "u"], w, **SHAPE, names=("a", "b", "c")),
        rows_of(files, y, w, **SHAPE, names=("a", "b", "c")),
        rows_of(files, y, "w", **SHAPE, columns=["a", "b", "c"]),
    ):
        assert isinstance(found, Rows)
        for a, b in zip(found.total(Fit(np.ones((3, 2)))), expected.total(Fit(np.ones((3, 2))))):
            np.testing.assert_array_equal(a, b)
        assert found.names == ("a", "b", "c")
    np.save(tmp_path / "y.npy", y)
    same(
        rows_of(files, str(tmp_path / "y.npy"), w, **SHAPE, names=("a", "b", "c")),
        rows_of(files, y, w, **SHAPE, columns=["a", "b", "c"]),
    )
    turned = rows_of(files, ["t", "u"], "w", **SHAPE, names=("c", "a", "b"))
    np.testing.assert_array_equal(turned.in_memory().X, X[:, [2, 0, 1]])
    assert [len(rows_of(file, ["t", "u"], "w", **SHAPE)) for file in files] == [30, 30, 40]


def test_tables_of_arrow_in_memory(tmp_path):
    X, y, w = write(tmp_path, 50, [], 20)
    there = pq.read_table(tmp_path)
    same(rows_of(there, ["t", "u"], "w", **SHAPE), rows_of(tmp_path, ["t", "u"], "w", **SHAPE))
    same(rows_of(there.select(["a", "b", "c"]), y, w, **SHAPE), rows_of(X, y, w, **SHAPE, names=("a", "b", "c")))


def test_rows_can_be_sent(tmp_path, large):
    write(tmp_path, 50, [20], 20)
    rows = rows_of(tmp_path, ["t", "u"], "w", **SHAPE)
    same(pickle.loads(pickle.dumps(rows)), rows)


def test_an_error_in_a_part_ends_the_reading(tmp_path, large):
    write(tmp_path, 100, [20], 20)
    rows = rows_of(tmp_path, ["t", "u"], "w", **SHAPE, rows_in_block=1)

    def part(block: Block) -> tuple[float]:
        if block.first == 33:
            raise InvalidInputError("row 33")
        return (1.0,)

    with pytest.raises(InvalidInputError, match="row 33"):
        rows.total(part)
    assert rows.total(len_of) == (100,)


def len_of(block: Block) -> tuple[int]:
    return (len(block),)


def test_small_tables_are_loaded(tmp_path):
    X, y, w = write(tmp_path, 100, [30, 60], 17)
    found = rows_of(tmp_path, ["t", "u"], "w", **SHAPE)
    assert isinstance(found, MemoryRows)
    same(found, rows_of(X, y, w, **SHAPE, names=("a", "b", "c")))


@pytest.mark.parametrize("kind", ["float32", "float16", "int8", "uint64", "bool", "decimal"])
def test_columns_of_every_kind(tmp_path, large, kind):
    values = np.arange(30) % 2
    column = (
        pa.array([Decimal(int(v)) for v in values], pa.decimal128(10, 2)) if kind == "decimal" else values.astype(kind)
    )
    pq.write_table(pa.table({"x.y": column, "x": column, "t": values}), tmp_path / "t.parquet")
    found = rows_of(tmp_path / "t.parquet", "t", n_inputs=2, n_outputs=1).in_memory()
    np.testing.assert_array_equal(found.X, np.column_stack([values, values]))
    assert found.names == ("x.y", "x")


def test_nulls(tmp_path, large):
    X, y, w = table(100)
    column = pa.array([None if i == 57 else x for i, x in enumerate(X[:, 1])])
    pq.write_table(arrow(X, y, w).set_column(1, "b", column), tmp_path / "t.parquet", row_group_size=20)
    with pytest.raises(InvalidInputError, match=r"t\.parquet: column 'b' has nulls in row group 2: remove or impute"):
        rows_of(tmp_path, ["t", "u"], "w", **SHAPE)
    assert len(rows_of(tmp_path, ["t", "u"], "w", columns=["a", "c"], n_inputs=2, n_outputs=2)) == 100


def test_what_is_not_finite_is_told_with_its_file(tmp_path, large):
    X, y, w = table(3000)
    X[2345, 1] = np.nan
    for k in range(3):
        cut = slice(1000 * k, 1000 * (k + 1))
        pq.write_table(arrow(X[cut], y[cut], w[cut]), tmp_path / f"{k}.parquet")
    with pytest.raises(
        InvalidInputError, match=r"column 'b' of X is NaN .* in row 346 of .*2\.parquet \(counted from 1\)"
    ):
        rows_of(tmp_path, ["t", "u"], "w", **SHAPE)
    w[1001] = -1.0
    pq.write_table(arrow(X[1000:2000], y[1000:2000], w[1000:2000]), tmp_path / "1.parquet")
    with pytest.raises(InvalidInputError, match=r"sample_weight is -1 in row 2 of .*1\.parquet \(counted from 1\)"):
        rows_of(tmp_path, ["t", "u"], "w", **SHAPE)


def test_files_of_different_columns(tmp_path):
    write(tmp_path, 100, [50], 20)
    X, y, w = table(10)
    pq.write_table(arrow(X, y, w).rename_columns(["a", "B", "c", "t", "u", "w"]), tmp_path / "part-002.parquet")
    with pytest.raises(
        InvalidInputError,
        match=r"part-002\.parquet has other columns than .*000\.parquet \(no column 'b', a column 'B'\): all files",
    ):
        rows_of(tmp_path, ["t", "u"], "w", **SHAPE)
    text = arrow(X, y, w).set_column(2, "c", pa.array(["x"] * 10))
    pq.write_table(text, tmp_path / "part-002.parquet")
    with pytest.raises(InvalidInputError, match=r"part-002\.parquet: column 'c' is of type string: real numbers"):
        rows_of(tmp_path, ["t", "u"], "w", **SHAPE)


def test_files_that_are_refused(tmp_path):
    X, y, w = write(tmp_path, 100, [], 20)
    one = tmp_path / "part-000.parquet"
    for path, words in [
        (tmp_path / "nothing.parquet", r"nothing\.parquet does not exist"),
        ([one, tmp_path / "nothing"], "nothing does not exist"),
    ]:
        with pytest.raises(FileFormatError, match=words):
            rows_of(path, ["t", "u"], **SHAPE)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileFormatError, match="has no Parquet files"):
        rows_of(empty, ["t", "u"], **SHAPE)
    pq.write_table(arrow(X[:0], y[:0], w[:0]), empty / "none.parquet")
    with pytest.raises(InvalidInputError, match=r"none\.parquet has no rows"):
        rows_of(empty, ["t", "u"], "w", **SHAPE)
    with pytest.raises(InvalidInputError, match=r"the table of 2 files from .* has no rows"):
        rows_of([empty / "none.parquet"] * 2, ["t", "u"], "w", **SHAPE)
    (empty / "none.parquet").write_bytes(one.read_bytes()[:-20])
    with pytest.raises(FileFormatError, match=r"none\.parquet is not a readable Parquet file"):
        rows_of(empty, ["t", "u"], "w", **SHAPE)
    content = bytearray(one.read_bytes())
    content[200:2000] = b"\x00" * 1800
    (empty / "none.parquet").write_bytes(content)
    with pytest.raises((FileFormatError, InvalidInputError)):
        rows_of(empty, ["t", "u"], "w", **SHAPE)
    with pytest.raises(InvalidInputError, match="has 100 rows and y has 99"):
        rows_of(one, y[:99], "w", columns=["a", "b", "c"], **SHAPE)
    with pytest.raises(InvalidInputError, match="has 100 rows and sample_weight has 3"):
        rows_of(one, ["t", "u"], w[:3], columns=["a", "b", "c"], **SHAPE)
    with pytest.raises(InvalidInputError, match=r"y has 1 columns, the network has 2 output"):
        rows_of(one, y[:, 0], columns=["a", "b", "c"], **SHAPE)
    with pytest.raises(InvalidInputError, match=r"no column 'z': it has 'a', 'b', 'c', 't', 'u', 'w'"):
        rows_of(one, "z", **SHAPE)
    with pytest.raises(InvalidInputError, match=r"has 4 columns for inputs \('a', 'b', 'c', 'w'\), the network has 3"):
        rows_of(one, ["t", "u"], **SHAPE)
    with pytest.raises(InvalidInputError, match=r"no column 'x1': it has 'a', .*by columns="):
        rows_of(one, ["t", "u"], **SHAPE, names=("x1", "x2", "x3"))
    with pytest.raises(InvalidInputError, match="y is missing"):
        rows_of(one, **SHAPE)


def test_a_file_that_changes(tmp_path, large):
    X, y, w = write(tmp_path, 100, [50], 20)
    rows = rows_of(tmp_path, ["t", "u"], "w", **SHAPE)
    pq.write_table(arrow(X[:40], y[:40], w[:40]), tmp_path / "part-001.parquet")
    with pytest.raises(InvalidInputError, match=r"part-001\.parquet has other rows than before: it was changed"):
        rows.total(Fit(np.ones((3, 2))))


def test_without_pyarrow(tmp_path, monkeypatch):
    write(tmp_path, 10, [], 20)
    monkeypatch.setattr(parquet_.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"certnet\[parquet\]"):
        rows_of(tmp_path, ["t", "u"], "w", **SHAPE)


def test_memory_does_not_grow_with_the_rows(tmp_path):
    """A table of 96 MB in 32 MB above what the first chunks take."""
    column = np.arange(100_000, dtype=np.float64)
    data = pa.table({**{f"x{i}": column + i for i in range(11)}, "t": column})
    for k in range(10):
        pq.write_table(data, tmp_path / f"{k}.parquet", row_group_size=50_000)
    script = f"""
import resource
from certnet.rows import rows_of
class Part:
    def __call__(self, block):
        return (block.shares @ block.X,)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
small = rows_of({str(tmp_path / "0.parquet")!r}, "t", n_inputs=11, n_outputs=1)
before = peak()
rows = rows_of({str(tmp_path)!r}, "t", n_inputs=11, n_outputs=1)
rows.total(Part())
print(type(rows).__name__, len(rows), peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    name, n, grown = done.stdout.split()
    assert (name, n) == ("ParquetRows", "1000000")
    assert float(grown) < 48.0
