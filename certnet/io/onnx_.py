"""Networks from and to ONNX files, read by an own reader that trusts nothing in the file."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from certnet._version import __version__
from certnet.core.errors import (
    FileFormatError,
    InvalidInputError,
    MissingDependencyError,
    OutputError,
    UnsupportedModelError,
)
from certnet.core.files import check_writable, write_atomic
from certnet.io.onnx_graph import OPERATORS, SUPPORTED, Graph, Node, layers_of
from certnet.io.onnx_tensors import FLOAT_TYPES, ExternalData, read_tensor
from certnet.io.paths import readable_file
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork

__all__ = ["load_onnx", "save_onnx"]

_MAX_BYTES = 2 << 30
_MAX_NODES: Final = 10_000
_OPSETS: Final = {"": range(7, 29), "ai.onnx.ml": range(1, 7)}
"""Versions of the operators between which what is read here means the same; 7 is that of NumPy's broadcasting."""
_WRITTEN_OPSET: Final = 17
_WRITTEN_IR: Final = 8
_PLAIN: Final = {
    "relu": "Relu",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "identity": "Identity",
}


def load_onnx(path: str | os.PathLike[str], *, units: str = "as given") -> FeedForward:
    """The network ``f(x) = W_ℓ φ_ℓ(… φ_1(W_0 x + b_0) …) + b_ℓ`` of an ONNX file.

    Read are chains of Gemm, MatMul, Add, Sub, Mul, Div, Scaler (of ai.onnx.ml), the activations Relu, LeakyRelu,
    PRelu (one slope), Tanh, Sigmoid, Softplus, Elu, HardSigmoid, Identity, and Flatten, Reshape and Cast where they
    leave every sample's features as they are: what PyTorch exports of a sequence, and skl2onnx of an ``MLPRegressor``
    with or without a ``StandardScaler``. Affine operators between two activations become one layer; an Identity
    between two matrices counts as an activation. Inputs of several dimensions are flattened in row-major order.

    Parameters
    ----------
    path : path-like
        At most 2 GiB, external data (from files in the same folder) included. Nothing in the file is executed.
    units : {"as given", "standardised", "raw"}
        What the model's inputs and outputs are measured in; the file does not say.

    Returns
    -------
    FeedForward
        Weights in float64. Those of Gemm, or of MatMul and Add, in float16, bfloat16, float32 or float64 are
        represented exactly; what is folded (scalers, alpha and beta other than 1, layers without activation between
        them) is rounded to float64. Parameters of activations are the float32 numbers in the file. The network is the
        real-arithmetic function of the file: casts to a shorter float are rounding, not part of it.

    Raises
    ------
    FileFormatError
        The file is missing, a folder, empty, truncated, too large, no valid ONNX model, of versions that certnet does
        not know, or has tensors whose sizes do not fit.
    UnsupportedModelError
        Another operator (the message names it and its node), a graph that is no chain with one input and one output,
        no hidden layer, an activation at the end.
    InvalidInputError
        Weights that are NaN or infinite, unknown ``units``.
    MissingDependencyError
        The package onnx is not installed.
    """
    source = readable_file(path)
    try:
        if source.stat().st_size > _MAX_BYTES:
            raise FileFormatError(f"it is larger than {_MAX_BYTES / 2**30:.3g} GiB, the most that certnet reads")
        model = _parse(source)
        graph = _graph(model, ExternalData(source.parent, _MAX_BYTES - source.stat().st_size))
        _check(model, shapes=False)
        weights, biases, activations = layers_of(graph)
        _check(model, shapes=True)  # last, for its messages say less
        return FeedForward(weights, biases, activations, units=units)
    except (FileFormatError, UnsupportedModelError, InvalidInputError) as error:
        raise type(error)(f"{source}: {error}") from error


