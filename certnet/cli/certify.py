"""``certnet certify`` and ``certnet check``."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from certnet.certification import Certificate, Verdict, certify, certify_outputs, meaning
from certnet.claims.families import FEED_FORWARD
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
    plain_region,
    say_region,
)
from certnet.cli.samples import Decimal, Drop, Encoding, NoHeader, Sep, Target, table_format
from certnet.cli.terminal import (
    Activation,
    BatchNormEps,
    Force,
    Json,
    Key,
    Layer,
    Model,
    interruptible,
    print_json,
    print_table,
    read_network,
    say,
    warn,
    working,
)
from certnet.core.digits import above, below
from certnet.core.errors import AlteredCertificateError, CertificateError, FileFormatError, InvalidInputError
from certnet.core.files import check_writable
from certnet.lifted import LiftedNetwork
from certnet.proofs.slopes import SlopeIntervals, holds_slopes

__all__ = ["certify_command", "check_command"]


def certify_command(
    model: Model,
    out: Annotated[Path | None, typer.Option(help="Write the certificate here (JSON).")] = None,
    tol: Annotated[float, typer.Option(help="Relative gap at which the search stops.")] = 1e-6,
    norm: Annotated[str, typer.Option(help="Norm of the inputs: l2, or linf.")] = "l2",
    exact: Annotated[
        bool, typer.Option("--exact", help="Close the bracket by branch and bound (one hidden layer, l2).")
    ] = False,
    time_limit: Annotated[
        float | None,
        typer.Option(help="Seconds for the search; the best proved bound is kept. For --exact 60 unless it is given."),
    ] = None,
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
    activation: Activation = None,
    layer: Layer = None,
    key: Key = None,
    batch_norm_eps: BatchNormEps = None,
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
        form=table_format(sep, decimal, encoding, no_header),
    )
    network = read_network(model, activation, layer, key, batch_norm_eps, quiet=as_json)
    region, names, notes = place.region(network, norm)
    for note in notes:
        warn(note)
    options: dict[str, Any] = {
        "tol": tol,
        "norm": norm,
        "region": region,
        "exact": exact,
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
            chosen = tuple(output) if output else None
            certificate = interruptible(lambda: certify(network, output=chosen, **options), stop)  # type: ignore[arg-type]
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
    gap = "" if certificate.gap == float("inf") else f", gap {certificate.gap:.1e}"
    say(f"by {certificate.method} ({certificate.kind}){gap}, {certificate.seconds:.3f} s")
    say(f"proved again in {spent:.4f} s")
    if out is not None:
        say(f"certificate written to {out}")


def _print_each(certificates: dict[tuple[int, ...], Certificate], *, as_json: bool) -> None:
    if as_json:
        print_json({"-".join(map(str, key)): json.loads(cert.to_json()) for key, cert in certificates.items()})
        return
    rows: list[tuple[str, ...]] = [("output", "L at least", "L at most", "s")]
    for key, cert in certificates.items():
        name = " minus ".join(map(str, key))
        rows.append((name, below(cert.lower), above(cert.upper), f"{cert.seconds:.3f}"))
    print_table(rows)


def check_command(
    certificate: Annotated[Path, typer.Argument(help="Certificate, or slope intervals (JSON).")],
    model: Model,
    activation: Activation = None,
    layer: Layer = None,
    key: Key = None,
    batch_norm_eps: BatchNormEps = None,
    as_json: Json = False,
) -> None:
    """Check CERTIFICATE, or slope intervals, against MODEL from the data: exit 0 if it holds, 1 if not, and why."""
    if not certificate.is_file():
        raise FileFormatError(f"{certificate} does not exist: check the path")
    claim: Certificate | SlopeIntervals | None = None
    names: Sequence[str] = ()
    try:
        claim = SlopeIntervals.load(certificate) if holds_slopes(certificate) else Certificate.load(certificate)
    except AlteredCertificateError as error:
        verdict = Verdict(False, str(error))
    else:
        if isinstance(claim, SlopeIntervals) or claim.family == FEED_FORWARD.name:
            network = read_network(model, activation, layer, key, batch_norm_eps, quiet=as_json)
            verdict, names = claim.check(network), network.about.inputs
        else:
            verdict = claim.check(LiftedNetwork.load(model))
    if as_json:
        print_json({"holds": verdict.holds, "reason": verdict.reason, **_plain(claim)})
    elif verdict and claim is not None:
        for line in _told(claim, verdict):
            say(line)
        if isinstance(claim, Certificate):
            say_region(claim.region, claim.norm, names)
        if claim.read:
            say(f"of the network read as {claim.read}")
    else:
        say(f"refused: {verdict.reason}")
    if not verdict:
        raise typer.Exit(1)


def _plain(claim: Certificate | SlopeIntervals | None) -> dict[str, Any]:
    """What a file claims, as JSON."""
    if claim is None:
        return {}
    read = {"read": claim.read} if claim.read else {}
    if isinstance(claim, Certificate):
        return {"lower": claim.lower, "upper": claim.upper, **plain_region(claim), **read}
    ends = {"lower": claim.lower.tolist(), "upper": claim.upper.tolist(), "monotone": claim.monotone.tolist()}
    return {**ends, **read}


def _told(claim: Certificate | SlopeIntervals, verdict: Verdict) -> list[str]:
    """What was proved, as text."""
    if isinstance(claim, Certificate):
        return [f"holds: {below(claim.lower)} <= L <= {above(claim.upper)}", meaning(claim)]
    return [f"holds: {verdict.reason}", *claim.sentences]
