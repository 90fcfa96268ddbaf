"""The demo where matplotlib is not installed."""

from __future__ import annotations

import html
import sys

import pytest

from certnet import cli, demo


def test_the_report_is_written_without_pictures(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(sys, "argv", ["certnet", "demo", "--hidden", "8", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {name for name in demo.OUTPUTS if not name.endswith(".png")}
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<img" not in page
    out = capsys.readouterr().out
    for told in (html.unescape(page), out):
        assert 'pip install "certnet[plot]"' in told
    assert ".png" not in out
