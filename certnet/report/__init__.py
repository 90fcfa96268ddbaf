"""Networks side by side: figures, tables and sentences about them, and the HTML page of a refinement."""

from certnet.report.evaluation import (
    READING,
    Evaluation,
    evaluate,
    facts,
    findings,
    layer_rows,
    pictures_of,
    refinement_report,
    slope_rows,
    table,
    trace_rows,
)
from certnet.report.page import html_page

__all__ = [
    "READING",
    "Evaluation",
    "evaluate",
    "facts",
    "findings",
    "html_page",
    "layer_rows",
    "pictures_of",
    "refinement_report",
    "slope_rows",
    "table",
    "trace_rows",
]
