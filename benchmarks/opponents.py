r"""What refinement is compared with: ReLU networks trained by Adam, each in a way of its own to limit the slope.

Several networks, the members, train at once: weights are ``(members, n_{k+1}, n_k)``, and a learning rate and a limit L
belong to each. Every way gives plain weights as functions of its parameters, so that a member is a
:class:`certnet.FeedForward` with the very numbers that were trained:

    weight decay            mse + w Σ_k ‖W_k‖_F²
    product penalty         mse + w Π_k ‖W_k‖₂               (Couellan 2021; norms by power steps)
    LipSDP penalty          mse + w ρ̂, the estimate of certnet.train.LipschitzPenalty for all members at once
    spectral normalisation  W_k = V_k / ‖V_k‖₂               (Miyato et al. 2018; one power step per evaluation)
    sandwich layers         W_k = 2 Ψ_k⁻¹ B_k A_{k−1}ᵀ Ψ_{k−1}, (A_k B_k) orthogonal by Cayley's map
                            (Wang and Manchester 2023, "LBDN"), 1-Lipschitz by LipSDP
    deel-torchlip           layers of that package, with singular values of one; ReLU, or sorted pairs

Each is helped to the limit by a dial that follows the estimate of L: the weight w of a penalty, or a factor of the
output where the layers are normalised. Sorted pairs, which LipSDP does not know, have the limit as factor.
"""

from __future__ import annotations

import importlib.util
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, final

import numpy as np
import torch

from certnet import FeedForward

__all__ = ["DEEL", "METHODS", "Chains", "Method", "Run", "RunSettings", "plain", "slope_estimate"]

DEEL: Final = importlib.util.find_spec("deel") is not None and importlib.util.find_spec("deel.torchlip") is not None
"""Whether deel-torchlip is installed."""

Layers = list[tuple[torch.Tensor, torch.Tensor]]
_TINY: Final = 1e-300
_BATCH: Final = 128
_EVERY: Final = 5  # steps from one turn of the dials to the next
_TURN: Final = 0.25  # logarithm by which a dial turns per logarithm of L̂ over the limit
_AHEAD: Final = 2.0  # the same for what a penalty adds at once, which keeps the dial from swinging
_FIRST_WEIGHT: Final = 1e-2
_LAST_RATE: Final = 0.02  # of the first


# --------------------------------------------------------------------------------------------------------- the networks


