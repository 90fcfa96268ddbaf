"""A regressor that is trained or taken, refined by a convex program, and certified."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from certnet.claims.certificate import Certificate
from certnet.core.validation import Float, positive_number
from certnet.estimators.fitting import Fitted, fitting_of
from certnet.estimators.samples import known_inputs, named_columns, regression_samples
from certnet.networks.shallow import ShallowNetwork
from certnet.refinement import RefineResult, TraceRow

__all__ = ["CertifiedRegressor"]


class CertifiedRegressor(RegressorMixin, BaseEstimator):
    r"""A one-hidden-layer ReLU regressor, refined by a convex program, with a proved Lipschitz bound.

    ``fit`` starts from a trained network and minimises, over the network's activation cell
    (:func:`certnet.refinement.refine`),

        J(f) = (1/N) Σ_i ‖f(z_i) − t_i‖² + weight · ρ,    z = (x − x_mean) / x_std,   t = (y − y_mean) / y_std

    with ρ ≥ L² certified; mean and standard deviation (divisor N) are those of every column of the ``X`` and ``y``
    given to ``fit``, and a constant column keeps scale 1. Thus ``weight`` means the same whatever the data are
    measured in. The refined network is then folded back: everything that the fitted estimator says of the network,
    its bound included, is in the units of the ``X`` and ``y`` given to ``fit`` (*raw* units); only the objective
    values and the refinement's own record are in standardised units.

    Parameters
    ----------
    estimator : estimator, ShallowNetwork or torch module, optional
        What training starts from. None: an ``MLPRegressor`` with 100 hidden units. An ``MLPRegressor`` with one
        hidden layer and ReLU, or one within ``Pipeline`` and ``TransformedTargetRegressor`` with ``StandardScaler``:
        a clone of it is trained, on standardised data, with its own ``random_state``. A ``ShallowNetwork``, or a
        fitted model inside ``sklearn.frozen.FrozenEstimator``: used as it stands, see ``prefit``.
        A ``Pipeline`` with a ``ColumnTransformer`` of affine steps and encoders takes frames with text columns; see the
        notes.
    weight : float, default 0.01
        λ ≥ 0: explained variance given up per squared standardised Lipschitz constant. With ``standardise=False``,
        in units of mean squared error per squared Lipschitz constant of the data as given.
    penalty : {"lipschitz", "l2"}
        ρ, or ``‖W‖_F² + ‖b‖² + ‖V‖_F²`` of the standardised network in its place.
    method : {"joint", "alternating"}
        See :func:`certnet.refinement.refine`.
    solver : {"auto", "CERTNET", "CLARABEL", "SCS", "MOSEK"}
        Solver of the convex programs; "auto" is certnet's own, with Clarabel where it fails.
    tol : float, optional
        See :func:`certnet.refinement.refine`.
    cells : int
        Activation cells that may be visited, 1 for the start's own; see :func:`certnet.refinement.refine`.
    standardise : bool
        False trains and refines on the data as they are: all units are raw, and ``weight`` depends on them.
    prefit : bool
        Use ``estimator`` as it stands: a fitted scikit-learn model of the kinds above, which predicts raw ``y`` from
        raw ``X``, a ``ShallowNetwork``, or an ``nn.Sequential(Linear, ReLU, Linear)`` of torch. It is read, not
        changed, and the data given to ``fit`` only refine it. Cloning unfits scikit-learn models: for
        ``GridSearchCV`` and ``cross_val_score`` pass ``FrozenEstimator(model)`` instead, which needs no ``prefit``.
    time_limit : float, optional
        Seconds for the refinement (training is not counted).
    random_state : int, RandomState or None
        Seed of the default estimator's training and of the certificates' searches.
    verbose : bool
        Print the solver's own log.

    Attributes
    ----------
    network_ : ShallowNetwork
        The refined network in raw units (a ``ShallowNetwork`` that was given keeps its own label of units). Where
        ``improved_`` is false it is the start itself.
    certificate_ : Certificate
        Of ``network_``, in raw units: ``certificate_.check(network_)`` proves it again.
    lipschitz_upper_, lipschitz_lower_ : float
        ``lower ≤ L ≤ upper`` for the l2 → l2 Lipschitz constant of ``network_``, in units of y per unit of X.
    objective_before_, objective_after_ : float
        J of start and result, recomputed with certified ρ; the second is never above the first.
    improved_ : bool
    trace_ : tuple of TraceRow
        What the refinement tried, in the units of J.
    refinement_ : RefineResult
        The refinement itself, in the units of J: with its certificates in standardised units.
    estimator_ : estimator, ShallowNetwork or torch module
        The start. Trained here, it is a pipeline that scales, and predicts in raw units.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where ``X`` has column names.

    Notes
    -----
    With a ``ColumnTransformer``, ``FeatureUnion`` or encoder in the pipeline, its steps are fitted first, and the
    network is refined on what they give, standardised as ever. Where all steps are affine, ``network_`` and
    ``certificate_`` speak of the columns of X, those that the steps drop left out. Where columns are encoded, they
    speak of what the steps give (``network_.about`` says so); :meth:`network_for` gives the network in the numeric
    columns at chosen categories, and :meth:`certified_interval` holds for perturbations of the numeric columns, the
    categories of each sample held fixed.

    In every pipeline, steps that are neither affine nor encoders are refused before the network is trained.

    Several outputs are supported: L then bounds the l2 norm of all of them together. Sample weights and sparse inputs
    are not supported. What the training says (``ConvergenceWarning``) and what the refinement says
    (:class:`~certnet.core.errors.NotConvergedWarning`) is passed on.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.neural_network import MLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> start = MLPRegressor(hidden_layer_sizes=(5,), max_iter=2000, random_state=0)
    >>> model = CertifiedRegressor(start, weight=0.01).fit(X[:100], y[:100])
    >>> bool(model.certificate_.check(model.network_))
    True
    """

    estimator_: Any
    network_: ShallowNetwork
    certificate_: Certificate
    lipschitz_upper_: float
    lipschitz_lower_: float
    objective_before_: float
    objective_after_: float
    improved_: bool
    trace_: tuple[TraceRow, ...]
    refinement_: RefineResult
    _fitted: Fitted

    def __init__(
        self,
        estimator: Any = None,
        *,
        weight: float = 0.01,
        penalty: str = "lipschitz",
        method: str = "joint",
        solver: str = "auto",
        tol: float | None = None,
        cells: int = 1,
        standardise: bool = True,
        prefit: bool = False,
        time_limit: float | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.estimator = estimator
        self.weight = weight
        self.penalty = penalty
        self.method = method
        self.solver = solver
        self.tol = tol
        self.cells = cells
        self.standardise = standardise
        self.prefit = prefit
        self.time_limit = time_limit
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train the start (unless it is fitted), refine it on X (N, d) and y (N,) or (N, m), and certify the result.

        Raises
        ------
        ValueError, TypeError
            scikit-learn's own, for X and y: NaN or infinite, not numeric, lengths that differ, fewer than two samples;
            sparse.
        InvalidInputError
            Unknown or impossible parameters, refused before any training; or data that do not fit a prefit model.
        UnsupportedModelError
            ``estimator`` is of a kind that certnet does not read or has not one hidden layer with ReLU, or is prefit
            and not fitted.
        SolverUnavailableError
            The solver is not installed or has no licence; raised before any training.
        """
        positive_number(self.weight, "weight", zero=True)
        how = fitting_of(self)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        inputs, targets = regression_samples(self, X, y, whole=how.whole)
        made = how.fit(inputs, targets, named_columns(self), self.weight, seed)
        self.__dict__.update(made.attributes())
        return self

    def predict(self, X: ArrayLike) -> Float:
        """``network_`` at every row of X (N, d), in raw units: shape (N,) for one output, else (N, m)."""
        check_is_fitted(self)
        return self._fitted.predict(known_inputs(self, X, whole=self._fitted.by_columns is not None))

    def certified_interval(self, X: ArrayLike, epsilon: float) -> tuple[Float, Float]:
        """``f(x) ∓ (L ε + rounding)``, which holds ``f(x + δ)`` for every perturbation with ``‖δ‖₂ ≤ ε``.

        f is the real-arithmetic network with the stored weights, L its certified bound; the rounding errors of the
        computed ``f(x)`` are charged to the interval. It speaks of the model's output, not of the noise in y.

        Parameters
        ----------
        X : array_like, shape (N, d)
        epsilon : float
            ε ≥ 0, an l2 distance in the units of X: where its columns have different units, so has ε.

        Returns
        -------
        lower, upper : ndarray, shape (N,) or (N, m)
            In the units of y. With several outputs, L bounds them together and so each of them.

        Raises
        ------
        InvalidInputError
            ``epsilon`` is negative, infinite or not a number.
        """
        check_is_fitted(self)
        epsilon = positive_number(epsilon, "epsilon", zero=True)
        inputs = known_inputs(self, X, whole=self._fitted.by_columns is not None)
        return self._fitted.interval(inputs, epsilon)

    def network_for(self, fixed: Mapping[Any, Any] | None = None) -> ShallowNetwork:
        """The network in the numeric columns of X, the categorical ones held at values, such as ``{"colour": "red"}``.

        Without a pipeline that treats columns differently it is ``network_``.

        Raises
        ------
        InvalidInputError
            A name or value that the preprocessing does not take.
        UnsupportedModelError
            A categorical column has no value.
        """
        check_is_fitted(self)
        return self._fitted.at(fixed or {})
