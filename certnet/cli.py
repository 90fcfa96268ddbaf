"""The command line: reads files, calls the package, prints; exit codes in ``certnet --help``."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import certnet
from certnet.backends import cvxpy_
from certnet.certify import Certificate, Verdict, certify, certify_outputs, meaning
from certnet.digits import above, below
from certnet.errors import (
    CertificateError,
    CertnetError,
    CertnetWarning,
    FileFormatError,
    InvalidInputError,
    OutputError,
    SolverError,
)
from certnet.files import check_writable
from certnet.io import SUFFIXES, WITHOUT_UNITS, load_model, save_model
from certnet.network import ShallowNetwork
from certnet.validation import Float

if TYPE_CHECKING:
    from certnet.restrict import RefineResult

__all__ = ["app", "main"]

app = typer.Typer(
    name="certnet",
    help="Refine pretrained one-hidden-layer ReLU regressors and certify their Lipschitz constants.\n\n"
    "Exit codes: 0 success, 1 a certificate does not hold, 2 bad input or usage, 3 a solver failed or is missing, "
    "130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_PATIENCE = 20.0  # seconds that interrupted work has to hand over what it has

_out = Console()
_err = Console(stderr=True)

T = TypeVar("T")
Model = Annotated[Path, typer.Argument(help="Network: .npz (certnet), .onnx, or .pt/.pth (torch state dict).")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")]
Solver = Annotated[
    str, typer.Option(help="auto (certnet's own), CERTNET, CLARABEL, SCS or MOSEK (see `certnet doctor`).")
]


@contextmanager
def _working(stage: str) -> Iterator[Any]:
    """A spinner with the stage's name, on the terminal only."""
    if not _err.is_terminal:
        yield lambda text: None
        return
    with _err.status(stage) as status:
        yield lambda text: status.update(text)


class _Interrupted(CertnetError):
    """Ctrl-C while a solver runs in its thread."""


