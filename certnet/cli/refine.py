"""``certnet refine``."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from certnet.certification import Certificate, certify, meaning
from certnet.cli.samples import Decimal, Encoding, NoHeader, Sep, table_format
from certnet.cli.terminal import (
    Activation,
    BatchNormEps,
    Force,
    Interrupted,
    Json,
    Key,
    Layer,
    Model,
    Solver,
    finite_or_none,
    interruptible,
    print_json,
    print_table,
    read_network,
    say,
    warn,
    working,
)
from certnet.core.digits import above, below
from certnet.core.errors import InvalidInputError, OutputError
from certnet.core.files import check_writable
from certnet.core.outcome import Status
from certnet.core.validation import Float
from certnet.io import SUFFIXES, WITHOUT_UNITS, save_model
from certnet.networks.shallow import ShallowNetwork, require_shallow

if TYPE_CHECKING:
    from certnet.refinement import RefineResult

__all__ = ["refine_command"]


def refine_command(
    model: Model,
    data: Annotated[Path, typer.Option(help="CSV, plain or .gz; its first line names the columns.")],
    target: Annotated[
        str, typer.Option(help="Column to predict; the others are the inputs, by name where MODEL has names.")
    ],
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
    activation: Activation = None,
    layer: Layer = None,
    key: Key = None,
    batch_norm_eps: BatchNormEps = None,
    sep: Sep = ",",
    decimal: Decimal = ".",
    encoding: Encoding = "utf-8",
    no_header: NoHeader = False,
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
    from certnet.data import load_table, table_columns
    from certnet.refinement import mean_squared_error

    proof = certificate if certificate is not None else out.with_suffix(".certificate.json")
    for path in (out, proof):
        check_writable(path, force=force)
    if out.suffix.lower() not in SUFFIXES:
        raise OutputError(f"{out} has the suffix {out.suffix!r}: name a file with {', '.join(SUFFIXES)}")
    loaded = read_network(model, activation, layer, key, batch_norm_eps, quiet=as_json)
    network = loaded if isinstance(loaded, ShallowNetwork) else loaded.shallow()
    if out.suffix.lower() in WITHOUT_UNITS:
        network = network.labelled("as given")  # the file will know no units, and the certificate must fit it
    form = table_format(sep, decimal, encoding, no_header)
    wanted = None if no_header else _matched(network.about.inputs, table_columns(data, form), data, target, drop or [])
    X, y, names = load_table(data, target, drop=tuple(drop or ()), inputs=wanted, form=form)
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
    with working(f"refining {network!r} on {len(y)} rows and the inputs {', '.join(names)}"):
        done, result, claim = interruptible(
            lambda: _refined(network, X, y, weight, standardise, options),
            stop if not standardise and solver.upper() in ("AUTO", "CERTNET") else None,
        )
    interrupted = stop.is_set() or done.status is Status.INTERRUPTED
    if interrupted and not done.improved:
        raise Interrupted("interrupted before a better network was found: nothing was written")
    if mean_squared_error(network, X, y) > 4.0 * spread > 0.0:
        warn("the model's error on this table is far above the variance of the target: check columns and units")
    result = result.described(network.about)
    save_model(result, out, force=force)
    claim.save(proof, force=force)
    after = mean_squared_error(result, X, y)
    if as_json:
        print_json(
            {
                "improved": done.improved,
                "status": done.status.name,
                "advice": done.status.advice,
                "weight": weight,
                "objective_units": "standardised" if standardise else network.units,
                "objective_before": finite_or_none(done.objective_before),
                "objective_after": finite_or_none(done.objective_after),
                "units": result.units,
                "lipschitz_upper_before": certify(network).upper,
                "lipschitz_upper_after": claim.upper,
                "lipschitz_lower_after": claim.lower,
                "duality_gap": finite_or_none(done.gap),
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
    print_table(rows)
    if standardise:
        say("the table is in units standardised by the data; network and certificate are in the model's own")
    gap = f" (duality gap {done.gap:.1e})" if done.gap == done.gap else ""
    say(f"{done.status.name}: {done.status.advice}{gap}")
    if done.floor is not None:
        say(
            f"no function, of any width or depth, has an objective below {below(done.floor.value)}: "
            f"{above(done.optimality_gap, 3)} less"
        )
    if not done.improved:
        say("not improved: the network that is written is the input")
    say(meaning(claim))
    say(f"network written to {out}, certificate to {proof}")
    if out.suffix.lower() in (".pt", ".pth"):
        say(f"such a file names no activation: certnet check {proof} {out} --activation relu")
    if interrupted:
        raise Interrupted("interrupted: what was written is the best network so far")


def _matched(
    inputs: tuple[str, ...], columns: tuple[str, ...], data: Path, target: str, drop: list[str]
) -> tuple[str, ...] | None:
    """The columns of the table that are the model's inputs, in its order; None for a model without names.

    Raises
    ------
    InvalidInputError
        A column is missing, or there is one that the model does not take.
    """
    if not inputs:
        return None
    missing = [name for name in inputs if name not in columns or name == target or name in drop]
    if missing:
        raise InvalidInputError(
            f"{data} has no input {', '.join(map(repr, missing))}, which the model takes: its inputs are "
            f"{', '.join(inputs)}, the columns are {', '.join(columns)}, of which {target!r} is the target"
        )
    extra = [name for name in columns if name not in (*inputs, target, *drop)]
    if extra:
        raise InvalidInputError(
            f"{data} has the columns {', '.join(map(repr, extra))}, which the model does not take: leave them out by "
            f"--drop; its inputs are {', '.join(inputs)}"
        )
    return inputs


def _refined(
    network: ShallowNetwork, X: Float, y: Float, weight: float, standardise: bool, options: dict[str, Any]
) -> tuple[RefineResult, ShallowNetwork, Certificate]:
    """The refinement, its network and certificate in the model's own units."""
    from certnet.refinement import refine

    if not standardise:
        done = refine(network, X, y, weight, **options)
        return done, require_shallow(done.network), done.certificate
    from certnet.estimators import CertifiedRegressor

    fitted = CertifiedRegressor(network, weight=weight, random_state=0, **options).fit(X, y)
    return fitted.refinement_, fitted.network_, fitted.certificate_
