"""load_onnx and save_onnx: every operator against onnx's reference evaluator, bit-exact round trips, hostile files."""

from __future__ import annotations

import os
import struct
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certnet.core.errors import (
    CertnetError,
    FileFormatError,
    InvalidInputError,
    MissingDependencyError,
    OutputError,
    UnsupportedModelError,
)
from certnet.io import load_model, load_onnx, onnx_, save_model, save_onnx
from certnet.io.affine import Dense, Scale, Shift, fold
from certnet.io.onnx_written import ROUNDED
from certnet.networks.activations import ACTIVATIONS, Activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork

onnx = pytest.importorskip("onnx", reason='onnx is not installed: pip install "certnet[onnx]"')
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def tensor(array: object, name: str, dtype: object = np.float64) -> object:
    return numpy_helper.from_array(np.array(array, dtype=dtype), name)


def ml(operator: str, inputs: list[str], outputs: list[str], **attributes: object) -> object:
    return helper.make_node(operator, inputs, outputs, domain="ai.onnx.ml", **attributes)


def model(
    nodes: list[object],
    constants: dict[str, object],
    *,
    shape: object = ("N", 3),
    out: object = (None, None),
    kind: int = DOUBLE,
    opset: int = 17,
    **more: object,
) -> object:
    """A model from "x" to "y"; constants are arrays in the input's type, or tensors."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    tensors = [
        c if isinstance(c, TensorProto) else tensor(c, name, dtype if np.asarray(c).dtype.kind == "f" else np.int64)
        for name, c in constants.items()
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, out)],
        tensors,
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=imports, **{"ir_version": 8, **more})


def write(proto: object, folder: Path, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path


def node(operator: str, inputs: list[str], output: str, **attributes: object) -> object:
    return helper.make_node(operator, inputs, [output], name=f"the {operator}", **attributes)


def two_layers(*middle: object, first: str = "h", last: str = "a") -> list[object]:
    """Gemm, what is given, Gemm."""
    return [node("Gemm", ["x", "W", "b"], first, transB=1), *middle, node("Gemm", [last, "V", "c"], "y", transB=1)]


def weights(d: int = 3, h: int = 4, m: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    r = rng(seed)
    return {"W": r.normal(size=(h, d)), "b": r.normal(size=h), "V": r.normal(size=(m, h)), "c": r.normal(size=m)}


def check(proto: object, folder: Path, X: np.ndarray, *, tolerance: float = 1e-12) -> FeedForward:
    """The network in a model, whose values must be those of onnx's reference evaluator."""
    net = load_onnx(write(proto, folder))
    expected = ReferenceEvaluator(proto).run(None, {"x": X})[0]
    found = net.forward(X.reshape(len(X), -1).astype(np.float64))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    return net


def samples(*shape: int, seed: int = 1) -> np.ndarray:
    return 2.0 * rng(seed).normal(size=shape)


# operators against the reference evaluator ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "attributes", "phi"),
    [
        ("Relu", {}, Activation("relu")),
        ("Tanh", {}, Activation("tanh")),
        ("Sigmoid", {}, Activation("sigmoid")),
        ("Softplus", {}, Activation("softplus")),
        ("LeakyRelu", {}, Activation("leaky_relu", (float(np.float32(0.01)),))),
        ("LeakyRelu", {"alpha": 0.3}, Activation("leaky_relu", (float(np.float32(0.3)),))),
        ("Elu", {}, Activation("elu", (1.0,))),
        ("Elu", {"alpha": 1.7}, Activation("elu", (float(np.float32(1.7)),))),
        ("HardSigmoid", {}, Activation("hard_sigmoid", (float(np.float32(0.2)), 0.5))),
        ("HardSigmoid", {"alpha": 0.4, "beta": 0.25}, Activation("hard_sigmoid", (float(np.float32(0.4)), 0.25))),
        ("Identity", {}, Activation("identity")),
    ],
)
@pytest.mark.parametrize("kind", [DOUBLE, FLOAT])
def test_activations(tmp_path: Path, operator: str, attributes: dict, phi: Activation, kind: int) -> None:
    proto = model(two_layers(node(operator, ["h"], "a", **attributes)), weights(), kind=kind)
    X = samples(60, 3).astype(helper.tensor_dtype_to_np_dtype(kind))
    net = check(proto, tmp_path, X, tolerance=1e-12 if kind == DOUBLE else 2e-5)
    assert net.activations == (phi,)
    dtype = np.float32 if kind == FLOAT else np.float64
    assert np.array_equal(net.weights[0], weights()["W"].astype(dtype))
    assert np.array_equal(net.biases[1], weights()["c"].astype(dtype))


def test_prelu_with_one_slope(tmp_path: Path) -> None:
    for slope in (0.1, [0.1], [0.1] * 4):
        proto = model(two_layers(node("PRelu", ["h", "p"], "a")), {**weights(), "p": slope})
        assert check(proto, tmp_path, samples(30, 3)).activations == (Activation("leaky_relu", (0.1,)),)


def test_prelu_with_a_slope_for_each_unit(tmp_path: Path) -> None:
    """``a x + (1 − a) relu(x)``, with x carried past the relu."""
    proto = model(two_layers(node("PRelu", ["h", "p"], "a")), {**weights(), "p": [0.1, 0.1, -0.1, 0.2]})
    assert check(proto, tmp_path, samples(30, 3)).structured


