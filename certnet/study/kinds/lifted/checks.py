"""What must hold in the rows of a study of lifted networks, and where they differ from the papers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from certnet.study.kinds.lifted.spec import LiftedSpec
from certnet.study.kinds.reports import Check
from certnet.study.kinds.statistics import finished
from certnet.study.tasks import Row

__all__ = ["lifted_checks", "lifted_notes"]

_ANGLE: Final = 0.1  # degrees
_RANK_ENERGY: Final = 1e-9  # of the energy at zero
_IDENTITY: Final = 1e-4
_LINEAR: Final = 0.99


def lifted_checks(rows: Sequence[Row], spec: LiftedSpec) -> Iterator[Check]:
    """All statements; those about accuracies only where nothing was reduced."""
    proofs = finished(rows, part="certificate")
    yield _of_rows("slope found ≤ SDP bound ≤ layerwise bound ≤ H's bound", proofs, _ordered)
    yield _of_rows("every SDP certificate passes the independent checker", proofs, lambda row: row["checked"])
    if not (spec.max_train or spec.max_test or spec.max_epochs):
        yield Check.of("test accuracies reach those that the study file expects", _accuracies(rows, spec))
    statement = "the mean energy of own test data is below mirrored, other and Gaussian samples"
    yield Check.of(statement, _energies(rows), required=False)
    yield Check.of("the error of the contrastive gradient falls with γ", _gradients(rows), required=False)
    layers = finished(rows, part="components")
    near = f"one linear layer is within {_ANGLE:g} degrees of the leading eigenvectors"
    yield _of_rows(near, layers, lambda row: row["angle"] < _ANGLE)
    yield _of_rows("data of exact rank r: the energy vanishes and W Wᵀ = I", layers, _exact)
    yield from _linearity(rows, spec)


def _of_rows(statement: str, rows: Sequence[Row], holds: Callable[[Row], bool], *, required: bool = True) -> Check:
    """A statement about each of these rows."""
    return Check.of(statement, ("" if holds(row) else row["task"] for row in rows), required=required)


def _ordered(row: Row) -> bool:
    sdp, layerwise, theorem = row["sdp"], row["layerwise"], row["theorem"]
    return sdp is not None and bool(row["lower"] <= sdp <= layerwise <= theorem)


def _exact(row: Row) -> bool:
    exact = row["exact_rank"]
    return bool(exact["energy"] <= _RANK_ENERGY * exact["energy_at_zero"] and exact["identity"] <= _IDENTITY)


def _accuracies(rows: Sequence[Row], spec: LiftedSpec) -> Iterator[str]:
    for row in finished(rows, part="training"):
        least = spec.expected.get(row["network"], {}).get(row["data"])
        if least is not None:
            found = 100.0 * row["test_accuracy"]
            yield f"{row['task']}: {found:.2f} < {least:g}" if round(found, 6) < least else ""


def _energies(rows: Sequence[Row]) -> Iterator[str]:
    """H's pattern: own test data below everything else."""
    for row in finished(rows, part="energies"):
        means = {name: value["mean"] for name, value in row["energies"].items()}
        own = means.pop("own")
        for name, mean in means.items():
            yield f"{row['task']}: {name} {mean:.3g} ≤ {own:.3g}" if mean <= own else ""


def _gradients(rows: Sequence[Row]) -> Iterator[str]:
    for row in finished(rows, part="gradient"):
        pairs = sorted(zip(row["gammas"], row["total"]), reverse=True)
        for (a, more), (b, less) in itertools.pairwise(pairs):
            yield f"{row['task']}, γ from {a:g} to {b:g}" if less > more else ""


def _linearity(rows: Sequence[Row], spec: LiftedSpec) -> Iterator[Check]:
    """Z's finding: standard lifted networks are linear, the others are not."""
    shown = [row for row in finished(rows, part="training") if spec.networks[row["network"]].table == "linearity"]
    lifted = [row for row in shown if row["objective"] == "lifted"]
    others = [row for row in shown if row["objective"] in ("contrastive", "back-propagation")]
    straight = f"standard lifted networks have {100 * _LINEAR:g} % of their units in the linear range"
    yield _of_rows(straight, lifted, lambda row: min(row["linear"]) >= _LINEAR, required=False)
    yield _of_rows("the other networks have fewer", others, lambda row: max(row["linear"]) < _LINEAR, required=False)


# ------------------------------------------------------------------------------------------------- where ours differs


def lifted_notes(rows: Sequence[Row], spec: LiftedSpec) -> Iterator[str]:
    """Sentences about accuracies, bounds and energies beside published ones."""
    yield from _about_accuracies(rows, spec)
    yield from _about_bounds(rows, spec)
    yield from _about_energies(rows, spec)
    yield from spec.remarks


def _about_accuracies(rows: Sequence[Row], spec: LiftedSpec) -> Iterator[str]:
    for row in finished(rows, part="training"):
        paper = spec.paper(row["network"], row["data"])
        if "accuracy" in paper:
            found = 100.0 * row["test_accuracy"]
            size = "" if row["n_train"] >= 50000 else f"; ours has {row['n_train']} training images"
            points = f"{abs(found - paper['accuracy']):.2f} points {'more' if found >= paper['accuracy'] else 'less'}"
            yield f"**{row['task']}**: {found:.2f} % here, {paper['accuracy']:g} % published ({points}{size})."


def _about_bounds(rows: Sequence[Row], spec: LiftedSpec) -> Iterator[str]:
    for row in finished(rows, part="certificate"):
        gain = 100.0 * (1.0 - row["sdp"] / row["theorem"])
        yield (
            f"**{row['task']}**: the SDP bound is {gain:.1f} % below H's, the median radius {row['radius']:.3f} in "
            f"place of {row['radius_theorem']:.3f}; a slope of {row['lower']:.3f} was found, so that no bound can be "
            f"more than {100.0 * (1.0 - row['lower'] / row['sdp']):.1f} % below the SDP's."
        )


def _about_energies(rows: Sequence[Row], spec: LiftedSpec) -> Iterator[str]:
    for row in finished(rows, part="energies"):
        paper = spec.paper(row["network"], row["data"]).get("energies", {})
        ratios = {name: paper[name][0] / value["mean"] for name, value in row["energies"].items() if name in paper}
        if ratios:
            said = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
            yield f"**{row['task']}**: the published energies are these multiples of ours: {said}."
