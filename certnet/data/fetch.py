"""Files of known sha256: found in a data folder, or downloaded once into the user's cache."""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Final

from certnet._version import __version__
from certnet.core.errors import DatasetError, OutputError
from certnet.core.files import path_of, write_atomic
from certnet.data.registry import UPSTREAM_URL, RemoteFile

__all__ = ["TIMEOUT_SECONDS", "cache_folder", "fetch_file", "search_folders"]

TIMEOUT_SECONDS: Final = 30.0
"""For the whole download of one file: all of them are below 40 kB."""


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/certnet`` (if that is an absolute path), else ``~/.cache/certnet``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):
        return Path(base) / "certnet"
    try:
        return Path.home() / ".cache" / "certnet"
    except RuntimeError as error:
        raise DatasetError(
            "the home folder is unknown, so there is no cache folder: set CERTNET_DATA_HOME or XDG_CACHE_HOME"
        ) from error


def search_folders(data_home: str | os.PathLike[str] | None = None) -> dict[str, Path]:
    """Where files are looked for, in this order, by what each folder is called in messages.

    Raises
    ------
    DatasetError
        ``data_home`` is given and is not a folder.
    """
    folders: dict[str, Path] = {}
    if data_home is not None:
        folders["data_home"] = path_of(data_home)
        if not folders["data_home"].is_dir():
            raise DatasetError(f"data_home={str(data_home)!r} is not a folder: name the folder that holds uci/")
    if home := os.environ.get("CERTNET_DATA_HOME"):
        folders["CERTNET_DATA_HOME"] = Path(home)
    folders["the cache"] = cache_folder()
    return folders


def fetch_file(
    file: RemoteFile,
    *,
    data_home: str | os.PathLike[str] | None = None,
    download: bool = True,
    base_url: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> bytes:
    """The content of ``file``, whose sha256 has been checked.

    Looked for below ``data_home``, ``$CERTNET_DATA_HOME`` and the cache folder; else downloaded from ``base_url``
    (``$CERTNET_DATA_URL``, else the upstream repository) and kept in the cache folder, in no other.

    Raises
    ------
    DatasetError
        Not found and not to be downloaded, the download fails, or the content is not the expected one.
    """
    folders = search_folders(data_home)
    for folder in folders.values():
        if (path := folder / file.local).is_file():
            return _read_verified(path, file)
    url = f"{(base_url or os.environ.get('CERTNET_DATA_URL') or UPSTREAM_URL).rstrip('/')}/{file.remote}"
    if not download:
        raise DatasetError(_absent(file, folders, url, "downloading is off (download=False)"))
    try:
        content = _download(url, file, timeout)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DatasetError(_absent(file, folders, url, f"the download failed ({_reason(error)})")) from error
    _keep(cache_folder() / file.local, content)
    return content


def _read_verified(path: Path, file: RemoteFile) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
    if (problem := _mismatch(content, file)) is not None:
        raise DatasetError(f"{path} is not the expected file ({problem}): remove it, then load the set again")
    return content


def _mismatch(content: bytes, file: RemoteFile) -> str | None:
    found = hashlib.sha256(content).hexdigest()
    if found == file.sha256:
        return None
    if len(content) != file.size:
        more = "more than " if len(content) > file.size else ""
        size = min(len(content), file.size)
        return f"it has {more}{size} bytes, {file.size} are expected"
    return f"its sha256 is {found}, {file.sha256} is expected"


def _download(url: str, file: RemoteFile, timeout: float) -> bytes:
    """At most ``file.size`` bytes from ``url`` within ``timeout`` seconds, checked before anybody sees them."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ValueError("the address must begin with http:// or https://")
    request = urllib.request.Request(url, headers={"User-Agent": f"certnet/{__version__}"})
    deadline = time.monotonic() + timeout
    content = bytearray()
    with _open(request, timeout) as response:
        # one byte more than expected is enough to know that the file is another one
        while len(content) <= file.size and (chunk := response.read1(file.size + 1 - len(content))):
            content += chunk
            if time.monotonic() > deadline:
                raise TimeoutError(f"not complete after {timeout:g} seconds")
    if (problem := _mismatch(bytes(content), file)) is not None:
        raise ValueError(f"refused: {problem}")
    return bytes(content)


def _open(request: urllib.request.Request, timeout: float) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise
    return response


def _keep(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # force: another process may have put the same bytes there meanwhile
        write_atomic(path, content, force=True)
    except OSError as error:  # OutputError is one
        reason = error if isinstance(error, OutputError) else f"cannot make {path.parent}: {error.strerror}"
        raise DatasetError(
            f"a downloaded file cannot be kept ({reason}): set XDG_CACHE_HOME to a folder that can be written"
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__


def _absent(file: RemoteFile, folders: dict[str, Path], url: str, why: str) -> str:
    places = "; ".join(
        f"{path} ({name}{'' if path.is_dir() else ', which is not a folder'})" for name, path in folders.items()
    )
    unset = "" if "CERTNET_DATA_HOME" in folders else ", CERTNET_DATA_HOME is not set"
    return (
        f"{file.local} is not in {places}{unset}, and {why}. Get {url} by other means, save it as "
        f"FOLDER/{file.local} and set CERTNET_DATA_HOME=FOLDER (or pass data_home=FOLDER)"
    )
