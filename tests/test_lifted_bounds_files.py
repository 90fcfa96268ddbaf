"""Certificates of lifted networks as files and at the command line; certified radii; scores."""

from __future__ import annotations

import dataclasses
import html
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lifted_judge import random_net, true
from typer.testing import CliRunner

from certnet import ShallowNetwork
from certnet.certification import Certificate
from certnet.claims import sealed as module
from certnet.cli import app
from certnet.core.errors import CertificateError, CertnetError, FileFormatError, InvalidInputError, OutputError
from certnet.lifted import LiftedNetwork
from certnet.lifted.bounds import LiftedCertificate, certified_radius, lipschitz_bound, lipschitz_bounds
from certnet.lifted.scoring import scores
from certnet.proofs.lifted_matrix import MatrixChecker


@pytest.fixture(scope="module")
def net() -> LiftedNetwork:
    rng = np.random.default_rng(0)
    W = [rng.standard_normal((4, 3)), rng.standard_normal((3, 4)), rng.standard_normal((3, 3))]
    return LiftedNetwork(W, [0.3 * rng.standard_normal(len(w)) for w in W], beta=[1.0, 1.0, 0.0], gamma=0.125)


@pytest.fixture(scope="module")
def cert(net) -> LiftedCertificate:
    return lipschitz_bound(net)


def resealed(data: dict[str, Any]) -> str:
    data = data | module.upper_written(float(data["upper"]))
    return json.dumps(data | {"seal": module.seal(data)})


@pytest.mark.parametrize("method", ["sdp", "layerwise", "theorem"])
@pytest.mark.parametrize("output", [None, 1, (0, 2)])
def test_a_file_holds_the_certificate(net, tmp_path, method, output):
    made = net.lipschitz_bound(method, output=output)
    read = LiftedCertificate.load(made.save(tmp_path / "c.json"))
    assert read.to_json() == made.to_json()
    assert read.check(net)
    assert true(net, read)
    assert read.output == (output if output is None or isinstance(output, tuple) else (output,))


def test_the_file_says_what_is_claimed(net, cert, tmp_path):
    data = json.loads(cert.save(tmp_path / "c.json").read_text())
    assert data["schema"] == "certnet-lifted-certificate-1"
    assert float(data["upper_decimal"]) >= data["upper"] == cert.upper
    assert data["shape"] == [3, 4, 3, 3]
    assert set(data["cheaper"]) == {"layerwise", "theorem"}
    assert data["seconds"] > 0.0
    assert set(data["versions"]) == {"certnet", "numpy", "scipy", "python"}
    with pytest.raises(OutputError, match="exists"):
        cert.save(tmp_path / "c.json")


def test_a_changed_byte_is_refused(cert, tmp_path):
    path = tmp_path / "c.json"
    data = json.loads(cert.to_json())
    for name, value in (("upper", cert.upper * 0.9), ("lower", 0.0), ("kind", "theorem"), ("seal", "0")):
        path.write_text(json.dumps(data | {name: value}))
        with pytest.raises(FileFormatError, match="does not fit the rest: the file was altered"):
            LiftedCertificate.load(path)


