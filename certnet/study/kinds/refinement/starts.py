"""Starting networks: the trainers' settings in a study file, and their use."""

from __future__ import annotations

import warnings
from abc import ABC
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from certnet.networks.shallow import require_shallow
from certnet.study.kinds.refinement.steps import Given, Made, Step
from certnet.study.spec import Count, Device, NonNegative, Part, Positive

__all__ = ["AdmmStart", "GradientStart", "MlpStart", "PgdStart", "SgdStart", "Starts", "step_packages"]

Grid = Annotated[list[Positive], Field(min_length=1)]
Momentum = Annotated[float, Field(ge=0.0, lt=1.0)]


class GradientStart(Step, ABC):
    """Stochastic gradients; weight decay is the study's weight unless given.

    With ``tune``, learning rate and epochs are chosen by the error on a fifth of the training data, held out, among
    ``learning_rates`` and ``tune_epochs``.
    """

    epochs: Count = 200
    batch_size: Count = 32
    learning_rate: Positive = 0.01
    momentum: Momentum = 0.9
    optimizer: Literal["sgd", "adam"] = "sgd"
    weight_decay: NonNegative | None = None
    device: Device = "cpu"
    tune: bool = False
    learning_rates: Grid = Field(default=[0.1, 0.03, 0.01, 0.003, 0.001])
    tune_epochs: Annotated[list[Count], Field(min_length=1)] = Field(default=[50, 100, 200])

    @property
    def weighted(self) -> bool:
        return self.weight_decay is None

    def trained(self, trainer: Callable[..., Any], given: Given) -> Made:
        """By this trainer; what was chosen beside the network."""
        from certnet.train import tune

        X, y = given.data.X_train, given.data.y_train
        left_out = {"tune", "learning_rates", "tune_epochs"} | ({"learning_rate", "epochs"} if self.tune else set())
        options = self.model_dump(exclude=left_out) | {"hidden": (given.hidden,), "random_state": given.seed}
        options["weight_decay"] = given.weight if self.weight_decay is None else self.weight_decay
        if not self.tune:
            done = trainer(X, y, **options)
            return Made(
                require_shallow(done.network).labelled(given.data.units), "l2", {"settings": dict(done.settings)}
            )
        tuned = tune(trainer, X, y, {"learning_rate": self.learning_rates}, epochs=self.tune_epochs, **options)
        trials = [{**trial.settings, "score": trial.score if trial.error == "" else None} for trial in tuned.trials]
        columns = {"settings": dict(tuned.result.settings), "trials": trials}
        return Made(require_shallow(tuned.result.network).labelled(given.data.units), "l2", columns)


class SgdStart(GradientStart):
    """:func:`certnet.train.train_sgd`."""

    def make(self, given: Given) -> Made:
        from certnet.train import train_sgd

        return self.trained(train_sgd, given)


class PgdStart(GradientStart):
    """:func:`certnet.train.train_pgd`."""

    epsilon: NonNegative = 0.1
    norm: Literal["l2", "linf"] = "l2"
    n_steps: Count = 10

    def make(self, given: Given) -> Made:
        from certnet.train import train_pgd

        return self.trained(train_pgd, given)


def step_packages(options: Step) -> tuple[str, ...]:
    """Optional packages that a step needs: PyTorch for stochastic gradients."""
    return ("torch",) if isinstance(options, GradientStart) else ()


class AdmmStart(Step):
    """:func:`certnet.train.train_admm`, from the network of another start."""

    start: Literal["sgd", "pgd", "mlp"] = "sgd"
    max_iterations: Count = 100
    loss_steps: Count = 30
    update_every: Count = 1
    penalty: Positive | None = None

    @property
    def weighted(self) -> bool:
        return True

    def make(self, given: Given) -> Made:
        from certnet.train import train_admm

        data, options = given.data, self.model_dump(exclude={"start"})
        done = train_admm(
            data.X_train, data.y_train, given.weight, start=given.before, random_state=given.seed, **options
        )
        columns = {"iterations": len(done.loss_curve) - 1, "settings": dict(done.settings)}
        return Made(require_shallow(done.network).labelled(data.units), "lipschitz", columns)


class MlpStart(Step):
    """scikit-learn's ``MLPRegressor`` with Adam, which needs no further package."""

    epochs: Count = 500
    alpha: NonNegative = 1e-4
    learning_rate: Positive = 1e-3

    @property
    def weighted(self) -> bool:
        return False

    def make(self, given: Given) -> Made:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor

        from certnet.io import from_sklearn

        model = MLPRegressor(
            hidden_layer_sizes=(given.hidden,),
            alpha=self.alpha,
            learning_rate_init=self.learning_rate,
            max_iter=self.epochs,
            random_state=given.seed,
        )
        data = given.data
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is a setting
            fitted = model.fit(data.X_train, data.y_train)
            return Made(require_shallow(from_sklearn(fitted, units=data.units)), "l2")


class Starts(Part):
    """The starts of a study, in the order of their training; ``admm_early`` is a second ADMM, stopped early, say."""

    sgd: SgdStart | None = None
    pgd: PgdStart | None = None
    mlp: MlpStart | None = None
    admm: AdmmStart | None = None
    admm_early: AdmmStart | None = None

    @property
    def named(self) -> dict[str, Step]:
        """The starts that are asked for."""
        found = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: start for name, start in found if start is not None}

    def before(self, name: str) -> str | None:
        """The start whose network another one begins with."""
        start = {"admm": self.admm, "admm_early": self.admm_early}.get(name)
        return None if start is None else start.start

    @model_validator(mode="after")
    def _complete(self) -> Starts:
        if not self.named:
            raise ValueError(f"no start: add a table [starts.{'], [starts.'.join(type(self).model_fields)}]")
        for name in self.named:
            first = self.before(name)
            if first is not None and first not in self.named:
                raise ValueError(f"{name} starts from {first!r}, which is missing: add [starts.{first}]")
        return self
