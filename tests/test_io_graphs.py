"""Graphs of values: what the layers are, and that they compute what the graph says."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float
from certnet.io.compositions import composed, summed
from certnet.io.graphs import Graph, Value, windows
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.layers import Dense, LinearOperator, read_only
from certnet.networks.operators import Blocks, Convolution, Diagonal, Gather, Identity, Sparse
from certnet.networks.operators_written import read_operator, written

RELU, TANH = Activation("relu"), Activation("tanh")


def matrix(seed: int, m: int, n: int) -> Dense:
    return Dense(read_only(np.random.default_rng(seed).normal(size=(m, n))))  # locked: kept as it is, not copied


def kernel(seed: int, *shape: int) -> Float:
    return np.random.default_rng(seed).normal(size=shape)


def rows(n: int, seed: int = 0) -> Float:
    return np.random.default_rng(seed).normal(size=(20, n))


# ---------------------------------------------------------------------------------------------------------- the layers


def test_a_residual_block_is_a_layer_that_carries_its_input_and_what_follows_takes_both() -> None:
    A, B, V = matrix(0, 3, 5), matrix(1, 5, 3), matrix(2, 2, 3)
    b = np.arange(5.0)
    graph = Graph(3)
    x = graph.input
    y = graph.add(x, graph.affine([(graph.activation(graph.affine([(x, B)], b), RELU), A)]))
    net = graph.network(graph.affine([(graph.activation(y, TANH), V)]))
    first, second, last = net.layers
    assert isinstance(first.operator, Blocks)
    assert first.carried == 3
    assert first.activation == RELU
    assert first.operator.grid[0][0] is B
    assert isinstance(first.operator.grid[1][0], Identity)
    np.testing.assert_array_equal(first.bias, [*b, 0, 0, 0])
    assert isinstance(second.operator, Blocks)
    assert second.carried == 0
    assert second.activation == TANH
    assert second.operator.grid[0][0] is A
    assert isinstance(second.operator.grid[0][1], Identity)
    assert last.operator is V


def test_a_linear_layer_stands_where_matrices_would_be_multiplied() -> None:
    A, B, V = matrix(0, 3, 5), matrix(1, 5, 3), matrix(2, 2, 3)
    graph = Graph(3)
    x = graph.input
    y = graph.add(x, graph.affine([(graph.activation(graph.affine([(x, B)]), RELU), A)]))
    net = graph.network(graph.affine([(y, V)]))
    assert net.activations == (RELU, Activation("identity"))
    assert [layer.carried for layer in net.layers] == [3, 0, 0]
    assert net.layers[2].operator is V
    alone = Graph(3)
    net = alone.network(alone.affine([(alone.affine([(alone.input, B)]), A)]))
    assert [layer.operator for layer in net.layers] == [B, A]


def test_a_plain_chain_has_one_layer_for_each_activation_with_the_very_operators() -> None:
    C = Convolution(kernel(0, 4, 1, 3, 3), (1, 6, 6), (2, 2), ((1, 1), (1, 1)))
    D = Convolution(kernel(1, 2, 2, 2, 2), C.out_image, groups=2)
    V = matrix(2, 3, 8)
    graph = Graph(36)
    h = graph.activation(graph.affine([(graph.input, C)]), RELU)
    h = graph.activation(graph.affine([(h, D)], np.arange(8.0)), RELU)
    net = graph.network(graph.affine([(h, V)]), units="raw")
    assert [layer.operator for layer in net.layers] == [C, D, V]
    assert net.units == "raw"
    assert not any(layer.carried for layer in net.layers)


def test_a_stream_is_carried_as_one_value_and_computed_beside_the_next_activation() -> None:
    """Pre-activation blocks: y + A φ(s ∘ y + t), one after another."""
    graph = Graph(4)
    y = graph.affine([(graph.input, matrix(9, 4, 4))])
    for k in range(6):
        h = graph.activation(graph.shift(graph.scale(y, kernel(k, 4)), kernel(k + 50, 4)), RELU)
        y = graph.add(y, graph.affine([(h, matrix(k, 4, 4))]))
    net = graph.network(graph.activation(y, TANH))
    assert net.widths == (4, *[8] * 6, 4, 4)
    assert isinstance(net.layers[-1].operator, Identity)


def test_what_does_not_lead_to_the_output_is_left_out() -> None:
    graph = Graph(3)
    h = graph.activation(graph.input, RELU)
    graph.activation(graph.affine([(h, matrix(0, 7, 3))]), TANH)
    assert graph.network(h).widths == (3, 3, 3)


def test_branches_with_the_same_activation_are_in_one_layer() -> None:
    graph = Graph(8)
    image = (2, 2, 2)
    c = Convolution(kernel(0, 3, 2, 1, 1), image)
    d = Convolution(kernel(1, 1, 2, 2, 2), image, (1, 1), ((0, 1), (1, 0)))
    branches = graph.concatenate(graph.affine([(graph.input, c)]), graph.affine([(graph.input, d)]))
    e = Convolution(kernel(2, 2, 4, 2, 2), (4, 2, 2))
    net = graph.network(graph.affine([(graph.activation(branches, RELU), e)]))
    assert net.widths == (8, 16, 2)
    assert isinstance(net.layers[1].operator, Blocks)  # the kernel, parted by the channels it takes
    parts = net.layers[1].operator.grid[0]
    assert [p.kernel.shape[1] for p in parts if isinstance(p, Convolution)] == [3, 1]
    np.testing.assert_allclose(net.layers[1].operator.matrix, e.matrix)


def test_constants_and_batch_norm_are_folded_into_the_operator_before() -> None:
    C = Convolution(kernel(0, 2, 1, 2, 2), (1, 3, 3))
    graph = Graph(9)
    s = np.repeat([2.0, -0.5], 4)
    v = graph.shift(graph.scale(graph.affine([(graph.input, C)], np.ones(8)), s), np.full(1, 3.0))
    net = graph.network(graph.activation(v, RELU))
    (folded, _) = net.layers
    assert isinstance(folded.operator, Convolution)
    np.testing.assert_array_equal(folded.operator.kernel, C.kernel * np.array([2.0, -0.5])[:, None, None, None])
    np.testing.assert_array_equal(folded.bias, s + 3.0)
    uneven = Graph(9)
    v = uneven.scale(uneven.affine([(uneven.input, C)]), np.arange(8.0))
    net = uneven.network(uneven.activation(v, RELU))
    assert net.layers[0].operator is C
    assert isinstance(net.layers[1].operator, Diagonal)


def test_sums_of_one_value() -> None:
    graph = Graph(3)
    h = graph.activation(graph.input, RELU)
    net = graph.network(graph.add(h, h))
    np.testing.assert_array_equal(net.layers[-1].operator.matrix, 2.0 * np.eye(3))
    A, B = matrix(0, 3, 3), matrix(1, 3, 3)
    net = graph.network(graph.affine([(h, A), (h, B)], np.ones(3)))
    assert net.activations == (RELU, Activation("identity"))  # A + B would be rounded
    X = rows(3)
    np.testing.assert_allclose(net.forward(X), np.maximum(X, 0.0) @ (A.matrix + B.matrix).T + 1.0, atol=1e-13)
    tenth, fifth = Diagonal(np.full(3, 0.1)), Diagonal(np.full(3, 0.2))
    net = graph.network(graph.affine([(h, tenth), (h, fifth)]))
    assert net.depth == 2
    assert summed(tenth, fifth) is None


@pytest.mark.parametrize("size", [(2, 2), (3, 2), (1, 5), (3, 3)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 3)])
@pytest.mark.parametrize("padded", [False, True])
def test_max_pooling(size: tuple[int, int], stride: tuple[int, int], padded: bool) -> None:
    image = (2, 6, 7)
    pads = tuple((k // 2, (k - 1) // 2) if padded else (0, 0) for k in size)
    index, new = windows(image, size, stride, (pads[0], pads[1]))
    graph = Graph(84)
    pooled = graph.max_pool(graph.input, index)
    net = graph.network(pooled)
    X = rows(84)
    expected = np.where(index >= 0, X[:, index], -np.inf).max(axis=2)
    assert expected.shape[1] == np.prod(new) == net.n_outputs
    np.testing.assert_allclose(net.forward(X), expected, rtol=0, atol=1e-14)
    assert net.depth == int(np.ceil(np.log2(size[0] * size[1])))
    assert all(phi == RELU for phi in net.activations)


def test_max_pooling_of_two_by_two_has_as_many_units_as_it_must() -> None:
    graph = Graph(16)
    index, _ = windows((1, 4, 4), (2, 2), (2, 2))
    h = graph.activation(graph.input, TANH)
    C = Convolution(kernel(0, 3, 1, 2, 2), (1, 2, 2))
    net = graph.network(graph.affine([(graph.max_pool(h, index), C)]))
    assert net.widths == (16, 16, 16, 8, 3)
    assert [layer.carried for layer in net.layers] == [0, 8, 4, 0]
    with pytest.raises(UnsupportedModelError, match="81 entries"):
        graph.max_pool(h, np.zeros((1, 81), dtype=int))
    with pytest.raises(UnsupportedModelError, match="without an entry"):
        graph.max_pool(h, np.full((1, 2), -1))


def test_maximum_and_minimum_of_two_values() -> None:
    graph = Graph(3)
    y = graph.affine([(graph.input, matrix(0, 3, 3))])
    X = rows(3)
    Y = X @ matrix(0, 3, 3).matrix.T
    np.testing.assert_allclose(graph.network(graph.maximum(graph.input, y)).forward(X), np.maximum(X, Y), atol=1e-14)
    np.testing.assert_allclose(graph.network(graph.minimum(graph.input, y)).forward(X), np.minimum(X, Y), atol=1e-14)


def test_what_is_refused() -> None:
    graph, other = Graph(3), Graph(3)
    with pytest.raises(UnsupportedModelError, match="no hidden layer"):
        graph.network(graph.affine([(graph.input, matrix(0, 2, 3))]))
    with pytest.raises(InvalidInputError, match="another graph"):
        graph.add(graph.input, other.input)
    with pytest.raises(InvalidInputError, match="do not fit"):
        graph.affine([(graph.input, matrix(0, 2, 4))])
    with pytest.raises(InvalidInputError, match="2 numbers"):
        graph.scale(graph.input, np.ones(2))
    with pytest.raises(InvalidInputError, match="index"):
        graph.gather(graph.input, np.array([3]))
    with pytest.raises(UnsupportedModelError, match="does not fit an image"):
        windows((1, 2, 2), (3, 3), (1, 1))


# ------------------------------------------------------------------------------------------------------- random graphs


def random_graph(seed: int) -> tuple[Graph, Value, Callable[[Float], Float]]:
    """A graph of up to 14 values of 6 entries, and its values as it defines them."""
    rng = np.random.default_rng(seed)
    graph = Graph(6)
    made: list[tuple[Value, Callable[[Float], Float]]] = [(graph.input, lambda X: X)]

    def pick() -> tuple[Value, Callable[[Float], Float]]:
        return made[int(rng.integers(max(0, len(made) - 4), len(made)))]

    for _ in range(int(rng.integers(2, 14))):
        (x, f), (y, g) = pick(), pick()
        kind = rng.integers(9)
        if kind == 0:
            A, b = Dense(rng.normal(size=(6, 6))), rng.normal(size=6)
            made.append((graph.affine([(x, A)], b), lambda X, A=A, b=b, f=f: f(X) @ A.matrix.T + b))
        elif kind == 1:
            made.append((graph.add(x, y), lambda X, f=f, g=g: f(X) + g(X)))
        elif kind in (2, 3):
            made.append((graph.activation(x, RELU), lambda X, f=f: np.maximum(f(X), 0.0)))
        elif kind == 4:
            made.append((graph.activation(x, TANH), lambda X, f=f: np.tanh(f(X))))
        elif kind == 5:
            s, t = rng.normal(size=6), rng.normal(size=6)
            value = graph.shift(graph.scale(x, s), t)
            made.append((value, lambda X, f=f, s=s, t=t: f(X) * s + t))
        elif kind == 6:
            index = rng.permutation(6)
            joined = graph.gather(graph.concatenate(x, y), index * 2)
            made.append((joined, lambda X, f=f, g=g, i=index: np.concatenate([f(X), g(X)], axis=1)[:, i * 2]))
        elif kind == 7:
            made.append((graph.maximum(x, y), lambda X, f=f, g=g: np.maximum(f(X), g(X))))
        else:
            C = Convolution(rng.normal(size=(2, 2, 1, 3)), (2, 1, 3), padding=((0, 0), (1, 1)))
            made.append((graph.affine([(x, C)]), lambda X, f=f, C=C: f(X) @ C.matrix.T))
    return graph, *made[-1]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**31))
def test_random_graphs_have_the_values_that_they_say(seed: int) -> None:
    graph, output, f = random_graph(seed)
    try:
        net = graph.network(output)
    except UnsupportedModelError:
        return
    X = rows(6)
    expected = f(X)
    assert expected.shape == (20, 6)
    np.testing.assert_allclose(net.forward(X), expected, rtol=0, atol=1e-10 * (1.0 + np.abs(expected).max()))
    J, h = net.gradients(X[:3]), 1e-7
    for j in range(6):
        step = np.zeros(6)
        step[j] = h
        quotient = (f(X[:3] + step) - f(X[:3] - step)) / (2.0 * h)
        np.testing.assert_allclose(J[:, :, j], quotient, rtol=1e-4, atol=1e-4 * (1.0 + np.abs(J).max()))
    again = pickle.loads(pickle.dumps(net))
    assert again == net
    assert np.array_equal(again.forward(X), net.forward(X))


def test_a_network_of_a_graph_is_saved_and_loaded(tmp_path: Path) -> None:
    graph = Graph(16)
    index, _ = windows((1, 4, 4), (2, 2), (2, 2))
    pooled = graph.max_pool(graph.activation(graph.input, TANH), index)
    net = graph.network(graph.add(pooled, graph.gather(graph.input, np.array([0, -1, 3, 3]))))
    again = FeedForward.load(net.save(tmp_path / "net.npz"))
    assert again == net
    assert again.digest == net.digest
    X = rows(16)
    assert np.array_equal(again.forward(X), net.forward(X))


# -------------------------------------------------------------------------------------------------------- compositions


def operators(n: int) -> list[LinearOperator]:
    """Of 8 numbers, and to 8 numbers."""
    r = np.random.default_rng(n)
    image = (2, 2, 2)
    return [
        Identity(8),
        Diagonal(np.array([2.0] * 4 + [-3.0] * 4)),
        Diagonal(r.normal(size=8)),
        Gather(r.permutation(8), 8),
        Gather(np.array([4, 5, 6, 7, -1, -1, -1, -1]), 8),
        Gather(np.array([0, 0, 1, 1, 2, 2, -1, 3]), 8),
        Sparse(np.array([0, 0, 3]), np.array([0, 5, 2]), np.array([1.0, -1.0, 0.5]), 8, 8),
        Dense(r.normal(size=(8, 8))),
        Convolution(r.normal(size=(2, 2, 3, 3)), image, (1, 1), ((1, 1), (1, 1))),
        Convolution(r.normal(size=(2, 1, 1, 1)), image, groups=2),
    ]


@pytest.mark.parametrize("i", range(10))
@pytest.mark.parametrize("j", range(10))
def test_products_and_sums_of_operators_are_those_of_matrices(i: int, j: int) -> None:
    A, B = operators(0)[i], operators(1)[j]
    heavy = [isinstance(op, Dense | Convolution) for op in (A, B)]
    AB = composed(A, B)
    assert AB is None if all(heavy) else AB is not None or heavy != [False, False] or 6 in (i, j)
    if AB is not None:
        np.testing.assert_allclose(AB.matrix, A.matrix @ B.matrix, rtol=1e-15, atol=0)
    total = summed(A, B)
    assert total is None if any(heavy) else True
    if total is not None:
        np.testing.assert_array_equal(total.matrix, A.matrix + B.matrix)


def test_a_convolution_behind_a_padding_of_zeros_has_a_larger_padding() -> None:
    C = Convolution(kernel(0, 2, 2, 3, 3), (2, 5, 6), (2, 2), ((1, 0), (0, 1)))
    at = np.pad(np.arange(2 * 3 * 3).reshape(2, 3, 3), ((0, 0), (0, 2), (1, 2)), constant_values=-1)
    gather = Gather(at.ravel(), 18)
    both = composed(C, gather)
    assert isinstance(both, Convolution)
    assert both.padding == ((1, 2), (1, 3))
    assert both.image == (2, 3, 3)
    np.testing.assert_array_equal(both.matrix, C.matrix @ gather.matrix)


# ------------------------------------------------------------------------------------------------------ sparse matrices


def test_sparse_matrices() -> None:
    r = np.random.default_rng(0)
    M = r.normal(size=(4, 6)) * (r.uniform(size=(4, 6)) < 0.5)
    at = np.nonzero(M)
    order = r.permutation(len(at[0]))
    S = Sparse(at[0][order], at[1][order], M[at][order], 4, 6)
    np.testing.assert_array_equal(S.matrix, M)
    X, Y = r.normal(size=(5, 6)), r.normal(size=(5, 4))
    np.testing.assert_allclose(S(X), X @ M.T, atol=1e-14)
    np.testing.assert_allclose(S.adjoint(Y), Y @ M, atol=1e-14)
    np.testing.assert_array_equal(S.absolute.matrix, np.abs(M))
    assert S.terms == max(np.count_nonzero(M, axis=0).max(), np.count_nonzero(M, axis=1).max())
    arrays: list[Any] = []
    again = read_operator(written(S, arrays), dict(enumerate(arrays)))
    assert isinstance(again, Sparse)
    assert (again.n_outputs, again.n_inputs) == (4, 6)
    np.testing.assert_array_equal(again.matrix, M)


@pytest.mark.parametrize(
    ("rows_", "columns", "values", "words"),
    [
        ([0, 0], [1, 1], [1.0, 2.0], "two entries at one place"),
        ([0, 4], [1, 1], [1.0, 2.0], "rows of a sparse matrix"),
        ([0, 1], [-1, 1], [1.0, 2.0], "columns of a sparse matrix"),
        ([0, 1], [1], [1.0, 2.0], "equally many"),
        ([], [], [], "at least one"),
    ],
)
def test_sparse_matrices_are_checked(rows_: list[int], columns: list[int], values: list[float], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        Sparse(np.array(rows_), np.array(columns), np.array(values), 4, 6)
    with pytest.raises(InvalidInputError):
        read_operator(["sparse", 0, 1, 2, 4, 6], dict(enumerate(map(np.array, (values, rows_, columns)))))
