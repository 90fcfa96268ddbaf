"""The task that trains a network: its curves, accuracies and linear fractions, and the network as the artifact."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from certnet.core.errors import InvalidInputError
from certnet.core.outcome import Status
from certnet.core.validation import Float
from certnet.data import ImageDataset
from certnet.lifted import LiftedNetwork
from certnet.lifted.baselines import linear_regression
from certnet.lifted.fractions import fractions_inside
from certnet.lifted.learn import Objective, Training, initial_network, train
from certnet.networks.feedforward import FEED_FORWARD_FORMAT, FeedForward
from certnet.study.kinds.artifacts import packed, unpacked
from certnet.study.kinds.base import Outcome
from certnet.study.kinds.lifted.images import drawn_images
from certnet.study.kinds.lifted.spec import Recipe
from certnet.study.kinds.lifted.tasks import TrainingSettings
from certnet.study.tasks import Row

__all__ = ["lifted_from", "network_from", "train_network"]

_ROWS = 10_000  # samples inferred at a time


def train_network(said: TrainingSettings, seed: int, artifacts: Sequence[bytes]) -> Outcome:
    """Train the network of a task on its images."""
    data, recipe = drawn_images(said.images), said.network
    names = {"part": said.part, "data": said.images.name, "trial": said.trial, "network": said.name}
    names |= {"objective": recipe.objective, "n_train": len(data.X_train), "n_test": len(data.X_test)}
    begin = time.perf_counter()
    if recipe.objective == "linear-regression":
        row = _linear_regression(data)
        return Outcome({**names, **row, "method_seconds": time.perf_counter() - begin})
    if recipe.objective == "rr-layers":
        network, row = _rr_layers(said, data, seed)
        row["method_seconds"] = time.perf_counter() - begin
        return Outcome({**names, **row}, packed(**network.arrays()))
    start = lifted_from(artifacts[0]) if artifacts else _initial(said, data)
    run = _back_propagated if recipe.objective == "back-propagation" else _lifted
    trained, row, failure = run(recipe, start, data, seed)
    row["method_seconds"] = time.perf_counter() - begin
    return Outcome({**names, **row}, packed(**trained.arrays()), failure)


def lifted_from(content: bytes) -> LiftedNetwork:
    """The network of an artifact."""
    return LiftedNetwork.from_arrays(unpacked(content), Path("network.npz"))


def network_from(content: bytes) -> LiftedNetwork | FeedForward:
    """The network of an artifact, lifted or, of RR layers, an ordinary one."""
    arrays = unpacked(content)
    if str(arrays.get("format", "")) == FEED_FORWARD_FORMAT:
        return FeedForward.from_arrays(arrays, Path("network.npz"))
    return LiftedNetwork.from_arrays(arrays, Path("network.npz"))


def _outputs_of(network: LiftedNetwork, X: Float) -> Float:
    """``z_L*(x)`` of every row, in parts."""
    return np.concatenate([network.infer(part, threads=1).output for part in _parts(X)])


def _parts(X: Float) -> list[Float]:
    return [X[first : first + _ROWS] for first in range(0, len(X), _ROWS)]


def _initial(said: TrainingSettings, data: ImageDataset) -> LiftedNetwork:
    recipe, scale = said.network, said.weight_scale
    outputs = (data.n_classes,) if recipe.classifies else ()
    widths = (data.X_train.shape[1], *recipe.hidden, *outputs)
    hidden = len(recipe.hidden)
    beta, units = recipe.beta, [recipe.units] * hidden + ["linear"] * len(outputs)
    if not isinstance(beta, list):
        beta = [beta] * hidden + [0.0] * len(outputs)
    drawn = initial_network(widths, beta=beta, gamma=recipe.gamma, units=units, random_state=said.start_seed)
    return drawn.with_parameters([scale * W for W in drawn.weights], drawn.biases, drawn.reconstruction_biases)


# ------------------------------------------------------------------------------------------------------ lifted networks


def _lifted(recipe: Recipe, start: LiftedNetwork, data: ImageDataset, seed: int) -> tuple[LiftedNetwork, Row, str]:
    """By the energies; the test accuracy of every epoch is for the curve, and nothing is chosen by it."""
    supervised = recipe.objective != "unsupervised"
    predict = _by_energy if recipe.objective == "class_conditional" else _by_output
    X, targets = _samples(recipe, data, seed)
    done = train(
        start,
        X,
        targets if supervised else None,
        _training(recipe),
        random_state=seed,
        score=(lambda network: _accuracy(predict(network, data.X_test), data.y_test)) if supervised else None,
    )
    row: Row = {
        "status_training": done.status.name,
        "loss": list(done.loss_curve),
        "accuracy": list(done.score_curve),
        "passes_per_sample": done.passes_per_sample,
        "training_seconds": done.seconds,
    }
    if done.status is Status.INTERRUPTED:  # the best so far is no result of a study
        raise KeyboardInterrupt
    if recipe.labels is not None:
        row["n_labels"] = int(np.isfinite(targets[:, 0]).sum())
    row |= _evaluated(done.network, data, predict if supervised else None)
    failure = f"training diverged in epoch {len(done.loss_curve) + 1}: lower learning_rate, or raise warmup_epochs"
    return done.network, row, "" if done.status is Status.OPTIMAL else failure


def _samples(recipe: Recipe, data: ImageDataset, seed: int) -> tuple[Float, Float]:
    """Images and one-hot targets to train with; NaN where there is no label, unless such images are left out."""
    targets = np.eye(data.n_classes)[data.y_train]
    if recipe.labels is None:
        return data.X_train, targets
    kept = _labelled(data.y_train, recipe.labels, seed)
    if recipe.objective == "contrastive":
        return data.X_train[kept], targets[kept]
    targets[np.setdiff1d(np.arange(len(targets)), kept)] = np.nan
    return data.X_train, targets


def _labelled(y: Any, count: int, seed: int) -> Any:
    """Which samples keep their label: of a seeded order the first ones of each class, in turn."""
    order = np.random.default_rng(seed).permutation(len(y))
    rank = np.empty(len(y), dtype=np.intp)
    for label in np.unique(y):
        members = order[y[order] == label]
        rank[members] = np.arange(len(members))
    return np.sort(order[np.argsort(rank[order], kind="stable")][:count])


def _training(recipe: Recipe) -> Training:
    kind = "lifted" if recipe.objective == "class_conditional" else recipe.objective
    given = {key: getattr(recipe, key) for key in ("unsupervised_weight", "labelled_share")}
    given = {key: value for key, value in given.items() if value is not None}
    share = {"labelled_share": given.pop("labelled_share")} if "labelled_share" in given else {}
    return Training(
        objective=Objective(kind, **given),
        optimizer=recipe.optimizer,
        learning_rate=recipe.learning_rate,
        rate_scale=recipe.rate_scale,
        schedule=recipe.schedule,
        warmup_epochs=recipe.warmup_epochs,
        batch_size=recipe.batch_size,
        max_epochs=recipe.epochs,
        weight_decay=recipe.weight_decay,
        passes=recipe.passes,
        # without the free phase's signal, clamped phases that begin at zero need hundreds of passes: they are kept
        warm_activations=kind == "lifted",
        **share,
    )


def _by_output(network: LiftedNetwork, X: Float) -> Float:
    """``z_L*`` of every row, the largest of which is the prediction."""
    return _outputs_of(network, X)


def _by_energy(network: LiftedNetwork, X: Float) -> Float:
    """Minus the energy of every class (H, Remark 3)."""
    return np.concatenate([-network.class_energies(part, threads=1) for part in _parts(X)])


def _accuracy(outputs: Float, labels: Any) -> float:
    return float((outputs.argmax(axis=1) == labels).mean())


def _evaluated(network: LiftedNetwork, data: ImageDataset, predict: Callable[..., Float] | None) -> Row:
    """Accuracies, and the fraction of units in their linear range on the test data, output layer left out."""
    free = network.infer(data.X_test, threads=1)
    linear = fractions_inside(free.activations, network.lower, network.upper)
    row: Row = {"linear": list(linear[: None if predict is None else -1])}
    if predict is not None:
        row["train_accuracy"] = _accuracy(predict(network, data.X_train), data.y_train)
        row["test_accuracy"] = _accuracy(predict(network, data.X_test), data.y_test)
    return row


# ------------------------------------------------------------------------------------------------------------ baselines


def _back_propagated(
    recipe: Recipe, start: LiftedNetwork, data: ImageDataset, seed: int
) -> tuple[LiftedNetwork, Row, str]:
    """The feed-forward twin, from the same first weights."""
    from certnet.lifted.twin_ import train_twin

    done = train_twin(
        start,
        data.X_train,
        data.y_train,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        X_test=data.X_test,
        y_test=data.y_test,
        random_state=seed,
        device="cpu",
    )
    twin = done.network
    activations = twin.split(twin.feed_forward(data.X_test))
    row: Row = {
        "loss": list(done.loss_curve[1:]),
        "train_accuracy": done.train_accuracy,
        "test_accuracy": done.test_accuracy,
        "linear": list(fractions_inside(activations, twin.lower, twin.upper, 0.0)[:-1]),
        "training_seconds": done.seconds,
    }
    return LiftedNetwork(*_parameters(twin), beta=twin.beta, gamma=twin.gamma, units=twin.units), row, ""


def _rr_layers(said: TrainingSettings, data: ImageDataset, seed: int) -> tuple[FeedForward, Row]:
    """Linear RR layers with ReLU between them (H, end of section 3), by back-propagation of a margin loss."""
    from certnet.lifted.rr_training_ import train_rr

    recipe = said.network
    if isinstance(recipe.beta, list):
        raise InvalidInputError("RR layers have one beta: a number is needed")
    done = train_rr(
        (data.X_train.shape[1], *recipe.hidden, data.n_classes),
        data.X_train,
        data.y_train,
        beta=float(recipe.beta),
        margin=recipe.margin or 1.0,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        optimizer=recipe.optimizer,
        learning_rate=recipe.learning_rate,
        schedule=recipe.schedule,
        weight_decay=recipe.weight_decay,
        X_test=data.X_test,
        y_test=data.y_test,
        random_state=said.start_seed % 2**31,
    )
    return done.network, {
        "loss": list(done.loss_curve[1:]),
        "train_accuracy": done.train_accuracy,
        "test_accuracy": done.test_accuracy,
        "training_seconds": done.seconds,
    }


def _parameters(net: Any) -> tuple[Any, Any, Any]:
    return net.weights, net.biases, net.reconstruction_biases


def _linear_regression(data: ImageDataset) -> Row:
    model = linear_regression(data.X_train, data.y_train, n_outputs=data.n_classes)
    return {"train_accuracy": model.train_accuracy, "test_accuracy": model.accuracy(data.X_test, data.y_test)}
