"""Named data sets, generated ones, images, a user's own tables, and scaling that remembers its units."""

from certnet.data.dataset import Dataset
from certnet.data.idx import read_idx
from certnet.data.image_dataset import ImageDataset
from certnet.data.image_registry import IMAGE_SETS, ImageInfo, image_info
from certnet.data.image_tools import gaussian_like, grey, mirrored, split_off
from certnet.data.images import load_images
from certnet.data.load import list_datasets, load_dataset
from certnet.data.npz import read_npz_images
from certnet.data.registry import DATASETS, DatasetInfo, dataset_info
from certnet.data.scaling import Scaling
from certnet.data.synthetic import make_rastrigin, rastrigin
from certnet.data.table import TableFormat, load_columns, load_table, table_columns

__all__ = [
    "DATASETS",
    "IMAGE_SETS",
    "Dataset",
    "DatasetInfo",
    "ImageDataset",
    "ImageInfo",
    "Scaling",
    "TableFormat",
    "dataset_info",
    "gaussian_like",
    "grey",
    "image_info",
    "list_datasets",
    "load_columns",
    "load_dataset",
    "load_images",
    "load_table",
    "make_rastrigin",
    "mirrored",
    "rastrigin",
    "read_idx",
    "read_npz_images",
    "split_off",
    "table_columns",
]
