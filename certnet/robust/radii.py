r"""Certified radii of a classifier: how far an input can move before its predicted class may change.

With ``m_j = f_i(x) − f_j(x)`` for the predicted class i and proved bounds L_ij of the slope of ``f_i − f_j``, no
perturbation of l2 norm below

    min_j m_j / L_ij      or, with a bound L of all outputs together,      min_j m_j / (√2 L)

changes the class (Tsuzuku, Sato and Sugiyama, NeurIPS 2018, proposition 1, for the second).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from certnet.certification import certify_outputs
from certnet.claims.certificate import Certificate
from certnet.core.errors import CertificateError, InvalidInputError
from certnet.core.validation import Float, as_inputs, finite_array
from certnet.lifted.bounds.radius import Guarantee
from certnet.networks.feedforward import require_network
from certnet.networks.network import Network

__all__ = ["certified_accuracy", "certified_radius"]

_ROWS = 4096  # samples at once
_DOWN = 1.0 - 1e-12  # covers the rounding of a division and of √2
_DOUBT = 1e-12  # rounding charged to an output, relative to the largest of its sample


def certified_radius(
    net: Network, X: ArrayLike, certificates: Certificate | Mapping[tuple[int, ...], Certificate] | None = None
) -> Guarantee:
    """Predicted class, margin and certified l2 radius of every row of X.

    The bounds are proved, and checked once more here; outputs are float64, and 1e-12 of the largest is charged for
    their rounding, which is not proved.

    Parameters
    ----------
    net : ShallowNetwork or FeedForward
        Its largest output is the class.
    X : array_like, shape (N, d)
    certificates : mapping or Certificate, optional
        What :func:`certnet.certify_outputs` gives with ``differences=True``, or one certificate of all outputs, whose
        radii are smaller. By default the differences are certified now.

    Returns
    -------
    Guarantee
        ``margin`` is the largest output minus the next one, less what rounding may have added.

    Raises
    ------
    InvalidInputError
        One output, bad X, certificates of something else: another norm, a region, an output alone.
    CertificateError
        A certificate does not hold for this network.
    """
    net = require_network(net)
    if net.n_outputs < 2:
        raise InvalidInputError("the network has one output: a predicted class needs two or more")
    inputs = as_inputs(X, net.n_inputs, net.about.inputs)
    if certificates is None:
        certificates = certify_outputs(net, differences=True)
    limits = _limits(net, certificates)
    outputs = np.empty((len(inputs), net.n_outputs))
    for at in range(0, len(inputs), _ROWS):
        outputs[at : at + _ROWS] = net.outputs(inputs[at : at + _ROWS])
    predicted = np.argmax(outputs, axis=1)
    rows = np.arange(len(outputs))
    doubt = _DOUBT * np.abs(outputs).max(axis=1, initial=0.0)
    margins = outputs[rows, predicted][:, None] - outputs - 2.0 * doubt[:, None]
    margins[rows, predicted] = np.inf
    with np.errstate(divide="ignore", invalid="ignore"):  # a bound of zero: the class never changes
        radii = np.where(margins > 0.0, margins * _DOWN / limits[predicted], 0.0)
    margin = margins.min(axis=1)
    return Guarantee(predicted, margin, np.where(margin > 0.0, radii.min(axis=1), 0.0))


def certified_accuracy(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    radii: ArrayLike,
    certificates: Certificate | Mapping[tuple[int, ...], Certificate] | None = None,
) -> Float:
    """``(1/N) #{i : x_i is classified as y_i, and is at every point within the radius}``, shape (K,).

    That is where the certified radius of x_i is at least the radius asked for; at 0 it is the accuracy (of predictions
    that rounding cannot change).

    Parameters
    ----------
    net, X, certificates
        As in :func:`certified_radius`.
    y : array_like of int, shape (N,)
        Classes from 0.
    radii : array_like, shape (K,)
        l2 norms in the units of the inputs, at least 0.

    Raises
    ------
    InvalidInputError, CertificateError
        As in :func:`certified_radius`; labels of another length, a negative radius, no samples.
    """
    asked = finite_array(radii, "radii", ndim=(1,))
    if (asked < 0.0).any():
        raise InvalidInputError(f"radii must not be negative, got {asked.min():g}")
    labels = finite_array(y, "y", ndim=(1,))
    found = certified_radius(net, X, certificates)
    if len(labels) != len(found.radius) or not labels.size:
        raise InvalidInputError(f"X has {len(found.radius)} samples and y has {labels.size}: at least one of each")
    kept = np.where((found.predicted == labels) & (found.margin > 0.0), found.radius, -1.0)
    return np.array([float(np.mean(kept >= radius)) for radius in asked])


def _limits(net: Network, given: Certificate | Mapping[tuple[int, ...], Certificate]) -> Float:
    """Bounds of the slopes of ``f_i − f_j``, shape (m, m)."""
    m = net.n_outputs
    if isinstance(given, Certificate):
        _require(net, given, None)
        return np.full((m, m), np.sqrt(2.0) * given.upper)
    if not isinstance(given, Mapping):
        raise InvalidInputError("certificates must be those of certify_outputs(differences=True), or one certificate")
    limits = np.ones((m, m))
    for i in range(m):
        for j in range(i + 1, m):
            if (i, j) not in given:
                raise InvalidInputError(
                    f"there is no certificate of the outputs {i} minus {j}: give certify_outputs(net, differences=True)"
                )
            _require(net, given[i, j], (i, j))
            limits[i, j] = limits[j, i] = given[i, j].upper
    return limits


def _require(net: Network, certificate: Certificate, output: tuple[int, int] | None) -> None:
    said = (certificate.output, certificate.norm, certificate.around is None)
    if said != (output, "l2", True):
        what = "all outputs" if output is None else f"the outputs {output[0]} minus {output[1]}"
        raise InvalidInputError(
            f"a certificate of {what} for the l2 norm and all inputs is needed, got one of "
            f"{certificate.subject or 'all outputs'}"
        )
    verdict = certificate.check(net)
    if not verdict:
        raise CertificateError(f"the certificate does not hold: {verdict.reason}")
