"""The command line in-process: exit codes, text, JSON, files, and bad input."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import certnet
import certnet.__main__ as entry
from certnet import Certificate, FeedForward, ShallowNetwork, certify, cli
from certnet.claims.certificate import square_above
from certnet.cli import tools
from certnet.core.outcome import Status
from certnet.proofs.slopes import SlopeIntervals
from certnet.refinement import objective


@pytest.fixture
def run(capsys, monkeypatch):
    """Call the command line with arguments; returns exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["certnet", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "400")  # refusals of options stand in a box
        with warnings.catch_warnings(), pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return call


@pytest.fixture
def network() -> ShallowNetwork:
    rng = np.random.default_rng(0)
    return ShallowNetwork(rng.standard_normal((6, 2)), rng.standard_normal(6), rng.standard_normal(6), 0.1)


@pytest.fixture
def model(network, tmp_path) -> Path:
    return network.save(tmp_path / "model.npz")


@pytest.fixture
def table(tmp_path) -> Path:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((30, 2))
    y = X[:, 0] - np.abs(X[:, 1])
    path = tmp_path / "data.csv"
    path.write_text("a,b,y\n" + "".join(f"{p!r},{q!r},{t!r}\n" for (p, q), t in zip(X.tolist(), y.tolist())))
    return path


def test_version_and_help(run):
    assert run("--version")[:2] == (0, f"certnet {certnet.__version__}\n")
    code, out, _ = run("--help")
    assert code == 0
    for command in ("certify", "refine", "check", "demo", "doctor"):
        assert command in out
    assert "Exit codes" in out


def test_certify_then_check(run, model, network, tmp_path):
    proof = tmp_path / "c.json"
    code, out, _ = run("certify", model, "--out", proof)
    assert code == 0
    assert "the prediction moves by at most" in out
    assert "proved again in" in out
    assert Certificate.load(proof).check(network)
    code, out, _ = run("check", proof, model)
    assert code == 0
    assert out.startswith("holds")


def test_certify_json_is_the_certificate(run, model, network):
    code, out, _ = run("certify", model, "--json")
    data = json.loads(out)
    assert code == 0
    assert data["digest"] == network.digest
    assert data["upper"] == pytest.approx(certify(network).upper, rel=1e-9)
    assert data["cheaper"]["product of spectral norms"] >= data["upper"]


@pytest.fixture
def classifier(tmp_path) -> Path:
    rng = np.random.default_rng(2)
    net = ShallowNetwork(
        rng.standard_normal((5, 2)), rng.standard_normal(5), rng.standard_normal((3, 5)), rng.standard_normal(3)
    )
    return net.save(tmp_path / "classifier.npz")


def test_certify_what_is_asked_for(run, model, classifier, tmp_path):
    data = json.loads(run("certify", model, "--json", "--exact", "--time-limit", "20")[1])
    assert data["kind"] == "tree"
    assert data["upper"] == pytest.approx(data["lower"], rel=1e-6)
    assert json.loads(run("certify", model, "--json", "--norm", "linf")[1])["norm"] == "linf"
    assert json.loads(run("certify", classifier, "--json", "--output", "1")[1])["output"] == [1]
    proof = tmp_path / "d.json"
    code, out, _ = run("certify", classifier, "--output", "0", "--output", "2", "--out", proof)
    assert code == 0
    assert "output 0 minus output 2 moves by at most" in out
    assert run("check", proof, classifier)[0] == 0


def test_certify_each_output_or_difference(run, classifier):
    code, out, _ = run("certify", classifier, "--each", "differences")
    assert code == 0
    for name in ("0 minus 1", "0 minus 2", "1 minus 2"):
        assert name in out
    assert set(json.loads(run("certify", classifier, "--each", "outputs", "--json")[1])) == {"0", "1", "2"}