def save_onnx(network: ShallowNetwork | FeedForward, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write ``network`` as an ONNX model in double precision, complete or not at all; :func:`load_onnx` reads it back.

    One Gemm and one activation per layer (opset 17, IR version 8); weights are written bit for bit. The attributes of
    ONNX are float32: slopes of leaky ReLU and parameters of the hard sigmoid that float32 does not hold are written as
    double tensors (PRelu; Mul and Add before HardSigmoid). The file does not say in what units the network is.

    Raises
    ------
    UnsupportedModelError
        An activation given by its slopes alone; an ELU whose alpha is no float32 number; more than 2 GiB.
    OutputError
        The file exists (and ``force`` is false) or cannot be written.
    MissingDependencyError
        The package onnx is not installed.
    """
    check_writable(path, force=force)
    onnx = _import_onnx()
    net = FeedForward.of(network)
    if 8 * sum(array.size for array in (*net.weights, *net.biases)) > _MAX_BYTES - (1 << 20):
        raise UnsupportedModelError("an ONNX file holds at most 2 GiB: save this network as .npz")
    model = _model(onnx, net)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise OutputError(f"the onnx package refuses the model that was made: {_first_line(error)}") from error
    return write_atomic(path, model.SerializeToString(deterministic=True), force=force)


def _import_onnx() -> Any:
    if importlib.util.find_spec("onnx") is None:
        raise MissingDependencyError('the package onnx is not installed: pip install "certnet[onnx]"')
    import onnx
    import onnx.checker
    import onnx.helper
    import onnx.numpy_helper

    return onnx


# reading -------------------------------------------------------------------------------------------------------------


def _parse(source: Path) -> Any:
    """The message in a file, without external data, its versions looked at."""
    onnx = _import_onnx()
    try:
        content = source.read_bytes()
    except OSError as error:
        raise FileFormatError(f"it cannot be read: {error.strerror or error}") from error
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        # a parser of untrusted bytes may fail in any way
        raise FileFormatError(
            f"it is no ONNX model ({type(error).__name__}): truncated, or of another format"
        ) from error
    if not model.HasField("graph") or not model.ir_version:
        raise FileFormatError("it is no ONNX model, or a truncated one: it has no graph or no version")
    if model.ir_version < 3:
        raise FileFormatError(f"its IR version is {model.ir_version}: certnet reads 3 and later, export it anew")
    for opset in model.opset_import:
        known = _OPSETS.get(_domain(opset.domain))
        if known is not None and opset.version not in known:
            raise FileFormatError(
                f"it uses opset {opset.version} of {opset.domain or 'ai.onnx'}: certnet reads {known.start} to "
                f"{known.stop - 1}; convert it with onnx.version_converter"
            )
    return model


def _graph(model: Any, external: ExternalData) -> Graph:
    """The graph as plain data: operators looked up in the white list, then tensors read."""
    graph = model.graph
    if len(graph.node) > _MAX_NODES:
        raise UnsupportedModelError(f"it has {len(graph.node)} nodes, more than {_MAX_NODES}; {SUPPORTED}")
    for index, node in enumerate(graph.node):
        if (_domain(node.domain), node.op_type) not in OPERATORS:
            named = f"{node.domain[:80]}.{node.op_type[:80]}" if _domain(node.domain) else node.op_type[:80]
            raise UnsupportedModelError(
                f"node {index} {node.name[:80]!r} is the operator {named}, which is not supported; {SUPPORTED}"
            )
    if len(model.functions) or len(graph.sparse_initializer):
        raise UnsupportedModelError("it has local functions or sparse tensors: export it without them")
    constants = {
        tensor.name: read_tensor(tensor, f"the tensor {tensor.name[:80]!r}", external) for tensor in graph.initializer
    }
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise UnsupportedModelError(
            f"it has {len(inputs)} inputs and {len(graph.output)} outputs: certnet reads models with one of each"
        )
    nodes = tuple(_node(index, node, external) for index, node in enumerate(graph.node))
    return Graph(inputs[0].name, _shape(inputs[0]), graph.output[0].name, constants, nodes)


def _node(index: int, node: Any, external: ExternalData) -> Node:
    where = f"node {index} {node.name[:80]!r} ({node.op_type})"
    if len(node.output) != 1 or (not node.input and node.op_type != "Constant"):
        raise FileFormatError(f"{where} has {len(node.input)} inputs and {len(node.output)} outputs")
    attributes = {a.name: _attribute(a, f"{where}, attribute {a.name[:80]!r}", external) for a in node.attribute}
    return Node(index, node.name, node.op_type, tuple(node.input), node.output[0], attributes)


def _attribute(attribute: Any, where: str, external: ExternalData) -> Any:
    # AttributeProto.AttributeType of the ONNX IR specification
    match attribute.type:
        case 1:
            return attribute.f
        case 2:
            return attribute.i
        case 3:
            return attribute.s
        case 4:
            return read_tensor(attribute.t, where, external)
        case 6:
            return tuple(attribute.floats)
        case 7:
            return tuple(attribute.ints)
    raise UnsupportedModelError(f"{where} is of a type that certnet does not read ({attribute.type})")


def _shape(value: Any) -> tuple[int | None, ...]:
    """The dimensions of the graph's input; None where they are open."""
    tensor = value.type.tensor_type
    if tensor.elem_type not in FLOAT_TYPES:
        raise UnsupportedModelError(
            f"the input {value.name[:80]!r} is no tensor of floats: export the model for float or double inputs"
        )
    if not tensor.HasField("shape"):
        raise UnsupportedModelError(f"the input {value.name[:80]!r} has no shape: export the model with one, [N, d]")
    sizes = [int(n.dim_value) if n.HasField("dim_value") else None for n in tensor.shape.dim]
    return tuple(n if n is not None and n > 0 else None for n in sizes)


def _check(model: Any, *, shapes: bool) -> None:
    """The onnx package's own check, of types and shapes on request; the sizes of all tensors are known to be right."""
    onnx = _import_onnx()
    try:
        onnx.checker.check_model(model, full_check=shapes)
    except Exception as error:
        raise FileFormatError(f"it is no valid ONNX model: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


# writing -------------------------------------------------------------------------------------------------------------


def _model(onnx: Any, net: FeedForward) -> Any:
    nodes, tensors = [], []
    value = "x"
    for k, (W, b) in enumerate(zip(net.weights, net.biases)):
        names = [f"W{k}", f"b{k}"]
        tensors += [_tensor(onnx, W, names[0]), _tensor(onnx, b, names[1])]
        last = k == net.depth
        out = "y" if last else f"z{k}"
        nodes.append(onnx.helper.make_node("Gemm", [value, *names], [out], f"layer{k}", transB=1))
        if not last:
            for operator, constants, attributes in _operators(net.activations[k]):
                inputs = [out]
                for array in constants:
                    inputs.append(f"c{len(tensors)}")
                    tensors.append(_tensor(onnx, np.array(array), inputs[-1]))
                out = f"v{len(nodes)}"
                nodes.append(onnx.helper.make_node(operator, inputs, [out], f"{operator}{k}", **attributes))
        value = out
    double = onnx.TensorProto.DOUBLE
    graph = onnx.helper.make_graph(
        nodes,
        "certnet",
        [onnx.helper.make_tensor_value_info("x", double, ["N", net.n_inputs])],
        [onnx.helper.make_tensor_value_info("y", double, ["N", net.n_outputs])],
        tensors,
    )
    return onnx.helper.make_model(
        graph,
        ir_version=_WRITTEN_IR,
        opset_imports=[onnx.helper.make_opsetid("", _WRITTEN_OPSET)],
        producer_name="certnet",
        producer_version=__version__,
    )


def _operators(phi: Activation) -> Iterator[tuple[str, tuple[float, ...], dict[str, float]]]:
    """Operators that make up φ exactly: type, constants as further inputs, attributes."""
    with np.errstate(over="ignore"):
        exact = all(float(np.float32(p)) == p for p in phi.parameters)
    if phi.name in _PLAIN:
        yield _PLAIN[phi.name], (), {}
    elif phi.name == "leaky_relu" and exact:
        yield "LeakyRelu", (), {"alpha": phi.parameters[0]}
    elif phi.name == "leaky_relu":
        yield "PRelu", (phi.parameters[0],), {}
    elif phi.name == "hard_sigmoid" and exact:
        yield "HardSigmoid", (), dict(zip(("alpha", "beta"), phi.parameters))
    elif phi.name == "hard_sigmoid":
        yield "Mul", (phi.parameters[0],), {}
        yield "Add", (phi.parameters[1],), {}
        yield "HardSigmoid", (), {"alpha": 1.0, "beta": 0.0}
    elif phi.name == "elu" and exact:
        yield "Elu", (), {"alpha": phi.parameters[0]}
    else:
        raise UnsupportedModelError(
            f"the activation {phi} cannot be written to ONNX: slopes alone are no function, and alpha of ELU is a "
            "float32 number there (round it: float(numpy.float32(alpha))); save the network as .npz"
        )


def _tensor(onnx: Any, array: NDArray[Any], name: str) -> Any:
    return onnx.numpy_helper.from_array(np.ascontiguousarray(array, dtype=np.float64), name)