@pytest.mark.parametrize(
    ("attributes", "W", "b"),
    [
        ({"transB": 1}, (4, 3), (4,)),
        ({}, (3, 4), (1, 4)),
        ({"transB": 0, "transA": 0}, (3, 4), ()),
        ({"alpha": 0.3, "beta": -1.7}, (3, 4), (1,)),
        ({"beta": 0.0, "transB": 1}, (4, 3), (1, 1)),
        ({"alpha": 2.0}, (3, 4), None),
    ],
)
def test_gemm(tmp_path: Path, attributes: dict, W: tuple, b: tuple | None) -> None:
    constants = {**weights(), "W": samples(*W)} | ({} if b is None else {"b": np.array(samples(*b, seed=2))})
    inputs = ["x", "W"] + ([] if b is None else ["b"])
    nodes = [node("Gemm", inputs, "h", **attributes), node("Relu", ["h"], "a")]
    proto = model([*nodes, node("Gemm", ["a", "V", ""], "y", transB=1)], constants)
    net = check(proto, tmp_path, samples(40, 3))
    if not {"alpha", "beta"} & set(attributes):
        assert np.array_equal(net.weights[0], constants["W"] if attributes.get("transB") else constants["W"].T)


@pytest.mark.parametrize("order", ["matrix first", "bias first", "no bias"])
def test_matmul_and_add(tmp_path: Path, order: str) -> None:
    w = weights(m=1)
    constants = {"W": w["W"].T, "V": w["V"].T, "b": w["b"][None], "c": w["c"]}

    def layer(value: str, W: str, b: str, out: str) -> list[object]:
        if order == "no bias":
            return [node("MatMul", [value, W], out)]
        sides = [f"{out}0", b] if order == "matrix first" else [b, f"{out}0"]
        return [node("MatMul", [value, W], f"{out}0"), node("Add", sides, out)]

    proto = model([*layer("x", "W", "b", "h"), node("Relu", ["h"], "a"), *layer("a", "V", "c", "y")], constants)
    net = check(proto, tmp_path, samples(40, 3))
    zero = 0.0 if order == "no bias" else 1.0
    assert net.shallow() == ShallowNetwork(w["W"], zero * w["b"], w["V"], zero * w["c"])


ELEMENTWISE = [
    ("Add", ["v", "k"], (3,)),
    ("Add", ["k", "v"], (1, 3)),
    ("Sub", ["v", "k"], (3,)),
    ("Sub", ["k", "v"], (1, 1)),
    ("Mul", ["v", "k"], ()),
    ("Mul", ["k", "v"], (3,)),
    ("Div", ["v", "k"], (1, 3)),
    ("Div", ["v", "k"], (1,)),
]


@pytest.mark.parametrize(("operator", "inputs", "shape"), ELEMENTWISE)
def test_elementwise_operators_before_and_behind_the_network(
    tmp_path: Path, operator: str, inputs: list[str], shape: tuple[int, ...]
) -> None:
    k = np.array(samples(*shape, seed=5)) + 3.0
    before = [node(operator, ["x" if i == "v" else i for i in inputs], "s")]
    behind = [node(operator, ["z" if i == "v" else i for i in inputs], "y")]
    nodes = [node("Gemm", ["s", "W", "b"], "h", transB=1), node("Tanh", ["h"], "a")]
    nodes += [node("Gemm", ["a", "V", "c"], "z", transB=1)]
    for unknown in (("N", 3), ("N", None), (None, "d"), (5, 3)):
        proto = model([*before, *nodes, *behind], {**weights(m=3), "k": k}, shape=unknown)
        check(proto, tmp_path, samples(5, 3))


def test_scaler_of_skl2onnx(tmp_path: Path) -> None:
    for offset, scale in (([1.0, -2.0, 0.5], [0.1, 3.0, 1.0]), ([1.5], [2.0])):
        nodes = [ml("Scaler", ["x"], ["s"], offset=offset, scale=scale), *two_layers(node("Relu", ["h"], "a"))[0:]]
        nodes[1].input[0] = "s"
        check(model(nodes, weights(), kind=FLOAT), tmp_path, samples(20, 3).astype(np.float32), tolerance=1e-4)


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_what_skl2onnx_makes_of_a_pipeline(tmp_path: Path, opset: int) -> None:
    """Scaler, Cast, (MatMul, Add with a bias of one row, activation) twice, Identity, Reshape to one column."""
    w = weights(m=1)
    nodes = [
        ml("Scaler", ["x"], ["variable"], offset=[0.5, 10.0, -3.0], scale=[2.0, 0.125, 1.0]),
        node("Cast", ["variable"], "cast_input", to=FLOAT),
        node("MatMul", ["cast_input", "coefficient"], "mul_result"),
        node("Add", ["mul_result", "intercepts"], "add_result"),
        node("Relu", ["add_result"], "next_activations"),
        node("MatMul", ["next_activations", "coefficient1"], "mul_result1"),
        node("Add", ["mul_result1", "intercepts1"], "add_result1"),
        node("Identity", ["add_result1"], "out_activations_result"),
        node("Reshape", ["out_activations_result", "shape"], "y"),
    ]
    constants = {"coefficient": w["W"].T, "coefficient1": w["V"].T, "intercepts": w["b"][None]}
    constants |= {"intercepts1": w["c"][None], "shape": np.array([-1, 1])}
    proto = model(nodes, constants, kind=FLOAT, shape=(None, 3), out=(None, 1), opset=opset)
    net = check(proto, tmp_path, samples(20, 3).astype(np.float32), tolerance=1e-4)
    assert load_model(tmp_path / "model.onnx") == net.shallow()


