"""Objects of a wholly wrong type, where a network, an inference, a path or a name belongs: the package's own error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import certnet
from certnet import ShallowNetwork, certify, refine
from certnet.core.errors import InvalidInputError
from certnet.lifted import LiftedNetwork, train
from certnet.study import load_study

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 3))
SHALLOW = ShallowNetwork(RNG.standard_normal((4, 3)), np.ones(4), RNG.standard_normal((1, 4)), [0.0])
LIFTED = LiftedNetwork([RNG.standard_normal((4, 3)), RNG.standard_normal((2, 4))], beta=[1.0, 0.0], gamma=0.5)
CERTIFICATE, LIFTED_CERTIFICATE = certify(SHALLOW), LIFTED.lipschitz_bound("theorem")
INFERENCE = LIFTED.infer(X)

OBJECTS = (None, 5, 1j, b"x", [], {}, object(), np.array(["a"]))
NETWORKS: dict[str, Callable[[Any], object]] = {
    "certify": certify,
    "check": CERTIFICATE.check,
    "check of a lifted certificate": LIFTED_CERTIFICATE.check,
    "refine": lambda net: refine(net, X, X[:, 0], 0.1),
    "train": lambda net: train(net, X),
    "gap": lambda inference: LIFTED.gap(X, inference),
    "solver": lambda name: LIFTED.infer(X, solver=name),
}
PATHS: dict[str, Callable[[Any], object]] = {
    "network": SHALLOW.save,
    "lifted network": LIFTED.save,
    "certificate": CERTIFICATE.save,
    "lifted certificate": LIFTED_CERTIFICATE.save,
    "load": ShallowNetwork.load,
    "load lifted": LiftedNetwork.load,
    "load certificate": certnet.Certificate.load,
    "study": load_study,
}


@pytest.mark.parametrize("wrong", OBJECTS, ids=lambda wrong: type(wrong).__name__)
@pytest.mark.parametrize("call", NETWORKS)
def test_what_is_no_network(call: str, wrong: Any) -> None:
    with pytest.raises(InvalidInputError):
        NETWORKS[call](wrong)


@pytest.mark.parametrize("wrong", OBJECTS, ids=lambda wrong: type(wrong).__name__)
@pytest.mark.parametrize("call", PATHS)
def test_what_is_no_path(call: str, wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match="name of a file or folder is needed, got"):
        PATHS[call](wrong)
