"""The picture of docs/depth.md: a unit as a choice of a unit vector, the search, and bounds beside each other.

    CERTNET_DATA_HOME=… OMP_NUM_THREADS=1 python benchmarks/depth_picture.py       # docs/images/depth.png

Left a ReLU unit with its differences in the plane; in the middle the two sides of the search of 10-64×10-1, each the
best so far after so many steps of the quasi-Newton method; right the bounds of three networks over LipSDP's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from _common import print_table
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from certnet import FeedForward, certify
from certnet.data import load_images
from certnet.plot import save_figure
from certnet.plot.figures import COLOURS, GREY
from certnet.searches.closed_form_layers import layer_multipliers
from certnet.searches.vectors import search_vectors
from certnet.train import train_classifier

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "images" / "depth.png"
BLUE, RED, GREEN, PINK, ORANGE = COLOURS[:5]
STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120)


def he(*widths: int) -> FeedForward:
    """Gaussian weights of variance 2 / inputs, ReLU."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((b, a)) * np.sqrt(2.0 / a) for a, b in pairwise(widths)]
    return FeedForward(weights, [np.zeros(b) for b in widths[1:]], "relu")


def trained() -> FeedForward:
    """784-256²-10, three epochs on MNIST, without a penalty."""
    data = load_images("mnist")
    found = train_classifier(data.X_train, data.y_train, hidden=(256, 256), penalty=0.0, epochs=3, random_state=0)
    return FeedForward.of(found.network)


def draw_unit(axes: Any) -> None:
    """p, the disc of what z can be, and the z that goes farthest along g: ``z = ½ p + ½ |p| g / |g|``."""
    p, g = np.array([2.0, 0.6]), np.array([0.25, 0.9])
    centre, reach = 0.5 * p, 0.5 * float(np.linalg.norm(p))
    z = centre + reach * g / np.linalg.norm(g)
    axes.add_patch(Circle(tuple(centre), reach, facecolor=BLUE, alpha=0.12, edgecolor="none"))
    axes.add_patch(Circle(tuple(centre), reach, facecolor="none", edgecolor=BLUE, linewidth=1.3))
    _arrow(axes, np.zeros(2), p, GREY)
    _arrow(axes, centre, z, RED, width=2.2)
    _arrow(axes, z, z + 0.62 * g, GREEN)
    axes.plot(*zip(np.zeros(2), centre, z), "o", color="black", markersize=4)
    # lines across g: z is the farthest point of the disc
    across = np.array([-g[1], g[0]]) / np.linalg.norm(g)
    axes.plot(*zip(z - 0.95 * across, z + 0.95 * across), color=GREEN, linewidth=0.8, linestyle="--")
    for text, at, colour in (
        ("0, slope 0", (-0.62, -0.25), "black"),
        ("p, slope 1", (2.05, 0.66), GREY),
        ("½p", (1.02, 0.12), "black"),
        ("½|p| u", (0.40, 0.72), RED),
        ("z", z + np.array([0.06, -0.24]), "black"),
        ("g", z + 0.62 * g + np.array([0.07, -0.06]), GREEN),
        ("|z − ½p| ≤ ½|p|", (0.36, -0.36), BLUE),
    ):
        axes.annotate(text, at, color=colour, fontsize=10)
    axes.set(xlim=(-0.65, 2.75), ylim=(-0.85, 2.0), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title("a ReLU unit, differences as vectors", fontsize=10)


def _arrow(axes: Any, tail: Any, head: Any, colour: str, width: float = 1.6) -> None:
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": width, "shrinkA": 0.0, "shrinkB": 0.0}
    axes.annotate("", head, tail, arrowprops=style)


def draw_search(axes: Any) -> None:
    """Both sides after so many steps; every point is a run of its own, from the same start."""
    network = he(10, *[64] * 10, 1)
    runs = [search_vectors(network, max_iterations=k, tol=1e-9) for k in STEPS]
    above = np.minimum.accumulate([run.upper for run in runs])
    below = np.maximum.accumulate([run.below for run in runs])
    print_table(("steps", "value", "bound"), [(str(k), f"{b:.3f}", f"{a:.3f}") for k, b, a in zip(STEPS, below, above)])
    axes.fill_between(STEPS, below, above, color=BLUE, alpha=0.10, linewidth=0.0)
    axes.plot(STEPS, above, "v-", color=RED, markersize=4, label="bound of the multipliers")
    axes.plot(STEPS, below, "^-", color=BLUE, markersize=4, label="value of the vectors")
    axes.set(xscale="log", xlabel="steps of the search", ylabel="√ρ")
    axes.set_xticks((1, 3, 10, 30, 100), ("1", "3", "10", "30", "100"))
    axes.minorticks_off()
    axes.legend(fontsize=9, frameon=False)
    axes.set_title("10-64×10-1: the two sides meet", fontsize=10)


def draw_bounds(axes: Any) -> None:
    networks = {
        "10-64×5-1\nrandom": he(10, *[64] * 5, 1),
        "784-256²-10\nrandom": he(784, 256, 256, 10),
        "784-256²-10\nMNIST": trained(),
    }
    found = [_bounds(network) for network in networks.values()]
    names = tuple(found[0])
    print_table(("network", *names), [(n.replace("\n", ", "), *_shown(row)) for n, row in zip(networks, found)])
    looks = dict(zip(names, zip("svD|o", (PINK, ORANGE, GREEN, RED, BLUE))))
    for name, (marker, colour) in looks.items():
        ratios = [row[name] / row["LipSDP"] for row in found]
        axes.plot(ratios, range(len(found)), marker, color=colour, mfc="none", ms=8, mew=2, label=name)
    for at, row in enumerate(found):
        axes.annotate(f"{row['LipSDP']:.4g}", (1.0, at - 0.17), ha="center", fontsize=9, color=RED)
    axes.set(xscale="log", ylim=(len(found) - 0.6, -1.0), xlabel="over LipSDP's bound")
    axes.set_yticks(range(len(found)), networks)
    ticks = (0.1, 0.2, 0.5, 1, 2, 5, 10)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="upper left", columnspacing=0.9, handletextpad=0.1)
    axes.set_title("bounds of the same networks", fontsize=10)


def _bounds(network: FeedForward) -> dict[str, float]:
    own = certify(network, tol=1e-5)
    closed = layer_multipliers(network)
    return {
        "product": certify(network, method="product").upper,
        "composition": certify(network, method="composition").upper,
        "closed form": np.nan if closed is None else closed[1],
        "LipSDP": own.upper,
        "at least": own.lower,
    }


def _shown(row: dict[str, float]) -> Sequence[str]:
    return [f"{value:.5g}" for value in row.values()]


def main() -> None:
    figure = Figure(figsize=(12.0, 3.7), layout="constrained")
    unit, search, bounds = figure.subplots(1, 3, width_ratios=(1.2, 1.1, 1.25))
    draw_unit(unit)
    draw_search(search)
    draw_bounds(bounds)
    save_figure(figure, PICTURE, force=True)
    print(f"wrote {PICTURE.name}")


if __name__ == "__main__":
    main()
