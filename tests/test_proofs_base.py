"""The trusted base by itself: certificates of earlier versions, and the command that checks a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from certnet import Certificate, FeedForward, ShallowNetwork
from certnet.claims import sealed
from certnet.claims.certificate import square_above
from certnet.claims.claim import Claim
from certnet.claims.families import FAMILIES
from certnet.claims.region import Ball
from certnet.lifted.bounds import LiftedCertificate
from certnet.networks.energy import LiftedEnergy
from certnet.proofs.__main__ import main
from certnet.proofs.inflation import inflated
from certnet.proofs.rounding import product_above, two_sum_error

HERE = Path(__file__).parent / "certificates"
"""Written by version 0.1 before the proofs had a folder of their own, one of each kind."""

WRITTEN = {
    **dict.fromkeys(("shallow", "diff", "linf", "ball"), "shallow"),
    "tree": "kinks",
    **dict.fromkeys(("neuron", "layer", "composition", "product"), "deep"),
    **dict.fromkeys(("sdp", "layerwise", "theorem"), "lifted"),
}


@pytest.fixture(params=sorted(WRITTEN))
def pair(request: pytest.FixtureRequest) -> tuple[Path, Path]:
    return HERE / f"{request.param}.json", HERE / f"{WRITTEN[request.param]}.npz"


def test_certificates_of_earlier_versions_are_read_and_checked(pair: tuple[Path, Path]) -> None:
    proof, model = pair
    certificate = Certificate.load(proof)
    network = FAMILIES[certificate.family].load(model)
    assert certificate.check(network)
    assert certificate.to_json() == proof.read_text(encoding="utf-8")
    assert certificate.kind in (proof.stem, "shallow")


@pytest.mark.parametrize("factor", [1.0 - 1e-2, 0.5, 0.0])
def test_smaller_bounds_are_refused_although_they_are_sealed(
    pair: tuple[Path, Path], factor: float, tmp_path: Path
) -> None:
    proof, model = pair
    data = json.loads(proof.read_text())
    upper = data["upper"] * factor
    data |= {"upper": upper, **sealed.upper_written(upper)}
    if "rho" in data:
        data["rho"] = square_above(upper)
    data["seal"] = sealed.seal(data)
    (tmp_path / "c.json").write_text(json.dumps(data))
    certificate = Certificate.load(tmp_path / "c.json")
    assert not certificate.check(FAMILIES[certificate.family].load(model))


def test_another_network_is_refused(pair: tuple[Path, Path]) -> None:
    certificate = Certificate.load(pair[0])
    network = FAMILIES[certificate.family].load(pair[1])
    assert isinstance(network, FeedForward | LiftedEnergy)
    weights = [np.array(W) for W in network.weights]
    weights[0][0, 0] = np.nextafter(weights[0][0, 0], np.inf)
    if isinstance(network, LiftedEnergy):
        other = network.with_parameters(weights, network.biases, network.reconstruction_biases)
        assert "another network" in certificate.check(other).reason
    else:
        deep = FeedForward(weights, network.biases, network.activations, units=network.units)
        assert "another network" in certificate.check(deep).reason


def test_one_class_reads_certificates_of_both_families() -> None:
    assert LiftedCertificate is Certificate
    assert repr(LiftedCertificate.load(HERE / "sdp.json")).startswith("LiftedCertificate(")
    assert repr(LiftedCertificate.load(HERE / "ball.json")).startswith("Certificate(")


def test_the_command_checks_a_file(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(part) for part in pair]) == 0
    assert capsys.readouterr().out.startswith("holds: ")


def test_the_command_tells_a_failed_proof_from_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proof, model = str(HERE / "shallow.json"), str(HERE / "shallow.npz")
    for arguments, code, text in (
        ([], 2, "usage"),
        ([proof], 2, "usage"),
        (["--help"], 0, "usage"),
        ([str(tmp_path / "none.json"), model], 2, "does not exist"),
        ([model, proof], 2, "the certificate is named first"),
        ([proof, str(tmp_path / "none.npz")], 2, "does not exist"),
        ([proof, str(HERE / "deep.npz")], 1, "another network"),
        ([proof, str(HERE / "lifted.npz")], 2, "lifted network"),
        ([proof, proof], 2, "not a readable .npz"),
    ):
        assert main(arguments) == code, arguments
        said = capsys.readouterr()
        assert text in said.out + said.err


def test_claims_refuse_what_cannot_be_said() -> None:
    net = ShallowNetwork(np.eye(2), np.zeros(2), [1.0, 1.0], 0.0)
    assert Claim(net).refusal() is None
    assert "norm" in str(Claim(net, norm="l1").refusal())
    assert "output" in str(Claim(net, output=(1,)).refusal())
    assert "radius" in str(Claim(net, Ball(np.zeros(2), -1.0)).refusal())
    assert "centre" in str(Claim(net, Ball(np.zeros(3), 1.0)).refusal())


def test_inflation_counts_its_steps() -> None:
    asked: list[float] = []

    def proves(bound: float) -> bool:
        asked.append(bound)
        return bound >= 1.0 + 1e-3

    found = inflated(proves, 1.0, first=1e-4)
    assert found == pytest.approx(1.0016)
    assert len(asked) == 3
    assert inflated(lambda _: False, 1.0, first=0.1, most=0.5) is None
    assert inflated(lambda bound: bound < 0.9, 1.0, first=0.01, way=-1.0) == pytest.approx(1.0 - 0.16)


def test_what_a_sum_loses_is_exact() -> None:
    a, b = np.array([1.0, 1e16, 0.1]), np.array([1e-20, 1.0, 0.2])
    total = a + b
    assert two_sum_error(a, b, total).tolist()[:2] == [1e-20, 1.0 - (total[1] - 1e16)]
    assert product_above(0.0, 3.0) == 0.0
    assert product_above(0.1, 0.1) >= 0.01
