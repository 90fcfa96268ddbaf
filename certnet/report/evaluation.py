"""Networks side by side: figures measured on data, as rows of a table, as sentences, and as a page with pictures.

Training objective and test error are two things: a refinement never raises the first, and may raise the second, or L.
What did rise is said in plain sentences, with what to try.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from certnet._version import __version__
from certnet.certification import Certificate, certify
from certnet.claims.families import identity
from certnet.core.digits import above, below
from certnet.core.errors import InvalidInputError, MissingDependencyError
from certnet.networks.network import Network
from certnet.programs.goal import Goal, Weighted
from certnet.programs.objectives import mean_squared_error
from certnet.proofs.slopes import SlopeIntervals
from certnet.refinement import RefineResult, TraceRow
from certnet.refinement.rises import Change, Knob
from certnet.report.page import html_page
from certnet.robust import AdversarialCurve, PGDAttack, adversarial_mse

__all__ = [
    "READING",
    "Evaluation",
    "evaluate",
    "facts",
    "findings",
    "layer_rows",
    "pictures_of",
    "refinement_report",
    "slope_rows",
    "table",
    "trace_rows",
]

READING: Final = (
    "How to read the table: MSE is the mean squared error; the test part was not seen by the refinement. “Adversarial” "
    "is what an attack found that may move every sample's inputs by a length of ε. The Lipschitz constant L is the "
    "largest change of the prediction per change of the input; no attack can exceed what is certified of it."
)
_PICTURES: Final = 4  # of slopes, one per output
_PARTS: Final[Mapping[str, str]] = MappingProxyType({"Dense": "matrix", "Convolution": "convolution"})


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one network is worth on one data set, every figure recomputed from the network and the data.

    Attributes
    ----------
    train_mse, test_mse : float
    curve : AdversarialCurve
        On the test part, with the certified curve beside the attacked one.
    certificate : Certificate
    cheaper : dict of str to float
        Cheaper upper bounds of the Lipschitz constant.
    objective : float or None
        ``train mse + weight · ρ``; None without a weight.
    seconds : float
        To certify it.
    """

    train_mse: float
    test_mse: float
    curve: AdversarialCurve
    certificate: Certificate
    cheaper: Mapping[str, float]
    objective: float | None
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """Plain numbers and lists, for JSON."""
        return {
            "train_mse": self.train_mse,
            "test_mse": self.test_mse,
            "epsilons": self.curve.epsilons.tolist(),
            "adversarial_mse": self.curve.adversarial.tolist(),
            "certified_mse": None if self.curve.certified is None else self.curve.certified.tolist(),
            "lipschitz_lower": self.certificate.lower,
            "lipschitz_upper": self.certificate.upper,
            "cheaper_upper_bounds": dict(self.cheaper),
            "objective": self.objective,
            "seconds": self.seconds,
        }


def evaluate(
    network: Network,
    train: tuple[ArrayLike, ArrayLike],
    test: tuple[ArrayLike, ArrayLike],
    *,
    weight: float | None,
    epsilons: ArrayLike,
    attack: PGDAttack | None = None,
) -> Evaluation:
    """Certify a network of any depth, attack it on the test part, and recompute its objective on the training part."""
    start = time.perf_counter()
    certificate = certify(network, X=train[0], tol=1e-7)
    seconds = time.perf_counter() - start
    train_mse = mean_squared_error(network, *train)
    return Evaluation(
        train_mse=train_mse,
        test_mse=mean_squared_error(network, *test),
        curve=adversarial_mse(network, *test, epsilons, attack, lipschitz=certificate.upper),
        certificate=certificate,
        cheaper=certificate.cheaper,
        objective=None if weight is None else train_mse + weight * certificate.rho,
        seconds=seconds,
    )


