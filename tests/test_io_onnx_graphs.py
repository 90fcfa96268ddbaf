"""ONNX graphs with convolutions, pooling, skips and moves of entries, against onnx's reference evaluator."""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certnet.core.errors import CertnetError, FileFormatError, UnsupportedModelError
from certnet.io import load_model, load_onnx, save_onnx
from certnet.networks.feedforward import FeedForward
from certnet.networks.operators import Blocks, Convolution

onnx = pytest.importorskip("onnx", reason='onnx is not installed: pip install "certnet[onnx]"')
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

DOUBLE = TensorProto.DOUBLE
IMAGE = (2, 6, 5)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def node(operator: str, inputs: str, output: str, **attributes: object) -> Any:
    """Inputs are spelled with spaces; "-" is one that is left out."""
    names = [name.replace("-", "") for name in inputs.split()]
    return helper.make_node(operator, names, output.split(), name=f"the {operator}", **attributes)


def model(
    nodes: list[Any],
    constants: dict[str, Any] | None = None,
    *,
    shape: tuple[Any, ...] = IMAGE,
    rank: int = 4,
    opset: int = 18,
    rows: object = "N",
) -> Any:
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    x = helper.make_tensor_value_info("x", DOUBLE, [rows, *shape])
    y = helper.make_tensor_value_info("y", DOUBLE, [None] * rank)
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def read(proto: Any, folder: Path) -> FeedForward:
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return load_onnx(path)


def check(
    proto: Any, folder: Path, *, shape: tuple[int, ...] = IMAGE, rows: int = 7, tolerance: float = 1e-9
) -> FeedForward:
    """The network in a model, whose values are those of the reference evaluator, and gradients those of differences."""
    net = read(proto, folder)
    X = rng(3).normal(size=(rows, *shape))
    evaluator = ReferenceEvaluator(proto)
    flat = X.reshape(rows, -1)
    expected = evaluator.run(None, {"x": X})[0].reshape(rows, -1)
    np.testing.assert_allclose(net.forward(flat), expected, rtol=tolerance, atol=tolerance)
    along = rng(4).normal(size=flat.shape)
    h = 1e-6 if tolerance < 1e-6 else 1e-3  # the evaluator has some functions in single precision
    ends = [evaluator.run(None, {"x": (flat + s * along).reshape(X.shape)})[0].reshape(rows, -1) for s in (h, -h)]
    slopes = np.einsum("nmd,nd->nm", net.gradients(flat), along)
    off = np.abs(slopes - (ends[0] - ends[1]) / (2 * h))
    assert np.mean(off > max(1e-5, h)) < 0.02  # a kink may lie between
    assert read(proto, folder).digest == net.digest
    return net


def convolutions(net: FeedForward) -> int:
    def parts(operator: Any) -> list[Any]:
        if isinstance(operator, Blocks):
            return [part for row in operator.grid for op in row if op is not None for part in parts(op)]
        return [operator]

    return sum(isinstance(part, Convolution) for layer in net.layers for part in parts(layer.operator))