def test_what_skl2onnx_makes_of_identity_layers_and_true_division(tmp_path: Path) -> None:
    w, k = weights(m=1), {"mean": [1.0, 2.0, 3.0], "std": [0.5, 2.0, 7.0]}
    nodes = [
        node("Cast", ["x"], "wide", to=DOUBLE),
        node("Sub", ["wide", "mean"], "centred"),
        node("Div", ["centred", "std"], "scaled"),
        node("Cast", ["scaled"], "s", to=DOUBLE),
        node("MatMul", ["s", "W"], "p"),
        node("Add", ["p", "b"], "h"),
        node("Identity", ["h"], "a"),
        node("MatMul", ["a", "V"], "q"),
        node("Add", ["q", "c"], "z"),
        node("Identity", ["z"], "out"),
        node("Mul", ["out", "y_scale"], "t"),
        node("Add", ["t", "y_mean"], "y"),
    ]
    constants = {"W": w["W"].T, "V": w["V"].T, "b": w["b"], "c": w["c"], **k, "y_scale": 40.0, "y_mean": [[7.0]]}
    net = check(model(nodes, constants), tmp_path, samples(20, 3))
    assert net.activations == (Activation("identity"),)
    inner = FeedForward([w["W"], w["V"]], [w["b"], w["c"]], "identity")
    by_hand = inner.rescaled(x_shift=k["mean"], x_scale=k["std"], y_shift=7.0, y_scale=40.0)
    np.testing.assert_allclose(net.weights[0], by_hand.weights[0], rtol=1e-14)
    np.testing.assert_allclose(net.biases[1], by_hand.biases[1], rtol=1e-14)


@pytest.mark.parametrize(
    ("shape", "flatten"),
    [
        (("N", 2, 3, 2), [node("Flatten", ["x"], "f")]),
        (("N", 2, 3, 2), [node("Flatten", ["x"], "f", axis=1)]),
        ((4, 2, 3, 2), [node("Flatten", ["x"], "f", axis=-3)]),
        (("N", "c", 3, 2), [node("Flatten", ["x"], "f")]),
        (("N", 12), [node("Flatten", ["x"], "f", axis=-1)]),
        (("N", 2, 6), [node("Reshape", ["x", "r0"], "f")]),
        (("N", 2, 6), [node("Reshape", ["x", "r1"], "f")]),
        (("N", "c", 6), [node("Reshape", ["x", "r2"], "f")]),
        ((4, 2, 6), [node("Reshape", ["x", "r3"], "f")]),
        ((4, 2, 6), [node("Reshape", ["x", "r4"], "f")]),
        (("N", 12), [node("Reshape", ["x", "r5"], "f")]),
        (("N", 2, 6), [node("Mul", ["x", "k"], "s"), node("Flatten", ["s"], "f")]),
        (("N", 2, 6), [node("Sub", ["x", "k2"], "s"), node("Flatten", ["s"], "f")]),
        (("N", "c", 6), [node("Sub", ["x", "k3"], "s"), node("Flatten", ["s"], "f")]),
    ],
)
def test_flatten_and_reshape_in_row_major_order(tmp_path: Path, shape: tuple, flatten: list) -> None:
    targets = {"r0": [-1, 12], "r1": [0, 12], "r2": [0, -1], "r3": [4, -1], "r4": [4, 12], "r5": [-1, 0]}
    constants = {**weights(d=12), **{name: np.array(value) for name, value in targets.items()}}
    constants |= {"k": samples(6, seed=8), "k2": samples(1, 2, 1, seed=8), "k3": np.array(0.25)}
    nodes = two_layers(node("Relu", ["h"], "a"))
    nodes[0].input[0] = "f"
    concrete = [4, *(2 if isinstance(n, str) else n for n in shape[1:])]
    check(model([*flatten, *nodes], constants, shape=shape), tmp_path, samples(*concrete))


@pytest.mark.parametrize(
    ("shape", "reshape", "match"),
    [
        (("N", 2, 6), node("Flatten", ["x"], "f", axis=2), "has axis 2"),
        (("N", 12), node("Flatten", ["x"], "f", axis=0), "has axis 0"),
        ((1, 12), node("Reshape", ["x", "r0"], "f"), r"reshapes \[1, 12\] to \[12, 1\]"),
        (("N", 12), node("Reshape", ["x", "r1"], "f"), "provably flattens"),  # one sample only
        (("N", 12), node("Reshape", ["x", "r2"], "f"), "provably flattens"),  # samples are torn apart
        (("N", "d"), node("Reshape", ["x", "r3"], "f"), "provably flattens"),  # d is open
        (("N", 12), node("Reshape", ["x", "r4"], "f"), "provably flattens"),
        (("N", 12), node("Reshape", ["x", "r5"], "f"), "provably flattens"),
        (("N", 12), node("Reshape", ["r3", "x"], "f"), "must take the data first"),
        (("N", 12), node("Reshape", ["x", "r6"], "f", allowzero=1), "provably flattens"),
    ],
)
def test_reshapes_that_mix_samples(tmp_path: Path, shape: tuple, reshape: object, match: str) -> None:
    targets = {"r0": [12, 1], "r1": [1, -1], "r2": [-1, 6], "r3": [-1, 12], "r4": [-1], "r5": [0, 3, 4], "r6": [0, 12]}
    constants = {**weights(d=12), **{name: np.array(value) for name, value in targets.items()}}
    nodes = two_layers(node("Relu", ["h"], "a"))
    nodes[0].input[0] = "f"
    with pytest.raises((UnsupportedModelError, FileFormatError), match=match):
        load_onnx(write(model([reshape, *nodes], constants, shape=shape), tmp_path))


