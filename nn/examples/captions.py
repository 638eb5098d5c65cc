"""A network describes scenes of coloured shapes, and shows where it looks as it writes each word (Xu 2015)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...autograd import Tensor, cross_entropy, float32, manual_seed, tensor
from ..data import Vocabulary
from ..layers import Conv2d, ReLU, Sequential
from ..models import Captioner
from ..optim import Adam
from .plotting import blank, picture_path

COLORS, SHAPES = ("red", "green", "blue"), ("square", "cross", "bar")
END = "<end>"
WORDS = Vocabulary.of([*COLORS, *SHAPES], ("<padding>", "<start>", END))
GRID, CELL, CHANNELS = 4, 5, 32  # places along a side of a scene, pixels along a side of a place; features of a place
LONGEST = 2 * len(COLORS) + 1  # words of a caption
MASKS = np.zeros((3, 4, 4))  # of the shapes
MASKS[0] = MASKS[1, 1:3] = MASKS[1, :, 1:3] = MASKS[2, :, 1:3] = 1


class Scenes(NamedTuple):
    """Images (N, 3, 20, 20), captions as numbers (N, 7), and the places of the shapes named, −1 for none (N, 3)."""

    images: Tensor
    captions: Tensor
    places: np.ndarray


def draw_scenes(count: int, rng: np.random.Generator) -> Scenes:
    """Return scenes with one to three shapes of different colours, and captions that name them from red to blue.

    >>> from chainrule.nn.examples.captions import WORDS, draw_scenes
    >>> scenes = draw_scenes(2, np.random.default_rng(0))
    >>> WORDS.decode(scenes.captions[0].tolist())
    ['red', 'cross', 'green', 'bar', 'blue', 'cross', '<end>']
    """
    images, captions = np.zeros((count, 3, GRID * CELL, GRID * CELL)), []
    places = np.full((count, len(COLORS)), -1)
    for image, where in zip(images, places):
        colors = np.sort(rng.choice(3, rng.integers(1, 4), replace=False))
        where[: len(colors)] = rng.choice(GRID * GRID, len(colors), replace=False)
        shapes = rng.integers(3, size=len(colors))
        for color, place, shape in zip(colors, where, shapes):
            top, left = CELL * np.array(divmod(place, GRID)) + rng.integers(2, size=2)
            image[color, top : top + 4, left : left + 4] = MASKS[shape]
        words = [word for pair in zip(colors, shapes) for word in (COLORS[pair[0]], SHAPES[pair[1]])]
        captions.append([*words, END, *["<padding>"] * (LONGEST - 1 - len(words))])
    return Scenes(tensor(images, dtype=float32), tensor([WORDS.encode(c).tolist() for c in captions]), places)


def describer(**options: Any) -> Captioner:
    """Return a captioner whose CNN sees each place of a scene by itself, with its edge; options: of `Captioner`.

    >>> from chainrule.nn.examples.captions import describer
    >>> describer().encode(cr.zeros(2, 3, 20, 20))[1].shape
    (2, 16, 32)
    """
    cnn = Sequential(Conv2d(3, 12, 3, padding=1), ReLU(), Conv2d(12, CHANNELS, CELL, stride=CELL), ReLU())
    return Captioner(cnn, CHANNELS, len(WORDS), **{"embedding_dim": 16, "hidden_size": 32} | options)


def learn(net: Captioner, batches: Iterable[Scenes]) -> None:
    """Train by Adam, a step for each batch."""
    optimizer = Adam(net.parameters(), lr=0.01)
    for scenes in batches:
        optimizer.zero_grad()
        logits = net(scenes.images, scenes.captions)
        cross_entropy(logits.flatten(0, 1), scenes.captions.flatten(), ignore_index=0).backward()
        optimizer.step()


def describe(net: Captioner, images: Tensor) -> list[tuple[list[str], np.ndarray]]:
    """Return the words of each caption, and where the net looked for each: (T, 4, 4), adding up to 1."""
    tokens, _, weights = net.greedy(images, LONGEST)
    told = zip(map(WORDS.decode, tokens.tolist()), weights.reshape(*tokens.shape, GRID, GRID).numpy())
    return [(words[: (n := [*words, END].index(END))], looks[:n]) for words, looks in told]


def draw_looks(images: np.ndarray, told: Sequence[tuple[Sequence[str], np.ndarray]], path: str | os.PathLike) -> None:
    """Write a picture of each image, and of it once more for each word of its caption, lit where the net looked.

    images: (N, 3, H, W), black where nothing is, which is drawn white; told: for each the words (T,) and their weights
    (T, P, Q) over its places.
    """
    columns = 1 + max(len(words) for words, _ in told)
    figure = blank(1.4 * columns, 1.65 * len(told))
    for row, image, (words, weights) in zip(figure.subplots(len(told), columns, squeeze=False), images, told):
        scene = np.where(image.any(0), image, 1.0)
        pixels = [size // places for size, places in zip(scene.shape[1:], weights.shape[1:])]
        lights = [np.ones(scene.shape[1:]), *(0.2 + 0.8 * np.kron(weight, np.ones(pixels)) for weight in weights)]
        for axes, word, light in zip(row, ["", *words], lights):
            axes.imshow((scene * light).transpose(1, 2, 0))
            axes.set_title(word)
        for axes in row:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_color("0.8")
        for axes in row[len(lights) :]:
            axes.axis("off")
    figure.savefig(path, dpi=130)


def plot(out: str | os.PathLike, steps: int = 300, seed: int = 0) -> Path:
    """Train a captioner, draw where it looked in three scenes it never saw, and return the picture's path.

    out: its ending says the format: .pdf, .png or .svg. steps: of training, on 32 scenes each. seed: of weights and
    scenes. Raises ValueError for another ending, ImportError (naming the extra) without Matplotlib.
    """
    out = picture_path(out)  # before the work, not after it
    manual_seed(seed)
    rng, net = np.random.default_rng(seed), describer()
    learn(net, (draw_scenes(32, rng) for _ in range(steps)))
    images, _, places = draw_scenes(30, rng)
    images = images[np.argsort((places < 0).sum(1), kind="stable")[:3]]  # with most to say
    out.parent.mkdir(parents=True, exist_ok=True)
    draw_looks(images.numpy(), describe(net, images), out)
    return out
