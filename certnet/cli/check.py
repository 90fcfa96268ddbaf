"""``certnet check``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from certnet.claims.cards import meaning
from certnet.claims.families import FEED_FORWARD
from certnet.cli.regions import plain_region, say_region
from certnet.cli.terminal import (
    Activation,
    BatchNormEps,
    Json,
    Key,
    Layer,
    Model,
    print_json,
    read_network,
    say,
)
from certnet.core.digits import above, below
from certnet.core.errors import AlteredCertificateError, FileFormatError
from certnet.proofs import Certificate, Verdict
from certnet.proofs.slopes import SlopeIntervals, holds_slopes

__all__ = ["check_command"]


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
            if isinstance(claim, SlopeIntervals):
                names = claim.input_names
        else:
            from certnet.lifted import LiftedNetwork

            verdict = claim.check(LiftedNetwork.load(model))
    if as_json:
        print_json({"holds": verdict.holds, "reason": verdict.reason, **_plain(claim)})
    elif verdict and claim is not None:
        for line in _told(claim, verdict):
            say(line)
        say_region(claim.region, claim.norm, names, slope=isinstance(claim, Certificate))
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
    where = plain_region(claim.region, claim.norm)
    if isinstance(claim, Certificate):
        return {"lower": claim.lower, "upper": claim.upper, **where, **read}
    ends = {"lower": claim.lower.tolist(), "upper": claim.upper.tolist(), "monotone": claim.monotone.tolist()}
    return {**ends, **where, **read}


def _told(claim: Certificate | SlopeIntervals, verdict: Verdict) -> list[str]:
    """What was proved, as text."""
    if isinstance(claim, Certificate):
        return [f"holds: {below(claim.lower)} <= L <= {above(claim.upper)}", meaning(claim)]
    return [f"holds: {verdict.reason}", *claim.sentences]
