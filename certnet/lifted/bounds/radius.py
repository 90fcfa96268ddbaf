r"""Certified radii of a lifted classifier: how far an input can move before its predicted class may change.

With ``m_j = z_i − z_j`` for the predicted class i, no perturbation of norm below

    min_j m_j / (√2 L)      (Høier and Zach 2020, section 4.2),   or   min_j m_j / L_ij,   L_ij of z_i − z_j,

changes the class. What inference left undone is taken off the margin: ``√2 ‖z − z*‖``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.claims.certificate import Certificate
from certnet.core.digits import above
from certnet.core.errors import CertificateError, InvalidInputError
from certnet.core.validation import Float
from certnet.lifted.bounds.bracket import lipschitz_bound, lipschitz_bounds
from certnet.lifted.inference import infer
from certnet.networks.energy import LiftedEnergy

__all__ = ["Certificates", "Guarantee", "certified_radius", "label_radius"]

Certificates = str | Certificate | Mapping[tuple[int, ...], Certificate]
"""A method, a certificate of all outputs, or certificates of all differences (i, j), i < j."""

_DOWN = 1.0 - 1e-12  # covers the rounding of a division and of √2


@dataclass(frozen=True, eq=False)
class Guarantee:
    """Predictions of N inputs and how far they are guaranteed.

    Attributes
    ----------
    predicted : ndarray of int, shape (N,)
        Index of the largest output.
    margin : ndarray, shape (N,)
        Largest output minus the next one, less ``√2`` times the bound on the error of inference; may be negative.
    radius : ndarray, shape (N,)
        l2 norm below which no perturbation of the input changes the class; 0 where the margin is not positive.
    bound : str
        Which bound was used: "sdp", "layerwise" or "theorem", "of all outputs" or "of every pair", and its values.
    """

    predicted: NDArray[np.intp]
    margin: Float
    radius: Float
    bound: str = ""


def certified_radius(
    net: LiftedEnergy, X: ArrayLike, certificate: Certificates = "sdp", *, pairs: bool = False, **options: Any
) -> Guarantee:
    """Predicted class, margin and certified l2 radius of every row of X.

    The bound is proved; the activations and the bound on their error are floating point.

    Parameters
    ----------
    X : array_like, shape (N, d)
    certificate : str, Certificate or mapping
        A method of :func:`~certnet.lifted.bounds.bracket.lipschitz_bound`, or what it returned; for ``pairs`` the
        certificates of :func:`~certnet.lifted.bounds.bracket.lipschitz_bounds` with ``differences=True``. They are
        checked once more here.
    pairs : bool
        Use the bounds of the differences of outputs; never smaller radii where each L_ij is at most √2 L.
    **options
        Of :func:`~certnet.lifted.inference.infer`; ``tol`` is 1e-9 by default.

    Raises
    ------
    InvalidInputError
        The network has one output, certificates of another kind than asked for, bad X or options, a clamp.
    CertificateError
        A certificate does not hold for this network.
    """
    if options.get("clamp") is not None:
        raise InvalidInputError("clamp holds the output, and a prediction is the free one: leave it out")
    if net.n_outputs < 2:
        raise InvalidInputError("the network has one output: a predicted class needs two or more")
    bounds, said = _pair_bounds(net, certificate) if pairs else _common_bound(net, certificate)
    found = infer(net, X, **({"tol": 1e-9} | options))
    outputs = found.output
    N = len(outputs)
    predicted = np.argmax(outputs, axis=1)
    margins = outputs[np.arange(N), predicted][:, None] - outputs
    # |(z_i − z_j) − (z_i* − z_j*)| ≤ √2 ‖z − z*‖, and a rounding of the difference
    doubt = np.sqrt(2.0) * found.error_bound + 1e-15 * np.abs(outputs).max(axis=1, initial=0.0)
    margins = margins - doubt[:, None]
    margins[np.arange(N), predicted] = np.inf
    L = bounds[predicted]
    with np.errstate(divide="ignore", invalid="ignore"):
        radii = np.where(margins > 0.0, margins * _DOWN / L, 0.0)
    margin = margins.min(axis=1)
    return Guarantee(predicted, margin, np.where(margin > 0.0, radii.min(axis=1), 0.0), said)


def label_radius(net: LiftedEnergy, X: ArrayLike, certificate: Certificates, threshold: float, **options: Any) -> Float:
    """l2 norm below which no perturbation moves any output across ``threshold``, of every row of X, shape (N,).

    ``min_c |z_c − threshold| / L``, or with ``L_c`` of each output, less the bound on the error of inference.

    Parameters
    ----------
    X : array_like, shape (N, d)
    certificate : str, Certificate or mapping
        A method, a certificate of all outputs, or those of each output ``(c,)``.
    threshold : float
    **options
        As in :func:`certified_radius`.

    Raises
    ------
    InvalidInputError
        Certificates of other outputs, bad X or options.
    CertificateError
        A certificate does not hold for this network.
    """
    if isinstance(certificate, Mapping):
        L = np.array([_of_output(net, certificate, (c,)).upper for c in range(net.n_outputs)])
    else:
        L = _common_bound(net, certificate)[0][0] / np.sqrt(2.0) * (2.0 - _DOWN)
    found = infer(net, X, **({"tol": 1e-9} | options))
    size = np.abs(found.output).max(axis=1, initial=abs(threshold))
    margins = np.abs(found.output - threshold) - (found.error_bound + 1e-15 * size)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        radii = np.where(margins > 0.0, margins * _DOWN / L, 0.0)
    return np.asarray(radii.min(axis=1))


def _common_bound(net: LiftedEnergy, certificate: Certificates) -> tuple[Float, str]:
    """``√2 L`` for every pair of outputs, shape (m, m), and which bound it is."""
    if isinstance(certificate, str):
        certificate = lipschitz_bound(net, certificate, lower=False)
    if not isinstance(certificate, Certificate) or certificate.output is not None:
        raise InvalidInputError("certificate must be a method or a certificate of all outputs; others need pairs=True")
    _require(net, certificate)
    L = np.full((net.n_outputs, net.n_outputs), np.sqrt(2.0) * certificate.upper)
    return L, f"{certificate.kind} of all outputs, L <= {above(certificate.upper, 4)}, sqrt(2) L for every pair"


def _pair_bounds(net: LiftedEnergy, certificates: Certificates) -> tuple[Float, str]:
    """L_ij, shape (m, m), and which bounds they are."""
    if isinstance(certificates, str):
        certificates = lipschitz_bounds(net, certificates, differences=True, lower=False)
    if not isinstance(certificates, Mapping):
        raise InvalidInputError(
            "pairs=True needs a method, or the certificates of lipschitz_bounds(net, differences=True)"
        )
    L, kinds = np.ones((net.n_outputs, net.n_outputs)), set()
    for i in range(net.n_outputs):
        for j in range(i + 1, net.n_outputs):
            found = _of_output(net, certificates, (i, j))
            L[i, j] = L[j, i] = found.upper
            kinds.add(found.kind)
    of = L[np.triu_indices(net.n_outputs, 1)]
    least, most = above(float(of.min()), 4), above(float(of.max()), 4)
    return L, f"{' and '.join(sorted(kinds))} of every pair, L_ij <= {least} to {most}"


def _of_output(
    net: LiftedEnergy, certificates: Mapping[tuple[int, ...], Certificate], output: tuple[int, ...]
) -> Certificate:
    """The certificate of an output, or of a difference of two, once it is seen to hold."""
    found = certificates.get(output)
    if found is None or found.output not in (output, output[::-1]):
        what = " and ".join(map(str, output))
        raise InvalidInputError(
            f"there is no certificate of the {'difference of the outputs' if len(output) > 1 else 'output'} {what}"
        )
    _require(net, found)
    return found


def _require(net: LiftedEnergy, certificate: Certificate) -> None:
    verdict = certificate.check(net)
    if not verdict:
        raise CertificateError(f"the certificate does not hold: {verdict.reason}")
