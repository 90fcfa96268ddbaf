"""``certnet lifted``: its commands, and ``certify`` and ``filters``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
import typer

from certnet.cli.choices import LiftedMethod
from certnet.cli.commands import Command, Group
from certnet.cli.lifted_infer import infer_command
from certnet.cli.lifted_model import Model, Net, read_model
from certnet.cli.lifted_train import train_command
from certnet.cli.outputs import require_apart
from certnet.cli.samples import (
    Categorical,
    Decimal,
    Drop,
    Encoding,
    Grey,
    Labels,
    Limit,
    NoHeader,
    Part,
    Samples,
    Sep,
    Source,
    Target,
    one_part,
)
from certnet.cli.terminal import Force, Json, finite_or_none, interruptible, print_json, print_table, say, working
from certnet.core.digits import above, below
from certnet.core.errors import CertificateError, InvalidInputError, OutputError
from certnet.core.files import check_writable
from certnet.core.validation import finite_array

if TYPE_CHECKING:
    from certnet.claims.certificate import Certificate

__all__ = ["lifted_app"]

lifted_app: typer.Typer = typer.Typer(
    cls=Group,
    help="Lifted networks: activations that minimise a convex energy, with certified Lipschitz bounds.\n\n"
    "Exit codes: 0 success, 1 a certificate does not hold, 2 bad input, 3 samples or a training did not converge, "
    "130 interrupted.",
    no_args_is_help=True,
)
lifted_app.command("train", cls=Command)(train_command)
lifted_app.command("infer", cls=Command)(infer_command)

_RADII: Final = (0.1, 0.25, 0.5, 1.0)


@lifted_app.command("certify", cls=Command)
def certify_command(
    net: Net,
    out: Annotated[Path | None, typer.Option(help="Write the certificate here (JSON).")] = None,
    method: Annotated[
        LiftedMethod, typer.Option(help="The tightest bound is sdp, the cheapest theorem.", case_sensitive=False)
    ] = "sdp",
    tol: Annotated[float, typer.Option(help="Relative gap at which the search stops.")] = 1e-6,
    output: Annotated[
        list[int] | None,
        typer.Option(help="Index of one output from 0; given twice, the difference of the two.", min=0),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Certified radii of these samples: a set or a file.")] = None,
    radius: Annotated[
        list[float] | None, typer.Option(help="Radius to give the certified accuracy at; may be repeated.")
    ] = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Radii by a bound for each pair of outputs: larger, and slower.")
    ] = False,
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
    """Bracket the Lipschitz constant of NET's output; with --data also certified radii of its predictions."""
    from certnet.lifted.bounds import lipschitz_bound

    if data is not None and output:
        raise InvalidInputError("--data needs the bound of all outputs: leave out --output")
    if out is not None:
        check_writable(out, force=force)
    if data is None:
        given = {"radius": radius, "pairs": pairs, "limit": limit, "target": target, "drop": drop, "labels": labels}
        given |= {
            "sep": sep != ",",
            "decimal": decimal != ".",
            "encoding": encoding != "utf-8",
            "no_header": no_header,
            "categorical": categorical,
        }
        _require_no(given | {"grey": grey})
    radii = _radii(radius)
    require_apart({"--out": out}, {"NET": net, "--data": data, "--labels": labels})
    model = read_model(net)
    samples, X = None, None
    if data is not None:
        model.require_classes()
        source = Source(
            data, target, tuple(drop or ()), labels, grey, sep, decimal, encoding, no_header, tuple(categorical or ())
        )
        samples = one_part(source, part).drawn(limit, seed)
        X = model.inputs(samples.X, source)
    chosen: Any = None if not output else output[0] if len(output) == 1 else tuple(output)
    with working(f"certifying {model.network!r}"):
        certificate = interruptible(lambda: lipschitz_bound(model.network, method, output=chosen, X=X, tol=tol))
    verdict = certificate.check(model.network)
    if not verdict:
        raise CertificateError(verdict.reason)
    robust = None
    if samples is not None:
        with working(f"radii of {len(samples.X)} samples"):
            robust = interruptible(lambda: _robustness(model, certificate, samples, method if pairs else None, radii))
    if out is not None:
        certificate.save(out, force=force)
    if as_json:
        in_data = _in_data_units(model, certificate)
        print_json({"certificate": json.loads(certificate.to_json()), "data_units": in_data, "robustness": robust})
        return
    _say_certificate(model, certificate, robust)
    if out is not None:
        say(f"certificate written to {out}")


def _require_no(given: dict[str, Any]) -> None:
    """Refuse options that say something of samples where there are none."""
    for name, value in given.items():
        if value:
            raise InvalidInputError(f"--{name.replace('_', '-')} needs --data: name the samples, or leave it out")


def _radii(given: list[float] | None) -> tuple[float, ...]:
    radii = np.sort(finite_array(given or _RADII, "radius", ndim=(1,)))
    if radii[0] < 0.0:
        raise InvalidInputError(f"--radius must not be negative, got {radii[0]:g}")
    return tuple(radii.tolist())