def test_consecutive_linear_layers_are_folded(tmp_path: Path) -> None:
    constants = {**weights(), "M": samples(4, 4), "m": samples(4), "s": samples(4), "o": np.array(2.0)}
    extra = [node("MatMul", ["h", "M"], "h1"), node("Add", ["m", "h1"], "h2"), node("Mul", ["h2", "s"], "h3")]
    proto = model(two_layers(*extra, node("Relu", ["h3"], "a")), constants)
    assert check(proto, tmp_path, samples(20, 3)).widths == (3, 4, 2)
    only = model([node("Gemm", ["x", "W", "b"], "h", transB=1), node("MatMul", ["h", "M"], "y")], constants)
    with pytest.raises(UnsupportedModelError, match="no activation, it is a linear map"):
        load_onnx(write(only, tmp_path))


def test_identities_and_casts_that_mean_nothing(tmp_path: Path) -> None:
    """As exporters leave them: before the first layer, before an activation, behind one, at the end."""
    nodes = [
        node("Identity", ["x"], "i0"),
        node("Gemm", ["i0", "W", "b"], "h", transB=1),
        node("Identity", ["h"], "i1"),
        node("Cast", ["i1"], "i2", to=DOUBLE),
        node("Relu", ["i2"], "a"),
        node("Identity", ["a"], "i3"),
        node("Gemm", ["i3", "V", "c"], "z", transB=1),
        node("Identity", ["z"], "y"),
    ]
    w = weights()
    net = check(model(nodes, w), tmp_path, samples(20, 3))
    assert net.shallow() == ShallowNetwork(w["W"], w["b"], w["V"], w["c"])


def test_constants_as_nodes_copies_and_transposes(tmp_path: Path) -> None:
    w = weights()
    nodes = [
        helper.make_node("Constant", [], ["W"], value=tensor(w["W"], "W")),
        node("Transpose", ["W"], "Wt", perm=[1, 0]),
        node("Identity", ["b0"], "b"),
        node("MatMul", ["x", "Wt"], "p"),
        node("Add", ["p", "b"], "h"),
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Constant", [], ["shape"], value_ints=[0, -1]),
        node("Reshape", ["h", "shape"], "hr"),
        node("Relu", ["hr"], "a"),
        node("Transpose", ["V"], "Vt"),
        node("MatMul", ["a", "Vt"], "y"),
    ]
    net = check(model(nodes, {"b0": w["b"], "V": w["V"]}), tmp_path, samples(20, 3))
    assert np.array_equal(net.weights[0], w["W"])
    assert np.array_equal(net.weights[1], w["V"])


@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16"])
@pytest.mark.parametrize("raw", [True, False])
def test_every_float_type_is_exact(tmp_path: Path, kind: str, raw: bool) -> None:
    code = getattr(TensorProto, kind)
    dtype = helper.tensor_dtype_to_np_dtype(code)
    w = {name: array.astype(dtype) for name, array in weights().items()}
    tensors = {
        name: numpy_helper.from_array(array, name)
        if raw
        else helper.make_tensor(name, code, array.shape, array.astype(np.float64).ravel())
        for name, array in w.items()
    }
    net = load_onnx(write(model(two_layers(node("Relu", ["h"], "a")), tensors, kind=code), tmp_path))
    assert np.array_equal(net.weights[0], w["W"].astype(np.float64))
    assert np.array_equal(net.biases[1], w["c"].astype(np.float64))


