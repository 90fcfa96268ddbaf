r"""Learning of lifted networks in large batches on a PyTorch device: both phases, the gradient and the step stay there.

The objectives are those of :mod:`certnet.lifted.learn.objective` with the output clamped, in float64, and the order of
the samples is that of :func:`certnet.lifted.learn.train`. A phase is one factorisation of H for the whole batch and
products from then on (:func:`certnet.lifted.device_.box_admm`), with units that have no limits eliminated:

    z_F = H_FF^{−1} (q_F − H_FB z_B),    (H_BB − H_BF H_FF^{−1} H_FB) z_B  against  q_B − H_BF H_FF^{−1} q_F

Gradients are Danskin's, at fixed activations (Høier and Zach 2020, section 4; Zach and Estellers 2019, (19)).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike

from certnet.backends.torch_ import import_torch, torch_device
from certnet.core.errors import InvalidInputError, NotConvergedWarning, SolverError
from certnet.core.validation import Float, whole_number
from certnet.lifted.device_ import box_admm
from certnet.lifted.learn.data import samples_of
from certnet.lifted.learn.optimisers import rate_factor
from certnet.lifted.learn.settings import Training
from certnet.lifted.network import LiftedNetwork

if TYPE_CHECKING:
    import torch

__all__ = ["DeviceTrained", "train_on_device"]

_BELOW: Final = 1e-2
"""Of the scale of a contrastive loss: so far below zero a phase is not solved."""

Tensors = list[Any]


@dataclass(frozen=True, eq=False)
class DeviceTrained:
    """A network that was trained on a device.

    Attributes
    ----------
    network : LiftedNetwork
        After the last epoch.
    loss_curve : tuple of float
        Mean objective of each epoch over its batches, each before its step, without the weight decay.
    score_curve : tuple of float
        ``score(network)`` after each epoch.
    missed : int
        Phases of samples that ended above the tolerance.
    device : str
    seconds : float
        Wall-clock time.
    """

    network: LiftedNetwork
    loss_curve: tuple[float, ...]
    score_curve: tuple[float, ...]
    missed: int
    device: str
    seconds: float


def train_on_device(
    net: LiftedNetwork,
    X: ArrayLike,
    y: ArrayLike | None = None,
    how: Training | None = None,
    *,
    device: str = "auto",
    random_state: int = 0,
    score: Callable[[LiftedNetwork], float] | None = None,
) -> DeviceTrained:
    """:func:`certnet.lifted.learn.train` with every step on a PyTorch device; meant for batches of 500 and more.

    Parameters
    ----------
    net : LiftedNetwork
        Where to start; it is not changed.
    X : array_like, shape (N, d)
        All of it is moved to the device.
    y : array_like, shape (N, n_L)
        Targets, inside of the output's box; None for the unsupervised objective.
    how : Training, optional
        Batches of 500 by default. "sgd" without momentum, the objectives "contrastive", "lifted" and "unsupervised",
        the clamp, phases to a tolerance: what else can be set is refused here.
    device : str
        "auto" (the GPU where PyTorch has one), "cpu", "cuda", "cuda:1", …; it has to compute in float64.
    random_state : int
        Seed of the order of the samples.
    score : callable, optional
        ``score(network) -> float``, called after every epoch.

    Raises
    ------
    InvalidInputError
        Data that do not fit the network, settings that are not for the device, a device that is not there.
    MissingDependencyError
        PyTorch is not installed.
    SolverError
        Training diverged, or a contrastive loss is clearly negative: a phase is not solved.

    Warns
    -----
    NotConvergedWarning
        Phases that missed their tolerance.
    """
    begin = time.perf_counter()
    how = how or Training(batch_size=500)
    place = torch_device(device, double=True)
    _require(how)
    inputs, targets = samples_of(net, X, y, how)
    seed = whole_number(random_state, "random_state")
    run = _Run(net, inputs, targets, how, place)
    generator = np.random.default_rng(seed)
    losses, scores = [], []
    for epoch in range(how.max_epochs):
        losses.append(run.epoch(epoch, generator.permutation(len(inputs))))
        if score is not None:
            scores.append(float(score(run.network())))
    if run.missed:
        warnings.warn(
            f"{run.missed} phases of samples ended above their tolerance: raise max_passes, or lower the learning rate",
            NotConvergedWarning,
            stacklevel=2,
        )
    seconds = time.perf_counter() - begin
    return DeviceTrained(run.network(), tuple(losses), tuple(scores), run.missed, str(place), seconds)


def _require(how: Training) -> None:
    """Refuse settings that the device does not know."""
    objective = how.objective
    wrong = {
        f"the objective {objective.kind!r}": objective.kind not in ("contrastive", "lifted", "unsupervised"),
        f"the loss {objective.loss!r}": objective.target_sign != 0.0 and not objective.clamps,
        f"the optimizer {how.optimizer!r}": how.optimizer != "sgd",
        "momentum": how.momentum != 0.0,
        "a number of passes": how.passes is not None,
        "warm_activations": how.warm_activations,
    }
    if named := [name for name, is_wrong in wrong.items() if is_wrong]:
        raise InvalidInputError(f"{', '.join(named)}: not on a device; use certnet.lifted.learn.train")


class _Run:
    """Parameters on the device, and the steps that move them."""

    missed: int = 0

    def __init__(self, net: LiftedNetwork, X: Float, y: Float | None, how: Training, place: torch.device) -> None:
        pt = import_torch()

        def moved(array: Float, dtype: Any = pt.float64) -> Any:
            return pt.tensor(array, dtype=dtype, device=place)

        self._net, self._how, self._place = net, how, place
        self._X = moved(X, pt.float32 if X.dtype == np.float32 else pt.float64)
        self._y = None if y is None else moved(y)
        self._weights: Tensors = [moved(W) for W in net.weights]
        self._biases: Tensors = [moved(b) for b in net.biases]
        self._back: Tensors = [moved(c) for c in net.reconstruction_biases]
        self._lower, self._upper = (moved(np.concatenate(limits)) for limits in (net.lower, net.upper))
        self._scale = [net.gamma**k for k in range(net.depth)]
        self._tol = how.tolerance(net)

    def network(self) -> LiftedNetwork:
        """The network as it is now."""

        def back(tensors: Tensors) -> list[Float]:
            return [np.asarray(tensor.cpu().numpy(), dtype=np.float64) for tensor in tensors]

        return self._net.with_parameters(back(self._weights), back(self._biases), back(self._back))

    def epoch(self, epoch: int, order: Any) -> float:
        """A step for every batch; the mean objective."""
        pt, how = import_torch(), self._how
        warmth = min(1.0, (epoch + 1) / (how.warmup_epochs + 1))
        rate = how.rate(self._net) * warmth * rate_factor(how.schedule, epoch / max(1, how.max_epochs))
        total = 0.0
        for first in range(0, len(order), how.batch_size):
            rows = pt.as_tensor(order[first : first + how.batch_size], device=self._place)
            X = self._X[rows].to(pt.float64)
            if not all(bool(pt.isfinite(W).all()) for W in self._weights):
                raise SolverError(f"training diverged in epoch {epoch + 1}: lower the learning rate")
            try:
                mean = self._step(X, None if self._y is None else self._y[rows], rate)
            except (np.linalg.LinAlgError, pt.linalg.LinAlgError) as error:
                raise SolverError(
                    f"in epoch {epoch + 1} the energy has lost its curvature to rounding: lower the learning rate"
                ) from error
            self._heed(mean, epoch)
            total += mean * len(rows)
        return total / len(order)

    def _heed(self, mean: float, epoch: int) -> None:
        if not np.isfinite(mean):
            raise SolverError(f"training diverged in epoch {epoch + 1}: lower the learning rate")
        unit = self._scale[-1]
        if self._how.objective.kind == "contrastive" and mean < -_BELOW * unit:
            raise SolverError(
                f"the contrastive loss of a batch is {mean:.3g}, and it cannot be negative: a phase is not solved. "
                "Raise max_passes, or lower the learning rate"
            )

    # ------------------------------------------------------------------------------------------------------- one batch

    def _step(self, X: Any, y: Any | None, rate: float) -> float:
        """Move the parameters; the mean objective before."""
        H, q, objective = self._curvature(), self._linear(X), self._how.objective
        phases: list[tuple[float, Any]] = []
        if objective.target_sign and y is not None:
            phases.append((objective.target_sign, self._solved(H, q, y)))
        if objective.free_sign:
            phases.append((objective.free_sign, self._solved(H, q, None)))
        mean = 0.0
        moves = [[0.0 for _ in self._weights] for _ in range(3)]
        for sign, z in phases:
            mean += sign * self._collect(X, z, sign / len(X), moves)
        decay = self._how.weight_decay
        if decay:
            moves[0][-1] = moves[0][-1] + decay * self._weights[-1]
        kinds = (self._weights, self._biases, self._back) if self._how.biases else (self._weights,)
        for tensors, gradient in zip(kinds, moves):
            for k, slope in enumerate(gradient):
                tensors[k] = tensors[k] - rate * slope
        return mean

    def _curvature(self) -> Any:
        """H, see :mod:`certnet.networks.quadratic`."""
        pt, net, slices = import_torch(), self._net, self._net.layers
        H = pt.zeros((net.n_units, net.n_units), dtype=pt.float64, device=self._place)
        for k, (W, scale, beta) in enumerate(zip(self._weights, self._scale, net.beta)):
            above = slices[k]
            H[above, above] += scale * (beta * (W @ W.T) + pt.eye(len(W), dtype=pt.float64, device=self._place))
            if k:
                below = slices[k - 1]
                unit = pt.eye(W.shape[1], dtype=pt.float64, device=self._place)
                H[below, below] += scale * (W.T @ W + beta * unit)
                H[above, below] = -scale * (1.0 + beta) * W
                H[below, above] = H[above, below].T
        return H

    def _linear(self, X: Any) -> Any:
        """q of every row."""
        pt, net, slices = import_torch(), self._net, self._net.layers
        q = pt.zeros((len(X), net.n_units), dtype=pt.float64, device=self._place)
        parts = zip(self._weights, self._biases, self._back, self._scale, net.beta)
        for k, (W, b, c, scale, beta) in enumerate(parts):
            q[:, slices[k]] += scale * (b + beta * (W @ c))
            if k:
                q[:, slices[k - 1]] -= scale * (W.T @ b + beta * c)
            else:
                q[:, slices[0]] += (1.0 + beta) * (X @ W.T)
        return q

    def _solved(self, H: Any, q: Any, clamp: Any | None) -> Any:
        """Activations of a phase, all units."""
        pt = import_torch()
        z = pt.empty_like(q)
        n = H.shape[0]
        if clamp is not None:
            hidden = n - clamp.shape[1]
            z[:, hidden:] = clamp
            q = q[:, :hidden] - clamp @ H[hidden:, :hidden]
            H, n = H[:hidden, :hidden], hidden
        lower, upper = self._lower[:n], self._upper[:n]
        free = pt.isinf(lower) & pt.isinf(upper)
        held = ~free
        if bool(free.any()):
            cross = H[free][:, held]
            solved = pt.linalg.solve(H[free][:, free], pt.cat([cross, q[:, free].T], dim=1))
            inner, outer = solved[:, : cross.shape[1]], solved[:, cross.shape[1] :].T
            reduced, linear = H[held][:, held] - cross.T @ inner, q[:, held] - outer @ cross
        else:
            reduced, linear = H, q
        found, missed = box_admm(reduced, linear, lower[held], upper[held], self._tol, self._how.max_passes)
        self.missed += missed
        inside = pt.empty_like(q)
        inside[:, held] = found
        if bool(free.any()):
            inside[:, free] = outer - found @ inner.T
        z[:, :n] = inside
        return z

    def _collect(self, X: Any, z: Any, weight: float, moves: list[list[Any]]) -> float:
        """The mean energy at z; ``weight`` times the gradient of its sum over the rows is added to ``moves``."""
        net, total = self._net, 0.0
        below = X
        parts = zip(self._weights, self._biases, self._back, self._scale, net.beta)
        for k, (W, b, c, scale, beta) in enumerate(parts):
            above = z[:, net.layers[k]]
            ahead = above - below @ W.T - b
            moves[0][k] = moves[0][k] - weight * scale * (ahead.T @ below)
            moves[1][k] = moves[1][k] - weight * scale * ahead.sum(dim=0)
            total += 0.5 * scale * float((ahead * ahead).sum())
            if beta:
                back = above @ W - below - c
                moves[0][k] = moves[0][k] + weight * scale * beta * (above.T @ back)
                moves[2][k] = moves[2][k] - weight * scale * beta * back.sum(dim=0)
                total += 0.5 * scale * beta * float((back * back).sum())
            below = above
        return total / len(X)
