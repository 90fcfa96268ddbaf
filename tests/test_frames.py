"""Arrays from outside: frames of numbers of any kind column by column, tensors, sparse matrices; the rest is named."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal

from certnet.certification import certify
from certnet.core.errors import InvalidInputError
from certnet.core.validation import as_inputs, as_samples, finite_array
from certnet.networks.about import About
from certnet.networks.shallow import ShallowNetwork
from certnet.refinement import mean_squared_error

KINDS = {
    "bool": pd.Series([True, False]),
    "Int64": pd.Series([1, 2], dtype="Int64"),
    "boolean": pd.Series([True, False], dtype="boolean"),
    "Float64": pd.Series([0.5, 2.0], dtype="Float64"),
    "uint8": pd.Series([250, 3], dtype="uint8"),
    "float16": pd.Series([0.5, 3.0], dtype="float16"),
    "decimal": pd.Series([Decimal("0.25"), Decimal(3)]),
    "mixed": pd.Series([1, 2.5], dtype=object),
    "category": pd.Series([7, 9], dtype="category"),
    "arrow": pd.Series([1, 4], dtype="int64[pyarrow]"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_numbers_of_any_kind(kind: str) -> None:
    frame = pd.DataFrame({"x": [0.5, 1.5], kind: KINDS[kind]})
    array = as_inputs(frame, 2)
    assert array.dtype == np.float64
    assert_array_equal(array, [[0.5, float(KINDS[kind][0])], [1.5, float(KINDS[kind][1])]])
    assert_array_equal(finite_array(KINDS[kind], "y", ndim=(1,)), array[:, 1])


BAD = {
    "text": (["red", "blue"], r"column 'bad' is text \('red' in row 0\): encode it.*pipeline"),
    "one word": ([1, "blue"], "column 'bad' is text .*row 1"),
    "none": (pd.Series([1, None], dtype=object), "column 'bad' has no value in row 1"),
    "NA": (pd.Series([1, pd.NA], dtype="Int64"), "column 'bad' has no value in row 1|NaN or infinite"),
    "nan": ([1.0, np.nan], "NaN or infinite"),
    "categories": (pd.Series(["a", "b"], dtype="category"), "column 'bad' is text"),
    "dates": (pd.to_datetime(["2020-01-01", "2021-01-01"]), "column 'bad' holds dates"),
    "complex": ([1j, 2.0], "column 'bad' holds an object of type complex"),
    "lists": ([[1], [2]], "column 'bad' holds an object of type list"),
}


@pytest.mark.parametrize("kind", BAD)
def test_other_columns_are_named(kind: str) -> None:
    column, match = BAD[kind]
    with pytest.raises(InvalidInputError, match=match):
        as_inputs(pd.DataFrame({"x": [1.0, 2.0], "bad": column}), 2)


def test_polars_and_arrow() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1, 2], "b": [True, False], "c": [Decimal("0.5"), Decimal("1.5")]})
    assert_array_equal(as_inputs(frame, 3), [[1, 1, 0.5], [2, 0, 1.5]])
    assert_array_equal(as_inputs(frame[["b", "a"]], 2, ("a", "b")), [[1, 1], [2, 0]])
    assert_array_equal(as_inputs(frame.to_arrow(), 3, ("c", "b", "a")), [[0.5, 1, 1], [1.5, 0, 2]])
    with pytest.raises(InvalidInputError, match="column 'b' is text"):
        as_inputs(polars.DataFrame({"a": [1], "b": ["x"]}), 2)
    with pytest.raises(InvalidInputError, match=r"NaN or infinite|no value"):
        as_inputs(polars.DataFrame({"a": [1, None], "b": [2, 3]}), 2)


def test_objects_that_are_numbers() -> None:
    assert_array_equal(finite_array([Decimal("0.5"), Fraction(1, 4), 3], "y", ndim=(1,)), [0.5, 0.25, 3.0])
    with pytest.raises(InvalidInputError, match="dtype object"):
        finite_array([Decimal("0.5"), "x", None], "y", ndim=(1,))


def test_sparse_matrices() -> None:
    dense = np.array([[0.0, 2.0], [1.0, 0.0]])
    for made in (scipy.sparse.csr_matrix(dense), scipy.sparse.coo_array(dense)):
        assert_array_equal(as_inputs(made, 2), dense)
    with pytest.raises(InvalidInputError, match=r"sparse matrix of shape \(10000000, 1000\), too large"):
        as_inputs(scipy.sparse.csr_matrix((10_000_000, 1000)), 1000)


def test_masked_arrays() -> None:
    whole = np.ma.masked_array([[1.0, 2.0]], mask=False)
    assert_array_equal(as_inputs(whole, 2), [[1.0, 2.0]])
    with pytest.raises(InvalidInputError, match="masked"):
        as_inputs(np.ma.masked_array([[1.0, 2.0]], mask=[[False, True]]), 2)


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    values = torch.tensor([[0.5, 2.0], [1.0, -3.0]])
    for made in (
        values.clone().requires_grad_(),
        values.to(torch.bfloat16),
        values.half(),
        values.to_sparse(),
        torch.nn.Parameter(values),
    ):
        assert_array_equal(as_inputs(made, 2), values.numpy())
    assert_array_equal(as_inputs(torch.tensor([[True, False]]), 2), [[1.0, 0.0]])
    with pytest.raises(InvalidInputError, match="complex"):
        as_inputs(values.to(torch.complex64), 2)


class TestNames:
    def network(self) -> ShallowNetwork:
        net = ShallowNetwork([[1.0, 10.0, 100.0]], [0.0], [[1.0]], [0.0])
        return net.described(About(inputs=("a", "b", "c")))

    def test_columns_are_matched_by_name(self) -> None:
        net, frame = self.network(), pd.DataFrame({"c": [3.0], "a": [1.0], "b": [2.0]})
        for given in (frame, frame[["a", "b", "c"]], frame.to_numpy()[:, [1, 2, 0]], pd.DataFrame([[1.0, 2.0, 3.0]])):
            assert net.predict(given) == [321.0]
            assert net.forward(given) == [[321.0]]
            assert_array_equal(net.gradients(given), [[[1.0, 10.0, 100.0]]])
        assert mean_squared_error(net, frame, [0.0]) == 321.0**2
        assert certify(net, X=frame).lower > 100.0
        assert as_samples(frame, [0.0], 3, 1, net.about.inputs)[0].tolist() == [[1.0, 2.0, 3.0]]

    def test_other_columns_are_refused_by_name(self) -> None:
        net, frame = self.network(), pd.DataFrame({"c": [3.0], "a": [1.0], "b": [2.0]})
        with pytest.raises(InvalidInputError, match="X has no column 'b': the network's inputs are a, b, c"):
            net.predict(frame[["a", "c"]])
        with pytest.raises(InvalidInputError, match="X has no column 'b'"):
            net.predict(frame.rename(columns={"b": "B"}))
        with pytest.raises(InvalidInputError, match="X has the columns d, e, which the network does not take"):
            net.predict(frame.assign(d=1.0, e=2.0))
        with pytest.raises(InvalidInputError, match="X has two columns 'a'"):
            net.predict(frame[["a", "a", "b", "c"]])

    def test_text_in_a_column_that_is_not_taken_does_not_matter_before_its_name(self) -> None:
        net = self.network()
        with pytest.raises(InvalidInputError, match="does not take"):
            net.predict(pd.DataFrame({"a": [1.0], "b": [2.0], "c": [3.0], "colour": ["red"]}))
