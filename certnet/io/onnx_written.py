"""Activations as ONNX operators of opset 17 that take doubles; plain data, read back by the same formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from certnet.core.errors import UnsupportedModelError
from certnet.networks.activations import Activation

__all__ = ["ROUNDED", "START", "operators"]

_PLAIN: Final = {
    "relu": "Relu",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "identity": "Identity",
    "hard_swish": "HardSwish",
    "softsign": "Softsign",
}

ROUNDED: Final = ("gelu", "gelu_tanh", "hard_swish", "selu")
"""Activations whose constants ONNX keeps in float32; they are read as the published ones."""
START: Final = "z"
"""In place of a constant: the value that the activation is of."""
_Written = tuple[str, tuple[Any, ...], dict[str, Any]]


def operators(phi: Activation) -> Iterator[_Written]:
    """Operators that make up φ exactly: type, further inputs (constants, or the value that φ is of), attributes."""
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
    elif phi == Activation("selu"):
        yield "Selu", (), {}
    elif phi.name == "selu" and exact:
        yield "Selu", (), dict(zip(("gamma", "alpha"), phi.parameters))
    elif phi.name in _FORMULAS:
        yield from _FORMULAS[phi.name](*phi.parameters)
    else:
        raise UnsupportedModelError(
            f"the activation {phi} cannot be written to ONNX: slopes alone are no function, and alpha of ELU is a "
            "float32 number there (round it: float(numpy.float32(alpha))); save the network as .npz"
        )


def _plain(*operators: str) -> list[_Written]:
    return [(operator, (), {}) for operator in operators]


# in operators of opset 17 that take doubles; read back by the same formulas
_FORMULAS: Final[dict[str, Callable[..., list[_Written]]]] = {
    "relu6": lambda: [("Clip", (0.0, 6.0), {})],
    "hardtanh": lambda low, high: [("Clip", (low, high), {})],
    "gelu": lambda: [
        ("Mul", (math.sqrt(0.5),), {}),
        *_plain("Erf"),
        *[("Add", (1.0,), {}), ("Mul", (START,), {}), ("Mul", (0.5,), {})],
    ],
    "gelu_tanh": lambda: [
        *[("Mul", (START,), {}), ("Mul", (START,), {}), ("Mul", (0.044715,), {}), ("Add", (START,), {})],
        ("Mul", (math.sqrt(2.0 / math.pi),), {}),
        *_plain("Tanh"),
        *[("Add", (1.0,), {}), ("Mul", (START,), {}), ("Mul", (0.5,), {})],
    ],
    "silu": lambda: [*_plain("Sigmoid"), ("Mul", (START,), {})],
    "mish": lambda: [*_plain("Softplus", "Tanh"), ("Mul", (START,), {})],
    "celu": lambda alpha: [("Div", (alpha,), {}), *_plain("Elu"), ("Mul", (alpha,), {})],
    "softplus_beta": lambda beta: [("Mul", (beta,), {}), *_plain("Softplus"), ("Div", (beta,), {})],
    "log_sigmoid": lambda: _plain("Neg", "Softplus", "Neg"),
}
