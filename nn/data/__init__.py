"""Datasets, the data loader, and the digits and texts to learn from."""

from .dataset import Dataset, Subset, TensorDataset, random_split
from .digits import digits, mnist
from .idx import read_idx
from .loader import DataLoader, default_collate
from .text import Streams, Vocabulary, language_reference, read_text

__all__ = [
    "DataLoader",
    "Dataset",
    "Streams",
    "Subset",
    "TensorDataset",
    "Vocabulary",
    "default_collate",
    "digits",
    "language_reference",
    "mnist",
    "random_split",
    "read_idx",
    "read_text",
]
