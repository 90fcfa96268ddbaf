"""Formulas as MathML, which browsers draw by themselves: no JavaScript, nothing fetched, and the text's own colour.

LaTeX is translated by docutils. What it cannot translate is a warning, and so fails the build.
"""

from __future__ import annotations

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
# docutils reads "12" of these as one number, TeX as two arguments or as one that is raised
DIGITS = re.compile(r"frac\s*\d|[_^]\d\d")
BAR = re.compile(r'<mo( class="mathopen")?>([|‖⟨⟩])</mo>')


def translated(node: nodes.Node, *, block: bool) -> str:
    """The formula of a node, as MathML; its LaTeX where that fails."""
    text = node.astext().strip()
    if DIGITS.search(text):
        logger.warning("put the digits of fractions, exponents and indices in braces: %s", text, location=node)
    try:
        return BAR.sub(bar, tex2mathml(text, as_block=block))
    except MathError as error:
        logger.warning("not a formula that docutils can translate: %s: %s", error, text, location=node)
        return f"<code>{text}</code>"


def bar(found: re.Match[str]) -> str:
    """A bar of a norm, or an angle: of the height of a letter, and close to what it encloses."""
    form = "prefix" if found[1] or found[2] == "⟨" else "postfix"
    return f'<mo form="{form}" stretchy="false" lspace="0" rspace="0">{found[2]}</mo>'


def visit_math(self, node):
    self.body.append(f'<span class="math">{translated(node, block=False)}</span>')
    raise nodes.SkipNode


def visit_displaymath(self, node):
    self.body.append(f'<div class="math">{translated(node, block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", inline_renderers=(visit_math, None), block_renderers=(visit_displaymath, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