def table(
    models: Mapping[str, Evaluation], seconds: Mapping[str, float], *, epsilons: Sequence[float] | None = None
) -> list[tuple[str, ...]]:
    """Rows of text: a head with the models' names, then one row per figure.

    ``seconds`` is what each took to make, as far as it is known; ``epsilons`` are the radii to show, all that were
    evaluated by default. The objective has a row if all were evaluated with a weight.
    """
    values = list(models.values())
    rows: list[tuple[str, ...]] = [("", *models)]

    def add(name: str, cells: Sequence[str]) -> None:
        rows.append((name, *cells))

    objectives = [v.objective for v in values if v.objective is not None]
    if len(objectives) == len(values):
        add("objective (train MSE + weight · L²)", [f"{objective:.4f}" for objective in objectives])
    add("train MSE", [f"{v.train_mse:.4f}" for v in values])
    add("test MSE", [f"{v.test_mse:.4f}" for v in values])
    for i, epsilon in enumerate(values[0].curve.epsilons):
        if epsilon > 0.0 and (epsilons is None or epsilon in epsilons):
            add(f"adversarial test MSE, ε = {epsilon:g}", [f"{v.curve.adversarial[i]:.4f}" for v in values])
    add("Lipschitz constant, at least", [below(v.certificate.lower, 5) for v in values])
    add("Lipschitz constant, at most (certified)", [above(v.certificate.upper, 5) for v in values])
    add("product of spectral norms", [above(v.cheaper["product of spectral norms"], 5) for v in values])
    add("seconds to certify", [f"{v.seconds:.4f}" for v in values])
    add("seconds to train or refine", [f"{seconds[name]:.1f}" if name in seconds else "" for name in models])
    return rows


def facts(network: Network, train: tuple[ArrayLike, ArrayLike], test: tuple[ArrayLike, ArrayLike]) -> dict[str, str]:
    """Which model and which data, by name, for a reader who has neither."""
    about = network.about
    activations = dict.fromkeys(str(layer.activation) for layer in network.layers[:-1])
    told = {
        "model": f"{'-'.join(map(str, network.widths))} (inputs, hidden units layer by layer, outputs), "
        f"{', '.join(activations)}; SHA-256 {network.digest}",
        "read from": about.read,
        "training data": _size(train),
        "test data": f"{_size(test)}, which the refinement has not seen",
        "inputs": _named(about.inputs),
        "outputs": _named(about.outputs),
        "units": network.units,
        "remarks": "; ".join(about.remarks),
        "versions": f"certnet {__version__}, numpy {np.__version__}",
    }
    return {name: text for name, text in told.items() if text}


def _size(data: tuple[ArrayLike, ArrayLike]) -> str:
    shape = np.shape(data[0])
    return f"{shape[0]} samples of {shape[1]} input{'s' if shape[1] > 1 else ''}"


def _named(names: Sequence[str], most: int = 30) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def layer_rows(network: Network) -> list[tuple[str, ...]]:
    """Rows of text: a head, then one row per layer, hidden layers first."""
    last = len(network.layers)
    rows: list[tuple[str, ...]] = [("layer", "takes", "gives", "map", "activation")]
    for k, layer in enumerate(network.layers, start=1):
        kind = type(layer.operator).__name__
        carried = f", {layer.carried} units carried past it" if layer.carried else ""
        activation = "none: the output" if k == last else f"{layer.activation}{carried}"
        sizes = (str(layer.operator.n_inputs), str(layer.operator.n_outputs))
        rows.append((str(k), *sizes, _PARTS.get(kind, "structured"), activation))
    return rows


def trace_rows(trace: Sequence[TraceRow]) -> list[tuple[str, ...]]:
    """Rows of text: a head, then one row per stage of a refinement; empty where a stage gave no network."""

    def told(value: float, text: str) -> str:
        if value != value:
            return ""
        return text if value < float("inf") else "beyond the limit"

    rows: list[tuple[str, ...]] = [("stage", "objective", "train MSE", "L at most", "seconds", "kept")]
    for row in trace:
        figures = (row.objective, f"{row.objective:.6g}"), (row.mse, f"{row.mse:.6g}"), (row.upper, above(row.upper, 5))
        kept = "yes" if row.accepted else "no"
        rows.append((row.stage, *(told(*one) for one in figures), f"{row.seconds:.1f}", kept))
    return rows


