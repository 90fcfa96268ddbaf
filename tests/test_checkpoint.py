"""The state of a run in a file: whole after a kill, exact, and of this very run."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from certnet.core.errors import FileFormatError, InvalidInputError, OutputError
from certnet.refinement.checkpoint import Checkpoint

RUN = {"network": "ab" * 32, "data": "cd" * 32, "weight": 0.01, "options": {"effort": "default", "keep": []}}

plain = st.one_of(st.text(max_size=5), st.integers(), st.floats(), st.booleans(), st.none())
arrays = hnp.arrays(
    st.sampled_from([np.float64, np.int32, np.bool_, np.uint8]), hnp.array_shapes(min_dims=0, min_side=0)
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(max_size=8), st.one_of(plain, arrays), max_size=6))
def test_what_comes_back_is_what_was_saved(tmp_path_factory, state):
    checkpoint = Checkpoint.at(tmp_path_factory.mktemp("run") / "run.npz", RUN)
    assert checkpoint.load() is None
    checkpoint.save(state)
    found = checkpoint.load()
    assert set(found) == set(state)
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(found[name], value)
            assert found[name].dtype == value.dtype
        elif isinstance(value, float) and math.isnan(value):
            assert math.isnan(found[name])
        else:
            assert found[name] == value
            assert type(found[name]) is type(value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"network": "00" * 32}, "differs in network: name another file"),
        ({"network": "00" * 32, "data": "11"}, "differs in data, network: name"),
        ({"weight": 0.02}, r"differs in weight \(0.01 there, 0.02 here\): name another file, delete it to start anew"),
        ({"options": {"effort": "quick", "keep": []}}, r"differs in options \("),
        ({"seed": 3}, r"differs in seed \(null there, 3 here\)"),
    ],
)
def test_another_run_is_refused(tmp_path, change, words):
    Checkpoint.at(tmp_path / "run.npz", RUN).save({"x": np.ones(3)})
    with pytest.raises(InvalidInputError, match=words):
        Checkpoint.at(tmp_path / "run.npz", RUN | change).load()
    assert Checkpoint.at(tmp_path / "run.npz", dict(reversed(RUN.items()))).load() is not None


def test_files_that_are_no_checkpoint(tmp_path):
    path = tmp_path / "run.npz"
    checkpoint = Checkpoint.at(path, RUN)
    checkpoint.save({"x": np.ones(300), "stage": 2})
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:-1], b"\x93NUMPY"):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match=r"run\.npz is not a readable"):
            checkpoint.load()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0xFF
    path.write_bytes(flipped)
    with pytest.raises(FileFormatError, match=r"run\.npz"):
        checkpoint.load()
    np.savez(path, W=np.ones(3))
    with pytest.raises(FileFormatError, match="is not a checkpoint of a run"):
        checkpoint.load()
    np.savez(path, told=np.array('{"format": "other"}'))
    with pytest.raises(FileFormatError, match="is not a checkpoint of a run"):
        checkpoint.load()
    np.savez(path, told=np.array([{}], dtype=object))
    with pytest.raises(FileFormatError, match="is not a readable checkpoint"):
        checkpoint.load()


def test_objects_are_not_kept(tmp_path):
    with pytest.raises(InvalidInputError, match="x is an array of objects"):
        Checkpoint.at(tmp_path / "run.npz", RUN).save({"x": np.array([{}])})
    assert not (tmp_path / "run.npz").exists()


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(OutputError, match="does not exist: make it first"):
        Checkpoint.at(tmp_path / "missing" / "run.npz", RUN)
    with pytest.raises(OutputError, match="is a folder"):
        Checkpoint.at(tmp_path, RUN)


SCRIPT = """
import sys
import numpy as np
from certnet.refinement.checkpoint import Checkpoint
checkpoint = Checkpoint.at(sys.argv[1], {"run": 1})
state = checkpoint.load() or {"step": 0, "x": np.zeros(20_000)}
step, x = state["step"], state["x"]
while step < 400:
    step, x = step + 1, np.sin(x + 1.0)
    checkpoint.save({"step": step, "x": x})
"""


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on(tmp_path: Path):
    """Again and again, wherever the kill finds it: the file is whole, and the end is that of a run of its own."""
    path = tmp_path / "run.npz"
    checkpoint = Checkpoint.at(path, {"run": 1})
    reached, kills = 0, 0
    for wait in (0.1, 0.35):
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(path)])
        begin = time.monotonic()
        while process.poll() is None and time.monotonic() - begin < 60.0:
            state = checkpoint.load()
            if state is not None and state["step"] > reached:
                time.sleep(wait)
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(0.02)
        kills += process.wait() == -signal.SIGKILL
        state = checkpoint.load()
        assert state is not None
        assert state["step"] > reached
        reached = state["step"]
    assert kills
    assert subprocess.run([sys.executable, "-c", SCRIPT, str(path)], check=False, timeout=120).returncode == 0
    x = np.zeros(20_000)
    for _ in range(400):
        x = np.sin(x + 1.0)
    state = checkpoint.load()
    assert state is not None
    assert state["step"] == 400
    np.testing.assert_array_equal(state["x"], x)
