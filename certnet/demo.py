"""The whole path on scikit-learn's diabetes data: train, certify, refine, certify, check, attack, report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from certnet._version import __version__
from certnet.certification import Certificate, certify
from certnet.core.digits import above
from certnet.core.errors import CertificateError, MissingDependencyError, OutputError
from certnet.core.files import check_writable, write_atomic
from certnet.data import Dataset, load_dataset
from certnet.io import from_sklearn
from certnet.kernels.compilation import compile_seconds
from certnet.networks.shallow import ShallowNetwork, require_shallow
from certnet.refinement import RefineResult, refine
from certnet.report import (
    READING,
    Evaluation,
    evaluate,
    facts,
    findings,
    html_page,
    layer_rows,
    pictures_of,
    table,
    trace_rows,
)

__all__ = ["OUTPUTS", "DemoResult", "run", "write"]

OUTPUTS = (
    "start.npz",
    "refined.npz",
    "certificate.json",
    "refined_raw.npz",
    "certificate_raw.json",
    "results.json",
    "report.html",
    "tradeoff.png",
    "bracket.png",
)
EPSILONS = tuple(round(0.05 * k, 2) for k in range(11))
SHOWN = (0.1, 0.3, 0.5)
WITHOUT_PICTURES = (
    'Pictures were left out, because matplotlib is not installed: pip install "certnet[plot]", then certnet demo '
    "--force."
)


@dataclass(frozen=True, eq=False)
class DemoResult:
    """Everything the demo made and measured; networks in standardised units, and the refined one in raw units too."""

    dataset: Dataset
    weight: float
    start: ShallowNetwork
    refined: RefineResult
    raw: ShallowNetwork
    raw_certificate: Certificate
    evaluations: Mapping[str, Evaluation]
    seconds: Mapping[str, float]
    compiling: float
    """Seconds in which kernels were compiled or loaded, which are not in ``seconds``."""

    def rows(self) -> list[tuple[str, ...]]:
        return table(self.evaluations, self.seconds, epsilons=SHOWN)


def run(
    *,
    weight: float = 0.1,
    n_hidden: int = 100,
    random_state: int = 0,
    progress: Callable[[str], None] = lambda stage: None,
) -> DemoResult:
    """Train an ``MLPRegressor`` on diabetes, refine it, and evaluate both on the held-out part.

    Parameters
    ----------
    weight : float
        Of the squared certified Lipschitz constant, in standardised units.
    n_hidden : int
    random_state : int
    progress : callable
        Told the name of every stage as it begins.
    """
    from sklearn.neural_network import MLPRegressor

    dataset = load_dataset("diabetes")
    train, test = (dataset.X_train, dataset.y_train), (dataset.X_test, dataset.y_test)
    progress(f"training {n_hidden} hidden units on {len(dataset.y_train)} patients")
    begin = time.perf_counter()
    model = MLPRegressor(hidden_layer_sizes=(n_hidden,), max_iter=5000, random_state=random_state).fit(*train)
    trained = time.perf_counter() - begin
    start = require_shallow(from_sklearn(model, units=dataset.units))
    progress("refining")
    begin, compiling = time.perf_counter(), compile_seconds()
    refined = refine(start, *train, weight)
    compiling = compile_seconds() - compiling
    solved = time.perf_counter() - begin - compiling
    progress("attacking and certifying both")
    evaluations = {
        name: evaluate(network, train, test, weight=weight, epsilons=EPSILONS)
        for name, network in (("before", start), ("after", require_shallow(refined.network)))
    }
    raw = dataset.scaling.raw_network(require_shallow(refined.network))
    return DemoResult(
        dataset=dataset,
        weight=weight,
        start=start,
        refined=refined,
        raw=raw,
        raw_certificate=certify(raw),
        evaluations=evaluations,
        seconds={"before": trained, "after": solved},
        compiling=compiling,
    )


def write(result: DemoResult, folder: Path, *, force: bool = False) -> list[Path]:
    """Write the networks, certificates, figures and the report to ``folder``, and check what was written.

    Without matplotlib there are no figures, and the report says how to get them.

    Raises
    ------
    OutputError
        A file exists (and ``force`` is false), or the folder cannot be made or written.
    CertificateError
        A certificate read back from its file does not hold for the network read back from its file.
    """
    prepare(folder, force=force)
    result.start.save(folder / "start.npz", force=force)
    result.refined.network.save(folder / "refined.npz", force=force)
    result.raw.save(folder / "refined_raw.npz", force=force)
    result.refined.certificate.save(folder / "certificate.json", force=force)
    result.raw_certificate.save(folder / "certificate_raw.json", force=force)
    for network, certificate in (("refined", "certificate"), ("refined_raw", "certificate_raw")):
        verdict = Certificate.load(folder / f"{certificate}.json").check(ShallowNetwork.load(folder / f"{network}.npz"))
        if not verdict:
            raise CertificateError(f"{folder / certificate}.json does not hold: {verdict.reason}")
    write_atomic(folder / "results.json", _results(result), force=force)
    pictures = _pictures(result)
    for name, (png, _) in pictures.items():
        write_atomic(folder / name, png, force=force)
    write_atomic(folder / "report.html", _page(result, list(pictures.values())), force=force)
    return [folder / name for name in OUTPUTS if name in pictures or not name.endswith(".png")]


def prepare(folder: Path, *, force: bool = False) -> None:
    """Make ``folder`` and refuse what :func:`write` would refuse, before any work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}: name another (--out)") from error
    for name in OUTPUTS:
        check_writable(folder / name, force=force)