def test_certify_on_a_device(run, tmp_path):
    pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    shapes = ((6, 3), (6, 6), (2, 6))
    net = FeedForward([rng.standard_normal(s) for s in shapes], [np.zeros(s[0]) for s in shapes], "relu")
    path = net.save(tmp_path / "deep.npz")
    data = json.loads(run("certify", path, "--json", "--device", "cpu")[1])
    assert data["kind"] == "neuron"
    assert data["upper"] == pytest.approx(certify(net).upper, rel=1e-6)
    code, _, err = run("certify", path, "--device", "warp")
    assert code == 2
    assert "device 'warp' cannot be used" in " ".join(err.split())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--each", "some"), "'some' is not one of 'outputs', 'differences'"),
        (("--each", "outputs", "--output", "1"), "leave out --output"),
        (("--output", "7"), "output must be between 0 and 2"),
        (("--norm", "linf", "--method", "product"), "--norm linf is for method"),
        (("--norm", "linff"), "'linff' is not one of 'l2', 'linf'; did you mean 'linf'?"),
        (("--method", "intervals"), "--method intervals is not of one bound"),
        (("--exact", "--method", "product"), "--exact is for"),
    ],
)
def test_certify_says_what_it_cannot_do(run, classifier, options, reason):
    code, _, err = run("certify", classifier, *options)
    assert code == 2
    assert reason in " ".join(err.split())


def test_certify_by_a_named_solver(run, model, network):
    code, out, _ = run("certify", model, "--json", "--solver", "clarabel", "--form", "dense")
    assert code == 0
    assert json.loads(out)["upper"] == pytest.approx(certify(network).upper, rel=1e-6)


def test_check_refuses_an_altered_certificate(run, model, tmp_path):
    proof = tmp_path / "c.json"
    run("certify", model, "--out", proof)
    data = json.loads(proof.read_text())
    data["upper"] *= 0.999
    data["rho"] = square_above(data["upper"])
    proof.write_text(json.dumps(data))
    code, out, _ = run("check", proof, model)
    assert code == 1
    assert "refused" in out
    assert json.loads(run("check", proof, model, "--json")[1])["holds"] is False
    other = ShallowNetwork([[1.0, 2.0]], [0.0], [1.0], 0.0).save(tmp_path / "other.npz")
    run("certify", model, "--out", proof, "--force")
    code, out, _ = run("check", proof, other)
    assert code == 1
    assert "another network" in out


def test_refine_end_to_end(run, model, network, table, tmp_path):
    out_file = tmp_path / "refined.npz"
    code, out, _ = run("refine", model, "--data", table, "--target", "y", "--weight", "0.02", "--out", out_file)
    assert code == 0
    assert "descent finished" in out
    refined = ShallowNetwork.load(out_file)
    proof = Certificate.load(tmp_path / "refined.certificate.json")
    assert proof.check(refined)
    X, y, _ = certnet.data.load_table(table, "y")
    assert objective(refined, X, y, weight=0.02) < objective(network, X, y, weight=0.02)


def test_refine_json_to_a_torch_file(run, model, table, tmp_path):
    pytest.importorskip("torch")
    out_file, proof = tmp_path / "refined.pt", tmp_path / "proof.json"
    code, out, _ = run(
        "refine", model, "--data", table, "--target", "y", "--out", out_file, "--certificate", proof, "--json"
    )
    data = json.loads(out)
    assert code == 0
    assert data["improved"]
    assert data["objective_after"] < data["objective_before"]
    assert run("check", proof, out_file, "--activation", "relu")[0] == 0


def test_refine_to_an_onnx_file(run, network, table, tmp_path):
    pytest.importorskip("onnx")
    model = certnet.io.save_model(network, tmp_path / "model.onnx")
    out_file = tmp_path / "refined.onnx"
    assert run("refine", model, "--data", table, "--target", "y", "--out", out_file)[0] == 0
    assert run("check", tmp_path / "refined.certificate.json", out_file)[0] == 0


