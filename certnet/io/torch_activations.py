"""PyTorch's names of activations: modules and operators to certnet's families, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from certnet.core.errors import UnsupportedModelError
from certnet.core.validation import Float
from certnet.io.affine import Scale, Shift
from certnet.io.torch_tensors import array_of
from certnet.networks.activations import Activation

__all__ = ["HARD_SIGMOID", "Item", "activation_of_module", "items_of_operator", "module_of_activation"]

Item = Activation | Scale | Shift
HARD_SIGMOID: Final = (1.0 / 6.0, 0.5)
_SOFTPLUS_THRESHOLD: Final = 40.0
"""Above it log(1 + e^z) and z are the same double; PyTorch's default of 20 is made for float32."""
_PLAIN: Final = {
    "ReLU": "relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Identity": "identity",
    "ReLU6": "relu6",
    "Hardswish": "hard_swish",
    "SiLU": "silu",
    "Mish": "mish",
    "SELU": "selu",
    "Softsign": "softsign",
    "LogSigmoid": "log_sigmoid",
}
"""Modules without parameters."""


def activation_of_module(nn: Any, layer: Any) -> Activation | None:
    """The activation that a layer of exactly PyTorch's type computes, or None; parameters are PyTorch's doubles."""
    kind = type(layer)
    for name, family in _PLAIN.items():
        if kind is getattr(nn, name):
            return Activation(family)
    if kind is nn.LeakyReLU:
        return Activation("leaky_relu", (layer.negative_slope,))
    if kind is nn.PReLU and layer.weight.numel() == 1:
        return Activation("leaky_relu", (float(array_of(layer.weight, "the slope of PReLU").item()),))
    if kind in (nn.ELU, nn.CELU):
        return Activation("elu" if kind is nn.ELU else "celu", (layer.alpha,))
    if kind is nn.Hardsigmoid:
        return Activation("hard_sigmoid", HARD_SIGMOID)
    if kind is nn.Hardtanh:
        return _hardtanh(layer.min_val, layer.max_val)
    if kind is nn.GELU:
        return _gelu(layer.approximate)
    if kind is nn.Softplus:
        return _softplus(layer.beta, layer.threshold)
    return None


def module_of_activation(nn: Any, phi: Activation) -> Any:
    """The PyTorch module that computes φ.

    Raises
    ------
    UnsupportedModelError
        PyTorch has none.
    """
    for name, family in _PLAIN.items():
        if phi == Activation(family):  # SELU has PyTorch's two numbers, or no module
            return getattr(nn, name)()
    made: dict[str, Callable[..., Any]] = {
        "leaky_relu": nn.LeakyReLU,
        "elu": nn.ELU,
        "celu": nn.CELU,
        "hardtanh": nn.Hardtanh,
        "gelu": nn.GELU,
        "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
        "softplus": lambda: nn.Softplus(threshold=_SOFTPLUS_THRESHOLD),
        "softplus_beta": lambda beta: nn.Softplus(beta, threshold=_SOFTPLUS_THRESHOLD),
    }
    if phi.name in made and (phi.name != "hardtanh" or phi.parameters[0] < phi.parameters[1]):
        return made[phi.name](*phi.parameters)
    if phi.name == "hard_sigmoid" and phi.parameters == HARD_SIGMOID:
        return nn.Hardsigmoid()
    raise UnsupportedModelError(
        f"PyTorch has no module for the activation {phi} (its Hardsigmoid is clip(z/6 + 1/2)): save as .npz or .onnx"
    )


def items_of_operator(name: str, a: Mapping[str, Any], slope: Callable[[Any], Float]) -> list[Item] | None:
    """What an ATen operator with arguments ``a`` does to every entry, or None if it is no activation.

    ``slope`` reads the weight of PReLU.

    Raises
    ------
    UnsupportedModelError
        The operator is an activation, with parameters that certnet does not know.
    """
    make = _OPERATORS.get(name)
    if make is not None:
        return [make(a)]
    if name in ("clamp", "clamp_min", "clamp_max", "clip"):
        return _clamp(a.get("min"), a.get("max"))
    if name in ("prelu", "_prelu_kernel"):
        slopes = slope(a["weight"]).ravel()
        if (slopes != slopes[0]).any():
            raise UnsupportedModelError("found PReLU with a slope for each unit: one for all units of a layer is read")
        return [Activation("leaky_relu", (slopes[0],))]
    return None


