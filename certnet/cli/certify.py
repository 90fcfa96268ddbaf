"""``certnet certify``."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from certnet.certification import Certificate, certify, certify_outputs, meaning
from certnet.cli.choices import CertifyMethod, Each, Form, Norm
from certnet.cli.features import Features, refuse_others
from certnet.cli.outputs import require_apart
from certnet.cli.regions import (
    Around,
    AroundData,
    BoxFiles,
    DataOf,
    Margin,
    Place,
    Radius,
    RegionUnits,
    RowOf,
    say_region,
)
from certnet.cli.samples import Categorical, Decimal, Drop, Encoding, NoHeader, Sep, Target, table_format
from certnet.cli.terminal import (
    Activation,
    BatchNormEps,
    Force,
    Json,
    Key,
    Layer,
    Model,
    Solver,
    interruptible,
    print_json,
    print_table,
    read_network,
    say,
    warn,
    working,
)
from certnet.core.digits import above, below
from certnet.core.errors import CertificateError, InvalidInputError
from certnet.core.files import check_writable

__all__ = ["certify_command"]


def certify_command(
    model: Model,
    out: Annotated[Path | None, typer.Option(help="Write the certificate here (JSON).")] = None,
    tol: Annotated[
        float | None, typer.Option(help="Relative gap at which the search stops. By default 1e-6, for --features 1e-3.")
    ] = None,
    norm: Annotated[Norm, typer.Option(help="Norm of the inputs.", case_sensitive=False)] = "l2",
    exact: Annotated[
        bool,
        typer.Option(
            "--exact", help="Close the bracket by branch and bound, everywhere or in a region, at any depth (ReLU)."
        ),
    ] = False,
    jobs: Annotated[
        int,
        typer.Option("--n-jobs", "--jobs", help="Processes that --exact shares its work out over; -1: one per core."),
    ] = 1,
    time_limit: Annotated[
        float | None,
        typer.Option(help="Seconds for the search; the best proved bound is kept. For --exact 60 unless it is given."),
    ] = None,
    output: Annotated[
        list[int] | None,
        typer.Option(help="Index of one output from 0; given twice, the difference of the two.", min=0),
    ] = None,
    each: Annotated[
        Each | None, typer.Option(help="Bounds of all outputs, or of all differences of two.", case_sensitive=False)
    ] = None,
    features: Annotated[
        bool, typer.Option("--features", help="An interval of the slope along every input in the place of one bound.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Of --features: a picture (.png, .svg).")] = None,
    method: Annotated[
        CertifyMethod,
        typer.Option(help="How it is proved; intervals and multipliers are of --features.", case_sensitive=False),
    ] = "auto",
    solver: Solver = "auto",
    form: Annotated[
        Form, typer.Option(help="Of the matrix inequality that a named solver is given.", case_sensitive=False)
    ] = "arrow",
    device: Annotated[
        str | None, typer.Option(help="Of PyTorch, for the search of method neuron: cuda, or cpu; else NumPy.")
    ] = None,
    box: BoxFiles = None,
    around_data: AroundData = None,
    margin: Margin = None,
    around: Around = None,
    row: RowOf = None,
    radius: Radius = None,
    data: DataOf = None,
    units: RegionUnits = "model",
    target: Target = None,
    drop: Drop = None,
    sep: Sep = ",",
    decimal: Decimal = ".",
    encoding: Encoding = "utf-8",
    no_header: NoHeader = False,
    categorical: Categorical = None,
    activation: Activation = None,
    layer: Layer = None,
    key: Key = None,
    batch_norm_eps: BatchNormEps = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Bracket the Lipschitz constant of MODEL: a proved upper bound, a proved lower one."""
    if each is not None and (output or out is not None):
        raise InvalidInputError("--each prints a table of bounds: leave out --output and --out")
    if jobs != 1 and not exact:
        raise InvalidInputError("--n-jobs shares out the work of --exact: give both")
    _require_method(method, features=features)
    if solver == "CERTNET":
        solver = "auto"  # of a bound certnet's own search is the only automatic one
    chosen: Any = tuple(output) if output else None
    slopes: Features | None = None
    if features:
        named = {"exact": exact, "each": each is not None, "solver": solver != "auto", "form": form != "arrow"}
        refuse_others(named | {"device": device is not None})
        asked = {"norm": norm, "output": chosen, "method": method, "time_limit": time_limit}
        slopes = Features(asked if tol is None else asked | {"tol": tol}, out, plot, force, as_json)
    elif plot is not None:
        raise InvalidInputError("--plot is a picture of --features: give both")
    elif out is not None:
        check_writable(out, force=force)
    place = Place(
        box=box,
        around_data=around_data,
        margin=margin,
        around=around,
        radius=radius,
        row=row,
        data=data,
        units=units,
        target=() if target is None else (target,),
        drop=tuple(drop or ()),
        form=table_format(sep, decimal, encoding, no_header, categorical),
        names_inputs=features,
    )
    require_apart({"--out": out, "--plot": plot}, {"MODEL": model, **place.inputs})
    network = read_network(model, activation, layer, key, batch_norm_eps, quiet=as_json)
    region, names, notes = place.region(network, norm)
    for note in notes:
        warn(note)
    if slopes is not None:
        slopes.certify(network, region, names)
        return
    options: dict[str, Any] = {
        "tol": 1e-6 if tol is None else tol,
        "norm": norm,
        "region": region,
        "exact": exact,
        "n_jobs": jobs,
        "time_limit": time_limit,
        "method": method,
        "solver": solver,
        "form": form,
        "device": device,
    }
    stop = threading.Event()  # Ctrl-C: the best proved bound so far is what is printed
    options["should_stop"] = stop.is_set
    with working(f"certifying {network!r}"):
        if each is not None:
            several = interruptible(
                lambda: certify_outputs(network, differences=each == "differences", **options), stop
            )
        else:
            certificate = interruptible(lambda: certify(network, output=chosen, **options), stop)
    if each is not None:
        _print_each(several, as_json=as_json)
        if not as_json:
            say_region(region, norm, names)
        return
    begin = time.perf_counter()
    verdict = certificate.check(network)
    spent = time.perf_counter() - begin
    if not verdict:
        raise CertificateError(verdict.reason)
    if out is not None:
        certificate.save(out, force=force)
    if as_json:
        print_json(json.loads(certificate.to_json()))
        return
    say(f"{below(certificate.lower)} <= L <= {above(certificate.upper)}")
    say(meaning(certificate))
    say_region(region, norm, names)
    for name, value in certificate.cheaper.items():
        say(f"  for comparison, {name}: {above(value)}")
    # of the search for multipliers: the bracket, whose lower side is a slope that was found, is wider
    gap = "" if certificate.gap == float("inf") else f", search closed to {certificate.gap:.1e}"
    say(f"by {certificate.method} ({certificate.kind}){gap}, {certificate.seconds:.3f} s")
    say(f"proved again in {spent:.4f} s")
    if out is not None:
        say(f"certificate written to {out}")


def _require_method(method: str, *, features: bool) -> None:
    """Refuse a method of the other kind of answer.

    Raises
    ------
    InvalidInputError
    """
    if method != "auto" and features != (method in ("intervals", "multipliers")):
        others = "intervals or multipliers" if features else "shallow, neuron, layer, composition or product"
        said = "slopes input by input" if features else "one bound; of --features are intervals and multipliers"
        raise InvalidInputError(f"--method {method} is not of {said}: choose auto, {others}")


def _print_each(certificates: dict[tuple[int, ...], Certificate], *, as_json: bool) -> None:
    if as_json:
        print_json({"-".join(map(str, key)): json.loads(cert.to_json()) for key, cert in certificates.items()})
        return
    rows: list[tuple[str, ...]] = [("output", "L at least", "L at most", "s")]
    for key, cert in certificates.items():
        name = " minus ".join(map(str, key))
        rows.append((name, below(cert.lower), above(cert.upper), f"{cert.seconds:.3f}"))
    print_table(rows)
