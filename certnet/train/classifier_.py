"""Classifiers that can be certified: cross-entropy with a penalty on LipSDP's ρ, estimated step by step, in PyTorch.

Random numbers come from a generator of the run's own, on the CPU, so that every device shuffles and starts alike.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from certnet.backends.torch_ import import_torch, torch_device
from certnet.core.errors import InvalidInputError, SolverError
from certnet.core.validation import Float, as_inputs, finite_array, positive_number, whole_number
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork
from certnet.train.penalty_ import LipschitzPenalty
from certnet.train.result import TrainResult, versions
from certnet.train.task import hidden_widths

if TYPE_CHECKING:
    import torch

__all__ = ["train_classifier"]

_ROWS: Final = 4096  # samples measured at once
_RISE, _LOW, _LAST = 0.25, 0.04, 1e-5  # the learning rate's rise, and its first and last value relative to the largest


def train_classifier(
    X: ArrayLike,
    y: ArrayLike,
    hidden: Sequence[int] = (256, 256),
    *,
    penalty: float = 3e-3,
    radius: float = 0.0,
    weight_decay: float = 0.0,
    columns: int = 8,
    epochs: int = 10,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    random_state: int = 0,
    device: str = "auto",
    X_val: ArrayLike | None = None,
    y_val: ArrayLike | None = None,
) -> TrainResult:
    r"""Minimise cross-entropy with a penalty on the slope of all margins, by mini-batch steps of Adam.

        (1/N) Σ_i CE(f(x_i) − √(2ρ̂) · radius · e_{y_i}, y_i)  +  penalty · ρ̂  +  weight_decay · Σ_k ‖W_k‖_F²

    ρ̂ estimates, from below, LipSDP's ρ of ``f − mean(f)`` (:class:`~certnet.train.penalty_.LipschitzPenalty` with
    ``differences=True``), so that ``√(2ρ)`` bounds the slope of every margin ``f_i − f_j``. **Nothing is proved in
    training**: :func:`certnet.certify_outputs` with ``differences=True`` proves bounds of the network that comes
    out, and :func:`certnet.robust.certified_radius` and :func:`certnet.robust.certified_accuracy` tell what follows.

    With all three weights at 0 it is plain training; ``weight_decay`` alone is the usual baseline. ``penalty`` trades
    slope against fit. ``radius`` asks for margins that hold within a perturbation of that norm: it counts against the
    right class all that the perturbation could do (Lipschitz-margin training, Tsuzuku, Sato and Sugiyama, NeurIPS 2018,
    with ρ in the place of a product of norms), growing linearly from 0 over the first half of the steps. The learning
    rate rises for a quarter of the steps, then falls to nothing along a cosine (Smith and Topin's one cycle, 2018).

    Parameters
    ----------
    X : array_like, shape (N, d)
        Radii are in its units. Images in [0, 1] suit the default learning rate as they are.
    y : array_like of int, shape (N,)
        Classes 0, 1, …, m − 1.
    hidden : sequence of int
        Widths of the hidden layers, ReLU after each.
    penalty, radius, weight_decay : float
        As above, at least 0; biases are not decayed.
    columns : int
        Of the estimate.
    epochs, batch_size : int
    learning_rate : float
        The largest.
    random_state : int
        Seed of the first weights, of the orders and of the estimate; PyTorch's own random state is neither read nor
        changed.
    device : str
        "auto" is CUDA where PyTorch finds it, else the CPU. Devices round differently.
    X_val, y_val : array_like, shapes (n, d) and (n,), optional
        Only measured.

    Returns
    -------
    TrainResult
        The network after the last epoch, float32 values in float64. ``loss_curve`` is the objective (with the whole
        ``radius``) at the start and after every epoch, ``validation_curve`` the mean cross-entropy on the validation
        data. ``history``: "accuracy" on the training data, "validation_accuracy" with such data, and, unless
        ``penalty`` and ``radius`` are both 0, "slope_estimate", √ρ̂.

    Raises
    ------
    InvalidInputError
        Wrong shapes, NaN, labels that are no classes, a negative weight, an unknown device.
    MissingDependencyError
        PyTorch is not installed.
    SolverError
        The objective became NaN or infinite.

    Examples
    --------
    >>> import certnet
    >>> from certnet.robust import certified_accuracy
    >>> data = certnet.data.load_images("mnist")  # doctest: +SKIP
    >>> trained = train_classifier(data.X_train, data.y_train)  # doctest: +SKIP
    >>> proofs = certnet.certify_outputs(trained.network, differences=True)  # doctest: +SKIP
    >>> certified_accuracy(trained.network, data.X_test, data.y_test, [0.5], proofs)  # doctest: +SKIP
    """
    start = time.perf_counter()
    torch = import_torch()
    inputs, labels = _samples(X, y, "y")
    widths = (inputs.shape[1], *hidden_widths(hidden), int(labels.max()) + 1)
    if widths[-1] < 2:
        raise InvalidInputError("y has one class: at least two are needed")
    goal = _Goal(
        positive_number(penalty, "penalty", zero=True),
        positive_number(radius, "radius", zero=True),
        positive_number(weight_decay, "weight_decay", zero=True),
        whole_number(columns, "columns", least=1),
    )
    steps = _Steps(
        whole_number(epochs, "epochs", least=1),
        min(whole_number(batch_size, "batch_size", least=1), len(inputs)),
        positive_number(learning_rate, "learning_rate"),
        whole_number(random_state, "random_state", most=2**63 - 1),
    )
    held = _validation(X_val, y_val, widths)
    place = torch_device(device)
    with threadpool_limits(limits=1):  # layers this small gain nothing from threads, and one thread sums in one order
        run = _Run(inputs, labels, held, widths, goal, steps, place)
        curves: dict[str, list[float]] = {}
        for epoch in range(steps.epochs + 1):
            if epoch > 0:
                run.epoch()
            for name, value in run.measured().items():
                curves.setdefault(name, []).append(value)
            if not math.isfinite(curves["loss"][-1]):
                raise SolverError(
                    f"the training objective is not finite after epoch {epoch} of {steps.epochs}: use a learning rate "
                    f"below {steps.learning_rate:g}, or scale the inputs"
                )
        network = run.network()
    found = {name: tuple(values) for name, values in curves.items()}
    return TrainResult(
        network=network,
        loss_curve=found.pop("loss"),
        validation_curve=found.pop("validation_loss", ()),
        settings={
            "method": "classifier",
            "hidden": widths[1:-1],
            "penalty": goal.penalty,
            "radius": goal.radius,
            "weight_decay": goal.weight_decay,
            "columns": goal.columns,
            "epochs": steps.epochs,
            "batch_size": steps.batch_size,
            "learning_rate": steps.learning_rate,
            "device": str(place),
        },
        seed=steps.seed,
        seconds=time.perf_counter() - start,
        versions=versions(torch=str(torch.__version__)),
        history=found,
    )


@dataclass(frozen=True)
class _Goal:
    """What is added to the cross-entropy."""

    penalty: float
    radius: float
    weight_decay: float
    columns: int

    @property
    def estimates(self) -> bool:
        """Whether ρ̂ is needed."""
        return self.penalty > 0.0 or self.radius > 0.0


@dataclass(frozen=True)
class _Steps:
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int


class _Run:
    """A training in progress."""

    def __init__(
        self,
        X: Float,
        y: NDArray[np.int64],
        held: tuple[Float, NDArray[np.int64]] | None,
        widths: Sequence[int],
        goal: _Goal,
        steps: _Steps,
        device: torch.device,
    ) -> None:
        torch = import_torch()
        self._torch, self._goal, self._steps, self._device = torch, goal, steps, device
        self._generator = torch.Generator().manual_seed(steps.seed)
        self._X, self._y = self._tensors(X, y)
        self._held = None if held is None else self._tensors(*held)
        self._linear = [self._layer(n, m) for n, m in pairwise(widths)]
        bent = [part for layer in self._linear[:-1] for part in (layer, torch.nn.ReLU())]
        self._module = torch.nn.Sequential(*bent, self._linear[-1])
        self._penalty: LipschitzPenalty | None = None
        if goal.estimates:
            self._penalty = LipschitzPenalty(self._module, columns=goal.columns, differences=True, seed=steps.seed)
        self._optimizer = torch.optim.Adam(self._module.parameters(), lr=steps.learning_rate)
        self._done, self._total = 0, steps.epochs * math.ceil(len(X) / steps.batch_size)

    def epoch(self) -> None:
        """One pass over the shuffled samples."""
        order = self._torch.randperm(len(self._X), generator=self._generator).to(self._device)
        X, y, size = self._X[order], self._y[order], self._steps.batch_size
        for at in range(0, len(X), size):
            self._step(X[at : at + size], y[at : at + size])

    def measured(self) -> dict[str, float]:
        """The objective and the accuracy on all training data, the same of the validation data, and √ρ̂."""
        with self._torch.no_grad():
            rho = None if self._penalty is None else self._penalty()
            loss, right = self._over(self._X, self._y, self._goal.radius, rho)
            values = {"loss": loss + float(self._added(rho)), "accuracy": right}
            if self._held is not None:
                values["validation_loss"], values["validation_accuracy"] = self._over(*self._held, 0.0, None)
            if rho is not None:
                values["slope_estimate"] = math.sqrt(float(rho))
        return values

    def network(self) -> ShallowNetwork | FeedForward:
        weights = [layer.weight.detach().double().cpu().numpy() for layer in self._linear]
        biases = [layer.bias.detach().double().cpu().numpy() for layer in self._linear]
        if len(weights) == 2:
            return ShallowNetwork(weights[0], biases[0], weights[1], biases[1])
        return FeedForward(weights, biases, "relu")

    def _step(self, X: torch.Tensor, y: torch.Tensor) -> None:
        share = self._done / self._total
        self._done += 1
        for group in self._optimizer.param_groups:
            group["lr"] = self._steps.learning_rate * _one_cycle(share)
        rho = None if self._penalty is None else self._penalty()
        value = self._fit(X, y, min(1.0, 2.0 * share) * self._goal.radius, rho) / len(X) + self._added(rho)
        self._optimizer.zero_grad()
        value.backward()
        self._optimizer.step()

    def _fit(self, X: torch.Tensor, y: torch.Tensor, radius: float, rho: torch.Tensor | None) -> torch.Tensor:
        """``Σ_i CE(f(x_i) − √(2ρ̂) radius e_{y_i}, y_i)``."""
        logits = self._module(X)
        if rho is not None and radius > 0.0:
            # the root has no slope at zero
            lost = radius * (2.0 * rho + 1e-12).sqrt()
            logits = logits - lost * self._torch.nn.functional.one_hot(y, logits.shape[1])
        return self._torch.nn.functional.cross_entropy(logits, y, reduction="sum")

    def _added(self, rho: torch.Tensor | None) -> Any:
        """The penalty and the decay."""
        value: Any = 0.0
        if rho is not None:
            value = value + self._goal.penalty * rho
        if self._goal.weight_decay > 0.0:
            value = value + self._goal.weight_decay * sum(layer.weight.square().sum() for layer in self._linear)
        return value

    def _over(self, X: torch.Tensor, y: torch.Tensor, radius: float, rho: torch.Tensor | None) -> tuple[float, float]:
        """Mean loss and accuracy."""
        loss, right = 0.0, 0
        for rows, labels in zip(X.split(_ROWS), y.split(_ROWS)):
            loss += float(self._fit(rows, labels, radius, rho))
            right += int((self._module(rows).argmax(dim=1) == labels).sum())
        return loss / len(X), right / len(X)

    def _layer(self, n: int, m: int) -> Any:
        """Uniform on ±1/√n, as ``torch.nn.Linear`` draws them, from the run's own generator."""
        layer = self._torch.nn.utils.skip_init(self._torch.nn.Linear, n, m)
        with self._torch.no_grad():
            for parameter in (layer.weight, layer.bias):
                drawn = self._torch.rand(parameter.shape, generator=self._generator, dtype=self._torch.float64)
                parameter.copy_((2.0 * drawn - 1.0) / n**0.5)
        return layer.to(self._device)

    def _tensors(self, X: Float, y: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        to = self._torch.as_tensor
        return to(X, dtype=self._torch.float32, device=self._device), to(y, device=self._device)


def _one_cycle(share: float) -> float:
    """The learning rate relative to its largest, after that share of the steps."""
    if share < _RISE:
        return _LOW + (1.0 - _LOW) * 0.5 * (1.0 - math.cos(math.pi * share / _RISE))
    return _LAST + (1.0 - _LAST) * 0.5 * (1.0 + math.cos(math.pi * (share - _RISE) / (1.0 - _RISE)))


def _samples(X: ArrayLike, y: ArrayLike, name: str) -> tuple[Float, NDArray[np.int64]]:
    """X (N, d) and labels (N,) from 0."""
    inputs = finite_array(X, f"X{name[1:]}", ndim=(2,))
    labels = finite_array(y, name, ndim=(1,))
    if len(inputs) != len(labels):
        raise InvalidInputError(f"X{name[1:]} has {len(inputs)} samples and {name} has {len(labels)}")
    if inputs.size == 0:
        raise InvalidInputError(f"X{name[1:]} has shape {inputs.shape}: at least one sample and one column are needed")
    if (labels != np.floor(labels)).any() or labels.min() < 0:
        raise InvalidInputError(
            f"{name} must hold classes 0, 1, …: encode other labels (np.unique(return_inverse=True))"
        )
    return inputs, labels.astype(np.int64)


def _validation(
    X_val: ArrayLike | None, y_val: ArrayLike | None, widths: Sequence[int]
) -> tuple[Float, NDArray[np.int64]] | None:
    if X_val is None and y_val is None:
        return None
    if X_val is None or y_val is None:
        raise InvalidInputError("validation data need both X_val and y_val")
    inputs, labels = _samples(X_val, y_val, "y_val")
    as_inputs(inputs[:1], widths[0])
    if labels.max() >= widths[-1]:
        raise InvalidInputError(f"y_val has the class {labels.max()}, y has the classes below {widths[-1]}")
    return inputs, labels
