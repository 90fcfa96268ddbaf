"""Claims from search to file and back: every kind, norm and subject, altered in each way that matters."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest

from certnet import Box, FeedForward, ShallowNetwork, certify
from certnet.certification import Certificate, meaning
from certnet.claims.sealed import seal
from certnet.core.errors import FileFormatError, InvalidInputError, NotConvergedWarning
from certnet.networks.activations import Activation


def shallow(seed: int = 0, h: int = 9, d: int = 3, m: int = 1) -> ShallowNetwork:
    rng = np.random.default_rng(seed)
    return ShallowNetwork(
        rng.standard_normal((h, d)), rng.standard_normal(h), rng.standard_normal((m, h)), rng.standard_normal(m)
    )


def with_activation(net: ShallowNetwork, activation: Any) -> FeedForward:
    return FeedForward([net.W, net.V], [net.b, net.c], [activation])


def deep(activations: list[Any], seed: int = 0) -> FeedForward:
    rng = np.random.default_rng(seed)
    widths = [3, *rng.integers(2, 6, len(activations)), 2]
    weights = [rng.standard_normal((b, a)) for a, b in pairwise(widths)]
    return FeedForward(weights, [rng.standard_normal(len(W)) for W in weights], activations)


CLAIMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (shallow(), {}),
    "outputs": (shallow(m=3), {}),
    "exact": (shallow(), {"exact": True}),
    "exact output": (shallow(m=3), {"exact": True, "output": 1}),
    "exact difference": (shallow(m=3), {"exact": True, "output": (2, 0)}),
    "exact in a ball": (shallow(), {"exact": True, "around": [0.1, 0.2, 0.3], "radius": 0.5}),
    "exact leaky": (with_activation(shallow(), "leaky_relu"), {"exact": True}),
    "exact steep leaky": (with_activation(shallow(), Activation("leaky_relu", (2.0,))), {"exact": True}),
    "exact deep": (deep(["relu", "relu"]), {"exact": True}),
    "exact deep in a box": (deep(["relu", "tanh"]), {"exact": True, "tol": 1e-2, "region": Box([0.0] * 3, [0.5] * 3)}),
    "exact linf": (shallow(), {"exact": True, "norm": "linf"}),
    "linf": (shallow(), {"norm": "linf"}),
    "linf difference": (shallow(m=2), {"norm": "linf", "output": (0, 1)}),
    "linf in a ball": (shallow(), {"norm": "linf", "around": [0.1, 0.2, 0.3], "radius": 0.5}),
    "linf tanh": (with_activation(shallow(), "tanh"), {"norm": "linf"}),
    "ball": (shallow(m=2), {"around": [0.1, 0.2, 0.3], "radius": 0.5}),
    "neuron": (deep(["relu", "tanh"]), {"method": "neuron"}),
    "layer": (deep(["relu", "tanh"]), {"method": "layer"}),
    "linear layer": (deep(["relu", "identity", "relu"]), {"method": "neuron"}),
    "composition": (deep(["relu", "sigmoid", "relu"]), {"method": "composition"}),
    "product": (deep(["relu", "sigmoid", "relu"]), {"method": "product"}),
    "difference of a deep one": (deep(["relu", "relu"]), {"output": (0, 1)}),
}


@pytest.fixture(params=CLAIMS)
def case(request: pytest.FixtureRequest) -> tuple[Any, Certificate]:
    net, options = CLAIMS[request.param]
    return net, certify(net, **options)


def test_a_claim_survives_its_file_bit_for_bit(case, tmp_path):
    net, cert = case
    assert cert.check(net)
    assert 0.0 < cert.lower <= cert.upper
    again = Certificate.load(cert.save(tmp_path / "c.json"))
    assert again.check(net)
    assert again.to_json() == cert.to_json()
    assert (again.subject, again.kind, repr(again)) == (cert.subject, cert.kind, repr(cert))


def test_a_bound_a_little_lower_is_refused(case):
    net, cert = case
    # the smallest bound that is proved lies within rounding of the one that is published
    assert not dataclasses.replace(cert, upper=cert.upper * (1.0 - 2e-9)).check(net)
    assert not dataclasses.replace(cert, lower=cert.upper * 1.01).check(net)


def test_another_norm_output_or_kind_is_refused(case):
    net, cert = case
    kinds = ["shallow", "tree", "parts", "neuron", "layer", "composition", "product", "none"]
    for kind, norm in product(kinds, ["l2", "linf"]):
        if (kind, norm) != (cert.kind, cert.norm) and {kind, cert.kind} not in ({"neuron", "layer"},):
            try:
                changed = dataclasses.replace(cert, kind=kind, norm=norm)
            except (TypeError, ValueError):
                continue  # multipliers of that kind have another shape
            verdict = changed.check(net)
            # a product is a composition without pairs
            assert not verdict or {kind, cert.kind} == {"composition", "product"}
    for output in [(9,), (0, 0), (0, 1, 2), (-1,), (True,), ("a",), ()]:
        assert not dataclasses.replace(cert, output=output).check(net)


def test_what_is_sealed_cannot_be_changed_unnoticed(case, tmp_path):
    _, cert = case
    path = tmp_path / "c.json"
    data = json.loads(cert.to_json())
    assert data["seal"] == seal(data)
    for name in data:
        value = data[name]
        changed = value + 1 if isinstance(value, int | float) and not isinstance(value, bool) else [value]
        path.write_text(json.dumps(data | {name: changed}))
        with pytest.raises(FileFormatError):
            Certificate.load(path)
    path.write_text(json.dumps(data | {"remark": "added"}))
    with pytest.raises(FileFormatError, match="seal"):
        Certificate.load(path)


def test_the_card_and_the_sentence_speak_of_the_subject(case):
    _, cert = case
    html, sentence = cert._repr_html_(), meaning(cert)
    assert "<svg" in html
    assert "≤ L ≤" in html
    assert cert.digest[:12] in html
    assert ("l-infinity" if cert.norm == "linf" else "l2") in sentence
    for i in cert.output or ():
        assert f"output {i}" in sentence
    assert ("within" in sentence) == (cert.radius is not None or cert.box is not None)
    assert all(name in html for name in cert.cheaper)


def test_exact_closes_the_bracket_and_says_so():
    for seed in range(3):
        net = shallow(seed)
        plain, closed = certify(net), certify(net, exact=True)
        assert closed.upper <= plain.upper
        assert closed.lower >= plain.lower
        assert closed.upper == pytest.approx(closed.lower, rel=1e-6)
        assert closed.gap <= 2e-6


def test_exact_keeps_the_best_bracket_when_the_time_is_up():
    net = shallow(1, h=60, d=8)
    with pytest.warns(NotConvergedWarning, match="time and nodes"):
        cert = certify(net, exact=True, time_limit=0.3)
    assert cert.check(net)
    assert cert.lower < cert.upper <= certify(net).upper * (1.0 + 1e-9)


@pytest.mark.parametrize(
    ("net", "options"),
    [
        (with_activation(shallow(), "tanh"), {}),
        (with_activation(shallow(), (0.0, 1.0)), {}),
        (deep(["relu", "tanh"]), {"region": Box([0.0] * 3, [1.0, 1.0, np.inf])}),
        (deep([(0.0, 1.0)]), {"around": [0.0] * 3, "radius": 1.0}),
        (deep(["relu", "relu"]), {"method": "composition"}),
        (shallow(), {"method": "product"}),
    ],
)
def test_exact_is_refused_where_it_means_nothing(net, options):
    with pytest.raises(InvalidInputError, match="exact=True is for"):
        certify(net, exact=True, **options)


def test_a_tree_proves_nothing_of_a_smooth_activation():
    net = shallow()
    cert = certify(net, exact=True)
    bent = with_activation(net, "softplus")  # the same slopes
    assert cert.slopes == (bent.activations[0].slopes,)
    assert not dataclasses.replace(cert, digest=bent.digest).check(bent)


def test_the_sup_norm_bounds_samples_and_lies_between_multiples_of_l2():
    net = shallow(4, h=30, d=5)
    sup, two = certify(net, norm="linf"), certify(net)
    assert two.lower <= sup.upper
    assert sup.lower <= np.sqrt(5.0) * two.upper
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4000, 5))
    y = x + 0.1 * rng.choice([-1.0, 1.0], (4000, 5))
    assert np.max(np.abs(net.predict(x) - net.predict(y)) / 0.1) <= sup.upper


@pytest.mark.parametrize("activations", [["identity"] * 3, ["identity", "relu"], ["relu", "identity", "tanh"]])
def test_linear_layers_cost_nothing(activations):
    net = deep(activations, seed=3)
    W, phi = list(net.weights), list(activations)
    while "identity" in phi and len(phi) > 1:
        k = phi.index("identity")
        W[k : k + 2] = [W[k + 1] @ W[k]]
        del phi[k]
    merged = FeedForward(W, [np.zeros(len(w)) for w in W], phi)
    cert = certify(net, method="neuron", tol=1e-7)
    assert cert.check(net)
    best = certify(merged, method="neuron", tol=1e-7) if phi != ["identity"] else certify(merged)
    assert cert.upper == pytest.approx(best.upper, rel=1e-6 if phi != ["identity"] else 1e-3)


def test_options_are_checked():
    net = shallow()
    for bad in ({"norm": "l1"}, {"time_limit": 0.0}, {"around": [0.0] * 3}, {"method": "composed"}):
        with pytest.raises(InvalidInputError):
            certify(net, **bad)
    with pytest.raises(InvalidInputError, match="a region is for"):
        certify(deep(["relu", "relu"]), around=[0.0] * 3, radius=1.0, method="product")
