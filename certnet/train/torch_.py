"""Training by PyTorch's optimisers: the only module of this part that imports torch.

Weights are one float64 vector of which the layers are views: an optimiser's step on these small networks is then a few
operations however many layers there are. Random numbers come from a generator of the run's own, on the CPU, so that
every device shuffles and starts alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from certnet.backends.torch_ import import_torch, torch_device
from certnet.core.errors import SolverError
from certnet.core.validation import Float
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork
from certnet.train.regularizers import Constraint, Penalty
from certnet.train.result import TrainResult, versions
from certnet.train.task import Attack, Descent, Task

if TYPE_CHECKING:
    import torch

__all__ = ["ascend", "fit"]

_INSIDE = 1.0 - 1e-12  # perturbations stay a little within their ball: rounding must not leave it
Layers = list[tuple["torch.Tensor", "torch.Tensor"]]


def fit(task: Task, descent: Descent, settings: dict[str, Any]) -> TrainResult:
    """Minimise a task's objective by mini-batch steps; the network after the last epoch.

    Raises
    ------
    MissingDependencyError
        PyTorch is not installed.
    InvalidInputError
        The device is unknown or not there.
    SolverError
        The objective became NaN or infinite.
    """
    start = time.perf_counter()
    torch = import_torch()
    device = torch_device(descent.device)
    losses, scores = [], []
    with threadpool_limits(limits=1):  # layers this small gain nothing from threads, and one thread sums in one order
        run = _Run(task, descent, device)
        for epoch in range(descent.epochs + 1):
            try:
                if epoch > 0:
                    run.epoch()
                losses.append(run.objective())
            except (torch.linalg.LinAlgError, np.linalg.LinAlgError) as error:  # singular values of NaN
                raise _diverged(epoch, descent) from error
            if not np.isfinite(losses[-1]):
                raise _diverged(epoch, descent)
            if task.validation is not None:
                scores.append(run.score())
        network = run.network()
    return TrainResult(
        network=network,
        loss_curve=tuple(losses),
        validation_curve=tuple(scores),
        settings={"hidden": task.hidden, **settings, **descent.settings(), "device": str(device)},
        seed=descent.random_state,
        seconds=time.perf_counter() - start,
        versions=versions(torch=str(torch.__version__)),
        history={},
    )


def ascend(layers: Layers, X: torch.Tensor, y: torch.Tensor, attack: Attack, noise: torch.Tensor) -> torch.Tensor:
    """``X + δ`` after ``attack.n_steps`` steps ``δ ← Π(δ + α ε u)`` of ascent on the squared error, ``‖δ_i‖ ≤ ε``.

    Madry et al., ICLR 2018, section 2.1: u is ``g/‖g‖₂`` for l2 and ``sign(g)`` for linf, and the last point is taken.
    With several starts it is the worst of their last points, sample by sample.

    Parameters
    ----------
    layers : list of pairs of Tensor
        Weights and biases; ReLU between the layers.
    X, y : Tensor, shapes (n, d), (n, m)
    attack : Attack
    noise : Tensor, shape (n_restarts, n, d)
        Uniform on [−1, 1]: the starts in units of ε, projected on the ball.
    """
    worst = _climb(layers, X, y, attack, noise[0])
    for start in noise[1:]:
        other = _climb(layers, X, y, attack, start)
        better = _squares(layers, other, y) > _squares(layers, worst, y)
        worst = other.where(better[:, None], worst)
    return worst


def _climb(layers: Layers, X: torch.Tensor, y: torch.Tensor, attack: Attack, start: torch.Tensor) -> torch.Tensor:
    delta = _project(start, attack.norm)
    for _ in range(attack.n_steps):
        slope = _input_gradient(layers, X + attack.epsilon * delta, y)
        delta = _project(delta + attack.step_size * _steepest(slope, attack.norm), attack.norm)
    return X + attack.epsilon * delta


def _project(delta: torch.Tensor, norm: str) -> torch.Tensor:
    if norm == "linf":
        return delta.clamp(-_INSIDE, _INSIDE)
    return delta * (_INSIDE / delta.norm(dim=1, keepdim=True).clamp(min=_INSIDE))


def _steepest(slope: torch.Tensor, norm: str) -> torch.Tensor:
    return slope.sign() if norm == "linf" else slope / slope.norm(dim=1, keepdim=True).clamp(min=1e-300)


def _forward(layers: Layers, X: torch.Tensor) -> torch.Tensor:
    for W, b in layers[:-1]:
        X = (X @ W.T + b).relu()
    return X @ layers[-1][0].T + layers[-1][1]


def _input_gradient(layers: Layers, X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Gradient of ``½ ‖f(x_i) − y_i‖²`` at each row, written out: a graph would cost several times as much."""
    masks = []
    for W, b in layers[:-1]:
        X = (X @ W.T + b).relu()
        masks.append(X > 0.0)
    back = (X @ layers[-1][0].T + layers[-1][1] - y) @ layers[-1][0]
    for (W, _), mask in zip(layers[-2::-1], masks[::-1]):
        back = (back * mask) @ W
    return back