def test_resealed_lies_are_refused(net, cert, tmp_path):
    path = tmp_path / "c.json"
    data = json.loads(cert.to_json())
    lies = {
        "upper": cert.upper * 0.9,
        "lower": cert.lower * 1.001,
        "kind": "layerwise",
        "output": [0],
        "shape": [3, 4, 3],
        "digest": "0" * 64,
        "multipliers": data["multipliers"][:-1],
        "activations": [0.0] * 10,
        "witness": [0.0] * 3,
    }
    for name, value in lies.items():
        path.write_text(resealed(data | {name: value}))
        verdict = LiftedCertificate.load(path).check(net)
        assert not verdict, name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("upper", None),
        ("lower", "1"),
        ("multipliers", 3),
        ("multipliers", [[None]]),
        ("witness", [[1.0]]),
        ("activations", {}),
        ("shape", [3]),
        ("shape", [3, -1]),
        ("output", [0.5]),
        ("output", "0"),
        ("gap", "x"),
        ("versions", 4),
        ("cheaper", [1.0]),
        ("kind", 7),
    ],
)
def test_fields_of_a_wrong_type_are_refused(cert, tmp_path, name, value):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(json.loads(cert.to_json()) | {name: value}))
    with pytest.raises(FileFormatError):
        LiftedCertificate.load(path)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"{", b"\xff", b'{"schema": "certnet-certificate-1"}', b"[" * 9999]
)
def test_what_is_no_certificate_is_refused(tmp_path, content):
    path = tmp_path / "c.json"
    path.write_bytes(content)
    with pytest.raises(FileFormatError):
        LiftedCertificate.load(path)


def test_files_of_the_other_kind_are_read_and_meet_their_own_networks(net, cert, tmp_path):
    read = Certificate.load(cert.save(tmp_path / "c.json"))
    assert read.check(net)
    with pytest.raises(InvalidInputError, match="a LiftedNetwork is needed"):
        read.check(ShallowNetwork([[1.0]], [0.0], [1.0], 0.0))
    with pytest.raises(FileFormatError, match="cannot be read"):
        LiftedCertificate.load(tmp_path / "absent.json")


@pytest.mark.parametrize("seed", range(30))
def test_files_with_anything_anywhere_are_errors_or_verdicts(net, cert, tmp_path, seed):
    rng = np.random.default_rng(seed)
    data = json.loads(cert.to_json())
    values = [0, -1, 1e308, 1e-320, 10**400, None, "x", [], {}, True, [[1.0]], cert.upper, [1e300] * 10]
    name = list(data)[int(rng.integers(len(data)))]
    value = values[int(rng.integers(len(values)))]
    if isinstance(data[name], list) and data[name] and rng.random() < 0.6:
        part = list(data[name])
        part[int(rng.integers(len(part)))] = value
        value = part
    path = tmp_path / "c.json"
    try:
        path.write_text(resealed(data | {name: value}))
    except (TypeError, ValueError, OverflowError):
        return
    try:
        read = LiftedCertificate.load(path)
    except CertnetError:
        return
    if read.check(net):
        assert true(net, read)
    assert repr(read)


def test_another_network_is_refused(net, cert):
    other = LiftedNetwork(net.weights, net.biases, beta=net.beta, gamma=0.25)
    verdict = cert.check(other)
    assert not verdict
    assert "another network" in verdict.reason
    assert "shape" in dataclasses.replace(cert, shape=(1, 2)).check(net).reason
    assert "prove nothing" in dataclasses.replace(cert, kind="neuron").check(net).reason


def test_cards_and_words(net, cert):
    card = cert._repr_html_()
    assert "the network's output moves" in html.unescape(card).lower()
    assert "sdp multipliers" in card
    assert "layerwise" in card
    assert repr(cert).startswith("LiftedCertificate(")
    assert "output 0 minus output 2" in repr(lipschitz_bound(net, "layerwise", output=(0, 2)))


def test_check_at_the_command_line(net, cert, tmp_path):
    run = CliRunner()
    model, proof = net.save(tmp_path / "n.npz"), cert.save(tmp_path / "c.json")
    done = run.invoke(app, ["check", str(proof), str(model)])
    assert done.exit_code == 0
    assert done.output.startswith("holds: ")
    data = json.loads(cert.to_json())
    proof.write_text(resealed(data | {"upper": 0.9 * cert.upper}))
    done = run.invoke(app, ["check", str(proof), str(model), "--json"])
    assert done.exit_code == 1
    assert json.loads(done.output)["holds"] is False
    proof.write_text(json.dumps(data | {"upper": 0.9 * cert.upper}))
    done = run.invoke(app, ["check", str(proof), str(model)])
    assert done.exit_code == 1
    assert "the file was altered" in done.output


