"""The page's tables of a study of lifted networks, each column beside the papers' where they print one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from certnet.core.digits import above, below
from certnet.study.kinds.base import Report, ReportTable, Row
from certnet.study.kinds.lifted_checks import done_rows, lifted_checks, lifted_notes
from certnet.study.kinds.lifted_spec import LiftedSpec
from certnet.study.kinds.lifted_tasks import spec_of
from certnet.study.kinds.statistics import group_rows
from certnet.study.spec import Study

__all__ = ["lifted_report"]

Cells = tuple[str, ...]


def lifted_report(study: Study, rows: Sequence[Row]) -> Report:
    """Tables of what is there, the checks, and where the papers differ."""
    spec = spec_of(study)
    parts = (_supervised, _margins, _linearity, _energies, _filters, _gradients, _components)
    tables = [table for part in parts if len((table := part(rows, spec)).rows) > 1]
    return Report(tuple(tables), tuple(lifted_checks(rows, spec)), tuple(lifted_notes(rows, spec)))


def _groups(rows: Sequence[Row], part: str) -> dict[tuple[str, str], list[Row]]:
    """The rows of all trials by image set and network."""
    return group_rows(done_rows(rows, part), lambda row: (row["data"], row["network"]))


def _supervised(rows: Sequence[Row], spec: LiftedSpec) -> ReportTable:
    """Accuracies and bounds: H, figures 2 and 5 of the supplement, and its tables 1 and 2."""
    head = ("data", "network", "epochs", "train", "test", "paper", "L, H's bound", "paper", "L, SDP", "slope found")
    body: list[Cells] = [head]
    for (data, name), same in _groups(rows, "training").items():
        if spec.networks[name].table == "supervised":
            proofs, paper = _groups(rows, "certificate").get((data, name), []), _published(spec, name, data)
            accuracies = (_percent(same, "train_accuracy"), _percent(same, "test_accuracy"))
            cells = (data, name, str(len(same[0]["loss"])), *accuracies, _said(paper, "accuracy"))
            body.append((*cells, *_bounds(proofs, paper)))
    return ReportTable("Supervised learning: accuracy in per cent, and Lipschitz bounds", tuple(body))


def _bounds(proofs: Sequence[Row], paper: Mapping[str, Any]) -> Cells:
    if not proofs:
        return ("", _said(paper, "lipschitz"), "", "")
    theorem, sdp = (max(row[name] for row in proofs) for name in ("theorem", "sdp"))
    return (
        above(theorem, 4),
        _said(paper, "lipschitz"),
        above(sdp, 4),
        below(max(row["lower"] for row in proofs), 4),
    )


def _margins(rows: Sequence[Row], spec: LiftedSpec) -> ReportTable:
    """H's supplement, tables 1 and 2."""
    names = ("margin_mean", "margin_median", "margin_std", "radius")
    head = ("data", "network", "mean m", "paper", "median m", "paper", "std m", "paper")
    body: list[Cells] = [(*head, "median radius, H's bound", "paper", "median radius, SDP")]
    for (data, name), same in _groups(rows, "certificate").items():
        paper = _published(spec, name, data)
        margins = [fmean(row["margin"][key] for row in same) for key in ("mean", "median", "std")]
        values = [*(f"{value:.4f}" for value in margins), below(fmean(row["radius_theorem"] for row in same), 4)]
        pairs = [cell for value, key in zip(values, names) for cell in (value, _said(paper, key))]
        body.append((data, name, *pairs, below(fmean(row["radius"] for row in same), 4)))
    return ReportTable("Margins m of the predicted class, and certified radii (l2, pixels in [0, 1])", tuple(body))


def _linearity(rows: Sequence[Row], spec: LiftedSpec) -> ReportTable:
    """Z, Table 1."""
    body: list[Cells] = [("data", "network", "epochs", "train", "paper", "test", "paper", "linear units", "paper")]
    for (data, name), same in _groups(rows, "training").items():
        if spec.networks[name].table == "linearity":
            paper = _published(spec, name, data)
            train, test = _percent(same, "train_accuracy"), _percent(same, "test_accuracy")
            cells = (train, _said(paper, "train_accuracy"), test, _said(paper, "accuracy"))
            shown = (_inside(same), _layers(paper.get("linear", [])))
            epochs = str(len(same[0]["loss"])) if "loss" in same[0] else ""
            body.append((data, name, epochs, *cells, *shown))
    return ReportTable(
        "Contrastive, back-propagated and standard lifted learning: accuracy, and units in their linear range by "
        "layer on the test data, in per cent",
        tuple(body),
    )