class _Run:
    """A training in progress."""

    def __init__(self, task: Task, descent: Descent, device: torch.device) -> None:
        torch = import_torch()
        self._torch, self._task, self._device = torch, task, device
        self._batch_size = min(descent.batch_size, len(task.X))
        self._generator = torch.Generator().manual_seed(descent.random_state)
        self._X, self._y = self._tensor(task.X), self._tensor(task.y)
        self._validation = None if task.validation is None else tuple(map(self._tensor, task.validation))
        self._theta = self._start().to(device).requires_grad_()
        self._frozen = self._layers(self._theta.detach())  # the same memory, outside the graph
        self._optimizer = _optimizer(torch, self._theta, descent)
        self._seed = descent.random_state
        self._restore()

    def epoch(self) -> None:
        """One pass over the shuffled samples."""
        order = self._torch.randperm(len(self._X), generator=self._generator).to(self._device)
        X, y = self._X[order], self._y[order]
        for at in range(0, len(X), self._batch_size):
            self._step(X[at : at + self._batch_size], y[at : at + self._batch_size])

    def objective(self) -> float:
        """What is minimised, on all training data."""
        with self._torch.no_grad():
            return float(self._value(self._theta.detach(), self._measured(self._X, self._y), self._y))

    def score(self) -> float:
        """The loss on the validation data, without regularisation."""
        if self._validation is None:
            return float("nan")
        X, y = self._validation
        with self._torch.no_grad():
            return float(_mse(self._frozen, self._measured(X, y), y))

    def network(self) -> ShallowNetwork | FeedForward:
        weights, biases = zip(*((W.cpu().numpy().copy(), b.cpu().numpy().copy()) for W, b in self._frozen))
        if len(weights) == 2:
            return ShallowNetwork(weights[0], biases[0], weights[1], biases[1])
        return FeedForward(weights, biases, "relu")

    def _step(self, X: torch.Tensor, y: torch.Tensor) -> None:
        X = self._attacked(X, y, self._generator)
        self._optimizer.zero_grad()
        self._value(self._theta, X, y).backward()
        self._optimizer.step()
        self._restore()

    def _restore(self) -> None:
        """Bring the weights back to the regulariser's set."""
        if isinstance(self._task.regularizer, Constraint):
            factors = self._task.regularizer.factors([W.cpu().numpy() for W, _ in self._frozen])
            for (W, _), factor in zip(self._frozen, factors):
                W.mul_(self._tensor(factor))

    def _value(self, theta: torch.Tensor, X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        task, layers = self._task, self._layers(theta)
        value = _mse(layers, X, y)
        if task.weight_decay > 0.0:
            decayed = theta[: -task.widths[-1]]  # the output biases come last and are free
            value = value + task.weight_decay * (decayed @ decayed)
        if isinstance(task.regularizer, Penalty):
            value = value + task.regularizer.penalty([self._torch.linalg.matrix_norm(W, 2) for W, _ in layers])
        return value

    def _measured(self, X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Attacked from the same starts every time, and without drawing from the training's random numbers."""
        return self._attacked(X, y, self._torch.Generator().manual_seed(self._seed))

    def _attacked(self, X: torch.Tensor, y: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        attack = self._task.attack
        if attack is None or attack.epsilon == 0.0:
            return X
        pairs = (attack.n_restarts + 1) // 2
        noise = (2.0 * self._torch.rand((pairs, *X.shape), generator=generator, dtype=X.dtype) - 1.0).to(self._device)
        # opposite starts: where f is nearly linear, one of the two climbs each side of a small residual
        starts = self._torch.stack([noise, -noise], dim=1).flatten(0, 1)[: attack.n_restarts]
        return ascend(self._frozen, X, y, attack, starts)

    def _layers(self, theta: torch.Tensor) -> Layers:
        layers, at = [], 0
        for n, m in pairwise(self._task.widths):
            layers.append((theta[at : at + n * m].view(m, n), theta[at + n * m : at + n * m + m]))
            at += n * m + m
        return layers

    def _start(self) -> torch.Tensor:
        """Uniform on ±1/√n for the weights and biases of a layer with n inputs, as ``torch.nn.Linear`` draws them."""
        drawn = [
            (2.0 * self._torch.rand(n * m + m, generator=self._generator, dtype=self._torch.float64) - 1.0) / n**0.5
            for n, m in pairwise(self._task.widths)
        ]
        return self._torch.cat(drawn)

    def _tensor(self, array: Float) -> torch.Tensor:
        return self._torch.tensor(array, dtype=self._torch.float64, device=self._device)


def _mse(layers: Layers, X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return _squares(layers, X, y).sum() / len(X)


def _squares(layers: Layers, X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``‖f(x_i) − y_i‖²``, shape (n,)."""
    return (_forward(layers, X) - y).square().sum(dim=1)


def _optimizer(torch: Any, theta: torch.Tensor, descent: Descent) -> torch.optim.Optimizer:
    make: dict[str, Callable[[], Any]] = {
        "sgd": lambda: torch.optim.SGD([theta], lr=descent.learning_rate, momentum=descent.momentum),
        "adam": lambda: torch.optim.Adam([theta], lr=descent.learning_rate),
    }
    return make[descent.optimizer]()


def _diverged(epoch: int, descent: Descent) -> SolverError:
    return SolverError(
        f"the training objective is not finite after epoch {epoch} of {descent.epochs}: use a learning rate below "
        f"{descent.learning_rate:g}, or standardise the data"
    )
