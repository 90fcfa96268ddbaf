"""``certnet lifted train``."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from certnet.cli.choices import Objective, Optimizer, Schedule
from certnet.cli.outputs import require_apart
from certnet.cli.samples import (
    Categorical,
    Data,
    Decimal,
    Drop,
    Encoding,
    Grey,
    Labels,
    Limit,
    NoHeader,
    Samples,
    Sep,
    Source,
    Target,
    read_parts,
)
from certnet.cli.terminal import Force, Interrupted, Json, finite_or_none, print_json, say, warn
from certnet.core.errors import InvalidInputError, OutputError
from certnet.core.files import check_writable

if TYPE_CHECKING:
    from certnet.lifted.estimators import LiftedClassifier, LiftedDensity, LiftedRegressor

    Model = LiftedClassifier | LiftedDensity | LiftedRegressor

__all__ = ["train_command"]


def train_command(
    data: Data,
    out: Annotated[Path, typer.Option(help="Where the trained network goes (.npz).")],
    layers: Annotated[str, typer.Option(help="Hidden layers; all layers of the unsupervised objective.")] = "64,64",
    units: Annotated[str, typer.Option(help="relu, linear or hard_sigmoid; or one per layer, the output's too.")] = (
        "relu"
    ),
    beta: Annotated[str, typer.Option(help="Reconstruction: one number for hidden layers, or one per layer.")] = "1",
    gamma: Annotated[
        float | None, typer.Option(help="Feedback; by default 1/8 up to two hidden layers, 1/2 for more.")
    ] = None,
    objective: Annotated[Objective, typer.Option(help="What is learned.", case_sensitive=False)] = "contrastive",
    regress: Annotated[
        bool, typer.Option("--regress", help="CSV: the target is a number, not a class; standardised.")
    ] = False,
    standardise: Annotated[
        bool, typer.Option("--standardise", help="Centre the inputs and divide all by one number.")
    ] = False,
    epochs: Annotated[int, typer.Option(help="Passes over the samples.", min=1)] = 100,
    batch_size: Annotated[int, typer.Option("--batch-size", "--batch", help="Samples per step.", min=1)] = 10,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="In the scale of back-propagation. By default 0.05, 0.005 for the unsupervised objective."),
    ] = None,
    weight_decay: Annotated[float, typer.Option(help="Of the last layer, not of the unsupervised objective.")] = 1e-5,
    optimizer: Annotated[Optimizer, typer.Option(help="Of the steps.", case_sensitive=False)] = "sgd",
    schedule: Annotated[Schedule, typer.Option(help="Of the learning rate.", case_sensitive=False)] = "constant",
    pretrain: Annotated[int, typer.Option(help="Epochs of the unsupervised objective before.", min=0)] = 0,
    tol: Annotated[float | None, typer.Option(help="Residual of every inference; by default from gamma.")] = None,
    passes: Annotated[
        int | None, typer.Option(help="Instead of tol: so many passes for every inference, as in the papers.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order and drawn samples.", min=0)] = 0,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Written after every epoch; where it exists and fits, training goes on from it.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Of BLAS; batches are too small to gain by more than one.", min=1)] = 1,
    target: Target = None,
    drop: Drop = None,
    labels: Labels = None,
    grey: Grey = False,
    sep: Sep = ",",
    decimal: Decimal = ".",
    encoding: Encoding = "utf-8",
    no_header: NoHeader = False,
    categorical: Categorical = None,
    limit: Limit = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Train a lifted network on DATA; a line per epoch with the time left, scores at the end.

    Ctrl-C keeps the network after the last epoch that ended, and exits with 130.
    """
    if out.suffix.lower() != ".npz":
        raise OutputError(f"{out} has the suffix {out.suffix!r}: a lifted network is an .npz file")
    check_writable(out, force=force)
    require_apart({"--out": out, "--checkpoint": checkpoint}, {"DATA": data, "--labels": labels})
    shape = {"units": _listed(units, str, "units"), "beta": _listed(beta, float, "beta")}
    if gamma is not None:
        shape["gamma"] = gamma
    how: dict[str, Any] = {
        "max_epochs": epochs,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "schedule": schedule,
        "tol": tol,
        "passes": passes,
        "standardise": standardise or regress,
        "checkpoint": checkpoint,
        "n_threads": threads,
        "random_state": seed,
        "verbose": True,
    }
    if learning_rate is not None:
        how["learning_rate"] = learning_rate
    supervised = {"objective": objective, "weight_decay": weight_decay, "pretrain_epochs": pretrain}
    sizes = _listed(layers, int, "layers", always=True)
    model = _model(objective, regress, sizes, {**shape, **how}, supervised)
    parts = read_parts(
        Source(
            data, target, tuple(drop or ()), labels, grey, sep, decimal, encoding, no_header, tuple(categorical or ())
        )
    )
    train = _ready(parts.get("train", parts.get("all")), data, objective, regress).drawn(limit, seed)
    begin = time.perf_counter()
    again = "" if checkpoint is None else "; the same command with --force goes on from the checkpoint"
    heard = _fitted(model, train, again)
    if heard and not model.n_iter_:
        raise Interrupted("interrupted before the first epoch ended: nothing was written")
    model.save(out, force=force)
    told = {"network": str(out), "samples": len(train.X), "seconds": time.perf_counter() - begin, "interrupted": heard}
    told |= _told(model, {} if heard else {"train": train, "test": parts.get("test")})
    if as_json:
        print_json(told)
    else:
        _say(model, told, epochs)
    if heard:
        early = pretrain > 0 and model.loss_curve_ == model.pretrain_loss_curve_  # type: ignore[union-attr]
        stage = "pre-training epoch" if early else "epoch"
        raise Interrupted(f"interrupted: {out} is the network after {stage} {model.n_iter_}{again}")
    if model.n_iter_ < epochs:  # diverged, as a warning has said
        raise typer.Exit(3)


