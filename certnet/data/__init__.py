"""Named data sets, generated ones, images, a user's own tables, and scaling that remembers its units."""

from typing import TYPE_CHECKING

from certnet.core.lazily import handed_on

if TYPE_CHECKING:
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

if not TYPE_CHECKING:  # type checkers see the imports above
    __getattr__, __dir__ = handed_on(
        __name__,
        {
            "DATASETS": "certnet.data.registry",
            "Dataset": "certnet.data.dataset",
            "DatasetInfo": "certnet.data.registry",
            "IMAGE_SETS": "certnet.data.image_registry",
            "ImageDataset": "certnet.data.image_dataset",
            "ImageInfo": "certnet.data.image_registry",
            "Scaling": "certnet.data.scaling",
            "TableFormat": "certnet.data.table",
            "dataset_info": "certnet.data.registry",
            "gaussian_like": "certnet.data.image_tools",
            "grey": "certnet.data.image_tools",
            "image_info": "certnet.data.image_registry",
            "list_datasets": "certnet.data.load",
            "load_columns": "certnet.data.table",
            "load_dataset": "certnet.data.load",
            "load_images": "certnet.data.images",
            "load_table": "certnet.data.table",
            "make_rastrigin": "certnet.data.synthetic",
            "mirrored": "certnet.data.image_tools",
            "rastrigin": "certnet.data.synthetic",
            "read_idx": "certnet.data.idx",
            "read_npz_images": "certnet.data.npz",
            "split_off": "certnet.data.image_tools",
            "table_columns": "certnet.data.table",
        },
    )
