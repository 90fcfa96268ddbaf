"""How certnet compares: every figure of docs/comparison.md, against the packages that are installed.

    CERTNET_DATA_HOME=... OMP_NUM_THREADS=1 python benchmarks/compare.py                    # all tables
    CERTNET_DATA_HOME=... OMP_NUM_THREADS=1 python benchmarks/compare.py --only deep box    # some of them
    CERTNET_DATA_HOME=... OMP_NUM_THREADS=1 python benchmarks/compare.py --page docs/comparison.md   # into the page

shallow    LipSDP of one hidden layer: certnet and CVXPY, solver by solver
deep       several hidden layers: certnet, eclipse-nn, CVXPY
box        the same in a box of inputs: certnet and auto_LiRPA
convex     a convex program of two-layer ReLU training, the same for all: certnet, CVXPY, scnn
regressors errors and slopes on servo: certnet, scnn, scikit-learn
lifted     inference of lifted networks, sample by sample: certnet, OSQP, DAQP, Clarabel
limited    regression at a limit on L: certnet and deel-torchlip

A package that is missing has a row that says so. Seconds are of the CPU, one thread: medians of three warm runs, one
warm run where the first took more than --patience, none where it took five times that. Bounds, objectives, errors and
residuals are recomputed from what is returned; "L proved" is the bound of a certificate of certnet's for the weights
of whoever made them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import io
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

import lifted
import numpy as np
from _common import machine, print_table, random_network
from depth import he
from restrict import start_network

from certnet import Box, CertifiedRegressor, FeedForward, ShallowNetwork, certify, load_dataset, refine, to_torch
from certnet.backends import cvxpy_
from certnet.data import Dataset
from certnet.lifted import LiftedNetwork
from certnet.networks.network import Network
from certnet.programs.box_qp import BoxQP, natural_residual, posed
from certnet.programs.goal import Weighted
from certnet.programs.objectives import mean_squared_error
from certnet.programs.penalties import NormPenalty
from certnet.programs.restriction import Restriction, whole_cell
from certnet.proofs.shallow import BoundChecker
from certnet.searches.closed_form_layers import layer_multipliers
from certnet.searches.deep_barrier import solve_deep
from certnet.searches.reference_ import solve_lipsdp
from certnet.solvers.box import Limits, solver_named
from certnet.solvers.cvxpy_ import ConicSolver
from certnet.solvers.interior import InteriorPoint

T = TypeVar("T")
Row = tuple[str, ...]

PACKAGES: Final = {
    "auto_LiRPA": "git+https://github.com/Verified-Intelligence/auto_LiRPA",
    "clarabel": "clarabel",
    "cvxpy": "cvxpy",
    "daqp": "daqp",
    "deel": "deel-torchlip",
    "eclipse_nn": "eclipse-nn",
    "osqp": "osqp",
    "scnn": "pyscnn",
    "scs": "scs",
    "sklearn": "scikit-learn",
    "torch": "torch",
}
"""Modules and what to give pip for them."""

SHALLOW: Final = ((30, 10, 1), (50, 10, 1))
DEEP: Final = ((5, 16, 16, 16, 1), (10, *[64] * 5, 1), (784, 64, 64, 10))
SMALL_ENOUGH: Final = 64
"""Hidden units up to which generic solvers are given the matrix inequality of several layers."""
RADII: Final = (0.01, 0.1)
WEIGHT: Final = 0.01
TOL: Final = 1e-6


class Patience:
    """CPU seconds of a first run that three may follow, and seconds by the clock that generic solvers are given."""

    repeats: float = 1.0
    solver: float = 60.0


# ----------------------------------------------------------------------------------------------------------- measuring


def timed(call: Callable[[], T], *, repeat: int = 3) -> tuple[T, float]:
    """What ``call`` returns and its CPU seconds: the median after a first run, of one where that was long."""
    result, first = _once(call)
    if first > 5.0 * Patience.repeats:  # what warms up is little beside it
        return result, first
    runs = [_once(call) for _ in range(repeat if first <= Patience.repeats else 1)]
    return result, statistics.median(seconds for _, seconds in runs)


def _once(call: Callable[[], T]) -> tuple[T, float]:
    begin = time.process_time()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # gaps and statuses stand in the tables
        result = call()
    return result, time.process_time() - begin


def why_missing(module: str) -> str | None:
    """None where the module can be imported, else what the row says."""
    if importlib.util.find_spec(module) is not None:
        return None
    return f"not installed: pip install {PACKAGES[module]}"


def entry(head: Row, needs: Sequence[str], measure: Callable[[], Row]) -> Row:
    """``head`` and what is measured; where a package is missing, or gives no result, the reason instead."""
    missing = next(filter(None, map(why_missing, needs)), None)
    if missing is not None:
        return *head, missing
    try:
        return *head, *measure()
    except Exception as error:  # noqa: BLE001 - whatever other packages raise is a row
        words = str(error).strip().splitlines() or [""]
        return *head, f"no result: {type(error).__name__}: {words[-1]}"


def table(head: Row, rows: Sequence[Row]) -> str:
    """In Markdown; rows that end with a reason are filled up."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        print_table(head, [(*row, *[""] * (len(head) - len(row))) for row in rows])
    return text.getvalue()


