"""Networks from and to ONNX files, read by an own reader that trusts nothing in the file."""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import os
import warnings
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
from certnet.io.networks import require_dense, structure, summary
from certnet.io.onnx_graph import MORE_OUTPUTS, OPERATORS, SUPPORTED, Graph, Layers, Node, Paths, read_graph
from certnet.io.onnx_refused import reason
from certnet.io.onnx_tensors import FLOAT_TYPES, ExternalData, read_tensor
from certnet.io.onnx_written import ROUNDED, START, operators
from certnet.io.paths import readable_file
from certnet.networks.about import About
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork

__all__ = ["load_onnx", "save_onnx"]

_MAX_BYTES = 2 << 30
_MAX_NODES: Final = 10_000
_OPSETS: Final = {"": range(7, 29), "ai.onnx.ml": range(1, 7)}
"""Versions of the operators between which what is read here means the same; 7 is that of NumPy's broadcasting."""
_WRITTEN_OPSET: Final = 17
_WRITTEN_IR: Final = 8
_INPUT_NAMES: Final = "certnet_inputs"
"""Key of the metadata that holds the names of the features, a JSON list of strings."""
_MAX_NAMES_BYTES: Final = 16 << 20
_MAX_CHECKED: Final = 5_000_000
"""Networks with more weights are not evaluated a second time."""
_SAMPLES: Final = 16
_SECONDS: Final = 2.0
"""What the evaluation may take for networks with convolutions or skips, about."""
_FLOAT, _DOUBLE = 1, 11  # TensorProto.DataType
_STRING: Final = 3  # AttributeProto.AttributeType
logger: logging.Logger = logging.getLogger(__name__)


def load_onnx(path: str | os.PathLike[str], *, units: str = "as given") -> FeedForward:
    """The network ``f(x) = A_ℓ φ_ℓ(… φ_1(A_0 x + b_0) …) + b_ℓ`` of an ONNX file.

    Read are chains of Gemm, MatMul, Add, Sub, Mul, Div, Neg, BatchNormalization, Scaler (of ai.onnx.ml), the
    activations Relu, LeakyRelu, PRelu, Clip, Tanh, Sigmoid, Softplus, Elu, Selu, Celu, HardSigmoid, HardSwish, Gelu,
    Mish, Softsign, Identity, those that exporters write as formulas (GELU with Erf or Tanh, SiLU, Mish, hard swish,
    Softsign, Softplus, log-sigmoid), Dropout, and Flatten, Reshape, Squeeze and Cast where they leave every sample's
    features as they are. Affine operators between two activations become one layer; an Identity between two matrices
    counts as an activation; an activation at the end, or next to another, gets an identity matrix behind or before it.

    Where the graph is no such chain, images and paths that meet are read too: Conv on signals and images, AveragePool,
    MaxPool (as ``max(a, b) = b + relu(a − b)``, exactly), means, sums and maxima over axes of a sample, sums, maxima
    and concatenations of several values, Transpose, Slice, Split, Gather, Pad, Resize by 'nearest' with whole factors,
    DepthToSpace. Layers then have operators with structure, and carry units past their activation
    (:mod:`certnet.networks.operators`). Products of data with data (gates, attention) are refused.

    A softmax at the end is left out. Inputs of several dimensions are flattened in row-major order; an input of one
    dimension is one sample. What was read stands in ``about``, and names of features are read where :func:`save_onnx`
    wrote them. The network is compared with onnx's reference evaluator on random inputs.

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
        Another operator (the message names it and its node), or one used in a way that has no bounded slope; several
        inputs or outputs, images of open size, no hidden layer; values or products beyond the limits of
        :mod:`certnet.io.onnx_walk`; the reference evaluator gives other values.
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
        content = model.SerializeToString()
        _check(content, shapes=False)
        found = read_graph(graph)
        _check(content, shapes=True)  # last, for its messages say less
        network = found.network(units)
        network = network.described(_about(network, found, model))
        _compare(network, found, model, graph.shape)
        return network
    except (FileFormatError, UnsupportedModelError, InvalidInputError) as error:
        raise type(error)(f"{source}: {error}") from error


def save_onnx(network: ShallowNetwork | FeedForward, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write ``network`` as an ONNX model in double precision, complete or not at all; :func:`load_onnx` reads it back.

    One Gemm and one activation per layer (opset 17, IR version 8); weights are written bit for bit. The attributes of
    ONNX are float32: slopes of leaky ReLU and parameters of the hard sigmoid that float32 does not hold are written as
    double tensors (PRelu; Mul and Add before HardSigmoid); what has no operator in opset 17 is written as a formula.
    Names of the features go to the metadata ("certnet_inputs"). The file does not say in what units the network is.

    Raises
    ------
    UnsupportedModelError
        Convolutions or skips; an activation given by its slopes alone; an ELU whose alpha is no float32 number; more
        than 2 GiB.
    OutputError
        The file exists (and ``force`` is false) or cannot be written.
    MissingDependencyError
        The package onnx is not installed.
    """
    check_writable(path, force=force)
    onnx = _import_onnx()
    require_dense(network, "what save_onnx writes")
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
                f"node {index} {node.name[:80]!r} is the operator {named}, which is not supported"
                f"{reason(node.op_type)}; {SUPPORTED}"
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
    name = node.name if isinstance(node.name, str) else repr(node.name)  # bytes where they are no UTF-8
    where = f"node {index} {name[:80]!r} ({node.op_type})"
    several = len(node.output) > 1 and node.op_type not in MORE_OUTPUTS
    if not node.output or not node.output[0] or several or (not node.input and node.op_type != "Constant"):
        raise FileFormatError(f"{where} has {len(node.input)} inputs and {len(node.output)} outputs")
    attributes = {a.name: _attribute(a, f"{where}, attribute {a.name[:80]!r}", external) for a in node.attribute}
    return Node(index, name, node.op_type, tuple(node.input), node.output[0], attributes, tuple(node.output[1:]))


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


