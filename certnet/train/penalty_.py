r"""A differentiable estimate of LipSDP's ρ, from below, as a penalty in a training loop of PyTorch.

With r columns in the place of one, a unit whose slope lies in [α, β] is a choice of a unit vector u_j in R^r
(:mod:`certnet.searches.vectors`), and

    Z_k = diag(c) P_k + diag(w |P_k|) U_k,   P_k = B_k Z_{k−1},   ρ̂ = ‖V Z_K‖_F²   for ‖Z_0‖_F = 1, |u_j| = 1

(row norms ``|·|``, ``c = ½(α + β)``, ``w = ½(β − α)``) is largest at ρ, what LipSDP with one multiplier per neuron
proves of L². For any other choice ρ̂ is below it. Both Z_0 and U are kept from call to call: each call measures ρ̂
and its gradient with them,

    O = V Z_K,  g_K = Vᵀ O,  q_k = c g_k + w (g_k·u_k) p_k / |p_k|,  g_{k−1} = B_kᵀ q_k,
    dρ̂/dB_k = 2 q_k Z_{k−1}ᵀ,   dρ̂/dV = 2 O Z_Kᵀ,

which is the gradient of ρ itself where the choice is the best one (Danskin), and makes one power step,
``u_j ← g_j / |g_j|``, ``Z_0 ← g_0 / ‖g_0‖`` with g of ``g_k·u_k = |g_k|``, for the next call. Weights move little
between two minibatches, so one step keeps up with them. **It is an estimate from below**: a network trained with it is
certified by :func:`certnet.certify`, afterwards.

Arrays are stored transposed, Z of shape (r, n), as PyTorch's linear layers take a batch of r samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final, final

from certnet.backends.torch_ import import_torch
from certnet.core.errors import UnsupportedModelError
from certnet.core.validation import whole_number
from certnet.io.torch_activations import activation_of_module

if TYPE_CHECKING:
    import torch

__all__ = ["LipschitzPenalty", "lipschitz_estimate"]

_FIRST_STEPS: Final = 10  # power steps from the random start, at the first call
_TINY: Final = 1e-18  # lengths below it are zero: their squares are still numbers in float32
_READ: Final = "nn.Linear, activations with known slopes, nn.Flatten, nn.Identity and nn.Dropout are read"


@final
class LipschitzPenalty:
    """``penalty()`` is ρ̂ ≤ ρ, a scalar tensor with its gradient by the weights of ``module``.

    ::

        penalty = LipschitzPenalty(model)
        loss = cross_entropy(model(x), y) + 1e-3 * penalty()
        loss.backward()

    It is added to any loss; ``penalty().sqrt()`` estimates L. Each call makes one power step, so that ρ̂ follows ρ
    as the weights move; after a jump of the weights it takes some calls to catch up. It is an estimate **from
    below**: ``certnet.certify(certnet.from_torch(model))`` proves a bound at the end.

    Nothing of the module is changed but the gradients that ``backward`` adds, and PyTorch's random state is neither
    read nor changed. The vectors are no part of the module's state dict; they follow its weights from device to
    device.

    Parameters
    ----------
    module : torch.nn.Sequential
        Of ``nn.Linear`` layers and activations with known slopes, nested or not; it ends with a linear layer. Flatten,
        Identity and Dropout are passed over: what is estimated is the network as it is evaluated. A model with a
        forward pass of its own is given by its layers: ``nn.Sequential(model.fc1, nn.ReLU(), model.fc2)`` shares
        their weights.
    columns : int
        r. More come closer to ρ after many calls; the time of a call grows with r.
    differences : bool
        ρ of ``f − mean(f)``, the mean over the outputs: all that softmax and margins see of f. A difference of two
        outputs has slopes of at most ``√(2 ρ)``. Never larger than ρ of f.
    seed : int
        Of the first vectors.

    Raises
    ------
    UnsupportedModelError
        The module is no such chain; the message names the layer.
    InvalidInputError
        ``columns`` or ``seed`` is no whole number in range.
    MissingDependencyError
        PyTorch is not installed.

    Notes
    -----
    First derivatives only. Float16 and bfloat16 weights are computed with in float32.
    """

    def __init__(self, module: torch.nn.Module, *, columns: int = 8, differences: bool = False, seed: int = 0) -> None:
        torch = import_torch()
        self._layers, slopes = _chain(module)
        self._centre = [0.5 * (low + high) for low, high in slopes]
        self._width = [0.5 * (high - low) for low, high in slopes]
        self._differences = differences
        columns = whole_number(columns, "columns", least=1)
        generator = torch.Generator().manual_seed(whole_number(seed, "seed", most=2**63 - 1))
        # drawn on the CPU in float64: the start is the same on every device
        drawn = [torch.randn((columns, n), generator=generator, dtype=torch.float64) for n in self._widths()]
        self._first = drawn[0] / drawn[0].norm()
        self._units = [u / _lengths(u) for u in drawn[1:]]
        self._fresh = True

    def __call__(self) -> torch.Tensor:
        """ρ̂ with the vectors of the step before, and one power step for the next call."""
        weights = [layer.weight for layer in self._layers]
        if self._fresh:
            self.step(_FIRST_STEPS)
        return _function().apply(self, *weights)  # type: ignore[no-any-return]

    def step(self, times: int = 1) -> None:
        """Make power steps with the present weights; ρ̂ does not fall."""
        with import_torch().no_grad():
            weights = [_computed(layer.weight) for layer in self._layers]
            for _ in range(whole_number(times, "times")):
                self._measure(weights)

    def _widths(self) -> list[int]:
        """n_0, …, n_K."""
        return [layer.in_features for layer in self._layers]

    def _measure(self, weights: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
        """ρ̂, the factors q_1 … q_K, O and Z_0 … Z_K of its gradient; then the power step."""
        self._follow(weights[0])
        torch = import_torch()
        *maps, V = weights
        Z = self._first
        Zs, directions = [Z], []
        for B, c, w, u in zip(maps, self._centre, self._width, self._units):
            P = Z @ B.T
            length = _lengths(P)
            Z = (w * length * u).add_(P, alpha=c)
            Zs.append(Z)
            directions.append(P / length.clamp_(min=_TINY))
        out = Z @ V.T
        if self._differences:
            out = out - out.mean(dim=1, keepdim=True)
        rho = (out * out).sum()

        # two cotangents go backwards: g of the units as they are, for the gradient, h of the best ones, for the step
        qs = [out]
        g = h = out @ V
        for k in reversed(range(len(maps))):
            c, w, u, direction = self._centre[k], self._width[k], self._units[k], directions[k]
            length = _lengths(h)
            q = (direction * (w * (g * u).sum(dim=0))).add_(g, alpha=c)
            q_best = (direction * (w * length)).add_(h, alpha=c)
            qs.append(q)
            self._units[k] = torch.where(length > _TINY, h / length, u)
            if k > 0:
                g, h = (torch.cat([q, q_best]) @ maps[k]).chunk(2)
            else:
                h = q_best @ maps[0]
        size = h.norm()
        self._first = torch.where(size > _TINY, h / size, self._first)
        self._fresh = False
        return rho, qs[::-1], Zs

    def _follow(self, weight: torch.Tensor) -> None:
        """Take the vectors to the device and the type of the weights."""
        if self._first.device != weight.device or self._first.dtype != weight.dtype:
            self._first = self._first.to(weight)
            self._units = [u.to(weight) for u in self._units]


def lipschitz_estimate(
    module: torch.nn.Module, *, columns: int = 24, steps: int = 200, differences: bool = False, seed: int = 0
) -> torch.Tensor:
    """``√ρ̂`` after ``steps`` power steps from a random start: close to LipSDP's bound, and never above it.

    No certificate: it tells during training what :func:`certnet.certify` will prove, to rounding and the steps left
    out, in some hundredths of a second. It is differentiable by the weights.

    Parameters
    ----------
    module, columns, differences, seed
        As in :class:`LipschitzPenalty`.
    steps : int

    Returns
    -------
    torch.Tensor
        A scalar, on the device of the weights.

    Raises
    ------
    UnsupportedModelError, InvalidInputError, MissingDependencyError
        As in :class:`LipschitzPenalty`.
    """
    penalty = LipschitzPenalty(module, columns=columns, differences=differences, seed=seed)
    penalty.step(whole_number(steps, "steps", least=1))
    return penalty().clamp(min=_TINY**2).sqrt()


# ------------------------------------------------------------------------------------------------------------ the chain


def _chain(module: Any) -> tuple[list[Any], list[tuple[float, float]]]:
    """The linear layers, and the slopes of what follows each but the last."""
    nn = import_torch().nn
    layers: list[Any] = []
    slopes: list[tuple[float, float]] = []
    bent = True  # whether an activation has followed the last linear layer
    for layer in _flattened(module):
        name = type(layer).__name__
        if layer._forward_hooks or layer._forward_pre_hooks:
            raise UnsupportedModelError(
                f"the layer {name} has hooks, which may change what it computes: remove them (weight_norm and "
                "spectral_norm of torch.nn.utils.parametrizations have none)"
            )
        # a parametrised layer has a class of its own, and Linear's forward pass
        if isinstance(layer, nn.Linear) and type(layer).forward is nn.Linear.forward:
            if layers and layer.in_features != layers[-1].out_features:
                raise UnsupportedModelError(
                    f"a layer of {layer.in_features} inputs follows one of {layers[-1].out_features} outputs: the "
                    "layers do not chain"
                )
            if layers and not bent:
                slopes.append((1.0, 1.0))
            layers.append(layer)
            bent = False
        elif type(layer) not in (nn.Flatten, nn.Identity, nn.Dropout):
            slopes.append(_slopes(nn, layer, name, bent, bool(layers)))
            bent = True
    if not layers or bent:
        where = "ends with an activation" if layers else "has no linear layer"
        raise UnsupportedModelError(f"the module {type(module).__name__} {where}: a last nn.Linear is needed; {_READ}")
    return layers, slopes


def _flattened(module: Any) -> Iterator[Any]:
    """The layers of nested sequences in order."""
    nn = import_torch().nn
    if not isinstance(module, nn.Module):
        raise UnsupportedModelError(f"a torch.nn.Sequential is needed, got {type(module).__name__}")
    hooked = module._forward_hooks or module._forward_pre_hooks
    if type(module) is nn.Sequential and not hooked:
        for child in module:
            yield from _flattened(child)
    else:
        yield module


def _slopes(nn: Any, layer: Any, name: str, bent: bool, started: bool) -> tuple[float, float]:
    """The slopes of an activation that stands behind a linear layer."""
    if isinstance(layer, nn.PReLU):
        raise UnsupportedModelError("the slope of PReLU is trained, so no limit of it is known: use nn.LeakyReLU")
    phi = activation_of_module(nn, layer)
    if phi is None:
        advice = (
            f"{_READ}; of a model with its own forward pass give the layers, such as "
            "nn.Sequential(model.fc1, nn.ReLU(), model.fc2), which shares their weights"
        )
        raise UnsupportedModelError(f"the layer {name} is not read: {advice}")
    if bent:
        where = "behind another activation" if started else "before the first linear layer"
        raise UnsupportedModelError(f"the activation {name} stands {where}: each needs an nn.Linear before it")
    return phi.slopes


# ------------------------------------------------------------------------------------------------------------- in torch


def _lengths(columns: torch.Tensor) -> torch.Tensor:
    """Norms of the columns of (r, n); several times as fast as ``norm(dim=0)``."""
    return (columns * columns).sum(dim=0).sqrt()


def _computed(weight: torch.Tensor) -> torch.Tensor:
    """Values of a weight, in float32 or float64."""
    plain = weight.detach()
    return plain.float() if plain.element_size() < 4 else plain


@cache
def _function() -> Any:
    torch = import_torch()
    once: Any = torch.autograd.function.once_differentiable
    Function: Any = torch.autograd.Function

    class Rho(Function):
        """ρ̂ of a :class:`LipschitzPenalty`, by the weights."""

        @staticmethod
        def forward(ctx: Any, penalty: LipschitzPenalty, *weights: Any) -> Any:
            with torch.autocast(weights[0].device.type, enabled=False):
                rho, qs, Zs = penalty._measure([_computed(W) for W in weights])
            ctx.save_for_backward(*qs, *Zs)
            ctx.dtypes = [W.dtype for W in weights]
            return rho

        @staticmethod
        @once
        def backward(ctx: Any, by_rho: Any) -> tuple[Any, ...]:
            n = len(ctx.dtypes)
            qs, Zs = ctx.saved_tensors[:n], ctx.saved_tensors[n:]
            needed = ctx.needs_input_grad[1:]
            grads = [
                ((2.0 * by_rho * q).T @ Z).to(dtype) if need else None
                for q, Z, dtype, need in zip(qs, Zs, ctx.dtypes, needed)
            ]
            return None, *grads

    return Rho