def versions() -> str:
    known = ((package, module) for module, package in PACKAGES.items())
    return ", ".join(f"{name.split('/')[-1]} {_version(name, module)}" for name, module in known)


def _version(package: str, module: str) -> str:
    if importlib.util.find_spec(module) is None:
        return "not installed"
    for name in (package, module):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError, ValueError):
            return importlib.metadata.version(name)
    return str(getattr(importlib.import_module(module), "__version__", "of unknown version"))


# ----------------------------------------------------------------------------------------------------- bounds on slopes


def generic_solvers() -> list[tuple[str, str | None]]:
    """Solvers of semidefinite programs that certnet poses LipSDP for, each with the reason why it cannot be used."""
    if why_missing("cvxpy"):
        return [(name, why_missing("cvxpy")) for name in cvxpy_.SOLVERS]
    reasons = {name: cvxpy_.why_unusable(name) for name in cvxpy_.SOLVERS}
    return [(name, None if reason is None else reason.split(" (")[0]) for name, reason in reasons.items()]


def shallow_rows(sizes: Sequence[tuple[int, int, int]] = SHALLOW) -> list[Row]:
    rows: list[Row] = []
    for h, d, m in sizes:
        network = random_network(h, d, m)
        name = f"{d}-{h}-{m}"
        certificate, own = timed(lambda n=network: certify(n))
        rows.append((name, "certnet", f"{certificate.upper:.6f}", "yes", f"{certificate.gap:.1e}", f"{own:.4f}", "1"))
        for solver, reason in generic_solvers():
            head = (name, f"CVXPY, {solver}")
            if reason is not None:
                rows.append((*head, reason))
                continue
            rows.append(entry(head, (), partial(_generic_shallow, network, solver, certificate.upper, own)))
    return rows


def _generic_shallow(network: ShallowNetwork, solver: str, upper: float, own: float) -> Row:
    found, seconds = timed(lambda: solve_lipsdp(network, solver=solver, tol=1e-8, time_limit=Patience.solver))
    proved = BoundChecker(network, found.multipliers).smallest(found.upper)
    told = "no; none from its multipliers"
    if proved is not None:
        told = f"no; certnet proves {proved:.6f} from its multipliers, {proved / upper - 1.0:+.0e}"
    status = "" if found.status.ok else f" ({found.status.name})"
    return f"{found.upper:.6f}{status}", told, "", f"{seconds:.4f}", f"{seconds / own:.0f}"


