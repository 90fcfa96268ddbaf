"""docs/models.md is made here: every kind of model and file is made, read, and compared with its own outputs.

``python tests/test_models_table.py`` writes the page anew.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from certnet.core.errors import CertnetError
from certnet.io import load_model
from certnet.io.advice import ADVICE
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
X = np.random.default_rng(0).normal(size=(100, 3))

Made = tuple[Any, ...]
"""A network as it was read, the values of its source on X, and what stands for X where samples are larger."""


@dataclass(frozen=True)
class Row:
    """A kind of model, how it is made and read, and what happens: "read", a remark, or words of a refusal."""

    group: str
    kind: str
    make: Callable[[Path], Made]
    happens: str = "read"
    needs: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        return self.happens.startswith("refused: ")

    @property
    def words(self) -> str:
        return self.happens.split(": ", 1)[1] if ": " in self.happens else ""


ROWS: list[Row] = []


def row(group: str, kind: str, happens: str = "read", *needs: str) -> Callable[[Callable[[Path], Made]], None]:
    def add(make: Callable[[Path], Made]) -> None:
        ROWS.append(Row(group, kind, make, happens, needs))

    return add


# PyTorch modules -----------------------------------------------------------------------------------------------------

MODULES = "PyTorch modules, `from_torch(module)`"


def of_module(build: Callable[[Any], Any], *, softmax: bool = False) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        import torch

        from certnet.io import from_torch

        torch.manual_seed(0)
        module = build(torch.nn).double()
        with torch.no_grad():
            module(torch.from_numpy(X))  # statistics of BatchNorm
            module.eval()
            expected = (module[:-1] if softmax else module)(torch.from_numpy(X)).numpy()
        return from_torch(module), expected

    return make


def with_activation(name: str, *arguments: Any, **more: Any) -> Callable[[Any], Any]:
    return lambda nn: nn.Sequential(nn.Linear(3, 5), getattr(nn, name)(*arguments, **more), nn.Linear(5, 2))


for _name, _arguments in {
    "ReLU": (), "LeakyReLU": (0.1,), "PReLU": (), "Tanh": (), "Sigmoid": (), "ELU": (0.7,), "SELU": (), "CELU": (0.7,),
    "GELU": (), "SiLU": (), "Mish": (), "Softplus": (), "Softsign": (), "LogSigmoid": (), "ReLU6": (),
    "Hardtanh": (-2.0, 1.0), "Hardswish": (), "Hardsigmoid": (),
}.items():  # fmt: skip
    _spelled = f"{_name}({', '.join(map(str, _arguments))})"
    row(MODULES, f"Linear, {_spelled}, Linear", "read", "torch")(of_module(with_activation(_name, *_arguments)))
row(MODULES, "Linear, GELU(approximate='tanh'), Linear", "read", "torch")(
    of_module(with_activation("GELU", approximate="tanh"))
)
row(MODULES, "Linear, Softplus(beta=2), Linear", "read", "torch")(of_module(with_activation("Softplus", 2.0)))


def sequential(*layers: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda nn: nn.Sequential(*(layer(nn) for layer in layers))


def linear(d: int, h: int) -> Callable[[Any], Any]:
    return lambda nn: nn.Linear(d, h)


def plain(name: str, *arguments: Any) -> Callable[[Any], Any]:
    return lambda nn: getattr(nn, name)(*arguments)


def _cat(*tensors: Any) -> Any:
    import torch

    return torch.cat(tensors, 1)


ENDS = linear(3, 5), linear(5, 2)
for _kind, _build, _happens in (
    ("BatchNorm1d before, between and behind", sequential(plain("BatchNorm1d", 3), ENDS[0], plain("BatchNorm1d", 5),
     plain("ReLU"), plain("BatchNorm1d", 5), ENDS[1], plain("BatchNorm1d", 2)), "read"),
    ("Dropout", sequential(ENDS[0], plain("ReLU"), plain("Dropout", 0.3), ENDS[1]), "read"),
    ("an activation at the end", sequential(ENDS[0], plain("ReLU"), ENDS[1], plain("Sigmoid")), "read"),
    ("LayerNorm", sequential(ENDS[0], plain("LayerNorm", 5), plain("ReLU"), ENDS[1]), "refused: LayerNorm"),
    ("Tanhshrink, x − tanh(x)", sequential(ENDS[0], plain("Tanhshrink"), ENDS[1]), "read: skip"),
    ("Hardshrink", sequential(ENDS[0], plain("Hardshrink"), ENDS[1]), "refused: hardshrink"),
    ("one linear layer", sequential(linear(3, 2)), "refused: hidden layer"),
):  # fmt: skip
    row(MODULES, _kind, _happens, "torch")(of_module(_build))
row(MODULES, "Softmax at the end", "read: softmax is left out", "torch")(
    of_module(sequential(ENDS[0], plain("ReLU"), ENDS[1], plain("Softmax", 1)), softmax=True)
)


def of_images(build: Callable[[Any], Any], *shape: int, example: bool = True) -> Callable[[Path], Made]:
    """A module on samples of a shape, (2, 6, 6) unless another is said."""

    def make(folder: Path) -> Made:
        import torch

        from certnet.io import from_torch

        torch.manual_seed(0)
        module = build(torch.nn).double()
        size = shape or (2, 6, 6)
        images = np.random.default_rng(0).normal(size=(100, *size))
        with torch.no_grad():
            module(torch.from_numpy(images))
            module.eval()
            expected = module(torch.from_numpy(images)).numpy()
        net = from_torch(module, example=torch.from_numpy(images[:2])) if example else from_torch(module)
        return net, expected.reshape(100, -1), images.reshape(100, -1)

    return make


def written(forward: Callable[[Any, Any], Any], **layers: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A module of its own class, with these layers."""

    def build(nn: Any) -> Any:
        module = type("Net", (nn.Module,), {"forward": lambda self, x: forward(self, x)})()
        for name, layer in layers.items():
            setattr(module, name, layer(nn))
        return module

    return build


