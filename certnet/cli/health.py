"""What ``certnet doctor`` asks of an installation: each solver solves a tiny problem whose solution is known."""

from __future__ import annotations

import os
import platform
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from certnet.backends import cvxpy_
from certnet.core.errors import CertnetError
from certnet.networks.shallow import ShallowNetwork
from certnet.programs.box_qp import BoxQP
from certnet.solvers.box import SOLVERS as BOX_SOLVERS
from certnet.solvers.box import Limits, solver_named

__all__ = ["box_solvers", "cone_solvers", "own_search", "system"]

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_TOL = 1e-4


def own_search() -> str | None:
    """The same of certnet's own: ``2 relu(3 x)`` has L = 6, and the certificate is checked."""
    from certnet.certification import certify

    network = ShallowNetwork(np.array([[3.0]]), np.zeros(1), np.array([[2.0]]), np.zeros(1))
    try:
        found = certify(network)
        verdict = found.check(network)
    except Exception as error:  # noqa: BLE001 - as below
        return f"cannot be used ({_first_line(error)}): reinstall certnet, numpy and scipy"
    if verdict and found.lower <= 6.0 <= found.upper <= 6.0 + _TOL:
        return None
    return f"does not solve a tiny problem ([{found.lower!r}, {found.upper!r}] for 6): reinstall certnet and numpy"


def cone_solvers() -> dict[str, str | None]:
    """For every solver that CVXPY hands programs to: None, or why it cannot be used."""
    return {name: cvxpy_.why_unusable(name) or _cones(name) for name in cvxpy_.SOLVERS}


def _cones(name: str) -> str | None:
    """``min t + s`` with ``[[t, 1], [1, 2]]`` semidefinite and ``‖(3, 4)‖ ≤ s``: 5.5."""
    try:
        import cvxpy

        t, s = cvxpy.Variable(), cvxpy.Variable()
        limits = [cvxpy.PSD(cvxpy.bmat([[t, 1.0], [1.0, 2.0]])), cvxpy.SOC(s, cvxpy.Constant(np.array([3.0, 4.0])))]
        problem = cvxpy.Problem(cvxpy.Minimize(t + s), limits)
        report = cvxpy_.solve(problem, name, tol=1e-7)
        value = problem.value
    except Exception as error:  # noqa: BLE001 - whatever a broken installation raises is the answer
        return f"installed, and cannot be used ({_first_line(error)}): reinstall or upgrade cvxpy and {name.lower()}"
    if value is not None and abs(value - 5.5) <= _TOL:
        return None
    return (
        f"installed, and does not solve a tiny problem ({report.solver_status}): upgrade cvxpy and {name.lower()} to "
        "versions that fit"
    )


def box_solvers() -> dict[str, str | None]:
    """The same of the solvers of ``certnet lifted infer``."""
    return {name: _box(name) for name in BOX_SOLVERS}


def _box(name: str) -> str | None:
    """``min z² + z y + y² − 2 z + 5 y`` for z, y ≥ 0: (1, 0)."""
    problem = BoxQP(np.array([[2.0, 1.0], [1.0, 2.0]]), np.zeros(2), np.full(2, np.inf), (slice(0, 2),))
    try:
        z = solver_named(name)(problem, np.array([[2.0, -5.0]]), None, Limits(tol=1e-6))
    except CertnetError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - as above
        return f"installed, and cannot be used ({_first_line(error)}): reinstall or upgrade it"
    if np.allclose(z, [[1.0, 0.0]], rtol=0.0, atol=_TOL):
        return None
    return f"installed, and does not solve a tiny problem (it says {z.tolist()}): upgrade it"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:120]


def system() -> dict[str, str]:
    """Python, machine, threads, BLAS, GPU and the folder of compiled kernels, in words."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "threads": ", ".join(f"{name}={os.environ[name]}" for name in _THREADS if name in os.environ) or "no limit set",
        "BLAS": _blas(),
        "GPU": _gpu(),
        "compiled kernels": _kernels(),
    }


def _blas() -> str:
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    told = (f"{pool['internal_api']} {pool['version'] or '?'} ({pool['num_threads']} threads)" for pool in pools)
    return "; ".join(dict.fromkeys(told)) or "unknown"


def _gpu() -> str:
    if find_spec("torch") is None:
        return "unknown: PyTorch is not installed (extra 'torch')"
    from certnet.backends.torch_ import gpus

    try:
        return ", ".join(gpus()) or "none that PyTorch can use"
    except Exception as error:  # noqa: BLE001 - a driver that does not fit
        return f"PyTorch cannot tell ({_first_line(error)})"


def _kernels() -> str:
    from certnet.kernels import compilation
    from certnet.kernels.elliptope import ascend

    folder = compilation.kept_in(ascend)
    if folder is None:
        return "not kept, compiled in every process: set NUMBA_CACHE_DIR to a folder that can be written"
    if "NUMBA_CACHE_DIR" in os.environ or folder.parent == Path(compilation.__file__).parent:
        return str(folder)
    return f"{folder} (certnet's own folder cannot be written; NUMBA_CACHE_DIR names another)"
