"""Labels for the words of a sentence."""

from __future__ import annotations

from ...autograd import Tensor, cat, tanh
from ..layers import CRF, LSTM, Dropout, Embedding, Linear
from ..layers.checks import at_least
from ..module import Module
from ..utils.rnn import pack_padded_sequence, pad_packed_sequence


class BiLSTMCRF(Module):
    """A tagger that reads words and their spelling in both directions and chooses the best path of tags (Lample 2016).

    x = dropout([E w; c→; c←]),   emissions = V tanh(U [h→; h←] + d) + b,   tags = CRF

    c are the last states of an LSTM over the word's characters in either direction, h the states of another over the
    words. Words (N, L) and characters (N, L, C) as numbers, 0 is padding at the end of each; with num_characters=0
    words alone count, and `characters` is left out. Calling it returns the emissions (N, L, num_tags).

    Errors: ValueError for shapes that do not fit, a sentence without words, a word without characters, and padding
    before either's end.

    >>> tagger = cr.nn.models.BiLSTMCRF(num_words=50, num_tags=3, num_characters=30)
    >>> words, characters = cr.tensor([[4, 7], [5, 0]]), cr.ones(2, 2, 6, dtype=cr.int64)
    >>> tagger.loss(words, characters, tags=cr.tensor([[1, 2], [0, 0]])).shape
    ()
    >>> [len(tags) for tags in tagger.decode(words, characters)]
    [2, 1]
    """

    def __init__(
        self,
        num_words: int,
        num_tags: int,
        num_characters: int = 0,
        word_dim: int = 100,
        character_dim: int = 25,
        hidden_size: int = 100,
        dropout: float = 0.5,
    ):
        super().__init__()
        at_least(self, 0, num_characters=num_characters)
        self.words, spelling = Embedding(num_words, word_dim, padding_idx=0), 0
        if num_characters:
            self.characters = Embedding(num_characters, character_dim, padding_idx=0)
            self.spelling = LSTM(character_dim, character_dim, batch_first=True, bidirectional=True)
            spelling = 2 * character_dim
        self.num_characters = num_characters
        self.dropout = Dropout(dropout)
        self.context = LSTM(word_dim + spelling, hidden_size, batch_first=True, bidirectional=True)
        self.hidden = Linear(2 * hidden_size, hidden_size)
        self.emission = Linear(hidden_size, num_tags)
        self.crf = CRF(num_tags, batch_first=True)

    def forward(self, words: Tensor, characters: Tensor | None = None) -> Tensor:
        """Return the emissions."""
        spelt = None if characters is None else characters.shape
        if words.ndim != 2 or (spelt is None) != (self.num_characters == 0) or (spelt and spelt[:-1] != words.shape):
            raise ValueError(
                f"BiLSTMCRF: received words of shape {words.shape} and characters of shape {spelt}, but was built with "
                f"num_characters={self.num_characters}; pass words (N, L), and characters (N, L, C) if it is not 0"
            )
        lengths = self._lengths("words", words)
        packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        seen = [self.words(packed.data)]
        if characters is not None:
            of_words = pack_padded_sequence(characters, lengths, batch_first=True, enforce_sorted=False)
            seen.append(self._spelling(of_words.data))
        states, _ = self.context(packed._replace(data=self.dropout(cat(seen, -1))))
        emissions = self.emission(tanh(self.hidden(states.data)))
        padded, _ = pad_packed_sequence(states._replace(data=emissions), True, total_length=words.shape[1])
        return padded

    def loss(self, words: Tensor, characters: Tensor | None, tags: Tensor) -> Tensor:
        """Return the mean over the sentences of −log p(tags (N, L)), whatever the tags say at the padding."""
        return -self.crf(self(words, characters), tags, words != 0, reduction="mean")

    def decode(self, words: Tensor, characters: Tensor | None = None) -> list[list[int]]:
        """Return the most probable tags of each sentence."""
        return self.crf.decode(self(words, characters), words != 0)

    def _spelling(self, characters: Tensor) -> Tensor:
        """Return the vectors (R, 2·character_dim) of the spelling of words (R, C)."""
        lengths = self._lengths("characters", characters)
        packed = pack_padded_sequence(characters, lengths, batch_first=True, enforce_sorted=False)
        _, (last, _) = self.spelling(packed._replace(data=self.characters(packed.data)))
        return last.transpose(0, 1).flatten(1)

    def _lengths(self, name: str, numbers: Tensor) -> Tensor:
        """Return the lengths of rows that end with padding."""
        on = numbers != 0
        broken = (on[:, 1:] & ~on[:, :-1]).any(1)
        if broken.any():
            raise ValueError(
                f"BiLSTMCRF: received {name} {numbers[broken][0].tolist()}, but 0 is padding and stands at the end "
                f"alone; give every {name[:-1]} a number above 0"
            )
        return on.sum(1)
