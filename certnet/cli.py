"""The command line: reads files, calls the package, prints; exit codes in ``certnet --help``."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import certnet
from certnet.backends import cvxpy_
from certnet.certify import Certificate, certify, cheap_upper_bounds
from certnet.digits import above, below
from certnet.errors import CertificateError, CertnetError, CertnetWarning, OutputError, SolverError
from certnet.files import check_writable
from certnet.io import TORCH_SUFFIXES, load_model, save_model

__all__ = ["app", "main"]

app = typer.Typer(
    name="certnet",
    help="Refine pretrained one-hidden-layer ReLU regressors and certify their Lipschitz constants.\n\n"
    "Exit codes: 0 success, 1 a certificate does not hold, 2 bad input or usage, 3 a solver failed or is missing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_out = Console()
_err = Console(stderr=True)

Model = Annotated[Path, typer.Argument(help="Network: .npz (certnet) or .pt/.pth (torch state dict).")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")]
Solver = Annotated[str, typer.Option(help="CLARABEL, SCS or MOSEK (see `certnet doctor`).")]


@contextmanager
def _working(stage: str) -> Iterator[Any]:
    """A spinner with the stage's name, on the terminal only."""
    if not _err.is_terminal:
        yield lambda text: None
        return
    with _err.status(stage) as status:
        yield lambda text: status.update(text)


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


def _meaning(certificate: Certificate) -> str:
    return (
        f"the prediction moves by at most {above(certificate.upper, 4)} per unit of input "
        f"(l2 norm, units {certificate.units})"
    )


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
    solver: Annotated[str, typer.Option(help="auto (own search), CLARABEL, SCS or MOSEK.")] = "auto",
    form: Annotated[str, typer.Option(help="LMI given to a named solver: arrow or dense.")] = "arrow",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Bracket the Lipschitz constant of MODEL: a proved upper bound, a proved lower one."""
    if out is not None:
        check_writable(out, force=force)
    network = load_model(model)
    with _working(f"certifying {network!r}"):
        certificate = certify(network, tol=tol, solver=solver, form=form)
    if out is not None:
        certificate.save(out, force=force)
    if as_json:
        _print_json(json.loads(certificate.to_json()) | {"cheaper_upper_bounds": cheap_upper_bounds(network)})
        return
    _say(f"{below(certificate.lower)} <= L <= {above(certificate.upper)}")
    _say(_meaning(certificate))
    for name, value in cheap_upper_bounds(network).items():
        _say(f"  for comparison, {name}: {above(value)}")
    _say(f"gap of the search {certificate.gap:.1e}, {certificate.seconds:.3f} s")
    if out is not None:
        _say(f"certificate written to {out}")


@app.command("refine")
def refine_command(
    model: Model,
    data: Annotated[Path, typer.Option(help="CSV with a header row, plain or .gz.")],
    target: Annotated[str, typer.Option(help="Column of the CSV to predict; the others are the inputs, in order.")],
    out: Annotated[Path, typer.Option(help="Where the refined network goes: .npz, .pt or .pth.")],
    weight: Annotated[float, typer.Option(help="Weight of the squared Lipschitz constant.")] = 0.01,
    certificate: Annotated[
        Path | None, typer.Option(help="Where its certificate goes [default: OUT with .certificate.json].")
    ] = None,
    drop: Annotated[list[str] | None, typer.Option(help="Column to leave out; may be repeated.")] = None,
    method: Annotated[str, typer.Option(help="joint or alternating.")] = "joint",
    penalty: Annotated[str, typer.Option(help="lipschitz or l2.")] = "lipschitz",
    solver: Solver = "CLARABEL",
    time_limit: Annotated[float | None, typer.Option(help="Seconds.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Refine MODEL on a table: never worse on the regularised objective, with a certificate."""
    from certnet.data import load_table
    from certnet.restrict import refine

    proof = certificate if certificate is not None else out.with_suffix(".certificate.json")
    for path in (out, proof):
        check_writable(path, force=force)
    if out.suffix.lower() not in (".npz", *TORCH_SUFFIXES):
        raise OutputError(f"{out} has the suffix {out.suffix!r}: name a file with .npz, .pt or .pth")
    network = load_model(model)
    if out.suffix.lower() in TORCH_SUFFIXES:
        network = network.labelled("as given")  # a state dict knows no units, and the certificate must fit it
    X, y, names = load_table(data, target, drop=tuple(drop or ()))
    with _working(f"refining {network!r} on {len(y)} rows and the inputs {', '.join(names)}"):
        done = refine(network, X, y, weight, method=method, penalty=penalty, solver=solver, time_limit=time_limit)
    save_model(done.network, out, force=force)
    done.certificate.save(proof, force=force)
    if as_json:
        _print_json(
            {
                "improved": done.improved,
                "status": done.status.name,
                "advice": done.status.advice,
                "objective_before": done.objective_before,
                "objective_after": done.objective_after,
                "lipschitz_upper_before": done.certificate_before.upper,
                "lipschitz_upper_after": done.certificate.upper,
                "mse_before": done.trace[0].mse,
                "mse_after": min((row for row in done.trace if row.accepted), key=lambda row: row.objective).mse,
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
    _say(f"{done.status.name}: {done.status.advice}")
    _say(_meaning(done.certificate))
    _say(f"network written to {out}, certificate to {proof}")


@app.command("check")
def check_command(
    certificate: Annotated[Path, typer.Argument(help="Certificate (JSON).")], model: Model, as_json: Json = False
) -> None:
    """Check CERTIFICATE against MODEL from the data alone: exit 0 if it holds, 1 and where it fails if not."""
    claim = Certificate.load(certificate)
    verdict = claim.check(load_model(model))
    if as_json:
        _print_json({"holds": verdict.holds, "reason": verdict.reason, "lower": claim.lower, "upper": claim.upper})
    elif verdict:
        _say(f"holds: {below(claim.lower)} <= L <= {above(claim.upper)}")
        _say(_meaning(claim))
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
        result = demo.run(weight=weight, n_hidden=hidden, progress=tell)
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
        _print_json({"solvers": solvers, "packages": packages, "CERTNET_DATA_HOME": home} | system)
    else:
        _print_table(
            [("solver", "usable"), *((name, reason or "yes") for name, reason in solvers.items())], numbers=False
        )
        rows = [("package", "version")]
        for name, found in packages.items():
            advice = f'not installed: pip install "certnet[{_OPTIONAL.get(name)}]"'
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


def _warn(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    _err.print(f"warning: {message}", style="yellow", highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Run the command line; certnet's errors become one line on standard error and an exit code."""
    warnings.simplefilter("default", CertnetWarning)
    warnings.showwarning = _warn  # type: ignore[assignment]
    try:
        app()
    except CertnetError as error:
        _err.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(3 if isinstance(error, SolverError) else 1 if isinstance(error, CertificateError) else 2)
    except KeyboardInterrupt:
        _err.print("interrupted: nothing half-written is left", style="red")
        sys.exit(130)


if __name__ == "__main__":
    main()