def _results(result: DemoResult) -> str:
    data = {
        "certnet": __version__,
        "dataset": result.dataset.name,
        "weight": result.weight,
        "units": "standardised",
        "improved": result.refined.improved,
        "lipschitz_upper_raw": result.raw_certificate.upper,
        "seconds": dict(result.seconds),
        "compile_seconds": result.compiling,
        "models": {name: evaluation.as_dict() for name, evaluation in result.evaluations.items()},
    }
    return json.dumps(data, indent=1) + "\n"


def _pictures(result: DemoResult) -> dict[str, tuple[bytes, str]]:
    try:
        drawn = pictures_of(result.evaluations, units="standardised")
    except MissingDependencyError:
        return {}
    return {f"{name}.png": picture for name, picture in drawn.items()}


def _page(result: DemoResult, pictures: list[tuple[bytes, str]]) -> str:
    before, after = result.evaluations["before"], result.evaluations["after"]
    decrease = 100.0 * (1.0 - result.refined.objective_after / result.refined.objective_before)
    d = result.dataset
    paragraphs = [
        f"scikit-learn's MLPRegressor with {result.start.n_hidden} hidden units was trained on the {d.name} data "
        f"({len(d.y_train)} training and {len(d.y_test)} test samples, {d.X_train.shape[1]} inputs, {d.target_name}), "
        f"then refined with weight {result.weight:g}, with the defaults of refine.",
        f"The training objective fell by {decrease:.1f} %. All figures are in standardised units; in raw units the "
        f"refined network's Lipschitz constant is at most {above(result.raw_certificate.upper)}.",
        READING,
    ]
    commands = ["certnet check certificate.json refined.npz", "certnet check certificate_raw.json refined_raw.npz"]
    return html_page(
        "certnet demo: a pretrained regressor, refined and certified",
        paragraphs,
        result.rows(),
        result.refined.certificate,
        pictures,
        commands,
        facts=_facts(result),
        warnings=findings(before, after),
        sections={
            "Layers": layer_rows(result.refined.network),
            "Stages of the refinement": trace_rows(result.refined.trace),
        },
        without_pictures=WITHOUT_PICTURES,
    )


def _facts(result: DemoResult) -> dict[str, str]:
    d = result.dataset
    told = facts(result.refined.network, (d.X_train, d.y_train), (d.X_test, d.y_test))
    known = {"data set": d.name, "start": f"the network as it was trained, SHA-256 {result.start.digest}"}
    return known | told | {"inputs": ", ".join(d.feature_names), "outputs": d.target_name}
