"""Text: vocabularies, files, the language reference that every Python carries, and streams for recurrent networks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ...autograd import Tensor, tensor


class Vocabulary:
    """The distinct tokens of a text (characters, words), numbered in the order given.

    tokens: a list of them, or a string of characters; it is all that has to be saved. unknown: the token that stands
    for every other one (it must be among them); without it, encoding an unknown token raises ValueError.

    >>> from chainrule import data
    >>> v = data.Vocabulary("helo")
    >>> v.encode("hello").tolist(), "".join(v.decode([1, 2]))
    ([0, 1, 2, 2, 3], 'el')
    >>> words = data.Vocabulary(["<unk>", "the", "cat"], unknown="<unk>")
    >>> words.encode("the dog".split()).tolist()
    [1, 0]
    """

    def __init__(self, tokens: Iterable[str], unknown: str | None = None):
        self.tokens = list(tokens)
        self.unknown = unknown
        self.numbers = {token: number for number, token in enumerate(self.tokens)}
        if len(self.numbers) < len(self.tokens):
            twice = next(token for number, token in enumerate(self.tokens) if self.numbers[token] != number)
            raise ValueError(
                f"Vocabulary received {twice!r} more than once, so it has no one number. Pass each token once, as "
                "Vocabulary.of(text) does."
            )
        if unknown is not None and unknown not in self.numbers:
            raise ValueError(
                f"Vocabulary received unknown={unknown!r}, which is not among its {len(self)} tokens. Put it into them."
            )

    @classmethod
    def of(cls, text: Iterable[str], special: Sequence[str] = (), unknown: str | None = None) -> Vocabulary:
        """Return the vocabulary of a text, in order of code points, after the `special` tokens (padding, START, …).

        >>> from chainrule import data
        >>> data.Vocabulary.of("hello").tokens
        ['e', 'h', 'l', 'o']
        """
        return cls([*special, *sorted(set(text).difference(special))], unknown)

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: str) -> bool:
        return token in self.numbers

    def encode(self, text: Iterable[str]) -> Tensor:
        """Return the numbers of the tokens, int64 (L,)."""
        numbers, text = self.numbers, list(text)
        if self.unknown is not None:
            rest = numbers[self.unknown]
            return tensor(np.array([numbers.get(token, rest) for token in text], np.int64))
        try:
            return tensor(np.array([numbers[token] for token in text], np.int64))
        except KeyError:
            strange = sorted(set(text).difference(numbers))
            raise ValueError(
                f"Vocabulary received {_listed(strange)}, which it has no number for; it knows {_listed(self.tokens)}. "
                "Leave such tokens out, or make it of a text that has them."
            ) from None

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Return the tokens of the numbers."""
        numbers = numbers.tolist() if isinstance(numbers, Tensor | np.ndarray) else list(numbers)
        for number in numbers:
            if not 0 <= number < len(self):
                raise ValueError(
                    f"Vocabulary received the number {number}, but its {len(self)} tokens have the numbers from 0 to "
                    f"{len(self) - 1}. Decode with the vocabulary that encoded."
                )
        return [self.tokens[number] for number in numbers]


def _listed(tokens: Sequence[str], most: int = 8) -> str:
    more = len(tokens) - most
    return ", ".join(map(repr, tokens[:most])) + (f" and {more} more" if more > 0 else "")


def language_reference() -> str:
    """Return the Python language reference that the interpreter carries for `help()`, some 400,000 characters.

    The topics of `pydoc_data.topics` in order of their names. Many repeat parts of others: a paragraph that occurred
    before is left out, so that no part of the text gives away another. The text differs between releases of Python.
    Raises ImportError where the distribution left the topics out.

    >>> from chainrule import data
    >>> "Assignment statements are used to (re)bind names" in data.language_reference()
    True
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ImportError(
            "The language reference is read from Python's module pydoc_data.topics, and this Python was installed "
            "without it. Install the whole standard library, or train on a text of your own: --data FILE."
        ) from error
    first: dict[str, str] = {}
    for name in sorted(topics):
        for paragraph in topics[name].split("\n\n"):
            first.setdefault(" ".join(paragraph.split()), paragraph.strip("\n"))
    return "\n\n".join(paragraph for words, paragraph in first.items() if words)


def read_text(path: str | os.PathLike) -> str:
    """Return the text of a UTF-8 file.

    Raises FileNotFoundError, IsADirectoryError, and ValueError for a file that is empty or no UTF-8 text.

    >>> from chainrule import data
    >>> data.read_text("nowhere.txt")
    Traceback (most recent call last):
    FileNotFoundError: read_text received 'nowhere.txt', but there is no such file. Check the path.
    """
    file = Path(path)
    if file.is_dir():
        raise IsADirectoryError(f"read_text received {str(file)!r}, which is a folder. Pass a text file inside it.")
    if not file.is_file():
        raise FileNotFoundError(f"read_text received {str(file)!r}, but there is no such file. Check the path.")
    content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(_no_text(file, f"byte {error.start:,} ({content[error.start]:#04x}) is not UTF-8")) from error
    if "\0" in text:
        raise ValueError(_no_text(file, f"character {text.index(chr(0)):,} is NUL"))
    if not text.strip():
        raise ValueError(f"read_text received {str(file)!r}, which holds no text. Pass a file with some.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _no_text(file: Path, why: str) -> str:
    return (
        f"read_text received {str(file)!r}, which is no text in UTF-8: {why}. Pass a text file; one in another "
        "encoding is converted by: iconv -f LATIN1 -t UTF-8 FILE"
    )


class Streams:
    """One long text as B streams side by side, in windows of T steps: the batches of truncated back-propagation.

    ids (N,) is cut into B parts of L = ⌊(N − 1)/B⌋ ids, which are read at the same time: window k of stream b goes on
    where window k − 1 ended, so a state can be carried along (`nn.StatefulTrainer`). Each window is ((x, fresh), y):
    x (T, B), the ids y (T, B) that follow them, and fresh, True for the first window alone: there states begin.
    The last window may be shorter. Fewer than B ids at the end are left out. Raises ValueError where a stream would not
    fill one window.

    >>> from chainrule import data
    >>> for (x, fresh), y in data.Streams(cr.arange(9), streams=2, window=3):
    ...     print(x.tolist(), y.tolist(), fresh)
    [[0, 4], [1, 5], [2, 6]] [[1, 5], [2, 6], [3, 7]] True
    [[3, 7]] [[4, 8]] False
    """

    def __init__(self, ids: Tensor, streams: int, window: int):
        for name, value in (("streams", streams), ("window", window)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"Streams received {name}={value!r}; pass an integer of at least 1.")
        length = (len(ids) - 1) // streams
        if length < window:
            raise ValueError(
                f"Streams received {len(ids):,} ids, too few: {streams} streams of a window of {window} and the ids "
                f"that follow need {streams * window + 1:,}. Pass a longer text, fewer streams or a shorter window."
            )
        self.window = window
        parts = lambda first: ids[first : first + length * streams].reshape(streams, length).t().clone()
        self.x, self.y = parts(0), parts(1)

    def __len__(self) -> int:
        return -(-len(self.x) // self.window)

    def __iter__(self) -> Iterator[tuple[tuple[Tensor, bool], Tensor]]:
        for start in range(0, len(self.x), self.window):
            part = slice(start, start + self.window)
            yield (self.x[part], start == 0), self.y[part]