def _check(content: bytes, *, shapes: bool) -> None:
    """The onnx package's own check, of types and shapes on request; the sizes of all tensors are known to be right."""
    onnx = _import_onnx()
    try:
        onnx.checker.check_model(content, full_check=shapes)
    except Exception as error:
        raise FileFormatError(f"it is no valid ONNX model: {_first_line(error)}") from error


def _about(network: FeedForward, found: Layers | Paths, model: Any) -> About:
    names = found.nodes if len(found.nodes) <= 6 else (*found.nodes[:3], "…", found.nodes[-1])
    read = f"{summary(network)}, from ONNX nodes {', '.join(names)}"
    remarks = [*structure(network), *found.remarks]
    if isinstance(found, Paths) and (not _samples(network, found) or _misjudged(model)):
        why = "reads some operators in it otherwise" if _misjudged(model) else "would take long"
        remarks.append(f"it was not compared with onnx's reference evaluator, which {why}")
    return About(read, _input_names(model, network.n_inputs), (), tuple(remarks))


def _input_names(model: Any, n_inputs: int) -> tuple[str, ...]:
    """Names of the features in the metadata; none where there are none."""
    written = [entry.value for entry in model.metadata_props if entry.key == _INPUT_NAMES]
    if not written:
        return ()
    try:
        if len(written) > 1 or len(written[0]) > _MAX_NAMES_BYTES:
            raise ValueError("they are written twice, or too long")
        names = json.loads(written[0])
        if not isinstance(names, list) or not all(isinstance(name, str) and len(name) <= 1000 for name in names):
            raise ValueError("they are no list of words")
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"the names of its features ({_INPUT_NAMES}) cannot be read: {error}") from error
    if len(names) != n_inputs:
        raise FileFormatError(f"it names {len(names)} features ({_INPUT_NAMES}), and takes {n_inputs} inputs")
    return tuple(names)


def _compare(network: FeedForward, read: Layers | Paths, model: Any, shape: tuple[int | None, ...]) -> None:
    """The network against onnx's reference evaluator on random inputs; changes the model.

    Fewer inputs are taken where one takes the evaluator long, and none where :data:`_SECONDS` are not enough for one.

    Raises
    ------
    UnsupportedModelError
        They do not agree within the rounding of the model's type.
    """
    expected = None
    if (samples := _samples(network, read)) > 0:
        expected = _evaluated(model, read.value, network.n_inputs, shape, samples)
    if expected is None:
        return
    X, Y = expected
    with np.errstate(all="ignore"):
        found = network.outputs(X)
        kind = model.graph.input[0].type.tensor_type.elem_type
        if kind == _DOUBLE and any(phi.name in ROUNDED for phi in network.activations):
            kind = _FLOAT
        unit, share = {_FLOAT: (1e-7, 1e-5), _DOUBLE: (1e-15, 1e-9)}.get(kind, (1e-2, 2e-2))
        if Y.shape != found.shape:
            raise UnsupportedModelError(_DISAGREES.format(f"give the shapes {found.shape} and {Y.shape}"))
        wrong = np.isfinite(Y) & np.isfinite(found)
        far = np.abs(found - Y)
        allowed = share * np.max(np.abs(found), axis=1, keepdims=True)
        wrong &= far > allowed
        if wrong.any():  # terms that cancel leave more than their share
            wrong &= far > allowed + unit * _rounding(network, X)
    if wrong.any():
        raise UnsupportedModelError(_DISAGREES.format(f"differ by {np.max(far[wrong]):.3g}"))


