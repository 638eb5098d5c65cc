"""Datasets, the data loader, and the digits to learn from."""

from .dataset import Dataset, Subset, TensorDataset, random_split
from .digits import digits, mnist
from .idx import read_idx
from .loader import DataLoader, default_collate

__all__ = [
    "DataLoader",
    "Dataset",
    "Subset",
    "TensorDataset",
    "default_collate",
    "digits",
    "mnist",
    "random_split",
    "read_idx",
]
