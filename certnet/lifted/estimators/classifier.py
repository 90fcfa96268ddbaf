"""A classifier by the outputs, or the class energies, of a lifted network."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float
from certnet.io.sklearn_bases import BaseEstimator, ClassifierMixin
from certnet.lifted.bounds import LiftedCertificate, lipschitz_bounds
from certnet.lifted.bounds.radius import Certificates, label_radius
from certnet.lifted.estimators.classes import (
    UNLABELLED,
    accuracy,
    energies_of_classes,
    indicators,
    known_classes,
    labelled_of,
    require_classes,
    signed_or_counted,
    targets_of,
    threshold_of,
    weights_of,
)
from certnet.lifted.estimators.defaults import feedback, is_deep, rate
from certnet.lifted.estimators.files import load_fitted, save_fitted
from certnet.lifted.estimators.fitted import DTYPES, fitted_attributes, inferred, is_fitted, once
from certnet.lifted.estimators.plans import held_back, plan_of, scaling_of, training_of
from certnet.lifted.learn.arguments import betas, hidden_sizes, seed_of
from certnet.lifted.learn.objective import Objective
from certnet.lifted.learn.plan import Learned, Plan
from certnet.lifted.learn.scaling import Scaling
from certnet.lifted.learn.state import State
from certnet.lifted.network import LiftedNetwork

__all__ = ["LiftedClassifier"]

_log = logging.getLogger("certnet")
_CLASSIFYING: Final = ("contrastive", "lifted", "class_conditional", "semi_supervised")


class LiftedClassifier(ClassifierMixin, BaseEstimator):
    r"""A classifier whose outputs ``z_L*(x)`` minimise a convex energy, with a certified radius for every input.

    ``fit`` minimises, by stochastic gradients over weights and biases,

        (1/N) Σ_i [ min_{z: z_L = e_{y_i}} E(z; x_i) − min_z E(z; x_i) ]  +  ½ weight_decay ‖W_{L−1}‖_F²

    (Høier and Zach 2020, (21); Zach and Estellers 2019, (9)); the predicted class is the largest of ``z_L*(x)``.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int
    units : str, pair, or sequence of them
        Of the hidden layers, see :class:`~certnet.networks.energy.LiftedEnergy`; the output is linear. A sequence
        holds one for each hidden layer and one for the output.
    beta : float or sequence of L floats
        Reconstruction. One number is that of the hidden layers, and the output's is 0 then (H, Corollary 2).
    gamma : float or "auto"
        Feedback; "auto" is 1/8 up to two hidden layers, and 1/2 for more, which start from orthogonal weights
        whatever γ is: Gaussian ones leave the outputs of deep networks constant.
    objective : {"contrastive", "lifted", "class_conditional", "semi_supervised"}
        "lifted" is the clamped energy alone (Z, (6)), which tends to linear networks. "class_conditional" is trained
        like it, and predicts the class with the least energy ``min_{z: z_L = e_c} E(z; x)`` (H, Remark 3); take
        ``gamma=1``, for with weak feedback the label is a small part of the energy. "semi_supervised" takes samples
        without a label, whose y is −1 as in scikit-learn's semi-supervised learners (with the other objectives −1 is a
        class like any other): the mean of the first over samples with a label, plus ``unsupervised_weight`` times the
        mean of ``min_z E(z; x_i)`` over all.
    unsupervised_weight, labelled_share : float
        Of "semi_supervised": see :class:`~certnet.lifted.learn.objective.Objective` and
        :class:`~certnet.lifted.learn.settings.Training`. The step of the unsupervised part is the learning rate in the
        scale of the energy times this weight: 0.05 of back-propagation with γ = 1/8 and two hidden layers is 3.2.
    loss : "clamp", "squared", "margin" or a loss of :mod:`certnet.lifted.loss_functions`
        What holds the output to its target in the second phase. For certified radii "margin" with Adam, and a
        ``weight_decay`` by the radius: 4e-3 for 1.5 on images of 784 pixels in [0, 1], less for less (docs/margins.md).
    loss_weight : float
    learning_rate : float or "auto"
        "auto" is 0.05 of back-propagation up to two hidden layers, 0.15 for more.
        Of back-propagation (Z uses 0.05) where ``rate_scale`` is "backpropagation"; with "energy" it is
        ``γ^{−(L−1)}`` times as large for the same steps. H's rate of 0.4 is, to go by its
        bounds and margins, of the mean gradient in the scale of the energy: 0.00625 in that of back-propagation, where
        64 times as much trains too, in a third of the epochs (docs/studies/lifted-images.md).
    rate_scale, optimizer, schedule, momentum, batch_size, max_epochs, weight_decay, tol, passes, warm_activations
        See :class:`~certnet.lifted.learn.settings.Training`.
    pretrain_epochs : int
        Epochs of the unsupervised objective before the others (H's supplement, 2.2).
    pretrain_learning_rate : float
    early_stopping : bool
        Keep ``validation_fraction`` of the samples back, stop when ``n_iter_no_change`` epochs have not raised the
        accuracy on them, and return the best network.
    validation_fraction : float
    n_iter_no_change : int
    class_weight : dict, "balanced" or None
        What the samples of every class weigh in the objective, by label; "balanced" is in inverse proportion to their
        number. Multiplied with ``sample_weight`` of ``fit``. Samples without a label weigh 1.
    standardise : bool
        Subtract the mean of every input, and divide all by one number. The papers do not: their pixels are in [0, 1].
        Where columns have different units, put a ``StandardScaler`` before; radii are in its units then.
    warm_start : bool
        ``fit`` goes on from ``network_``, with a fresh optimiser.
    checkpoint : path, optional
        File that is written after every epoch and from which a ``fit`` with the same parameters and data goes on.
    n_threads : int
        Of inference and BLAS; batches are too small for training to gain by more than one.
    random_state : int, RandomState or None
    verbose : bool
        A line per epoch to standard error, with an estimate of the time left.

    Attributes
    ----------
    network_ : LiftedNetwork
        Of scaled inputs where ``standardise``.
    classes_ : ndarray
        Labels; the numbers 0 … C − 1 of the columns where y has several labels to a sample.
    multilabel_ : bool
    loss_curve_ : list of float
        Objective of every epoch; ``pretrain_loss_curve_`` that of the pre-training.
    validation_scores_ : list of float
    n_iter_ : int
    n_features_in_ : int

    Notes
    -----
    There is no ``predict_proba``: outputs are regressions on one-hot targets, not probabilities.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LiftedClassifier((8,), standardise=True, max_epochs=30, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.9
    True
    """

    classes_: NDArray[Any]
    multilabel_: bool
    network_: LiftedNetwork
    loss_curve_: list[float]
    validation_scores_: list[float]
    n_iter_: int
    _scaling: Scaling
    _state: State | None
    _certificates: dict[Hashable, Any]

    def __init__(
        self,
        hidden_layer_sizes: Any = (64, 64),
        *,
        units: Any = "relu",
        beta: Any = 1.0,
        gamma: float | str = "auto",
        objective: str = "contrastive",
        loss: Any = "clamp",
        loss_weight: float = 1.0,
        unsupervised_weight: float = 1e-4,
        labelled_share: float = 0.5,
        optimizer: str = "sgd",
        learning_rate: float | str = "auto",
        rate_scale: str = "backpropagation",
        schedule: str = "constant",
        momentum: float = 0.0,
        batch_size: int = 10,
        max_epochs: int = 100,
        weight_decay: float = 1e-5,
        pretrain_epochs: int = 0,
        pretrain_learning_rate: float = 0.005,
        tol: float | None = None,
        passes: int | None = None,
        warm_activations: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        class_weight: Any = None,
        standardise: bool = False,
        warm_start: bool = False,
        checkpoint: Any = None,
        n_threads: int = 1,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.units = units
        self.beta = beta
        self.gamma = gamma
        self.objective = objective
        self.loss = loss
        self.loss_weight = loss_weight
        self.unsupervised_weight = unsupervised_weight
        self.labelled_share = labelled_share
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.rate_scale = rate_scale
        self.schedule = schedule
        self.momentum = momentum
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.weight_decay = weight_decay
        self.pretrain_epochs = pretrain_epochs
        self.pretrain_learning_rate = pretrain_learning_rate
        self.tol = tol
        self.passes = passes
        self.warm_activations = warm_activations
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.standardise = standardise
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.n_threads = n_threads
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train on X (N, d) and labels y (N,) of any kind, or columns (N, C) of zeros and ones: several labels each.

        With several labels, the targets are the columns, and a label is predicted where its output is above 1/2 (0 for
        a loss of signs).

        Parameters
        ----------
        X : array_like, shape (N, d)
        y : array_like, shape (N,) or (N, C)
            −1 where a sample has no label and the objective is "semi_supervised".
        sample_weight : array_like, shape (N,), optional
            ``w_i ≥ 0``: the objective is ``Σ w_i · objective_i / Σ w_i``.

        Raises
        ------
        ValueError, TypeError
            scikit-learn's own, for X and y.
        InvalidInputError
            Impossible parameters, a single class, fewer samples than a batch, a checkpoint of another training, weights
            that are negative or all zero, a loss that takes one class only for several labels; no label at all.
        SolverError
            A negative contrastive loss, see :func:`certnet.lifted.learn.train`.
        """
        inputs, labels = self._data(X, y, reset=True)
        known = self._labelled(labels)
        weights = weights_of(sample_weight, self.class_weight, labels, known)
        classes, indices = self._encoded(labels, known)
        plan = self._plan(seed_of(self.random_state, self.checkpoint))
        held = None
        if self.early_stopping:
            (inputs, indices, weights), held = self._held_back(inputs, indices, weights, known, plan.seed)
        scaling = scaling_of(inputs, standardise=self.standardise)
        score = None if held is None else self._accuracy_on(scaling.inputs(held[0]), *held[1:])
        previous = self.network_ if self.warm_start and is_fitted(self) else None
        start = self._start(plan, self._widths(inputs, classes), previous)
        learned = plan.run(start, scaling.inputs(inputs), self._targets(indices, len(classes)), score, weights)
        return self._keep(learned, scaling, classes, multilabel=indices.ndim == 2)

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """One epoch over X and y, from where the last call ended; ``classes`` are all labels, needed at first.

        Where y has columns of zeros and ones, they are the classes, and ``classes`` is not looked at. The scaling is
        that of the first call; "balanced" weights are those of each call.

        Raises
        ------
        InvalidInputError
            Labels that are not among the classes, or no classes at the first call; other columns than at first.
        """
        first = not is_fitted(self)
        inputs, labels = self._data(X, y, reset=first)
        labelled = self._labelled(labels)
        weights = weights_of(sample_weight, self.class_weight, labels, labelled)
        if labels.ndim == 2:
            known, indices = self._encoded(labels, labelled)
        else:
            known = known_classes(labels[labelled], self._given(classes), None if first else self.classes_)
            indices = np.where(labelled, np.searchsorted(known, labels), UNLABELLED)
        if not first and (len(known) != len(self.classes_) or self.multilabel_ != (labels.ndim == 2)):
            raise InvalidInputError("y has other labels than at the first call of partial_fit")
        scaling = scaling_of(inputs, standardise=self.standardise) if first else self._scaling
        widths = self._widths(inputs, known)
        targets = self._targets(indices, len(known))
        draw = partial(seed_of, self.random_state, None)
        net = self._start(self._plan(draw()), widths, None) if first else self.network_
        state = None if first else self._state
        learned = self._plan(0).epoch(net, state, scaling.inputs(inputs), targets, draw, weights)
        return self._keep(learned, scaling, known, multilabel=labels.ndim == 2)

    def _data(self, X: ArrayLike, y: ArrayLike, *, reset: bool) -> tuple[Float, NDArray[Any]]:
        inputs, labels = validate_data(self, X, y, dtype=DTYPES, multi_output=True, reset=reset)
        check_classification_targets(labels)
        return inputs, np.asarray(labels) if indicators(labels) else column_or_1d(labels, warn=True)

    def _labelled(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """Which samples have a label, (N,)."""
        return labelled_of(labels) if self.objective == "semi_supervised" else np.ones(len(labels), dtype=bool)

    def _given(self, classes: ArrayLike | None) -> ArrayLike | None:
        """``classes`` of a fit in parts, without the −1 that stands for none."""
        if classes is None or self.objective != "semi_supervised":
            return classes
        given = np.asarray(classes)
        return given[labelled_of(given)]

    def _encoded(self, labels: NDArray[Any], known: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[np.intp]]:
        """Classes and the index of every sample's, −1 where it has none; columns and their zeros and ones."""
        if labels.ndim == 2:
            if self.objective == "class_conditional":
                raise InvalidInputError("class-conditional energies are of one class to a sample: y has several labels")
            return np.arange(labels.shape[1]), labels.astype(np.intp)
        classes, own = np.unique(labels[known], return_inverse=True)
        require_classes(classes)
        indices = np.full(len(labels), UNLABELLED)
        indices[known] = own
        return classes, indices

    def _held_back(
        self, X: Float, indices: NDArray[np.intp], weights: Float | None, known: NDArray[np.bool_], seed: int
    ) -> tuple[tuple[Float, Any, Float | None], tuple[Float, Any, Float | None]]:
        """What is trained on, and the samples with labels that early stopping is decided on."""
        even = indices if indices.ndim == 1 else None
        if known.all():
            return held_back(X, indices, self.validation_fraction, seed, stratify=even, weights=weights)
        at = np.flatnonzero(known)
        own = None if weights is None else weights[at]
        # of the samples with labels their places are split, for X is large
        (kept, _, _), (held, _, _) = held_back(
            at, indices[at], self.validation_fraction, seed, stratify=indices[at], weights=own
        )
        first, second = (
            (X[rows], indices[rows], None if weights is None else weights[rows])
            for rows in (np.sort(np.concatenate([kept, np.flatnonzero(~known)])), held)
        )
        return first, second

    def _targets(self, indices: NDArray[np.intp], m: int) -> Float:
        return signed_or_counted(indices, self.loss) if indices.ndim == 2 else targets_of(indices, m, self.loss)

    def _objective(self) -> Objective:
        if self.objective not in _CLASSIFYING:
            raise InvalidInputError(f"objective is {self.objective!r}: one of {', '.join(_CLASSIFYING)}")
        if self.objective == "class_conditional" and self.loss != "clamp":
            raise InvalidInputError("class_conditional energies are those of clamped outputs: loss must be 'clamp'")
        kind = "lifted" if self.objective == "class_conditional" else self.objective
        return Objective(kind, self.loss, self.loss_weight, self.unsupervised_weight)

    def _hidden(self) -> int:
        return len(hidden_sizes(self.hidden_layer_sizes))

    def _gamma(self) -> float:
        return feedback(self.gamma, self._hidden())

    def _plan(self, seed: int) -> Plan:
        objective = self._objective()
        in_energy = objective.contrasts and self.rate_scale == "energy"
        sizes = self._hidden(), self._gamma()
        how = training_of(
            self,
            objective,
            learning_rate=rate(self.learning_rate, *sizes, optimizer=self.optimizer, in_energy=in_energy),
            rate_scale=self.rate_scale,
            weight_decay=self.weight_decay,
            labelled_share=self.labelled_share,
        )
        early: dict[str, Any] = {
            "pretrain_epochs": self.pretrain_epochs,
            "pretrain_learning_rate": self.pretrain_learning_rate,
        }
        return plan_of(self, how, seed, **early)

    def _widths(self, X: Float, classes: NDArray[Any]) -> tuple[int, ...]:
        return (X.shape[1], *hidden_sizes(self.hidden_layer_sizes), len(classes))

    def _start(self, plan: Plan, widths: tuple[int, ...], previous: LiftedNetwork | None) -> LiftedNetwork:
        beta = betas(self.beta, len(widths) - 1, output=True)
        deep = is_deep(self._hidden())
        return plan.start(widths, previous, gamma=self._gamma(), orthogonal=deep, beta=beta, units=self.units)

    def _keep(self, learned: Learned, scaling: Scaling, classes: NDArray[Any], *, multilabel: bool) -> Self:
        self.__dict__.update(fitted_attributes(learned, scaling))
        self.classes_, self.multilabel_ = classes, multilabel
        return self

    def _accuracy_on(
        self, X: Float, indices: NDArray[np.intp], weights: Float | None
    ) -> Callable[[LiftedNetwork], float]:
        """The validation score of a network: the share of scaled inputs X whose class, or all labels, it names."""
        several = indices.ndim == 2
        return lambda net: accuracy(self._chosen(self._outputs(net, X), several=several), indices, weights)

    def _chosen(self, outputs: Float, *, several: bool) -> NDArray[Any]:
        """The index of the largest output, (N,), or zeros and ones (N, C): which of several labels are given."""
        if several:
            return (outputs > threshold_of(self.loss, outputs.shape[1])).astype(np.int64)
        return outputs.argmax(axis=1)

    def _inputs(self, X: ArrayLike) -> Float:
        """X as the network takes it."""
        check_is_fitted(self, "network_")
        return self._scaling.inputs(validate_data(self, X, dtype=DTYPES, reset=False))

    def _outputs(self, net: LiftedNetwork, X: Float) -> Float:
        """What the largest is sought of, (N, m): outputs, or minus the energies of the classes."""
        if self.objective != "class_conditional":
            return inferred(net, X, tol=self.tol, threads=self.n_threads).output
        return -energies_of_classes(net, X, tol=self.tol, threads=self.n_threads)

    def decision_function(self, X: ArrayLike) -> Float:
        """``z_L*(x)`` (N, C), or minus the class energies; with two classes the second minus the first, (N,).

        With several labels to a sample, outputs less what they are to exceed.
        """
        inputs = self._inputs(X)
        outputs = self._outputs(self.network_, inputs)
        if self.multilabel_:
            return outputs - threshold_of(self.loss, outputs.shape[1])
        return outputs[:, 1] - outputs[:, 0] if len(self.classes_) == 2 else outputs

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Labels of every row of X, shape (N,), or zeros and ones (N, C)."""
        inputs = self._inputs(X)
        chosen = self._chosen(self._outputs(self.network_, inputs), several=self.multilabel_)
        labels: NDArray[Any] = chosen if self.multilabel_ else self.classes_[chosen]
        return labels

    def class_energies(self, X: ArrayLike) -> Float:
        """``min_{z: z_L = e_c} E(z; x)`` for every class c, shape (N, C), in scaled units."""
        inputs = self._inputs(X)
        return energies_of_classes(self.network_, inputs, tol=self.tol, threads=self.n_threads)

    def certificate(self, method: str = "sdp") -> LiftedCertificate:
        """The proved Lipschitz bracket of ``network_``, in the network's own units, kept after the first call.

        ``method`` is "sdp", "layerwise" or "theorem": :func:`certnet.lifted.bounds.lipschitz_bound`.
        """
        check_is_fitted(self, "network_")
        return once(self._certificates, method, lambda: self.network_.lipschitz_bound(method))

    def energies(self, X: ArrayLike) -> Float:
        """``min_z E(z; x)`` of every row of X, in scaled units, shape (N,): larger is less like the training data."""
        inputs = self._inputs(X)
        return inferred(self.network_, inputs, tol=self.tol, threads=self.n_threads).energy

    def certificates(self, method: str = "sdp") -> dict[tuple[int, ...], LiftedCertificate]:
        """The proved brackets of all differences ``z_i − z_j``, i < j, of ``network_``, in the network's own units.

        Kept after the first call.
        """
        check_is_fitted(self, "network_")
        bounds = partial(lipschitz_bounds, self.network_, method, differences=True, lower=False)
        return once(self._certificates, ("pairs", method), bounds)

    def _of_outputs(self, method: str) -> dict[tuple[int, ...], LiftedCertificate]:
        """The proved brackets of every output, kept after the first call."""
        bounds = partial(lipschitz_bounds, self.network_, method, lower=False)
        return once(self._certificates, ("outputs", method), bounds)

    def certified_radius(self, X: ArrayLike, method: str = "sdp", *, pairs: bool = False) -> Float:
        """l2 distance, in the units of X, below which no perturbation changes the prediction; shape (N,).

        ``scale · min_j margin_j / (√2 L)`` (H, 4.2), or ``scale · min_j margin_j / L_ij`` where ``pairs``, with proved
        bounds: :func:`certnet.lifted.bounds.certified_radius`. ``scale`` is what ``standardise`` divides inputs by.
        With several labels to a sample, none of them changes: ``scale · min_c |z_c − 1/2| / L``, or L_c of each output.

        Parameters
        ----------
        X : array_like, shape (N, d)
        method : {"sdp", "layerwise", "theorem"}
        pairs : bool
            A bound for each pair of classes, C (C − 1) / 2 of them: slower at the first call, and larger radii.

        Raises
        ------
        UnsupportedModelError
            The classes are predicted by their energies, which the bound does not cover.
        """
        inputs = self._inputs(X)
        if self.objective == "class_conditional":
            raise UnsupportedModelError(
                "the certified bound is of the outputs, and this model predicts by class energies: use contrastive"
            )
        claim: Certificates
        if self.multilabel_:
            claim = self._of_outputs(method) if pairs else self.certificate(method)
            level = threshold_of(self.loss, len(self.classes_))
            found_radius = label_radius(self.network_, inputs, claim, level, threads=self.n_threads)
            return self._scaling.raw_radius(inputs, found_radius)
        claim = self.certificates(method) if pairs else self.certificate(method)
        found = self.network_.certified_radius(inputs, claim, pairs=pairs, threads=self.n_threads)
        _log.info("certified radii by %s (between scaled inputs and outputs)", found.bound)
        return self._scaling.raw_radius(inputs, found.radius)

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
        return save_fitted(self, path, self.network_, self._scaling, "classes_", "multilabel_", force=force)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        FileFormatError
            The file is missing, truncated, or of another estimator.
        """
        return load_fitted(cls, path)
