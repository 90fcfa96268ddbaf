"""What ONNX operators do to a chain: affine steps, activations, and shapes that change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.io.affine import Scale, Shift
from certnet.io.onnx_chain import Chain, size_of
from certnet.io.onnx_constants import Node
from certnet.io.onnx_tensors import FLOAT_TYPES
from certnet.networks.activations import Activation

__all__ = ["READERS", "cast", "numbers"]


def _gemm(chain: Chain, node: Node) -> None:
    said = node.attributes
    if node.inputs[0] != chain.value or said.get("transA", 0):
        raise UnsupportedModelError(f"{node} must take the data as A, not transposed")
    if chain.single:
        raise UnsupportedModelError(f"{node} needs rows, and the model's input is one vector: export it for [N, d]")
    W = chain.matrix(chain.constant(node, 1), node)
    W = W if said.get("transB", 0) else W.T
    alpha, beta = float(said.get("alpha", 1.0)), float(said.get("beta", 1.0))
    with np.errstate(over="ignore"):  # the network refuses what overflows
        chain.dense(np.ascontiguousarray(W if alpha == 1.0 else alpha * W), node)
        if len(node.inputs) > 2 and node.inputs[2]:
            c = chain.per_feature(chain.constant(node, 2), node)
            chain.steps.append(Shift(c if beta == 1.0 else beta * c))


def _matmul(chain: Chain, node: Node) -> None:
    if node.inputs[0] != chain.value:
        raise UnsupportedModelError(f"{node} multiplies from the left: the data must be its first input")
    chain.dense(np.ascontiguousarray(chain.matrix(chain.constant(node, 1), node).T), node)


def _add(chain: Chain, node: Node) -> None:
    array, _ = chain.other(node)
    chain.steps.append(Shift(chain.per_feature(array, node)))


def _sub(chain: Chain, node: Node) -> None:
    array, position = chain.other(node)
    values = chain.per_feature(array, node)
    if position == 1:
        chain.steps.append(Shift(-values))
    else:
        chain.steps += [Scale(np.array([-1.0])), Shift(values)]


def _mul(chain: Chain, node: Node) -> None:
    array, _ = chain.other(node)
    chain.steps.append(Scale(chain.per_feature(array, node)))


def _div(chain: Chain, node: Node) -> None:
    array, position = chain.other(node)
    if position == 0:
        raise UnsupportedModelError(f"{node} divides by the data, which is no layer of a feed-forward network")
    values = chain.per_feature(array, node)
    if not np.all(values):
        raise InvalidInputError(f"{node} divides by zero")
    with np.errstate(over="ignore"):
        chain.steps.append(Scale(1.0 / values))


def _scaler(chain: Chain, node: Node) -> None:
    offset, scale = (np.array(node.attributes.get(name, ()), dtype=np.float64) for name in ("offset", "scale"))
    for array in (offset, scale):
        if not array.size or not np.isfinite(array).all():
            raise InvalidInputError(f"{node} needs an offset and a scale of finite numbers")
    chain.steps += [Shift(-chain.per_feature(offset, node)), Scale(chain.per_feature(scale, node))]


def _flatten(chain: Chain, node: Node) -> None:
    axis = int(node.attributes.get("axis", 1))
    if axis not in (1, -len(chain.shape)) or chain.single:
        raise UnsupportedModelError(
            f"{node} has axis {axis}: only the features of one sample may be flattened (axis 1)"
        )
    chain.shape = (size_of(chain.shape),)


def _reshape(chain: Chain, node: Node) -> None:
    if node.inputs[0] != chain.value:
        raise UnsupportedModelError(f"{node} must take the data first")
    target = chain.sizes(node, 1)
    size = size_of(chain.shape)
    zero = bool(node.attributes.get("allowzero", 0))
    if len(target) == 1 and size is not None and (target == [size] if chain.single else (size, target) == (1, [-1])):
        chain.shape = (size,) if chain.single else ()  # one output per sample, or the one sample that there is
        return
    known = len(target) == 2 and not chain.single
    rows, features = target if known else (0, 0)
    # -1 means "what is left", 0 "as before"; which dimension is the batch must follow without knowing the batch
    keeps_rows = (rows == 0 and not zero) or rows is None or rows == chain.batch
    keeps_features = (features is not None and features == size) or (
        features == 0 and not zero and len(chain.shape) == 1
    )
    if not known or not ((keeps_rows and (keeps_features or features == -1)) or (rows == -1 and keeps_features)):
        raise UnsupportedModelError(
            f"{node} reshapes {[chain.batch, *chain.shape]} to {target[:8]}: only a reshape that provably "
            "flattens the features of each sample, [N, ...] to [N, d], is read"
        )
    chain.shape = (size,)


def _squeeze(chain: Chain, node: Node) -> None:
    axes = list(node.attributes["axes"]) if "axes" in node.attributes else chain.sizes(node, 1) if node.input(1) else []
    if chain.single or chain.shape != (1,) or axes not in ([1], [-1]):
        raise UnsupportedModelError(
            f"{node} squeezes the axes {axes} of {[chain.batch, *chain.shape]}: only the one output of each sample, "
            "[N, 1] to [N], is read"
        )
    chain.shape = ()


def _batch_normalization(chain: Chain, node: Node) -> None:
    if node.attributes.get("training_mode", 0) or not node.attributes.get("spatial", 1):
        raise UnsupportedModelError(f"{node} is in training mode, or not per channel: export it in evaluation mode")
    if node.inputs[0] != chain.value:
        raise UnsupportedModelError(f"{node} must take the data first")
    gamma, beta, mean, var = (chain.per_channel(chain.constant(node, k), node) for k in (1, 2, 3, 4))
    spread = var + numbers(node, epsilon=1e-5)[0]
    if not np.all(spread > 0.0):
        raise InvalidInputError(f"{node} has variances that are not positive")
    with np.errstate(over="ignore"):
        chain.steps += [Shift(-mean), Scale(gamma / np.sqrt(spread)), Shift(beta)]


def _dropout(chain: Chain, node: Node) -> None:
    training = node.input(2)
    if training and (training not in chain.constants or np.any(chain.constants[training])):
        raise UnsupportedModelError(f"{node} is in training mode: export the model in evaluation mode")


def _softmax(chain: Chain, node: Node) -> None:
    axis = int(node.attributes.get("axis", -1))
    if len(chain.shape) != 1 or axis not in ((0, -1) if chain.single else (1, -1)):
        raise UnsupportedModelError(f"{node} is taken over axis {axis}: over the outputs of a sample it is left out")
    name = "softmax" if node.operator == "Softmax" else "log-softmax"
    chain.leave_out(name, f"{name} is left out: the network gives the logits")


def _clip(chain: Chain, node: Node) -> None:
    if node.inputs[0] != chain.value:
        raise UnsupportedModelError(f"{node} must take the data first, limits that are constant")
    given = [chain.limit(node, k) for k in (1, 2)]
    said = [node.attributes.get(name) for name in ("min", "max")]
    low, high = (_bound(a if a is not None else b) for a, b in zip(given, said))
    match low, high:
        case None, None:
            pass
        case 0.0, None:
            chain.activate(Activation("relu"), node)
        case _, None:
            _at_least(chain, low, node)
        case None, _:
            _at_most(chain, high, node)
        case 0.0, 6.0:
            chain.activate(Activation("relu6"), node)
        case _ if low < high:
            chain.activate(Activation("hardtanh", (low, high)), node)
        case _:
            raise UnsupportedModelError(f"{node} has the limits {low:g} and {high:g}: its values are constant")


def _bound(value: Any) -> float | None:
    """A limit of a clip; the largest floats and infinities stand for none."""
    return None if value is None or abs(value) >= float(np.finfo(np.float32).max) else float(value)


def _at_least(chain: Chain, low: float | None, node: Node) -> None:
    """``max(x, c) = c + relu(x - c)``."""
    if low:
        chain.steps.append(Shift(np.array([-low])))
    chain.activate(Activation("relu"), node)
    if low:
        chain.steps.append(Shift(np.array([low])))


def _at_most(chain: Chain, high: float | None, node: Node) -> None:
    """``min(x, c) = c - relu(c - x)``."""
    c, minus = np.array([high or 0.0]), np.array([-1.0])
    chain.steps += [Scale(minus), Shift(c)]
    chain.activate(Activation("relu"), node)
    chain.steps += [Scale(minus), Shift(c)]


def _extreme(chain: Chain, node: Node) -> None:
    array, _ = chain.other(node)
    if len(node.inputs) != 2 or array.size != 1 or array.ndim > len(chain.shape) + 1:
        raise UnsupportedModelError(f"{node} compares the data with several numbers: one constant is supported")
    (_at_least if node.operator == "Max" else _at_most)(chain, float(array.reshape(-1)[0]), node)


def _gelu(chain: Chain, node: Node) -> None:
    kinds = {b"none": "gelu", b"tanh": "gelu_tanh"}
    kind = node.attributes.get("approximate", b"none")
    if kind not in kinds:
        raise UnsupportedModelError(f"{node} is approximated by {kind!r}: 'none' and 'tanh' are known")
    chain.activate(Activation(kinds[kind]), node)


def _selu(chain: Chain, node: Node) -> None:
    alpha, gamma = numbers(node, alpha=_SELU_ALPHA, gamma=_SELU_GAMMA)
    if (np.float32(alpha), np.float32(gamma)) == (np.float32(_SELU_ALPHA), np.float32(_SELU_GAMMA)):
        chain.activate(Activation("selu"), node)
    else:
        chain.activate(Activation("selu", (gamma, alpha)), node)


def _neg(chain: Chain, node: Node) -> None:
    chain.steps.append(Scale(np.array([-1.0])))


def cast(chain: Chain, node: Node) -> None:
    if node.attributes.get("to") not in FLOAT_TYPES:
        raise UnsupportedModelError(f"{node} casts to a type that is no float: certnet reads real-valued networks")


def _identity(chain: Chain, node: Node) -> None:
    chain.mark_identity()


def _prelu(chain: Chain, node: Node) -> None:
    slopes = chain.constant(node, 1)
    if slopes.size == 0 or np.any(slopes != slopes.flat[0]):
        raise UnsupportedModelError(f"{node} has several slopes: one for the whole layer is supported")
    chain.activate(Activation("leaky_relu", (float(slopes.flat[0]),)), node)


def _hard_sigmoid(chain: Chain, node: Node) -> None:
    alpha, beta = numbers(node, alpha=0.2, beta=0.5)
    match chain.steps[-2:]:
        case [Scale(s), Shift(t)] if alpha == 1.0 and beta == 0.0 and s.size == t.size == 1 and s[0] >= 0.0:
            # clip(s x + t): the activation's own parameters, as save_onnx writes those that float32 does not hold
            chain.steps = chain.steps[:-2]
            alpha, beta = float(s[0]), float(t[0])
    chain.activate(Activation("hard_sigmoid", (alpha, beta)), node)


def numbers(node: Node, **defaults: float) -> tuple[float, ...]:
    """Attributes of type float, which ONNX keeps in float32, as its defaults."""
    return tuple(float(node.attributes.get(name, np.float32(value))) for name, value in defaults.items())


def _plain(name: str) -> Callable[[Chain, Node], None]:
    return lambda chain, node: chain.activate(Activation(name), node)


_SELU_ALPHA: Final = 1.6732632423543772
_SELU_GAMMA: Final = 1.0507009873554805

READERS: Final[dict[str, Callable[[Chain, Node], None]]] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "Scaler": _scaler,
    "Relu": _plain("relu"),
    "LeakyRelu": lambda chain, node: chain.activate(Activation("leaky_relu", numbers(node, alpha=0.01)), node),
    "PRelu": _prelu,
    "Tanh": _plain("tanh"),
    "Sigmoid": _plain("sigmoid"),
    "Softplus": _plain("softplus"),
    "Elu": lambda chain, node: chain.activate(Activation("elu", numbers(node, alpha=1.0)), node),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain("hard_swish"),
    "Gelu": _gelu,
    "Mish": _plain("mish"),
    "Selu": _selu,
    "Celu": lambda chain, node: chain.activate(Activation("celu", numbers(node, alpha=1.0)), node),
    "Softsign": _plain("softsign"),
    "Clip": _clip,
    "Max": _extreme,
    "Min": _extreme,
    "Neg": _neg,
    "BatchNormalization": _batch_normalization,
    "Dropout": _dropout,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Identity": _identity,
    "Cast": cast,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
}
"""Operators that may stand in a chain."""
