"""How unlike its training data a lifted network finds an input: the energy that is left, freely or for a class."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import NotConvergedWarning
from certnet.core.outcome import Status
from certnet.core.validation import Float, as_inputs, positive_number, whole_number
from certnet.lifted.inference import infer, measured
from certnet.lifted.posing import pose
from certnet.networks.energy import LiftedEnergy
from certnet.programs.box_qp import as_clamp
from certnet.solvers.box import Limits, solver_named

__all__ = ["class_energies", "scores"]

_SOLVER = "coordinate_descent"


def scores(net: LiftedEnergy, X: ArrayLike, **options: Any) -> Float:
    """``min_z E(z; x)`` for every row of X, shape (N,): larger means less like the training data (H, Table 1).

    A network that was trained to have small energies has them near its training data only. The score is a convex
    function of x (H, Remark 3) and has no unit: compare it with the scores of data that is known.

    Parameters
    ----------
    X : array_like, shape (N, d)
    **options
        Of :func:`~certnet.lifted.inference.infer`.

    Raises
    ------
    InvalidInputError
        Wrong shapes, NaN, or bad options.
    """
    return infer(net, X, **options).energy


def class_energies(
    net: LiftedEnergy, X: ArrayLike, *, tol: float = 1e-6, max_passes: int = 10_000, threads: int | None = None
) -> Float:
    """``min_{z: z_L = e_c} E(z; x)`` for every row of X and every class c, shape (N, C) with C = n_L.

    The class of least energy, ``class_energies(net, X).argmin(axis=1)``, is the prediction of a network whose clamped
    energies were trained, the objective "lifted" with one-hot targets (Høier and Zach 2020, Remark 3). The inputs are
    read once for all classes: they enter the programs of all alike, which differ in their linear terms by
    ``γ^{L−1} (1 + β_{L−1}) W_{L−1}ᵀ e_c`` in the last hidden layer; each starts where the one before ended.

    Parameters
    ----------
    X : array_like, shape (N, d)
    tol, max_passes, threads
        As in :func:`~certnet.lifted.inference.infer`.

    Raises
    ------
    InvalidInputError
        Wrong shapes, NaN, numbers beyond 1e100, one-hot rows outside of the output's box.

    Warns
    -----
    NotConvergedWarning
        Samples that missed the tolerance.
    """
    classes = as_clamp(net, np.eye(net.n_outputs), net.n_outputs)
    if net.depth == 1:  # nothing is left to infer
        inputs = as_inputs(X, net.n_inputs)
        rows = (np.repeat(one[None, :], len(inputs), axis=0) for one in classes)
        return np.column_stack([net.energy(inputs, clamp) for clamp in rows])
    count = (os.cpu_count() or 1) if threads is None else whole_number(threads, "threads", least=1)
    limits = Limits(positive_number(tol, "tol"), None, whole_number(max_passes, "max_passes", least=1), count)
    solve = solver_named(_SOLVER)
    given = pose(net, X, np.zeros((1, net.n_outputs)))
    last = given.problem.layers[-1]
    pulls = net.gamma ** (net.depth - 1) * (1.0 + net.beta[-1]) * net.weights[-1]
    found, start, missed = np.empty((len(given.q), net.n_outputs)), None, 0
    for c, (clamp, pull) in enumerate(zip(classes, pulls)):
        q = given.q.copy()
        q[:, last] += pull
        posed = replace(given, clamp=np.repeat(clamp[None, :], len(q), axis=0), q=q)
        start = solve(given.problem, q, start, limits)
        done = measured(posed, start, limits, _SOLVER, finishing=True)
        found[:, c] = done.energy
        missed += int((done.status != Status.OPTIMAL).sum())
    if missed:
        warnings.warn(
            f"{missed} of {found.size} energies of classes did not converge to {tol:g}: raise max_passes or tol",
            NotConvergedWarning,
            stacklevel=3,
        )
    return found
