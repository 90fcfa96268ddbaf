"""What is trained and how, checked once: samples, widths, loss, and the steps of the optimiser."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, as_inputs, as_samples, finite_array, one_of, positive_number, whole_number
from certnet.train.regularizers import Regularizer

__all__ = [
    "NORMS",
    "OPTIMIZERS",
    "Attack",
    "Descent",
    "Task",
    "hidden_widths",
    "training_samples",
    "validation_samples",
]

OPTIMIZERS: Final = ("sgd", "adam")
NORMS: Final = ("l2", "linf")


@dataclass(frozen=True)
class Attack:
    """``max ‖f(x + δ) − y‖²`` over ``‖δ‖ ≤ epsilon`` by projected gradient ascent.

    Parameters
    ----------
    epsilon : float
        Radius ε ≥ 0 in the units of the inputs.
    norm : {"l2", "linf"}
    n_steps : int
    step_size : float
        Length of a step relative to ε.
    n_restarts : int
        Starts, of which the worst end is taken; the second is opposite to the first, and so on.
    """

    epsilon: float
    norm: str
    n_steps: int
    step_size: float
    n_restarts: int = 1

    def __post_init__(self) -> None:
        positive_number(self.epsilon, "epsilon", zero=True)
        whole_number(self.n_steps, "n_steps", least=1)
        positive_number(self.step_size, "step_size")
        whole_number(self.n_restarts, "n_restarts", least=1)
        one_of(self.norm, "norm", NORMS)


@dataclass(frozen=True)
class Descent:
    """Mini-batch steps: ``epochs`` passes over the shuffled samples."""

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    optimizer: str
    random_state: int
    device: str

    def __post_init__(self) -> None:
        whole_number(self.epochs, "epochs", least=1)
        whole_number(self.batch_size, "batch_size", least=1)
        positive_number(self.learning_rate, "learning_rate")
        if positive_number(self.momentum, "momentum", zero=True) >= 1.0:
            raise InvalidInputError(f"momentum must be below 1, got {self.momentum!r}")
        one_of(self.optimizer, "optimizer", OPTIMIZERS)
        whole_number(self.random_state, "random_state", most=2**63 - 1)

    def settings(self) -> dict[str, Any]:
        """What is recorded: momentum only where the optimiser has it."""
        momentum = {"momentum": float(self.momentum)} if self.optimizer == "sgd" else {}
        return {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": float(self.learning_rate),
            "optimizer": self.optimizer,
            **momentum,
        }


@dataclass(frozen=True, eq=False)
class Task:
    r"""``(1/N) Σ_i max_δ ‖f(x_i + δ) − y_i‖² + weight_decay · ‖θ‖² + penalty(θ)``, θ without the output biases.

    Attributes
    ----------
    X, y : ndarray, shapes (N, d), (N, m)
    validation : pair of ndarray, or None
    hidden : tuple of int
        Widths of the hidden layers.
    weight_decay : float
    attack : Attack, optional
        Without it δ = 0.
    regularizer : Regularizer
    """

    X: Float
    y: Float
    validation: tuple[Float, Float] | None
    hidden: tuple[int, ...]
    weight_decay: float
    attack: Attack | None
    regularizer: Regularizer

    @classmethod
    def of(
        cls,
        X: ArrayLike,
        y: ArrayLike,
        X_val: ArrayLike | None,
        y_val: ArrayLike | None,
        *,
        hidden: Sequence[int],
        weight_decay: float,
        regularizer: Regularizer,
        attack: Attack | None = None,
    ) -> Task:
        """The task of arguments from outside.

        Raises
        ------
        InvalidInputError
            Wrong shapes, NaN, a negative weight, widths that are not positive whole numbers.
        """
        inputs, targets = training_samples(X, y)
        return cls(
            inputs,
            targets,
            validation_samples(X_val, y_val, inputs.shape[1], targets.shape[1]),
            hidden_widths(hidden),
            positive_number(weight_decay, "weight_decay", zero=True),
            attack,
            regularizer,
        )

    @property
    def widths(self) -> tuple[int, ...]:
        """d, hidden widths, m."""
        return (self.X.shape[1], *self.hidden, self.y.shape[1])


def training_samples(X: ArrayLike, y: ArrayLike) -> tuple[Float, Float]:
    """X (N, d) and y (N, m), from which the widths of the first and the last layer are read.

    Raises
    ------
    InvalidInputError
        Wrong shapes, no samples, no columns, NaN.
    """
    inputs = finite_array(X, "X", ndim=(1, 2))
    as_inputs(inputs, inputs.shape[-1])
    targets = finite_array(y, "y", ndim=(1, 2))
    n_outputs = targets.shape[1] if targets.ndim == 2 else 1
    if inputs.shape[1] == 0 or n_outputs == 0:
        raise InvalidInputError(f"X has shape {inputs.shape} and y {targets.shape}: at least one column is needed")
    return as_samples(inputs, targets, inputs.shape[1], n_outputs)


def validation_samples(
    X_val: ArrayLike | None, y_val: ArrayLike | None, n_inputs: int, n_outputs: int
) -> tuple[Float, Float] | None:
    """Validation data with as many columns as the training data, or None.

    Raises
    ------
    InvalidInputError
        One of the two is missing, or does not fit.
    """
    if X_val is None and y_val is None:
        return None
    if X_val is None or y_val is None:
        raise InvalidInputError("validation data need both X_val and y_val")
    try:
        return as_samples(X_val, y_val, n_inputs, n_outputs)
    except InvalidInputError as error:
        raise InvalidInputError(f"in the validation data (X_val, y_val): {error}") from error


def hidden_widths(hidden: Sequence[int]) -> tuple[int, ...]:
    """Widths of the hidden layers as positive whole numbers, at least one.

    Raises
    ------
    InvalidInputError
    """
    try:
        widths = tuple(operator.index(width) for width in hidden)
    except TypeError as error:
        raise InvalidInputError(
            f"hidden must be the widths of the hidden layers, such as (100,), got {hidden!r}"
        ) from error
    if not widths or min(widths) < 1:
        raise InvalidInputError(f"hidden must name at least one layer of at least one unit, got {hidden!r}")
    return widths
