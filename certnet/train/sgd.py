"""Stochastic gradient descent with weight decay: the ℓ2 baseline."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from certnet.train.regularizers import Unregularized
from certnet.train.result import TrainResult
from certnet.train.task import Descent, Task
from certnet.train.torch_ import fit

__all__ = ["train_sgd"]


def train_sgd(
    X: ArrayLike,
    y: ArrayLike,
    hidden: Sequence[int] = (100,),
    *,
    weight_decay: float = 1e-3,
    epochs: int = 200,
    batch_size: int = 32,
    learning_rate: float = 0.01,
    momentum: float = 0.9,
    optimizer: str = "sgd",
    random_state: int = 0,
    device: str = "auto",
    X_val: ArrayLike | None = None,
    y_val: ArrayLike | None = None,
) -> TrainResult:
    r"""Minimise ``(1/N) Σ_i ‖f(x_i) − y_i‖² + weight_decay · (‖W‖_F² + ‖b‖² + ‖V‖_F²)`` by mini-batch steps.

    The objective is Y (4a) without the Lipschitz term, :func:`certnet.programs.objectives` with ``penalty="l2"``; with
    more hidden layers all weights and biases but the output's biases are decayed. Y states no learning rate, batch
    size or number of epochs: the defaults are choices, see :func:`~certnet.train.tuning.tune`.

    Parameters
    ----------
    X : array_like, shape (N, d)
        Standardised, or the default learning rate does not suit them.
    y : array_like, shape (N,) or (N, m)
    hidden : sequence of int
        Widths of the hidden layers, ReLU after each.
    weight_decay : float
        λ ≥ 0, part of the objective, with Adam too.
    epochs : int
        Passes over the samples, in a new order each.
    batch_size : int
    learning_rate : float
    momentum : float
        Of SGD, in [0, 1).
    optimizer : {"sgd", "adam"}
        ``torch.optim.SGD`` or ``torch.optim.Adam``, at a constant learning rate.
    random_state : int
        Seed of the first weights and of the orders; PyTorch's own random state is neither read nor changed.
    device : str
        "auto" is CUDA where PyTorch finds it, else the CPU. Devices round differently: results agree to rounding only.
    X_val, y_val : array_like, shapes (n, d) and (n,) or (n, m), optional
        Only measured, for ``validation_curve`` (mean squared error).

    Returns
    -------
    TrainResult
        The network after the last epoch: a ``ShallowNetwork`` for one hidden layer, else a ``FeedForward``.

    Raises
    ------
    InvalidInputError
        Wrong shapes, NaN, a negative weight, an unknown optimiser or device.
    MissingDependencyError
        PyTorch is not installed.
    SolverError
        The objective became NaN or infinite.
    """
    descent = Descent(epochs, batch_size, learning_rate, momentum, optimizer, random_state, device)
    task = Task.of(X, y, X_val, y_val, hidden=hidden, weight_decay=weight_decay, regularizer=Unregularized())
    return fit(task, descent, {"method": "sgd", "weight_decay": task.weight_decay})
