"""Sentences that say what an image shows."""

from __future__ import annotations

from ...autograd import Tensor, no_grad
from ..layers import Linear
from ..module import Module
from .seq2seq import Decoded, Decoder, Tensors


class Captioner(Module):
    """Describes images in words: a CNN sees, a `Decoder` tells (Vinyals 2015), looking at places as it does (Xu 2015).

    The CNN maps images to features (N, C, H, W). Their mean over the places, mapped linearly, is what the decoder reads
    before START; their H·W places are the memory of its attention, and the weights (N, T, H·W) say where each word
    looked. attention None is "Show and tell": the image is seen once, at the first step. Targets (N, T) end with END
    and padding; cell, attention, dropout, padding, start and end as for `Decoder`.

    Errors: ValueError for features without four axes or of other than C channels, or a target of another batch.

    >>> net = cr.nn.models.Captioner(cr.nn.Conv2d(3, 8, 4, stride=4), channels=8, vocab=12)
    >>> images = cr.randn(2, 3, 16, 16)
    >>> net(images, target=cr.tensor([[3, 4, 2], [5, 2, 0]])).shape
    (2, 3, 12)
    >>> net.beam(images, width=2, max_length=5).weights.shape[::2]
    (2, 16)
    """

    def __init__(
        self,
        cnn: Module,
        channels: int,
        vocab: int,
        embedding_dim: int = 64,
        hidden_size: int = 128,
        cell: str = "lstm",
        attention: str | None = "additive",
        dropout: float = 0.0,
        padding: int = 0,
        start: int = 1,
        end: int = 2,
    ):
        super().__init__()
        self.cnn, self.channels = cnn, channels
        self.image = Linear(channels, embedding_dim)
        self.decoder = Decoder(
            vocab, channels, embedding_dim, hidden_size, cell, attention, dropout, padding, start, end
        )

    def forward(self, images: Tensor, target: Tensor, teacher_forcing_ratio: float = 1.0) -> Tensor:
        """Return the logits (N, T, V) of the target, as `Decoder` does."""
        return self.decoder(*self.encode(images), target, teacher_forcing_ratio)

    def greedy(self, images: Tensor, max_length: int = 50) -> Decoded:
        """Return the captions that take the most probable word at every step, up to END."""
        with no_grad():
            return self.decoder.greedy(*self.encode(images), max_length)

    def beam(self, images: Tensor, width: int = 4, max_length: int = 50, length_penalty: float = 1.0) -> Decoded:
        """Return the best captions found by keeping the `width` best beginnings at every step, as `Decoder.beam`."""
        with no_grad():
            return self.decoder.beam(*self.encode(images), width, max_length, length_penalty)

    def encode(self, images: Tensor) -> tuple[Tensors, Tensor, None]:
        """Return what the decoder begins with: its first state, the memory (N, H·W, C), and no mask."""
        features = self.cnn(images)
        if features.ndim != 4 or features.shape[1] != self.channels:
            raise ValueError(
                f"Captioner: received a CNN whose features have shape {features.shape}, but was built with "
                f"channels={self.channels} and looks at places; pass a CNN that ends with (N, {self.channels}, H, W)"
            )
        memory = features.flatten(2).transpose(1, 2)
        return self.decoder.read(self.image(memory.mean(1))), memory, None
