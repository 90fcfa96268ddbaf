"""What must hold in the rows of a study of lifted networks, and where they differ from the papers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Final

from certnet.study.kinds.base import Check, Row
from certnet.study.kinds.lifted_spec import LiftedSpec

__all__ = ["done_rows", "lifted_checks", "lifted_notes"]

_ANGLE: Final = 0.1  # degrees
_RANK_ENERGY: Final = 1e-9  # of the energy at zero
_IDENTITY: Final = 1e-4
_LINEAR: Final = 0.99


def done_rows(rows: Sequence[Row], part: str) -> list[Row]:
    """Finished rows of one part."""
    return [row for row in rows if row["status"] == "done" and row["part"] == part]


def lifted_checks(rows: Sequence[Row], spec: LiftedSpec) -> Iterator[Check]:
    """All statements; those about accuracies only where nothing was reduced."""
    proofs = done_rows(rows, "certificate")
    disordered = [row["task"] for row in proofs if not _ordered(row)]
    yield Check("slope found ≤ SDP bound ≤ layerwise bound ≤ H's bound", len(proofs), tuple(disordered))
    unproved = [row["task"] for row in proofs if not row["checked"]]
    yield Check("every SDP certificate passes the independent checker", len(proofs), tuple(unproved))
    if not (spec.max_train or spec.max_test or spec.max_epochs):
        yield from _accuracies(rows, spec)
    yield _energies(rows)
    yield _gradients(rows)
    yield from _components(rows)
    yield from _linearity(rows, spec)


def _ordered(row: Row) -> bool:
    sdp, layerwise, theorem = row["sdp"], row["layerwise"], row["theorem"]
    return sdp is not None and bool(row["lower"] <= sdp <= layerwise <= theorem)


def _accuracies(rows: Sequence[Row], spec: LiftedSpec) -> Iterator[Check]:
    trained = [row for row in done_rows(rows, "training") if row["data"] in spec.expected.get(row["network"], {})]
    low = [f"{row['task']}: {text}" for row in trained if (text := _below(row, spec))]
    yield Check("test accuracies reach those that the study file expects", len(trained), tuple(low))


def _below(row: Row, spec: LiftedSpec) -> str:
    found, least = 100.0 * row["test_accuracy"], spec.expected[row["network"]][row["data"]]
    return f"{found:.2f} < {least:g}" if round(found, 6) < least else ""


def _energies(rows: Sequence[Row]) -> Check:
    """H's pattern: own test data below everything else."""
    cases, violations = 0, []
    for row in done_rows(rows, "energies"):
        means = {name: value["mean"] for name, value in row["energies"].items()}
        own = means.pop("own")
        cases += len(means)
        violations += [f"{row['task']}: {name} {mean:.3g} ≤ {own:.3g}" for name, mean in means.items() if mean <= own]
    claim = "the mean energy of own test data is below mirrored, other and Gaussian samples"
    return Check(claim, cases, tuple(violations), required=False)


def _gradients(rows: Sequence[Row]) -> Check:
    cases, violations = 0, []
    for row in done_rows(rows, "gradient"):
        pairs = sorted(zip(row["gammas"], row["total"]), reverse=True)
        steps = list(itertools.pairwise(pairs))
        cases += len(steps)
        violations += [f"{row['task']}, γ from {a:g} to {b:g}" for (a, more), (b, less) in steps if less > more]
    return Check("the error of the contrastive gradient falls with γ", cases, tuple(violations), required=False)


def _components(rows: Sequence[Row]) -> Iterator[Check]:
    found = done_rows(rows, "components")
    wide = [row["task"] for row in found if not row["angle"] < _ANGLE]
    yield Check(f"one linear layer is within {_ANGLE:g} degrees of the leading eigenvectors", len(found), tuple(wide))
    inexact = [row["task"] for row in found if not _exact(row["exact_rank"])]
    yield Check("data of exact rank r: the energy vanishes and W Wᵀ = I", len(found), tuple(inexact))


def _exact(row: Row) -> bool:
    return bool(row["energy"] <= _RANK_ENERGY * row["energy_at_zero"] and row["identity"] <= _IDENTITY)


def _linearity(rows: Sequence[Row], spec: LiftedSpec) -> Iterator[Check]:
    """Z's finding: standard lifted networks are linear, the others are not."""
    shown = [row for row in done_rows(rows, "training") if spec.networks[row["network"]].table == "linearity"]
    lifted = [row for row in shown if row["objective"] == "lifted"]
    others = [row for row in shown if row["objective"] in ("contrastive", "back-propagation")]
    bent = [row["task"] for row in lifted if min(row["linear"]) < _LINEAR]
    straight = [row["task"] for row in others if max(row["linear"]) >= _LINEAR]
    yield Check(
        f"standard lifted networks have {100 * _LINEAR:g} % of their units in the linear range",
        len(lifted),
        tuple(bent),
        required=False,
    )
    yield Check("the other networks have fewer", len(others), tuple(straight), required=False)


# ------------------------------------------------------------------------------------------------- where ours differs


def lifted_notes(rows: Sequence[Row], spec: LiftedSpec) -> Iterator[str]:
    """Sentences about accuracies, bounds and energies beside published ones."""
    yield from _about_accuracies(rows, spec)
    yield from _about_bounds(rows, spec)
    yield from _about_energies(rows, spec)
    yield from spec.remarks


def _about_accuracies(rows: Sequence[Row], spec: LiftedSpec) -> Iterator[str]:
    for row in done_rows(rows, "training"):
        paper = spec.published.get(row["network"], {}).get(row["data"], {})
        if "accuracy" in paper:
            found = 100.0 * row["test_accuracy"]
            size = "" if row["n_train"] >= 50000 else f"; ours has {row['n_train']} training images"
            points = f"{abs(found - paper['accuracy']):.2f} points {'more' if found >= paper['accuracy'] else 'less'}"
            yield f"**{row['task']}**: {found:.2f} % here, {paper['accuracy']:g} % published ({points}{size})."


def _about_bounds(rows: Sequence[Row], spec: LiftedSpec) -> Iterator[str]:
    for row in done_rows(rows, "certificate"):
        gain = 100.0 * (1.0 - row["sdp"] / row["theorem"])
        yield (
            f"**{row['task']}**: the SDP bound is {gain:.1f} % below H's, the median radius {row['radius']:.3f} in "
            f"place of {row['radius_theorem']:.3f}; a slope of {row['lower']:.3f} was found, so that no bound can be "
            f"more than {100.0 * (1.0 - row['lower'] / row['sdp']):.1f} % below the SDP's."
        )


def _about_energies(rows: Sequence[Row], spec: LiftedSpec) -> Iterator[str]:
    for row in done_rows(rows, "energies"):
        paper = spec.published.get(row["network"], {}).get(row["data"], {}).get("energies", {})
        ratios = {name: paper[name][0] / value["mean"] for name, value in row["energies"].items() if name in paper}
        if ratios:
            said = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
            yield f"**{row['task']}**: the published energies are these multiples of ours: {said}."
