r"""Inference of large batches in PyTorch, on a GPU where there is one: one factorisation, one product per iteration.

The method is that of :mod:`certnet.solvers.box.admm`, in float64: over the bounded units, the others eliminated, with H
scaled to a unit diagonal,

    x ← (H + ρ I)^{−1} (q + ρ (v − u)),   x̂ = α x + (1 − α) v,   v ← Π(x̂ + u),   u ← u + x̂ − v

Every few iterations the natural residual says which samples are done; the others go on. What comes back is measured,
and finished where it misses the tolerance, by the code that measures every other solver, on the CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike

from certnet.backends.torch_ import import_torch, torch_device
from certnet.core.validation import Float, positive_number, whole_number
from certnet.lifted.inference import Inference, measured
from certnet.lifted.posing import inputs_of, pose
from certnet.networks.energy import LiftedEnergy, require_lifted
from certnet.programs.box_qp import as_clamp
from certnet.solvers.box import Limits
from certnet.solvers.box.eliminated import Eliminated, without_free_units

if TYPE_CHECKING:
    import torch

__all__ = ["box_admm", "infer_on_device"]

_RELAXATION: Final = 1.8
_EVERY: Final = 10
"""Iterations between looks at who is done: each look makes the device wait."""
_FLOOR: Final = 1e-15
"""Of the least eigenvalue of the scaled H, relative to the largest."""


def infer_on_device(
    net: LiftedEnergy,
    X: ArrayLike,
    *,
    clamp: ArrayLike | None = None,
    device: str = "auto",
    tol: float = 1e-6,
    max_iterations: int = 2000,
) -> Inference:
    """:func:`~certnet.lifted.inference.infer` with the activations from a PyTorch device; meant for 500 rows and more.

    Parameters
    ----------
    net : LiftedEnergy
    X : array_like, shape (N, d)
    clamp : array_like, shape (N, n_L), optional
        Where to hold z_L.
    device : str
        "auto" (the GPU where PyTorch has one), "cpu", "cuda", "cuda:1", …; it has to compute in float64.
    tol : float
        Natural residual to reach.
    max_iterations : int
        After these a sample is finished on the CPU.

    Raises
    ------
    InvalidInputError
        What :func:`~certnet.lifted.inference.infer` refuses, or a device that is not there.
    MissingDependencyError
        PyTorch is not installed.
    """
    place = torch_device(device, double=True)
    require_lifted(net)
    limits = Limits(positive_number(tol, "tol"), max_passes=whole_number(max_iterations, "max_iterations", least=1))
    inputs = inputs_of(net, X)
    given = pose(net, inputs, None if clamp is None else as_clamp(net, clamp, len(inputs)))
    try:
        program = without_free_units(given.problem)
        z = _iterated(program, program.linear_term(given.q), limits, place)
        z = program.whole(given.q, z)
    except np.linalg.LinAlgError:  # H is not positive definite to working precision
        z = np.clip(np.zeros_like(given.q), given.problem.lower, given.problem.upper)
    return measured(given, z, limits, f"admm on {place}", finishing=True)


def _iterated(program: Eliminated, q: Float, limits: Limits, place: torch.device) -> Float:
    """Activations of the bounded units, shape (N, m)."""
    pt = import_torch()

    def moved(array: Float) -> Any:
        return pt.as_tensor(np.ascontiguousarray(array), dtype=pt.float64, device=place)

    box = moved(program.lower), moved(program.upper)
    found, _ = box_admm(moved(program.H), moved(q), *box, limits.tol, limits.max_passes)
    return np.asarray(found.cpu().numpy(), dtype=np.float64)


def box_admm(
    H: torch.Tensor, q: torch.Tensor, lower: torch.Tensor, upper: torch.Tensor, tol: float, max_iterations: int
) -> tuple[torch.Tensor, int]:
    """``argmin ½ zᵀ H z − qᵀ z`` over the box for every row of q (N, m), and how many rows missed the tolerance.

    Parameters
    ----------
    H : tensor, shape (m, m)
        Symmetric, positive definite to working precision; all tensors are float64 and on one device.
    q : tensor, shape (N, m)
    lower, upper : tensor, shape (m,)
    tol : float
        Natural residual ``max |z − Π(z − (H z − q))|`` of a row.
    max_iterations : int

    Raises
    ------
    numpy.linalg.LinAlgError
        H has no Cholesky factor.
    """
    pt = import_torch()
    found = pt.zeros_like(q)
    if not q.numel():
        return found, 0
    # residuals are those of the units themselves: of a scaled point and its slope, times D^{−½} and D^{½}
    scale = H.diagonal().clamp_min(float(np.finfo(float).tiny)).rsqrt()
    H = H * scale[:, None] * scale
    low, high = lower / scale, upper / scale
    eigenvalues = pt.linalg.eigvalsh(H)
    least, most = eigenvalues[0].clamp_min(_FLOOR * eigenvalues[-1]), eigenvalues[-1]
    penalty = float(pt.sqrt(least * most))
    factor, failed = pt.linalg.cholesky_ex(H + penalty * pt.eye(len(H), dtype=H.dtype, device=H.device))
    if int(failed):
        raise np.linalg.LinAlgError("H is not positive definite to working precision")
    inverse = pt.cholesky_inverse(factor)

    rows = pt.arange(len(q), device=q.device)
    linear = q * scale
    v = found.clamp(low, high)
    u = pt.zeros_like(v)
    for count in range(1, max_iterations + 1):
        x = (linear + penalty * (v - u)) @ inverse
        x = _RELAXATION * x + (1.0 - _RELAXATION) * v + u
        v = x.clamp(low, high)
        u = x - v
        if count % _EVERY and count != max_iterations:
            continue
        # the point and its slope in the units of the network
        z, slope = v * scale, (v @ H - linear) / scale
        residual = (z - (z - slope).clamp(lower, upper)).abs().amax(dim=1)
        found[rows] = z
        going = ~(residual <= tol)
        if not bool(going.any()):
            return found, 0
        rows, linear, v, u = rows[going], linear[going], v[going], u[going]
    return found, len(rows)
