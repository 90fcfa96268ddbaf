"""Make docs/notebooks.md, a gallery of the notebooks, with pictures that the notebooks themselves draw.

    python scripts/notebook_gallery.py                  the page alone: titles and first sentences from the files
    python scripts/notebook_gallery.py --run            every notebook is run, and its picture taken
    python scripts/notebook_gallery.py --run lifted     only those that are named

A notebook that was saved with its pictures need not be run. Which of several pictures is shown stands in PICTURES.
"""

from __future__ import annotations

import argparse
import base64
import io
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
THUMBNAILS = ROOT / "docs" / "images" / "notebooks"
PAGE = ROOT / "docs" / "notebooks.md"
SOURCE = "https://github.com/certnet/certnet/blob/main/notebooks"
ORDER = (
    "quickstart",
    "certificates",
    "tradeoff",
    "regions",
    "torch",
    "refine_depth",
    "certified_training",
    "lifted",
    "yin",
)
PICTURES: dict[str, int] = {}
"""Which picture of a notebook is shown, counted from 0; the last one by default."""
WIDTH = 480  # pixels, twice of what a card shows
HEAD = """# Notebooks

Each runs from top to bottom, with data that come with scikit-learn where no other are at hand (`CERTNET_DATA_HOME`).
The pictures are those that the notebooks draw; `python scripts/notebook_gallery.py --run` makes this page.

"""


def pictures(notebook: nbformat.NotebookNode) -> list[tuple[str, bytes]]:
    """The pictures of a notebook, in order, each with its suffix: PNG, or SVG where there is no other."""
    outputs = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    found = [(".png", base64.b64decode(one["image/png"])) for one in outputs if "image/png" in one]
    return found or [(".svg", one["image/svg+xml"].encode()) for one in outputs if "image/svg+xml" in one]


def thumbnail(picture: bytes) -> bytes:
    """A PNG, at most WIDTH wide, on white, with few colours."""
    with Image.open(io.BytesIO(picture)) as opened:
        plain = opened.convert("RGB")
    plain.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    plain.quantize(64).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def keep(name: str, suffix: str, picture: bytes) -> None:
    """Write the thumbnail of a notebook, in the place of an older one."""
    THUMBNAILS.mkdir(parents=True, exist_ok=True)
    for old in THUMBNAILS.glob(f"{name}.*"):
        old.unlink()
    (THUMBNAILS / f"{name}{suffix}").write_bytes(thumbnail(picture) if suffix == ".png" else picture)


def words(notebook: nbformat.NotebookNode) -> tuple[str, str]:
    """The title, and the whole sentences of the first paragraph below it."""
    title, paragraph = re.split(r"\n\s*\n", notebook.cells[0].source.strip())[:2]
    sentences = re.sub(r"(?<=[.?!]) [^.?!]*[^.?!\"]$", "", " ".join(paragraph.split()))
    return title.removeprefix("# ").strip(), sentences


def card(name: str, notebook: nbformat.NotebookNode) -> str:
    """One cell of the gallery, as MyST."""
    title, paragraph = words(notebook)
    picture = ""
    for path in THUMBNAILS.glob(f"{name}.*"):
        picture = f"[![{title}](images/notebooks/{path.name})]({SOURCE}/{name}.ipynb)\n\n"
    return f":::{{container}} card\n{picture}**[{title}]({SOURCE}/{name}.ipynb)**\n\n{paragraph}\n:::\n"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="run the notebooks for their pictures")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds for one cell")
    parser.add_argument("names", nargs="*", help="notebooks to run, all by default")
    options = parser.parse_args(arguments)
    notebooks = {path.stem: nbformat.read(path, as_version=4) for path in FOLDER.glob("*.ipynb")}
    if unknown := set(notebooks) ^ set(ORDER):
        parser.error(f"ORDER and the folder differ in {', '.join(sorted(unknown))}")
    for name in ORDER:
        if options.names and name not in options.names:
            continue
        found = pictures(notebooks[name])
        if options.run and not found:
            NotebookClient(notebooks[name], timeout=options.timeout, kernel_name="python3").execute()
            found = pictures(notebooks[name])
        if found:
            keep(name, *found[PICTURES.get(name, -1)])
        sys.stdout.write(f"{name}: {len(found)} pictures\n")
    cards = "\n".join(card(name, notebooks[name]) for name in ORDER)
    PAGE.write_text(f"{HEAD}::::{{container}} cards\n{cards}::::\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
