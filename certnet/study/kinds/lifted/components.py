r"""One linear layer without biases, unsupervised, against the leading eigenvectors (Høier and Zach 2020, section 4.1).

The mean of ``min_z ½‖z − W x‖² + ½‖Wᵀ z − x‖²`` over the data depends on the scatter matrix ``S = Σ_i x_i x_iᵀ / N``
alone, so that the d rows of ``√d S^½`` have the same mean energy and the same gradient as all samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize

from certnet.core.validation import Float
from certnet.lifted import infer
from certnet.networks.energy import LiftedEnergy
from certnet.study.kinds.base import Outcome
from certnet.study.kinds.lifted.images import drawn_images
from certnet.study.kinds.lifted.tasks import ComponentsSettings
from certnet.study.tasks import Row

__all__ = ["compare_components", "learned_layer"]


def compare_components(said: ComponentsSettings, seed: int) -> Outcome:
    """The layer learned from all data, and from data of exact rank."""
    X, r = drawn_images(said.images).X_train, said.n_components
    names = {"part": "components", "data": said.images.name, "trial": said.trial, "n_components": r}
    values, vectors = _eigen(X)
    leading = vectors[:, :r]
    W, energy, iterations = learned_layer(values, vectors, r, seed, said.max_iterations)
    row: Row = {
        "angle": float(np.degrees(scipy.linalg.subspace_angles(W.T, leading).max())),
        "energy": energy,
        "energy_least": 0.5 * float(values[r:].sum()),
        "iterations": iterations,
        "identity": _from_identity(W),
    }
    cut = np.where(np.arange(len(values)) < r, values, 0.0)
    V, exact_energy, exact_iterations = learned_layer(cut, vectors, r, seed, said.max_iterations)
    row["exact_rank"] = {
        "energy": exact_energy,
        "energy_at_zero": 0.5 * float(cut.sum()),
        "iterations": exact_iterations,
        "identity": _from_identity(V),
        "angle": float(np.degrees(scipy.linalg.subspace_angles(V.T, leading).max())),
    }
    return Outcome({**names, **row})


def learned_layer(
    values: Float, vectors: Float, r: int, seed: int, max_iterations: int = 5000
) -> tuple[Float, float, int]:
    """W (r, d) of least mean energy for the scatter matrix with these eigenvalues and eigenvectors, by L-BFGS.

    The gradient is Danskin's, at activations that are inferred; W starts from a normal distribution.
    """
    d = len(values)
    rows = np.sqrt(d * np.maximum(values, 0.0))[:, None] * vectors.T

    def objective(flat: Float) -> tuple[float, Float]:
        net = LiftedEnergy([flat.reshape(r, d)], beta=1.0, units=["linear"])
        found = infer(net, rows, threads=1, tol=1e-12)
        gradient: Any = net.gradients(rows, found.stacked).weights[0]
        return float(found.energy.mean()), gradient.ravel()

    start = np.random.default_rng(seed).standard_normal(r * d) / np.sqrt(d)
    options: Any = {"maxiter": max_iterations, "maxfun": 2 * max_iterations, "ftol": 1e-16, "gtol": 1e-10}
    done = scipy.optimize.minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    return done.x.reshape(r, d), float(done.fun), int(done.nit)


def _eigen(X: Float) -> tuple[Float, Float]:
    """Eigenvalues of ``Xᵀ X / N``, the largest first, and eigenvectors in columns."""
    S = np.zeros((X.shape[1], X.shape[1]))
    for first in range(0, len(X), 4096):
        part = X[first : first + 4096].astype(np.float64)
        S += part.T @ part
    values, vectors = np.linalg.eigh(S / len(X))
    return values[::-1], vectors[:, ::-1]


def _from_identity(W: Float) -> float:
    """``‖W Wᵀ − I‖₂``."""
    return float(np.linalg.norm(W @ W.T - np.eye(len(W)), 2))
