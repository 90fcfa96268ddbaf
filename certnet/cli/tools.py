"""``certnet demo`` and ``certnet doctor``."""

from __future__ import annotations

import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from certnet.backends import cvxpy_
from certnet.cli.health import box_solvers, cone_solvers, own_search, system
from certnet.cli.terminal import Force, Json, interruptible, print_json, print_table, say, say_compiling, warn, working

__all__ = ["demo_command", "doctor_command"]

_OPTIONAL = {
    "torch": "torch",
    "onnx": "onnx",
    "matplotlib": "plot",
    "mosek": "mosek",
    "daqp": "qp",
    "proxsuite": "qp",
    "dask": "dask",
    "pyarrow": "parquet",
    "sphinx": "docs",
}


def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out"),
    weight: Annotated[float, typer.Option(help="Weight of the squared Lipschitz constant.")] = 0.1,
    hidden: Annotated[int, typer.Option(help="Hidden units.", min=1)] = 100,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Train, certify, refine, certify, check and attack on scikit-learn's diabetes data; write a report."""
    from certnet import demo
    from certnet.report import findings

    demo.prepare(out, force=force)
    with working("loading") as tell:
        result = interruptible(lambda: demo.run(weight=weight, n_hidden=hidden, progress=tell))
        files = demo.write(result, out, force=force)
    if as_json:
        print_json(json.loads((out / "results.json").read_text()))
        return
    print_table(result.rows())
    say(f"diabetes data, weight {weight:g}, standardised units; both certificates were checked")
    for line in findings(result.evaluations["before"], result.evaluations["after"]):
        warn(line)
    say_compiling(result.compiling)
    say("wrote " + ", ".join(str(path) for path in files))
    if len(files) < len(demo.OUTPUTS):
        say(demo.WITHOUT_PICTURES)


def doctor_command(as_json: Json = False) -> None:
    """Which solvers and optional packages are installed and usable, and why not."""
    with working("solving a tiny problem with each solver"):
        solvers, boxes = {"CERTNET": own_search()} | cone_solvers(), box_solvers()
        machine = system()
    core = ("numpy", "scipy", "scikit-learn", "numba", "cvxpy", "clarabel", "scs", "osqp")
    packages = {name: _installed(name) for name in (*core, *_OPTIONAL)}
    home = os.environ.get("CERTNET_DATA_HOME")
    if as_json:
        print_json(
            {
                "solvers": {name: {"usable": why is None, "reason": why} for name, why in solvers.items()},
                "box_solvers": {name: {"usable": why is None, "reason": why} for name, why in boxes.items()},
                "packages": packages,
                "CERTNET_DATA_HOME": home,
                "cpus": os.cpu_count(),
            }
            | machine
        )
    else:
        print_table(
            [
                ("solver", "solved a tiny problem"),
                *((name, reason or "yes") for name, reason in solvers.items()),
                *((f"{name} (lifted infer)", reason or "yes") for name, reason in boxes.items()),
            ],
            numbers=False,
        )
        rows: list[tuple[str, ...]] = [("package", "version")]
        for name, found in packages.items():
            advice = f"not installed (extra {_OPTIONAL.get(name)!r})"
            rows.append((name, found or (advice if name in _OPTIONAL else "missing")))
        print_table(rows, numbers=False)
        for what, value in machine.items():
            say(f"{what}: {value}")
        say(f"cpus: {os.cpu_count()}")
        say(f"CERTNET_DATA_HOME: {home or 'not set (bundled and generated data sets only, or downloads)'}")
    if solvers[cvxpy_.SOLVERS[0]] is not None:
        raise typer.Exit(3)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
