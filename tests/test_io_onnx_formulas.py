"""ONNX models as exporters really write them: activations as formulas, BatchNormalization, softmax, squeezes."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from certnet.core.errors import FileFormatError, InvalidInputError, UnsupportedModelError
from certnet.io import load_onnx, save_onnx
from certnet.networks.about import About
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward

onnx = pytest.importorskip("onnx", reason='onnx is not installed: pip install "certnet[onnx]"')
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE


def node(operator: str, inputs: str, output: str, **attributes: object) -> object:
    return helper.make_node(operator, inputs.split(), output.split(), name=f"the {operator}", **attributes)


def weights(d: int = 3, h: int = 4, m: int = 2) -> dict[str, np.ndarray]:
    r = np.random.default_rng(0)
    return {"W": r.normal(size=(h, d)), "b": r.normal(size=h), "V": r.normal(size=(m, h)), "c": r.normal(size=m)}


def model(
    nodes: list[object],
    constants: dict[str, object],
    *,
    shape: object = ("N", 3),
    out: object = (None, None),
    kind: int = DOUBLE,
    opset: int = 17,
) -> object:
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    tensors = []
    for name, value in constants.items():
        array = np.asarray(value)
        tensors.append(numpy_helper.from_array(array.astype(dtype) if array.dtype.kind == "f" else array, name))
    x, y = helper.make_tensor_value_info("x", kind, shape), helper.make_tensor_value_info("y", kind, out)
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def between(*middle: object) -> list[object]:
    """Gemm to "h", what is given, Gemm from "a"."""
    first, last = node("Gemm", "x W b", "h", transB=1), node("Gemm", "a V c", "y", transB=1)
    return [first, *middle, last]


def read(proto: object, folder: Path) -> FeedForward:
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return load_onnx(path)


def check(proto: object, folder: Path, *shape: int, tolerance: float = 1e-9) -> FeedForward:
    net = read(proto, folder)
    kind = proto.graph.input[0].type.tensor_type.elem_type
    X = np.random.default_rng(1).normal(size=shape or (100, 3)).astype(helper.tensor_dtype_to_np_dtype(kind))
    expected = ReferenceEvaluator(proto).run(None, {"x": X})[0]
    found = net.forward(X.reshape(-1, net.n_inputs).astype(np.float64))
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=tolerance, atol=tolerance)
    return net


NUMBERS = {"half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "six": 6.0, "zero": 0.0, "twenty": 20.0, "root": 2**0.5}
NUMBERS |= {"cube": 0.044715, "slope": (2 / np.pi) ** 0.5, "quick": 1.702}
FORMULAS = {
    "gelu of torch": (["Div h root|p", "Erf p|q", "Add q one|r", "Mul h r|s", "Mul s half|a"], "gelu"),
    "gelu, half first": (["Mul h half|g", "Div h root|p", "Erf p|q", "Add one q|r", "Mul g r|a"], "gelu"),
    "gelu, multiplied out": (
        ["Div h root|p", "Erf p|q", "Mul h half|g", "Mul g q|r", "Add r g|a"],
        "gelu",
    ),
    "gelu of tanh, powers": (
        [
            *["Pow h three|p", "Mul p cube|q", "Add h q|r", "Mul r slope|s", "Tanh s|t", "Add t one|u"],
            *["Mul h half|g", "Mul g u|a"],
        ],
        "gelu_tanh",
    ),
    "gelu of tanh, factored": (
        [
            *["Mul h h|p", "Mul p cube|q", "Add q one|r", "Mul h r|s", "Mul s slope|t", "Tanh t|u", "Add u one|v"],
            *["Mul v h|w", "Mul w half|a"],
        ],
        "gelu_tanh",
    ),
    "gelu without its factors": (["Erf h|p", "Add p one|q", "Mul h q|a"], "gelu"),  # √2 gelu(√2 h)
    "silu": (["Sigmoid h|p", "Mul h p|a"], "silu"),
    "silu by exp": (["Neg h|p", "Exp p|q", "Add q one|r", "Div h r|a"], "silu"),
    "quick gelu": (["Mul h quick|p", "Sigmoid p|q", "Mul h q|a"], "silu"),
    "mish": (["Softplus h|p", "Tanh p|q", "Mul h q|a"], "mish"),
    "mish by log": (["Exp h|p", "Add p one|q", "Log q|r", "Tanh r|s", "Mul h s|a"], "mish"),
    "hard swish by clip": (["Add h three|p", "Clip p zero six|q", "Mul h q|r", "Div r six|a"], "hard_swish"),
    "hard swish by min": (["Add h three|p", "Relu p|q", "Min q six|r", "Mul h r|s", "Div s six|a"], "hard_swish"),
    "softsign": (["Abs h|p", "Add p one|q", "Div h q|a"], "softsign"),
    "softplus by log": (["Exp h|p", "Add p one|q", "Log q|a"], "softplus"),
    "softplus with its threshold": (["Softplus h|p", "Greater h twenty|q", "Where q h p|a"], "softplus"),
    "softplus of two": (["Mul h two|p", "Softplus p|q", "Div q two|a"], "softplus_beta"),
    "softplus of two by log": (["Mul h two|p", "Exp p|q", "Add q one|r", "Log r|s", "Div s two|a"], "softplus_beta"),
    "softplus of two with its threshold": (
        ["Mul h two|p", "Softplus p|q", "Div q two|r", "Greater p twenty|s", "Where s h r|a"],
        "softplus_beta",
    ),
    "log-sigmoid": (["Sigmoid h|p", "Log p|a"], "log_sigmoid"),
    "log-sigmoid by softplus": (["Neg h|p", "Softplus p|q", "Neg q|a"], "log_sigmoid"),
}


def spelled(lines: list[str]) -> list[object]:
    nodes = []
    for line in lines:
        head, out = line.split("|")
        operator, *inputs = head.split()
        nodes.append(node(operator, " ".join(inputs), out))
    return nodes


@pytest.mark.parametrize("kind", [DOUBLE, FLOAT])
@pytest.mark.parametrize("name", FORMULAS)
def test_formulas(tmp_path: Path, name: str, kind: int) -> None:
    lines, expected = FORMULAS[name]
    proto = model(between(*spelled(lines)), {**weights(), **NUMBERS}, kind=kind, opset=18)
    net = check(proto, tmp_path, tolerance=1e-7 if kind == DOUBLE else 1e-5)
    assert [phi.name for phi in net.activations] == [expected]
    assert net.widths == (3, 4, 2)


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        (["Tanh h|p", "Mul h p|a"], "make up no activation that certnet knows"),
        (["Div h two|p", "Erf p|q", "Add q two|r", "Mul h r|a"], "make up no activation"),
        (["Exp h|a"], "begins a formula that is no activation"),
        (["Softplus h|p", "Greater h one|q", "Where q h p|a"], "a choice by cases"),
        (["Pow h two|a"], "no activation"),
        (["Mul h h|p", *[f"Mul {'pqrstuvw'[k]} {'pqrstuvw'[k]}|{'qrstuvwa'[k]}" for k in range(8)]], "too involved"),
        (["Abs h|p", "Div p zero|q", "Mul h q|a"], "divides by zero"),
        (["Abs h|p", "Mul p W|q", "Mul q h|a"], "not one number"),
    ],
)
def test_formulas_that_are_no_activation(tmp_path: Path, lines: list[str], match: str) -> None:
    with pytest.raises(UnsupportedModelError, match=match):
        read(model(between(*spelled(lines)), {**weights(), **NUMBERS}, opset=18), tmp_path)


def normalisation(n: int, mark: str) -> dict[str, np.ndarray]:
    r = np.random.default_rng(7)
    return {f"{mark}{key}": r.uniform(0.5, 2.0, n) * (-1) ** np.arange(n) ** (key != "v") for key in "sbm"} | {
        f"{mark}v": r.uniform(0.5, 2.0, n)
    }


@pytest.mark.parametrize("where", ["before", "behind the matrix", "behind the activation", "at the end"])
@pytest.mark.parametrize("opset", [8, 9, 14, 17])
def test_batch_normalization(tmp_path: Path, where: str, opset: int) -> None:
    def norm(value: str, out: str) -> object:
        return node("BatchNormalization", f"{value} ns nb nm nv", out, epsilon=0.01)

    constants = {**weights(), **normalisation({"before": 3, "at the end": 2}.get(where, 4), "n")}
    relu = node("Relu", "h", "a")
    nodes = {
        "before": [norm("x", "n"), node("Gemm", "n W b", "h", transB=1), *between(relu)[1:]],
        "behind the matrix": between(norm("h", "n"), node("Relu", "n", "a")),
        "behind the activation": between(node("Relu", "h", "r"), norm("r", "a")),
        "at the end": [*between(relu)[:2], node("Gemm", "a V c", "z", transB=1), norm("z", "y")],
    }[where]
    net = check(model(nodes, constants), tmp_path)
    assert net.widths == (3, 4, 2)
    assert read(model(nodes, constants, opset=opset), tmp_path) == net  # what the evaluator does not know before 14


def test_batch_normalization_per_channel(tmp_path: Path) -> None:
    nodes = [node("BatchNormalization", "x ns nb nm nv", "n"), node("Flatten", "n", "f")]
    nodes += [node("Gemm", "f W b", "h", transB=1), *between(node("Relu", "h", "a"))[1:]]
    proto = model(nodes, {**weights(d=12), **normalisation(3, "n")}, shape=("N", 3, 4))
    assert check(proto, tmp_path, 100, 3, 4).n_inputs == 12


def test_batch_normalization_that_is_none(tmp_path: Path) -> None:
    norm = node("BatchNormalization", "h ns nb nm nv", "n")
    nodes, constants = between(norm, node("Relu", "n", "a")), {**weights(), **normalisation(4, "n")}
    with pytest.raises(InvalidInputError, match="variances that are not positive"):
        read(model(nodes, {**constants, "nv": -np.ones(4)}), tmp_path)
    with pytest.raises((UnsupportedModelError, FileFormatError), match="3 channels"):
        read(model(nodes, {**weights(), **normalisation(3, "n")}), tmp_path)
    training = node("BatchNormalization", "h ns nb nm nv", "n i j", training_mode=1)
    with pytest.raises((UnsupportedModelError, FileFormatError), match="training mode"):
        read(model(between(training, node("Relu", "n", "a")), constants), tmp_path)


@pytest.mark.parametrize(
    ("clip", "more", "opset", "expected", "widths"),
    [
        (node("Clip", "h low high", "a"), {"low": 0.0, "high": 6.0}, 13, [Activation("relu6")], (3, 4, 2)),
        (node("Clip", "h", "a", min=0.0, max=6.0), {}, 7, [Activation("relu6")], (3, 4, 2)),
        (node("Clip", "h low high", "a"), {"low": -1.0, "high": 2.0}, 17, [Activation("hardtanh", (-1, 2))], (3, 4, 2)),
        (node("Clip", "h low", "a"), {"low": 0.0}, 13, [Activation("relu")], (3, 4, 2)),
        (node("Clip", "h low", "a"), {"low": 0.5}, 13, [Activation("relu")], (3, 4, 2)),
        (node("Clip", "h", "a", max=0.5), {}, 7, [Activation("relu")], (3, 4, 2)),
        (node("Max", "h low", "a"), {"low": 0.0}, 13, [Activation("relu")], (3, 4, 2)),
        (node("Min", "high h", "a"), {"high": 0.7}, 13, [Activation("relu")], (3, 4, 2)),
    ],
)
def test_clips(
    tmp_path: Path, clip: object, more: dict, opset: int, expected: list[Activation], widths: tuple[int, ...]
) -> None:
    net = check(model(between(clip), {**weights(), **more}, opset=opset), tmp_path)
    assert (list(net.activations), net.widths) == (expected, widths)


def test_a_clip_to_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="values are constant"):
        read(model(between(node("Clip", "h low high", "a")), {**weights(), "low": 2.0, "high": 1.0}), tmp_path)


@pytest.mark.parametrize(("operator", "opset"), [("Softmax", 11), ("Softmax", 17), ("LogSoftmax", 17)])
def test_softmax_is_left_out_and_told(tmp_path: Path, operator: str, opset: int) -> None:
    logits = between(node("Relu", "h", "a"))
    logits[-1].output[0] = "z"
    soft = [*logits, node(operator, "z", "s", axis=1), node("Identity", "s", "y")]
    net = read(model(soft, weights(), opset=opset), tmp_path)
    assert net.about.remarks == (
        f"{'softmax' if operator == 'Softmax' else 'log-softmax'} is left out: the network gives the logits",
    )
    assert net == read(model(between(node("Relu", "h", "a")), weights(), opset=opset), tmp_path)
    with pytest.raises(UnsupportedModelError, match="works on the result of the"):
        read(model([*soft[:-1], node("Relu", "s", "y")], weights(), opset=opset), tmp_path)


@pytest.mark.parametrize("last", ["Relu", "Sigmoid", "Tanh", "Softplus"])
def test_a_last_activation_gets_an_identity_behind_it(tmp_path: Path, last: str) -> None:
    nodes = between(node("Relu", "h", "a"))
    nodes[-1].output[0] = "z"
    net = check(model([*nodes, node(last, "z", "y")], weights()), tmp_path)
    assert net.widths == (3, 4, 2, 2)
    assert np.array_equal(net.weights[-1], np.eye(2))
    scaled = model([*nodes, node(last, "z", "o"), node("Mul", "o k", "y")], {**weights(), "k": [3.0, 5.0]})
    assert np.array_equal(check(scaled, tmp_path).weights[-1], np.diag([3.0, 5.0]))


def test_activations_next_to_each_other(tmp_path: Path) -> None:
    assert check(model(between(node("Relu", "h", "r"), node("Tanh", "r", "a")), weights()), tmp_path).depth == 2
    first = [node("Tanh", "x", "t"), node("Gemm", "t W b", "h", transB=1), *between(node("Relu", "h", "a"))[1:]]
    assert check(model(first, weights()), tmp_path).widths == (3, 3, 4, 2)


@pytest.mark.parametrize(
    ("opset", "squeeze", "more"),
    [
        (11, node("Squeeze", "z", "y", axes=[-1]), {}),
        (17, node("Squeeze", "z k", "y"), {"k": np.array([1])}),
        (17, node("Reshape", "z k", "y"), {"k": np.array([-1])}),
    ],
)
def test_one_output_without_its_dimension(tmp_path: Path, opset: int, squeeze: object, more: dict) -> None:
    nodes = between(node("Relu", "h", "a"))
    nodes[-1].output[0] = "z"
    proto = model([*nodes, squeeze], {**weights(m=1), **more}, opset=opset, out=(None,))
    assert check(proto, tmp_path).n_outputs == 1
    squeeze.output[0] = "s"
    behind = model(
        [*nodes, squeeze, node("Mul", "s two", "y")], {**weights(m=1), **more, "two": 2.0}, opset=opset, out=(None,)
    )
    assert check(behind, tmp_path).n_outputs == 1
    with pytest.raises((UnsupportedModelError, FileFormatError)):
        read(model([*nodes, squeeze], {**weights(m=2), **more}, opset=opset, out=(None,)), tmp_path)


def test_one_sample_at_a_time(tmp_path: Path) -> None:
    w = weights()
    nodes = [node("MatMul", "x A", "p"), node("Add", "p b", "h"), node("Relu", "h", "a"), node("MatMul", "a B", "y")]
    proto = model(nodes, {"A": w["W"].T, "b": w["b"], "B": w["V"].T}, shape=(3,), out=(None,))
    net = check(proto, tmp_path, 3)
    assert (net.widths, net.about.remarks) == ((3, 4, 2), ("the model takes one sample at a time, a vector",))


def test_dropout(tmp_path: Path) -> None:
    for opset, drop, more in (
        (10, node("Dropout", "r", "a", ratio=0.3), {}),
        (17, node("Dropout", "r", "a"), {}),
        (17, node("Dropout", "r ratio mode", "a mask"), {"ratio": np.float64(0.3), "mode": np.array(False)}),
    ):
        proto = model(between(node("Relu", "h", "r"), drop), {**weights(), **more}, opset=opset)
        if "mode" in more:
            with pytest.raises(UnsupportedModelError, match="ONNX type 9"):
                read(proto, tmp_path)
        else:
            check(proto, tmp_path)


def test_view_of_the_size_that_is_asked_for(tmp_path: Path) -> None:
    """``x.view(x.size(0), -1)`` as the older exporter writes it."""
    constants = {**weights(d=12), "zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1])}
    nodes = [node("Shape", "x", "s"), node("Gather", "s zero", "g", axis=0), node("Unsqueeze", "g axes", "u")]
    nodes += [node("Concat", "u rest", "t", axis=0), node("Reshape", "x t", "f")]
    nodes += [node("Gemm", "f W b", "h", transB=1), *between(node("Relu", "h", "a"))[1:]]
    for shape in (("N", 3, 4), (5, 3, 4)):
        assert check(model(nodes, constants, shape=shape), tmp_path, 5, 3, 4).n_inputs == 12
    swapped = [*nodes[:3], node("Concat", "rest u", "t", axis=0), *nodes[4:]]
    with pytest.raises((UnsupportedModelError, FileFormatError), match="provably flattens"):
        read(model(swapped, constants, shape=("N", 3, 4)), tmp_path)


def test_constants_are_computed(tmp_path: Path) -> None:
    w = weights()
    constants = {"w": w["W"].reshape(-1), "shape": np.array([4, 3]), "b": w["b"] / 2, "two": 2.0, "v2": np.full(4, 4.0)}
    constants |= {"V": w["V"], "n": np.array([2]), "axes": np.array([0])}
    nodes = [
        node("Reshape", "w shape", "W0"),
        node("Transpose", "W0", "W1"),
        node("Sqrt", "v2", "root"),
        node("Reciprocal", "root", "r"),
        node("Mul", "W1 two", "W2"),
        node("Mul", "W2 r", "W"),
        node("MatMul", "x W", "p"),
        node("Mul", "b two", "b1"),
        node("Unsqueeze", "b1 axes", "b2"),
        node("Add", "p b2", "h"),
        node("Relu", "h", "a"),
        node("Transpose", "V", "Vt"),
        node("MatMul", "a Vt", "q"),
        node("ConstantOfShape", "n", "c", value=numpy_helper.from_array(np.array([3.0]), "v")),
        node("Add", "q c", "y"),
    ]
    net = check(model(nodes, constants), tmp_path)
    np.testing.assert_allclose(net.weights[0], w["W"])
    assert np.array_equal(net.biases[1], [3.0, 3.0])
    constants["n"] = np.array([1 << 40])
    with pytest.raises((UnsupportedModelError, FileFormatError)):
        read(model(nodes, constants), tmp_path)


@pytest.mark.parametrize(
    ("operator", "match"),
    [
        (node("LayerNormalization", "h k", "a"), "divides every sample by its own deviation"),
        (node("ConvTranspose", "h k", "a"), "of convolutions Conv is read"),
        (node("LpPool", "h", "a", kernel_shape=[2]), "of pooling the average and the maximum are read"),
        (node("ReduceL2", "h", "a"), "of reductions sums, means and maxima"),
        (node("ReduceMean", "h", "a"), "names no axes, so it mixes the samples"),
        (node("Concat", "h h", "a", axis=0), "works along the batch"),
        (node("Split", "h", "a more", axis=0), "works along the batch"),
        (node("GatherElements", "h k", "a"), "takes entries where data say"),
        (node("ArgMax", "h", "a"), "indices or classes"),
        (node("LSTM", "h k k", "a"), "recurrent"),
        (node("QuantizeLinear", "h k", "a"), "quantised"),
        (node("Unsqueeze", "h k", "a"), "no list of whole numbers"),
        (node("Sin", "h", "a"), "no activation that certnet knows"),
    ],
)
def test_every_refusal_says_why(tmp_path: Path, operator: object, match: str) -> None:
    with pytest.raises(UnsupportedModelError, match=match):
        read(model(between(operator), {**weights(), "k": np.ones(4)}), tmp_path)


def test_a_skip_connection(tmp_path: Path) -> None:
    nodes = between(node("Relu", "h", "r"), node("MatMul", "r K", "k"), node("Add", "k h", "a"))
    net = check(model(nodes, {**weights(), "K": np.eye(4)}), tmp_path)
    assert net.layers[1].carried or net.layers[0].carried


def test_tanhshrink_is_a_skip(tmp_path: Path) -> None:
    check(model(between(node("Tanh", "h", "p"), node("Sub", "h p", "a")), weights()), tmp_path)


# what is told, and what is compared ----------------------------------------------------------------------------------


def test_names_of_features_travel(tmp_path: Path) -> None:
    net = FeedForward([np.ones((4, 3)), np.ones((1, 4))], [np.zeros(4), np.zeros(1)], "gelu")
    named = net.described(About(inputs=("age", "größe", "weight")))
    found = load_onnx(save_onnx(named, tmp_path / "a.onnx"))
    assert found.about.inputs == named.about.inputs
    assert found.about.read == "3 → 4 → 1, gelu, from ONNX nodes layer0, layer1"
    assert found == net
    assert load_onnx(save_onnx(net, tmp_path / "b.onnx")).about.inputs == ()
    for value, match in (("[1]", "no list of words"), ('["a"]', "names 1 features"), ("{", "cannot be read")):
        proto = onnx.load(tmp_path / "a.onnx")
        proto.metadata_props[0].value = value
        with pytest.raises(FileFormatError, match=match):
            read(proto, tmp_path)
    proto.metadata_props[0].value = '["a", "a", "b"]'
    with pytest.raises(InvalidInputError, match="two inputs have the name 'a'"):
        read(proto, tmp_path)


def test_what_disagrees_with_the_reference_evaluator_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proto = model(between(node("Relu", "h", "a")), weights(), kind=FLOAT)
    read(proto, tmp_path)
    right = FeedForward.outputs
    monkeypatch.setattr(FeedForward, "outputs", lambda self, x: right(self, x) * 1.001)
    with pytest.raises(UnsupportedModelError, match="reference evaluator differ by"):
        read(proto, tmp_path)
    monkeypatch.setattr("certnet.io.onnx_._MAX_CHECKED", 10)  # larger ones are not evaluated
    read(proto, tmp_path)


# what PyTorch writes -------------------------------------------------------------------------------------------------

LAYERS = ["GELU", "SiLU", "Mish", "SELU", "CELU", "Softsign", "Softplus", "Hardswish", "Hardtanh", "ReLU6", "Tanh"]
LAYERS += ["LogSigmoid", "Hardsigmoid", "ELU", "Dropout", "PReLU", "LeakyReLU", "Sigmoid"]


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_what_torch_exports(tmp_path: Path, name: str, dynamo: bool) -> None:
    torch = pytest.importorskip("torch")
    if dynamo:
        pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    nn = torch.nn
    module = nn.Sequential(
        nn.BatchNorm1d(3), nn.Linear(3, 5), nn.BatchNorm1d(5), getattr(nn, name)(), nn.BatchNorm1d(5), nn.ReLU(),
        nn.Linear(5, 1), nn.Flatten(0),
    )  # fmt: skip
    with torch.no_grad():
        module(torch.randn(64, 3))  # statistics
    module.eval()
    path = tmp_path / "model.onnx"
    x = torch.randn(100, 3)
    batch = {"dynamic_shapes": ({0: torch.export.Dim("N")},)} if dynamo else {"dynamic_axes": {"x": {0: "N"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x[:2],), path, dynamo=dynamo, input_names=["x"], verbose=False, **batch)
    found = load_onnx(path).predict(x.numpy().astype(np.float64))
    np.testing.assert_allclose(found, module(x).detach().numpy(), rtol=1e-5, atol=1e-6)