def conv(*arguments: Any, **more: Any) -> Callable[[Any], Any]:
    return lambda nn: nn.Conv2d(*arguments, **more)


RELU, FLAT = plain("ReLU"), plain("Flatten")
BODY = sequential(conv(2, 3, 3, 2, 1), plain("BatchNorm2d", 3), RELU, conv(3, 3, 3, padding=1), plain("BatchNorm2d", 3))
for _kind, _build, _happens in (
    ("Conv2d with stride, padding, dilation and groups; ReLU, Flatten, Linear", sequential(
        conv(2, 4, 3, stride=2, padding=2, dilation=2, groups=2), RELU, FLAT, linear(36, 2)), "read: convolutions"),
    ("Conv2d, BatchNorm2d, ReLU, AvgPool2d, Flatten, Linear", sequential(conv(2, 3, 3), plain("BatchNorm2d", 3), RELU,
     plain("AvgPool2d", 2), FLAT, linear(12, 2)), "read: convolutions"),
    ("Conv2d, Tanh, MaxPool2d, Flatten, Linear", sequential(conv(2, 3, 3), plain("Tanh"), plain("MaxPool2d", 2), FLAT,
     linear(12, 2)), "read: carried past its activation"),
    ("AdaptiveAvgPool2d, a mean over height and width", written(
        lambda s, x: s.b(s.p(s.a(x).relu()).flatten(1) + s.a(x).tanh().mean((2, 3))), a=conv(2, 3, 3),
        p=plain("AdaptiveAvgPool2d", 1), b=linear(3, 2)), "read"),
    ("a residual block with a 1 × 1 convolution in its skip", written(
        lambda s, x: (s.body(x) + s.skip(x)).relu().flatten(1), body=BODY, skip=conv(2, 3, 1, 2)), "read: skip"),
    ("Conv2d, and its result concatenated with its input, as in DenseNet", written(
        lambda s, x: s.b(_cat(x, s.a(x.relu())).tanh()), a=conv(2, 2, 3, padding=1), b=conv(4, 1, 6)), "read"),
    ("MaxPool2d, Conv2d, Upsample and a skip, as in U-Net", written(
        lambda s, x: s.b(_cat(s.u(s.a(s.p(x)).relu()), x)), p=plain("MaxPool2d", 2), a=conv(2, 2, 3, padding=1),
        u=lambda nn: nn.Upsample(scale_factor=2), b=conv(4, 1, 3)), "read"),
    ("slices, permutations, padding", written(
        lambda s, x: s.a(x[:, :, 1:, ::2].permute(0, 3, 1, 2)).relu(), a=conv(3, 2, 2, padding=1)), "read"),
    ("ConvTranspose2d", sequential(lambda nn: nn.ConvTranspose2d(2, 2, 2), RELU), "refused: transposed convolutions"),
    ("squeeze and excitation, a gate, GLU: products of data", written(
        lambda s, x: x * s.a(x.mean((2, 3), keepdim=True)).sigmoid(), a=conv(2, 2, 1)), "refused: products of data"),
    ("MultiheadAttention", written(lambda s, x: s.a(*[x.flatten(2)] * 3)[0],
     a=lambda nn: nn.MultiheadAttention(36, 2, batch_first=True)), "refused: attention multiplies data by data"),
):  # fmt: skip
    row(MODULES, f"{_kind}, `example=x`", _happens, "torch")(of_images(_build))