def test_certificates_are_frozen(cert):
    for array in (cert.witness, cert.activations, *cert.multipliers):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        cert.upper = 0.0  # type: ignore[misc]


# ---------------------------------------------------------------------------------------------------------------- radii


@pytest.mark.parametrize("pairs", [False, True])
def test_no_step_within_the_radius_changes_the_class(net, pairs):
    rng = np.random.default_rng(1)
    X = 2.0 * rng.standard_normal((30, 3))
    found = net.certified_radius(X, pairs=pairs)
    assert (found.radius > 0.0).any()
    assert np.array_equal(found.predicted, net.predict(X, tol=1e-9).argmax(axis=1))
    for _ in range(20):
        way = rng.standard_normal(X.shape)
        way *= (found.radius / np.linalg.norm(way, axis=1))[:, None] * 0.9999
        after = net.predict(X + way, tol=1e-9).argmax(axis=1)
        assert np.array_equal(after[found.radius > 0.0], found.predicted[found.radius > 0.0])


def test_radii_are_those_of_the_formula(net, cert):
    X = np.random.default_rng(2).standard_normal((20, 3))
    z = np.sort(net.predict(X, tol=1e-11), axis=1)
    expected = (z[:, -1] - z[:, -2]) / (np.sqrt(2.0) * cert.upper)
    np.testing.assert_allclose(certified_radius(net, X, cert, tol=1e-11).radius, expected, rtol=1e-6, atol=1e-8)
    assert (certified_radius(net, X, cert, tol=1e-11).radius <= expected).all()
    # a rough inference costs margin, and none of the promise
    assert (certified_radius(net, X, cert, tol=1e-3).radius <= expected * (1.0 + 1e-9)).all()
    larger = certified_radius(net, X, lipschitz_bounds(net, differences=True), pairs=True).radius
    assert (larger >= expected * (1.0 - 1e-5) - 1e-8).all()
    assert larger.sum() > 1.01 * expected.sum()


def test_a_tie_has_no_radius():
    net = LiftedNetwork([[[1.0], [1.0]]], units=["linear"])
    found = certified_radius(net, [[1.0]], "theorem")
    assert found.radius.tolist() == [0.0]
    assert found.margin[0] <= 0.0


def test_outputs_that_never_move_have_an_infinite_radius():
    net = LiftedNetwork([np.eye(2)], units=[([1.0, 0.0], [1.0, 0.0])])
    assert certified_radius(net, [[3.0, 4.0]]).radius.tolist() == [np.inf]


def test_bad_requests_for_radii(net, cert):
    X = np.zeros((1, 3))
    with pytest.raises(InvalidInputError, match="a predicted class needs two or more"):
        certified_radius(LiftedNetwork([[[1.0]]]), [[1.0]])
    with pytest.raises(InvalidInputError, match="a method or a certificate of all outputs"):
        certified_radius(net, X, lipschitz_bound(net, "theorem", output=0))
    with pytest.raises(InvalidInputError, match="pairs=True needs a method, or the certificates"):
        certified_radius(net, X, cert, pairs=True)
    with pytest.raises(InvalidInputError, match="no certificate of the difference of the outputs 0 and 1"):
        certified_radius(net, X, {}, pairs=True)
    with pytest.raises(CertificateError, match="the certificate does not hold"):
        certified_radius(net, X, dataclasses.replace(cert, upper=0.5 * cert.upper))
    with pytest.raises(InvalidInputError, match="X has 2 columns"):
        certified_radius(net, np.zeros((1, 2)), cert)
    with pytest.raises(InvalidInputError, match="there is no solver"):
        certified_radius(net, X, cert, solver="none")
    with pytest.raises(InvalidInputError, match="clamp holds the output, and a prediction is the free one"):
        certified_radius(net, X, cert, clamp=np.zeros((1, 3)))


