"""How a network is trained: everything that decides the result beside data, start and seed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Final

from certnet.core.digits import above
from certnet.core.errors import InvalidInputError
from certnet.core.validation import positive_number, whole_number
from certnet.lifted.learn.objective import Objective
from certnet.lifted.learn.optimisers import OPTIMISERS, SCHEDULES
from certnet.lifted.network import LiftedNetwork

__all__ = ["SCALES", "Training"]

SCALES = ("energy", "backpropagation")

_LEAST_SCALE: Final = 1e-8
"""Of ``γ^{L−1}``: the default tolerance is 1e-4 times it, and 1e-12 is what double precision solves to."""


@dataclass(frozen=True)
class Training:
    r"""Settings of :func:`certnet.lifted.learn.train`.

    Parameters
    ----------
    objective : Objective
    optimizer : {"sgd", "adam"}
    learning_rate : float
        Positive. The gradient is the mean over the batch.
    rate_scale : {"energy", "backpropagation"}
        "energy": the rate multiplies the gradient of the objective as it is stated. "backpropagation": it multiplies
        ``γ^{−(L−1)}`` times that gradient, and is comparable to the rates of back-propagation on ``½ ‖z_L − y‖²``.
        Adam, and objectives that contrast no phases, know no difference.
    schedule : {"constant", "linear", "cosine"}
        Of the rate over ``max_epochs``.
    warmup_epochs : int
        Epochs in which the rate grows linearly to its value.
    momentum : float
        Of sgd, in [0, 1).
    batch_size : int
    labelled_share : float
        Of "semi_supervised" alone, in (0, 1]: every batch holds this share of samples with a target, rounded, but at
        least one of either kind. An epoch then passes over the larger of the two groups once, and over the other as
        often as it takes.
    max_epochs : int
    weight_decay : float
        ``≥ 0``: ``½ weight_decay ‖W_{L−1}‖_F²`` is added to the objective (Høier and Zach 2020, 4.2: last layer only).
    tol : float, optional
        Natural residual of every phase; ``1e-4 γ^{L−1}`` by default, for γ^{L−1} is the scale of the output's energy.
    passes : int, optional
        So many passes of coordinate descent for every phase, as in the papers (20), whatever the residual. Not safe at
        high rates: an unsolved free phase makes the contrastive loss negative, and training stops there.
    max_passes : int
        Limit of the passes to tolerance.
    biases : bool
        False leaves b and c as they are at the start.
    warm_activations : bool
        Keep the activations of every sample and start its next epoch there: ``16 N n`` bytes for N samples and n units.

    Raises
    ------
    InvalidInputError
        A value out of its range.
    """

    objective: Objective = field(default_factory=Objective)
    optimizer: str = "sgd"
    learning_rate: float = 0.4
    rate_scale: str = "energy"
    schedule: str = "constant"
    warmup_epochs: int = 0
    momentum: float = 0.0
    batch_size: int = 10
    labelled_share: float = 0.5
    max_epochs: int = 100
    weight_decay: float = 1e-5
    tol: float | None = None
    passes: int | None = None
    max_passes: int = 1000
    biases: bool = True
    warm_activations: bool = False

    def __post_init__(self) -> None:
        for name, known in (("optimizer", OPTIMISERS), ("rate_scale", SCALES), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise InvalidInputError(f"{name} is {getattr(self, name)!r}: one of {', '.join(known)}")
        positive_number(self.learning_rate, "learning_rate")
        positive_number(self.weight_decay, "weight_decay", zero=True)
        if positive_number(self.momentum, "momentum", zero=True) >= 1.0:
            raise InvalidInputError(f"momentum is {self.momentum!r}: a number from 0 to below 1 is needed")
        whole_number(self.batch_size, "batch_size", least=1)
        if positive_number(self.labelled_share, "labelled_share") > 1.0:
            raise InvalidInputError(f"labelled_share is {self.labelled_share!r}: above 0 and at most 1 is needed")
        whole_number(self.max_epochs, "max_epochs", least=0)
        whole_number(self.warmup_epochs, "warmup_epochs", least=0)
        whole_number(self.max_passes, "max_passes", least=1)
        if self.tol is not None:
            positive_number(self.tol, "tol")
        if self.passes is not None:
            whole_number(self.passes, "passes", least=1)

    def require_scale(self, net: LiftedNetwork) -> None:
        """Refuse a γ whose contrastive loss cannot be told from rounding.

        Raises
        ------
        InvalidInputError
            ``γ^{L−1} < 1e-8``, and neither ``tol`` nor ``passes`` is given.
        """
        scale = net.gamma ** (net.depth - 1)
        if self.objective.contrasts and self.tol is None and self.passes is None and scale < _LEAST_SCALE:
            least = _LEAST_SCALE ** (1.0 / (net.depth - 1))
            raise InvalidInputError(
                f"gamma is {net.gamma:g} and gamma^{net.depth - 1}, the scale of the contrastive loss, is {scale:.1e}: "
                f"its phases cannot be solved to a ten-thousandth of that. Take gamma of at least {above(least, 2)}, "
                "or set tol or passes"
            )

    def tolerance(self, net: LiftedNetwork) -> float:
        """``tol``, or its default for this network."""
        self.require_scale(net)
        return max(1e-4 * net.gamma ** (net.depth - 1), 1e-12) if self.tol is None else self.tol

    def rate(self, net: LiftedNetwork) -> float:
        """The learning rate in the scale of the energy."""
        if self.rate_scale == "energy" or self.optimizer == "adam" or not self.objective.contrasts:
            return self.learning_rate
        return self.learning_rate * net.gamma ** (1 - net.depth)

    def described(self) -> dict[str, Any]:
        """The settings as JSON takes them; ``max_epochs`` only where the schedule depends on it."""
        told = dataclasses.asdict(dataclasses.replace(self, objective=Objective()))
        told["objective"] = [self.objective.kind, str(self.objective.loss), self.objective.weight]
        if self.objective.mixes:
            told["objective"].append(self.objective.unsupervised_weight)
        else:
            del told["labelled_share"]
        if self.schedule == "constant":
            del told["max_epochs"]
        return told