row(MODULES, "Conv1d, ReLU, MaxPool1d, `example=x`", "read", "torch")(
    of_images(sequential(lambda nn: nn.Conv1d(2, 3, 3, padding=1), RELU, plain("MaxPool1d", 2)), 2, 8)
)
row(MODULES, "a residual perceptron, Linear(x + Tanh(Linear(x)))", "read: skip", "torch")(
    of_module(written(lambda s, x: s.b(x + s.a(x).tanh()), a=linear(3, 3), b=linear(3, 2)))
)
row(MODULES, "Conv2d without `example`", "refused: pass one batch", "torch")(
    of_images(sequential(conv(2, 3, 3), RELU), example=False)
)


# PyTorch files -------------------------------------------------------------------------------------------------------

FILES = "Files of PyTorch"


def torch_file(suffix: str, save: Callable[[Any, Any, Path], None], **arguments: Any) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        import torch

        torch.manual_seed(0)
        module = with_activation("GELU")(torch.nn).double()
        path = folder / f"model{suffix}"
        save(torch, module, path)
        return load_model(path, **arguments), module(torch.from_numpy(X)).detach().numpy()

    return make


def save_safetensors(torch: Any, module: Any, path: Path) -> None:
    """The format by hand, names sorted as text."""
    header, content = {}, b""
    for name, tensor in sorted(module.state_dict().items()):
        raw = tensor.numpy().tobytes()
        header[name] = {"dtype": "F64", "shape": list(tensor.shape), "data_offsets": [len(content), len(content + raw)]}
        content += raw
    head = json.dumps(header).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + content)


row(FILES, "`.pt`, a state dict, activation said", "read", "torch")(
    torch_file(".pt", lambda torch, m, path: torch.save(m.state_dict(), path), activation="gelu")
)
row(FILES, "`.pt`, a state dict, activation not said", "refused: does not tell the activations", "torch")(
    torch_file(".pt", lambda torch, m, path: torch.save(m.state_dict(), path))
)
row(FILES, "`.ckpt`, a checkpoint with one state dict", "read", "torch")(
    torch_file(
        ".ckpt", lambda torch, m, path: torch.save({"epoch": 3, "state_dict": m.state_dict()}, path), activation="gelu"
    )
)
row(FILES, "`.pth`, a whole module", "refused: holds more than tensors", "torch")(
    torch_file(".pth", lambda torch, m, path: torch.save(m, path), activation="gelu")
)
row(FILES, "`.safetensors`, activation said", "read", "torch")(
    torch_file(".safetensors", save_safetensors, activation="gelu")
)
row(FILES, "`.safetensors`, activation not said", "refused: does not tell the activations", "torch")(
    torch_file(".safetensors", save_safetensors)
)
row(FILES, "`.pt2`, an exported program", "refused: runs code", "torch")(
    torch_file(".pt2", lambda torch, m, path: path.write_bytes(b"PK"))
)