def test_deep_chain_as_torch_exports_it(tmp_path: Path) -> None:
    r = rng(3)
    sizes = (12, 8, 7, 6, 2)
    constants, nodes, value = {}, [node("Flatten", ["x"], "v")], "v"
    for k, (d, h) in enumerate(pairwise(sizes)):
        constants |= {f"{k}.weight": r.normal(size=(h, d)), f"{k}.bias": r.normal(size=h)}
        out = "y" if k == 3 else f"h{k}"
        inputs = [value, f"{k}.weight", f"{k}.bias"]
        nodes.append(helper.make_node("Gemm", inputs, [out], alpha=1.0, beta=1.0, transB=1))
        if k < 3:
            value = f"a{k}"
            nodes.append(node(["Relu", "Tanh", "Elu"][k], [out], value))
    proto = model(nodes, constants, shape=("batch", 1, 3, 4), opset=18)
    net = check(proto, tmp_path, samples(9, 1, 3, 4))
    assert net.widths == sizes
    assert [phi.name for phi in net.activations] == ["relu", "tanh", "elu"]
    assert np.array_equal(net.weights[2], constants["2.weight"])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_chains(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    r = rng(data.draw(st.integers(0, 2**32 - 1)))
    width, nodes, constants = 3, [], {}
    value = "x"

    def add(operator: str, *arrays: np.ndarray, first: bool = True, **attributes: object) -> None:
        nonlocal value
        names = [f"k{len(constants) + i}" for i in range(len(arrays))]
        constants.update(zip(names, arrays))
        out = f"v{len(nodes)}"
        nodes.append(node(operator, [value, *names] if first else [*names, value], out, **attributes))
        value = out

    def linear() -> None:
        nonlocal width
        h = data.draw(st.integers(1, 5))
        kind = data.draw(st.sampled_from(["gemm", "gemm-t", "matmul"]))
        if kind == "matmul":
            add("MatMul", r.normal(size=(width, h)))
        else:
            shape = (h, width) if kind == "gemm-t" else (width, h)
            add("Gemm", r.normal(size=shape), r.normal(size=h), transB=int(kind == "gemm-t"))
        width = h

    def noise() -> None:
        for operator in data.draw(
            st.lists(st.sampled_from(["Add", "Sub", "Mul", "Div", "Identity", "Cast"]), max_size=3)
        ):
            if operator in ("Identity", "Cast"):
                add(operator, **({"to": DOUBLE} if operator == "Cast" else {}))
            else:
                shape = data.draw(st.sampled_from([(), (1,), (width,), (1, width)]))
                first = operator == "Div" or data.draw(st.booleans())
                add(operator, np.array(r.normal(size=shape)) + 2.0, first=first)

    for _ in range(data.draw(st.integers(1, 3))):
        noise()
        linear()
        noise()
        add(data.draw(st.sampled_from(["Relu", "LeakyRelu", "Tanh", "Sigmoid", "Softplus", "Elu", "HardSigmoid"])))
    noise()
    linear()
    noise()
    add("Identity")
    nodes[-1].output[0] = "y"
    check(model(nodes, constants), tmp_path_factory.mktemp("chain"), samples(7, 3), tolerance=1e-8)


# what is refused -----------------------------------------------------------------------------------------------------


def relu_model(**more: object) -> object:
    return model(two_layers(node("Relu", ["h"], "a")), {**weights(), **more})


@pytest.mark.parametrize(
    ("nodes", "match"),
    [
        ([node("Softmax", ["x"], "y")], "no activation, it is a linear map"),
        ([node("Sin", ["x"], "y")], r"node 0 'the Sin' is the operator Sin.*Gemm, MatMul, Add.*Relu"),
        ([node("Loop", ["x"], "y")], "operator Loop"),
        ([helper.make_node("Relu", ["x"], ["y"], domain="com.evil")], "operator com.evil.Relu"),
        ([helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx.ml")], "operator ai.onnx.ml.Relu"),
        ([helper.make_node("Scaler", ["x"], ["y"])], "operator Scaler"),
        ([node("Add", ["x", "x"], "y")], "no activation, it is a linear map"),
        ([node("Gemm", ["W", "x"], "y")], "must take the data as A"),
        ([node("MatMul", ["W", "x"], "y")], "multiplies from the left"),
        ([node("Gemm", ["x", "W", "x"], "y", transB=1)], "its input 2 must be a constant"),
        ([node("MatMul", ["x", "x"], "y")], "multiplies data by data, as attention does"),
        ([node("Gemm", ["x", "W"], "y", transA=1)], "not transposed"),
        ([node("Div", ["three", "x"], "y")], "divides by the data"),
        (two_layers(node("Relu", ["h"], "r"), node("Cast", ["r"], "a", to=7)), "casts to a type"),
        ([node("Transpose", ["x"], "y")], "moves the batch"),
        ([node("MatMul", ["x", "three"], "y")], "a matrix is needed"),
        (
            two_layers(node("Mul", ["h", "rows"], "m"), node("Relu", ["m"], "a")),
            "neither one number nor one per feature",
        ),
        ([node("Relu", ["three"], "t"), *two_layers(node("Relu", ["h"], "a"))], "constants alone"),
        (
            [*two_layers(node("Relu", ["h"], "a"))[:1], node("Identity", ["x"], "y")],
            "without branches",
        ),
    ],
)
def test_unsupported_graphs(tmp_path: Path, nodes: list, match: str) -> None:
    constants = {**weights(), "three": [1.0, 2.0, 3.0], "rows": samples(5, 1)}
    proto = model(nodes, constants, shape=(5, 3), opset=20)
    with pytest.raises((UnsupportedModelError, FileFormatError), match=match) as caught:
        load_onnx(write(proto, tmp_path))
    assert str(tmp_path / "model.onnx") in str(caught.value)


def test_inputs_and_outputs(tmp_path: Path) -> None:
    proto = relu_model()
    proto.graph.input.append(helper.make_tensor_value_info("x2", DOUBLE, ["N", 3]))
    with pytest.raises(UnsupportedModelError, match="2 inputs and 1 outputs"):
        load_onnx(write(proto, tmp_path))
    proto = relu_model()
    proto.graph.output.append(helper.make_tensor_value_info("h", DOUBLE, ["N", 4]))
    with pytest.raises(UnsupportedModelError, match="1 inputs and 2 outputs"):
        load_onnx(write(proto, tmp_path))
    for shape, kind, match in (
        (("N", 3), TensorProto.INT64, "no tensor of floats"),
        ((3,), DOUBLE, r"needs rows, and the model's input is one vector"),
        (None, DOUBLE, "has no shape"),
    ):
        proto = relu_model()
        proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", kind, shape))
        with pytest.raises((UnsupportedModelError, FileFormatError), match=match):
            load_onnx(write(proto, tmp_path))
    proto = relu_model()  # old files list initializers among the inputs
    proto.graph.input.append(helper.make_tensor_value_info("W", DOUBLE, [4, 3]))
    assert load_onnx(write(proto, tmp_path)).widths == (3, 4, 2)


def test_local_functions_may_not_redefine_an_operator(tmp_path: Path) -> None:
    proto = relu_model()
    body = [helper.make_node("Neg", ["i"], ["o"])]
    imports = [helper.make_opsetid("", 17)]
    proto.functions.append(helper.make_function("", "Relu", ["i"], ["o"], body, imports))
    with pytest.raises(UnsupportedModelError, match="local functions"):
        load_onnx(write(proto, tmp_path))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["W", "b", "V", "c"])
def test_weights_that_are_no_numbers(tmp_path: Path, bad: float, name: str) -> None:
    w = weights()
    w[name].flat[1] = bad
    with pytest.raises(InvalidInputError, match=rf"constant '{name}' has 1 entries that are NaN or infinite"):
        load_onnx(write(relu_model(**w), tmp_path))


def test_folding_that_overflows_or_divides_by_zero(tmp_path: Path) -> None:
    nodes = [node("Mul", ["x", "k"], "s"), *two_layers(node("Relu", ["h"], "a"))]
    nodes[1].input[0] = "s"
    w = weights()
    with pytest.raises(InvalidInputError, match="NaN or infinite"):
        load_onnx(write(model(nodes, {**w, "W": 1e200 * w["W"], "k": 1e200}), tmp_path))
    nodes[0] = node("Div", ["x", "k"], "s")
    with pytest.raises(InvalidInputError, match="divides by zero"):
        load_onnx(write(model(nodes, {**w, "k": [1.0, 0.0, 1.0]}), tmp_path))
    scaler = [ml("Scaler", ["x"], ["s"], offset=[1.0], scale=[np.inf]), *nodes[1:]]
    with pytest.raises(InvalidInputError, match="finite numbers"):
        load_onnx(write(model(scaler, w, kind=FLOAT), tmp_path))


def test_bad_units(tmp_path: Path) -> None:
    path = write(relu_model(), tmp_path)
    assert load_onnx(path, units="raw").units == "raw"
    with pytest.raises(InvalidInputError, match="units must be one of"):
        load_onnx(path, units="furlongs")


# hostile and broken files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"opset": 6}, "opset 6 of ai.onnx: certnet reads 7 to"),
        ({"opset": 999}, "opset 999"),
        ({"ir_version": 2}, "IR version is 2"),
        ({"ir_version": 999}, "no valid ONNX model: .*999"),
        ({"ir_version": 0}, "no graph or no version"),
    ],
)
def test_versions(tmp_path: Path, change: dict, match: str) -> None:
    proto = model(two_layers(node("Relu", ["h"], "a")), weights(), **change)
    with pytest.raises(FileFormatError, match=match):
        load_onnx(write(proto, tmp_path))


