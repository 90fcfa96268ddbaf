r"""Feed-forward regression/reconstruction layers in PyTorch: linear maps that are 1-Lipschitz for any weights.

    z = (1 + β) (I + β W Wᵀ)^{−1} W x + b = argmin_z ½‖z − W x‖² + (β/2)‖Wᵀ z − x‖² + b

Its singular values are ``(1 + β)σ / (1 + βσ²) ≤ (β^{1/2} + β^{−1/2})/2`` with σ those of W (Høier and Zach 2020, (3)
and section 3.1), at most 1 for β = 1. Stacked with ReLU between them such layers are 1-Lipschitz networks (section
3.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from certnet.backends.torch_ import import_torch
from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, positive_number, whole_number
from certnet.networks.feedforward import FeedForward

if TYPE_CHECKING:
    import torch

__all__ = ["rr_linear", "rr_network"]

_CLASSES: Final = ("RRLinear", "RRNetwork")


def rr_linear(
    in_features: int,
    out_features: int,
    *,
    beta: float = 1.0,
    random_state: int = 0,
    dtype: str = "float64",
) -> torch.nn.Module:
    """``x ↦ (1 + β)(I + β W Wᵀ)^{−1} W x + b`` as a ``torch.nn.Module`` (class ``RRLinear``), W and b trainable.

    Evaluated by a Cholesky factor on the smaller side, of order ``min(in_features, out_features)``: the map is also
    ``(1 + β) W (I + β Wᵀ W)^{−1} x``. Gradients are PyTorch's.

    Parameters
    ----------
    in_features, out_features : int
    beta : float
        ``β ≥ 0``; 0 is ``torch.nn.Linear``, 1 is 1-Lipschitz.
    random_state : int
        Seed of the first weights: Gaussian of variance 1/in_features, singular values around one, where the layer
        contracts least; b = 0.
    dtype : {"float64", "float32"}
        Of the parameters, and so of the inputs.

    Returns
    -------
    torch.nn.Module
        Beside ``forward``: ``matrix()``, the map as a tensor (out_features, in_features), differentiable, and
        ``lipschitz_bound()``, its largest singular value in float64, at most ``(β^{1/2} + β^{−1/2})/2``.

    Raises
    ------
    InvalidInputError
        Sizes that are not positive, β < 0, an unknown dtype.
    MissingDependencyError
        PyTorch is not installed.
    """
    sizes = (whole_number(in_features, "in_features", least=1), whole_number(out_features, "out_features", least=1))
    return _classes()["RRLinear"](*sizes, beta=beta, random_state=random_state, dtype=dtype)


def rr_network(
    sizes: Sequence[int], *, beta: float = 1.0, random_state: int = 0, dtype: str = "float64"
) -> torch.nn.Module:
    """RR layers with ReLU after each, and a linear layer at the end, as a ``torch.nn.Module`` (class ``RRNetwork``).

    Parameters
    ----------
    sizes : sequence of int
        Inputs, hidden units of one layer or more, outputs.
    beta, random_state, dtype
        As in :func:`rr_linear`, for all RR layers.

    Returns
    -------
    torch.nn.Module
        Beside ``forward``: ``lipschitz_bound()``, the product of the layers' norms, which for β = 1 is at most the norm
        of the last layer (a float64 figure, not a certificate), and ``to_feed_forward()``, the same function as a
        :class:`~certnet.networks.feedforward.FeedForward`, which :func:`certnet.certify` bounds with a proof.

    Raises
    ------
    InvalidInputError
        Fewer than three sizes, sizes that are not positive, β < 0, an unknown dtype.
    MissingDependencyError
        PyTorch is not installed.
    """
    widths = [whole_number(n, f"sizes[{k}]", least=1) for k, n in enumerate(sizes)]
    if len(widths) < 3:
        raise InvalidInputError(f"sizes is {list(sizes)}: inputs, one hidden layer or more, and outputs are needed")
    return _classes()["RRNetwork"](widths, beta=beta, random_state=random_state, dtype=dtype)


def __getattr__(name: str) -> Any:
    """The classes, which are made when asked for: pickles and isinstance need their names here."""
    if name in _CLASSES:
        return _classes()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _classes() -> dict[str, Any]:
    pt = import_torch()
    Module: Any = pt.nn.Module

    class RRLinear(Module):
        """See :func:`rr_linear`."""

        def __init__(self, n: int, m: int, *, beta: float, random_state: int, dtype: str) -> None:
            super().__init__()
            self.in_features, self.out_features = n, m
            self.beta = positive_number(beta, "beta", zero=True)
            self.weight = pt.nn.Parameter(_gaussian(pt, m, n, random_state, dtype))
            self.bias = pt.nn.Parameter(self.weight.detach().new_zeros(m))

        def forward(self, X: torch.Tensor) -> torch.Tensor:
            W = self.weight
            if X.dtype != W.dtype or X.shape[-1:] != W.shape[1:]:
                raise InvalidInputError(
                    f"X has shape {tuple(X.shape)} and dtype {X.dtype}: (…, {self.in_features}) and {W.dtype} are "
                    "needed; convert X or the layer by .to(dtype)"
                )
            z = self._solved(X @ W.T) if self.out_features <= self.in_features else self._solved(X) @ W.T
            return (1.0 + self.beta) * z + self.bias

        def matrix(self) -> torch.Tensor:
            wide = self.out_features <= self.in_features
            solved = self._solved(self.weight.T).T if wide else self._solved(self.weight)
            return (1.0 + self.beta) * solved

        def lipschitz_bound(self) -> float:
            s = np.linalg.svd(_array(self.weight), compute_uv=False)
            return float(((1.0 + self.beta) * s / (1.0 + self.beta * s**2)).max())

        def _solved(self, X: torch.Tensor) -> torch.Tensor:
            """Rows of X times ``(I + β W Wᵀ)^{−1}`` or ``(I + β Wᵀ W)^{−1}``, whichever is smaller."""
            if self.beta == 0.0:
                return X
            W = self.weight if self.out_features <= self.in_features else self.weight.T
            M = pt.eye(len(W), dtype=W.dtype, device=W.device) + self.beta * (W @ W.T)
            rows = X.reshape(-1, X.shape[-1])
            return pt.cholesky_solve(rows.T, pt.linalg.cholesky(M)).T.reshape(X.shape)

        def extra_repr(self) -> str:
            return f"in_features={self.in_features}, out_features={self.out_features}, beta={self.beta:g}"

    class RRNetwork(Module):
        """See :func:`rr_network`."""

        def __init__(self, sizes: Sequence[int], *, beta: float, random_state: int, dtype: str) -> None:
            super().__init__()
            seeds = np.random.SeedSequence(whole_number(random_state, "random_state")).generate_state(len(sizes) - 1)
            *hidden, last = zip(sizes, sizes[1:], (int(seed) for seed in seeds))
            self.layers = pt.nn.ModuleList(
                [RRLinear(n, m, beta=beta, random_state=seed, dtype=dtype) for n, m, seed in hidden]
            )
            n, m, seed = last
            self.last = RRLinear(n, m, beta=0.0, random_state=seed, dtype=dtype)

        def forward(self, X: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                X = layer(X).relu()
            return self.last(X)

        def lipschitz_bound(self) -> float:
            return math.prod(layer.lipschitz_bound() for layer in (*self.layers, self.last))

        def to_feed_forward(self) -> FeedForward:
            layers = [*self.layers, self.last]
            with pt.no_grad():
                matrices = [_array(_double(layer).matrix()) for layer in layers]
            return FeedForward(matrices, [_array(layer.bias) for layer in layers], "relu")

    def _double(layer: Any) -> Any:
        """The layer in float64: the map of float32 weights is rounded once, not in every step."""
        copy = RRLinear(layer.in_features, layer.out_features, beta=layer.beta, random_state=0, dtype="float64")
        copy.load_state_dict(layer.state_dict())
        return copy

    found = {"RRLinear": RRLinear, "RRNetwork": RRNetwork}
    for name, kind in found.items():
        kind.__qualname__ = name  # where pickle finds it
    return found


def _gaussian(pt: Any, m: int, n: int, random_state: int, dtype: str) -> torch.Tensor:
    if dtype not in ("float64", "float32"):
        raise InvalidInputError(f"dtype must be 'float64' or 'float32', got {dtype!r}")
    generator = pt.Generator().manual_seed(whole_number(random_state, "random_state", most=2**63 - 1))
    drawn: torch.Tensor = pt.randn(m, n, generator=generator, dtype=pt.float64) / n**0.5
    return drawn.to(getattr(pt, dtype))


def _array(tensor: torch.Tensor) -> Float:
    return np.array(tensor.detach().cpu().numpy(force=True), dtype=np.float64)
