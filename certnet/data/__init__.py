"""Named data sets, generated ones, a user's own tables, and scaling that remembers its units."""

from certnet.data.dataset import Dataset
from certnet.data.load import list_datasets, load_dataset
from certnet.data.registry import DATASETS, DatasetInfo, dataset_info
from certnet.data.scaling import Scaling
from certnet.data.synthetic import make_rastrigin, rastrigin
from certnet.data.table import load_table

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetInfo",
    "Scaling",
    "dataset_info",
    "list_datasets",
    "load_dataset",
    "load_table",
    "make_rastrigin",
    "rastrigin",
]