def test_missing_empty_folder_garbage(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="does not exist"):
        load_onnx(tmp_path / "model.onnx")
    (tmp_path / "model.onnx").touch()
    with pytest.raises(FileFormatError, match="is empty"):
        load_onnx(tmp_path / "model.onnx")
    with pytest.raises(FileFormatError, match="is a folder"):
        load_onnx(tmp_path)
    for content in (b"not a model", b"\x80\x04.", b"\x00" * 100, b"PK\x03\x04", b"\x08\x08"):
        (tmp_path / "model.onnx").write_bytes(content)
        with pytest.raises(FileFormatError, match="no ONNX model"):
            load_onnx(tmp_path / "model.onnx")


def test_every_truncation_is_an_error_of_certnet(tmp_path: Path) -> None:
    content = relu_model().SerializeToString()
    path = tmp_path / "model.onnx"
    for kept in range(1, len(content), 3):
        path.write_bytes(content[:kept])
        with pytest.raises((FileFormatError, UnsupportedModelError)):
            load_onnx(path)


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_bytes_give_a_network_or_an_error_of_certnet(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    nodes = [node("Flatten", ["x"], "f"), *two_layers(node("Elu", ["h"], "a")), node("Mul", ["z", "k"], "y")]
    nodes[1].input[0], nodes[3].output[0] = "f", "z"
    content = bytearray(model(nodes, {**weights(), "k": 2.0}).SerializeToString())
    for where, byte in changes:
        content[where % len(content)] = byte
    path = tmp_path_factory.getbasetemp() / "fuzzed.onnx"
    path.write_bytes(content)
    try:
        net = load_onnx(path)
    except CertnetError:
        return
    assert isinstance(net, FeedForward)


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_give_a_file_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    with pytest.raises(FileFormatError):
        load_onnx(path)


def test_size_is_looked_at_before_the_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(relu_model(), tmp_path)
    monkeypatch.setattr(onnx_, "_MAX_BYTES", path.stat().st_size - 1)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("was read"))
    with pytest.raises(FileFormatError, match="larger than"):
        load_onnx(path)


def test_ten_gigabytes_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(10 << 30)  # sparse: takes no room
    with pytest.raises(FileFormatError, match="larger than 2 GiB"):
        load_onnx(path)


@pytest.mark.parametrize(
    ("dims", "data", "match"),
    [
        ([4, 4], b"\0" * 96, "16 entries of type double, but 12 are stored"),
        ([10**9, 10**9], b"\0" * 96, "but 12 are stored"),
        ([2**62, 2**62, 4], b"", "but 0 are stored"),
        ([2**32, 2**32, 0, 3], b"\0" * 8, "but 1 are stored"),
        ([-4, -3], b"\0" * 96, "dimensions"),
        ([4, 3], b"\0" * 95, "12 entries"),
        ([1] * 100, b"\0" * 8, "dimensions"),
    ],
)
def test_sizes_that_lie(tmp_path: Path, dims: list[int], data: bytes, match: str) -> None:
    proto = relu_model()
    lie = proto.graph.initializer[0]
    lie.dims[:] = dims
    lie.raw_data = data
    with pytest.raises(FileFormatError, match=match):
        load_onnx(write(proto, tmp_path))


