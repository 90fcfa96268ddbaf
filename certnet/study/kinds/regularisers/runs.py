"""What a task of the kind "regularisers" does: a search over values, or a network and its measures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from certnet.certification import certify
from certnet.core.errors import SolverError
from certnet.core.validation import Float
from certnet.data import Dataset
from certnet.networks.feedforward import FeedForward
from certnet.study.kinds.artifacts import packed, unpacked
from certnet.study.kinds.base import Outcome
from certnet.study.kinds.regularisers.data import parts_of
from certnet.study.kinds.regularisers.noise import Noise, noise_errors
from certnet.study.kinds.regularisers.tasks import RegularisersSettings
from certnet.study.tasks import Row, Task
from certnet.train import (
    Coupled,
    CoupledBound,
    MaxNorm,
    PerLayerSpectral,
    Regularizer,
    TrainResult,
    Unregularized,
    train_regularized,
)
from certnet.train.regularizers import spectral_norms

__all__ = ["chosen_value", "regulariser_execute", "regularizer_of"]

_MADE = {"per-layer": PerLayerSpectral, "coupled": Coupled, "max-norm": MaxNorm, "coupled-bound": CoupledBound}


def regulariser_execute(task: Task[RegularisersSettings], artifacts: Sequence[bytes]) -> Outcome:
    """Search over the values and hand the validation errors on, or train with one value and measure the network."""
    said = task.settings
    data = said.data.load(said.folder)
    noise = Noise(np.ptp(data.X_train, axis=0), tuple(said.noise.levels), said.noise.draws, said.noise.seed)
    names = {
        "data": data.name,
        "trial": said.trial,
        "method": said.method,
        "stage": said.stage,
        "criterion": said.criterion,
        "regularizer": said.options.regularizer,
    }
    if said.stage == "grid":
        return _searched(task, data, noise, names)
    values = said.options.values
    value = chosen_value(artifacts[0], said.criterion) if artifacts else (values[0] if values else None)
    return _measured(task, data, noise, names | {"value": value})


def regularizer_of(name: str, value: float | None) -> Regularizer:
    """The regulariser of a formulation at one of its values."""
    return Unregularized() if value is None else _MADE[name](value)


def chosen_value(content: bytes, criterion: str) -> float:
    """The value with the least validation error, of the artifact of a search; of equal ones the first.

    Raises
    ------
    SolverError
        No training gave a finite error.
    """
    arrays = unpacked(content)
    values, errors = arrays["values"], arrays["errors"]
    scores = errors[:, 0] if criterion == "clean" else errors.mean(axis=1)
    best = int(np.argmin(scores))
    if not np.isfinite(scores[best]):
        raise SolverError(f"none of the {len(values)} values gave a finite validation error: lower the learning rate")
    return float(values[best])


def _train(task: Task[RegularisersSettings], X: Float, y: Float, value: float | None) -> TrainResult:
    """Train with one value; the validation curve is the error on the training data itself."""
    how = task.settings.training
    return train_regularized(
        X,
        y,
        how.hidden,
        regularizer_of(task.settings.options.regularizer, value),
        epochs=how.epochs,
        batch_size=how.batch_size,
        learning_rate=how.learning_rate,
        device=how.device,
        random_state=task.seed,
        X_val=X,
        y_val=y,
    )


# ------------------------------------------------------------------------------------------------------------ searches


def _searched(task: Task[RegularisersSettings], data: Dataset, noise: Noise, names: Row) -> Outcome:
    """Validation errors of every value, in the row and for the tasks that choose."""
    begin = time.perf_counter()
    fraction = task.settings.training.validation_fraction
    held, inner = parts_of(len(data.y_train), fraction, task.seed, f"the training part of {data.name}")
    values = task.settings.options.values
    noise = replace(noise, seed=task.seed)  # not the draws that the test is done with
    errors, failures = np.full((len(values), len(noise.levels)), np.inf), {}
    for row, value in enumerate(values):
        try:
            done = _train(task, data.X_train[inner], data.y_train[inner], value)
        except SolverError as error:
            failures[f"{value:g}"] = str(error)
            continue
        network = FeedForward.of(done.network)
        errors[row] = list(noise_errors(network, data.X_train[held], data.y_train[held], noise).mae.values())
    levels = [f"{eta:g}" for eta in noise.levels]
    found = {f"{value:g}": dict(zip(levels, line.tolist())) for value, line in zip(values, errors)}
    spent = time.perf_counter() - begin
    columns = names | {"mae_validation": found, "value_failures": failures, "method_seconds": spent}
    return Outcome(columns, packed(values=np.array(values, dtype=np.float64), errors=errors))


# ------------------------------------------------------------------------------------------------------------ networks


def _measured(task: Task[RegularisersSettings], data: Dataset, noise: Noise, names: Row) -> Outcome:
    """Train on all of the training part and measure on the test part. Errors in standardised units.

    ``mae_constant`` is the test error of the training part's mean, which is zero there.
    """
    begin = time.perf_counter()
    done = _train(task, data.X_train, data.y_train, names["value"])
    spent = time.perf_counter() - begin
    network = FeedForward.of(done.network)
    proof = certify(network, X=data.X_train)
    errors = noise_errors(network, data.X_test, data.y_test, noise, proof.upper)
    residuals = network.predict(data.X_train).reshape(-1) - data.y_train
    norms = spectral_norms(network.weights)
    row = names | {
        "mae_train": float(np.mean(np.abs(residuals))),
        "mse_train": float(np.mean(residuals**2)),
        "mse_test": errors.mse["0"],
        "mae_constant": float(np.mean(np.abs(data.y_test))),
        "mae": dict(errors.mae),
        "mse": dict(errors.mse),
        "mae_certified": dict(errors.mae_certified),
        "target_scale": data.scaling.y_scale,
        "norms": {f"W{k}": norm for k, norm in enumerate(norms, 1)},
        "product": float(np.prod(norms)),
        "product_hidden": float(np.prod(norms[:-1])),
        "longest_row": max(float(np.linalg.norm(W, axis=1).max()) for W in network.weights),
        "lower": proof.lower,
        "upper": proof.upper,
        "certificate": proof.kind,
        "loss_curve": _short(done.loss_curve),
        "mse_curve": _short(done.validation_curve),
        "method_seconds": spent,
    }
    return Outcome(row, failure=errors.violation or _outside(row))


def _outside(row: Row) -> str:
    """Why the product of norms contradicts the lower bound or the constraint, or ""."""
    if row["lower"] > row["product"] * (1.0 + 1e-9):
        return (
            f"the lower bound {row['lower']:.9g} is above the product of norms {row['product']:.9g}: please report it"
        )
    if row["regularizer"] == "coupled-bound" and row["product"] > row["value"] * (1.0 + 1e-9):
        return f"the product of norms {row['product']:.9g} is above its limit {row['value']:g}"
    return ""


def _short(curve: Sequence[float]) -> list[float]:
    """Six digits: curves are drawn, not computed with."""
    return [float(f"{value:.6g}") for value in curve]
