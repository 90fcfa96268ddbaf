"""Files are complete or absent, whatever fails in the middle."""

from __future__ import annotations

import errno
import io
import math
import os
import stat
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from certnet.certification import certify
from certnet.core import files
from certnet.core.errors import FileFormatError, OutputError
from certnet.core.files import check_writable, write_atomic
from certnet.data.npz import read_npz_images
from certnet.io import load_model
from certnet.lifted import LiftedNetwork
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", [b"\x00\xffbytes", "text: ρ ≥ 0\n", b"", ""])
@pytest.mark.parametrize("force", [False, True])
def test_writes_all_and_nothing_else(tmp_path: Path, content: bytes | str, force: bool) -> None:
    path = write_atomic(tmp_path / "out.bin", content, force=force)
    assert path == tmp_path / "out.bin"
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names(tmp_path) == ["out.bin"]
    assert write_atomic(str(tmp_path / "second"), content).exists()


def test_does_not_overwrite_unless_told(tmp_path: Path) -> None:
    path = write_atomic(tmp_path / "out", b"old")
    with pytest.raises(OutputError, match=r"out exists: name another file, or allow overwriting it"):
        write_atomic(path, b"new")
    with pytest.raises(OutputError, match="exists"):
        check_writable(path)
    assert path.read_bytes() == b"old"
    write_atomic(path, b"new", force=True)
    assert path.read_bytes() == b"new"
    assert check_writable(path, force=True) == path


@pytest.mark.parametrize("force", [False, True])
def test_refuses_folders_and_missing_folders(tmp_path: Path, force: bool) -> None:
    for target, message in [(tmp_path, "is a folder"), (tmp_path / "no" / "out", "does not exist: make it first")]:
        for call in (lambda t: check_writable(t, force=force), lambda t: write_atomic(t, b"", force=force)):
            with pytest.raises(OutputError, match=message):
                call(target)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"does not exist|Not a directory"):
        write_atomic(tmp_path / "file" / "out", b"", force=force)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_refuses_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="not writable"):
            write_atomic(folder / "out", b"")
    finally:
        folder.chmod(0o700)


def test_a_folder_that_says_it_cannot_be_written_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.os, "access", lambda *_: False)
    with pytest.raises(OutputError, match="not writable"):
        check_writable(tmp_path / "out")


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("function", ["fsync", "fdopen", "replace"])
@pytest.mark.parametrize(("number", "word"), [(errno.ENOSPC, "No space left"), (errno.EIO, "Input/output error")])
def test_a_failure_in_the_middle_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, number: int, word: str, force: bool
) -> None:
    def fail(*_: Any, **__: Any) -> NoReturn:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "out"
    if force:
        path.write_bytes(b"old")
    monkeypatch.setattr(files.os, function, fail)
    if not force:
        monkeypatch.setattr(files.os, "link", fail)  # as on a file system without hard links
    with pytest.raises(OutputError, match=word):
        write_atomic(path, b"new", force=force)
    assert names(tmp_path) == (["out"] if force else [])
    assert not force or path.read_bytes() == b"old"


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "out", b"new")
    assert names(tmp_path) == []


def test_a_file_made_meanwhile_by_another_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out"
    sync = os.fsync

    def meanwhile(handle: int) -> None:
        path.write_bytes(b"theirs")
        sync(handle)

    monkeypatch.setattr(files.os, "fsync", meanwhile)
    with pytest.raises(OutputError, match="exists"):
        write_atomic(path, b"mine")
    assert path.read_bytes() == b"theirs"
    assert names(tmp_path) == ["out"]


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> NoReturn:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", refuse)
    assert write_atomic(tmp_path / "out", b"new").read_bytes() == b"new"
    assert names(tmp_path) == ["out"]


def test_a_folder_that_takes_no_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    for call in (lambda path: write_atomic(path, b"new"), check_writable):
        with pytest.raises(OutputError, match=r"cannot write in .*Read-only file system"):
            call(tmp_path / "out")


def test_a_check_leaves_nothing(tmp_path: Path) -> None:
    assert check_writable(tmp_path / "out") == tmp_path / "out"
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc here")
def test_a_folder_that_only_looks_writable() -> None:
    with pytest.raises(OutputError, match=r"cannot write in /proc|not writable"):
        check_writable("/proc/out.npz")


def test_the_umask_is_respected(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = write_atomic(tmp_path / "out", b"")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_names_that_no_file_system_takes(tmp_path: Path) -> None:
    for name in ["x" * 300, "a\0b"]:
        with pytest.raises(OutputError):
            write_atomic(tmp_path / name, b"")
    assert names(tmp_path) == []


def test_a_long_name_that_the_file_system_takes(tmp_path: Path) -> None:
    name = "x" * 250
    assert write_atomic(tmp_path / name, b"new").read_bytes() == b"new"


def test_a_broken_link_is_not_replaced_silently(tmp_path: Path) -> None:
    link = tmp_path / "out"
    try:
        link.symlink_to(tmp_path / "nowhere")
    except OSError:
        pytest.skip("no symbolic links here")
    with pytest.raises(OutputError, match="exists"):
        write_atomic(link, b"new")
    assert link.is_symlink()


# archives ------------------------------------------------------------------------------------------------------------


def bomb(path: Path, entries: int, *, announced: int | None = None) -> Path:
    """An ``.npz`` of zeros that is small on the disk."""
    header = io.BytesIO()
    shape = (entries if announced is None else announced,)
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("W.npy", "w") as file:
        file.write(header.getvalue())
        for left in range(entries, 0, -(1 << 20)):
            file.write(bytes(8 * min(left, 1 << 20)))
    return path


def test_a_small_archive_of_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certnet.core.archives._SUSPICIOUS", 1 << 20)
    path = bomb(tmp_path / "a.npz", 1 << 18)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("was read"))
    for read in (FeedForward.load, ShallowNetwork.load, LiftedNetwork.load, load_model):
        with pytest.raises(FileFormatError, match=r"unpacks to 2 MiB: at most 4 GiB are read"):
            read(path)
    with pytest.raises(FileFormatError, match=r"unpacks to 2 MiB"):
        read_npz_images(path)


def test_headers_that_announce_more_than_there_is(tmp_path: Path) -> None:
    for announced in (1 << 40, 5, 0):
        path = bomb(tmp_path / f"{announced}.npz", 100, announced=announced)
        with pytest.raises(
            FileFormatError, match=f"announces {8 * announced} bytes and holds 800: the file is damaged"
        ):
            load_model(path)


def test_certificates_of_nothing_are_not_written(tmp_path: Path) -> None:
    net = ShallowNetwork([[1.0, 2.0]], [0.0], [1.0], 0.0)
    certificate = certify(net)
    for name in ("upper", "lower", "seconds"):
        for value in (math.nan, math.inf):
            with pytest.raises(OutputError, match=f"{name} of the certificate is NaN or infinite"):
                replace(certificate, **{name: value}).save(tmp_path / "c.json")
    assert not (tmp_path / "c.json").exists()