class Chains(torch.nn.Module, ABC):
    """Networks of the same widths, whose plain weights are functions of parameters."""

    pairs_sorted = False

    @abstractmethod
    def layers(self) -> Layers:
        """W_k (members, n_{k+1}, n_k) and b_k (members, n_{k+1}), with their gradients."""

    @abstractmethod
    def rated(self, rates: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Each parameter with the learning rates (members,) of those that it belongs to, to be broadcast."""

    def outputs(self, layers: Layers, X: torch.Tensor) -> torch.Tensor:
        """f(x_i), shape (members, N), for X of shape (N, d)."""
        *inner, (V, c) = layers
        Z = X.expand(len(V), *X.shape)
        for W, b in inner:
            A = torch.baddbmm(b[:, None], Z, W.mT)
            Z = _sorted_pairs(A) if self.pairs_sorted else A.relu()
        return torch.baddbmm(c[:, None], Z, V.mT)[..., 0]


def _sorted_pairs(A: torch.Tensor) -> torch.Tensor:
    from deel.torchlip.functional import group_sort  # type: ignore[import-not-found, unused-ignore]

    return group_sort(A.contiguous(), 2, dim=2)  # type: ignore[no-any-return, unused-ignore]


def _drawn(widths: Sequence[int], members: int, seed: int) -> list[tuple[torch.nn.Parameter, torch.nn.Parameter]]:
    """Weights and biases as ``torch.nn.Linear`` draws them, the same for all members."""
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for n, m in pairwise(widths):
        uniform = (2.0 * torch.rand((m, n + 1), generator=generator, dtype=torch.float64) - 1.0) / math.sqrt(n)
        W, b = (part.expand(members, *part.shape).clone() for part in (uniform[:, :n], uniform[:, n]))
        drawn.append((torch.nn.Parameter(W), torch.nn.Parameter(b)))
    return drawn


def _rated_together(module: torch.nn.Module, rates: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(p, rates.view(-1, *[1] * (p.ndim - 1))) for p in module.parameters()]


@final
class Dense(Chains):
    """Parameters that are the weights."""

    def __init__(self, widths: Sequence[int], members: int, seed: int) -> None:
        super().__init__()
        pairs = _drawn(widths, members, seed)
        self.weights = torch.nn.ParameterList(W for W, _ in pairs)
        self.biases = torch.nn.ParameterList(b for _, b in pairs)

    def layers(self) -> Layers:
        return list(zip(self.weights, self.biases))

    def rated(self, rates: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return _rated_together(self, rates)


@final
class Normalised(Chains):
    """``V_k / ‖V_k‖₂``."""

    def __init__(self, widths: Sequence[int], members: int, seed: int) -> None:
        super().__init__()
        pairs = _drawn(widths, members, seed)
        self.weights = torch.nn.ParameterList(W for W, _ in pairs)
        self.biases = torch.nn.ParameterList(b for _, b in pairs)
        self._norms = SpectralNorms(list(self.weights))

    def layers(self) -> Layers:
        weights = list(self.weights)
        return [(V / s[:, None, None], b) for V, s, b in zip(weights, self._norms(weights), self.biases)]

    def rated(self, rates: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return _rated_together(self, rates)


@final
class Sandwich(Chains):
    r"""``h_{k+1} = √2 A_kᵀ Ψ_k relu(√2 Ψ_k⁻¹ B_k h_k + b_k)``, ``f = B h + c``, with ``A_k A_kᵀ + B_k B_kᵀ = I``.

    ``(A_k B_k)ᵀ`` is Cayley's map of ``α V / ‖V‖_F``, and Ψ = diag(exp ψ): equations 8 to 11 of Wang and Manchester,
    *Direct parameterization of Lipschitz-bounded deep networks* (ICML 2023). The chain of plain weights has the factors
    of neighbours multiplied.
    """

    def __init__(self, widths: Sequence[int], members: int, seed: int) -> None:
        super().__init__()
        sizes = list(pairwise(widths))
        pairs = [_drawn((n + m, m), members, seed + k)[0] for k, (n, m) in enumerate(sizes)]
        self.raw = torch.nn.ParameterList(V for V, _ in pairs)
        self.biases = torch.nn.ParameterList(b for _, b in pairs)
        self.alphas = torch.nn.ParameterList(V.detach().square().sum(dim=(1, 2)).sqrt() for V, _ in pairs)
        hidden = widths[1:-1]
        self.psis = torch.nn.ParameterList(torch.zeros((members, n), dtype=torch.float64) for n in hidden)

    def layers(self) -> Layers:
        made = []
        before = None  # √2 A_{k−1}ᵀ Ψ_{k−1}
        for k, (V, alpha) in enumerate(zip(self.raw, self.alphas)):
            n = V.shape[1]
            length = V.square().sum(dim=(1, 2)).sqrt()
            Q = _cayley((alpha / length)[:, None, None] * V.mT)
            A, B = Q[:, :n].mT, Q[:, n:].mT
            last = k == len(self.raw) - 1
            W = B if last else math.sqrt(2.0) * torch.exp(-self.psis[k])[..., None] * B
            made.append((W if before is None else W @ before, self.biases[k]))
            if not last:
                before = math.sqrt(2.0) * A.mT * torch.exp(self.psis[k])[:, None]
        return made

    def rated(self, rates: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return _rated_together(self, rates)


def _cayley(M: torch.Tensor) -> torch.Tensor:
    """Orthonormal columns from any M = (U; V), U square: ``((I + S)⁻¹ (I − S); −2 V (I + S)⁻¹)``, S = U − Uᵀ + VᵀV."""
    n = M.shape[2]
    U, V = M[:, :n], M[:, n:]
    identity = torch.eye(n, dtype=M.dtype)
    S = U - U.mT + V.mT @ V
    inverse = torch.linalg.inv(identity + S)
    return torch.cat([2.0 * inverse - identity, -2.0 * V @ inverse], dim=1)


class Orthogonal(Chains):
    """Layers of deel-torchlip: ``SpectralLinear``, and ``FrobeniusLinear`` for the single output."""

    def __init__(self, widths: Sequence[int], members: int, seed: int) -> None:
        super().__init__()
        import deel.torchlip as lip  # type: ignore[import-not-found, unused-ignore]

        def one() -> torch.nn.ModuleList:
            torch.manual_seed(seed)
            *sizes, (n, m) = pairwise(widths)
            made = [lip.SpectralLinear(*size) for size in sizes]
            return torch.nn.ModuleList([*made, lip.FrobeniusLinear(n, m)]).double()

        with torch.random.fork_rng():
            self.members = torch.nn.ModuleList(one() for _ in range(members))

    def layers(self) -> Layers:
        columns: Any = zip(*self.members)
        return [
            (torch.stack([layer.weight for layer in same]), torch.stack([layer.bias for layer in same]))
            for same in columns
        ]

    def rated(self, rates: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(p, rate) for member, rate in zip(self.members, rates) for p in member.parameters()]


@final
class OrthogonalSorted(Orthogonal):
    """The same with sorted pairs of units in the place of ReLU (``GroupSort2``)."""

    pairs_sorted = True


# --------------------------------------------------------------------------------------------- measures of all members


@final
class SpectralNorms:
    """``‖W_k‖₂`` by power steps, one per call, with gradients; from below."""

    def __init__(self, weights: Sequence[torch.Tensor]) -> None:
        self._right = [torch.linalg.svd(W.detach())[2][:, 0] for W in weights]

    def __call__(self, weights: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        norms = []
        for k, W in enumerate(weights):
            with torch.no_grad():
                left = torch.nn.functional.normalize((W @ self._right[k][..., None])[..., 0], dim=1)
                self._right[k] = torch.nn.functional.normalize((left[:, None] @ W)[:, 0], dim=1)
            norms.append((left[:, None] @ W @ self._right[k][..., None])[:, 0, 0])
        return norms


@final
class Rho:
    """ρ̂ of :mod:`certnet.train.penalty_`, with its vectors, for members at once and slopes in [0, 1]."""

    def __init__(self, weights: Sequence[torch.Tensor], seed: int = 0, columns: int = 8) -> None:
        generator = torch.Generator().manual_seed(seed)
        shapes = [(len(W), columns, W.shape[2]) for W in weights]
        first, *units = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
        self._first = first / first.square().sum(dim=(1, 2), keepdim=True).sqrt()
        self._units = [u / _lengths(u) for u in units]
        self.step(weights, 20)

    def __call__(self, weights: Sequence[torch.Tensor]) -> torch.Tensor:
        """ρ̂ (members,) with the vectors as they are, and its gradient."""
        Z = self._first
        for B, u in zip(weights, self._units):
            P = Z @ B.mT
            Z = 0.5 * (P + _lengths(P) * u)
        return (Z @ weights[-1].mT).square().sum(dim=(1, 2))

    @torch.no_grad()
    def step(self, weights: Sequence[torch.Tensor], times: int = 1) -> torch.Tensor:
        """Power steps; ρ̂ before the last."""
        for _ in range(times):
            Z, directions = self._first, []
            for B, u in zip(weights, self._units):
                P = Z @ B.mT
                length = _lengths(P)
                directions.append(P / length)
                Z = 0.5 * (P + length * u)
            out = Z @ weights[-1].mT
            h = out @ weights[-1]
            for k in reversed(range(len(directions))):
                length = _lengths(h)
                self._units[k] = h / length
                h = (0.5 * (h + length * directions[k])) @ weights[k]
            self._first = h / h.square().sum(dim=(1, 2), keepdim=True).sqrt().clamp(min=_TINY)
        return out.square().sum(dim=(1, 2))


def _lengths(columns: torch.Tensor) -> torch.Tensor:
    return (columns.square().sum(dim=1, keepdim=True) + _TINY).sqrt()


def slope_estimate(layers: Layers) -> torch.Tensor:
    """``√ρ̂`` (members,) after many power steps: close to what certify will prove."""
    weights = [W.detach() for W, _ in layers]
    return Rho(weights, columns=12).step(weights, 60).sqrt()


# ---------------------------------------------------------------------------------------------------------- the methods


@dataclass(frozen=True)
class Method:
    """A name, its networks, and what is added to the error: by weights, norms and ρ̂, or nothing."""

    name: str
    chains: Callable[[Sequence[int], int, int], Chains]
    penalty: str = ""

    @property
    def needs_deel(self) -> bool:
        return self.chains in (Orthogonal, OrthogonalSorted)

    @property
    def sorts_pairs(self) -> bool:
        return self.chains is OrthogonalSorted


METHODS: Final = {
    method.name: method
    for method in (
        Method("weight decay", Dense, "decay"),
        Method("Adam + product penalty", Dense, "product"),
        Method("Adam + LipSDP penalty", Dense, "lipsdp"),
        Method("spectral normalisation", Normalised),
        Method("sandwich layers (LBDN)", Sandwich),
        Method("deel-torchlip, ReLU", Orthogonal),
        Method("deel-torchlip, GroupSort", OrthogonalSorted),
    )
}


@dataclass(frozen=True)
class RunSettings:
    """Steps of Adam in all, at which the networks are looked at, and the seed of weights and batches."""

    steps: int
    looks: int
    seed: int


class Run:
    """Members of one method in training, one per pair of a limit and a rate."""

    def __init__(
        self,
        method: Method,
        hidden: Sequence[int],
        X: np.ndarray,
        y: np.ndarray,
        limits: Sequence[float],
        rates: Sequence[float],
        settings: RunSettings,
    ) -> None:
        self._method, self._settings = method, settings
        self._X, self._y = torch.tensor(X), torch.tensor(y)
        self._limits = torch.tensor(limits, dtype=torch.float64)
        self.chains = method.chains((X.shape[1], *hidden, 1), len(limits), settings.seed)
        self._adam = Adam(self.chains.rated(torch.tensor(rates, dtype=torch.float64)))
        with torch.no_grad():
            weights = [W for W, _ in self.chains.layers()]
        self._rho, self._norms = Rho(weights), SpectralNorms(weights)
        self._dial = torch.full_like(self._limits, _FIRST_WEIGHT) if method.penalty else self._limits.clone()
        self._ahead = torch.ones_like(self._limits)

    def looks(self) -> Iterator[Layers]:
        """Train, and give the plain weights after each equal part of the steps."""
        settings = self._settings
        generator = torch.Generator().manual_seed(settings.seed)
        part = settings.steps // settings.looks
        order = torch.empty(0, dtype=torch.int64)
        n = len(self._X)
        for step in range(part * settings.looks):
            if len(order) < min(n, _BATCH):
                order = torch.randperm(n, generator=generator)
            rows, order = order[:_BATCH], order[_BATCH:]
            share = step / settings.steps
            self._step(rows, _LAST_RATE + (1.0 - _LAST_RATE) * 0.5 * (1.0 + math.cos(math.pi * share)))
            if step % _EVERY == 0:
                self._turn()
            if (step + 1) % part == 0:
                yield self.layers()

    @torch.no_grad()
    def layers(self) -> Layers:
        """The plain weights as they are."""
        return [(W.clone(), b.clone()) for W, b in self._scaled(self.chains.layers())]

    def outputs(self, layers: Layers, X: np.ndarray) -> torch.Tensor:
        return self.chains.outputs(layers, torch.tensor(X))

    def slopes(self, layers: Layers) -> torch.Tensor:
        """L̂ (members,): by ρ̂, and by norms where pairs are sorted."""
        if self.chains.pairs_sorted:
            # of a member that diverged the outputs tell; singular values of NaN are an error
            return torch.stack([torch.linalg.matrix_norm(W.nan_to_num(), 2) for W, _ in layers]).prod(dim=0)
        return slope_estimate(layers)

    def _scaled(self, layers: Layers) -> Layers:
        if self._method.penalty:
            return layers
        *inner, (V, c) = layers
        return [*inner, (self._dial[:, None, None] * V, c)]

    def _step(self, rows: torch.Tensor, share: float) -> None:
        layers = self._scaled(self.chains.layers())
        residuals = self.chains.outputs(layers, self._X[rows]) - self._y[rows]
        value = residuals.square().mean(dim=1)
        if self._method.penalty:
            value = value + self._dial * self._ahead * self._penalty([W for W, _ in layers])
        value.sum().backward()
        self._adam.step(share)

    def _penalty(self, weights: list[torch.Tensor]) -> torch.Tensor:
        if self._method.penalty == "decay":
            return torch.stack([W.square().sum(dim=(1, 2)) for W in weights]).sum(dim=0)
        if self._method.penalty == "product":
            return torch.stack(self._norms(weights)).prod(dim=0)
        self._rho.step(weights)
        return self._rho(weights)

    @torch.no_grad()
    def _turn(self) -> None:
        """A penalty's weight rises where L̂ is above the limit, a factor falls."""
        if self.chains.pairs_sorted:
            return
        weights = [W for W, _ in self._scaled(self.chains.layers())]
        excess = 0.5 * torch.log(self._rho.step(weights).clamp(min=_TINY)) - torch.log(self._limits)
        sign = 1.0 if self._method.penalty else -1.0
        self._dial *= torch.exp(sign * _TURN * excess.clamp(-2.0, 2.0))
        self._ahead = torch.exp(_AHEAD * excess.clamp(-2.0, 2.0))


@final
class Adam:
    """Adam (Kingma and Ba 2015) with a rate for each member."""

    def __init__(self, rated: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self._rated = list(rated)
        self._moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p, _ in rated]
        self._count = 0

    @torch.no_grad()
    def step(self, share: float) -> None:
        self._count += 1
        first, second = 1.0 - 0.9**self._count, 1.0 - 0.999**self._count
        for (p, rate), (m, v) in zip(self._rated, self._moments):
            assert p.grad is not None
            m.lerp_(p.grad, 0.1)
            v.mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
            p.sub_((rate * (share / first)) * m / ((v / second).sqrt() + 1e-8))
            p.grad = None


# ----------------------------------------------------------------------------------------------------- as certnet's own


def plain(chains: Chains, layers: Layers, member: int) -> FeedForward:
    """One member as a network of ReLU.

    Sorted pairs are ``max(a, b) = b + relu(a − b)`` and ``min(a, b) = b − relu(b − a)`` with
    ``b = relu(b) − relu(−b)``: four units for two.
    """
    arrays = [(W[member].numpy(), b[member].numpy()) for W, b in layers]
    if chains.pairs_sorted:
        arrays = _unsorted(arrays)
    weights, biases = zip(*arrays)
    return FeedForward(weights, biases, "relu")


def _unsorted(layers: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    before = np.array([[1.0, -1.0], [-1.0, 1.0], [0.0, 1.0], [0.0, -1.0]])  # of (a, b)
    after = np.array([[0.0, -1.0, 1.0, -1.0], [1.0, 0.0, 1.0, -1.0]])  # (min, max)
    made = []
    back: np.ndarray | None = None
    for k, (W, b) in enumerate(layers):
        M = W if back is None else W @ back
        if k < len(layers) - 1:
            pairs = np.eye(len(W) // 2)
            ahead = np.kron(pairs, before)
            M, b, back = ahead @ M, ahead @ b, np.kron(pairs, after)
        made.append((M, b))
    return made
