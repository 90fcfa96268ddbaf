"""The smallest bound that multipliers prove, found in rationals: the checker refuses what is a hair below."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from alter import multipliers
from judge import SUBJECTS, edge_of, is_true, subject

from certnet.certification import Certificate


@pytest.mark.parametrize("name", SUBJECTS)
def test_one_part_in_a_billion_below_what_is_proved_is_refused(name: str) -> None:
    net, cert = subject(name)
    edge = edge_of(net, cert)
    assert is_true(net, cert, edge * (1.0 + 1e-12))
    assert edge * (1.0 - 1e-13) <= cert.upper <= edge * (1.0 + 1e-6)
    for below in (1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 2e-9, 1e-8, 1e-6, 1e-2, 0.5, 0.999):
        assert not dataclasses.replace(cert, upper=edge * (1.0 - below)).check(net)
    for above in (1e-8, 1e-6, 1e-2, 1.0, 1e6, 1e100):
        assert dataclasses.replace(cert, upper=edge * (1.0 + above)).check(net)


def usable(bad: Certificate, cert: Certificate) -> bool:
    """Do these multipliers have the right shapes and signs?"""
    new, old = (
        [np.ravel(t) for t in (c.multipliers if isinstance(c.multipliers, tuple) else [c.multipliers])]
        for c in (bad, cert)
    )
    least = 0.0 if cert.kind not in ("neuron", "layer") else 5e-324
    return [len(t) for t in new] == [len(t) for t in old] and all(
        np.isfinite(t).all() and (t >= least).all() for t in new
    )


@pytest.mark.parametrize("name", SUBJECTS)
def test_so_it_is_with_other_multipliers(name: str) -> None:
    net, cert = subject(name)
    rng = np.random.default_rng(100 + SUBJECTS.index(name))
    judged = 0
    for _ in range(12 if net.depth > 1 else 25):
        _, bad = multipliers(rng, net, cert)
        if cert.kind != "tree" and not usable(bad, cert):
            continue
        edge = edge_of(net, bad, steps=42)
        if math.isfinite(edge) and edge > 0.0:
            judged += 1
            for below in (1e-11, 1e-9):
                assert not dataclasses.replace(bad, upper=edge * (1.0 - below)).check(net)
    assert judged >= 1
