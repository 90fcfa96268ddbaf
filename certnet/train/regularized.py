"""Training with a regulariser of the layers' spectral norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from numpy.typing import ArrayLike

from certnet.train.regularizers import Regularizer, require_regularizer
from certnet.train.result import TrainResult
from certnet.train.task import Descent, Task
from certnet.train.torch_ import fit

__all__ = ["train_regularized"]


def train_regularized(
    X: ArrayLike,
    y: ArrayLike,
    hidden: Sequence[int] = (20, 20, 20),
    regularizer: Regularizer | None = None,
    *,
    weight_decay: float = 0.0,
    epochs: int = 200,
    batch_size: int = 50,
    learning_rate: float = 1e-3,
    momentum: float = 0.9,
    optimizer: str = "adam",
    random_state: int = 0,
    device: str = "auto",
    X_val: ArrayLike | None = None,
    y_val: ArrayLike | None = None,
) -> TrainResult:
    r"""Minimise ``(1/N) Σ_i ‖f(x_i) − y_i‖² + penalty(‖W_0‖₂, …, ‖W_ℓ‖₂)``, or the error over a constrained set.

    C, section 3: three hidden layers of 20, Adam, 200 epochs, batches of 50; the learning rate, which he does not
    state, is Adam's usual 0.001. A penalty's gradient is ``u_k v_kᵀ`` of the leading singular pair (C differentiates
    numerically); a constraint is restored after every step, see :mod:`certnet.train.regularizers`.

    Parameters
    ----------
    regularizer : Regularizer, optional
        ``Unregularized()``, ``PerLayerSpectral(weight)``, ``Coupled(weight)``, ``MaxNorm(limit)`` or
        ``CoupledBound(bound)``. A constraint holds for the first weights too.
    X, y, hidden, weight_decay, epochs, batch_size, learning_rate, momentum, optimizer, random_state, X_val, y_val
        As in :func:`~certnet.train.sgd.train_sgd`.
    device : str
        The same.

    Returns
    -------
    TrainResult

    Raises
    ------
    InvalidInputError, MissingDependencyError, SolverError
        As in :func:`~certnet.train.sgd.train_sgd`; a regulariser of another kind.
    """
    chosen = require_regularizer(regularizer)
    descent = Descent(epochs, batch_size, learning_rate, momentum, optimizer, random_state, device)
    task = Task.of(X, y, X_val, y_val, hidden=hidden, weight_decay=weight_decay, regularizer=chosen)
    settings = {
        "method": "regularized",
        "weight_decay": task.weight_decay,
        "regularizer": chosen.name,
        **{f"regularizer_{name}": float(value) for name, value in asdict(chosen).items()},  # type: ignore[call-overload]
    }
    return fit(task, descent, settings)