def _elu(a: Mapping[str, Any]) -> Activation:
    if a["scale"] != 1 or a["input_scale"] != 1:
        raise UnsupportedModelError("found an elu with scales: nn.ELU, nn.CELU and nn.SELU are read")
    return Activation("elu", (a["alpha"],))


def _threshold(a: Mapping[str, Any]) -> Activation:
    if a["threshold"] != 0 or a["value"] != 0:
        raise UnsupportedModelError("found a threshold, which jumps: its slope has no bound")
    return Activation("relu")


def _rrelu(a: Mapping[str, Any]) -> Activation:
    if a["training"]:
        raise UnsupportedModelError("RReLU in training mode is random, no function: call module.eval() first")
    return Activation("leaky_relu", ((a["lower"] + a["upper"]) / 2.0,))


def _hardtanh(low: float, high: float) -> Activation:
    return Activation("relu6") if (low, high) == (0, 6) else Activation("hardtanh", (low, high))


def _gelu(approximate: str) -> Activation:
    return Activation("gelu_tanh" if approximate == "tanh" else "gelu")


def _softplus(beta: float, threshold: float) -> Activation:
    if threshold < 20:
        raise UnsupportedModelError(
            f"found Softplus(beta={beta}, threshold={threshold}): a threshold of at least 20 is needed (below, "
            "PyTorch's function jumps)"
        )
    return Activation("softplus") if beta == 1 else Activation("softplus_beta", (beta,))


def _clamp(low: Any, high: Any) -> list[Item]:
    """``max(z, low)`` is ``low + relu(z − low)``, ``min(z, high)`` is ``high − relu(high − z)``."""
    if not isinstance(low, int | float | None) or not isinstance(high, int | float | None):
        raise UnsupportedModelError("found a clamp between tensors: one between two numbers is read")
    if low is not None and high is not None:
        return [_hardtanh(low, high)]
    if low == 0:
        return [Activation("relu")]
    if low is not None:
        return [_shift(-low), Activation("relu"), _shift(low)]
    if high is not None:
        return [_scale(-1.0), _shift(high), Activation("relu"), _scale(-1.0), _shift(high)]
    return []


def _shift(t: float) -> Shift:
    return Shift(np.array([float(t)]))


def _scale(s: float) -> Scale:
    return Scale(np.array([float(s)]))


_OPERATORS: Final[dict[str, Callable[[Mapping[str, Any]], Activation]]] = {
    "relu": lambda a: Activation("relu"),
    "tanh": lambda a: Activation("tanh"),
    "sigmoid": lambda a: Activation("sigmoid"),
    "relu6": lambda a: Activation("relu6"),
    "hardswish": lambda a: Activation("hard_swish"),
    "silu": lambda a: Activation("silu"),
    "mish": lambda a: Activation("mish"),
    "selu": lambda a: Activation("selu"),
    "log_sigmoid": lambda a: Activation("log_sigmoid"),
    "hardsigmoid": lambda a: Activation("hard_sigmoid", HARD_SIGMOID),
    "leaky_relu": lambda a: Activation("leaky_relu", (a["negative_slope"],)),
    "celu": lambda a: Activation("celu", (a["alpha"],)),
    "elu": _elu,
    "hardtanh": lambda a: _hardtanh(a["min_val"], a["max_val"]),
    "gelu": lambda a: _gelu(a["approximate"]),
    "softplus": lambda a: _softplus(a["beta"], a["threshold"]),
    "threshold": _threshold,
    "rrelu": _rrelu,
}