def _interruptible(work: Callable[[], T], stop: threading.Event | None = None) -> T:
    """``work()`` in a thread, so that Ctrl-C is heard while a compiled solver runs.

    With ``stop``, which the work heeds, it is set first, and what the work then gives is returned if it comes soon.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again below
            failure.append(error)
        finally:
            done.set()

    # an event, because an interrupted Thread.join takes a running thread for a finished one
    done = threading.Event()
    threading.Thread(target=run, daemon=True).start()
    try:
        while not done.wait(0.1):
            pass
    except KeyboardInterrupt as error:
        if stop is not None:
            stop.set()
            with suppress(KeyboardInterrupt):
                done.wait(_PATIENCE)
        if not outcome:
            raise _Interrupted("interrupted: files are complete or absent") from error
    if failure:
        raise failure[0]
    return outcome[0]


def _print_json(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data, indent=1) + "\n")


def _say(text: str) -> None:
    _out.print(text, highlight=False, markup=False, soft_wrap=True)


def _print_table(rows: list[tuple[str, ...]], *, numbers: bool = True) -> None:
    head, *body = rows
    grid = Table(*head)
    for column in grid.columns[1:]:
        column.justify = "right" if numbers else "left"
    for row in body:
        grid.add_row(*map(escape, row))
    _out.print(grid)


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"certnet {certnet.__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every step to standard error.")] = False,
) -> None:
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)


@app.command("certify")
def certify_command(
    model: Model,
    out: Annotated[Path | None, typer.Option(help="Write the certificate here (JSON).")] = None,
    tol: Annotated[float, typer.Option(help="Relative gap at which the search stops.")] = 1e-6,
    norm: Annotated[str, typer.Option(help="Norm of the inputs: l2, or linf (one hidden layer, one output).")] = "l2",
    exact: Annotated[
        bool, typer.Option("--exact", help="Close the bracket by branch and bound (one hidden layer, l2).")
    ] = False,
    time_limit: Annotated[float, typer.Option(help="Seconds for --exact; the best bracket is kept.")] = 60.0,
    output: Annotated[
        list[int] | None,
        typer.Option(help="Index of one output from 0; given twice, the difference of the two.", min=0),
    ] = None,
    each: Annotated[
        str | None, typer.Option(help="Bounds of all outputs (outputs) or of all differences (differences).")
    ] = None,
    method: Annotated[str, typer.Option(help="auto, shallow, neuron, layer, composition or product.")] = "auto",
    solver: Annotated[str, typer.Option(help="auto (own search), CLARABEL, SCS or MOSEK.")] = "auto",
    form: Annotated[str, typer.Option(help="LMI given to a named solver: arrow or dense.")] = "arrow",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Bracket the Lipschitz constant of MODEL: a proved upper bound, a proved lower one."""
    if each not in (None, "outputs", "differences"):
        raise InvalidInputError(f"--each takes outputs or differences, got {each!r}")
    if each is not None and (output or out is not None):
        raise InvalidInputError("--each prints a table of bounds: leave out --output and --out")
    if out is not None:
        check_writable(out, force=force)
    network = load_model(model)
    options: dict[str, Any] = {
        "tol": tol,
        "norm": norm,
        "exact": exact,
        "time_limit": time_limit,
        "method": method,
        "solver": solver,
        "form": form,
    }
    with _working(f"certifying {network!r}"):
        if each is not None:
            several = _interruptible(lambda: certify_outputs(network, differences=each == "differences", **options))
        else:
            chosen = tuple(output) if output else None
            certificate = _interruptible(lambda: certify(network, output=chosen, **options))  # type: ignore[arg-type]
    if each is not None:
        _print_each(several, as_json=as_json)
        return
    begin = time.perf_counter()
    verdict = certificate.check(network)
    spent = time.perf_counter() - begin
    if not verdict:
        raise CertificateError(verdict.reason)
    if out is not None:
        certificate.save(out, force=force)
    if as_json:
        _print_json(json.loads(certificate.to_json()))
        return
    _say(f"{below(certificate.lower)} <= L <= {above(certificate.upper)}")
    _say(meaning(certificate))
    for name, value in certificate.cheaper.items():
        _say(f"  for comparison, {name}: {above(value)}")
    gap = "" if certificate.gap == float("inf") else f", gap {certificate.gap:.1e}"
    _say(f"by {certificate.method} ({certificate.kind}){gap}, {certificate.seconds:.3f} s")
    _say(f"proved again in {spent:.4f} s")
    if out is not None:
        _say(f"certificate written to {out}")


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _print_each(certificates: dict[tuple[int, ...], Certificate], *, as_json: bool) -> None:
    if as_json:
        _print_json({"-".join(map(str, key)): json.loads(cert.to_json()) for key, cert in certificates.items()})
        return
    rows: list[tuple[str, ...]] = [("output", "L at least", "L at most", "s")]
    for key, cert in certificates.items():
        name = " minus ".join(map(str, key))
        rows.append((name, below(cert.lower), above(cert.upper), f"{cert.seconds:.3f}"))
    _print_table(rows)


