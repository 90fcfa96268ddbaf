"""What the benchmarks share: one description of the machine, medians of warm runs, peak memory, a printed table."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy

import certnet
from certnet import ShallowNetwork


def machine() -> str:
    """CPU, cores, threads that BLAS may use, versions."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            name = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    return (
        f"{name}, {os.cpu_count()} cores, OMP_NUM_THREADS={threads}, python {platform.python_version()}, "
        f"numpy {np.__version__}, scipy {scipy.__version__}, certnet {certnet.__version__}"
    )


def median_seconds(call: Callable[[], Any], *, repeat: int = 5) -> float:
    """Median wall time of ``repeat`` calls."""
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def peak_megabytes() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def random_network(h: int, d: int, m: int = 1, seed: int = 0) -> ShallowNetwork:
    """Gaussian weights of variance 1/d and 1/h: what a freshly initialised layer looks like."""
    rng = np.random.default_rng(seed)
    return ShallowNetwork(
        rng.standard_normal((h, d)) / np.sqrt(d),
        0.1 * rng.standard_normal(h),
        rng.standard_normal((m, h)) / np.sqrt(h),
        np.zeros(m),
    )


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table."""
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def draw_growth(path: Path, x_name: str, x: Sequence[float], seconds: dict[str, Sequence[float]]) -> None:
    """Times against a size, logarithmic, each with the slope of its straight line, beside linear growth."""
    from matplotlib.figure import Figure

    from certnet.plot import save_figure

    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.subplots()
    for colour, marker, (name, times) in zip(("#0072B2", "#D55E00", "#009E73"), "os^", seconds.items()):
        slope = np.polyfit(np.log(x), np.log(times), 1)[0]
        axes.loglog(x, times, marker=marker, color=colour, label=f"{name}: grows as power {slope:.2f}")
        print(f"{name}: time grows as {x_name}^{slope:.2f}")
    first = min(times[0] for times in seconds.values())
    axes.loglog(x, [0.5 * first * value / x[0] for value in x], ":", color="#666666", label="linear")
    axes.set(xlabel=x_name, ylabel="seconds (one thread)")
    axes.legend()
    save_figure(figure, path, force=True)
    print(f"wrote {path.name}")
