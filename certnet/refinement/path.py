"""The trade-off between fit and certified slope: one refinement after another along a grid of weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError
from certnet.core.outcome import Status
from certnet.core.validation import Float, finite_array, positive_number, whole_number
from certnet.networks.feedforward import FeedForward
from certnet.networks.network import Network
from certnet.networks.shallow import ShallowNetwork
from certnet.refinement.refinement import refine
from certnet.refinement.result import RefineResult

__all__ = ["TradeoffPath", "refine_path", "weight_grid"]


@dataclass(frozen=True, eq=False)
class TradeoffPath:
    """Refinements of one network along increasing weights.

    Attributes
    ----------
    weights : ndarray, shape (K,)
        Increasing; of a path along limits on L the limits, from the least to the greatest.
    results : tuple of RefineResult, length K
        Each never worse than the start at its weight, nor than any other network of the path.
    start : ShallowNetwork or FeedForward
    along : {"weight", "target_lipschitz"}
        What the numbers in ``weights`` are.
    """

    weights: Float
    results: tuple[RefineResult, ...]
    start: Network
    along: str = "weight"

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[RefineResult]:
        return iter(self.results)

    @property
    def networks(self) -> tuple[Network, ...]:
        return tuple(result.network for result in self.results)

    @property
    def upper(self) -> Float:
        """Certified Lipschitz bounds, shape (K,)."""
        return np.array([result.certificate.upper for result in self.results])

    @property
    def mse(self) -> Float:
        """Training errors, shape (K,)."""
        return np.array([result.mse for result in self.results])

    def __repr__(self) -> str:
        what = "weights" if self.along == "weight" else "limits on L"
        return f"TradeoffPath({len(self)} {what} from {self.weights[0]:g} to {self.weights[-1]:g})"


def weight_grid(y: ArrayLike, *, n_weights: int = 10, spread: float = 1e3) -> Float:
    """``n_weights`` weights, evenly spaced in logarithms, that end at the variance of y per unit of squared slope.

    At the largest weight a slope of one standard deviation of y per unit of input costs as much as the constant
    network's error; the smallest is ``spread`` times less.

    Raises
    ------
    InvalidInputError
        ``n_weights`` below 1, ``spread`` not positive, no targets, or targets whose variance overflows.
    """
    n_weights, spread = whole_number(n_weights, "n_weights", least=1), positive_number(spread, "spread")
    targets = finite_array(y, "y", ndim=(1, 2))
    if targets.size == 0:
        raise InvalidInputError("y has no entries: give at least one sample")
    with np.errstate(over="ignore", invalid="ignore"):  # told below
        variance = float(np.sum(np.var(targets, axis=0)))
    if not np.isfinite(variance):
        raise InvalidInputError("the variance of y overflows: measure it in larger units, or give the weights")
    top = variance if variance > 0.0 else 1.0
    return np.geomspace(top / spread, top, n_weights)


def refine_path(
    network: ShallowNetwork | FeedForward,
    X: ArrayLike,
    y: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    targets: ArrayLike | None = None,
    **options: Any,
) -> TradeoffPath:
    """Refine ``network`` at every weight, or at every limit on L, and let the networks of the path help each other.

    Every refinement is from the same start. At the end every weight takes the network of the path that is best for it,
    every limit the one with the least error among those that keep it, so that errors rise and bounds fall along the
    weights. An interrupt ends the path with the weight at which it comes.

    Parameters
    ----------
    network : ShallowNetwork or FeedForward
    X : array_like, shape (N, d)
    y : array_like, shape (N,) or (N, m)
    weights : array_like, shape (K,), optional
        Positive numbers; by default ten up to the variance of y (:func:`weight_grid`).
    targets : array_like, shape (K,), optional
        Limits on L (``target_lipschitz``) instead.
    **options
        Of :func:`~certnet.refinement.refinement`, except what replaces the weight.

    Returns
    -------
    TradeoffPath

    Raises
    ------
    InvalidInputError
        No weights, weights that are not positive, weights and limits at once, options that do not go with a path;
        whatever ``refine`` refuses.
    """
    if weights is not None and targets is not None:
        raise InvalidInputError("weights and targets are two paths: give one of them")
    along = "weight" if targets is None else "target_lipschitz"
    given = weights if targets is None else targets
    grid = weight_grid(y) if given is None else finite_array(given, f"{along} values", ndim=(1,))
    if grid.size == 0 or not np.all(grid > 0.0):
        raise InvalidInputError(
            f"{'weights' if targets is None else 'targets'} must hold positive numbers, at least one"
        )
    for name in ("weight", "target_lipschitz", "max_mse"):
        if name in options:
            raise InvalidInputError(f"{name} does not go with a path, which is along weights: use refine for one point")
    grid = np.unique(grid)
    results: list[RefineResult] = []
    for number in grid:
        results.append(refine(network, X, y, **(options | {along: float(number)})))
        if results[-1].status is Status.INTERRUPTED:
            break
    grid = grid[: len(results)]
    if options.get("penalty", "lipschitz") == "lipschitz":
        best = _best_for if targets is None else _best_within
        results = [best(float(number), results[k], results) for k, number in enumerate(grid)]
    start = network.shallow() if isinstance(network, FeedForward) and network.relu_only else network
    return TradeoffPath(grid, tuple(results), start, along)


def _best_for(weight: float, own: RefineResult, results: Sequence[RefineResult]) -> RefineResult:
    """``own``, with the network of another weight in its place where that has a lower objective at this weight."""
    kept = [result for result in results if np.isfinite(result.objective_after)]  # within limits on slopes
    best = min(kept, key=lambda result: result.mse + weight * result.certificate.rho, default=own)
    value = best.mse + weight * best.certificate.rho
    return own if value >= own.objective_after else own.replaced_by(best, value)


def _best_within(limit: float, own: RefineResult, results: Sequence[RefineResult]) -> RefineResult:
    """``own``, with the network of a smaller limit in its place where that fits better."""
    kept = [r for r in results if np.isfinite(r.objective_after) and r.certificate.upper <= limit]
    best = min(kept, key=lambda result: result.mse, default=own)
    return own if best.mse >= own.objective_after else own.replaced_by(best, best.mse)