def _listed(text: str, kind: type, name: str, *, always: bool = False) -> Any:
    """``a,b,c`` as a tuple; a single entry as it is, unless it is ``always`` to be a tuple."""
    try:
        entries = tuple(kind(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise InvalidInputError(f"--{name} takes one entry or several with commas between, got {text!r}") from error
    return entries if always or len(entries) > 1 else entries[0]


def _model(objective: str, regress: bool, sizes: Any, options: dict[str, Any], supervised: dict[str, Any]) -> Model:
    from certnet.lifted.estimators import LiftedClassifier, LiftedDensity, LiftedRegressor

    if objective != "unsupervised":
        if regress:  # as many epochs as are asked for
            return LiftedRegressor(sizes, early_stopping=False, **options, **supervised)
        return LiftedClassifier(sizes, **options, **supervised)
    if regress or supervised["pretrain_epochs"]:
        raise InvalidInputError("--regress and --pretrain are not for the unsupervised objective: leave them out")
    return LiftedDensity(sizes, **options)


def _ready(samples: Samples | None, data: str, objective: str, regress: bool) -> Samples:
    """Samples to train on, with labels of the kind that is needed."""
    if samples is None:
        raise InvalidInputError(f"{data} has no training part: name data with x_train and y_train, or x and y")
    if objective == "unsupervised":
        return Samples(samples.X)
    if samples.y is None:
        raise InvalidInputError(
            f"{data} comes without labels: name them by --target (CSV), --labels (IDX) or y_train (NPZ), or "
            "train with --objective unsupervised"
        )
    return samples if regress else Samples(samples.X, _classes(samples.y))


def _classes(y: NDArray[Any]) -> NDArray[np.int64]:
    broken = np.flatnonzero(y != np.round(y))
    if broken.size:
        raise InvalidInputError(f"the target holds {y[broken[0]]:g}, which names no class: use --regress for numbers")
    classes = len(np.unique(y))
    if classes > max(20, len(y) // 10):
        warn(f"the target has {classes} different values in {len(y)} rows, and each is taken for a class: --regress?")
    return y.astype(np.int64)


def _fitted(model: Model, train: Samples, again: str) -> bool:
    """Fit; was Ctrl-C pressed? The model is then as it was after its last epoch."""
    y: Any = train.y
    with _listening() as heard:
        try:
            model.fit(train.X, y)
        except KeyboardInterrupt as error:
            raise Interrupted(f"interrupted outside of an epoch: nothing was written{again}") from error
    return bool(heard)


@contextmanager
def _listening() -> Iterator[list[int]]:
    """Fills the list when Ctrl-C is pressed: the training takes a KeyboardInterrupt for its end, and returns."""
    heard: list[int] = []

    def note(number: int, _: object) -> None:
        heard.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, before)


def _told(model: Model, parts: dict[str, Samples | None]) -> dict[str, Any]:
    """What became of the training, with the scores on these parts."""
    told: dict[str, Any] = {
        "layers": list(model.network_.widths),
        "epochs": model.n_iter_,
        "loss": finite_or_none(model.loss_curve_[-1]) if model.loss_curve_ else None,
    }
    for name, part in parts.items():
        if part is not None:
            told |= {f"{name}_{what}": value for what, value in _scores(model, part).items()}
    return told


def _scores(model: Model, part: Samples) -> dict[str, float]:
    from certnet.lifted.estimators import LiftedClassifier, LiftedDensity

    y: Any = part.y
    if isinstance(model, LiftedDensity):
        return {"energy": -model.score(part.X)}
    if isinstance(model, LiftedClassifier):
        return {"accuracy": float(model.score(part.X, y))}
    return {"r2": float(model.score(part.X, y)), "mse": float(np.mean((model.predict(part.X) - y) ** 2))}


def _say(model: Model, told: dict[str, Any], epochs: int) -> None:
    loss = "" if told["loss"] is None else f", loss {told['loss']:.4g}"
    say(f"{model.network_!r}")
    say(f"epoch {model.n_iter_} of {epochs}{loss}, {told['samples']} samples, {told['seconds']:.1f} s")
    for name in ("energy", "accuracy", "r2", "mse"):
        values = [f"{part} {told[key]:.4g}" for part in ("train", "test") if (key := f"{part}_{name}") in told]
        if values:
            say(f"{name}: {', '.join(values)}")
    say(f"network written to {told['network']}")
