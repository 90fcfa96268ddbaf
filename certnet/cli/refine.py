"""``certnet refine``."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer

from certnet.claims.region import All, Region
from certnet.cli.asked import DEFAULT_WEIGHT, Asked, effort_of, kept_of, limits_of, signs_of
from certnet.cli.choices import KeptPart, Loss, Penalty, RefineMethod, SolverName
from certnet.cli.outputs import require_apart
from certnet.cli.regions import Around, AroundData, BoxFiles, Margin, Place, Radius, RegionUnits, RowOf
from certnet.cli.samples import Categorical, Decimal, Encoding, NoHeader, Sep, table_format
from certnet.cli.tables import Table, in_memory, squared_error
from certnet.cli.terminal import (
    Activation,
    BatchNormEps,
    Force,
    Interrupted,
    Json,
    Key,
    Layer,
    Model,
    finite_or_none,
    interruptible,
    print_json,
    read_network,
    say,
    undisturbed,
    warn,
    working,
)
from certnet.cli.told import Done, Limits, Told
from certnet.core.errors import CertificateError, InvalidInputError, NotReachedError, OutputError
from certnet.core.files import check_writable
from certnet.core.outcome import Status
from certnet.io import SUFFIXES, WITHOUT_UNITS, save_model
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork
from certnet.rows import Rows

__all__ = ["refine_command"]

_LOST: Final = "interrupted before there was a network to write: nothing was written"
_FINE: Final = 1e-3  # gap of a bound from which on there is little to gain
_FAR: Final = 4.0  # of the variance of the target


def refine_command(
    model: Model,
    data: Annotated[
        Path, typer.Option(help="CSV, plain or .gz, whose first line names the columns; or a Parquet file or folder.")
    ],
    target: Annotated[
        list[str],
        typer.Option(help="Column to predict, repeated for several outputs; all others are inputs, by name if named."),
    ],
    out: Annotated[Path, typer.Option(help="Where the refined network goes: .npz, .onnx, .pt or .pth.")],
    weight: Annotated[
        float | None, typer.Option(help="Weight of the squared Lipschitz constant.", show_default=str(DEFAULT_WEIGHT))
    ] = None,
    target_lipschitz: Annotated[
        float | None, typer.Option(help="Instead of a weight: best fit with a certified constant of at most this.")
    ] = None,
    max_mse: Annotated[
        float | None, typer.Option(help="Instead of a weight: least certified constant with at most this error.")
    ] = None,
    effort: Annotated[
        str | None, typer.Option(help="quick, default, thorough, or a number of seconds.", metavar="EFFORT|SECONDS")
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="Table of held-out rows: its error is told before and after, and where it rose.")
    ] = None,
    sample_weight: Annotated[
        str | None, typer.Option(help="Column with the weights of the rows.", metavar="COLUMN")
    ] = None,
    monotone: Annotated[
        list[str] | None,
        typer.Option(help="Never falls, or never rises, along an input.", metavar="NAME=increasing|decreasing"),
    ] = None,
    slope_limit: Annotated[
        list[str] | None,
        typer.Option(help="Limits on the slope along an input; either may be left out.", metavar="NAME=LOW:HIGH"),
    ] = None,
    loss: Annotated[
        Loss, typer.Option(help="huber: squared up to a threshold, linear beyond.", case_sensitive=False)
    ] = "squared",
    huber_threshold: Annotated[
        float | None,
        typer.Option(help="Of --loss huber, in units of the target, standard deviations if scaled. By default 1."),
    ] = None,
    keep: Annotated[
        list[KeptPart] | None, typer.Option(help="What stays as it is; may be repeated.", case_sensitive=False)
    ] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Drop units of the result that move nothing.")] = False,
    checkpoint: Annotated[
        Path | None, typer.Option(help="File that is written on the way: the same command goes on from it.")
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(help="Where its certificate goes; by default beside OUT, with the suffix .certificate.json."),
    ] = None,
    standardise: Annotated[
        bool,
        typer.Option(
            "--standardise/--no-standardise",
            help="State weight, limits on error and constant in units standardised by the data.",
        ),
    ] = False,
    box: BoxFiles = None,
    around_data: AroundData = None,
    margin: Margin = None,
    around: Around = None,
    row: RowOf = None,
    radius: Radius = None,
    units: RegionUnits = "model",
    drop: Annotated[list[str] | None, typer.Option(help="Column to leave out; may be repeated.")] = None,
    activation: Activation = None,
    layer: Layer = None,
    key: Key = None,
    batch_norm_eps: BatchNormEps = None,
    sep: Sep = ",",
    decimal: Decimal = ".",
    encoding: Encoding = "utf-8",
    no_header: NoHeader = False,
    categorical: Categorical = None,
    cells: Annotated[
        int | None, typer.Option(help="The papers' programs: cells that may be visited; 1 is the model's own.")
    ] = None,
    method: Annotated[
        RefineMethod | None, typer.Option(help="The papers' programs: all at once, or by turns.", case_sensitive=False)
    ] = None,
    penalty: Annotated[
        Penalty | None, typer.Option(help="The papers' programs: what the weight charges.", case_sensitive=False)
    ] = None,
    solver: Annotated[
        SolverName | None,
        typer.Option(
            help="The papers' programs: auto and CERTNET are certnet's own; `certnet doctor` tells the others.",
            case_sensitive=False,
        ),
    ] = None,
    optimality_gap: Annotated[
        bool, typer.Option("--optimality-gap", help="Also bound the objective of every function from below.")
    ] = False,
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds after which nothing new is started. None by default.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Refine MODEL, of any depth, on a table: never worse on its training objective, with a certificate."""
    asked = Asked(
        weight=weight,
        standardise=standardise,
        effort=effort_of(effort),
        target_lipschitz=target_lipschitz,
        max_mse=max_mse,
        loss=loss,
        huber_threshold=huber_threshold,
        keep=kept_of(keep or ()),
        prune=prune,
        checkpoint=checkpoint,
        cells=cells,
        method=method,
        penalty=penalty,
        solver=solver,
        optimality_gap=optimality_gap,
        time_limit=time_limit,
    )
    table = Table(
        tuple(target), tuple(drop or ()), sample_weight, table_format(sep, decimal, encoding, no_header, categorical)
    )
    place = Place(
        box=box,
        around_data=around_data,
        margin=margin,
        around=around,
        radius=radius,
        row=row,
        data=data if box or around else None,  # the table of --units, and of a word where the region leaves it
        units=units,
        target=table.beside if box or around or around_data else (),
        drop=table.drop if box or around or around_data else (),
        form=table.form,
    )
    asked.require_fits(place)
    proof = certificate if certificate is not None else out.with_suffix(".certificate.json")
    given = {**place.inputs, "the table of --data": data, "the table of --validation": validation}
    # OUT may be MODEL, with --force: a network that is never worse in the place of the one that it was
    require_apart({"the certificate": proof, "--checkpoint": checkpoint}, {"MODEL": model})
    require_apart({"the network": out, "the certificate": proof, "--checkpoint": checkpoint}, given)
    for path in (out, proof):
        check_writable(path, force=force)
    if out.suffix.lower() not in SUFFIXES:
        raise OutputError(f"{out} has the suffix {out.suffix!r}: name a file with {', '.join(SUFFIXES)}")
    network = read_network(model, activation, layer, key, batch_norm_eps, quiet=as_json)
    if out.suffix.lower() in WITHOUT_UNITS:
        network = network.labelled("as given")  # the file will know no units, and the certificate must fit it
    _require_written(network, out)
    rows = table.rows(data, network)
    held_out = None if validation is None else table.rows(validation, network)
    if held_out is not None and table.form.categorical and held_out.names != rows.names:
        raise InvalidInputError(
            f"{validation} and {data} hold other categories, or in other columns: name all of them, in one order "
            "(--categorical COLUMN=A,B,…)"
        )
    region, names, notes = place.region(network, "l2")
    for note in notes:
        warn(note)
    limits = Limits(signs_of(monotone or (), rows.names), limits_of(slope_limit or (), rows.names))
    stop = threading.Event()
    with working(f"refining {network!r} on {len(rows)} rows and the inputs {', '.join(rows.names)}"):
        done = interruptible(
            lambda: _refined(network, rows, asked, limits, region, stop), stop if asked.heard else None, _LOST
        )
    interrupted = stop.is_set() or done.record.status is Status.INTERRUPTED
    if interrupted and not done.record.improved:
        raise Interrupted("interrupted before a better network was found: no network was written" + _kept(asked))
    if finite_or_none(done.record.objective_after) is None:
        raise NotReachedError(
            "no network within the limits was found: nothing was written; give more --effort or --time-limit, or "
            "wider limits"
        )
    done = replace(done, network=done.network.described(network.about))
    try:
        with undisturbed():
            save_model(done.network, out, force=force)
            done.certificate.save(proof, force=force)
        _warn_of_units(network, rows)
        told = Told(network, rows, held_out, asked, limits, done, region, names)
        if as_json:
            print_json(told.plain() | {"network": str(out), "certificate": str(proof)})
        else:
            told.print()
            say(f"network written to {out}, certificate to {proof}")
            if out.suffix.lower() in (".pt", ".pth"):
                say(f"such a file names no activation: certnet check {proof} {out} --activation relu")
    except KeyboardInterrupt as error:
        raise Interrupted(f"interrupted: the network is in {out}, its certificate in {proof}") from error
    if interrupted:
        short = "" if done.certificate.gap <= _FINE else "; certnet certify may prove a smaller bound for it"
        raise Interrupted("interrupted: what was written is the best network so far" + short + _kept(asked))


