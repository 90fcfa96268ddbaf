r"""Proved intervals of a network's outputs in a box or a ball about every sample of a table.

Linear relaxation of the layers (:mod:`certnet.proofs.relaxation`) gives limits of f over the region. With a proved
Lipschitz bound L and the farthest point of the region at a distance of R from x,

    f(x) − L R  ≤  f(y)  ≤  f(x) + L R

are others, and where both are known the interval is what they have in common. Everything is rounded outward: f(x) is
itself known within limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.claims.certificate import Certificate
from certnet.claims.region import Ball, Box
from certnet.core.errors import CertificateError, InvalidInputError, UnsupportedModelError
from certnet.core.frames import plain_array
from certnet.core.validation import Float, as_inputs, finite_array
from certnet.networks.feedforward import require_network
from certnet.networks.network import Network
from certnet.proofs.regions import in_ball
from certnet.proofs.relaxation import Balls, Boxes, Ends, Inputs, output_limits
from certnet.proofs.rounding import gamma, row_norms_above
from certnet.robust.balls import ball_of

__all__ = ["Around", "Bound", "moved", "near_samples", "prediction_intervals", "values"]

_ORDERS: Final = {"l2": None, "linf": np.inf}


def prediction_intervals(
    net: Network,
    X: ArrayLike | None = None,
    *,
    box: ArrayLike | None = None,
    radius: ArrayLike | None = None,
    norm: str = "l2",
    lower: ArrayLike | None = None,
    upper: ArrayLike | None = None,
    certificate: Certificate | Mapping[tuple[int, ...], Certificate] | None = None,
) -> tuple[Float, Float]:
    """``lower ≤ f(y) ≤ upper`` for every y in a box or a ball about every row of X, proved.

    Say the regions in one of three ways: ``box``, ``radius`` (with ``norm``), or ``lower`` and ``upper`` without X.

    Parameters
    ----------
    net : ShallowNetwork or FeedForward
    X : array_like, shape (N, d)
        In the network's units, as all that follows.
    box : float, or array_like of shape (d,) or (N, d)
        Half-widths of boxes ``|y − x| ≤ box``, input by input; 0 holds an input.
    radius : float, or array_like of shape (N,)
        Of balls ``‖y − x‖ ≤ radius``.
    norm : {"l2", "linf"}
        Of the balls.
    lower, upper : array_like, shape (N, d)
        Boxes ``lower ≤ y ≤ upper``; an end may be infinite.
    certificate : Certificate or mapping, optional
        Of :func:`certnet.certify` or :func:`certnet.certify_outputs` for this network; it is checked. Its bound counts
        where its claim holds (one of a region: for boxes and balls inside). Without, linear relaxation speaks alone.

    Returns
    -------
    lower, upper : ndarray, shape (N, m)
        Never wider than what linear relaxation gives, nor than what a certificate gives; infinite where nothing is
        known. They speak of the network with its stored weights in exact arithmetic.

    Raises
    ------
    InvalidInputError
        NaN, shapes that do not fit, a negative width, a lower end above its upper one, no samples, regions said in
        more than one way or in none, a certificate of a difference or of another norm than "l2" and "linf".
    CertificateError
        The certificate does not hold for this network.
    UnsupportedModelError
        An activation that is given by its slopes alone, and has no values.

    Examples
    --------
    >>> from certnet import ShallowNetwork
    >>> net = ShallowNetwork(W=[[1.0, 0.0], [0.0, 1.0]], b=[0.0, 0.0], V=[1.0, -1.0], c=0.0)
    >>> lower, upper = prediction_intervals(net, [[1.0, 2.0]], box=0.5)
    >>> float(lower[0, 0].round(9)), float(upper[0, 0].round(9))
    (-2.0, 0.0)
    """
    net = require_network(net)
    if not net.has_values:
        raise UnsupportedModelError("an activation of this network is given by its slopes alone: it predicts nothing")
    around = _around(net, X, box, radius, norm, lower, upper)
    ends = moved(net, around, list(_bounds(net, certificate)))
    return ends.left, ends.right


# -------------------------------------------------------------------------------------------------------- the intervals


@dataclass(frozen=True, eq=False)
class Around:
    """Regions about points.

    Attributes
    ----------
    inputs : Inputs
        N boxes or balls.
    centre : ndarray, shape (N, d)
        Points in them.
    reach : mapping from norms to ndarray, shape (N,)
        At least the distance of the farthest point from the centre.
    """

    inputs: Inputs
    centre: Float
    reach: Mapping[str, Float]

    @classmethod
    def box(cls, lower: Float, upper: Float) -> Around:
        with np.errstate(over="ignore", invalid="ignore"):
            centre = 0.5 * lower + 0.5 * upper
            centre = np.clip(np.where(np.isfinite(centre), centre, 0.0), lower, upper)
            half = np.nextafter(np.maximum(upper - centre, centre - lower), np.inf)
        half = np.where(lower == upper, 0.0, half)
        return cls(Boxes(lower, upper), centre, {norm: _norms_above(half, norm) for norm in _ORDERS})

    @classmethod
    def widths(cls, X: Float, half: Float) -> Around:
        """``|y − x| ≤ half``, both (N, d)."""
        with np.errstate(over="ignore"):
            inputs = Boxes(*(np.where(half > 0.0, np.nextafter(X + s * half, s * np.inf), X) for s in (-1.0, 1.0)))
        return cls(inputs, X, {norm: _norms_above(half, norm) for norm in _ORDERS})

    @classmethod
    def ball(cls, X: Float, radius: Float, norm: str) -> Around:
        """``‖y − x‖ ≤ radius`` for X (N, d) and radius (N,)."""
        far = radius
        if norm == "linf":
            far = np.where(radius > 0.0, np.nextafter(radius * np.nextafter(np.sqrt(X.shape[1]), np.inf), np.inf), 0.0)
        return cls(Balls(X, radius, norm), X, {"l2": far, "linf": radius})

    def __len__(self) -> int:
        return len(self.centre)

    def inside(self, region: Ball | Box, norm: str) -> NDArray[np.bool_]:
        """Which of them (N,) lie in a region, beyond doubt; its ball is one of ``norm``."""
        if isinstance(region, Box):
            ends = self.inputs.ends
            return np.asarray(((region.lower <= ends.left) & (ends.right <= region.upper)).all(axis=1))
        left = np.nextafter(region.radius - self.reach[norm], -np.inf)
        return np.array([in_ball(x, region.centre, float(r), norm=norm) for x, r in zip(self.centre, left)], dtype=bool)


@dataclass(frozen=True, eq=False)
class Bound:
    """``|f_k(y) − f_k(x)| ≤ upper ‖y − x‖`` for the output k or all (None), in a region or everywhere (None)."""

    upper: float
    norm: str = "l2"
    output: int | None = None
    region: Ball | Box | None = None


def moved(net: Network, around: Around, bounds: Sequence[Bound]) -> Ends:
    """What the outputs may be in the regions, (N, m): what relaxation and the bounds have in common."""
    ends = output_limits(net, around.inputs)
    if not bounds:
        return ends
    here = values(net, around.centre)
    for bound in bounds:
        left, right = np.full(here.left.shape, -np.inf), np.full(here.left.shape, np.inf)
        reach, k = (
            around.reach[bound.norm],
            slice(None) if bound.output is None else slice(bound.output, bound.output + 1),
        )
        known = np.asarray(np.isfinite(reach)) if bound.region is None else around.inside(bound.region, bound.norm)
        far = np.where(reach > 0.0, np.nextafter(bound.upper * np.where(known, reach, 0.0), np.inf), 0.0)[known, None]
        left[known, k] = np.nextafter(here.left[known, k] - far, -np.inf)
        right[known, k] = np.nextafter(here.right[known, k] + far, np.inf)
        ends = ends.meet(Ends(left, right))
    return ends


def values(net: Network, X: Float, pairs: Sequence[tuple[int, int]] | None = None) -> Ends:
    """f at the rows of X, or differences of its outputs, within what rounding may have done."""
    return output_limits(net, Boxes(X, X), pairs)


def _norms_above(half: Float, norm: str) -> Float:
    size = np.abs(half)
    if norm == "linf":
        return np.asarray(size.max(axis=1))
    known = np.asarray(np.isfinite(size).all(axis=1))
    above = row_norms_above(np.where(known[:, None], size, 0.0), None, gamma(size.shape[1] + 8))
    return np.where(known, np.where(size.any(axis=1), above, 0.0), np.inf)


# -------------------------------------------------------------------------------------------------------- what is asked


def _around(
    net: Network,
    X: ArrayLike | None,
    box: ArrayLike | None,
    radius: ArrayLike | None,
    norm: str,
    lower: ArrayLike | None,
    upper: ArrayLike | None,
) -> Around:
    ball_of(norm)
    ways = [box is not None, radius is not None, lower is not None or upper is not None]
    if sum(ways) != 1:
        raise InvalidInputError("say where the inputs may be in one way: box, radius, or lower and upper")
    if ways[2]:
        if X is not None or lower is None or upper is None:
            raise InvalidInputError("lower and upper come together, and without X: they are the boxes themselves")
        return Around.box(*_ends(net, lower, upper))
    if X is None:
        raise InvalidInputError("box and radius are about samples: give X")
    inputs = as_inputs(X, net.n_inputs, net.about.inputs)
    if not len(inputs):
        raise InvalidInputError("X has no samples: at least one is needed")
    return near_samples(inputs, box=box, radius=radius, norm=norm)


def near_samples(
    inputs: Float, *, box: ArrayLike | None = None, radius: ArrayLike | None = None, norm: str = "l2"
) -> Around:
    """Boxes of half-widths, or balls, about the rows of ``inputs`` (N, d), which are checked."""
    if box is not None:
        half = finite_array(box, "box", ndim=(0, 1, 2))
        if half.ndim and half.shape not in (inputs.shape[1:], inputs.shape):
            raise InvalidInputError(
                f"box has shape {half.shape}: one half-width, one per input ({inputs.shape[1]}), "
                f"or one per entry of the samples {inputs.shape} is needed"
            )
        return Around.widths(inputs, np.broadcast_to(_not_negative(half, "box"), inputs.shape))
    length = finite_array(radius, "radius", ndim=(0, 1))  # type: ignore[arg-type]
    if length.ndim and length.shape != (len(inputs),):
        raise InvalidInputError(f"radius has shape {length.shape}: one number, or one per sample ({len(inputs)})")
    return Around.ball(inputs, np.broadcast_to(_not_negative(length, "radius"), (len(inputs),)), norm)


def _not_negative(array: Float, name: str) -> Float:
    if (array < 0.0).any():
        raise InvalidInputError(f"{name} must not be negative, got {array.min():g}")
    return array


def _ends(net: Network, lower: ArrayLike, upper: ArrayLike) -> tuple[Float, Float]:
    """Ends (N, d) of boxes, which may be infinite."""
    ends = []
    for name, given in (("lower", lower), ("upper", upper)):
        array = plain_array(given, name)
        if array.ndim != 2 or array.shape[1] != net.n_inputs or not len(array):
            raise InvalidInputError(f"{name} has shape {array.shape}: (N, {net.n_inputs}) is needed, N at least 1")
        array = array.astype(np.float64)
        if np.isnan(array).any():
            where = tuple(int(i) for i in np.argwhere(np.isnan(array))[0])
            raise InvalidInputError(f"{name} has NaN, the first at {where}: use inf for no limit")
        ends.append(array + 0.0)
    low, high = ends
    if low.shape != high.shape:
        raise InvalidInputError(f"lower has shape {low.shape} and upper {high.shape}: they are to be alike")
    wrong = (low > high) | (low == np.inf) | (high == -np.inf)
    if wrong.any():
        i, k = (int(n) for n in np.argwhere(wrong)[0])
        raise InvalidInputError(f"input {k} of box {i} would lie between {low[i, k]:g} and {high[i, k]:g}: swap them?")
    return low, high


def _bounds(net: Network, given: Certificate | Mapping[tuple[int, ...], Certificate] | None) -> Iterator[Bound]:
    """The bounds of certificates, checked."""
    for certificate in given.values() if isinstance(given, Mapping) else () if given is None else (given,):
        if not isinstance(certificate, Certificate):
            raise InvalidInputError("certificate must be one of certify, or those of certify_outputs")
        yield bound_of(net, certificate)


def bound_of(net: Network, certificate: Certificate, *, checked: bool = False) -> Bound:
    """What a certificate says of the outputs; it is checked, unless it is known to be."""
    output = certificate.output
    if output is not None and len(output) != 1:
        raise InvalidInputError("a certificate of the difference of two outputs bounds none of them: give one of each")
    verdict = None if checked else certificate.check(net)
    if verdict is not None and not verdict:
        raise CertificateError(f"the certificate does not hold: {verdict.reason}")
    region = certificate.region
    return Bound(
        certificate.upper,
        certificate.norm,
        None if output is None else output[0],
        region if isinstance(region, Ball | Box) else None,
    )