def deep_rows(cases: Sequence[tuple[int, ...]] = DEEP) -> list[Row]:
    rows: list[Row] = []
    for widths in cases:
        network = he(*widths)
        name = "-".join(map(str, widths))
        certificate, own = timed(lambda n=network: certify(n))
        below = f"{certificate.lower:.4f}"
        rows.append((name, "certnet", f"{certificate.upper:.4f}", "yes", below, f"{own:.3f}", "1"))

        def row(method: str, needs: Sequence[str], call: Callable[[], Any], head: str = name, own: float = own) -> None:
            def measure() -> Row:
                bound, seconds = timed(call)
                if bound is None:
                    return ("no result: it returns None",)
                return f"{float(bound):.4f}", "no", "", f"{seconds:.3f}", f"{seconds / own:.2g}"

            rows.append(entry((head, method), needs, measure))

        product, seconds = timed(lambda n=network: certify(n, method="product"))
        rows.append((name, "certnet, product", f"{product.upper:.4f}", "yes", "", f"{seconds:.3f}", ""))
        row("certnet, closed form", (), lambda n=network: (layer_multipliers(n) or (None, None))[1])
        row("eclipse-nn, ECLipsE-Fast", ("torch", "eclipse_nn"), partial(eclipse, network, "eclipsE_fast"))
        if sum(widths[1:-1]) > SMALL_ENOUGH:
            continue
        row("eclipse-nn, ECLipsE", ("torch", "eclipse_nn", "scs"), partial(eclipse, network, "eclipsE"))
        for solver, reason in generic_solvers():
            if reason is not None:
                rows.append((name, f"CVXPY, {solver}", reason))
                continue
            row(f"CVXPY, {solver}", (), partial(_generic_deep, network, solver))
    return rows


def _generic_deep(network: FeedForward, solver: str) -> float:
    return solve_deep(network, per="neuron", solver=solver, time_limit=Patience.solver).upper


def eclipse(network: FeedForward, module: str) -> float | None:
    """The bound of eclipse-nn for slopes in [0, 1], None where it gives none."""
    import torch

    found = importlib.import_module(f"eclipse_nn.{module}")
    estimate = found.ECLipsE_Fast if module == "eclipsE_fast" else found.ECLipsE
    weights = [torch.tensor(np.array(W)) for W in network.weights]
    bound = estimate(weights, [0.0] * network.depth, [1.0] * network.depth)
    bound = bound[0] if isinstance(bound, tuple) else bound
    return None if bound is None else float(bound)


def box_rows(widths: tuple[int, ...] = DEEP[1], radii: Sequence[float] = RADII) -> list[Row]:
    """One output; both norms of the inputs. A first box, of another radius, is for compiling."""
    network = he(*widths)
    centre = np.random.default_rng(1).standard_normal(widths[0])
    rows: list[Row] = []
    for radius in radii:
        box = Box(centre - radius, centre + radius)
        for norm in ("l2", "linf"):
            head = ("-".join(map(str, widths)), f"{radius:g}", norm)
            certificate, own = timed(lambda b=box, n=norm: certify(network, region=b, norm=n))
            below = f"{certificate.lower:.4f}"
            rows.append((*head, "certnet", f"{certificate.upper:.4f}", "yes", below, f"{own:.3f}", "1"))

            def measure(norm: str = norm, radius: float = radius, own: float = own) -> Row:
                bound, seconds = timed(lambda: lirpa(network, centre, radius, norm))
                return f"{bound:.4f}", "no", "", f"{seconds:.3f}", f"{seconds / own:.0f}"

            rows.append(entry((*head, "auto_LiRPA"), ("torch", "auto_LiRPA"), measure))
    return rows