@app.command("refine")
def refine_command(
    model: Model,
    data: Annotated[Path, typer.Option(help="CSV with a header row, plain or .gz.")],
    target: Annotated[str, typer.Option(help="Column of the CSV to predict; the others are the inputs, in order.")],
    out: Annotated[Path, typer.Option(help="Where the refined network goes: .npz, .onnx, .pt or .pth.")],
    weight: Annotated[float, typer.Option(help="Weight of the squared Lipschitz constant.")] = 0.01,
    target_lipschitz: Annotated[
        float | None, typer.Option(help="Instead of a weight: best fit with a certified constant of at most this.")
    ] = None,
    max_mse: Annotated[
        float | None, typer.Option(help="Instead of a weight: least certified constant with at most this error.")
    ] = None,
    cells: Annotated[int, typer.Option(help="Activation cells that may be visited; 1 is the model's own.")] = 1,
    certificate: Annotated[
        Path | None,
        typer.Option(help="Where its certificate goes; by default beside OUT, with the suffix .certificate.json."),
    ] = None,
    standardise: Annotated[
        bool,
        typer.Option(
            "--standardise/--no-standardise",
            help="State the objective in units standardised by the data, so that WEIGHT means the same for any units.",
        ),
    ] = False,
    drop: Annotated[list[str] | None, typer.Option(help="Column to leave out; may be repeated.")] = None,
    method: Annotated[str, typer.Option(help="joint or alternating.")] = "joint",
    penalty: Annotated[str, typer.Option(help="lipschitz or l2.")] = "lipschitz",
    solver: Solver = "auto",
    optimality_gap: Annotated[
        bool, typer.Option("--optimality-gap", help="Also bound the objective of every function from below.")
    ] = False,
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds for the solver; building its program comes on top. None by default.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Refine MODEL on a table: never worse on the regularised objective, with a certificate."""
    from certnet.data import load_table
    from certnet.restrict import mean_squared_error

    proof = certificate if certificate is not None else out.with_suffix(".certificate.json")
    for path in (out, proof):
        check_writable(path, force=force)
    if out.suffix.lower() not in SUFFIXES:
        raise OutputError(f"{out} has the suffix {out.suffix!r}: name a file with {', '.join(SUFFIXES)}")
    loaded = load_model(model)
    network = loaded if isinstance(loaded, ShallowNetwork) else loaded.shallow()
    if out.suffix.lower() in WITHOUT_UNITS:
        network = network.labelled("as given")  # the file will know no units, and the certificate must fit it
    X, y, names = load_table(data, target, drop=tuple(drop or ()))
    spread = float(np.var(y))
    if standardise and (target_lipschitz is not None or max_mse is not None or optimality_gap):
        raise InvalidInputError(
            "--target-lipschitz, --max-mse and --optimality-gap speak of the model's own units: leave out --standardise"
        )
    stop = threading.Event()
    options: dict[str, Any] = {
        "method": method,
        "penalty": penalty,
        "solver": solver,
        "cells": cells,
        "time_limit": time_limit,
    }
    if not standardise:
        options |= {
            "target_lipschitz": target_lipschitz,
            "max_mse": max_mse,
            "optimality_gap": optimality_gap,
            "should_stop": stop.is_set,
        }
    with _working(f"refining {network!r} on {len(y)} rows and the inputs {', '.join(names)}"):
        done, result, claim = _interruptible(
            lambda: _refined(network, X, y, weight, standardise, options),
            stop if not standardise and solver.upper() in ("AUTO", "CERTNET") else None,
        )
    if mean_squared_error(network, X, y) > 4.0 * spread > 0.0:
        _warn("the model's error on this table is far above the variance of the target: check columns and units")
    save_model(result, out, force=force)
    claim.save(proof, force=force)
    after = mean_squared_error(result, X, y)
    if as_json:
        _print_json(
            {
                "improved": done.improved,
                "status": done.status.name,
                "advice": done.status.advice,
                "weight": weight,
                "objective_units": "standardised" if standardise else network.units,
                "objective_before": _finite(done.objective_before),
                "objective_after": _finite(done.objective_after),
                "units": result.units,
                "lipschitz_upper_before": certify(network).upper,
                "lipschitz_upper_after": claim.upper,
                "lipschitz_lower_after": claim.lower,
                "duality_gap": _finite(done.gap),
                "floor": None if done.floor is None else done.floor.value,
                "mse_before": mean_squared_error(network, X, y),
                "mse_after": after,
                "network": str(out),
                "certificate": str(proof),
                "seconds": done.trace[-1].seconds,
            }
        )
        return
    rows: list[tuple[str, ...]] = [("stage", "objective", "train MSE", "L at most", "kept", "s")]
    for row in done.trace:
        upper = "" if row.upper != row.upper else above(row.upper, 5)
        kept = "yes" if row.accepted else "no"
        rows.append((row.stage, f"{row.objective:.6g}", f"{row.mse:.6g}", upper, kept, f"{row.seconds:.1f}"))
    _print_table(rows)
    if standardise:
        _say("the table is in units standardised by the data; network and certificate are in the model's own")
    gap = f" (duality gap {done.gap:.1e})" if done.gap == done.gap else ""
    _say(f"{done.status.name}: {done.status.advice}{gap}")
    if done.floor is not None:
        _say(
            f"no function, of any width or depth, has an objective below {below(done.floor.value)}: "
            f"{above(done.optimality_gap, 3)} less"
        )
    if not done.improved:
        _say("not improved: the network that is written is the input")
    _say(meaning(claim))
    _say(f"network written to {out}, certificate to {proof}")
    if stop.is_set():
        raise _Interrupted("interrupted: what was written is the best network so far")


def _refined(
    network: ShallowNetwork, X: Float, y: Float, weight: float, standardise: bool, options: dict[str, Any]
) -> tuple[RefineResult, ShallowNetwork, Certificate]:
    """The refinement, its network and certificate in the model's own units."""
    from certnet.restrict import refine

    if not standardise:
        done = refine(network, X, y, weight, **options)
        return done, done.network, done.certificate
    from certnet.estimators import CertifiedRegressor

    fitted = CertifiedRegressor(network, weight=weight, random_state=0, **options).fit(X, y)
    return fitted.refinement_, fitted.network_, fitted.certificate_


@app.command("check")
def check_command(
    certificate: Annotated[Path, typer.Argument(help="Certificate (JSON).")], model: Model, as_json: Json = False
) -> None:
    """Check CERTIFICATE against MODEL from the data alone: exit 0 if it holds, 1 and where it fails if not."""
    network = load_model(model)
    if not certificate.is_file():
        raise FileFormatError(f"{certificate} does not exist: check the path")
    claim = None
    try:
        claim = Certificate.load(certificate)
        verdict = claim.check(network)
    except FileFormatError as error:  # not even a certificate
        verdict = Verdict(False, str(error))
    if as_json:
        bracket = {} if claim is None else {"lower": claim.lower, "upper": claim.upper}
        _print_json({"holds": verdict.holds, "reason": verdict.reason, **bracket})
    elif verdict and claim is not None:
        _say(f"holds: {below(claim.lower)} <= L <= {above(claim.upper)}")
        _say(meaning(claim))
    else:
        _say(f"refused: {verdict.reason}")
    if not verdict:
        raise typer.Exit(1)


@app.command("demo")
def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out"),
    weight: Annotated[float, typer.Option(help="Weight of the squared Lipschitz constant.")] = 0.1,
    hidden: Annotated[int, typer.Option(help="Hidden units.", min=1)] = 100,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Train, certify, refine, certify, check and attack on scikit-learn's diabetes data; write a report."""
    from certnet import demo

    demo.prepare(out, force=force)
    with _working("loading") as tell:
        result = _interruptible(lambda: demo.run(weight=weight, n_hidden=hidden, progress=tell))
        files = demo.write(result, out, force=force)
    if as_json:
        _print_json(json.loads((out / "results.json").read_text()))
        return
    _print_table(result.rows())
    _say(f"diabetes data, weight {weight:g}, standardised units; both certificates were checked")
    _say("wrote " + ", ".join(str(path) for path in files))


_OPTIONAL = {"torch": "torch", "onnx": "onnx", "matplotlib": "plot", "mosek": "mosek", "dask": "dask"}


@app.command("doctor")
def doctor_command(as_json: Json = False) -> None:
    """Which solvers and optional packages are installed and usable, and why not."""
    solvers = {name: cvxpy_.why_unusable(name) for name in cvxpy_.SOLVERS}
    core = ("numpy", "scipy", "scikit-learn", "numba", "cvxpy", "clarabel", "scs", "osqp")
    packages = {name: _installed(name) for name in (*core, *_OPTIONAL)}
    home = os.environ.get("CERTNET_DATA_HOME")
    if as_json:
        system = {"python": platform.python_version(), "system": platform.platform(), "cpus": os.cpu_count()}
        _print_json(
            {
                "solvers": {name: {"usable": why is None, "reason": why} for name, why in solvers.items()},
                "packages": packages,
                "CERTNET_DATA_HOME": home,
            }
            | system
        )
    else:
        _print_table(
            [("solver", "usable"), *((name, reason or "yes") for name, reason in solvers.items())], numbers=False
        )
        rows = [("package", "version")]
        for name, found in packages.items():
            advice = f"not installed (extra {_OPTIONAL.get(name)!r})"
            rows.append((name, found or (advice if name in _OPTIONAL else "missing")))
        _print_table([*rows, ("python", platform.python_version())], numbers=False)
        _say(f"CERTNET_DATA_HOME: {home or 'not set (bundled and generated data sets only, or downloads)'}")
    if solvers[cvxpy_.SOLVERS[0]] is not None:
        raise typer.Exit(3)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    _err.print(f"warning: {message}", style="yellow", highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Run the command line; certnet's errors become one line on standard error and an exit code."""
    warnings.simplefilter("default", CertnetWarning)
    warnings.showwarning = _warn  # type: ignore[assignment]
    try:
        app()
    except _Interrupted as error:
        _err.print(str(error), style="red")
        sys.stdout.flush()
        os._exit(130)  # the solver still runs in its thread, and would be waited for
    except CertnetError as error:
        _err.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(3 if isinstance(error, SolverError) else 1 if isinstance(error, CertificateError) else 2)


if __name__ == "__main__":
    main()