# ONNX ----------------------------------------------------------------------------------------------------------------

ONNX = "ONNX, `load_onnx`"
NUMBERS = {"half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "six": 6.0, "zero": 0.0, "root": 2**0.5, "k": np.ones(4)}


def onnx_model(middle: list[str], *, behind: str = "", drop: int = 0, **attributes: Any) -> Callable[[Path], Made]:
    """Gemm to h, what is spelled ("Operator inputs|output"), Gemm from a; attributes are of the first in between."""

    def make(folder: Path) -> Made:
        import onnx
        from onnx import helper, numpy_helper
        from onnx.reference import ReferenceEvaluator

        r = np.random.default_rng(1)
        w = {"W": r.normal(size=(4, 3)), "b": r.normal(size=4), "V": r.normal(size=(2, 4)), "c": r.normal(size=2)}
        w |= {"K": r.normal(size=(4, 4)), "mean": r.normal(size=4), "var": r.uniform(1.0, 2.0, size=4)}
        nodes = [helper.make_node("Gemm", ["x", "W", "b"], ["h"], transB=1)]
        for k, line in enumerate(middle):
            head, out = line.split("|")
            operator, *inputs = head.split()
            nodes.append(helper.make_node(operator, inputs, out.split(), **({} if k else attributes)))
        nodes.append(helper.make_node("Gemm", ["a", "V", "c"], ["z" if behind else "y"], transB=1))
        if behind:
            nodes.append(helper.make_node(behind, ["z"], ["y"]))
        x = helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, ["N", 3])
        y = helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, [None, None])
        tensors = [numpy_helper.from_array(np.array(value), name) for name, value in {**NUMBERS, **w}.items()]
        graph = helper.make_graph(nodes, "g", [x], [y], tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        path = folder / "model.onnx"
        path.write_bytes(model.SerializeToString())
        net = load_model(path)
        if drop:
            model.graph.output[0].name = "z"
        return net, ReferenceEvaluator(model).run(None, {"x": X})[0]

    return make


for _operator in ("Relu", "Tanh", "Sigmoid", "Softplus", "Elu", "LeakyRelu", "HardSigmoid", "HardSwish", "Selu", "Gelu",
                  "Mish", "Softsign"):  # fmt: skip
    row(ONNX, f"Gemm, {_operator}, Gemm", "read", "onnx")(onnx_model([f"{_operator} h|a"]))
for _kind, _middle, _happens in (
    ("Clip to [0, 6]", ["Clip h zero six|a"], "read"),
    ("BatchNormalization", ["BatchNormalization h k b mean var|n", "Relu n|a"], "read"),
    ("Dropout in inference", ["Relu h|r", "Dropout r|a"], "read"),
    ("GELU as Div, Erf, Add, Mul", ["Div h root|p", "Erf p|q", "Add q one|r", "Mul h r|s", "Mul s half|a"], "read"),
    ("SiLU as Sigmoid, Mul", ["Sigmoid h|p", "Mul h p|a"], "read"),
    ("Mish as Softplus, Tanh, Mul", ["Softplus h|p", "Tanh p|q", "Mul h q|a"], "read"),
    ("Softplus as Exp, Add, Log", ["Exp h|p", "Add p one|q", "Log q|a"], "read"),
    ("Softplus with a beta", ["Mul h two|p", "Softplus p|q", "Div q two|a"], "read"),
    ("Softsign as Abs, Add, Div", ["Abs h|p", "Add p one|q", "Div h q|a"], "read"),
    ("LayerNormalization", ["LayerNormalization h k|a"], "refused: divides every sample by its own deviation"),
    ("a skip connection", ["Relu h|r", "Add r h|s", "Relu s|a"], "read: skip"),
    ("the maximum of two values", ["Tanh h|r", "Max r h|a"], "read: carried"),
    ("a gate, Mul of two values", ["Tanh h|r", "MatMul r K|s", "Mul s h|a"], "refused: goes into 2 operators"),
    ("LSTM", ["LSTM h k k|a"], "refused: recurrent"),
    ("QuantizeLinear", ["QuantizeLinear h k|a"], "refused: quantised"),
    ("ArgMax", ["ArgMax h|a"], "refused: indices or classes"),
    ("Sin", ["Sin h|a"], "refused: no activation that certnet knows"),
):  # fmt: skip
    row(ONNX, _kind, _happens, "onnx")(onnx_model(_middle))


def spelled_node(line: str) -> Any:
    """Of "Operator inputs|output attribute=3 attributes=2,2"; "-" is an input that is left out."""
    from onnx import helper

    head, tail = line.split("|")
    (operator, *inputs), (out, *said) = head.split(), tail.split()
    attributes: dict[str, Any] = {}
    for name, _, value in (pair.partition("=") for pair in said):
        numbers = [int(n) for n in value.split(",")]
        lists = ("strides", "pads", "dilations", "kernel_shape", "perm")
        attributes[name] = numbers if name in lists else numbers[0]
    return helper.make_node(operator, [name.replace("-", "") for name in inputs], [out], **attributes)


def onnx_images(*lines: str) -> Callable[[Path], Made]:
    """Operators on images (2, 6, 6), spelled."""

    def make(folder: Path) -> Made:
        import onnx
        from onnx import helper, numpy_helper
        from onnx.reference import ReferenceEvaluator

        r = np.random.default_rng(1)
        w = {"k": r.normal(size=(2, 2, 3, 3)), "narrow": r.normal(size=(3, 2, 1, 1)), "b": r.normal(size=2)}
        w |= {
            "g": r.normal(size=(2, 1, 3, 3)),
            "var": r.uniform(1.0, 2.0, size=2),
            "twice": np.float32([1.0, 1.0, 2.0, 2.0]),
        }
        w |= {"zeros": np.array([0, 0, 1, 0, 0, 0, 0, 1]), "spots": np.array([2, 3])}
        nodes = [spelled_node(line) for line in lines]
        x = helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, ["N", 2, 6, 6])
        y = helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, [None] * 4)
        tensors = [numpy_helper.from_array(value, name) for name, value in w.items()]
        graph = helper.make_graph(nodes, "g", [x], [y], tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        path = folder / "model.onnx"
        path.write_bytes(model.SerializeToString())
        images = np.random.default_rng(2).normal(size=(100, 2, 6, 6))
        net = load_model(path)
        expected = ReferenceEvaluator(model).run(None, {"x": images})[0]
        return net, expected.reshape(100, -1), images.reshape(100, -1)

    return make


for _kind, _lines, _happens in (
    ("Conv with strides, pads, dilations and group", ["Conv x g b|h strides=2,1 pads=1,2,0,1 dilations=2,1 group=2",
     "Relu h|y"], "read: convolutions"),
    ("Conv, BatchNormalization, Relu and Add, a residual block with Conv 1 × 1 in its skip", [
     "Conv x k|c pads=1,1,1,1", "BatchNormalization c b b b var|n", "Relu n|r", "Conv r k|d strides=2,2 pads=1,1,1,1",
     "BatchNormalization d b b b var|m", "Conv x k|s strides=2,2 pads=1,1,1,1", "Add m s|t", "Relu t|y"], "read: skip"),
    ("AveragePool, GlobalAveragePool, ReduceMean", ["Relu x|r", "AveragePool r|p kernel_shape=2,2 pads=1,1,0,0",
     "GlobalAveragePool p|q", "ReduceMean r spots|m", "Add q m|y"], "read"),
    ("MaxPool", ["Conv x k|c", "MaxPool c|y kernel_shape=3,3 strides=1,1"], "read: carried past its activation"),
    ("Concat along the channels, as in DenseNet", ["Conv x k|c pads=1,1,1,1", "Relu c|r", "Concat x r|t axis=1",
     "Relu t|y"], "read: skip"),
    ("MaxPool, Resize by 'nearest' and Concat, as in U-Net", ["Conv x k|c pads=1,1,1,1", "Relu c|r",
     "MaxPool r|p kernel_shape=2,2 strides=2,2", "Resize p - twice|u", "Concat u x|y axis=1"], "read: skip"),
    ("Transpose, Pad and other moves of entries", ["Transpose x|t perm=0,1,3,2", "Pad t zeros|p",
     "Conv p narrow|c", "Tanh c|y"], "read: convolutions"),
    ("ConvTranspose", ["ConvTranspose x k|c", "Relu c|y"], "refused: upsample the image, and convolve it"),
    ("pooling with ceil_mode", ["MaxPool x|y kernel_shape=2,2 strides=2,2 ceil_mode=1"], "refused: without ceil_mode"),
    ("squeeze and excitation, Mul of two values", ["GlobalAveragePool x|p", "Sigmoid p|s", "Mul x s|y"],
     "refused: has no bounded slope"),
    ("MatMul of two values, as in attention", ["Transpose x|t perm=0,1,3,2", "MatMul x t|y"],
     "refused: multiplies data by data"),
    ("InstanceNormalization", ["InstanceNormalization x b b|n", "Relu n|y"], "refused: its own deviation"),
):  # fmt: skip
    row(ONNX, _kind, _happens, "onnx")(onnx_images(*_lines))
row(ONNX, "an activation at the end", "read", "onnx")(onnx_model(["Relu h|a"], behind="Tanh"))
row(ONNX, "Softmax at the end", "read: softmax is left out", "onnx")(onnx_model(["Relu h|a"], behind="Softmax", drop=1))


# scikit-learn --------------------------------------------------------------------------------------------------------

SKLEARN = "scikit-learn, `from_sklearn(model)`"


def sklearn_model(*steps: str, last: str = "MLPRegressor") -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        from sklearn import decomposition, ensemble, neural_network, pipeline, preprocessing

        from certnet.io import from_sklearn

        modules = (preprocessing, decomposition, neural_network, ensemble)
        found = [next(getattr(m, name) for m in modules if hasattr(m, name)) for name in (*steps, last)]
        options = {"hidden_layer_sizes": (6, 5), "max_iter": 20, "random_state": 0} if last.startswith("MLP") else {}
        model = pipeline.make_pipeline(*(step() for step in found[:-1]), found[-1](**options))
        y = X[:, 0] > 0 if last.endswith("Classifier") else np.sin(X[:, 0]) + X[:, 1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, y)
        network = from_sklearn(model)
        if last == "MLPClassifier":
            p = model.predict_proba(X)[:, 1]
            return network, np.log(p / (1.0 - p))
        return network, model.predict(X)

    return make


for _steps in ((), ("StandardScaler",), ("MinMaxScaler",), ("RobustScaler",), ("MaxAbsScaler",), ("PCA",)):
    row(SKLEARN, ", ".join((*_steps, "MLPRegressor")))(sklearn_model(*_steps))
row(SKLEARN, "PolynomialFeatures, MLPRegressor", "refused: PolynomialFeatures")(sklearn_model("PolynomialFeatures"))
row(SKLEARN, "RandomForestRegressor", "refused: RandomForestRegressor")(sklearn_model(last="RandomForestRegressor"))


# Keras, files that it wrote -------------------------------------------------------------------------------------------

KERAS = "Keras"
KERAS_MODELS = Path(__file__).parent / "keras_models"


def of_keras(name: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        with np.load(KERAS_MODELS / "answers.npz") as answers:
            expected = answers["three_y"]
        return load_model(KERAS_MODELS / name), expected

    return make


row(KERAS, "`.keras`: Dense, BatchNormalization, LeakyReLU, Dense", "read", "h5py")(of_keras("three.keras"))
row(KERAS, "`.keras` with Add of two paths", "refused: two paths of the data meet", "h5py")(of_keras("residual.keras"))

# arrays, nnet, mat ---------------------------------------------------------------------------------------------------

ARRAYS = "Files of arrays, `load_model`"
NET = FeedForward(
    [np.random.default_rng(k).normal(size=s) for k, s in enumerate([(5, 3), (4, 5), (2, 4)])],
    [np.random.default_rng(9).normal(size=n) for n in (5, 4, 2)],
    "tanh",
)
BARE = FeedForward(NET.weights, [np.zeros(len(b)) for b in NET.biases], "tanh")


def npz(net: FeedForward, arrays: dict[str, Any], **arguments: Any) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        np.savez(folder / "model.npz", **arrays)
        return load_model(folder / "model.npz", **arguments), net.forward(X)

    return make


def listed(weight: str, bias: str = "", *, turned: bool = False) -> dict[str, Any]:
    ws = {weight.format(k): W.T if turned else W for k, W in enumerate(NET.weights, 1)}
    return ws | ({bias.format(k): b for k, b in enumerate(NET.biases, 1)} if bias else {})


@row(ARRAYS, "`.npz` of a network's `save`")
def _(folder: Path) -> Made:
    return load_model(NET.save(folder / "model.npz")), NET.forward(X)


row(ARRAYS, "`.npz` with W1, b1, W2, …, activation said")(npz(NET, listed("W{}", "b{}"), activation="tanh"))
row(ARRAYS, "`.npz` with w1, w2, …, without biases", "read: the file has no biases")(
    npz(BARE, listed("w{}"), activation="tanh")
)
row(ARRAYS, "`.npz` with matrices (inputs, outputs)", "read: stored as (inputs, outputs)")(
    npz(NET, listed("W{}", "b{}", turned=True), activation="tanh")
)
row(ARRAYS, "`.npz` with arr_0, arr_1, …")(
    npz(NET, {f"arr_{k}": a for k, a in enumerate(a for pair in zip(NET.weights, NET.biases) for a in pair)},
        activation="tanh")
)  # fmt: skip
row(ARRAYS, "`.npz` with W1, b1, W2, …, activation not said", "refused: does not say the activations")(
    npz(NET, listed("W{}", "b{}"))
)
row(ARRAYS, "`.npz` with square matrices alone", "refused: fit as (outputs, inputs) and as (inputs, outputs)")(
    npz(NET, {"W1": np.eye(3), "W2": np.eye(3)}, activation="relu")
)


@row(ARRAYS, "`.nnet`", "read: scaling is folded in")
def _(folder: Path) -> Made:
    path = folder / "model.nnet"
    mean, spread, (mu, r) = np.array([1.0, -2.0, 0.5]), np.array([2.0, 3.0, 0.25]), (7.0, 40.0)
    lines = ["// made by a test", "3,3,2,5,", "3,5,4,2,", "0,", "-9,-9,-9,", "9,9,9,"]
    lines += [",".join(map(repr, map(float, (*mean, mu)))) + ",", ",".join(map(repr, map(float, (*spread, r)))) + ","]
    for W, b in zip(NET.weights, NET.biases):
        lines += [",".join(map(repr, row.tolist())) + "," for row in W] + [f"{entry!r}," for entry in b.tolist()]
    path.write_text("\n".join(lines))
    inner = FeedForward(NET.weights, NET.biases, "relu")
    return load_model(path), r * inner.forward((X - mean) / spread) + mu


def mat(
    net: FeedForward, cells: dict[str, Any], *, compressed: bool = False, **arguments: Any
) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        import scipy.io

        arrays = {}
        for name, parts in cells.items():
            arrays[name] = np.empty((1, len(parts)), dtype=object)
            for k, part in enumerate(parts):
                arrays[name][0, k] = part
        scipy.io.savemat(folder / "model.mat", arrays, do_compression=compressed)
        return load_model(folder / "model.mat", **arguments), net.forward(X)

    return make


row(ARRAYS, "`.mat` of LipSDP, a cell array weights", "read: the file has no biases")(
    mat(BARE, {"weights": NET.weights}, activation="tanh")
)
row(ARRAYS, "`.mat` with weights and biases, compressed")(
    mat(NET, {"weights": NET.weights, "biases": [b[:, None] for b in NET.biases]}, compressed=True, activation="tanh")
)
row(ARRAYS, "`.mat`, activation not said", "refused: does not say the activations")(mat(NET, {"weights": NET.weights}))


@row(ARRAYS, "`.mat` of MATLAB 7.3", "refused: save it with save('-v7', ...)")
def _(folder: Path) -> Made:
    (folder / "model.mat").write_bytes(b"MATLAB 7.3 MAT-file" + bytes(200))
    return load_model(folder / "model.mat", activation="relu"), None


# other suffixes ------------------------------------------------------------------------------------------------------

OTHERS = "Other files"


def other(suffix: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        path = folder / f"model{suffix}"
        path.write_bytes(b"something")
        return load_model(path), None

    return make


for _sentence in dict.fromkeys(ADVICE.values()):
    _suffixes = [suffix for suffix, sentence in ADVICE.items() if sentence == _sentence]
    row(OTHERS, ", ".join(f"`{suffix}`" for suffix in _suffixes), f"refused: {_sentence}")(other(_suffixes[0]))


# the tests -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.kind)
def test_every_row_happens_as_the_page_says(tmp_path: Path, case: Row) -> None:
    for package in case.needs:
        pytest.importorskip(package)
    if case.refused:
        with pytest.raises(CertnetError) as caught:
            case.make(tmp_path)
        assert case.words in str(caught.value)
        return
    network, expected, *given = case.make(tmp_path)
    found = network.forward(given[0] if given else X)
    expected = np.asarray(expected).reshape(found.shape)
    rounded = any(
        phi in (Activation("selu"), Activation("gelu"), Activation("hard_swish")) for phi in network.activations
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.max(np.abs(expected)) * (1 + rounded))
    assert not case.words or any(case.words in remark for remark in network.about.remarks)


@pytest.mark.parametrize("suffix", ADVICE)
def test_every_known_suffix_gets_its_sentence(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(CertnetError) as caught:
        other(suffix)(tmp_path)
    assert ADVICE[suffix] in str(caught.value)


HEAD = """# Which models and files are read

Every line below is made by `tests/test_models_table.py`, read, and compared with what its source gives on 100 random
inputs (1e-6 relative). *Read* means that the network is that function in real arithmetic; what else a user should
know of the reading is printed, and stands in `network.about.remarks`. Nothing that a file does not say is assumed:
activations of a list of matrices are asked for (`activation=`, `--activation`), and so is the order of layers where
names and shapes leave a doubt (`layers=`, `--layer`). A model that is refused is refused with the reason; the words in
the table are part of the message.
"""


def page() -> str:
    lines = [HEAD]
    for group in dict.fromkeys(case.group for case in ROWS):
        lines += [f"\n## {group}\n", "| Model or file | What happens |", "|---|---|"]
        for case in ROWS:
            if case.group == group:
                kind, happens = (text.replace("|", "\\|") for text in (case.kind, case.happens))
                lines.append(f"| {kind} | {happens} |")
    return "\n".join(lines) + "\n"


def test_the_page_is_this_table() -> None:
    assert len(ROWS) >= 60
    assert PAGE.read_text(encoding="utf-8") == page(), "python tests/test_models_table.py writes it anew"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        for case in ROWS:
            if all(importlib.util.find_spec(package) for package in case.needs):
                try:
                    test_every_row_happens_as_the_page_says(Path(name), case)
                except (AssertionError, CertnetError, Exception) as error:  # noqa: BLE001
                    print(case.kind, type(error).__name__, str(error)[:300])  # noqa: T201