def _samples(network: FeedForward, read: Layers | Paths) -> int:
    """On how many inputs a network is compared."""
    if isinstance(read, Paths):
        return min(_SAMPLES, int(_SECONDS / max(read.effort, 1e-9)))
    return _SAMPLES if sum(W.size for W in network.weights) <= _MAX_CHECKED else 0


_DISAGREES: Final = (
    "the network that was read and onnx's reference evaluator {} on random inputs: certnet does not understand this "
    "model; please report it"
)


def _rounding(network: FeedForward, X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Growth of rounding errors: ``e ← |W| e λ + n (|W| |x| + |b|)``, in units of the precision; as an (N, m) array."""
    x, error = X, np.zeros_like(X)
    for layer in network.layers:
        size, terms = layer.operator.absolute, min(layer.operator.terms, layer.operator.n_inputs)
        error = size(error) + math.sqrt(terms + 1) * (size(np.abs(x)) + np.abs(layer.bias))
        error *= layer.steepest
        x = layer(x)
        error += np.abs(x)
    return np.asarray(error)


def _evaluated(
    model: Any, value: str, n_inputs: int, shape: tuple[int | None, ...], samples: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Random inputs (N, d) and what the reference evaluator makes of them (N, m); None where it cannot."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    single = len(shape) == 1
    features, rows = shape if single else shape[1:], 1 if single else shape[0] or samples
    known = math.prod(n for n in features if n is not None)
    if rows * n_inputs > 1 << 22 or features.count(None) > 1 or n_inputs % known:
        return None
    concrete = tuple(n_inputs // known if n is None else n for n in features)
    X = np.random.default_rng(0).standard_normal((rows * -(-samples // rows), n_inputs))
    given = model.graph.input[0]
    if len(model.graph.input) > 1 or _misjudged(model):
        return None
    dtype = helper.tensor_dtype_to_np_dtype(given.type.tensor_type.elem_type)
    X = X.astype(dtype).astype(np.float64)
    model.graph.output[0].name = value
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = ReferenceEvaluator(model)
            found = [
                np.asarray(
                    evaluator.run(None, {given.name: part.reshape(concrete if single else (rows, *concrete))})[0]
                )
                for part in X.astype(dtype).reshape(-1, rows, n_inputs)
            ]
    except Exception as error:  # noqa: BLE001 - an operator or type that it has not
        logger.debug("the reference evaluator cannot run the model: %s", _first_line(error))
        return None
    return X, np.concatenate([part.astype(np.float64).reshape(rows, -1) for part in found])


def _misjudged(model: Any) -> bool:
    """Does the evaluator compute something else?

    Before opset 14 BatchNormalization takes the batch's statistics; and the windows of some poolings are laid elsewhere
    than the shapes say that the onnx package itself infers.
    """
    opset = next((entry.version for entry in model.opset_import if not _domain(entry.domain)), 0)
    return any(
        (opset < 14 and node.op_type == "BatchNormalization") or _pools_elsewhere(node) for node in model.graph.node
    )


def _pools_elsewhere(node: Any) -> bool:
    """MaxPool that is padded more on one side, AveragePool with dilations and automatic padding."""
    if node.op_type not in ("MaxPool", "AveragePool"):
        return False
    said = {a.name: a.s if a.type == _STRING else list(a.ints) for a in node.attribute}
    how, pads = said.get("auto_pad", b"NOTSET"), said.get("pads", [])
    if node.op_type == "AveragePool":
        return how != b"NOTSET" and any(d != 1 for d in said.get("dilations", ()))
    return bool(how == b"SAME_LOWER" or pads[: len(pads) // 2] != pads[len(pads) // 2 :])


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
            start = out
            for operator, constants, attributes in operators(net.activations[k]):
                inputs = [out]
                for array in constants:
                    if array is START:
                        inputs.append(start)
                        continue
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
    model = onnx.helper.make_model(
        graph,
        ir_version=_WRITTEN_IR,
        opset_imports=[onnx.helper.make_opsetid("", _WRITTEN_OPSET)],
        producer_name="certnet",
        producer_version=__version__,
    )
    if net.about.inputs:
        model.metadata_props.add(key=_INPUT_NAMES, value=json.dumps(net.about.inputs))
    return model


def _tensor(onnx: Any, array: NDArray[Any], name: str) -> Any:
    return onnx.numpy_helper.from_array(np.ascontiguousarray(array, dtype=np.float64), name)
