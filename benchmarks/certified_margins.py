"""Lifted networks trained for margins: clean and certified accuracy on MNIST and Fashion-MNIST against the radius.

    python benchmarks/certified_margins.py --results FILE    all runs, the table, docs/images/certified-margins.png
    python benchmarks/certified_margins.py --epochs 1 --first 6000 --certificates theorem    a try
    python benchmarks/certified_margins.py --choose          losses and optimisers, on images held back from training

The networks are ``LiftedClassifier``s with one seed. Certified accuracy is the share of the 10 000 test images that are
right and whose certified radius is larger, pixels in [0, 1]; radii rest on the proved bounds of all 45 differences of
outputs ("pairs"), or on √2 times the one of all outputs. With ``--results`` finished runs are kept in that JSON file
and not repeated, and each training goes on from its last epoch (files beside it).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from _common import machine, print_table
from matplotlib.figure import Figure

from certnet.data import load_images
from certnet.lifted import LiftedClassifier
from certnet.lifted.loss_functions import MarginLoss
from certnet.plot import save_figure

RADII = (0.1, 0.3, 0.5, 1.0, 1.58)
CURVE = np.linspace(0.0, 2.5, 126)
SEED = 0
HELD = 10_000
"""Training images that candidates were judged by, and that are in the final trainings again."""
FAST: dict[str, Any] = {"optimizer": "adam", "learning_rate": 0.005, "batch_size": 50, "loss": MarginLoss()}
WIDE: dict[str, Any] = {"hidden_layer_sizes": (128, 64), **FAST}
FEW: dict[str, Any] = {"hidden_layer_sizes": (64, 64), "max_epochs": 6, **FAST}
RUNS: dict[str, dict[str, Any]] = {
    "mnist: 64-64, decay 4e-3": {"data": "mnist", "weight_decay": 4e-3, **FEW},
    "mnist: 64-64, decay 3e-4": {"data": "mnist", "weight_decay": 3e-4, **FEW},
    "fashion: 64-64, decay 4e-3": {"data": "fashion_mnist", "weight_decay": 4e-3, **FEW},
    "mnist: 128-64, decay 4e-3": {"data": "mnist", "weight_decay": 4e-3, "max_epochs": 30, **WIDE},
    "mnist: 128-64, decay 1e-3": {"data": "mnist", "weight_decay": 1e-3, "max_epochs": 30, **WIDE},
    "fashion: 128-64, decay 1e-3": {"data": "fashion_mnist", "weight_decay": 1e-3, "max_epochs": 12, **WIDE},
}
"""Runs by name: the data set, and what the classifier is given beside the schedule and the seed."""
NARROW: dict[str, Any] = {"data": "mnist", "hidden_layer_sizes": (64, 64), "max_epochs": 5}
CANDIDATES: dict[str, dict[str, Any]] = {
    "clamp, SGD 0.1, decay 4e-3": {"weight_decay": 4e-3, "learning_rate": 0.1, **NARROW},
    "margin, SGD 0.1, decay 4e-3": {"weight_decay": 4e-3, "learning_rate": 0.1, "loss": MarginLoss(), **NARROW},
    "margin, SGD 0.1, decay 2e-3": {"weight_decay": 2e-3, "learning_rate": 0.1, "loss": MarginLoss(), **NARROW},
    "margin, SGD 0.3, decay 2e-3": {"weight_decay": 2e-3, "learning_rate": 0.3, "loss": MarginLoss(), **NARROW},
    "margin, Adam 0.003, decay 2e-3": {
        "weight_decay": 2e-3,
        **FAST,
        "learning_rate": 0.003,
        "batch_size": 20,
        **NARROW,
    },
    "margin, Adam 0.005, decay 4e-3": {"weight_decay": 4e-3, **FAST, **NARROW},
    "clamp, Adam 0.005, decay 4e-3": {"weight_decay": 4e-3, **FAST, "batch_size": 20, "loss": "clamp", **NARROW},
}
"""What was tried: five epochs on 10 000 images, radii by the theorem, which bounds a pair by the norm of w_i − w_j."""
PUBLISHED = (
    # name, radius, share; docs/margins.md has the sources
    ("GloRo, 2C2F", 0.3, 0.957),
    ("GloRo, 4C3F", 1.58, 0.628),
    ("BCP", 1.58, 0.4795),
    ("nearest prototypes", 1.58, 0.730),
    ("LipSDP penalty, dense", 1.58, 0.524),  # benchmarks/certified_training.py, "penalty 1e-3, radius 1"
)
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "certified-margins.png"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, help="in the place of every run's own number")
    parser.add_argument("--first", type=int, help="so many training images only")
    parser.add_argument("--only", nargs="*", default=None, metavar="RUN")
    parser.add_argument("--certificates", default="sdp", choices=("sdp", "layerwise", "theorem"))
    parser.add_argument("--choose", action="store_true", help="the candidates, judged by held-back images")
    parser.add_argument(
        "--results", type=Path, help="a JSON file that is added to; runs that it holds are not repeated"
    )
    chosen = parser.parse_args()
    print(machine())
    file: Path | None = chosen.results
    found: dict[str, Any] = json.loads(file.read_text()) if file is not None and file.exists() else {}
    runs = CANDIDATES if chosen.choose else RUNS
    if chosen.choose:
        chosen.first, chosen.certificates = chosen.first or 10_000, "theorem"
    for name in chosen.only or runs:
        if name in found:
            continue
        found[name] = measured(name, chosen)
        if file is not None:
            file.write_text(json.dumps(found))
    found = {name: found[name] for name in runs if name in found}
    print()
    print_table(
        ["network and training", "clean, %", "bound"] + [f"at {radius}, %" for radius in RADII],
        [row for run in found.values() for row in run["rows"]],
    )
    if not chosen.choose and found:
        draw({name: run["curve"] for name, run in found.items()})


def measured(name: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """One run: its rows of the table, and certified accuracy by pairs at all of CURVE."""
    runs = CANDIDATES if chosen.choose else RUNS
    settings = dict(runs[name])
    data = load_images(settings.pop("data"))
    order = np.random.default_rng(SEED).permutation(len(data.X_train))
    rows = (order[HELD:] if chosen.choose else np.arange(len(order)))[: chosen.first]
    X, y = (data.X_train[order[:HELD]], data.y_train[order[:HELD]]) if chosen.choose else (data.X_test, data.y_test)
    if chosen.epochs:
        settings["max_epochs"] = chosen.epochs
    checkpoint = None
    if chosen.results is not None:
        checkpoint = chosen.results.with_name(f"{chosen.results.stem}-{list(runs).index(name)}.npz")
    model = LiftedClassifier(schedule="linear", random_state=SEED, checkpoint=checkpoint, verbose=True, **settings)
    begin = time.process_time()
    model.fit(data.X_train[rows], data.y_train[rows])
    trained, begin = time.process_time() - begin, time.process_time()
    right = model.predict(X) == y
    whole = model.certified_radius(X, chosen.certificates)
    pairs = model.certified_radius(X, chosen.certificates, pairs=True)
    certified = time.process_time() - begin
    uppers = [certificate.upper for certificate in model.certificates(chosen.certificates).values()]
    said = f"L_ij ≤ {min(uppers):.3f} … {max(uppers):.3f}"
    table = [
        [name, f"{100 * right.mean():.2f}", bound, *(f"{100 * share(right, radius, at):.1f}" for at in RADII)]
        for bound, radius in (("pairs", pairs), ("one", whole))
    ]
    print(f"{name}: {table}, {said}; trained in {trained:.0f} s, certified in {certified:.0f} s of CPU", flush=True)
    return {"rows": table, "curve": [share(right, pairs, at) for at in CURVE], "seconds": [trained, certified]}


def share(right: np.ndarray, radius: np.ndarray, at: float) -> float:
    """Of images that are right, and certified at that radius."""
    return float(np.mean(right & (radius > at))) if at else float(np.mean(right))


def draw(curves: dict[str, list[float]]) -> None:
    """Certified accuracy against the radius, a panel for each data set, beside published figures."""
    titles = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
    shown = [data for data in titles if any(RUNS[name]["data"] == data for name in curves)]
    figure = Figure(figsize=(1.0 + 4.8 * len(shown), 4.4), layout="constrained")
    panels = dict(zip(shown, figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]))
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
    for data, axes in panels.items():
        names = [name for name in curves if RUNS[name]["data"] == data]
        for colour, name in zip(colours, names):
            axes.plot(CURVE, curves[name], color=colour, label=name.partition(": ")[2])
        if data == "mnist":
            for marker, (name, radius, published) in zip("s^vDx", PUBLISHED):
                axes.plot(radius, published, marker, color="black", markersize=6, linestyle="none", label=name)
        axes.set(xlim=(0.0, CURVE[-1]), ylim=(0.0, 1.01), title=titles[data])
        axes.set_xlabel(r"$\ell_2$ radius, pixels in [0, 1]")
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.legend(fontsize=8, loc="lower left")
    panels[shown[0]].set_ylabel("Certified accuracy, test set")
    save_figure(figure, PICTURE, force=True)
    print(f"wrote {PICTURE.name}")


if __name__ == "__main__":
    main()
