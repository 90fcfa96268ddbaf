"""Studies: tables of rows from a study file, on one machine or many. The command line is ``certnet study``."""

from certnet.study.load import builtin_studies, load_study
from certnet.study.page import write_page
from certnet.study.progress import Progress
from certnet.study.runner import progress_of, run_study
from certnet.study.spec import Study
from certnet.study.store import Store
from certnet.study.tables import collect, csv_text

__all__ = [
    "Progress",
    "Store",
    "Study",
    "builtin_studies",
    "collect",
    "csv_text",
    "load_study",
    "progress_of",
    "run_study",
    "write_page",
]
