"""What the estimators of lifted networks have in common: fitting by plan, going on, inference, files."""

from __future__ import annotations

import os
import warnings
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_is_fitted, validate_data

from certnet.core.errors import FileFormatError, InvalidInputError, NotConvergedWarning
from certnet.core.outcome import Status
from certnet.core.validation import Float
from certnet.lifted.bounds import LiftedCertificate
from certnet.lifted.inference import Inference
from certnet.lifted.learn.fitting import Plan, seed_of
from certnet.lifted.learn.loop import train
from certnet.lifted.learn.objective import Objective
from certnet.lifted.learn.scaling import Scaling
from certnet.lifted.learn.settings import Training
from certnet.lifted.learn.state import State
from certnet.lifted.learn.stored import Stored, load_estimator, save_estimator
from certnet.lifted.learn.trained import Trained
from certnet.lifted.network import LiftedNetwork

__all__ = ["DTYPES", "LiftedEstimator"]

DTYPES: Final = [np.float64, np.float32]
"""Kinds of inputs that are not copied."""

_TRAINING: Final = (
    "optimizer",
    "learning_rate",
    "rate_scale",
    "schedule",
    "momentum",
    "batch_size",
    "max_epochs",
    "weight_decay",
    "tol",
    "passes",
    "warm_activations",
    "biases",
)
"""Parameters that :class:`~certnet.lifted.learn.settings.Training` takes under the same names."""