def test_papers_programs_need_one_hidden_relu_layer(run, table, tmp_path):
    deep = certnet.networks.feedforward.FeedForward([np.eye(2), np.eye(2), [[1.0, 1.0]]], [[0, 0], [0, 0], [0]], "tanh")
    model = deep.save(tmp_path / "deep.npz")
    out = tmp_path / "r.npz"
    code, _, err = run("refine", model, "--data", table, "--target", "y", "--out", out, "--method", "joint")
    assert code == 2
    assert "is not a one-hidden-layer ReLU network" in err
    assert not out.exists()


def test_refine_keeps_a_raw_units_label_out_of_torch_files(run, network, table, tmp_path):
    pytest.importorskip("torch")
    raw = network.labelled("raw").save(tmp_path / "raw.npz")
    assert run("refine", raw, "--data", table, "--target", "y", "--out", tmp_path / "r.pt")[0] == 0
    assert run("check", tmp_path / "r.certificate.json", tmp_path / "r.pt", "--activation", "relu")[0] == 0


def test_existing_output_is_refused_before_any_work_and_kept(run, model, table, tmp_path):
    taken = tmp_path / "taken.npz"
    taken.write_text("precious")
    code, _, err = run("refine", model, "--data", table, "--target", "y", "--out", taken)
    assert code == 2
    assert "exists" in err
    assert "--force" in err
    assert taken.read_text() == "precious"
    assert run("certify", model, "--out", taken)[0] == 2
    assert taken.read_text() == "precious"
    code, _, err = run("refine", model, "--data", table, "--target", "y", "--out", tmp_path / "no" / "folder.npz")
    assert code == 2
    assert "does not exist" in err


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("a,b,y\n1,2,3\n1,x,3\n", "y", "'x'|x"),
        ("a,b,y\n1,2,3\n1,,3\n", "y", "line 3"),
        ("a,b,y\n1,2,3\n1,nan,3\n", "y", "line 3"),
        ("a,b,y\n1,2,3\n1,2\n", "y", "line 3"),
        ("a,b,y\n1,2,3\n", "price", "price"),
        ("a,b,c,y\n1,2,3,4\n", "y", "3 columns"),
        ("", "y", "empty"),
        ("a,b,y\n", "y", "row"),
    ],
)
def test_bad_tables(run, model, tmp_path, text, target, message):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    code, _, err = run("refine", model, "--data", path, "--target", target, "--out", tmp_path / "r.npz")
    assert code == 2
    assert any(part in err for part in message.split("|"))
    assert not (tmp_path / "r.npz").exists()


def test_bad_models(run, tmp_path, network):
    assert run("certify", tmp_path / "absent.npz")[0] == 2
    truncated = network.save(tmp_path / "t.npz")
    truncated.write_bytes(truncated.read_bytes()[:200])
    code, _, err = run("certify", truncated)
    assert code == 2
    assert "truncated" in err
    pickle_file = tmp_path / "model.pkl"
    pickle_file.write_bytes(b"\x80\x04N.")
    code, _, err = run("certify", pickle_file)
    assert code == 2
    assert "from_sklearn" in err
    as_state = tmp_path / "model.pt"
    as_state.write_bytes(b"\x80\x04N.")
    assert run("certify", as_state)[0] == 2


def test_solvers_that_do_not_exist_or_cannot_be_used(run, model, table, tmp_path, monkeypatch):
    refine = ("refine", model, "--data", table, "--target", "y", "--out", tmp_path / "r.npz")
    for command in (("certify", model), refine):
        code, _, err = run(*command, "--solver", "clarabell")
        assert code == 2
        assert (
            "'clarabell' is not one of 'auto', 'certnet', 'clarabel', 'scs', 'mosek'; did you mean 'clarabel'?" in err
        )
    monkeypatch.setattr(tools.cvxpy_, "why_unusable", lambda name: f"{name} has no licence")
    for command in (("certify", model), refine):
        code, _, err = run(*command, "--solver", "mosek")
        assert code == 3
        assert "MOSEK has no licence" in err