def slope_rows(features: SlopeIntervals, *, most: int = 60) -> list[tuple[str, ...]]:
    """Rows of text: a head, then one row per proved interval, output by output, at most so many of the largest."""
    several = len(features.output_names) > 1
    rows = features.table()
    told = [(*((row.output,) if several else ()), row.name, below(row.lower, 4), above(row.upper, 4)) for row in rows]
    head = (*(("output",) if several else ()), "feature", "slope at least", "at most", "proved")
    shown = [(*cells, row.verdict) for cells, row in zip(told[:most], rows)]
    rest = [(f"{len(rows) - most} more", *[""] * (len(head) - 1))] if len(rows) > most else []
    return [head, *shown, *rest]


def findings(before: Evaluation, after: Evaluation, goal: Goal | None = None) -> list[str]:
    """What rose from one network to the other although it should not, in plain sentences, with what to try.

    Looked at are the test error, the test error under attack at the largest radius, and the certified L. ``goal`` is
    what was minimised between the two, by default a weighted sum.
    """
    return list(_findings(before, after, goal))


def _findings(before: Evaluation, after: Evaluation, goal: Goal | None) -> Iterator[str]:
    train, test = Change(before.train_mse, after.train_mse), Change(before.test_mse, after.test_mse)
    knob = Knob.of(goal)
    if test.rose:
        yield f"The test error rose {test}; {knob.advice(train, test)}."
    attacked = Change(float(before.curve.adversarial[-1]), float(after.curve.adversarial[-1]))
    radius = float(after.curve.epsilons[-1])
    if radius > 0.0 and attacked.rose:
        chosen = replace(knob, choice="choose it on validation data by the error under attack")
        yield f"The test error under attacks of radius {radius:g} rose {attacked}; {chosen.advice(train, attacked)}."
    if Change(before.certificate.upper, after.certificate.upper).rose:
        limit = ", or target_lipschitz with the L that you want" if goal is None or isinstance(goal, Weighted) else ""
        yield (
            f"The certified Lipschitz constant rose from {above(before.certificate.upper, 4)} to "
            f"{above(after.certificate.upper, 4)}: the gain in training error outweighed it. Try "
            f"{knob.flatter}{limit}."
        )


def pictures_of(
    models: Mapping[str, Evaluation],
    trace: Sequence[TraceRow] = (),
    *,
    units: str = "as given",
    features: SlopeIntervals | None = None,
) -> dict[str, tuple[bytes, str]]:
    """PNG pictures by name, each with its caption: errors under attack, brackets of L, stages and slopes if there are.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    """
    from certnet.plot import AdversarialCurveDisplay, BoundsDisplay, SlopesDisplay, TraceDisplay, figure_png

    curves = {name: model.curve for name, model in models.items()}
    bounds = {
        name: {"lower": model.certificate.lower, "upper": model.certificate.upper} | dict(model.cheaper)
        for name, model in models.items()
    }
    title = "Lipschitz constant, l2 to l2" + ("" if units == "as given" else f", {units} units")
    drawn = {
        "tradeoff": (
            AdversarialCurveDisplay.from_curves(curves, units=units),
            "Test error against the size of the perturbation: what an attack found, and what the certificate allows.",
        ),
        "bracket": (
            BoundsDisplay.from_bounds(bounds, title=title),
            "Proved brackets of the Lipschitz constant (bars), and cheaper upper bounds (markers).",
        ),
    }
    if sum(row.objective < float("inf") for row in trace) > 1:
        drawn["trace"] = (TraceDisplay.from_rows(trace), "The objective stage by stage; hollow marks were not kept.")
    if features is not None:
        for o, name in enumerate(features.output_names[:_PICTURES]):
            caption = f"Proved intervals of the slopes of {name}, feature by feature: no step in a feature is steeper."
            drawn[f"slopes {o}"] = SlopesDisplay.from_intervals(features, output=o), caption
    return {name: (figure_png(display.figure_), caption) for name, (display, caption) in drawn.items()}


