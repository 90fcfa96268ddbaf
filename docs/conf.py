"""Sphinx: pages in Markdown, the API from docstrings. Built with ``make docs``; a warning fails the build."""

import sys
from pathlib import Path

from certnet import __version__

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "certnet"
author = "The certnet developers"
copyright = "The certnet developers, MIT licence"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "mathml"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_math_renderer = "mathml"
pygments_dark_style = "github-dark"
html_static_path = ["_static"]
html_css_files = ["certnet.css"]
html_title = f"certnet {__version__}"
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_fence_as_directive = ["math"]  # ```math, as GitHub has it
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]  # where "a, b : float" are two of one kind
python_use_unqualified_type_names = True
nitpicky = False


def keep_formulas(app, what, name, obj, options, lines):
    """Formulas are indented blocks of the docstrings' prose: shown as they are written."""
    # the first line of a property is prose: without the empty comment, napoleon takes what is before a colon for a type
    out = ["..", ""] if what == "property" else []
    prose = True
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("---"):
            prose = False
        starts = prose and line.startswith("    ") and not before.strip() and not (out and inside(out))
        out.extend(["::", "", line] if starts else [line])
    lines[:] = out


def inside(out):
    """Does the last written line that is not blank belong to an indented block?"""
    return next((line.startswith("    ") for line in reversed(out) if line.strip()), False)


def setup(app):
    """Before napoleon, which reads the sections."""
    app.connect("autodoc-process-docstring", keep_formulas, priority=100)