def _layers(percents: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in percents)


def _energies(rows: Sequence[Row], spec: LiftedSpec) -> ReportTable:
    """H, Table 1. Its energies have no factor ½: ours are doubled to stand beside them."""
    body: list[Cells] = [("trained on", "network", "samples", "mean", "std", "2 mean", "2 std", "paper")]
    for (data, name), same in _groups(rows, "energies").items():
        paper = _published(spec, name, data).get("energies", {})
        for samples in same[0]["energies"]:
            mean, std = (fmean(row["energies"][samples][key] for row in same) for key in ("mean", "std"))
            said = " ± ".join(f"{value:.1f}" for value in paper.get(samples, []))
            cells = (f"{mean:.2f}", f"{std:.2f}", f"{2.0 * mean:.1f}", f"{2.0 * std:.1f}", said)
            body.append((data, name, samples, *cells))
    return ReportTable("Energies min over z of E(z; x) after unsupervised learning", tuple(body))


def _filters(rows: Sequence[Row], spec: LiftedSpec) -> ReportTable:
    """What is said of H's figure 1, in numbers."""
    head = ("data", "network", "units", "sparsity of filters", "positive share", "units inside their limits, per cent")
    body: list[Cells] = [head]
    trained = _groups(rows, "training")
    for (data, name), same in _groups(rows, "filters").items():
        sparsity, positive = (fmean(row[key] for row in same) for key in ("hoyer_sparsity", "positive"))
        cells = (data, name, spec.networks[name].units, f"{sparsity:.3f}", f"{positive:.3f}")
        body.append((*cells, _inside(trained.get((data, name), []))))
    title = "First-layer filters: Hoyer's sparsity from 0 to 1, and share of the squared weight that is positive"
    return ReportTable(title, tuple(body))


def _inside(rows: Sequence[Row]) -> str:
    """Means over trials by layer."""
    return _layers([100.0 * fmean(layer) for layer in zip(*(row.get("linear", []) for row in rows))])


def _gradients(rows: Sequence[Row], spec: LiftedSpec) -> ReportTable:
    """The limit of weak feedback (Z, section 4)."""
    body: list[Cells] = [("data", "network", "γ", "relative error", "by layer", "same active units")]
    for row in done_rows(rows, "gradient"):
        for i, gamma in enumerate(row["gammas"]):
            layers = ", ".join(_exponent(layer[i]) for layer in row["errors"])
            shared = f"{100.0 * row['shared'][i]:.1f} %"
            body.append((row["data"], row["network"], f"{gamma:g}", _exponent(row["total"][i]), layers, shared))
    return ReportTable("Contrastive gradient against back-propagation as the feedback γ falls", tuple(body))


def _exponent(value: float | None) -> str:
    return "" if value is None else f"{value:.2e}"


def _components(rows: Sequence[Row], spec: LiftedSpec) -> ReportTable:
    """H, section 4.1."""
    head = ("data", "r", "largest angle, degrees", "energy", "least, by eigenvalues")
    body: list[Cells] = [(*head, "rank r: energy", "of, at z = 0", "norm of W Wᵀ − I")]
    for row in done_rows(rows, "components"):
        exact = row["exact_rank"]
        cells = (f"{row['angle']:.1e}", f"{row['energy']:.10g}", f"{row['energy_least']:.10g}")
        rank = (f"{exact['energy']:.1e}", f"{exact['energy_at_zero']:.4g}", f"{exact['identity']:.1e}")
        body.append((row["data"], str(row["n_components"]), *cells, *rank))
    title = "One linear layer of r units against the r leading eigenvectors of the scatter matrix"
    return ReportTable(title, tuple(body))


def _published(spec: LiftedSpec, name: str, data: str) -> Mapping[str, Any]:
    return spec.published.get(name, {}).get(data, {})


def _said(paper: Mapping[str, Any], key: str) -> str:
    return f"{paper[key]:g}" if key in paper else ""


def _percent(rows: Sequence[Row], key: str) -> str:
    values = [100.0 * row[key] for row in rows if row.get(key) is not None]
    return f"{fmean(values):.2f}" if values else ""
