"""No command overwrites what it reads, whatever the path is written like, and with ``--force``."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from test_cli import model, network, run, table  # noqa: F401 - fixtures

from certnet import ShallowNetwork
from certnet.cli.outputs import require_apart
from certnet.core.errors import OutputError


@pytest.fixture
def files(model, table, tmp_path, monkeypatch):  # noqa: F811
    """A folder with a model and tables; the same bytes are there at the end, unless it is said otherwise."""
    (tmp_path / "held.csv").write_text(table.read_text())
    for name, row in (("low.csv", "-1,-1"), ("high.csv", "1,1"), ("point.csv", "0,0")):
        (tmp_path / name).write_text(f"a,b\n{row}\n")
    (tmp_path / "link.npz").symlink_to("model.npz")
    os.link(tmp_path / "model.npz", tmp_path / "same.npz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


REFINE = ("refine", "model.npz", "--data", "data.csv", "--target", "y")
BOX = ("--box", "low.csv", "high.csv")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("certify", "model.npz", "--out", "model.npz"), "model.npz is MODEL"),
        (("certify", "model.npz", "--out", "./link.npz"), "is MODEL"),
        (("certify", "link.npz", "--out", "model.npz"), "is MODEL"),
        (("certify", "model.npz", "--out", "same.npz"), "is MODEL"),
        (("certify", "model.npz", "--features", "--out", "model.npz"), "is MODEL"),
        (("certify", "model.npz", *BOX, "--out", "high.csv"), "is the second file of --box"),
        (("certify", "model.npz", *BOX, "--data", "data.csv", "--target", "y", "--out", "data.csv"), "of --data"),
        (("certify", "model.npz", "--around-data", "data.csv", "--target", "y", "--out", "data.csv"), "--around-data"),
        (("certify", "model.npz", "--around", "point.csv", "--radius", 1, "--out", "point.csv"), "point of --around"),
        (("certify", "model.npz", "--features", "--out", "p.svg", "--plot", "p.svg"), "--out and --plot are both"),
        ((*REFINE, "--out", "r.npz", "--certificate", "model.npz"), "is MODEL"),
        ((*REFINE, "--out", "r.npz", "--certificate", "data.csv"), "is the table of --data"),
        ((*REFINE, "--out", "r.npz", "--validation", "held.csv", "--certificate", "held.csv"), "of --validation"),
        ((*REFINE, "--out", "r.npz", "--checkpoint", "model.npz"), "is MODEL"),
        ((*REFINE, "--out", "r.npz", "--checkpoint", "data.csv"), "is the table of --data"),
        ((*REFINE, "--out", "r.npz", "--checkpoint", "r.npz"), "the network and --checkpoint are both"),
        ((*REFINE, "--out", "r.npz", "--certificate", "r.npz"), "the network and the certificate are both"),
        (
            (*REFINE, "--out", "r.npz", "--box", "low.csv", "high.csv", "--certificate", "low.csv"),
            "first file of --box",
        ),
    ],
)
def test_an_input_is_refused_as_an_output(run, files, words, message):  # noqa: F811
    before = contents(files)
    code, _, err = run(*words, "--force")
    assert code == 2
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert contents(files) == before


def test_lifted_networks_are_not_overwritten(run, tmp_path, monkeypatch):  # noqa: F811
    rng = np.random.default_rng(0)
    images = np.asarray(rng.integers(0, 255, (20, 4, 4)), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", x=images, y=np.arange(20) % 2)
    monkeypatch.chdir(tmp_path)
    train = ("lifted", "train", "d.npz", "--layers", "3", "--epochs", 1)
    assert run(*train, "--out", "net.npz")[0] == 0
    before = contents(tmp_path)
    for words, message in (
        ((*train, "--out", "d.npz"), "d.npz is DATA"),
        ((*train, "--out", "e.npz", "--checkpoint", "d.npz"), "d.npz is DATA"),
        (("lifted", "infer", "net.npz", "d.npz", "--out", "net.npz"), "net.npz is NET"),
        (("lifted", "infer", "net.npz", "d.npz", "--out", "d.npz"), "d.npz is DATA"),
        (("lifted", "certify", "net.npz", "--out", "net.npz"), "net.npz is NET"),
        (("lifted", "certify", "net.npz", "--data", "d.npz", "--out", "d.npz"), "d.npz is --data"),
    ):
        code, _, err = run(*words, "--force")
        assert code == 2
        assert message in err
    assert contents(tmp_path) == before


def test_a_model_may_make_room_for_its_refinement(run, files, network):  # noqa: F811
    """With --force alone: it is an explicit wish, and the file is the one or the other, never a part."""
    words = (*REFINE, "--out", "model.npz", "--effort", "quick")
    code, _, err = run(*words)
    assert code == 2
    assert "exists" in err
    assert run(*words, "--force")[0] == 0
    assert ShallowNetwork.load(files / "model.npz") != network
    assert run("check", "model.certificate.json", "model.npz")[0] == 0


def test_parts_of_a_table_that_is_a_folder(tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    part, beside = folder / "part.parquet", folder / "c.json"
    part.write_bytes(b"PAR1")
    beside.write_text("{}")
    with pytest.raises(OutputError, match="is the table of --data"):
        require_apart({"the certificate": part}, {"the table of --data": folder})
    require_apart({"the certificate": beside, "the network": None}, {"the table of --data": folder, "no": None})
    with pytest.raises(OutputError, match="is MODEL"):
        require_apart({"--out": tmp_path / "x" / ".." / "gone.npz"}, {"MODEL": str(tmp_path / "gone.npz")})