def test_certnets_own_solver_has_a_name_in_both_commands(run, model, table, tmp_path):
    code, out, _ = run("certify", model, "--solver", "certnet", "--json")
    assert code == 0
    assert json.loads(out)["upper"] == json.loads(run("certify", model, "--json")[1])["upper"]
    out_file = tmp_path / "r.npz"
    assert run("refine", model, "--data", table, "--target", "y", "--out", out_file, "--solver", "CERTNET")[0] == 0


def test_a_suffix_that_cannot_be_written(run, model, table, tmp_path):
    code, _, err = run("refine", model, "--data", table, "--target", "y", "--out", tmp_path / "r.h5")
    assert code == 2
    assert ".npz" in err


def test_doctor(run, monkeypatch):
    code, out, _ = run("doctor", "--json")
    data = json.loads(out)
    assert code == 0
    assert data["solvers"]["CLARABEL"] == {"usable": True, "reason": None}
    assert "numba" in data["packages"]
    assert run("doctor")[0] == 0
    monkeypatch.setattr(tools.cvxpy_, "why_unusable", lambda name: f"{name} is gone")
    code, out, _ = run("doctor")
    assert code == 3
    assert "CLARABEL is gone" in out


def test_demo_quick(run, tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "out"
    code, out, _ = run("demo", "--hidden", "8", "--out", folder)
    assert code == 0
    assert "adversarial test MSE" in out
    assert {path.name for path in folder.iterdir()} == set(certnet.demo.OUTPUTS)
    results = json.loads((folder / "results.json").read_text())
    before, after = results["models"]["before"], results["models"]["after"]
    assert after["objective"] < before["objective"]
    for figures in (before, after):
        assert figures["lipschitz_lower"] <= figures["lipschitz_upper"]
        assert np.all(np.array(figures["certified_mse"]) >= np.array(figures["adversarial_mse"]))
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page.replace("http-equiv", "")  # self-contained
    assert run("check", folder / "certificate.json", folder / "refined.npz")[0] == 0
    assert run("check", folder / "certificate_raw.json", folder / "refined_raw.npz")[0] == 0
    before_files = {path: path.read_bytes() for path in folder.iterdir()}
    code, _, err = run("demo", "--hidden", "8", "--out", folder)
    assert code == 2
    assert "exists" in err
    assert before_files == {path: path.read_bytes() for path in folder.iterdir()}


def test_the_installed_command(model):
    done = subprocess.run(
        [sys.executable, "-m", "certnet", "certify", str(model)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "<= L <=" in done.stdout
    assert done.stderr == ""


def test_a_file_that_is_no_certificate_is_misuse(run, model, tmp_path):
    proof = tmp_path / "c.json"
    run("certify", model, "--out", proof)
    text = proof.read_text()
    for other, match in (
        ('"upper": 1', "is not a certificate"),
        (text[: len(text) // 2], "is not a certificate"),
        (text.replace('"schema"', '"scheme"'), "has schema"),
        ("[1, 2]", "has schema"),
    ):
        proof.write_text(other)
        code, out, err = run("check", proof, model, "--json")
        assert (code, out) == (2, "")
        assert match in err
    proof.write_text(text)
    code, _, err = run("check", model, proof)
    assert code == 2
    assert "the certificate is named first, then the model" in err
    for altered in (text.replace('"units"', '"unit"'), text.replace('"rho": ', '"rho": 1')):
        proof.write_text(altered)
        code, out, _ = run("check", proof, model, "--json")
        assert code == 1
        assert json.loads(out)["holds"] is False
    code, _, err = run("check", tmp_path / "absent.json", model)
    assert code == 2
    assert "does not exist" in err


def test_slope_intervals_are_checked_like_certificates(run, network, model, tmp_path):
    held = SlopeIntervals.of(network)
    proof = held.save(tmp_path / "slopes.json")
    code, out, _ = run("check", proof, model)
    assert code == 0
    assert out.startswith("holds: all 2 intervals are proved")
    assert out.count("<= slope of output 0 along input") == 2
    code, out, _ = run("check", proof, model, "--json")
    told = json.loads(out)
    assert code == 0
    assert told["holds"] is True
    assert (told["lower"], told["upper"]) == (held.lower.tolist(), held.upper.tolist())
    assert told["monotone"] == [[0, 0]]
    assert network.about.read == told.get("read", "")
    other = dataclasses.replace(held, lower=held.lower + 1e-9).save(tmp_path / "narrow.json")
    code, out, _ = run("check", other, model)
    assert code == 1
    assert out.startswith("refused: the slope of output 0 along input 0 is not proved")
    other.write_text(proof.read_text().replace('"kind": "slopes"', '"kind": "slope"'))
    code, out, _ = run("check", other, model, "--json")
    assert code == 1
    assert json.loads(out)["holds"] is False


def test_standardised_weights_do_not_depend_on_units(run, network, table, tmp_path):
    lines = table.read_text().splitlines()
    rows = np.array([[float(cell) for cell in line.split(",")] for line in lines[1:]])
    scales = np.array([8.0, 0.25, 4.0])
    scaled = tmp_path / "scaled.csv"
    body = "\n".join(",".join(map(repr, row)) for row in (rows * scales).tolist())
    scaled.write_text(lines[0] + "\n" + body + "\n")
    same = network.rescaled(x_shift=0.0, x_scale=scales[:2], y_shift=0.0, y_scale=scales[2])
    plain, other = network.save(tmp_path / "p.npz"), same.save(tmp_path / "s.npz")
    found = []
    for file, data, name in ((plain, table, "p2.npz"), (other, scaled, "s2.npz")):
        out = tmp_path / name
        code, text, _ = run("refine", file, "--data", data, "--target", "y", "--out", out, "--standardise", "--json")
        assert code == 0
        found.append(json.loads(text))
        assert run("check", out.with_suffix(".certificate.json"), out)[0] == 0
    assert found[0]["objective_after"] == pytest.approx(found[1]["objective_after"], rel=1e-6)
    assert found[0]["objective_after"] < found[0]["objective_before"]


def test_a_table_that_does_not_fit_the_model_is_told(run, network, table, tmp_path):
    far = ShallowNetwork(network.W, network.b, network.V, 1000.0).save(tmp_path / "far.npz")
    code, _, err = run("refine", far, "--data", table, "--target", "y", "--out", tmp_path / "r.npz")
    assert code == 0
    assert "check columns and units" in err


def test_an_unchanged_network_is_called_so(run, model, network, table, tmp_path, monkeypatch):
    failed = tools.cvxpy_.SolveReport(Status.SOLVER_FAILED, "CLARABEL", "solver error: out of luck", 0.0)
    monkeypatch.setattr(tools.cvxpy_, "solve", lambda *_, **__: failed)
    code, out, err = run(
        "refine", model, "--data", table, "--target", "y", "--out", tmp_path / "r.npz", "--solver", "clarabel"
    )
    assert code == 0
    assert "not improved" in out
    assert "out of luck" in err
    assert ShallowNetwork.load(tmp_path / "r.npz") == network


@pytest.fixture
def long_job(tmp_path) -> list[str]:
    """A refinement whose rounds beyond the cell take minutes."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 8))
    y = np.sin(X @ rng.standard_normal(8))
    rows = "".join(",".join(map(repr, [*x, t])) + "\n" for x, t in zip(X.tolist(), y.tolist()))
    (tmp_path / "d.csv").write_text(",".join("abcdefgh") + ",y\n" + rows)
    big = ShallowNetwork(rng.standard_normal((100, 8)), rng.standard_normal(100), rng.standard_normal(100) / 10, 0.0)
    big.save(tmp_path / "big.npz")
    return ["refine", "big.npz", "--data", "d.csv", "--target", "y", "--out", "o.npz"]


def interrupted(arguments: list[str], folder: Path, sign: str, delay: float = 1.0) -> tuple[int, str]:
    """Run the command line, send Ctrl-C ``delay`` seconds after it writes ``sign``, and wait for it.

    As a person does, press again where nothing happens: SCS may swallow the first while it begins.
    """
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "certnet", "-v", *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # a test run in the background of a shell ignores Ctrl-C, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    heard = ""
    while sign not in heard:
        line = process.stderr.readline()
        assert line, heard
        heard += line
    time.sleep(delay)
    with process:
        try:
            for _ in range(2):
                process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    _, rest = process.communicate(timeout=50)
                    return process.returncode, heard + rest
        finally:
            process.kill()
    raise AssertionError("Ctrl-C was not heard")


@pytest.mark.parametrize(
    ("more", "sign"),
    [
        (("--cells", "50"), "joint restriction: objective"),
        (("--effort", "thorough", "--checkpoint", "run.npz"), "descent, smooth kinks: objective"),
        (("--effort", "thorough", "--standardise"), "descent, smooth kinks: objective"),
    ],
    ids=["programs", "descents", "standardised"],
)
def test_ctrl_c_keeps_the_best_network_so_far(long_job, tmp_path, more, sign):
    code, err = interrupted([*long_job, *more], tmp_path, sign)
    assert code == 130, err
    assert "best network so far" in err
    assert ("goes on from run.npz" in err) == ("run.npz" in more)
    written = {path.name for path in tmp_path.iterdir()} - {"run.npz"}
    assert written == {"big.npz", "d.csv", "o.certificate.json", "o.npz"}
    assert Certificate.load(tmp_path / "o.certificate.json").check(ShallowNetwork.load(tmp_path / "o.npz"))


@pytest.mark.parametrize("delay", [0.5, 2.0, 4.0], ids=["compiling", "beginning", "solving"])
def test_ctrl_c_is_heard_while_a_compiled_solver_runs(long_job, tmp_path, delay):
    # SCS takes the signal for itself while it runs, and looks at it only between iterations
    job = [*long_job, "--solver", "SCS", "--weight", "1e-6"]
    code, err = interrupted(job, tmp_path, "input: objective", delay)
    assert code == 130, err
    assert "interrupted" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big.npz", "d.csv"]


def test_ctrl_c_while_the_command_line_loads_is_an_interrupt(monkeypatch, capsys):
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "main", interrupt)
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_what_was_read_is_said_first(run, tmp_path):
    path, proof = tmp_path / "model.npz", tmp_path / "proof.json"
    np.savez(path, W1=np.eye(3, 2), W2=np.ones((1, 3)))
    code, _, err = run("certify", path)
    assert code == 2
    assert "--activation relu" in err
    code, out, _ = run("certify", path, "--activation", "gelu", "--out", proof)
    assert code == 0
    assert out.startswith("read 2 → 3 → 1, gelu, from W1, W2\n")
    assert "the file has no biases: they are taken as zero" in out
    code, out, _ = run("check", proof, path, "--activation", "gelu", "--layer", "W1", "--layer", "W2")
    assert code == 0
    assert out.startswith("read 2 → 3 → 1, gelu, from W1, W2\n")
    code, out, _ = run("check", proof, path, "--activation", "tanh")
    assert code == 1
    assert "another network" in out
    assert run("check", proof, path, "--activation", "gelu", "--layer", "W3")[0] == 2


def test_what_a_checkpoint_leaves_open_is_said_in_the_shell(run, tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    path = tmp_path / "saved.ckpt"
    torch.save({"actor": module.state_dict(), "critic": module.state_dict()}, path)
    options: list[str] = ["--activation", "relu"]
    for option, value in (("--key", "actor"), ("--batch-norm-eps", "1e-5")):
        code, _, err = run("certify", path, *options)
        assert code == 2
        assert f"{option} {value}" in " ".join(err.split())
        options += [option, value]
    code, out, _ = run("certify", path, *options)
    assert code == 0
    assert "read 3 → 4 → 1, relu" in out
