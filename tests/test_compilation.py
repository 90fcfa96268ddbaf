"""Where compiled kernels are kept."""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from numba import config, njit

from certnet.kernels import compilation
from certnet.kernels.compilation import compile_seconds, compiled, kept_in
from certnet.kernels.elliptope import ascend


def double(x: float) -> float:
    return 2.0 * x


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """numba finds no place but the one that it is given."""
    real = compilation.njit

    def njit(*, cache: bool = False, **options: object):  # type: ignore[no-untyped-def]
        if cache and not config.CACHE_DIR:
            raise RuntimeError("cannot cache function 'double': no locator available")
        return real(cache=cache, **options)

    monkeypatch.setattr(compilation, "njit", njit)
    monkeypatch.setattr(config, "CACHE_DIR", "")
    compilation._writable.cache_clear()
    yield
    compilation._writable.cache_clear()


def test_kernels_are_kept_beside_their_source_or_where_numba_is_told() -> None:
    folder = kept_in(ascend)
    assert folder is not None
    assert folder.is_dir()


def test_a_read_only_installation_keeps_them_in_the_cache_folder(read_only, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernel = compiled()(double)
    assert kernel(1.5) == 3.0
    folder = kept_in(kernel)
    assert folder is not None
    assert tmp_path / "certnet" / "numba" in folder.parents
    assert list(folder.glob("*.nbi"))
    assert config.CACHE_DIR == ""
    again = compiled()(double)
    assert again(1.5) == 3.0
    assert sum(again.stats.cache_hits.values()) == 1


def test_without_a_home_they_are_kept_in_a_private_temporary_folder(read_only, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setattr(compilation.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = kept_in(compiled()(double))
    assert folder is not None
    private = tmp_path / f"certnet-numba-{compilation._user()}"
    assert private in folder.parents
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_a_folder_that_others_may_write_is_not_taken(read_only, tmp_path, monkeypatch, caplog) -> None:
    """What stands in a cache is executed."""
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setattr(compilation.tempfile, "gettempdir", lambda: str(tmp_path))
    shared = Path(tmp_path / f"certnet-numba-{compilation._user()}")
    shared.mkdir()
    shared.chmod(0o777)
    with caplog.at_level(logging.WARNING, "certnet"):
        kernel = compiled()(double)
    assert "NUMBA_CACHE_DIR" in caplog.text
    assert kept_in(kernel) is None
    assert kernel(1.5) == 3.0


def test_seconds_of_compiling_are_counted_and_those_of_running_are_not() -> None:
    kernel = njit(lambda x: 2.0 * x)
    before = compile_seconds()
    assert kernel(2.0) == 4.0
    after = compile_seconds()
    assert after > before
    assert kernel(3.0) == 6.0
    assert compile_seconds() == after
