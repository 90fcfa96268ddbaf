"""The page's tables of a study of lifted networks, each column beside the papers' where they print one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from certnet.core.digits import above, below
from certnet.study.kinds.lifted.checks import lifted_checks, lifted_notes
from certnet.study.kinds.lifted.spec import LiftedSpec, TrainedNetwork
from certnet.study.kinds.reports import Column, Report, filled, tabulated
from certnet.study.kinds.statistics import finished, mean_of, named_groups
from certnet.study.spec import Study
from certnet.study.tasks import Row

__all__ = ["lifted_report"]


@dataclass(frozen=True, eq=False)
class Line:
    """A network on an image set, and what is published of it.

    ``rows`` are of the part that the table is of, ``trained`` of the training, ``proofs`` of the certificate, one per
    trial.
    """

    data: str
    name: str
    network: TrainedNetwork
    paper: Mapping[str, Any]
    rows: Sequence[Row]
    trained: Sequence[Row]
    proofs: Sequence[Row]


def lifted_report(study: Study[LiftedSpec], rows: Sequence[Row]) -> Report:
    """Tables of what is there, the checks, and where the papers differ."""
    spec = study.spec
    parts = {
        part: {group.key: group.rows for group in named_groups(finished(rows, part=part), "data", "network")}
        for part in ("training", "certificate", "energies", "filters")
    }

    def lines(part: str, table: str = "") -> list[Line]:
        return [
            Line(
                data,
                name,
                spec.networks[name],
                spec.paper(name, data),
                same,
                parts["training"].get((data, name), ()),
                parts["certificate"].get((data, name), ()),
            )
            for (data, name), same in parts[part].items()
            if table in ("", spec.networks[name].table)
        ]

    gradients = finished(rows, part="gradient")
    ways = [(row, way) for row in finished(rows, part="forward") for way in row["ways"]]
    stops = [(row, stop) for row in finished(rows, part="passes") for stop in row["stops"]]
    tables = (
        tabulated(
            "Supervised learning: accuracy in per cent, and Lipschitz bounds",
            _SUPERVISED,
            lines("training", "supervised"),
        ),
        tabulated(
            "Margins m of the predicted class, and certified radii (l2, pixels in [0, 1])",
            _MARGINS,
            lines("certificate"),
        ),
        tabulated(
            "Right and certified at l2 radius r, in per cent: by the bounds of every pair of outputs, in brackets by "
            "the SDP bound of all outputs",
            (*_NETWORK, *_certified(finished(rows, part="certificate")), _PAIRS),
            lines("certificate"),
        ),
        tabulated(
            "Contrastive, back-propagated and standard lifted learning: accuracy, and units in their linear range by "
            "layer on the test data, in per cent",
            _LINEARITY,
            lines("training", "linearity"),
        ),
        tabulated(
            "One pass in place of a minimisation, as at γ → 0: accuracy in per cent, outputs on the test data",
            _FORWARD,
            ways,
        ),
        tabulated(
            "Inference that ends early: after passes, or at a natural residual of so many γ^(L−1); certain are "
            "predictions that no further pass could change",
            _STOPS,
            stops,
        ),
        tabulated(
            "Energies min over z of E(z; x), and how well they tell other samples from own test data",
            _ENERGIES,
            [(line, samples) for line in lines("energies") for samples in line.rows[0]["energies"]],
        ),
        tabulated(
            "First-layer filters: Hoyer's sparsity from 0 to 1, and share of the squared weight that is positive",
            _FILTERS,
            lines("filters"),
        ),
        tabulated(
            "Contrastive gradient against back-propagation as the feedback γ falls",
            _GRADIENTS,
            [(row, i) for row in gradients for i in range(len(row["gammas"]))],
        ),
        tabulated(
            "One linear layer of r units against the r leading eigenvectors of the scatter matrix",
            _COMPONENTS,
            finished(rows, part="components"),
        ),
    )
    return Report(filled(tables), tuple(lifted_checks(rows, spec)), tuple(lifted_notes(rows, spec)))


# -------------------------------------------------------------------------------------------------- columns of networks


def _paper(key: str) -> Column[Line]:
    return Column("paper", lambda line: f"{line.paper[key]:g}" if key in line.paper else "")


def _percent(head: str, key: str) -> Column[Line]:
    def cell(line: Line) -> str:
        values = [100.0 * row[key] for row in line.rows if row.get(key) is not None]
        return f"{fmean(values):.2f}" if values else ""

    return Column(head, cell)


def _largest(head: str, key: str, rounded: Callable[[float, int], str]) -> Column[Line]:
    """Over the certificates of all trials."""
    return Column(head, lambda line: rounded(max(row[key] for row in line.proofs), 4) if line.proofs else "")


def _margin(head: str, key: str) -> Column[Line]:
    return Column(head, lambda line: f"{fmean(row['margin'][key] for row in line.rows):.4f}")


def _layers(percents: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in percents)


def _inside(line: Line) -> str:
    """Units in their linear range, by layer."""
    return _layers([100.0 * fmean(layer) for layer in zip(*(row.get("linear", []) for row in line.trained))])


_NETWORK: Final = (Column[Line]("data", lambda line: line.data), Column[Line]("network", lambda line: line.name))
_EPOCHS: Final = Column[Line]("epochs", lambda line: str(len(line.rows[0]["loss"])) if "loss" in line.rows[0] else "")

_SUPERVISED: Final = (  # H, figures 2 and 5 of the supplement, and its tables 1 and 2
    *_NETWORK,
    _EPOCHS,
    _percent("train", "train_accuracy"),
    _percent("test", "test_accuracy"),
    _paper("accuracy"),
    _largest("L, H's bound", "theorem", above),
    _paper("lipschitz"),
    _largest("L, SDP", "sdp", above),
    _largest("slope found", "lower", below),
)

_MARGINS: Final = (  # H's supplement, tables 1 and 2
    *_NETWORK,
    _margin("mean m", "mean"),
    _paper("margin_mean"),
    _margin("median m", "median"),
    _paper("margin_median"),
    _margin("std m", "std"),
    _paper("margin_std"),
    Column[Line]("median radius, H's bound", lambda line: below(mean_of(line.rows, "radius_theorem"), 4)),
    _paper("radius"),
    Column[Line]("median radius, SDP", lambda line: below(mean_of(line.rows, "radius"), 4)),
    Column[Line]("of every pair", lambda line: below(mean_of(line.rows, "radius_pairs"), 4)),
)

_PAIRS: Final = Column[Line](
    "L of pairs",
    lambda line: (
        f"{above(min(row['pairs_least'] for row in line.rows), 3)} to "
        f"{above(max(row['pairs_most'] for row in line.rows), 3)}"
    ),
)


def _certified(rows: Sequence[Row]) -> list[Column[Line]]:
    """A column for each radius at which the rows tell it."""
    radii = rows[0]["at"] if rows else []
    return [Column[Line](f"{radius:g}", _at(place)) for place, radius in enumerate(radii)]


def _at(place: int) -> Callable[[Line], str]:
    def cell(line: Line) -> str:
        pairs, plain = (
            100.0 * fmean(row[key][place] for row in line.rows) for key in ("certified", "certified_of_all")
        )
        return f"{pairs:.1f} ({plain:.1f})"

    return cell


_LINEARITY: Final = (  # Z, Table 1
    *_NETWORK,
    _EPOCHS,
    _percent("train", "train_accuracy"),
    _paper("train_accuracy"),
    _percent("test", "test_accuracy"),
    _paper("accuracy"),
    Column[Line]("linear units", _inside),
    Column[Line]("paper", lambda line: _layers(line.paper.get("linear", []))),
)

_FILTERS: Final = (  # what is said of H's figure 1, in numbers
    *_NETWORK,
    Column[Line]("units", lambda line: line.network.units),
    Column[Line]("sparsity of filters", lambda line: f"{mean_of(line.rows, 'hoyer_sparsity'):.3f}"),
    Column[Line]("positive share", lambda line: f"{mean_of(line.rows, 'positive'):.3f}"),
    Column[Line]("units inside their limits, per cent", _inside),
)


# ------------------------------------------------------------------- columns of sets of samples, of feedbacks, of rows


def _energy(head: str, key: str, form: str, factor: float = 1.0) -> Column[tuple[Line, str]]:
    def cell(line: tuple[Line, str]) -> str:
        network, samples = line
        return format(factor * fmean(row["energies"][samples][key] for row in network.rows), form)

    return Column(head, cell)


def _published_energy(line: tuple[Line, str]) -> str:
    network, samples = line
    return " ± ".join(f"{value:.1f}" for value in network.paper.get("energies", {}).get(samples, []))


def _area(line: tuple[Line, str]) -> str:
    network, samples = line
    found = [row["areas"][samples] for row in network.rows if samples in row["areas"]]
    return f"{fmean(found):.3f}" if found else ""


_ENERGIES: Final = (  # H, Table 1. Its energies have no factor ½: ours are doubled to stand beside them
    Column[tuple[Line, str]]("trained on", lambda line: line[0].data),
    Column[tuple[Line, str]]("network", lambda line: line[0].name),
    Column[tuple[Line, str]]("samples", lambda line: line[1]),
    _energy("mean", "mean", ".2f"),
    _energy("std", "std", ".2f"),
    _energy("2 mean", "mean", ".1f", 2.0),
    _energy("2 std", "std", ".1f", 2.0),
    Column[tuple[Line, str]]("paper", _published_energy),
    Column[tuple[Line, str]]("area under the ROC curve", _area),
)


def _exponent(value: float | None) -> str:
    return "" if value is None else f"{value:.2e}"


Feedback = tuple[Row, int]

_GRADIENTS: Final = (  # the limit of weak feedback (Z, section 4)
    Column[Feedback]("data", lambda line: line[0]["data"]),
    Column[Feedback]("network", lambda line: line[0]["network"]),
    Column[Feedback]("γ", lambda line: f"{line[0]['gammas'][line[1]]:g}"),
    Column[Feedback]("relative error", lambda line: _exponent(line[0]["total"][line[1]])),
    Column[Feedback]("by layer", lambda line: ", ".join(_exponent(layer[line[1]]) for layer in line[0]["errors"])),
    Column[Feedback]("same active units", lambda line: f"{100.0 * line[0]['shared'][line[1]]:.1f} %"),
)

Way = tuple[Row, str]

_FORWARD: Final = (  # Z, section 5
    Column[Way]("data", lambda line: line[0]["data"]),
    Column[Way]("network", lambda line: line[0]["network"]),
    Column[Way]("pass", lambda line: line[1]),
    Column[Way]("accuracy", lambda line: f"{100.0 * line[0]['ways'][line[1]]['test_accuracy']:.2f}"),
    Column[Way]("of the minimiser", lambda line: f"{100.0 * line[0]['test_accuracy']:.2f}"),
    Column[Way]("same class", lambda line: f"{100.0 * line[0]['ways'][line[1]]['same']:.2f}"),
    Column[Way](
        "distance of outputs, of their length",
        lambda line: f"{line[0]['ways'][line[1]]['distance']:.3f} of {line[0]['length']:.3f}",
    ),
    Column[Way]("time, of infer", lambda line: f"{line[0]['ways'][line[1]]['time']:.2f}"),
)

Stop = tuple[Row, Row]

_STOPS: Final = (  # Z's future work
    Column[Stop]("data", lambda line: line[0]["data"]),
    Column[Stop]("network", lambda line: line[0]["network"]),
    Column[Stop]("ends at", lambda line: f"{line[1]['by']} {line[1]['value']:g}"),
    Column[Stop]("accuracy", lambda line: f"{100.0 * line[1]['test_accuracy']:.2f}"),
    Column[Stop]("same class", lambda line: f"{100.0 * line[1]['same']:.2f}"),
    Column[Stop]("certain", lambda line: f"{100.0 * line[1]['certain']:.1f}"),
    Column[Stop]("error of outputs", lambda line: _exponent(line[1]["error"])),
    Column[Stop]("time, of 1e-9", lambda line: f"{line[1]['time']:.2f}"),
)

_COMPONENTS: Final = (  # H, section 4.1
    Column[Row]("data", lambda row: row["data"]),
    Column[Row]("r", lambda row: str(row["n_components"])),
    Column[Row]("largest angle, degrees", lambda row: f"{row['angle']:.1e}"),
    Column[Row]("energy", lambda row: f"{row['energy']:.10g}"),
    Column[Row]("least, by eigenvalues", lambda row: f"{row['energy_least']:.10g}"),
    Column[Row]("rank r: energy", lambda row: f"{row['exact_rank']['energy']:.1e}"),
    Column[Row]("of, at z = 0", lambda row: f"{row['exact_rank']['energy_at_zero']:.4g}"),
    Column[Row]("norm of W Wᵀ − I", lambda row: f"{row['exact_rank']['identity']:.1e}"),
)
