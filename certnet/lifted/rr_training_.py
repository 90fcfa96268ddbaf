r"""Training feed-forward networks of regression/reconstruction layers (Høier and Zach 2020, section 3.3) in PyTorch.

    min (1/N) Σ_i ℓ(f(x_i), y_i) + ½ weight_decay ‖W_last‖_F²,     f = last ∘ relu ∘ RR ∘ … ∘ relu ∘ RR

For β = 1 all that f can stretch is its last layer: the norm of that one bounds the Lipschitz constant, and the decay,
which is of that layer alone as in the paper's own experiments, trades it for accuracy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from certnet.backends.torch_ import import_torch, torch_device
from certnet.core.errors import InvalidInputError, SolverError
from certnet.core.validation import Float, one_of, positive_number, whole_number
from certnet.lifted.learn.optimisers import OPTIMISERS, SCHEDULES, rate_factor
from certnet.lifted.rr_ import rr_network
from certnet.lifted.targets import accuracy, labelled_samples, labels_of
from certnet.networks.feedforward import FeedForward
from certnet.train.result import versions

if TYPE_CHECKING:
    import torch

__all__ = ["RRResult", "train_rr"]

_LOSSES: Final = ("squared", "cross_entropy", "margin")
_DTYPES: Final = ("float32", "float64")
_ROWS: Final = 10_000
"""Samples evaluated at a time."""


@dataclass(frozen=True, eq=False)
class RRResult:
    """A trained network of regression/reconstruction layers.

    Attributes
    ----------
    module : torch.nn.Module
        See :func:`certnet.lifted.rr_.rr_network`; on the CPU.
    network : FeedForward
        The same function, which :func:`certnet.certify` bounds with a proof.
    loss_curve : tuple of float
        Mean loss on the training data, without the decay: at the start, then after every epoch.
    train_accuracy, test_accuracy : float or None
        Of ``network``: share of samples whose largest output is that of their label; None without labels, without test
        data.
    lipschitz_bound : float
        The product of the layers' norms: a float64 figure, not a certificate.
    settings : mapping
    seed : int
    seconds : float
        Wall-clock time.
    versions : mapping of str to str
    """

    module: torch.nn.Module
    network: FeedForward
    loss_curve: tuple[float, ...]
    train_accuracy: float | None
    test_accuracy: float | None
    lipschitz_bound: float
    settings: Mapping[str, Any]
    seed: int
    seconds: float
    versions: Mapping[str, str]


def train_rr(
    sizes: Sequence[int],
    X: ArrayLike,
    y: ArrayLike,
    *,
    beta: float = 1.0,
    loss: str = "margin",
    margin: float = 1.0,
    epochs: int = 10,
    batch_size: int = 50,
    optimizer: str = "adam",
    learning_rate: float = 0.002,
    schedule: str = "cosine",
    weight_decay: float = 0.0,
    X_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    random_state: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    callback: Callable[[int, float], object] | None = None,
) -> RRResult:
    r"""Train RR layers with ReLU after each, and a linear layer at the end, by back-propagation.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, hidden units of one layer or more, outputs.
    X : array_like, shape (N, d)
    y : array_like, shape (N,) or (N, m)
        Labels 0 to m − 1, one-hot rows, or real targets for the squared loss; for "cross_entropy" rows of probabilities
        are allowed.
    beta : float
        Of all RR layers: 1 makes them 1-Lipschitz, 0 is an ordinary network.
    loss : {"margin", "cross_entropy", "squared"}
        ``max_{j ≠ c} max(0, margin − (f_c − f_j))`` with c the label; ``−Σ_j y_j log softmax(f)_j``; ``½‖f − y‖²``.
        Averaged over a batch. The certified radius of a sample grows with its margin and falls with the norm of the
        last layer: the first, with a decay, is about both.
    margin : float
        Of the loss of that name.
    optimizer : {"adam", "sgd"}
    schedule : {"constant", "linear", "cosine"}
        Of the rate, from epoch to epoch.
    weight_decay : float
        ``≥ 0``, of the last layer's weights.
    X_test, y_test : array_like, optional
        For ``test_accuracy``; not used in training.
    random_state : int
        Seed of the first weights and of the order of the samples.
    device : str
        On the CPU one thread is used, and the result is reproducible.
    dtype : {"float32", "float64"}
        Of the training; results are float64.
    callback : callable, optional
        Called as ``callback(epoch, loss)`` after every epoch.

    Raises
    ------
    InvalidInputError
        Wrong shapes, NaN, labels outside of the range, targets that are no labels for the margin loss, an unknown loss,
        optimiser, schedule, device or dtype.
    MissingDependencyError
        PyTorch is not installed.
    SolverError
        The loss became NaN or infinite.
    """
    start = time.perf_counter()
    pt = import_torch()
    widths = tuple(whole_number(n, f"sizes[{k}]", least=1) for k, n in enumerate(sizes))
    settings = {
        "sizes": widths,
        "beta": positive_number(beta, "beta", zero=True),
        "loss": one_of(loss, "loss", _LOSSES),
        "margin": positive_number(margin, "margin"),
        "epochs": whole_number(epochs, "epochs", least=1),
        "batch_size": whole_number(batch_size, "batch_size", least=1),
        "optimizer": one_of(optimizer, "optimizer", OPTIMISERS),
        "learning_rate": positive_number(learning_rate, "learning_rate"),
        "schedule": one_of(schedule, "schedule", SCHEDULES),
        "weight_decay": positive_number(weight_decay, "weight_decay", zero=True),
        "dtype": one_of(dtype, "dtype", _DTYPES),
        "device": str(torch_device(device)),
    }
    seed = whole_number(random_state, "random_state", most=2**63 - 1)
    module = rr_network(widths, beta=beta, random_state=seed, dtype=dtype)
    inputs, targets = _samples(widths, X, y, loss)
    if (X_test is None) != (y_test is None):
        raise InvalidInputError("test data need both X_test and y_test")
    test = None if X_test is None or y_test is None else _samples(widths, X_test, y_test, loss)
    with threadpool_limits(limits=1):  # one thread sums in one order
        run = _Run(module, inputs, targets, settings, seed)
        losses = [run.loss()]
        for epoch in range(1, epochs + 1):
            run.epoch(learning_rate * rate_factor(schedule, (epoch - 1) / epochs))
            losses.append(run.loss())
            if not np.isfinite(losses[-1]):
                raise SolverError(
                    f"the loss is not finite after epoch {epoch} of {epochs}: use a learning rate below "
                    f"{learning_rate:g}, or scale the data"
                )
            if callback is not None:
                callback(epoch, losses[-1])
        module = module.cpu()
        network = module.to_feed_forward()
        return RRResult(
            module=module,
            network=network,
            loss_curve=tuple(losses),
            train_accuracy=_accuracy(network, inputs, targets),
            test_accuracy=None if test is None else _accuracy(network, *test),
            lipschitz_bound=module.lipschitz_bound(),
            settings=settings,
            seed=seed,
            seconds=time.perf_counter() - start,
            versions=versions(torch=str(pt.__version__)),
        )


class _Run:
    """A training in progress."""

    def __init__(self, module: Any, X: Float, y: Float, settings: Mapping[str, Any], seed: int) -> None:
        self._torch = pt = import_torch()
        self._settings = settings
        self._module = module.to(settings["device"])
        self._generator = pt.Generator().manual_seed(seed)
        kinds: dict[str, Any] = {"dtype": getattr(pt, settings["dtype"]), "device": settings["device"]}
        self._X, self._y = pt.tensor(X, **kinds), pt.tensor(y, **kinds)
        last = module.last.weight
        groups = [
            {"params": [p for p in module.parameters() if p is not last]},
            {"params": [last], "weight_decay": settings["weight_decay"]},
        ]
        # of Adam too the decay is part of the objective, as it is stated
        made = pt.optim.Adam if settings["optimizer"] == "adam" else pt.optim.SGD
        self._optimizer = made(groups, lr=settings["learning_rate"])

    def epoch(self, rate: float) -> None:
        """One pass over the shuffled samples."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        order = self._torch.randperm(len(self._X), generator=self._generator).to(self._settings["device"])
        for rows in order.split(self._settings["batch_size"]):
            value = self._total(self._X[rows], self._y[rows]) / len(rows)
            self._optimizer.zero_grad()
            value.backward()
            self._optimizer.step()

    def loss(self) -> float:
        """The mean over all training data."""
        with self._torch.no_grad():
            parts = zip(self._X.split(_ROWS), self._y.split(_ROWS))
            return sum(float(self._total(X, y)) for X, y in parts) / len(self._X)

    def _total(self, X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        f, kind = self._module(X), self._settings["loss"]
        if kind == "squared":
            squares: torch.Tensor = 0.5 * (f - y).square().sum()
            return squares
        if kind == "cross_entropy":
            entropy: torch.Tensor = self._torch.nn.functional.cross_entropy(f, y, reduction="sum")
            return entropy
        own = (f * y).sum(dim=1)
        other = f.masked_fill(y > 0.0, -self._torch.inf).amax(dim=1)
        short: torch.Tensor = (self._settings["margin"] - (own - other)).relu().sum()
        return short


def _samples(sizes: Sequence[int], X: ArrayLike, y: ArrayLike, loss: str) -> tuple[Float, Float]:
    inputs, targets = labelled_samples(X, y, sizes[0], sizes[-1], loss)
    if loss == "margin" and labels_of(targets) is None:
        raise InvalidInputError("the margin loss needs labels, or one-hot rows, of two classes or more")
    return inputs, targets


def _accuracy(network: FeedForward, X: Float, y: Float) -> float | None:
    parts = range(0, len(X), _ROWS)
    return accuracy(np.concatenate([network.outputs(X[at : at + _ROWS]) for at in parts]), y)
