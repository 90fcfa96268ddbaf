"""A regressor that is trained or taken, refined, and certified."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from certnet.claims.certificate import Certificate
from certnet.claims.region import Ball, Box
from certnet.core.validation import Float
from certnet.estimators.choice import StartChoice
from certnet.estimators.fitting import DEFAULT_SIZES, Fitted, fitting_of
from certnet.estimators.intervals import Perturbed
from certnet.estimators.samples import known_inputs, named_columns, regression_samples
from certnet.io.sklearn_bases import BaseEstimator, RegressorMixin
from certnet.networks.network import Network
from certnet.programs.goal import chosen_goal
from certnet.proofs.slopes import SlopeIntervals
from certnet.refinement import RefineResult, TraceRow

__all__ = ["CertifiedRegressor", "fit_until"]


class CertifiedRegressor(RegressorMixin, BaseEstimator):
    r"""A network that is trained or taken, refined, and has a proved Lipschitz bound.

    ``fit`` starts from a trained network and decreases (:func:`certnet.refinement.refine`)

        J(f) = (1/N) Σ_i ‖f(z_i) − t_i‖² + weight · ρ,    z = (x − x_mean) / x_std,   t = (y − y_mean) / y_std

    with ρ ≥ L² certified, or one of the two with a limit on the other; mean and standard deviation (divisor N) are
    those of every column of the ``X`` and ``y`` given to ``fit``, and a constant column keeps scale 1. Thus ``weight``,
    ``target_lipschitz`` and ``max_mse`` mean the same whatever the data are measured in. The refined network is then
    folded back: everything that the fitted estimator says of the network, its bound included, is in the units of the
    ``X`` and ``y`` given to ``fit`` (*raw* units); only the objective values and the refinement's own record are in
    standardised units.

    Parameters
    ----------
    estimator : estimator, ShallowNetwork, FeedForward or torch module, optional
        What the refinement starts from. None: an ``MLPRegressor`` whose weight decay and stopping are chosen on a fifth
        of the rows (at least 10) that is held out, drawn by ``random_state``; it is then trained on all of them, see
        ``start_choice_``. An ``MLPRegressor`` of any depth and activation, or one within ``Pipeline`` and
        ``TransformedTargetRegressor`` with ``StandardScaler``: a clone of it is trained as it says, on standardised
        data, with its own ``random_state``. A ``ShallowNetwork``, a ``FeedForward``, or a fitted model inside
        ``sklearn.frozen.FrozenEstimator``: used as it stands, see ``prefit``.
        A ``Pipeline`` with a ``ColumnTransformer`` of affine steps and encoders takes frames with text columns; see the
        notes.
    hidden_layer_sizes : int or sequence of int
        Of the start where ``estimator`` is None.
    weight : float, default 0.01
        λ ≥ 0: explained variance given up per squared standardised Lipschitz constant. With ``standardise=False``,
        in units of mean squared error per squared Lipschitz constant of the data as given.
    target_lipschitz : float, optional
        Instead of a weight: the least error with a certified L of at most this, the constant of the network from z to
        t, in standard deviations: ``refinement_.certificate`` proves it. ``lipschitz_upper_`` is raw, and another
        number. With ``standardise=False`` both are raw.
    max_mse : float, optional
        Instead of a weight: the least certified L with a training error of at most this, in variances of y (with
        ``standardise=False`` in squared units of y).
    effort : {"quick", "default", "thorough"} or float, optional
        How much the refinement works, a number being seconds; see :func:`certnet.refinement.refine`.
    monotonic_cst : array_like of shape (d,), or mapping from names of columns, optional
        1: the prediction never falls along the column, −1: never rises, 0: nothing is asked (scikit-learn's
        convention). One output.
    slope_limits : mapping from name or index of a column to (low, high), optional
        Least and greatest slope along a column, in units of y per unit of the column as given; an end may be infinite.
        One output. What is proved of the result is in ``slopes_``.
    region : Box, Ball or "data", optional
        The bound and its limits then speak of the inputs there only, in the units of X as given: "data" is the box
        around the rows given to ``fit``, wider by a tenth of their range on either side. A ball needs
        ``standardise=False``. See :func:`certnet.certify` for what that says of inputs outside: nothing.
    loss : {"squared", "huber"}
        What residuals are charged in the refinement: squared, or squared up to a threshold and linear beyond.
    huber_threshold : float
        In standard deviations of y (with ``standardise=False`` in units of y).
    penalty : {"lipschitz", "l2"}
        ρ, or ``‖W‖_F² + ‖b‖² + ‖V‖_F²`` of the standardised network in its place. This option, where it is "l2", and
        the next four ask for programs instead of an effort, for one hidden layer of ReLU.
    method : {"joint", "alternating"}, optional
    solver : {"auto", "CERTNET", "CLARABEL", "SCS", "MOSEK"}, optional
    tol : float, optional
    cells : int, optional
        See :func:`certnet.refinement.refine`.
    standardise : bool
        False trains and refines on the data as they are: all units are raw, and ``weight`` depends on them.
    prefit : bool
        Use ``estimator`` as it stands: a fitted scikit-learn model of the kinds above, which predicts raw ``y`` from
        raw ``X``, a ``ShallowNetwork`` or ``FeedForward``, or a torch module that certnet reads.
        It is read, not changed, and the data given to ``fit`` only refine it. Cloning unfits scikit-learn models: for
        ``GridSearchCV`` and ``cross_val_score`` pass ``FrozenEstimator(model)`` instead, which needs no ``prefit``.
    time_limit : float, optional
        Seconds for the refinement (training is not counted).
    random_state : int, RandomState or None
        Seed of the default estimator's rows and training, and of the certificates' searches.
    verbose : bool
        Print the solver's own log.

    Attributes
    ----------
    network_ : ShallowNetwork or FeedForward
        The refined network in raw units (a network that was given keeps its own label of units): a ``ShallowNetwork``
        where it has one hidden layer of ReLU. Where ``improved_`` is false it is the start itself.
    certificate_ : Certificate
        Of ``network_``, in raw units: ``certificate_.check(network_)`` proves it again.
    certificate_everywhere_ : Certificate
        The same for all inputs, whatever ``region`` is; ``certified_interval`` goes by it.
    lipschitz_upper_, lipschitz_lower_ : float
        ``lower ≤ L ≤ upper`` for the l2 → l2 Lipschitz constant of ``network_``, in units of y per unit of X.
    slopes_ : SlopeIntervals or None
        With ``monotonic_cst`` or ``slope_limits``: the proved intervals of the slopes along the numeric columns.
    objective_before_, objective_after_ : float
        J of start and result, recomputed with certified ρ; the second is never above the first.
    improved_ : bool
    trace_ : tuple of TraceRow
        What the refinement tried, in the units of J.
    refinement_ : RefineResult
        The refinement itself, in the units of J: with its certificates in standardised units.
    estimator_ : estimator, ShallowNetwork, FeedForward or torch module
        The start. Trained here, it is a pipeline that scales, and predicts in raw units.
    start_choice_ : StartChoice or None
        With ``estimator=None``: the weight decay and the number of iterations that the start was trained with, and the
        errors on held-out rows that they were chosen by.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where ``X`` has column names.

    Notes
    -----
    J is a training objective: a lower one is not a lower error on new data. :class:`CertifiedRegressorCV` chooses
    ``weight`` or ``target_lipschitz`` by validation.

    With a ``ColumnTransformer``, ``FeatureUnion`` or encoder in the pipeline, its steps are fitted first, and the
    network is refined on what they give, standardised as ever. Where all steps are affine, ``network_`` and
    ``certificate_`` speak of the columns of X, those that the steps drop left out. Where columns are encoded, they
    speak of what the steps give (``network_.about`` says so); :meth:`network_for` gives the network in the numeric
    columns at chosen categories, and :meth:`certified_interval` holds for perturbations of the numeric columns, the
    categories of each sample held fixed.

    In every pipeline, steps that are neither affine nor encoders are refused before the network is trained.

    Several outputs are supported: L then bounds the l2 norm of all of them together. Sparse inputs are not. What the
    training says (``ConvergenceWarning``; not of the default start, whose stopping is chosen) and what the refinement
    says (:class:`~certnet.core.errors.NotConvergedWarning`) is passed on.

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
    start_choice_: StartChoice | None
    network_: Network
    certificate_: Certificate
    certificate_everywhere_: Certificate
    lipschitz_upper_: float
    lipschitz_lower_: float
    slopes_: SlopeIntervals | None
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
        hidden_layer_sizes: int | Sequence[int] = DEFAULT_SIZES,
        weight: float = 0.01,
        target_lipschitz: float | None = None,
        max_mse: float | None = None,
        effort: str | float | None = None,
        monotonic_cst: ArrayLike | Mapping[str, int] | None = None,
        slope_limits: Mapping[str | int, tuple[float, float]] | None = None,
        region: Box | Ball | str | None = None,
        loss: str = "squared",
        huber_threshold: float = 1.0,
        penalty: str = "lipschitz",
        method: str | None = None,
        solver: str | None = None,
        tol: float | None = None,
        cells: int | None = None,
        standardise: bool = True,
        prefit: bool = False,
        time_limit: float | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.estimator = estimator
        self.hidden_layer_sizes = hidden_layer_sizes
        self.weight = weight
        self.target_lipschitz = target_lipschitz
        self.max_mse = max_mse
        self.effort = effort
        self.monotonic_cst = monotonic_cst
        self.slope_limits = slope_limits
        self.region = region
        self.loss = loss
        self.huber_threshold = huber_threshold
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

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train the start (unless it is fitted), refine it on X (N, d) and y (N,) or (N, m), and certify the result.

        Parameters
        ----------
        X, y : array_like
        sample_weight : array_like of shape (N,), optional
            At least 0; only their ratios count. Rows of weight 0 are left out, a weight of 2 counts as two rows in the
            standardisation, the training, the choice of its options and the objective. The steps of a pipeline that is
            given are fitted without weights, and so is an ``MLPRegressor`` of scikit-learn before 1.7.

        Raises
        ------
        ValueError, TypeError
            scikit-learn's own, for X and y: NaN or infinite, not numeric, lengths that differ, fewer than two samples;
            sparse.
        InvalidInputError
            Unknown or impossible parameters, refused before any training; or data that do not fit a prefit model.
        UnsupportedModelError
            ``estimator`` is of a kind that certnet does not read or refine, or is prefit and not fitted.
        SolverUnavailableError
            The solver is not installed or has no licence; raised before any training.
        CertificateError
            The refinement ended before it reached ``monotonic_cst`` and ``slope_limits``.
        """
        fit_until(self, None, X, y, sample_weight)
        return self

    def predict(self, X: ArrayLike) -> Float:
        """``network_`` at every row of X (N, d), in raw units: shape (N,) for one output, else (N, m)."""
        check_is_fitted(self)
        return self._fitted.predict(known_inputs(self, X, whole=self._fitted.by_columns is not None))

    def certified_interval(
        self, X: ArrayLike, epsilon: float | None = None, *, box: ArrayLike | None = None, relaxed: bool = True
    ) -> tuple[Float, Float]:
        """What ``f(x + δ)`` lies in for every perturbation with ``‖δ‖₂ ≤ ε``: the smaller of two proved intervals.

        One is ``f(x) ∓ (L ε + rounding)``, f the real-arithmetic network with the stored weights and L its bound, the
        rounding errors of the computed ``f(x)`` charged; the other is linear relaxation of the network about the
        row (:func:`certnet.prediction_intervals`), which is not symmetric about ``f(x)``. The interval speaks of the
        model's output, not of the noise in y.

        Parameters
        ----------
        X : array_like, shape (N, d)
        epsilon : float
            ε ≥ 0, an l2 distance in the units of X: where its columns have different units, so has ε.
        box : float, or array_like of shape (d,) or (N, d), optional
            In the place of ε: ``|δ_i| ≤ box_i``, in the units of the column i (of a pipeline by columns, of the columns
            that are numbers, in their order; what is categorical is held).
        relaxed : bool
            False leaves relaxation out where ε is given: the symmetric interval alone.

        Returns
        -------
        lower, upper : ndarray, shape (N,) or (N, m)
            In the units of y. With several outputs, L bounds them together and so each of them.

        Raises
        ------
        InvalidInputError
            ``epsilon`` or a width is negative, infinite or not a number; both are given; a box of another shape.
        """
        check_is_fitted(self)
        how = Perturbed.of(epsilon, box, relaxed)
        return self._fitted.interval(known_inputs(self, X, whole=self._fitted.by_columns is not None), how)

    def network_for(self, fixed: Mapping[Any, Any] | None = None) -> Network:
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


def fit_until(
    model: CertifiedRegressor,
    should_stop: Callable[[], bool] | None,
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
) -> CertifiedRegressor:
    """``model.fit(X, y, sample_weight)``, whose refinement ends once ``should_stop`` is true, with what it has.

    For callers that run it in a thread, where Ctrl-C is not heard.
    """
    goal = chosen_goal(model.weight, model.target_lipschitz, model.max_mse)
    how = fitting_of(model)
    seed = int(check_random_state(model.random_state).randint(2**31 - 1))
    rows = regression_samples(model, X, y, sample_weight, whole=how.whole)
    made = how.fit(rows.counted("all rows"), named_columns(model), goal, seed, should_stop)
    vars(model).update(made.attributes())
    return model
