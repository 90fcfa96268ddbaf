"""``certnet lifted infer``."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from certnet.cli.choices import BoxSolver
from certnet.cli.lifted_model import Model, Net, read_model
from certnet.cli.outputs import require_apart
from certnet.cli.samples import (
    Categorical,
    Data,
    Decimal,
    Drop,
    Encoding,
    Grey,
    Labels,
    Limit,
    NoHeader,
    Part,
    Sep,
    Source,
    Target,
    one_part,
)
from certnet.cli.terminal import Force, Json, interruptible, print_json, print_table, say, working
from certnet.core.errors import OutputError
from certnet.core.files import check_writable, write_atomic

if TYPE_CHECKING:
    from certnet.lifted import Inference

__all__ = ["infer_command"]


def infer_command(
    net: Net,
    data: Data,
    out: Annotated[
        Path | None, typer.Option(help="Write activations, energies, residuals and statuses here: .npz or .csv.")
    ] = None,
    solver: Annotated[
        BoxSolver, typer.Option(help="`certnet doctor` tells which are usable.", case_sensitive=False)
    ] = "coordinate_descent",
    tol: Annotated[float, typer.Option(help="Natural residual to reach.")] = 1e-6,
    passes: Annotated[int | None, typer.Option(help="Exactly so many passes, as in the papers; nothing more.")] = None,
    threads: Annotated[int | None, typer.Option(help="All cores by default.", min=1)] = None,
    part: Part = "test",
    target: Target = None,
    drop: Drop = None,
    labels: Labels = None,
    grey: Grey = False,
    sep: Sep = ",",
    decimal: Decimal = ".",
    encoding: Encoding = "utf-8",
    no_header: NoHeader = False,
    categorical: Categorical = None,
    limit: Limit = None,
    seed: Annotated[int, typer.Option(help="Of the samples drawn for --limit.", min=0)] = 0,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Activations of the samples of DATA by the network NET; exit code 3 if some did not converge."""
    if out is not None:
        check_writable(out, force=force)
        if out.suffix.lower() not in (".npz", ".csv"):
            raise OutputError(f"{out} has the suffix {out.suffix!r}: name an .npz or a .csv file")
    require_apart({"--out": out}, {"NET": net, "DATA": data, "--labels": labels})
    model = read_model(net)
    source = Source(
        data, target, tuple(drop or ()), labels, grey, sep, decimal, encoding, no_header, tuple(categorical or ())
    )
    samples = one_part(source, part).drawn(limit, seed)
    X = model.inputs(samples.X, source)
    begin = time.perf_counter()
    with working(f"inferring {len(X)} samples by {solver}"):
        found = interruptible(lambda: model.network.infer(X, solver=solver, tol=tol, passes=passes, threads=threads))
    told = {"samples": len(X), "solver": solver, "tol": tol, "seconds": time.perf_counter() - begin}
    told |= _summary(found) | _judged(model, found, samples.y)
    if out is not None:
        write_atomic(out, _written(model, found, out.suffix.lower()), force=force)
    if as_json:
        print_json({**told, "out": None if out is None else str(out)})
    else:
        _say_inference(found, told)
        if out is not None:
            say(f"written to {out}")
    if not found.converged.all():
        raise typer.Exit(3)


def _summary(found: Inference) -> dict[str, Any]:
    names = [status.name for status in found.status]
    return {
        "statuses": {name: names.count(name) for name in dict.fromkeys(names)},
        "worst_residual": float(found.residual.max(initial=0.0)),
        "mean_energy": float(found.energy.mean()),
    }


def _predicted(model: Model, found: Inference) -> NDArray[Any] | None:
    """Labels, where there are several outputs to choose from and the outputs are what decides."""
    if not model.classifies:
        return None
    best = found.output.argmax(axis=1)
    return best if model.classes is None else np.asarray(model.classes)[best]


def _judged(model: Model, found: Inference, y: NDArray[Any] | None) -> dict[str, Any]:
    """Accuracy or squared error, where there is something to compare with."""
    predicted = _predicted(model, found)
    if y is None or (predicted is None and (model.kind not in (None, "LiftedRegressor") or found.output.shape[1] > 1)):
        return {}
    if predicted is None:
        return {"mse": float(np.mean((model.outputs(found.output)[:, 0] - y) ** 2))}
    return {"accuracy": float(np.mean(predicted == y))}


def _say_inference(found: Inference, told: dict[str, Any]) -> None:
    rows: list[tuple[str, ...]] = [("status", "samples", "largest residual", "mean energy")]
    for name, count in told["statuses"].items():
        chosen = np.array([status.name == name for status in found.status])
        rows.append((name, str(count), f"{found.residual[chosen].max():.1e}", f"{found.energy[chosen].mean():.6g}"))
    print_table(rows)
    for status in dict.fromkeys(found.status):
        if not status.ok:
            say(f"{status.name}: {status.advice}")
    for name in ("accuracy", "mse"):
        if name in told:
            say(f"{name}: {told[name]:.6g}")
    say(f"{told['samples']} samples by {told['solver']} in {told['seconds']:.3g} s")


def _written(model: Model, found: Inference, suffix: str) -> bytes | str:
    columns: dict[str, Any] = {f"z{k}": z for k, z in enumerate(found.activations, 1)}
    columns["output"] = model.outputs(found.output)
    predicted = _predicted(model, found)
    if predicted is not None:
        columns["predicted"] = predicted
    columns |= {"energy": found.energy, "residual": found.residual, "error_bound": found.error_bound}
    columns["status"] = np.array([status.name for status in found.status])
    if suffix == ".npz":
        buffer = io.BytesIO()
        np.savez(buffer, **columns)
        return buffer.getvalue()
    return _table(columns)


def _table(columns: dict[str, Any]) -> str:
    """CSV with a row per sample; a matrix has a column for each of its own."""
    names, values = [], []
    for name, array in columns.items():
        several = array.ndim == 2
        names += [f"{name}_{j}" for j in range(array.shape[1])] if several else [name]
        values += list(array.T) if several else [array]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(zip(*(value.tolist() for value in values)))
    return text.getvalue()
