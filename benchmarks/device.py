"""The search of LipSDP per neuron on a device of PyTorch, beside NumPy and PyTorch on the CPU.

    OMP_NUM_THREADS=1 python benchmarks/device.py                     # the GPU where there is one, else the CPU alone
    OMP_NUM_THREADS=1 python benchmarks/device.py --only 256 conv     # some rows
    OMP_NUM_THREADS=16 python benchmarks/device.py --device cuda:1

Seconds of wall time of the search alone, after one of a small network that starts the device; the proof that follows is
NumPy's in any case. The networks, their weights and tolerances are those of benchmarks/depth.py. The last column is
the largest relative difference of the bounds from NumPy's, which the tolerance allows.
"""

from __future__ import annotations

import argparse
import time

from _common import machine, print_table
from depth import CASES, he

from certnet.backends.torch_ import import_torch, torch_device
from certnet.errors import InvalidInputError
from certnet.searches.vectors import search_vectors

NAMES = ("256", "512", "1024", "2048", "residual", "conv", "linf")


def where(device: str) -> dict[str, str | None]:
    """What to compare, by the names of the columns: NumPy, PyTorch on the CPU, and the device where it is there."""
    found: dict[str, str | None] = {"NumPy": None, "PyTorch, CPU": "cpu"}
    torch = import_torch()
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} CPU threads", flush=True)
    try:
        place = torch_device(device, double=True)
    except InvalidInputError as error:
        print(f"NO DEVICE: {error}. Only NumPy and PyTorch on the CPU are compared.", flush=True)
        return found
    if place.type == "cpu":
        print("NO DEVICE: PyTorch finds no GPU. Only NumPy and PyTorch on the CPU are compared.", flush=True)
        return found
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else str(place)
    print(f"device {place}: {name}", flush=True)
    return {**found, f"PyTorch, {place}": str(place)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="a device of PyTorch")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, help="some of the networks")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    places = where(arguments.device)
    for place in places.values():
        search_vectors(he(20, 30, 30, 5), device=place)
    rows = []
    for name in arguments.only:
        title, make, options = CASES[name]
        network, found, seconds = make(), [], []
        for place in places.values():
            begin = time.perf_counter()
            found.append(search_vectors(network, device=place, **options))
            seconds.append(f"{time.perf_counter() - begin:.2f}")
        apart = max(abs(one.upper / found[0].upper - 1.0) for one in found)
        rows.append((title, *seconds, *(f"{one.gap:.1e}" for one in found), f"{apart:.0e}"))
        print(rows[-1], flush=True)
    print_table(("network", *(f"{p}, s" for p in places), *(f"gap, {p}" for p in places), "bounds apart"), rows)


if __name__ == "__main__":
    main()