def test_scores_are_energies_and_convex(net):
    rng = np.random.default_rng(4)
    X, Y = rng.standard_normal((2, 20, 3))
    inference = net.infer(X, tol=1e-9)
    np.testing.assert_allclose(scores(net, X, tol=1e-9), net.energy(X, inference.stacked))
    middle = net.scores(0.5 * (X + Y), tol=1e-9)
    assert (middle <= 0.5 * (net.scores(X, tol=1e-9) + net.scores(Y, tol=1e-9)) + 1e-9).all()
    with pytest.raises(InvalidInputError, match="X has 2 columns"):
        scores(net, np.zeros((1, 2)))


def test_random_networks_have_true_brackets(tmp_path: Path):
    for seed in range(3):
        net = random_net(np.random.default_rng(900 + seed))
        cert = lipschitz_bound(net)
        read = LiftedCertificate.load(cert.save(tmp_path / f"{seed}.json"))
        assert read.check(net)
        assert true(net, read)


def test_doubled_and_unknown_names_are_refused(net, cert, tmp_path):
    path = tmp_path / "c.json"
    path.write_text('{"upper": 0.001, ' + cert.to_json().lstrip()[1:])
    with pytest.raises(FileFormatError, match="the name 'upper' occurs twice"):
        LiftedCertificate.load(path)
    path.write_text(resealed(json.loads(cert.to_json()) | {"norm": "linf"}))
    with pytest.raises(FileFormatError, match="'norm' is no field of a certificate"):
        LiftedCertificate.load(path)


def test_radii_charge_the_rounding_of_large_numbers():
    """Outputs that cancel: in floating point the first class leads by 9e-10, and it is the other one."""
    w, b, x = [[0.879], [0.036]], [-135573322.2585001, -5552491.01400009], 154235861.5
    net = LiftedNetwork([w], [b], beta=0.0)
    exact = [Fraction(row[0]) * Fraction(x) + Fraction(shift) for row, shift in zip(w, b)]
    assert exact[1] > exact[0]
    found = net.certified_radius([[x]])
    assert found.radius[0] == 0.0 or found.predicted[0] == 1


@pytest.mark.parametrize("seed", range(20))
def test_the_error_bound_holds_in_exact_arithmetic(seed):
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.uniform(-6, 9)
    W, b = rng.standard_normal((3, 4)), rng.standard_normal(3) * size
    X = rng.standard_normal((5, 4)) * size
    found = LiftedNetwork([W], [b], beta=0.0).infer(X, tol=1e-12 * size)
    for x, z, bound in zip(X.tolist(), found.output.tolist(), found.error_bound.tolist()):
        exact = [sum(map(Fraction.__mul__, map(Fraction, row), map(Fraction, x))) + Fraction(s) for row, s in zip(W, b)]
        assert sum((Fraction(a) - e) ** 2 for a, e in zip(z, exact)) <= Fraction(bound) ** 2


def test_where_h_is_singular_nothing_is_bounded():
    found = LiftedNetwork([np.ones((2, 2)), 1e9 * np.ones((2, 2))], beta=0.0).infer(np.zeros((1, 2)))
    assert found.error_bound.tolist() == [np.inf]


def test_the_matrix_inequality_is_verified_with_the_slack_that_rounding_needs(monkeypatch):
    rng = np.random.default_rng(3)
    net = LiftedNetwork([rng.standard_normal((3, 3)), rng.standard_normal((2, 3))], beta=[0.5, 0.5], units="relu")
    honest, tried = MatrixChecker.smallest, []

    def smallest(self, start):
        tried.append(start)
        return None if len(tried) < 3 else honest(self, start)

    monkeypatch.setattr(MatrixChecker, "smallest", smallest)
    cert = lipschitz_bound(net, lower=False)
    assert len(tried) == 3
    assert cert.kind == "sdp"