def refinement_report(
    start: Network,
    result: RefineResult,
    train: tuple[ArrayLike, ArrayLike],
    test: tuple[ArrayLike, ArrayLike],
    *,
    weight: float | None = None,
    epsilons: ArrayLike = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
    attack: PGDAttack | None = None,
    title: str = "A network, refined and certified",
    commands: Sequence[str] = (),
    features: SlopeIntervals | None = None,
) -> str:
    """A page about a refinement of a network of any depth: both networks measured, what rose, layers and stages.

    Parameters
    ----------
    start : ShallowNetwork or FeedForward
        What was refined.
    result : RefineResult
        What :func:`certnet.refine` made of it.
    train, test : pair of array_like, shapes (N, d) and (N,) or (N, m)
        In the networks' units.
    weight : float, optional
        The refinement's, if it had one.
    epsilons : array_like, shape (K,)
        Radii of the attacks on the test part, increasing, in the units of the inputs.
    attack : PGDAttack, optional
    title : str
    commands : sequence of str
        To be shown as the way to check the certificate again.
    features : SlopeIntervals, optional
        Of the refined network (:func:`certnet.certify_features`): a table and a picture of its slopes by feature.

    Returns
    -------
    str
        A self-contained HTML page. Without matplotlib it has no pictures, and says in their place how to get them.

    Raises
    ------
    InvalidInputError
        Data that do not fit the networks, radii that do not increase; features of another network.
    """
    if features is not None and features.digest != identity(result.network).digest:
        raise InvalidInputError(
            "features are of another network than the refined one: certify_features(result.network)"
        )
    networks = {"before": start, "after": result.network}
    models = {
        name: evaluate(network, train, test, weight=weight, epsilons=epsilons, attack=attack)
        for name, network in networks.items()
    }
    rows = table(models, {"after": result.trace[-1].seconds})
    told = [("objective of the refinement", f"{result.objective_before:.6g}", f"{result.objective_after:.6g}")]
    warnings = findings(models["before"], models["after"], result.goal)
    held_out = result.validation
    if held_out is not None:
        told.append(("MSE on the refinement's held-out samples", f"{held_out.mse_before:.4f}", f"{held_out.mse:.4f}"))
        if held_out.rose:
            warnings.append(
                f"The error on the samples held out from the refinement rose {held_out.change}; "
                f"{Knob.of(result.goal).advice(Change(result.mse_before, result.mse), held_out.change)}."
            )
    rows[1:1] = told
    sizes = "-".join(map(str, result.network.widths))
    depth = result.network.depth
    paragraphs = [
        f"A network {sizes} with {depth} hidden layer{'s' if depth > 1 else ''} was refined in "
        f"{len(result.trace) - 1} stages on {len(np.asarray(train[1]))} samples and measured on "
        f"{len(np.asarray(test[1]))} others ({result.network.units} units). {_change(result)}",
        READING,
    ]
    pictures: list[tuple[bytes, str]] = []
    missing = ""
    try:
        pictures += pictures_of(models, result.trace, units=result.network.units, features=features).values()
    except MissingDependencyError as error:
        missing = f"The pictures are missing: {error}, then write this report again."
    return html_page(
        title,
        paragraphs,
        rows,
        models["after"].certificate,
        pictures,
        commands or ["certificate.check(network)"],
        facts=facts(result.network, train, test),
        warnings=warnings,
        sections=_sections(result, features),
        without_pictures=missing,
    )


def _sections(result: RefineResult, features: SlopeIntervals | None) -> dict[str, list[tuple[str, ...]]]:
    """Tables by their headings."""
    sections = {"Layers": layer_rows(result.network), "Stages": trace_rows(result.trace)}
    if features is None:
        return sections
    where = features.region.words or "for all inputs"
    return {f"Slopes by feature, proved {where} ({features.units} units)": slope_rows(features)} | sections


def _change(result: RefineResult) -> str:
    if not result.improved:
        return "No better network was found: the input is what is shown as the result."
    if not result.objective_before < float("inf"):
        return "The input was beyond the limit; the result is within it."
    if not result.objective_before > 0.0:
        return ""
    return f"The training objective fell by {100.0 * (1.0 - result.objective_after / result.objective_before):.1f} %."
