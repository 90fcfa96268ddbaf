"""The folder of a study: what it is of, one file per finished row, and networks for the rows that need them."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

from certnet._version import __version__
from certnet.core.archives import check_archive
from certnet.core.errors import FileFormatError, OutputError
from certnet.core.files import path_of, write_atomic
from certnet.study.spec import Study, StudySpec
from certnet.study.tasks import FORMAT, Row

__all__ = ["Store"]

_MANIFEST: Final = "study.json"
_KEYS: Final = ("task", "status", "reason", "seconds")  # of every row, whatever its kind and however it ended


class Store:
    """Rows and artifacts below ``folder``, named by the digest of their task.

    Files are complete or absent; what exists is never changed, but for the manifest, which is of the study that was run
    last. A row says that its task is finished, so its artifact is written first. Any number of processes and machines
    may use one folder.

    Attributes
    ----------
    folder : Path
    study : Study
    changed : str
        What of the study differs from that of the manifest: rows that both have are used, others stay.
    """

    folder: Path
    study: Study[StudySpec]
    changed: str

    def __init__(self, folder: Path, study: Study[StudySpec], changed: str = "") -> None:
        self.folder, self.study, self.changed = folder, study, changed

    @classmethod
    def create(cls, folder: str | Path, study: Study[StudySpec]) -> Store:
        """Make the folder, or go on in one of the same study, or of one of its kind that says something else.

        Raises
        ------
        OutputError
            The folder cannot be made or written, holds other files, or rows of another kind of study or version.
        FileFormatError
            Its manifest cannot be read.
        """
        store = cls(path_of(folder), study)
        try:
            for path in (store.folder / "rows", store.leases, store.folder / "networks"):
                path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {folder}: {error.strerror}: name another (--out)") from error
        if not (store.folder / _MANIFEST).exists():
            # another process may have been first: then its manifest is checked
            with contextlib.suppress(OutputError):
                write_atomic(store.folder / _MANIFEST, json.dumps(_manifest(study), indent=1) + "\n")
        store.changed = store._difference(writing=True)
        if store.changed:
            write_atomic(store.folder / _MANIFEST, json.dumps(_manifest(study), indent=1) + "\n", force=True)
        return store

    @classmethod
    def open(
        cls,
        folder: str | Path,
        study: Study[StudySpec],
        *,
        writing: bool = False,
        advice: str = "run it first, or name the folder of its results",
    ) -> Store:
        """The folder of a run that exists; with ``writing`` it must be of this version of certnet.

        ``advice`` ends the message where there is no run.

        Raises
        ------
        OutputError, FileFormatError
            As :meth:`create`; also where there is no such folder.
        """
        store = cls(path_of(folder), study)
        if not (store.folder / _MANIFEST).is_file():
            raise OutputError(f"{folder} holds no study: {advice}")
        store.changed = store._difference(writing=writing)
        return store

    def _difference(self, *, writing: bool) -> str:
        """What differs from the study of the folder; a refusal where rows of the two cannot stand side by side."""
        path = self.folder / _MANIFEST
        said = _read_json(path, "and `run` again")
        if said.get("format") != FORMAT:
            raise OutputError(
                f"{self.folder} has the format {said.get('format')!r}, this version of certnet writes {FORMAT!r}: "
                "name another folder (--out)"
            )
        settings = said.get("settings")
        kind = settings.get("kind") if isinstance(settings, dict) else None
        if kind != self.study.spec.kind:
            raise OutputError(
                f"{self.folder} holds rows of another kind of study ({said.get('study')}, kind {kind!r}), this one is "
                f"{self.study.spec.kind!r}: name another folder (--out)"
            )
        if writing and said.get("certnet") != __version__:
            raise OutputError(
                f"{self.folder} was begun by certnet {said.get('certnet')}, this is {__version__}, and rows of two "
                "versions do not mix: name another folder (--out), or go on with that version"
            )
        return "" if said.get("digest") == self.study.digest else _differences(settings, self.study.settings)

    @property
    def leases(self) -> Path:
        """Of :class:`certnet.study.leases.Leases`; the folder keeps the name that it had in older versions."""
        return self.folder / "claims"

    # ----------------------------------------------------------------------------------------------------------- rows

    def row_path(self, digest: str) -> Path:
        return self.folder / "rows" / f"{digest}.json"

    def has(self, digest: str) -> bool:
        return self.row_path(digest).exists()

    def finished(self) -> set[str]:
        """Digests of all rows."""
        return {path.stem for path in (self.folder / "rows").glob("*.json")}

    def row(self, digest: str) -> Row:
        """A row.

        Raises
        ------
        FileFormatError
        """
        path = self.row_path(digest)
        row = _read_json(path, "and resume")
        missing = [key for key in _KEYS if key not in row]
        if missing:
            raise FileFormatError(f"{path} is no row of a study (it lacks {', '.join(missing)}): remove it and resume")
        return row

    def write_row(self, digest: str, row: Row) -> bool:
        """Write a row; False where another process wrote it first, whose row stays.

        Raises
        ------
        OutputError
            The disk is full, or the folder is gone.
        """
        text = json.dumps(row, indent=1, allow_nan=False) + "\n"
        try:
            write_atomic(self.row_path(digest), text)
        except OutputError:
            if self.has(digest):
                return False
            raise
        return True

    def forget(self, digest: str) -> None:
        """Remove a row, so that its task is run again."""
        self.row_path(digest).unlink(missing_ok=True)

    def forget_artifact(self, digest: str) -> None:
        """Remove a row and its artifact."""
        self.forget(digest)
        self.artifact_path(digest).unlink(missing_ok=True)

    # ------------------------------------------------------------------------------------------------------ artifacts

    def artifact_path(self, digest: str) -> Path:
        return self.folder / "networks" / f"{digest}.npz"

    def write_artifact(self, digest: str, content: bytes) -> None:
        write_atomic(self.artifact_path(digest), content, force=True)

    def artifact(self, digest: str) -> bytes:
        """The content of a stored artifact.

        Raises
        ------
        FileFormatError
        """
        path = self.artifact_path(digest)
        try:
            content = path.read_bytes()
            check_archive(io.BytesIO(content), path)
            with zipfile.ZipFile(io.BytesIO(content)) as file:  # as .npz files are
                damaged = file.testzip()
        except OSError as error:
            raise FileFormatError(
                f"{path} cannot be read ({error.strerror}): remove the row {self.row_path(digest).name} too, and resume"
            ) from error
        except (
            FileFormatError,
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
            ValueError,
        ) as error:
            raise FileFormatError(self._damaged(path, digest)) from error
        if damaged is not None:
            raise FileFormatError(self._damaged(path, digest))
        return content

    def _damaged(self, path: Path, digest: str) -> str:
        return f"{path} is damaged: remove it and the row {self.row_path(digest).name}, and resume"


def _manifest(study: Study[StudySpec]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "certnet": __version__,
        "study": study.name,
        "quick": study.quick,
        "digest": study.digest,
        "settings": study.settings,
        "text": study.text,
        "overrides": list(study.overrides),
    }


def _read_json(path: Path, then: str) -> dict[str, Any]:
    """The object in a file; ``then`` says what to do after a damaged one is removed."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path} cannot be read ({error}): remove it {then}") from error
    if not isinstance(content, dict):
        raise FileFormatError(f"{path} holds no JSON object: remove it {then}")
    return content


def _differences(old: Any, new: Any, path: str = "") -> str:
    """Dotted keys whose values differ, the first few."""
    keys = sorted(_different(old, new, path))
    return ", ".join(keys[:5]) + (", …" if len(keys) > 5 else "")


def _tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _different(old: Any, new: Any, path: str) -> list[str]:
    if _tables(old) and _tables(new) and len(old) == len(new):
        return [name for i, (a, b) in enumerate(zip(old, new)) for name in _different(a, b, f"{path}.{i}")]
    if isinstance(old, dict) and isinstance(new, dict):
        if "csv" in new and old.get("csv") == new["csv"] and old.get("sha256") != new.get("sha256"):
            rest = _different(old | {"sha256": ""}, new | {"sha256": ""}, path)
            return [f"the content of {new['csv']}, which has changed", *rest]
        each = (_different(old.get(key), new.get(key), f"{path}.{key}".lstrip(".")) for key in {*old, *new})
        return [name for names in each for name in names]
    return [] if old == new else [path or "all"]
