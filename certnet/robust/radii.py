r"""Certified radii: how far an input can move before its predicted class may change, or its prediction moves by δ.

With ``m_j = f_i(x) − f_j(x)`` for the predicted class i and proved bounds L_ij of the slope of ``f_i − f_j``, no
perturbation of norm below

    min_j m_j / L_ij      or, with a bound L of all outputs together,      min_j m_j / (√2 L)

changes the class (Tsuzuku, Sato and Sugiyama, NeurIPS 2018, proposition 1, for the second). Bounds for all inputs are
the cheap form; in a small ball the slopes are less, and linear relaxation may do without slopes
(:mod:`certnet.robust.reach`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.certification import certify, certify_outputs
from certnet.claims.certificate import Certificate
from certnet.core.errors import CertificateError, InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float, as_inputs, finite_array, one_of, positive_number
from certnet.networks.feedforward import require_network
from certnet.networks.network import Network
from certnet.robust.balls import ball_of
from certnet.robust.intervals import values
from certnet.robust.reach import BY, Margins, Move, Slacks, held_at, reach_of

__all__ = ["Certificates", "CertifiedRadii", "certified_accuracy", "certified_radius", "global_bounds"]

Certificates = Certificate | Mapping[tuple[int, ...], Certificate]
"""One certificate of all outputs, or those of all differences (i, j), i < j."""

METHODS: Final = ("auto", "global", "relaxation", "region")


@dataclass(frozen=True, eq=False)
class CertifiedRadii:
    """Predictions of N inputs and how far they are guaranteed.

    Attributes
    ----------
    predicted : ndarray
        Of a classifier the index of the largest output, shape (N,); of a regressor the outputs, shape (N, m).
    margin : ndarray, shape (N,)
        At most the largest output minus the next one, rounding charged: may be negative. Of a regressor δ.
    radius : ndarray, shape (N,)
        Norm below which no perturbation of the input changes the class (0 where the margin is not positive), or moves
        the outputs by more than δ.
    bound : ndarray of str, shape (N,)
        What proves the radius: "global", bounds of slopes for all inputs; "relaxation", linear relaxation of what is to
        stay positive over the ball; "region", bounds of slopes in a ball of at least this radius.
    norm : {"l2", "linf"}
        Of the perturbation.
    """

    predicted: NDArray[np.intp] | Float
    margin: Float
    radius: Float
    bound: NDArray[np.str_]
    norm: str = "l2"


def certified_radius(
    net: Network,
    X: ArrayLike,
    certificates: Certificates | None = None,
    *,
    delta: float | None = None,
    norm: str = "l2",
    method: str = "auto",
    tol: float = 1e-2,
) -> CertifiedRadii:
    """Prediction, margin and certified radius of every row of X, proved: rounding is charged.

    Parameters
    ----------
    net : ShallowNetwork or FeedForward
        A classifier, its largest output is the class; with ``delta`` a regressor of any number of outputs.
    X : array_like, shape (N, d)
    certificates : mapping or Certificate, optional
        Bounds for all inputs, checked here: what :func:`certnet.certify_outputs` gives with ``differences=True``, or
        one certificate of all outputs, whose radii are smaller. By default what is needed is certified now. With
        ``delta`` one certificate of all outputs.
    delta : float, optional
        The outputs are to move by at most this, in l2 where there are several: ``‖f(y) − f(x)‖ ≤ delta``.
    norm : {"l2", "linf"}
        Of the perturbation, and of the certificates.
    method : {"auto", "global", "relaxation", "region"}
        "global" takes the bounds for all inputs, at no cost per sample. "relaxation" tries linear relaxation in larger
        and larger balls as well, all samples together. "region" goes on with bounds of slopes in such balls, sample by
        sample: tenths of a second each for some hundred units. No radius is ever below that of a cheaper method.
        "auto" is "global" where certificates are given, else "region".
    tol : float
        Relative width at which the search for a radius ends.

    Returns
    -------
    CertifiedRadii

    Raises
    ------
    InvalidInputError
        One output without ``delta``, bad X or one at which the network overflows, an unknown method or norm, a
        tolerance or ``delta`` that is not positive; certificates of something else: another norm, a region, an output
        alone.
    CertificateError
        A certificate does not hold for this network.
    UnsupportedModelError
        An activation that is given by its slopes alone, and has no values.

    Examples
    --------
    >>> from certnet import ShallowNetwork
    >>> net = ShallowNetwork(W=[[1.0], [-1.0]], b=[0.0, 0.0], V=[[1.0, 0.0], [0.0, 1.0]], c=[0.0, 0.0])
    >>> found = certified_radius(net, [[3.0]], tol=1e-6)
    >>> int(found.predicted[0]), round(float(found.radius[0]), 3)
    (0, 3.0)
    """
    asked = _Asked.of(net, X, certificates, norm, method, delta)
    width = positive_number(tol, "tol")
    predicted, margin = asked.predicted, np.full(len(asked.inputs), np.inf if delta is None else delta)
    radius, by = np.zeros(len(margin)), np.zeros(len(margin), dtype=np.intp)
    for rows, slacks in asked.groups():
        if delta is None:
            margin[rows] = slacks.here.min(axis=1)
        if asked.method == "global":
            radius[rows] = slacks.globally.min(axis=1)
        else:
            radius[rows], by[rows] = reach_of(slacks, search=asked.method == "region", tol=width)
    return CertifiedRadii(predicted, margin, radius, np.array(BY)[by], norm)


def certified_accuracy(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    radii: ArrayLike,
    certificates: Certificates | None = None,
    *,
    norm: str = "l2",
    method: str = "global",
) -> Float:
    """``(1/N) #{i : x_i is classified as y_i, and is at every point within the radius}``, shape (K,).

    That is where the certified radius of x_i is at least the radius asked for; at 0 it is the accuracy (of predictions
    that rounding cannot change). Only the radii asked for are tried, the larger ones where the smaller ones hold.

    Parameters
    ----------
    net, X, certificates, norm
        As in :func:`certified_radius`.
    method : {"global", "relaxation", "region", "auto"}
        As there. "relaxation" takes milliseconds for a sample of some hundred units, "region" tenths of a second for
        those that relaxation leaves open.
    y : array_like of int, shape (N,)
        Classes from 0.
    radii : array_like, shape (K,)
        Norms in the units of the inputs, at least 0.

    Raises
    ------
    InvalidInputError, CertificateError, UnsupportedModelError
        As in :func:`certified_radius`; labels of another length, a negative radius, no samples.
    """
    sizes = finite_array(radii, "radii", ndim=(1,))
    if (sizes < 0.0).any():
        raise InvalidInputError(f"radii must not be negative, got {sizes.min():g}")
    labels = finite_array(y, "y", ndim=(1,))
    asked = _Asked.of(net, X, certificates, norm, method, None)
    n = len(asked.inputs)
    if len(labels) != n or not n:
        raise InvalidInputError(f"X has {n} samples and y has {labels.size}: at least one of each")
    kept = np.full(n, -1.0)
    for rows, slacks in asked.groups():
        right = (asked.predicted[rows] == labels[rows]) & (slacks.here > 0.0).all(axis=1)
        kept[rows[right]] = slacks.globally[right].min(axis=1)
        for size in np.unique(sizes) if asked.method != "global" else ():
            left = np.flatnonzero(right & (kept[rows] < size))
            if len(left):
                held = held_at(slacks, left, float(size), search=asked.method == "region")
                kept[rows[left[held]]] = size
                right[left[~held]] = False
    return np.array([float(np.mean(kept >= size)) for size in sizes])


def global_bounds(net: Network, norm: str) -> dict[tuple[int, ...], Certificate]:
    """Certificates of all differences of outputs, for all inputs."""
    return certify_outputs(net, differences=True, norm=norm)


# -------------------------------------------------------------------------------------------------------- what is asked


@dataclass(frozen=True, eq=False)
class _Asked:
    """Inputs that are checked, and bounds for all inputs."""

    net: Network
    inputs: Float
    predicted: NDArray[np.intp] | Float
    norm: str
    method: str
    delta: float | None
    certificates: Certificates | None

    @classmethod
    def of(
        cls,
        net: Network,
        X: ArrayLike,
        certificates: Certificates | None,
        norm: str,
        method: str,
        delta: float | None,
    ) -> _Asked:
        net = require_network(net)
        ball_of(norm)
        one_of(method, "method", METHODS)
        if delta is not None:
            delta = positive_number(delta, "delta")
        elif net.n_outputs < 2:
            raise InvalidInputError(
                "the network has one output: a predicted class needs two or more; for a regressor give delta, by how "
                "much its prediction may move"
            )
        if not net.has_values:
            raise UnsupportedModelError(
                "an activation of this network is given by its slopes alone: it predicts nothing"
            )
        if certificates is not None:
            _require_kind(net, certificates, norm, delta)
        inputs = as_inputs(X, net.n_inputs, net.about.inputs)
        with np.errstate(over="ignore", invalid="ignore"):
            outputs = [net.outputs(inputs[at : at + _ROWS]) for at in range(0, len(inputs), _ROWS)]
        values_ = np.concatenate([np.empty((0, net.n_outputs)), *outputs])
        known = np.isfinite(values_).all(axis=1)
        if not known.all():
            raise InvalidInputError(f"the network overflows at sample {int(np.argmin(known))}: rescale it")
        if method == "auto":
            method = "region" if certificates is None else "global"
        predicted = np.argmax(values_, axis=1) if delta is None else values_
        return cls(net, inputs, predicted, norm, method, delta, certificates)

    def groups(self) -> Iterator[tuple[NDArray[np.intp], Slacks]]:
        """Rows, and what must not be used up at them: those of one predicted class at a time."""
        net, norm = self.net, self.norm
        if self.delta is not None:
            if len(self.inputs):
                rows = np.arange(len(self.inputs))
                everywhere = np.array([self._everywhere(None)])
                yield rows, Move(net, self.inputs, norm, np.full((len(rows), 1), self.delta), everywhere)
            return
        for i in np.unique(self.predicted):
            rows = np.flatnonzero(self.predicted == i)
            pairs = tuple((int(i), j) for j in range(net.n_outputs) if j != i)
            everywhere = np.array([self._everywhere(pair) for pair in pairs])
            X = self.inputs[rows]
            yield rows, Margins(net, X, norm, values(net, X, pairs).left, everywhere, pairs)

    def _everywhere(self, pair: tuple[int, int] | None) -> float:
        """A proved bound for all inputs of the slope of the outputs, or of the difference of two."""
        given = self.certificates
        if isinstance(given, Certificate):
            return given.upper if pair is None else float(np.nextafter(np.nextafter(_ROOT, 2.0) * given.upper, np.inf))
        key = None if pair is None else (min(pair), max(pair))
        if given is not None and key is not None:
            return given[key].upper
        return certify(self.net, output=key, norm=self.norm).upper


_ROOT: Final = float(np.sqrt(2.0))
_ROWS: Final = 4096  # samples at once


def _require_kind(net: Network, given: Certificates, norm: str, delta: float | None) -> None:
    """Refuse what are no certificates of the right claims, or do not hold."""
    if isinstance(given, Certificate):
        _require(net, given, None, norm)
        return
    if not isinstance(given, Mapping):
        raise InvalidInputError("certificates must be those of certify_outputs(differences=True), or one certificate")
    if delta is not None:
        raise InvalidInputError("with delta one certificate of all outputs is needed: give certify(net)")
    m = net.n_outputs
    for i in range(m):
        for j in range(i + 1, m):
            if (i, j) not in given:
                raise InvalidInputError(
                    f"there is no certificate of the outputs {i} minus {j}: give certify_outputs(net, differences=True)"
                )
            _require(net, given[i, j], (i, j), norm)


def _require(net: Network, certificate: Certificate, output: tuple[int, int] | None, norm: str) -> None:
    said = (certificate.output, certificate.norm, certificate.around is None and certificate.box is None)
    if said != (output, norm, True):
        what = "all outputs" if output is None else f"the outputs {output[0]} minus {output[1]}"
        raise InvalidInputError(
            f"a certificate of {what} for the {norm} norm and all inputs is needed, got one of "
            f"{certificate.subject or 'all outputs'}"
        )
    verdict = certificate.check(net)
    if not verdict:
        raise CertificateError(f"the certificate does not hold: {verdict.reason}")
