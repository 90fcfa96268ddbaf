"""The back-propagation twin: the feed-forward network of a lifted one, trained by stochastic gradient descent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from certnet.backends.torch_ import import_torch, torch_device
from certnet.core.errors import InvalidInputError, SolverError
from certnet.core.validation import Float, one_of, positive_number, whole_number
from certnet.lifted.feed_forward import to_feed_forward
from certnet.lifted.targets import accuracy, labelled_samples, labels_of
from certnet.networks.energy import LiftedEnergy
from certnet.networks.feedforward import FeedForward
from certnet.train.result import versions

if TYPE_CHECKING:
    import torch

__all__ = ["LOSSES", "TwinResult", "train_twin"]

LOSSES: Final = ("squared", "cross_entropy")
"""``½‖z_L − y‖²``; ``−Σ_j y_j log softmax(z_L)_j``."""
_DTYPES: Final = ("float32", "float64")
_ROWS: Final = 10_000
"""Samples evaluated at a time."""


@dataclass(frozen=True, eq=False)
class TwinResult:
    """A trained twin.

    Attributes
    ----------
    network : LiftedEnergy
        The boxes, β, γ and c of the network given; its weights and biases are those of the feed-forward network, which
        is ``network.feed_forward(X)``.
    loss_curve : tuple of float
        Mean loss on the training data: at the start, then after every epoch.
    train_accuracy, test_accuracy : float or None
        Share of samples whose largest output is that of their label; None without labels, without test data.
    settings : mapping
    seed : int
    seconds : float
        Wall-clock time.
    versions : mapping of str to str
    """

    network: LiftedEnergy
    loss_curve: tuple[float, ...]
    train_accuracy: float | None
    test_accuracy: float | None
    settings: Mapping[str, Any]
    seed: int
    seconds: float
    versions: Mapping[str, str]

    def feed_forward(self) -> FeedForward:
        """The twin as a feed-forward network; see :func:`~certnet.lifted.feed_forward.to_feed_forward`."""
        return to_feed_forward(self.network)


def train_twin(
    net: LiftedEnergy,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: str = "squared",
    epochs: int = 100,
    batch_size: int = 50,
    learning_rate: float = 0.05,
    X_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    random_state: int = 0,
    device: str = "auto",
    dtype: str = "float32",
    callback: Callable[[int, float], object] | None = None,
) -> TwinResult:
    r"""Minimise ``(1/N) Σ_i ℓ(z_L(x_i), y_i)`` with ``z_{k+1} = Π_{C_{k+1}}(W_k z_k + b_k)``, from the weights of net.

    The "back-prop" rows of Zach and Estellers 2019, Tables 1 to 4: constant learning rate 1/20, batches of 50, 100
    epochs, the same first weights as the lifted network. The loss is averaged over a batch.

    Parameters
    ----------
    net : LiftedEnergy
        Architecture and first weights; it is not changed.
    X : array_like, shape (N, d)
    y : array_like, shape (N,) or (N, m)
        Labels 0 to m − 1, one-hot rows, or real targets; for "cross_entropy" rows of probabilities are allowed.
    loss : {"squared", "cross_entropy"}
    X_test, y_test : array_like, optional
        For ``test_accuracy``; not used in training.
    random_state : int
        Seed of the order of the samples.
    device : str
        "auto" is the GPU where PyTorch has one. On the CPU one thread is used, and the result is reproducible.
    dtype : {"float32", "float64"}
        Of the computation; results are float64.
    callback : callable, optional
        Called as ``callback(epoch, loss)`` after every epoch.

    Raises
    ------
    InvalidInputError
        Wrong shapes, NaN, labels outside of the range, unknown loss, device or dtype.
    MissingDependencyError
        PyTorch is not installed.
    SolverError
        The loss became NaN or infinite.
    """
    start = time.perf_counter()
    torch = import_torch()
    settings = {
        "loss": one_of(loss, "loss", LOSSES),
        "epochs": whole_number(epochs, "epochs", least=1),
        "batch_size": whole_number(batch_size, "batch_size", least=1),
        "learning_rate": positive_number(learning_rate, "learning_rate"),
        "dtype": one_of(dtype, "dtype", _DTYPES),
        "device": str(torch_device(device)),
    }
    seed = whole_number(random_state, "random_state", most=2**63 - 1)
    inputs, targets = labelled_samples(X, y, net.n_inputs, net.n_outputs, loss)
    test = (
        None
        if X_test is None or y_test is None
        else labelled_samples(X_test, y_test, net.n_inputs, net.n_outputs, loss)
    )
    if test is None and (X_test is not None or y_test is not None):
        raise InvalidInputError("test data need both X_test and y_test")
    with threadpool_limits(limits=1):  # layers this small gain nothing from threads, and one thread sums in one order
        run = _Run(net, inputs, targets, settings, seed)
        losses = [run.loss()]
        for epoch in range(1, epochs + 1):
            run.epoch()
            losses.append(run.loss())
            if not np.isfinite(losses[-1]):
                raise SolverError(
                    f"the loss is not finite after epoch {epoch} of {epochs}: use a learning rate below "
                    f"{learning_rate:g}, smaller first weights, or scale the data"
                )
            if callback is not None:
                callback(epoch, losses[-1])
    twin = run.network()
    return TwinResult(
        network=twin,
        loss_curve=tuple(losses),
        train_accuracy=_accuracy(twin, inputs, targets),
        test_accuracy=None if test is None else _accuracy(twin, *test),
        settings=settings,
        seed=seed,
        seconds=time.perf_counter() - start,
        versions=versions(torch=str(torch.__version__)),
    )


class _Run:
    """A training in progress."""

    def __init__(self, net: LiftedEnergy, X: Float, y: Float, settings: Mapping[str, Any], seed: int) -> None:
        torch = import_torch()
        self._torch, self._net = torch, net
        self._device, self._dtype = settings["device"], getattr(torch, settings["dtype"])
        self._generator = torch.Generator().manual_seed(seed)
        self._batch_size, self._squared = settings["batch_size"], settings["loss"] == "squared"
        self._X, self._y = self._tensor(X), self._tensor(y)
        self._weights = [self._tensor(W).requires_grad_() for W in net.weights]
        self._biases = [self._tensor(b).requires_grad_() for b in net.biases]
        self._project = [self._projection(*box) for box in zip(net.unit_names, net.lower, net.upper)]
        self._optimizer = torch.optim.SGD([*self._weights, *self._biases], lr=settings["learning_rate"])

    def epoch(self) -> None:
        """One pass over the shuffled samples."""
        order = self._torch.randperm(len(self._X), generator=self._generator).to(self._device)
        for rows in order.split(self._batch_size):
            value = self._total(self._X[rows], self._y[rows]) / len(rows)
            self._optimizer.zero_grad()
            value.backward()
            self._optimizer.step()

    def loss(self) -> float:
        """The mean over all training data."""
        with self._torch.no_grad():
            parts = zip(self._X.split(_ROWS), self._y.split(_ROWS))
            return sum(float(self._total(X, y)) for X, y in parts) / len(self._X)

    def network(self) -> LiftedEnergy:
        Ws, bs = ([p.detach().cpu().double().numpy() for p in group] for group in (self._weights, self._biases))
        return self._net.with_parameters(Ws, bs, self._net.reconstruction_biases)

    def _total(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        for W, b, project in zip(self._weights, self._biases, self._project):
            z = project(self._torch.addmm(b, z, W.T))
        if self._squared:
            return 0.5 * (z - y).square().sum()
        return self._torch.nn.functional.cross_entropy(z, y, reduction="sum")

    def _projection(self, name: str, lower: Float, upper: Float) -> Callable[[torch.Tensor], torch.Tensor]:
        if name == "linear":
            return lambda z: z
        if name == "relu":
            return lambda z: z.relu()
        low, high = self._tensor(lower), self._tensor(upper)
        return lambda z: z.clamp(low, high)

    def _tensor(self, array: Float) -> torch.Tensor:
        return self._torch.tensor(array, dtype=self._dtype, device=self._device)


def _accuracy(net: LiftedEnergy, X: Float, y: Float) -> float | None:
    """In parts: the activations of all layers of all samples at once are as large as the data."""
    if labels_of(y) is None:
        return None
    parts = range(0, len(X), _ROWS)
    outputs = [net.feed_forward(X[at : at + _ROWS])[:, net.layers[-1]] for at in parts]
    return accuracy(np.concatenate(outputs), y)