class LiftedEstimator(BaseEstimator):
    """Abstract; each of the three says its objective, its layers and its targets."""

    network_: LiftedNetwork
    loss_curve_: list[float]
    _scaling: Scaling
    _state: State | None

    @abstractmethod
    def _objective(self) -> Objective: ...

    @abstractmethod
    def _extra(self) -> dict[str, Any]:
        """Fitted attributes to keep in a file beside the network."""

    def _plan(self, seed: int) -> Plan:
        given = {name: getattr(self, name) for name in _TRAINING if hasattr(self, name)}
        given.setdefault("weight_decay", 0.0)  # H (18) has none
        how = Training(objective=self._objective(), **given)
        patience = self.n_iter_no_change if self.early_stopping else None
        return Plan(
            how,
            getattr(self, "pretrain_epochs", 0),
            getattr(self, "pretrain_learning_rate", 0.005),
            seed,
            patience,
            self.checkpoint,
            self.n_threads,
            bool(self.verbose),
        )

    def _scaling_of(self, X: Float, y: Float | None = None) -> Scaling:
        return Scaling.of(X, y) if self.standardise else Scaling.none(X.shape[1], 0 if y is None else y.shape[1])

    def _fit_network(
        self,
        X: Float,
        y: Float | None,
        widths: tuple[int, ...],
        shape: dict[str, Any],
        held: tuple[Float, Any] | None,
        plan: Plan,
    ) -> Self:
        """Train on scaled data; ``held`` is what the validation scores are computed on."""
        previous = self.network_ if self.warm_start and hasattr(self, "network_") else None
        start = plan.start(widths, previous, gamma=self.gamma, **shape)
        before = plan.pretrained(start, X)
        if before is not None:
            start, self.pretrain_loss_curve_ = before.network, list(before.loss_curve)
            if before.status is Status.INTERRUPTED:
                return self._take(before)
        score = None if held is None else self._scorer(*held)
        return self._take(plan.trained(start, X, y, score))

    def _take(self, done: Trained) -> Self:
        self.network_, self.loss_curve_ = done.network, list(done.loss_curve)
        self.n_iter_ = len(done.loss_curve)
        self.validation_scores_ = list(done.score_curve)
        self._state = done.state
        self._certificates: dict[str, LiftedCertificate] = {}
        self._pair_certificates: dict[str, dict[tuple[int, ...], LiftedCertificate]] = {}
        return self

    def _continue(self, X: Float, y: Float | None, start: Callable[[], LiftedNetwork]) -> Self:
        """One epoch over the data, from where the last one ended."""
        state = getattr(self, "_state", None)
        net = self.network_ if hasattr(self, "network_") else start()
        how = replace(self._plan(0).how, max_epochs=1, schedule="constant", warm_activations=False)
        how = replace(how, batch_size=min(how.batch_size, len(X)))
        if state is None or state.optimiser.kind != how.optimizer or state.activations is not None:
            state = State.fresh(net, how, seed_of(self.random_state, None), len(X))
        return self._take(train(net, X, y, how, state=state, threads=self.n_threads, verbose=bool(self.verbose)))

    def _split(self, X: Float, y: Any, seed: int, *, stratify: Any = None) -> tuple[Any, Any, Any, Any]:
        """Training and validation parts."""
        if not 0.0 < self.validation_fraction < 1.0:
            raise InvalidInputError(f"validation_fraction is {self.validation_fraction!r}: between 0 and 1 is needed")
        try:
            return tuple(
                train_test_split(X, y, test_size=self.validation_fraction, random_state=seed, stratify=stratify)
            )  # type: ignore[return-value]
        except ValueError as error:
            raise InvalidInputError(f"the data cannot be split for early stopping: {error}") from error

    def _scorer(self, X: Float, y: Any) -> Callable[[LiftedNetwork], float]:
        """The validation score of a network, on scaled inputs."""
        return lambda net: self._score_of(net, X, y)

    @abstractmethod
    def _score_of(self, net: LiftedNetwork, X: Float, y: Any) -> float: ...

    def _inputs(self, X: ArrayLike) -> Float:
        check_is_fitted(self, "network_")
        return self._scaling.inputs(validate_data(self, X, dtype=DTYPES, reset=False))

    def _infer(self, net: LiftedNetwork, X: Float, clamp: Float | None = None) -> Inference:
        tol = 1e-6 if self.tol is None else self.tol
        found = net.infer(X, clamp=clamp, tol=min(tol, 1e-6), threads=self.n_threads)
        missed = int((~found.converged).sum())
        if missed:
            status = found.status[~found.converged][0]
            warnings.warn(
                f"the inference of {missed} of {len(X)} samples did not converge: {status.advice}",
                NotConvergedWarning,
                stacklevel=4,
            )
        return found

    def certificate(self, method: str = "sdp") -> LiftedCertificate:
        """The proved Lipschitz bracket of ``network_``, in the network's own units, kept after the first call.

        ``method`` is "sdp", "layerwise" or "theorem": :func:`certnet.lifted.bounds.lipschitz_bound`.
        """
        check_is_fitted(self, "network_")
        if method not in self._certificates:
            self._certificates[method] = self.network_.lipschitz_bound(method)
        return self._certificates[method]

    def energies(self, X: ArrayLike) -> Float:
        """``min_z E(z; x)`` of every row of X, in scaled units, shape (N,): larger is less like the training data."""
        inputs = self._inputs(X)
        return self._infer(self.network_, inputs).energy

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the fitted estimator to an ``.npz`` file, without pickles; the optimiser's memory is not kept.

        Raises
        ------
        InvalidInputError
            A loss of your own, or labels that are neither numbers nor text.
        OutputError
            The file exists and ``force`` is false, or cannot be written.
        """
        check_is_fitted(self, "network_")
        curves = {"loss_curve_": self.loss_curve_, "validation_scores_": self.validation_scores_}
        names = {"feature_names_in_": self.feature_names_in_} if hasattr(self, "feature_names_in_") else {}
        extra = self._extra() | curves | names
        stored = Stored(type(self).__name__, self.get_params(deep=False), self.network_, self._scaling, extra)
        return save_estimator(path, stored, force=force)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        FileFormatError
            The file is missing, truncated, or of another estimator.
        """
        stored = load_estimator(path)
        if stored.kind != cls.__name__:
            raise FileFormatError(f"{path} holds a {stored.kind[:60]}, not a {cls.__name__}")
        unknown = stored.params.keys() - cls().get_params(deep=False).keys()
        if unknown:
            raise FileFormatError(f"{path}: a {cls.__name__} has no parameter {min(unknown)[:40]!r}")
        model = cls(**stored.params)
        for name, value in stored.extra.items():
            setattr(model, name, value.tolist() if name in ("loss_curve_", "validation_scores_") else value)
        model.network_, model._scaling, model._state = stored.network, stored.scaling, None
        model._certificates, model._pair_certificates = {}, {}
        model.n_features_in_, model.n_iter_ = stored.network.n_inputs, len(model.loss_curve_)
        return model
