"""Starting networks: the trainers' settings in a study file, and their use."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.data import Dataset
from certnet.networks.shallow import ShallowNetwork, require_shallow
from certnet.study.spec import Count, Device, NonNegative, Part, Positive, Study

__all__ = ["ADMM_STARTS", "AdmmStart", "MlpStart", "PgdStart", "SgdStart", "Starts", "check_device", "train_start"]

Grid = Annotated[list[Positive], Field(min_length=1)]
Momentum = Annotated[float, Field(ge=0.0, lt=1.0)]


ADMM_STARTS = ("admm", "admm_early")
"""Starts whose objective is the Lipschitz-regularised one."""


class SgdStart(Part):
    """:func:`certnet.train.train_sgd`; weight decay is the study's weight unless given.

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


class PgdStart(SgdStart):
    """:func:`certnet.train.train_pgd`."""

    epsilon: NonNegative = 0.1
    norm: Literal["l2", "linf"] = "l2"
    n_steps: Count = 10


class AdmmStart(Part):
    """:func:`certnet.train.train_admm`, from the network of another start."""

    start: Literal["sgd", "pgd", "mlp"] = "sgd"
    max_iterations: Count = 100
    loss_steps: Count = 30
    update_every: Count = 1
    penalty: Positive | None = None


class MlpStart(Part):
    """scikit-learn's ``MLPRegressor`` with Adam, which needs no further package."""

    epochs: Count = 500
    alpha: NonNegative = 1e-4
    learning_rate: Positive = 1e-3


class Starts(Part):
    """The starts of a study, in the order of their training; ``admm_early`` is a second ADMM, stopped early, say."""

    sgd: SgdStart | None = None
    pgd: PgdStart | None = None
    mlp: MlpStart | None = None
    admm: AdmmStart | None = None
    admm_early: AdmmStart | None = None

    @property
    def named(self) -> dict[str, Part]:
        """The starts that are asked for."""
        found = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: start for name, start in found if start is not None}

    @model_validator(mode="after")
    def _complete(self) -> Starts:
        if not self.named:
            raise ValueError(f"no start: add a table [starts.{'], [starts.'.join(type(self).model_fields)}]")
        for name, start in self.named.items():
            if isinstance(start, AdmmStart) and start.start not in self.named:
                raise ValueError(f"{name} starts from {start.start!r}, which is missing: add [starts.{start.start}]")
        return self


def check_device(name: str, study: Study, *path: str) -> None:
    """Refuse a device that PyTorch does not have here; ``path`` is where the study file names it.

    Raises
    ------
    InvalidInputError
    MissingDependencyError
        PyTorch is not installed.
    """
    if name == "cpu":  # which is always there; PyTorch is slow to load
        return
    from certnet.lifted.torch_ import torch_device

    try:
        torch_device(name)
    except InvalidInputError as error:
        raise InvalidInputError(f"{study.place(*path)}: {error}") from error


def train_start(
    name: str,
    settings: Mapping[str, Any],
    data: Dataset,
    *,
    hidden: int,
    weight: float,
    seed: int,
    before: ShallowNetwork | None = None,
) -> tuple[ShallowNetwork, dict[str, Any]]:
    """Train a start on the training part; what was chosen and how long it took beside it.

    ``before`` is the network that ADMM starts from.
    """
    chosen = dict(settings)
    if name == "mlp":
        return _train_mlp(chosen, data, hidden, seed), {}
    from certnet.train import train_admm, train_pgd, train_sgd, tune

    X, y = data.X_train, data.y_train
    if name in ADMM_STARTS:
        del chosen["start"]
        done = train_admm(X, y, weight, start=before, random_state=seed, **chosen)
        return _labelled(done.network, data), {"iterations": len(done.loss_curve) - 1, "settings": dict(done.settings)}
    trainer = {"sgd": train_sgd, "pgd": train_pgd}[name]
    chosen["weight_decay"] = weight if chosen["weight_decay"] is None else chosen["weight_decay"]
    rates, epochs = chosen.pop("learning_rates"), chosen.pop("tune_epochs")
    fixed: dict[str, Any] = {"hidden": (hidden,), "random_state": seed}
    if not chosen.pop("tune"):
        done = trainer(X, y, **fixed, **chosen)
        return _labelled(done.network, data), {"settings": dict(done.settings)}
    del chosen["learning_rate"], chosen["epochs"]
    tuned = tune(trainer, X, y, {"learning_rate": rates}, epochs=epochs, **fixed, **chosen)
    trials = [{**trial.settings, "score": trial.score if trial.error == "" else None} for trial in tuned.trials]
    return _labelled(tuned.result.network, data), {"settings": dict(tuned.result.settings), "trials": trials}


def _train_mlp(settings: Mapping[str, Any], data: Dataset, hidden: int, seed: int) -> ShallowNetwork:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    from certnet.io import from_sklearn

    model = MLPRegressor(
        hidden_layer_sizes=(hidden,),
        alpha=settings["alpha"],
        learning_rate_init=settings["learning_rate"],
        max_iter=settings["epochs"],
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is a setting
        return require_shallow(from_sklearn(model.fit(data.X_train, data.y_train), units=data.units))


def _labelled(network: object, data: Dataset) -> ShallowNetwork:
    if not isinstance(network, ShallowNetwork):
        raise UnsupportedModelError(f"the start is a {type(network).__name__}: one hidden layer is needed")
    return network.labelled(data.units)
