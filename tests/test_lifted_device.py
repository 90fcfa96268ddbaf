"""Inference on a PyTorch device against coordinate descent on the CPU; on a GPU too where there is one."""

from __future__ import annotations

import numpy as np
import pytest
from lifted_bank import BANK, instance

from certnet.core.errors import InvalidInputError
from certnet.lifted import infer, initial_network

torch = pytest.importorskip("torch", reason='PyTorch is not installed: pip install "certnet[torch]"')

from certnet.lifted import device_  # noqa: E402
from certnet.lifted.device_ import infer_on_device  # noqa: E402

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("clamped", [False, True], ids=["free", "clamped"])
@pytest.mark.parametrize("number", BANK)
def test_it_is_the_same_minimiser(number: int, clamped: bool, device: str) -> None:
    net, X, clamp = instance(number)
    if clamped and net.depth == 1:
        pytest.skip("nothing is left to infer")
    given = {"clamp": clamp} if clamped else {}
    found = infer_on_device(net, X, device=device, tol=1e-9, **given)
    wanted = infer(net, X, tol=1e-11, **given)
    assert found.converged.all()
    np.testing.assert_allclose(found.stacked, wanted.stacked, atol=1e-6)
    np.testing.assert_allclose(found.energy, wanted.energy, atol=1e-9 * (1.0 + np.abs(wanted.energy)).max())


@pytest.mark.parametrize("device", DEVICES)
def test_a_large_batch_reaches_the_tolerance_on_the_device(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    net = initial_network((40, 24, 16, 5), beta=[1.0, 1.0, 0.0], gamma=0.125, random_state=0)
    X = np.random.default_rng(1).random((600, 40))
    seen = []

    def measured(given, z, limits, solver, *, finishing):  # what the device itself has reached
        found = inner(given, z, limits, solver, finishing=False)
        seen.append(found.residual.max())
        return found

    inner = device_.measured
    monkeypatch.setattr(device_, "measured", measured)
    found = infer_on_device(net, X, device=device, tol=1e-8)
    assert found.converged.all()
    assert seen[0] <= 1.01e-8
    assert found.solver == f"admm on {device}"
    np.testing.assert_allclose(found.stacked, infer(net, X, tol=1e-11).stacked, atol=1e-6)


def test_what_the_iterations_leave_is_finished() -> None:
    net = initial_network((6, 8, 7, 3), beta=[1.0, 1.0, 0.0], gamma=0.125, random_state=0)
    X = np.random.default_rng(1).random((9, 6))
    found = infer_on_device(net, X, device="cpu", tol=1e-9, max_iterations=1)
    assert found.converged.all()
    assert len(infer_on_device(net, X[:0], device="cpu").energy) == 0


def test_a_device_that_is_not_there_is_refused() -> None:
    net = initial_network((6, 8, 3), beta=[1.0, 0.0], random_state=0)
    with pytest.raises(InvalidInputError, match="abacus"):
        infer_on_device(net, np.ones((2, 6)), device="abacus")
    with pytest.raises(InvalidInputError, match="tol"):
        infer_on_device(net, np.ones((2, 6)), device="cpu", tol=-1.0)
