"""Work that Ctrl-C ends: what it leaves, in standardised units too, and what is said where it leaves nothing."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from test_cli import model, network, run, table  # noqa: F401 - fixtures

from certnet import Certificate, CertifiedRegressor, ShallowNetwork, cli
from certnet.cli import refine as module
from certnet.cli import terminal
from certnet.cli.terminal import Interrupted, interruptible, undisturbed
from certnet.core.outcome import Status
from certnet.core.until import FOREVER, Until
from certnet.errors import CertificateError
from certnet.estimators.regressor import fit_until


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(autouse=True)
def _heard():
    """A test run in the background of a shell ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def refined(run, model, table, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(cli.os, "_exit", sys.exit)  # which is of an interrupt, and would be the tests' end

    def call(*more: object):
        out = tmp_path / "refined.npz"
        words = ("refine", model, "--data", table, "--target", "y", "--out", out, "--standardise", "--effort", "quick")
        return *run(*words, *more), out

    return call


def test_some_time_is_left_after_a_stop():
    said: list[bool] = []
    assert Until.after(None, 1.0) is FOREVER
    at_once, later = Until.after(lambda: bool(said), 0.0), Until.after(lambda: bool(said), 1000.0)
    assert at_once.reached is later.reached is None
    said.append(True)
    assert later.reached is None
    at_once.reached  # noqa: B018 - it is heard here
    time.sleep(0.01)
    assert at_once.reached is Status.INTERRUPTED
    said.clear()
    assert at_once.reached is Status.INTERRUPTED  # what was said stays so


def test_a_fit_that_is_stopped_gives_the_best_network_so_far_with_its_certificate(network, table):  # noqa: F811
    rows = np.loadtxt(table, delimiter=",", skiprows=1)
    X, y = rows[:, :2], rows[:, 2]
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 40

    whole = CertifiedRegressor(network, effort="default", random_state=0).fit(X, y)
    with pytest.warns(match="interrupted"):
        short = fit_until(CertifiedRegressor(network, effort="default", random_state=0), stop, X, y)
    assert short.refinement_.status is Status.INTERRUPTED
    assert whole.objective_after_ <= short.objective_after_ < short.objective_before_ == whole.objective_before_
    assert short.certificate_.check(short.network_)


def test_an_interrupt_while_the_result_is_certified_loses_nothing(refined, monkeypatch):
    """The first Ctrl-C comes when the work is done, and the bound in the model's own units is searched for."""
    from certnet.estimators import fitting

    untils: list[Until] = []
    certified = fitting.certify_checked

    def pressed(*given, until, **options):
        threading.Timer(0.0, press).start()
        time.sleep(1.0)
        untils.append(until)
        return certified(*given, until=until, **options)

    monkeypatch.setattr(fitting, "certify_checked", pressed)
    code, text, err, out = refined()
    assert code == 130, err
    assert "what was written is the best network so far" in err
    assert f"network written to {out}" in text
    assert Certificate.load(out.with_suffix(".certificate.json")).check(ShallowNetwork.load(out))
    assert untils[0].should_stop is not None


def test_an_interrupt_while_the_result_is_told_says_where_it_is(refined, monkeypatch):
    monkeypatch.setattr(module.Told, "print", lambda self: press())
    code, _, err, out = refined()
    assert code == 130
    assert f"the network is in {out}, its certificate in" in err
    assert Certificate.load(out.with_suffix(".certificate.json")).check(ShallowNetwork.load(out))


def test_an_interrupt_that_leaves_nothing_says_so(refined, monkeypatch):
    def lost(*_):
        press()
        time.sleep(1.0)
        raise CertificateError("limits that are not kept")

    monkeypatch.setattr(module, "_refined", lost)
    code, _, err, out = refined()
    assert code == 130
    assert "interrupted before there was a network to write: nothing was written" in err
    assert not out.exists()


def test_an_interrupt_before_the_work_is_told(refined, monkeypatch):
    monkeypatch.setattr(module, "read_network", lambda *_, **__: press())
    code, _, err, out = refined()
    assert (code, err) == (130, "interrupted: files are complete or absent\n")
    assert not out.exists()


def test_files_that_belong_together_are_all_written():
    done = []

    def write() -> None:
        with undisturbed():
            press()
            done.append("network")
            done.append("certificate")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert done == ["network", "certificate"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_does_not_wait(monkeypatch):
    """Work that heeds nothing would give something after a minute."""
    monkeypatch.setattr(terminal, "_PATIENCE", 1e6)
    stop, never = threading.Event(), threading.Event()

    def work() -> None:
        press()
        stop.wait()
        time.sleep(1.0)
        press()
        never.wait(60.0)

    with pytest.raises(Interrupted, match="nothing was written"):
        interruptible(work, stop, "nothing was written")
    never.set()