# convolutions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [
        ((3, 2, 3, 3), {}),
        ((3, 2, 3, 3), {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}),
        ((3, 2, 2, 3), {"pads": [0, 2, 1, 0], "strides": [2, 1]}),
        ((4, 1, 3, 2), {"group": 2, "dilations": [2, 1]}),
        ((2, 2, 1, 1), {"strides": [2, 3]}),
        ((2, 2, 3, 2), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ((2, 2, 3, 2), {"auto_pad": "SAME_LOWER"}),
        ((2, 2, 3, 2), {"auto_pad": "VALID"}),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_convolutions(tmp_path: Path, kernel: tuple[int, ...], attributes: dict[str, Any], bias: bool) -> None:
    constants = {"k": rng().normal(size=kernel), "b": rng(1).normal(size=kernel[0])}
    nodes = [node("Conv", "x k b" if bias else "x k", "c", **attributes), node("Tanh", "c", "y")]
    net = check(model(nodes, constants), tmp_path)
    assert convolutions(net) == 1
    assert net.depth == 1


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_random_convolutions(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    few = st.integers(1, 3)
    dims = data.draw(st.sampled_from([1, 2]))
    sides, kernel, stride, dilation = (
        [data.draw(n) for _ in range(dims)] for n in (st.integers(5, 8), few, few, st.integers(1, 2))
    )
    groups, each, out = data.draw(few), data.draw(few), data.draw(few)
    pads = [data.draw(st.integers(0, 2)) for _ in range(2 * dims)]
    shape = (groups * each, *sides)
    k = rng(data.draw(st.integers(0, 99))).normal(size=(groups * out, each, *kernel))
    how = {"strides": stride, "dilations": dilation, "pads": pads, "group": groups}
    proto = model([node("Conv", "x k", "c", **how), node("Softplus", "c", "y")], {"k": k}, shape=shape, rank=dims + 2)
    check(proto, tmp_path_factory.mktemp("conv"), shape=shape)


def test_a_kernel_is_kept_as_it_is_stored(tmp_path: Path) -> None:
    k = rng().normal(size=(3, 2, 3, 3)).astype(np.float32)
    proto = model([node("Conv", "x k", "c"), node("Relu", "c", "y")], {"k": k})
    proto.graph.input[0].type.tensor_type.elem_type = proto.graph.output[0].type.tensor_type.elem_type = 1
    operator = read(proto, tmp_path).layers[0].operator
    assert isinstance(operator, Convolution)
    assert np.array_equal(operator.kernel, k)


# pooling -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 2]},
        {"kernel_shape": [2, 3], "strides": [2, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [2, 0, 0, 1]},
        {"kernel_shape": [1, 1], "strides": [2, 2]},
    ],
)
def test_pooling(tmp_path: Path, operator: str, attributes: dict[str, Any]) -> None:
    nodes = [node(operator, "x", "p", **attributes), node("Tanh", "p", "y")]
    check(model(nodes), tmp_path)
    if operator == "AveragePool":
        nodes[0].attribute.add(name="count_include_pad", i=1, type=2)
        check(model(nodes), tmp_path)


def pooled(X: np.ndarray, operator: str, k: list[int], s: list[int], d: list[int], pads: list[int]) -> np.ndarray:
    """Pooling as it is defined, window by window; the padding takes no part."""
    top, left, bottom, right = pads
    P = np.pad(X, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=np.nan)
    high, wide = ((n - e * (m - 1) - 1) // q + 1 for n, m, q, e in zip(P.shape[2:], k, s, d))
    Y = np.empty((*X.shape[:2], high, wide))
    for i, j in np.ndindex(high, wide):
        a, b = i * s[0], j * s[1]
        seen = P[:, :, a : a + d[0] * (k[0] - 1) + 1 : d[0], b : b + d[1] * (k[1] - 1) + 1 : d[1]]
        Y[:, :, i, j] = (np.nanmax if operator == "MaxPool" else np.nanmean)(seen, axis=(2, 3))
    return Y


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("how", ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
@pytest.mark.parametrize("dilation", [[1, 1], [2, 1]])
def test_pooling_where_the_evaluator_errs(tmp_path: Path, operator: str, how: str, dilation: list[int]) -> None:
    """The evaluator lays some windows elsewhere, so these are compared with the definition."""
    X = rng().normal(size=(3, *IMAGE))
    for k, s in (([2, 2], [1, 1]), ([3, 2], [2, 2]), ([3, 3], [2, 1])):
        total = [max(0, (-(-n // q) - 1) * q + e * (m - 1) + 1 - n) for n, m, q, e in zip(IMAGE[1:], k, s, dilation)]
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = {"SAME_UPPER": less + more, "SAME_LOWER": more + less, "VALID": [0] * 4, "NOTSET": [1, 0, 1, 1]}[how]
        attributes: dict[str, Any] = {"kernel_shape": k, "strides": s, "dilations": dilation}
        attributes |= {"pads": pads} if how == "NOTSET" else {"auto_pad": how}
        proto = model([node(operator, "x", "p", **attributes), node("Tanh", "p", "y")], opset=19)
        expected = np.tanh(pooled(X, operator, k, s, dilation, pads))
        inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True).graph.value_info[0].type.tensor_type
        assert [n.dim_value for n in inferred.shape.dim][1:] == list(expected.shape[1:])
        found = read(proto, tmp_path).forward(X.reshape(3, -1))
        np.testing.assert_allclose(found, expected.reshape(3, -1), atol=1e-12)


def test_pooling_of_signals_with_dilations(tmp_path: Path) -> None:
    nodes = [node("MaxPool", "x", "p", kernel_shape=[3], dilations=[2], strides=[1]), node("Tanh", "p", "y")]
    net = read(model(nodes, shape=(2, 9), rank=3), tmp_path)
    X = rng().normal(size=(5, 2, 9))
    expected = np.tanh(np.max([X[:, :, k : k + 5] for k in (0, 2, 4)], axis=0))
    np.testing.assert_allclose(net.forward(X.reshape(5, -1)), expected.reshape(5, -1), atol=1e-12)


@pytest.mark.parametrize("keep", [0, 1])
def test_means_sums_and_maxima_over_axes(tmp_path: Path, keep: int) -> None:
    for operator, axes in (("ReduceMean", [2, 3]), ("ReduceSum", [-1]), ("ReduceMax", [1])):
        nodes = [node("Tanh", "x", "t"), node(operator, "t axes", "y", keepdims=keep)]
        opset = 13 if operator == "ReduceSum" else 18
        check(model(nodes, {"axes": np.array(axes)}, rank=4 if keep else 4 - len(axes), opset=opset), tmp_path)
        if operator != "ReduceSum":
            old = [nodes[0], node(operator, "t", "y", keepdims=keep, axes=axes)]
            check(model(old, rank=4 if keep else 4 - len(axes), opset=13), tmp_path)
    for operator in ("GlobalAveragePool", "GlobalMaxPool"):
        check(model([node("Tanh", "x", "t"), node(operator, "t", "y")]), tmp_path)


# moves ---------------------------------------------------------------------------------------------------------------

PADS = np.array([0, 1, 0, 2, 0, 0, 1, 0])


@pytest.mark.parametrize(
    ("moves", "constants", "rank"),
    [
        ([node("Transpose", "t", "y", perm=[0, 2, 3, 1])], {}, 4),
        ([node("Flatten", "t", "y")], {}, 2),
        ([node("Reshape", "t s", "y")], {"s": np.array([0, 3, -1])}, 3),
        ([node("Reshape", "t s", "y")], {"s": np.array([-1, 5, 12])}, 3),
        ([node("Unsqueeze", "t s", "u"), node("Squeeze", "u s", "y")], {"s": np.array([1])}, 4),
        ([node("Unsqueeze", "t s", "y")], {"s": np.array([2, -1])}, 6),
        ([node("Slice", "t a b", "y")], {"a": np.array([0, 0, 1]), "b": np.array([2**62, 2, -1])}, 4),
        (
            [node("Slice", "t a b c d", "y")],
            {"a": np.array([-1, 5]), "b": np.array([-(2**62), 0]), "c": np.array([3, 2]), "d": np.array([-2, -1])},
            4,
        ),
        ([node("Gather", "t i", "y", axis=2)], {"i": np.array([[0, -1], [3, 3]])}, 5),
        ([node("Gather", "t i", "y", axis=1)], {"i": np.array(1)}, 3),
        ([node("Split", "t s", "a b", axis=2), node("Concat", "b a", "y", axis=2)], {"s": np.array([2, 4])}, 4),
        ([node("Split", "t", "a b c", axis=3, num_outputs=3), node("Concat", "b a c", "y", axis=-1)], {}, 4),
        ([node("Pad", "t p", "y")], {"p": PADS}, 4),
        ([node("Pad", "t p v", "y")], {"p": PADS, "v": np.array(2.5)}, 4),
        ([node("Pad", "t p - a", "y", mode="reflect")], {"p": np.array([2, 1]), "a": np.array([2])}, 4),
        ([node("Pad", "t p", "y", mode="edge")], {"p": np.array([0, 0, 3, 0, 0, 0, 0, 4])}, 4),
        ([node("Expand", "t s", "u"), node("Tanh", "u", "y")], {"s": np.array([1, 2, 6, 5])}, 4),
    ],
)
def test_moves_of_entries(tmp_path: Path, moves: list[Any], constants: dict[str, Any], rank: int) -> None:
    for before in ("Tanh", "Relu"):
        check(model([node(before, "x", "t"), *moves], constants, rank=rank), tmp_path)


def test_negative_padding_cuts_off(tmp_path: Path) -> None:
    nodes = [node("Tanh", "x", "t"), node("Pad", "t p", "y")]
    net = read(model(nodes, {"p": np.array([0, 0, -1, 2, 0, 0, 1, -2])}), tmp_path)
    X = rng().normal(size=(3, *IMAGE))
    expected = np.pad(np.tanh(X)[:, :, 1:, :-2], ((0, 0), (0, 0), (0, 1), (2, 0)))
    np.testing.assert_allclose(net.forward(X.reshape(3, -1)), expected.reshape(3, -1))


def test_moves_as_older_files_spell_them(tmp_path: Path) -> None:
    tanh = node("Tanh", "x", "t")
    for opset, moves, rank in (
        (9, [node("Slice", "t", "y", starts=[1], ends=[9], axes=[2])], 4),
        (10, [node("Pad", "t", "y", pads=PADS.tolist(), value=0.0)], 4),
        (11, [node("Split", "t", "a y", axis=2, split=[1, 5])], 4),
        (11, [node("Unsqueeze", "t", "y", axes=[1])], 5),
        (9, [node("Upsample", "t f", "y")], 4),
        (10, [node("Resize", "t f", "y")], 4),
    ):
        factors = {"f": np.float32([1, 1, 2, 3])} if len(moves[0].input) > 1 else {}
        proto = model([tanh, *moves], factors, rank=rank, opset=opset)
        net = read(proto, tmp_path)
        X = rng().normal(size=(3, *IMAGE))
        expected = np.tanh(X)
        match moves[0].op_type:
            case "Slice":
                expected = expected[:, :, 1:]
            case "Pad":
                expected = np.pad(expected, list(zip(PADS[:4], PADS[4:])))
            case "Split":
                expected = expected[:, :, 1:]
            case "Upsample" | "Resize":
                expected = expected.repeat(2, axis=2).repeat(3, axis=3)
        np.testing.assert_allclose(net.forward(X.reshape(3, -1)), expected.reshape(3, -1), atol=1e-12)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_shuffled_pixels(tmp_path: Path, mode: str) -> None:
    nodes = [node("Tanh", "x", "t"), node("DepthToSpace", "t", "u", blocksize=2, mode=mode), node("Identity", "u", "y")]
    check(model(nodes, shape=(8, 3, 2)), tmp_path, shape=(8, 3, 2))
    nodes = [node("Tanh", "x", "t"), node("SpaceToDepth", "t", "y", blocksize=2)]
    check(model(nodes, shape=(2, 4, 6)), tmp_path, shape=(2, 4, 6))


@pytest.mark.parametrize("where", ["asymmetric", "half_pixel", "pytorch_half_pixel"])
@pytest.mark.parametrize("nearest", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
def test_nearest_upsampling(tmp_path: Path, where: str, nearest: str) -> None:
    how = {"mode": "nearest", "coordinate_transformation_mode": where, "nearest_mode": nearest}
    for factors in ((2, 3), (4, 1)):
        given = {"f": np.float32([1, 1, *factors]), "s": np.array([6 * factors[0], 5 * factors[1]])}
        check(model([node("Tanh", "x", "t"), node("Resize", "t - f", "y", **how)], given), tmp_path)
        nodes = [
            node("Tanh", "x", "t"),
            node("Shape", "t", "all"),
            node("Slice", "all zero two", "some"),
            node("Concat", "some s", "sizes", axis=0),
            node("Resize", "t - - sizes", "y", **how),
        ]
        check(model(nodes, {**given, "zero": np.array([0]), "two": np.array([2])}), tmp_path)


# paths that meet -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "rank"),
    [
        ([("Tanh", "x", "t"), ("Add", "x t", "y")], 4),
        ([("Tanh", "x", "t"), ("Sub", "x t", "y")], 4),
        ([("Relu", "x", "t"), ("Sub", "t t", "u"), ("Add", "u t", "y")], 4),
        ([("Relu", "x", "t"), ("Add", "t t", "u"), ("Add", "u x", "y")], 4),
        ([("Tanh", "x", "t"), ("Sum", "x t x c", "y")], 4),
        ([("Tanh", "x", "t"), ("Mean", "x t", "y")], 4),
        ([("Tanh", "x", "t"), ("Max", "t x", "y")], 4),
        ([("Tanh", "x", "t"), ("Min", "x c t", "y")], 4),
        ([("Max", "x c", "y")], 4),
        ([("Min", "c x", "y")], 4),
        ([("PRelu", "x s", "y")], 4),
        ([("Abs", "x", "y")], 4),
        ([("GlobalAveragePool", "x", "p"), ("Tanh", "p", "t"), ("Add", "x t", "y")], 4),
        ([("MatMul", "x W", "w"), ("Add", "w b", "v"), ("Relu", "v", "y")], 4),
    ],
)
def test_two_values(tmp_path: Path, lines: list[tuple[str, str, str]], rank: int) -> None:
    constants = {"c": rng().normal(size=(2, 1, 5)), "s": rng(1).normal(size=(2, 1, 1)), "b": rng(2).normal(size=3)}
    check(model([node(*line) for line in lines], {**constants, "W": rng(5).normal(size=(5, 3))}, rank=rank), tmp_path)


def test_a_residual_block(tmp_path: Path) -> None:
    names = [f"{kind}{k}" for k in range(3) for kind in ("g", "b", "m")]
    constants = {name: rng(k).normal(size=4) for k, name in enumerate(names)}
    constants |= {f"v{k}": rng(k).uniform(0.5, 2.0, size=4) for k in range(3)}
    constants |= {"k0": rng(1).normal(size=(4, 2, 3, 3)), "k1": rng(2).normal(size=(4, 4, 3, 3))}
    constants |= {"k2": rng(3).normal(size=(4, 2, 1, 1))}
    nodes = [
        node("Conv", "x k0", "c0", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", "c0 g0 b0 m0 v0", "n0"),
        node("Relu", "n0", "r0"),
        node("Conv", "r0 k1", "c1", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c1 g1 b1 m1 v1", "n1"),
        node("Conv", "x k2", "c2", strides=[2, 2]),
        node("BatchNormalization", "c2 g2 b2 m2 v2", "n2"),
        node("Add", "n1 n2", "s"),
        node("Relu", "s", "y"),
    ]
    net = check(model(nodes, constants), tmp_path)
    assert net.depth == 2  # BatchNormalization and the sum are in the convolutions
    assert any("skip" in remark for remark in net.about.remarks)
    assert "the Conv" in net.about.read


FORMULAS = {
    "gelu": ["Div c root|p", "Erf p|q", "Add q one|r", "Mul c r|s", "Mul s half|a"],
    "gelu_tanh": [
        *["Mul c c|p", "Mul p c|q", "Mul q cubic|r", "Add c r|s", "Mul s tail|t", "Tanh t|u", "Add u one|v"],
        *["Mul c v|w", "Mul w half|a"],
    ],
    "silu": ["Sigmoid c|p", "Mul c p|a"],
    "mish": ["Softplus c|p", "Tanh p|q", "Mul c q|a"],
    "hard_swish": ["Add c three|p", "Clip p zero six|q", "Mul c q|r", "Div r six|a"],
    "softsign": ["Abs c|p", "Add p one|q", "Div c q|a"],
    "softplus": ["Exp c|p", "Add p one|q", "Log q|a"],
}
NUMBERS = {"half": 0.5, "one": 1.0, "three": 3.0, "six": 6.0, "zero": 0.0, "root": 2**0.5, "cubic": 0.044715}


@pytest.mark.parametrize("name", FORMULAS)
def test_activations_written_as_formulas(tmp_path: Path, name: str) -> None:
    """Between convolutions, with the value they are of used in a skip too."""
    middle = []
    for line in FORMULAS[name]:
        head, out = line.split("|")
        middle.append(node(head.split()[0], " ".join(head.split()[1:]), out))
    nodes = [node("Conv", "x k", "c"), *middle, node("Conv", "a e", "d"), node("Add", "c d", "y")]
    constants: dict[str, Any] = {"k": rng().normal(size=(2, 2, 3, 3)), "e": rng(1).normal(size=(2, 2, 1, 1))}
    constants |= {key: np.array(value) for key, value in {**NUMBERS, "tail": (2 / np.pi) ** 0.5}.items()}
    net = check(model(nodes, constants), tmp_path, tolerance=1e-6)
    assert {phi.name for phi in net.activations} - {"identity"} == {name}


def test_softmax_at_the_end_is_left_out(tmp_path: Path) -> None:
    nodes = [node("Conv", "x k", "c"), node("Relu", "c", "r"), node("Flatten", "r", "f")]
    k = {"k": rng().normal(size=(1, 2, 5, 4))}
    logits = read(model([*nodes, node("Identity", "f", "y")], k, rank=2), tmp_path)
    net = read(model([*nodes, node("Softmax", "f", "s"), node("Identity", "s", "y")], k, rank=2), tmp_path)
    assert net == logits
    assert any("softmax is left out" in remark for remark in net.about.remarks)
    with pytest.raises(UnsupportedModelError, match="works on the result of a softmax"):
        read(model([*nodes, node("Softmax", "f", "s"), node("Tanh", "s", "y")], k, rank=2), tmp_path)


def test_what_leads_nowhere_is_not_looked_at(tmp_path: Path) -> None:
    nodes = [node("Tanh", "x", "t"), node("Mul", "t x", "dead"), node("Add", "x t", "y")]
    check(model(nodes), tmp_path)


@pytest.mark.parametrize("rows", [1, 4])
def test_a_fixed_batch(tmp_path: Path, rows: int) -> None:
    nodes = [node("Conv", "x k", "c"), node("Relu", "c", "r"), node("Reshape", "r s", "y")]
    proto = model(nodes, {"k": rng().normal(size=(1, 2, 3, 3)), "s": np.array([rows, -1])}, rank=2, rows=rows)
    net = read(proto, tmp_path)
    X = rng(1).normal(size=(rows, *IMAGE))
    np.testing.assert_allclose(net.forward(X.reshape(rows, -1)), ReferenceEvaluator(proto).run(None, {"x": X})[0])


# what PyTorch exports ------------------------------------------------------------------------------------------------


def _modules() -> dict[str, tuple[Any, tuple[int, ...]]]:
    torch = pytest.importorskip("torch")
    nn, F = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self, c: int, out: int, stride: int) -> None:
            super().__init__()
            self.a, self.n = nn.Conv2d(c, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
            self.b, self.m = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
            down = nn.Sequential(nn.Conv2d(c, out, 1, stride, bias=False), nn.BatchNorm2d(out))
            self.skip = nn.Identity() if (c, stride) == (out, 1) else down

        def forward(self, x: Any) -> Any:
            return torch.relu(self.m(self.b(torch.relu(self.n(self.a(x))))) + self.skip(x))

    class Grown(nn.Module):
        def __init__(self, c: int) -> None:
            super().__init__()
            self.n, self.a = nn.BatchNorm2d(c), nn.Conv2d(c, 2, 3, padding=1)

        def forward(self, x: Any) -> Any:
            return torch.cat([x, self.a(F.silu(self.n(x)))], 1)

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
            self.c, self.up = nn.Conv2d(7, 2, 3, padding=1), nn.Upsample(scale_factor=2)

        def forward(self, x: Any) -> Any:
            a = torch.relu(self.a(x))
            return self.c(torch.cat([self.up(F.gelu(self.b(F.max_pool2d(a, 2)))), a], 1))

    lenet = [
        nn.Conv2d(2, 4, 5, padding=2),
        nn.Sigmoid(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 5, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
    ]
    resnet = [Block(2, 4, 1), Block(4, 4, 1), Block(4, 6, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)]
    dense = [nn.Conv2d(2, 2, 3, padding=1), Grown(2), Grown(4), nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(3, 2, 1)]
    signal = [nn.Conv1d(2, 4, 3, 2, 1, dilation=2, groups=2), nn.Hardswish(), nn.MaxPool1d(3, 2, 1), nn.Flatten()]
    odd = [nn.PixelUnshuffle(2), nn.Conv2d(8, 4, 3, padding=1, padding_mode="reflect"), nn.PReLU(4), nn.PixelShuffle(2)]
    return {
        "LeNet": (nn.Sequential(*lenet, nn.Flatten(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)), (2, 8, 8)),
        "ResNet": (nn.Sequential(*resnet), (2, 8, 8)),
        "DenseNet": (nn.Sequential(*dense, nn.Flatten(), nn.Linear(54, 3)), (2, 6, 6)),
        "U-Net": (UNet(), (2, 6, 8)),
        "signals": (nn.Sequential(*signal, nn.Linear(12, 2)), (2, 12)),
        "pixels": (nn.Sequential(*odd, nn.ZeroPad2d((1, 0, 2, 0)), nn.Softplus(), nn.Softsign()), (2, 8, 8)),
        "every position": (nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3)), (3, 4)),
    }


@pytest.mark.parametrize("open_batch", [True, False])
@pytest.mark.parametrize("name", ["LeNet", "ResNet", "DenseNet", "U-Net", "signals", "pixels", "every position"])
def test_what_torch_exports(tmp_path: Path, name: str, open_batch: bool) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module, shape = _modules()[name]
    x = torch.randn(20, *shape)
    with torch.no_grad():
        module(x)  # statistics
        expected = module.eval()(x).numpy()
    path = tmp_path / "model.onnx"
    axes = {"dynamic_axes": {"x": {0: "N"}}} if open_batch else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x[:2],), path, dynamo=False, input_names=["x"], **axes)
    net = load_model(path)
    found = net.forward(x.numpy().reshape(20, -1).astype(np.float64))
    np.testing.assert_allclose(found, expected.reshape(20, -1), rtol=1e-4, atol=1e-5)
    assert FeedForward.load(net.save(tmp_path / "kept.npz")) == net


# refusals ------------------------------------------------------------------------------------------------------------

KERNEL = {"k": np.ones((2, 2, 3, 3)), "one": np.ones((2, 2, 1, 1)), "v": np.ones(2)}


@pytest.mark.parametrize(
    ("nodes", "match"),
    [
        ([node("Conv", "x x", "y")], "must take the data first, and constants"),
        ([node("Conv", "x v", "y")], r"a kernel of shape \(2,\)"),
        ([node("Conv", "x k", "c", group=2), node("Relu", "c", "y")], "in 2 groups, for 2 channels"),
        ([node("Conv", "x k", "y", pads=[-1, 0, 0, 0])], "paddings 0 or more"),
        ([node("Conv", "x k", "y", strides=[0, 1])], "certnet does not read"),
        ([node("Conv", "x k", "y", dilations=[4, 1])], "larger than the image"),
        ([node("Conv", "x k", "y", strides=[1])], "has 1 strides, 2 are needed"),
        ([node("Conv", "x k", "y", kernel_shape=[2, 2])], "says the kernel"),
        ([node("Conv", "x k", "y", auto_pad="SOME")], "auto_pad"),
        ([node("MaxPool", "x", "y", kernel_shape=[2, 2], ceil_mode=1)], "without ceil_mode"),
        (
            [node("MaxPool", "x", "p i", kernel_shape=[2, 2]), node("Cast", "i", "y", to=11)],
            "second output that is used",
        ),
        ([node("MaxPool", "x", "y", kernel_shape=[2, 2], pads=[2, 2, 2, 2])], "window without an entry"),
        ([node("ReduceMean", "x", "y")], "names no axes"),
        ([node("ReduceMean", "x", "y", axes=[0])], "works along the batch"),
        ([node("Transpose", "x", "y", perm=[1, 0, 2, 3])], "moves the batch"),
        ([node("Concat", "x x", "y", axis=0)], "works along the batch"),
        ([node("Sigmoid", "x", "s"), node("Conv", "s one", "c"), node("Mul", "x c", "y")], "has no bounded slope"),
        ([node("MatMul", "x x", "y")], "multiplies data by data, as attention"),
        ([node("Mul", "x x", "m"), node("Conv", "m one", "y")], "is no activation that certnet knows"),
        ([node("Conv", "x one", "y")], "it is a linear map"),
        ([node("Resize", "x - f", "y", mode="linear")], "upsampling by 'nearest' is read"),
        ([node("Resize", "x - f", "y", mode="nearest")], "resizes by 1.5"),
        ([node("ConvTranspose", "x k", "y")], "upsample the image, and convolve it"),
        ([node("LSTM", "x k k", "y")], "recurrent"),
        ([node("LayerNormalization", "x v", "y")], "by its own deviation"),
        ([node("If", "x", "y")], "control flow is not read"),
    ],
)
def test_refusals_say_why(tmp_path: Path, nodes: list[Any], match: str) -> None:
    constants = {**KERNEL, "f": np.float32([1, 1, 1.5, 1])}
    with pytest.raises((UnsupportedModelError, FileFormatError), match=match):
        read(model(nodes, constants, opset=17), tmp_path)


def test_open_sizes_of_images(tmp_path: Path) -> None:
    nodes = [node("Conv", "x k", "c"), node("Relu", "c", "y")]
    with pytest.raises(UnsupportedModelError, match=r"\[N, 2, \?, \?\].*export the model with a fixed size"):
        read(model(nodes, KERNEL, shape=(2, "H", "W")), tmp_path)


def test_another_function_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certnet.io.onnx_images.Convolution", lambda kernel, *how: Convolution(2.0 * kernel, *how))
    nodes = [node("Conv", "x k v", "c"), node("Relu", "c", "y")]
    with pytest.raises(UnsupportedModelError, match="reference evaluator differ by"):
        read(model(nodes, KERNEL), tmp_path)


def test_what_would_take_the_evaluator_long_is_not_compared_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [node("Conv", "x k v", "c"), node("MaxPool", "c", "m", kernel_shape=[2, 2]), node("Tanh", "m", "y")]
    assert not any("not compared" in remark for remark in read(model(nodes, KERNEL), tmp_path).about.remarks)
    monkeypatch.setattr("certnet.io.onnx_._SECONDS", 1e-9)
    assert any("not compared" in remark for remark in read(model(nodes, KERNEL), tmp_path).about.remarks)


def test_chains_are_read_as_chains(tmp_path: Path) -> None:
    constants = {"W": rng().normal(size=(4, 3)), "V": rng(1).normal(size=(2, 4))}
    nodes = [node("Gemm", "x W", "h", transB=1), node("Sigmoid", "h", "s"), node("Mul", "h s", "a")]
    net = read(model([*nodes, node("Gemm", "a V", "y", transB=1)], constants, shape=(3,), rank=2), tmp_path)
    assert not net.structured
    assert net == FeedForward([constants["W"], constants["V"]], [np.zeros(4), np.zeros(2)], "silu")


def test_structured_networks_are_not_written(tmp_path: Path) -> None:
    net = read(model([node("Conv", "x k", "c"), node("Relu", "c", "y")], KERNEL), tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"as \.npz, which keeps all"):
        save_onnx(net, tmp_path / "again.onnx")
    assert load_model(net.save(tmp_path / "net.npz")).digest == net.digest


# small files that ask for much ---------------------------------------------------------------------------------------


def twice(operator: str, count: int, **attributes: object) -> list[Any]:
    """A value joined with itself, again and again."""
    names = ["x", *(f"v{k}" for k in range(count))]
    joined = [node(operator, f"{a} {a}", b, **attributes) for a, b in pairwise(names)]
    return [*joined, node("Relu", names[-1], "y")]


def all_alive(count: int) -> list[Any]:
    names = ["x", *(f"v{k}" for k in range(count))]
    return [*(node("Tanh", a, b) for a, b in pairwise(names)), node("Sum", " ".join(names), "y")]


def convolved(count: int) -> list[Any]:
    names = ["x", *(f"v{k}" for k in range(count))]
    return [*(node("Conv", f"{a} k", b, pads=[1] * 4) for a, b in pairwise(names)), node("Relu", names[-1], "y")]


HUGE = {
    "padding": ([node("Conv", "x k", "y", pads=[10**9] * 4)], IMAGE),
    "a large image": ([node("Conv", "x k", "y")], (2, 10**6, 10**6)),
    "dilations": ([node("MaxPool", "x", "y", kernel_shape=[2, 2], dilations=[10**9] * 2, pads=[10**9] * 4)], IMAGE),
    "windows": ([node("AveragePool", "x", "y", kernel_shape=[300, 300])], (2, 600, 600)),
    "upsampling": ([node("Resize", "x - f", "a", mode="nearest"), node("Resize", "a - f", "y", mode="nearest")], IMAGE),
    "edges": ([node("Pad", "x p", "y", mode="edge")], IMAGE),
    "expanding": ([node("Expand", "x e", "y")], (1, 1, 1)),
    "gathering": ([node("Gather", "x i", "a", axis=3), node("Gather", "a i", "y", axis=1)], IMAGE),
    "sums": (twice("Add", 5000), IMAGE),
    "concatenations": (twice("Concat", 60, axis=1), IMAGE),
    "products": (twice("Mul", 900), IMAGE),
    "values that are all needed": (all_alive(900), IMAGE),
    "convolutions": (convolved(900), (2, 100, 100)),
}


@pytest.mark.parametrize("name", HUGE)
def test_what_asks_for_too_much_is_refused_at_once(tmp_path: Path, name: str) -> None:
    nodes, shape = HUGE[name]
    constants = {**KERNEL, "f": np.float32([1, 1, 3e4, 3e4]), "p": np.array([0, 0, 0, 0, 0, 0, 10**15, 0])}
    constants |= {"e": np.array([1, 10**5, 10**5, 10**5]), "i": np.zeros(5000, dtype=np.int64)}
    rank = 4
    proto = model(nodes, constants, shape=shape, rank=rank)
    with pytest.raises(CertnetError):
        read(proto, tmp_path)


@pytest.mark.parametrize("operator", ["Add", "Max", "Sub"])
def test_a_value_joined_with_itself_many_times(tmp_path: Path, operator: str) -> None:
    """The paths double with every node; the network does not."""
    nodes = [node("Tanh", "x", "t"), *twice(operator, 60)]
    nodes[1].input[:] = ["t", "t"]
    net = read(model(nodes), tmp_path)
    assert net.depth < 130