def test_a_small_file_that_describes_a_huge_product(tmp_path: Path) -> None:
    """A column times a row of 2^16 entries: 256 KiB that would unfold to 32 GiB."""
    n = 1 << 16
    constants = {"u": np.zeros((3, 1)), "v": np.zeros((1, n)), "w": np.zeros((n, 1)), "r": np.zeros((1, n))}
    nodes = [
        node("MatMul", [v, k], o) for v, k, o in (("x", "u", "a"), ("a", "v", "b"), ("b", "w", "c"), ("c", "r", "d"))
    ]
    outer = [node("MatMul", ["x", "w"], "p"), node("MatMul", ["p", "r"], "q"), node("Relu", ["q"], "s")]
    proto = model([*outer, node("MatMul", ["s", "w"], "y")], constants, shape=("N", n))
    assert load_onnx(write(proto, tmp_path)).widths == (n, 1, n, 1)  # the product is not made
    many = model([*nodes[:1], node("Relu", ["a"], "y")], constants)
    for _ in range(onnx_._MAX_NODES):
        many.graph.node.append(node("Relu", ["y"], "y"))
    with pytest.raises(UnsupportedModelError, match="more than 10000"):
        load_onnx(write(many, tmp_path))


def test_one_tensor_used_by_thousands_of_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certnet.io.onnx_chain.MAX_ENTRIES", 1000)
    nodes = [node("MatMul", ["x", "M"], "v0")]
    for k in range(200):
        nodes += [node("Relu", [f"v{k}"], f"a{k}"), node("MatMul", [f"a{k}", "M"], f"v{k + 1}")]
    nodes.append(node("Identity", ["v200"], "y"))
    with pytest.raises(UnsupportedModelError, match="more than 1000 weights"):
        load_onnx(write(model(nodes, {"M": np.eye(3) / 2}), tmp_path))


@pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.FLOAT8E4M3FN, 999, 0])
def test_other_types_of_tensors(tmp_path: Path, kind: int) -> None:
    proto = relu_model()
    proto.graph.initializer[0].data_type = kind
    with pytest.raises(UnsupportedModelError, match="certnet reads float, int32, int64, float16, double, bfloat16"):
        load_onnx(write(proto, tmp_path))


def test_float16_spelled_by_numbers_that_are_none(tmp_path: Path) -> None:
    proto = relu_model()
    bad = proto.graph.initializer[1]
    bad.ClearField("raw_data")
    bad.data_type = TensorProto.FLOAT16
    bad.int32_data.extend([1, 2, 1 << 20, -1])
    with pytest.raises(FileFormatError, match="no 16-bit floats"):
        load_onnx(write(proto, tmp_path))


# external data -------------------------------------------------------------------------------------------------------


def external(folder: Path, *, data: bytes | None = None, **entries: object) -> Path:
    """A model whose W lies in weights.bin beside it; entries change what is said about it."""
    proto = relu_model()
    W = proto.graph.initializer[0]
    (folder / "weights.bin").write_bytes(b"\7" * 16 + (W.raw_data if data is None else data))
    W.ClearField("raw_data")
    W.data_location = TensorProto.EXTERNAL
    said = {"location": "weights.bin", "offset": 16, "length": 96, **entries}
    for key, value in said.items():
        if value is not None:
            W.external_data.add(key=key, value=str(value))
    return write(proto, folder)


@pytest.mark.parametrize("entries", [{}, {"length": None}])
def test_external_data_from_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entries: dict[str, object]
) -> None:
    path = external(tmp_path, **entries)
    assert np.array_equal(load_onnx(path).weights[0], weights()["W"])
    monkeypatch.chdir(tmp_path)  # a bare name
    assert np.array_equal(load_onnx("model.onnx").weights[0], weights()["W"])


def test_external_data_as_onnx_itself_writes_them(tmp_path: Path) -> None:
    onnx.save_model(
        relu_model(), str(tmp_path / "m.onnx"), save_as_external_data=True, location="m.data", size_threshold=0
    )
    net = load_onnx(tmp_path / "m.onnx")
    assert net.shallow() == ShallowNetwork(*weights().values())