def lirpa(network: FeedForward, centre: np.ndarray, radius: float, norm: str) -> float:
    """The bound of auto_LiRPA on the gradient's dual norm in the box, optimised CROWN, in float32."""
    import torch
    from auto_LiRPA import BoundedModule, BoundedTensor  # type: ignore[import-not-found, unused-ignore]
    from auto_LiRPA.jacobian import GradNorm, JacobianOP  # type: ignore[import-not-found, unused-ignore]
    from auto_LiRPA.perturbations import PerturbationLpNorm  # type: ignore[import-not-found, unused-ignore]

    class Slope(torch.nn.Module):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model, self.size = model, GradNorm(norm=2 if norm == "l2" else 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            size: torch.Tensor = self.size(JacobianOP.apply(self.model(x), x))
            return size

    x = torch.tensor(centre[None], dtype=torch.float32)
    bounded = BoundedModule(Slope(to_torch(network).float()), x, bound_opts={}, device="cpu")
    around = BoundedTensor(x, PerturbationLpNorm(norm=np.inf, eps=radius))
    found = float(bounded.compute_jacobian_bounds(around, bound_lower=False)[1])
    return found**0.5 if norm == "l2" else found  # GradNorm(2) is the square


# ------------------------------------------------------------------------------------------------------ convex training


def with_ones(X: np.ndarray) -> np.ndarray:
    """(x, 1): scnn has no biases of its own for networks of ReLU."""
    return np.hstack([X, np.ones((len(X), 1))])


def size_and_error(network: ShallowNetwork, X: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """``mse + λ (‖W‖² + ‖b‖² + ‖V‖²)`` and the mse."""
    mse = mean_squared_error(network, X, y)
    return mse + WEIGHT * float(np.sum(network.W**2) + np.sum(network.b**2) + np.sum(network.V**2)), mse


def convex_rows(X: np.ndarray, y: np.ndarray, n_patterns: int = 50) -> list[Row]:
    """One program for all: ``mse + 2 λ Σ_j ‖u_j‖`` over the cells of random gates, each with both signs."""
    gates = np.random.default_rng(0).standard_normal((X.shape[1] + 1, n_patterns))
    network = ShallowNetwork(
        np.vstack([gates[:-1].T] * 2),
        np.tile(gates[-1], 2),
        np.concatenate([np.ones(n_patterns), -np.ones(n_patterns)]),
        0.0,
    )
    cell = whole_cell(network)
    program = Restriction.of(cell, X, y[:, None], NormPenalty(), Weighted(WEIGHT))
    own, seconds = timed(lambda: InteriorPoint(TOL).solve(program, start=cell.point))
    scale = seconds
    free, none = "free", "none"
    gap = f"{(own.value - own.lower) / own.value:.1e}, proved by its dual point"
    rows: list[Row] = [("certnet", free, f"{own.value:.6f}", gap, f"{seconds:.3f}", "1")]

    def conic() -> Row:
        found, seconds = timed(lambda: ConicSolver("CLARABEL", TOL).solve(program))
        above = f"{(found.value - own.lower) / found.value:.1e}, by certnet's dual point"
        return f"{found.value:.6f}", above, f"{seconds:.3f}", f"{seconds / scale:.0f}"

    rows.append(entry(("CVXPY, CLARABEL", free), ("cvxpy", "clarabel"), conic))
    least: list[float] = []

    def plain() -> Row:
        value, seconds = timed(lambda: _without_bias(X, y, gates))
        least.append(value)
        return f"{value:.6f}", "", f"{seconds:.3f}", f"{seconds / scale:.0f}"

    rows.append(entry(("CVXPY, CLARABEL", none), ("cvxpy", "clarabel"), plain))

    def augmented() -> Row:
        network, seconds = timed(lambda: scnn_network(X, y, gates))
        value = size_and_error(network, X, y)[0]
        above = f"{(value - least[0]) / value:.1e}, by Clarabel's value" if least else ""
        return f"{value:.6f}", above, f"{seconds:.3f}", f"{seconds / scale:.0f}"

    rows.append(entry(("scnn, augmented Lagrangian", none), ("torch", "scnn"), augmented))
    return rows


def _without_bias(X: np.ndarray, y: np.ndarray, gates: np.ndarray) -> float:
    """scnn's program, as CVXPY takes it."""
    import cvxpy as cp

    A = with_ones(X)
    active = (A @ gates > 0.0).astype(float)
    U = [cp.Variable((gates.shape[1], A.shape[1])) for _ in range(2)]
    fit = sum(sign * cp.sum(cp.multiply(active, A @ u.T), axis=1) for sign, u in zip((1.0, -1.0), U))
    size = sum(cp.sum(cp.norm(u, 2, axis=1)) for u in U)
    cells = [cp.multiply(2.0 * active - 1.0, A @ u.T) >= 0.0 for u in U]
    problem = cp.Problem(cp.Minimize(cp.sum_squares(fit - y) / len(y) + 2.0 * WEIGHT * size), cells)
    problem.solve(solver="CLARABEL")
    return float(problem.value)


def scnn_network(X: np.ndarray, y: np.ndarray, gates: np.ndarray) -> ShallowNetwork:
    """What scnn makes of its convex program, as a network of ReLU."""
    from scnn.metrics import Metrics  # type: ignore[import-not-found, unused-ignore]
    from scnn.models import ConvexReLU  # type: ignore[import-not-found, unused-ignore]
    from scnn.optimize import optimize_model  # type: ignore[import-not-found, unused-ignore]
    from scnn.regularizers import NeuronGL1  # type: ignore[import-not-found, unused-ignore]
    from scnn.solvers import AL  # type: ignore[import-not-found, unused-ignore]

    model = ConvexReLU(gates)
    found, _ = optimize_model(
        model,
        AL(model),
        Metrics(),
        with_ones(X),
        y[:, None],
        regularizer=NeuronGL1(WEIGHT),
        unitize_data=False,
        dtype="float64",
    )
    W, V = (np.asarray(p, dtype=float) for p in found.parameters)
    return ShallowNetwork(W[:, :-1], W[:, -1], V, 0.0)


def regressor_rows(data: Dataset) -> list[Row]:
    rows: list[Row] = []

    def row(name: str, needs: Sequence[str], fit: Callable[[], Any]) -> None:
        def measure() -> Row:
            network, seconds = timed(fit)
            return (*_errors(network, data), f"{seconds:.2f}")

        rows.append(entry((name,), needs, measure))

    start = start_network(data)
    row("scikit-learn, MLPRegressor", ("sklearn",), lambda: start_network(data))
    row("certnet.refine of it", (), lambda: refine(start, data.X_train, data.y_train, WEIGHT).network)
    row("certnet.CertifiedRegressor", (), lambda: CertifiedRegressor().fit(data.X_train, data.y_train).network_)
    gates = np.random.default_rng(0).standard_normal((data.X_train.shape[1] + 1, 50))
    row("scnn, ReLU, 50 gates", ("torch", "scnn"), lambda: scnn_network(data.X_train, data.y_train, gates))
    return rows


def _errors(network: Network, data: Dataset) -> Row:
    train, test = (
        mean_squared_error(network, X, y) for X, y in ((data.X_train, data.y_train), (data.X_test, data.y_test))
    )
    return f"{train:.4f}", f"{test:.4f}", f"{certify(network).upper:.4f}"


# --------------------------------------------------------------------------------------------------------------- lifted


def lifted_network(d: int, width: int, seed: int = 0) -> LiftedNetwork:
    rng = np.random.default_rng(seed)
    sizes = (d, width, width, 10)
    return LiftedNetwork(
        [rng.standard_normal((b, a)) / np.sqrt(a) for a, b in pairwise(sizes)],
        [0.1 * rng.standard_normal(b) for b in sizes[1:]],
        [0.1 * rng.standard_normal(a) for a in sizes[:-1]],
        beta=[1.0, 1.0, 0.0],
        gamma=1 / 8,
        units=["relu", "relu", "linear"],
    )


def lifted_rows(net: LiftedNetwork, X: np.ndarray, tol: float = TOL) -> list[Row]:
    problem, q = posed(net, X)
    own = solver_named("coordinate_descent")
    scale: list[float] = []

    def measure(run: Callable[[], np.ndarray]) -> Row:
        z, seconds = timed(run)
        scale.append(seconds)
        residual = natural_residual(problem, q, z)
        each = f"{1e6 * seconds / len(X):.1f}"
        return f"{residual.max():.1e}", str(int((residual > tol).sum())), each, f"{seconds / scale[0]:.1f}"

    rows = [entry(("certnet, coordinate descent",), (), lambda: measure(lambda: own(problem, q, None, Limits(tol))))]
    infer = partial(net.infer, X, tol=tol, threads=1)
    rows.append(entry(("certnet, infer (with residuals and gaps)",), (), lambda: measure(lambda: infer().stacked)))

    def osqp() -> Row:
        run, name = lifted.best_osqp(problem, q, tol, tried=len(q))
        return (*measure(lambda: run(q)), name)

    def daqp() -> Row:
        run = lifted.daqp_solver(problem, q)
        return measure(lambda: run(q))

    def conic() -> Row:
        for eps in (tol**1.5, tol**2, tol**2.5):  # until the points have the residual
            if natural_residual(problem, q, clarabel_points(problem, q, eps)).max() <= tol:
                break
        return (*measure(lambda: clarabel_points(problem, q, eps)), f"tolerances {eps:.0e}")

    rows.append(entry(("OSQP",), ("osqp",), osqp))
    rows.append(entry(("DAQP",), ("daqp",), daqp))
    rows.append(entry(("Clarabel",), ("clarabel",), conic))
    return rows


def clarabel_points(problem: BoxQP, q: np.ndarray, eps: float) -> np.ndarray:
    """Each sample from the start: an interior point takes none."""
    import clarabel
    import scipy.sparse

    H = scipy.sparse.csc_matrix(np.triu(problem.H))
    identity = scipy.sparse.identity(problem.n, format="csr")
    low, high = np.isfinite(problem.lower), np.isfinite(problem.upper)
    A = scipy.sparse.vstack([-identity[low], identity[high]]).tocsc()
    b = np.concatenate([-problem.lower[low], problem.upper[high]])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = eps
    cones = [clarabel.NonnegativeConeT(len(b))]
    z = [np.array(clarabel.DefaultSolver(H, -row, A, b, cones, settings).solve().x) for row in q]
    return np.clip(np.stack(z), problem.lower, problem.upper)


# ------------------------------------------------------------------------------------------------------ limits of slope


def limited_rows(data: Dataset, limits: Sequence[float] = (1.0,), steps: int = 400) -> list[Row]:
    rows: list[Row] = []
    start = start_network(data)
    for limit in limits:
        head = f"{limit:g}"

        def own(limit: float = limit) -> Row:
            done, seconds = timed(lambda: refine(start, data.X_train, data.y_train, target_lipschitz=limit))
            return (*_errors(done.network, data), f"{seconds:.2f}")

        rows.append(entry((head, "certnet.refine of MLPRegressor"), (), own))
        for kind, sorts in (("ReLU", False), ("GroupSort2", True)):

            def other(limit: float = limit, sorts: bool = sorts) -> Row:
                network, seconds = timed(lambda: deel_network(data, limit, sorts_pairs=sorts, steps=steps))
                return (*_errors(network, data), f"{seconds:.2f}")

            rows.append(entry((head, f"deel-torchlip, {kind}"), ("torch", "deel"), other))
    return rows


def deel_network(data: Dataset, limit: float, *, sorts_pairs: bool, steps: int, hidden: int = 100) -> FeedForward:
    """deel-torchlip's layers, its factor for the limit, Adam on all rows; exported, and as a network of ReLU."""
    import opponents
    import torch
    from deel import torchlip as lip  # type: ignore[import-not-found, unused-ignore]

    torch.set_num_threads(1)
    d = data.X_train.shape[1]
    X, y = (torch.tensor(a, dtype=torch.float64) for a in (data.X_train, data.y_train))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        between = lip.GroupSort2() if sorts_pairs else torch.nn.ReLU()
        model = lip.Sequential(
            lip.SpectralLinear(d, hidden), between, lip.FrobeniusLinear(hidden, 1), k_coef_lip=limit
        ).double()
        adam = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(steps):
            adam.zero_grad()
            (model(X)[:, 0] - y).square().mean().backward()
            adam.step()
    model.eval()
    exported = model.vanilla_export()
    layers = [(m.weight.detach()[None], m.bias.detach()[None]) for m in exported if isinstance(m, torch.nn.Linear)]
    with torch.no_grad():
        outputs = model(X)[:, 0].numpy()

    class Exported(opponents.Chains):
        pairs_sorted = sorts_pairs

        def layers(self) -> opponents.Layers:
            return layers

        def rated(self, rates: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
            return []

    network = opponents.plain(Exported(), layers, 0)
    if not np.allclose(np.ravel(network.predict(data.X_train)), outputs, atol=1e-9):
        raise ValueError("the exported network is another one than deel-torchlip's")
    return network


# ----------------------------------------------------------------------------------------------------------------- main


def servo() -> Dataset:
    return load_dataset("servo")


def digits() -> np.ndarray:
    from sklearn.datasets import load_digits

    return np.asarray(load_digits().data[:40], dtype=float) / 16.0


TABLES: Final[dict[str, tuple[Row, Callable[[], list[Row]]]]] = {
    "shallow": (("network", "by", "L at most", "proof", "gap", "CPU s", "times certnet"), shallow_rows),
    "deep": (("network", "by", "L at most", "proof", "L at least", "CPU s", "times certnet"), deep_rows),
    "box": (
        ("network", "radius", "norm", "by", "L at most", "proof", "L at least", "CPU s", "times certnet"),
        box_rows,
    ),
    "convex": (
        ("by", "output bias", "objective", "above the optimum by at most", "CPU s", "times certnet"),
        lambda: convex_rows(servo().X_train, servo().y_train),
    ),
    "regressors": (("by", "training error", "test error", "L proved", "CPU s"), lambda: regressor_rows(servo())),
    "lifted": (
        ("by", "largest residual", "missed", "µs per sample", "times the first", "settings"),
        lambda: lifted_rows(lifted_network(64, 64), digits()),
    ),
    "limited": (
        ("limit", "by", "training error", "test error", "L proved", "CPU s"),
        lambda: limited_rows(servo()),
    ),
}


def placed(page: str, name: str, text: str) -> str:
    """The page with ``text`` between the comments ``<!-- compare.py: name -->`` and ``<!-- end -->``."""
    begin, end = f"<!-- compare.py: {name} -->\n", "<!-- end -->"
    before, found, rest = page.partition(begin)
    if not found or end not in rest:
        raise SystemExit(f"the page has no place for the table {name}: {begin.strip()} … {end}")
    return f"{before}{begin}{text.strip()}\n{end}{rest.partition(end)[2]}"


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=TABLES, default=list(TABLES), metavar="TABLE", help=", ".join(TABLES)
    )
    parser.add_argument("--page", type=Path, help="a page that is given the tables, each at its place")
    parser.add_argument(
        "--limit", type=float, default=Patience.solver, help="seconds by the clock for each generic solve"
    )
    parser.add_argument(
        "--patience", type=float, default=Patience.repeats, help="CPU seconds of a first run that three follow"
    )
    arguments = parser.parse_args(given)
    Patience.solver, Patience.repeats = arguments.limit, arguments.patience
    if why_missing("torch") is None:
        import torch

        torch.set_num_threads(1)
    about = f"{machine()}; {versions()}"
    print(about, flush=True)
    logging.disable(logging.INFO)  # auto_LiRPA has the root logger write
    for name in arguments.only:
        head, rows = TABLES[name]
        text = table(head, rows())
        print(f"\n{text}", flush=True)
        if arguments.page is not None:
            page = placed(arguments.page.read_text(), name, text)
            arguments.page.write_text(placed(page, f"machine of {name}", f"{about}."))


if __name__ == "__main__":
    main()