def _kept(asked: Asked) -> str:
    """Where interrupted work goes on."""
    return "" if asked.checkpoint is None else f"; the same command goes on from {asked.checkpoint}"


def _warn_of_units(network: ShallowNetwork | FeedForward, rows: Rows) -> None:
    """Tell of a model that is far worse on the table than a constant."""
    if squared_error(network, rows) > _FAR * float((rows.describe().target_scale ** 2).sum()) > 0.0:
        warn("the model's error on this table is far above the variance of the target: check columns and units")


def _require_written(network: ShallowNetwork | FeedForward, out: Path) -> None:
    """What cannot be written is told before the work.

    Raises
    ------
    UnsupportedModelError
        The format of ``out`` cannot express the network.
    MissingDependencyError
        The format needs a package that is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        save_model(network, Path(folder) / f"trial{out.suffix}")


def _refined(
    network: ShallowNetwork | FeedForward,
    rows: Rows,
    asked: Asked,
    limits: Limits,
    region: Region,
    stop: threading.Event,
) -> Done:
    from certnet.refinement import refine

    options = {**asked.options(), **limits.options()}
    if not isinstance(region, All):
        options["region"] = region
    if not asked.standardise:
        done = refine(network, rows, None, asked.charge, should_stop=stop.is_set, **options)
        return Done.of(done, done.network, done.certificate, done.certificate_everywhere)
    from certnet.estimators import CertifiedRegressor
    from certnet.estimators.regressor import fit_until

    table = in_memory(rows, "--standardise")
    y = table.y[:, 0] if table.n_outputs == 1 else table.y
    model = CertifiedRegressor(network, weight=asked.charge, random_state=0, **options)
    try:
        fitted = fit_until(model, stop.is_set, table.X, y, table.weights)
    except CertificateError as error:
        if not list(limits):
            raise
        # of the result, which does not keep them: no certificate that somebody holds is wrong
        raise NotReachedError(f"no network within the limits was found, and nothing written: {error}") from error
    everywhere = None if isinstance(region, All) else fitted.certificate_everywhere_
    return Done.of(fitted.refinement_, fitted.network_, fitted.certificate_, everywhere)