@pytest.mark.parametrize(
    "location",
    [
        "../weights.bin",
        "/etc/passwd",
        "sub/weights.bin",
        "..",
        ".",
        "",
        "./weights.bin",
        "C:weights.bin",
        "a\\b",
        "a\0b",
    ],
)
def test_external_data_elsewhere(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "models"
    (folder / "sub").mkdir(parents=True)
    for target in (tmp_path, folder / "sub"):
        (target / "weights.bin").write_bytes(weights()["W"].tobytes())
    with pytest.raises(FileFormatError, match="from a file in the model's own folder only"):
        load_onnx(external(folder, location=location))


def test_external_data_behind_a_link(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    path = external(folder)
    os.replace(folder / "weights.bin", tmp_path / "weights.bin")
    (folder / "weights.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(FileFormatError, match="a link that leads out of the model's folder"):
        load_onnx(path)
    (folder / "weights.bin").unlink()
    with pytest.raises(FileFormatError, match="does not exist"):
        load_onnx(path)
    os.mkfifo(folder / "weights.bin")
    with pytest.raises(FileFormatError, match="not a regular file"):
        load_onnx(path)


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ({"length": 88}, "needs 96 bytes"),
        ({"length": 104}, "needs 96 bytes"),
        ({"offset": 24}, "needs 96 bytes"),
        ({"offset": 10**17}, "holds 0 from there on"),
        ({"offset": -1}, "offset or length '-1'"),
        ({"offset": "9" * 5000}, "offset or length '9999"),
        ({"length": "1_0"}, "offset or length"),
        ({"length": "٣"}, "offset or length"),
        ({"length": None, "data": b"short"}, "needs 96 bytes"),
    ],
)
def test_external_data_of_other_sizes(tmp_path: Path, entries: dict, match: str) -> None:
    with pytest.raises(FileFormatError, match=match):
        load_onnx(external(tmp_path, **entries))


def test_external_data_count_towards_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = external(tmp_path)
    monkeypatch.setattr(onnx_, "_MAX_BYTES", path.stat().st_size + 95)
    with pytest.raises(FileFormatError, match="larger than certnet reads"):
        load_onnx(path)
    monkeypatch.setattr(onnx_, "_MAX_BYTES", path.stat().st_size + 96)
    assert load_onnx(path).n_inputs == 3


# writing -------------------------------------------------------------------------------------------------------------

PHIS = [
    *map(Activation, ACTIVATIONS),
    Activation("leaky_relu", (0.25,)),
    Activation("leaky_relu", (-0.3,)),
    Activation("elu", (0.5,)),
    Activation("elu", (0.0,)),
    Activation("hard_sigmoid", (1 / 6, 0.5)),
    Activation("hard_sigmoid", (0.25, -0.5)),
    Activation("hard_sigmoid", (0.1, 1e300)),
    Activation("hard_sigmoid", (1.0, 0.0)),
]


def random_network(phis: list[Activation], sizes: list[int], seed: int = 0, scale: float = 1.0) -> FeedForward:
    r = rng(seed)
    Ws = [scale * r.normal(size=(h, d)) for d, h in pairwise(sizes)]
    return FeedForward(Ws, [r.normal(size=len(W)) for W in Ws], phis)


@pytest.mark.parametrize("phi", PHIS, ids=str)
def test_written_models(tmp_path: Path, phi: Activation) -> None:
    net = random_network([phi, phi], [3, 5, 4, 2])
    path = save_onnx(net, tmp_path / "model.onnx")
    assert load_onnx(path).digest == net.digest
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 17)]
    X = samples(50, 3)
    found = ReferenceEvaluator(proto).run(None, {"x": X})[0]
    tolerance = 2e-6 if phi.name in ROUNDED else 1e-12
    np.testing.assert_allclose(found, net.forward(X), rtol=tolerance, atol=tolerance)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(PHIS), st.integers(1, 4)), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1.0, 1e-300, 1e300]),
)
def test_round_trip_is_bit_exact(
    tmp_path_factory: pytest.TempPathFactory, layers: list[tuple[Activation, int]], seed: int, scale: float
) -> None:
    sizes = [2, *(h for _, h in layers), 3]
    net = random_network([phi for phi, _ in layers], sizes, seed, scale)
    path = tmp_path_factory.getbasetemp() / "round.onnx"
    assert load_onnx(save_onnx(net, path, force=True)).digest == net.digest


def test_shallow_networks_and_units(tmp_path: Path) -> None:
    net = ShallowNetwork(*weights().values(), units="raw")
    path = save_model(net, tmp_path / "model.ONNX")
    assert load_model(path) == net.labelled("as given")
    assert load_onnx(path, units="raw").shallow() == net


def test_save_is_careful(tmp_path: Path) -> None:
    net = random_network([Activation("relu")], [3, 4, 1])
    path = save_onnx(net, tmp_path / "model.onnx")
    before = path.read_bytes()
    with pytest.raises(OutputError, match="exists"):
        save_onnx(net, path)
    assert save_onnx(net, path, force=True).read_bytes() == before  # the same network gives the same bytes
    assert os.listdir(tmp_path) == ["model.onnx"]
    with pytest.raises(OutputError, match="does not exist"):
        save_onnx(net, tmp_path / "nowhere" / "model.onnx")
    for phi in (Activation("user", (0.0, 1.0)), Activation("elu", (0.3,))):
        with pytest.raises(UnsupportedModelError, match="cannot be written to ONNX"):
            save_onnx(random_network([phi], [3, 4, 1]), tmp_path / "other.onnx")
    assert not (tmp_path / "other.onnx").exists()


def test_networks_too_large_for_the_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_, "_MAX_BYTES", (1 << 20) + 100)
    with pytest.raises(UnsupportedModelError, match="at most 2 GiB"):
        save_onnx(random_network([Activation("relu")], [3, 4, 1]), tmp_path / "model.onnx")


def test_missing_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = random_network([Activation("relu")], [3, 4, 1])
    path = save_onnx(net, tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    for call in (
        lambda: load_onnx(path),
        lambda: load_model(path),
        lambda: save_onnx(net, tmp_path / "other.onnx"),
        lambda: save_model(net, tmp_path / "other.onnx"),
    ):
        with pytest.raises(MissingDependencyError, match=r'pip install "certnet\[onnx\]"'):
            call()


# folding -------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["dense", "scale", "shift", "one"]), max_size=6), st.integers(0, 2**32 - 1))
def test_folding_is_applying_one_after_another(kinds: list[str], seed: int) -> None:
    r = rng(seed)
    width, steps = 3, []
    kinds.insert(len(kinds) // 2, "dense")
    x = r.normal(size=3)
    value = x
    for kind in kinds:
        if kind == "dense":
            steps.append(Dense(r.normal(size=(2 + len(steps) % 3, width))))
            value, width = steps[-1].W @ value, len(steps[-1].W)
        elif kind == "scale":
            steps.append(Scale(r.normal(size=width)))
            value = value * steps[-1].s
        else:
            steps.append(Shift(r.normal(size=1 if kind == "one" else width)))
            value = value + steps[-1].t
    W, b = fold(steps)
    np.testing.assert_allclose(W @ x + b, value, rtol=1e-9, atol=1e-9)


def test_a_matrix_and_a_bias_are_kept_bit_for_bit() -> None:
    W, b = np.array([[struct.unpack("<d", b"\1" * 8)[0], 1 / 3]]), np.array([0.1])
    folded = fold([Dense(W), Shift(b)])
    assert np.array_equal(folded[0], W)
    assert np.array_equal(folded[1], b)
