"""Adversarial training: descent on the squared error at inputs that projected gradient ascent has made worse."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from certnet.core.validation import whole_number
from certnet.train.regularizers import Unregularized
from certnet.train.result import TrainResult
from certnet.train.task import Attack, Descent, Task
from certnet.train.torch_ import fit

__all__ = ["train_pgd"]


def train_pgd(
    X: ArrayLike,
    y: ArrayLike,
    hidden: Sequence[int] = (100,),
    *,
    epsilon: float = 0.1,
    norm: str = "l2",
    n_steps: int = 10,
    step_size: float | None = None,
    n_restarts: int = 1,
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
    r"""Decrease ``(1/N) Σ_i max {‖f(x_i + δ_i) − y_i‖² : ‖δ_i‖ ≤ epsilon} + weight_decay · (‖W‖_F² + ‖b‖² + ‖V‖_F²)``.

    The maximum is approached by ``n_steps`` steps of projected gradient ascent from random points of the ball, for
    every batch anew, and the weights then step as if δ were fixed (Madry et al., ICLR 2018, section 2.1, the PGD
    baseline of Y). What is reached is a lower estimate of the maximum, and no guarantee. The settings that Y does not
    state (radius, steps) are choices.

    Parameters
    ----------
    epsilon : float
        Radius of the ball in the units of the inputs; 0 is :func:`~certnet.train.sgd.train_sgd`.
    norm : {"l2", "linf"}
    n_steps : int
        Steps of ascent per batch.
    step_size : float, optional
        Length of a step relative to ε; by default 2.5 / n_steps, which can cross the ball.
    n_restarts : int
        Starts of each ascent, of which the worst end counts. The second is opposite to the first: with two, the
        adversary is much stronger where residuals are small, for twice the time.
    X, y, hidden, weight_decay, epochs, batch_size, learning_rate, momentum, optimizer, random_state, device
        As in :func:`~certnet.train.sgd.train_sgd`.
    X_val, y_val : array_like, optional
        ``validation_curve`` is the mean squared error on them under the same attack.

    Returns
    -------
    TrainResult
        ``loss_curve`` is measured under the attack too.

    Raises
    ------
    InvalidInputError, MissingDependencyError, SolverError
        As in :func:`~certnet.train.sgd.train_sgd`; an unknown norm, a negative radius.
    """
    n_steps = whole_number(n_steps, "n_steps", least=1)
    attack = Attack(epsilon, norm, n_steps, 2.5 / n_steps if step_size is None else step_size, n_restarts)
    descent = Descent(epochs, batch_size, learning_rate, momentum, optimizer, random_state, device)
    task = Task.of(
        X, y, X_val, y_val, hidden=hidden, weight_decay=weight_decay, regularizer=Unregularized(), attack=attack
    )
    settings = {
        "method": "pgd",
        "weight_decay": task.weight_decay,
        "epsilon": float(attack.epsilon),
        "norm": norm,
        "n_steps": n_steps,
        "step_size": float(attack.step_size),
        "n_restarts": n_restarts,
    }
    return fit(task, descent, settings)
