"""Word vectors (word2vec): CBOW, skip-gram, negative sampling, and analogies by vector offset."""

from __future__ import annotations

import numpy as np

from ...autograd import Generator, Tensor, default_generator, logsigmoid, no_grad, norm, tensor
from .. import init
from ..layers import Embedding
from ..module import Module


class _WordVectors(Module):
    """Two vectors for each word: v of the input table and u of the output table, which starts at zero."""

    def __init__(self, num_embeddings: int, embedding_dim: int = 100):
        super().__init__()
        self.vectors = Embedding(num_embeddings, embedding_dim)
        self.outputs = Embedding(num_embeddings, embedding_dim)
        init.uniform_(self.vectors.weight, -0.5 / embedding_dim, 0.5 / embedding_dim)
        init.zeros_(self.outputs.weight)

    def hidden(self, words: Tensor) -> Tensor:
        """Return h (N, D)."""
        raise NotImplementedError(f"{type(self).__name__} defines no hidden(words); a model of word vectors must.")

    def forward(self, words: Tensor) -> Tensor:
        """Return the logits u_wᵀh of all words, (N, V), for the softmax."""
        return self.hidden(words) @ self.outputs.weight.t()

    def score(self, words: Tensor, candidates: Tensor) -> Tensor:
        """Return u_wᵀh of the candidates (N, K) alone, (N, K), for negative sampling."""
        return (self.outputs(candidates) @ self.hidden(words)[:, :, None])[:, :, 0]


class CBOW(_WordVectors):
    """The continuous bag of words (Mikolov 2013): the middle word from the mean of its neighbours, h = 1/C Σ v_c.

    context (N, C) → logits (N, V), u_wᵀh for each word w; `score(context, candidates)` computes a few of them.

    >>> model = cr.nn.models.CBOW(10, 4)
    >>> model(cr.tensor([[1, 2, 4, 5]])).shape, model.score(cr.tensor([[1, 2, 4, 5]]), cr.tensor([[3, 7]])).shape
    ((1, 10), (1, 2))
    """

    def hidden(self, words: Tensor) -> Tensor:
        """Return the mean of the neighbours' vectors."""
        return self.vectors(words).mean(1)


class SkipGram(_WordVectors):
    """The skip-gram (Mikolov 2013): the words around from the word in the middle, h = v.

    words (N,) → logits (N, V), u_wᵀh for each word w; `score(words, candidates)` computes a few of them.

    >>> model = cr.nn.models.SkipGram(10, 4)
    >>> model(cr.tensor([3])).shape, model.score(cr.tensor([3]), cr.tensor([[2, 7]])).shape
    ((1, 10), (1, 2))
    """

    def hidden(self, words: Tensor) -> Tensor:
        """Return the words' vectors."""
        return self.vectors(words)


def negative_sampling(scores: Tensor) -> Tensor:
    """The mean over N of −ln σ(s₀) − Σ_{k≥1} ln σ(−s_k): the true word against K drawn ones (Mikolov 2013).

    scores (N, 1 + K): the true word's stands first.

    >>> round(cr.nn.models.negative_sampling(cr.zeros(4, 3)).item(), 4)  # 3 ln 2
    2.0794
    """
    return -(logsigmoid(scores[:, 0]) + logsigmoid(-scores[:, 1:]).sum(1)).mean()


def noise_words(counts: Tensor, *shape: int, generator: Generator | None = None) -> Tensor:
    """Draw words for `negative_sampling`, with probabilities proportional to counts^¾.

    >>> cr.nn.models.noise_words(cr.tensor([0, 5, 0]), 2, 2).tolist()
    [[1, 1], [1, 1]]
    """
    weights = counts.numpy() ** 0.75
    rng = (generator or default_generator).rng
    return tensor(rng.choice(len(weights), shape, p=weights / weights.sum()).astype(np.int64))


def analogy(vectors: Tensor, a: int, b: int, c: int) -> int:
    """Return the word d that answers "a is to b as d is to c": the largest cosine with v_a − v_b + v_c, but a, b, c.

    vectors (V, D). With king, man and woman: queen.

    >>> v = cr.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.5], [0.0, 1.5], [-1.0, 0.0]])
    >>> cr.nn.models.analogy(v, 0, 1, 2)
    3
    """
    with no_grad():
        unit = vectors / norm(vectors, dim=1, keepdim=True).clamp(min=1e-12)
        cosines = unit @ (unit[a] - unit[b] + unit[c])
        cosines[[a, b, c]] = -np.inf
        return int(cosines.argmax().item())