def _robustness(
    model: Model, certificate: Certificate, samples: Samples, pairs: str | None, radii: tuple[float, ...]
) -> dict[str, Any]:
    """Median radius, and the share of samples that are right and stay so within each radius."""
    X = model.inputs(samples.X)
    claim: Any = certificate if pairs is None else pairs
    found = model.network.certified_radius(X, claim, pairs=pairs is not None)
    reach = found.radius if model.scaling is None else model.scaling.raw_radius(X, found.radius)
    told: dict[str, Any] = {"samples": len(X), "pairs": pairs is not None, "median_radius": float(np.median(reach))}
    if samples.y is not None:
        names = np.arange(model.network.n_outputs) if model.classes is None else np.asarray(model.classes)
        right = names[found.predicted] == samples.y
        told["accuracy"] = float(right.mean())
        told["certified_accuracy"] = {f"{r:g}": float((right & (reach > r)).mean()) for r in radii}
    return told


def _say_certificate(model: Model, certificate: Certificate, robust: dict[str, Any] | None) -> None:
    from certnet.certification import meaning

    say(f"{below(certificate.lower)} <= L <= {above(certificate.upper)}")
    say(meaning(certificate))
    for name, value in certificate.cheaper.items():
        say(f"  for comparison, {name}: {above(value)}")
    gap = "" if certificate.gap == float("inf") else f", search closed to {certificate.gap:.1e}"
    say(f"by {certificate.method} ({certificate.kind}){gap}, {certificate.seconds:.3f} s")
    _say_data_units(_in_data_units(model, certificate))
    if robust is None:
        return
    reach = below(robust["median_radius"])
    say(f"median certified radius of {robust['samples']} samples, right or wrong, in the units of the data: {reach}")
    if "accuracy" in robust:
        rows = [("radius (l2)", "certified accuracy"), ("0", f"{robust['accuracy']:.4f}")]
        print_table([*rows, *((r, f"{share:.4f}") for r, share in robust["certified_accuracy"].items())])


def _in_data_units(model: Model, certificate: Certificate) -> dict[str, Any] | None:
    """The bracket of the model in the file, and its scales; None of a network alone, or one without scaling."""
    scaling = model.scaling
    if scaling is None or not scaling.changes_slopes:
        return None
    lower, upper = scaling.raw_bracket(certificate.lower, certificate.upper, certificate.output)
    scales = {"input_scale": scaling.scale, "target_scale": scaling.target_scale.tolist()}
    return {"lower": lower, "upper": finite_or_none(upper), **scales}


def _say_data_units(told: dict[str, Any] | None) -> None:
    if told is None:
        return
    targets = sorted(set(told["target_scale"]) - {1.0})
    scales = f"the model divides its inputs by {told['input_scale']:.6g}"
    if targets:
        scales += f" and multiplies its outputs by {', '.join(f'{scale:.6g}' for scale in targets)}"
    if told["upper"] is not None:
        say(f"in the units of the data: {below(told['lower'])} <= L <= {above(told['upper'])}, for {scales}")
    else:
        say(f"not a difference in the units of the data: {scales}")


@lifted_app.command("filters", cls=Command)
def filters_command(
    net: Net,
    out: Annotated[Path, typer.Option(help="Picture: .png or .svg.")],
    shape: Annotated[
        str | None, typer.Option(help="Height x width [x 3] of the images, as 28x28; by default square.")
    ] = None,
    columns: Annotated[int | None, typer.Option(help="Of the grid.", min=1)] = None,
    force: Force = False,
) -> None:
    """The first layer's weights as images: grey is zero, each on its own scale."""
    from certnet.plot import FilterDisplay, save_figure

    if out.suffix.lower() not in (".png", ".svg"):
        raise OutputError(f"{out} has the suffix {out.suffix!r}: pictures are .png or .svg")
    check_writable(out, force=force)
    require_apart({"--out": out}, {"NET": net})
    network = read_model(net).network
    sizes = _square(network.n_inputs) if shape is None else _sizes(shape)
    display = FilterDisplay.from_filters(network.weights[0], sizes, columns=columns)
    save_figure(display.figure_, out, force=force)
    say(f"{len(network.weights[0])} filters of {'x'.join(map(str, sizes))} written to {out}")


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise InvalidInputError(f"--shape takes numbers with x between, as 28x28, got {text!r}") from error


def _square(d: int) -> tuple[int, ...]:
    """Height and width of a square image with d pixels, or with d / 3 pixels of three channels, 4 or more a side.

    Fewer are columns of a table, not a colour image.
    """
    for channels, least in (((), 1), ((3,), 4)):
        pixels, rest = divmod(d, math.prod(channels))
        side = math.isqrt(pixels)
        if rest == 0 and side * side == pixels and side >= least:
            return side, side, *channels
    raise InvalidInputError(
        f"the network has {d} inputs, which are no square image: give --shape HEIGHTxWIDTH, 1x{d} for columns of a "
        "table"
    )
