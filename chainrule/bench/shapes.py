"""Shapes named after networks: a line is a name, a group, and the axes of that group's kernels."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

#: group -> the axes of its kernels, with the value of those that may be left out
AXES: dict[str, dict[str, int | None]] = {
    "conv": dict(n=None, c=None, h=None, w=None, o=None, k=None, stride=1, pad=0),
    "lstm": dict(t=None, n=None, i=None, h=None),
    "matmul": dict(m=None, n=None, k=None),
    "softmax": dict(n=None, classes=None),
    "pool": dict(n=None, c=None, h=None, w=None, k=None, stride=None, pad=0),
    "norm": dict(n=None, c=None, h=1, w=1),
    "optim": dict(n=None),
    "engine": dict(length=None, n=None),
    "steps": dict(n=None),
}

#: LeCun et al. 1998; Krizhevsky 2014; Simonyan & Zisserman 2014; He et al. 2015; Szegedy et al. 2014 (with PyTorch's
#: geometry); DeepBench's training set, in batches that a laptop holds; the networks of the lectures
TABLE = """
lenet.c1              conv     n=64 c=1 h=32 w=32 o=6 k=5
lenet.c3              conv     n=64 c=6 h=14 w=14 o=16 k=5
lenet.c5              conv     n=64 c=16 h=5 w=5 o=120 k=5
alexnet.conv1         conv     n=8 c=3 h=224 w=224 o=64 k=11 stride=4 pad=2
alexnet.conv2         conv     n=8 c=64 h=27 w=27 o=192 k=5 pad=2
alexnet.conv3         conv     n=8 c=192 h=13 w=13 o=384 k=3 pad=1
vgg.stem              conv     n=2 c=3 h=224 w=224 o=64 k=3 pad=1
vgg.stem-small        conv     n=16 c=3 h=64 w=64 o=32 k=3 pad=1
vgg.conv3             conv     n=4 c=256 h=56 w=56 o=256 k=3 pad=1
vgg.conv5             conv     n=8 c=512 h=14 w=14 o=512 k=3 pad=1
resnet.stem           conv     n=4 c=3 h=224 w=224 o=64 k=7 stride=2 pad=3
resnet.conv2          conv     n=16 c=64 h=56 w=56 o=64 k=3 pad=1
resnet.conv3          conv     n=16 c=128 h=28 w=28 o=128 k=3 pad=1
resnet.conv3-down     conv     n=16 c=64 h=56 w=56 o=128 k=3 stride=2 pad=1
resnet.conv4          conv     n=16 c=256 h=14 w=14 o=256 k=3 pad=1
resnet.conv5          conv     n=16 c=512 h=7 w=7 o=512 k=3 pad=1
resnet.narrow         conv     n=16 c=64 h=56 w=56 o=128 k=1
inception.3a-1x1      conv     n=8 c=192 h=28 w=28 o=64 k=1
inception.3a-3x3      conv     n=8 c=96 h=28 w=28 o=128 k=3 pad=1
inception.3a-5x5      conv     n=8 c=16 h=28 w=28 o=32 k=5 pad=2
inception.5b-1x1      conv     n=8 c=832 h=7 w=7 o=384 k=1
deepbench.resnet-7x7  conv     n=4 c=3 h=224 w=224 o=64 k=7 stride=2 pad=3
deepbench.vgg-54      conv     n=8 c=64 h=54 w=54 o=64 k=3 pad=1
deepbench.ocr-480     conv     n=4 c=16 h=48 w=480 o=32 k=3 pad=1
deepbench.face-108    conv     n=8 c=3 h=108 w=108 o=64 k=3 stride=2 pad=1
lecture.char-rnn      lstm     t=64 n=32 i=64 h=256
lecture.char-rnn-512  lstm     t=64 n=32 i=128 h=512
lecture.hello         lstm     t=5 n=1 i=4 h=3
lecture.tagger        lstm     t=30 n=16 i=100 h=100
deepbench.lstm-512    lstm     t=25 n=16 i=512 h=512
deepbench.lstm-1024   lstm     t=10 n=32 i=1024 h=1024
lenet.f6              matmul   m=64 n=84 k=120
vgg.fc7               matmul   m=32 n=4096 k=4096
lecture.char-rnn      matmul   m=1024 n=32 k=256
lecture.mlp           matmul   m=128 n=256 k=784
deepbench.1760-16     matmul   m=1760 n=16 k=1760
deepbench.1760-128    matmul   m=1760 n=128 k=1760
deepbench.2048-32     matmul   m=2048 n=32 k=2048
deepbench.35-700      matmul   m=35 n=700 k=2048
deepbench.1024        matmul   m=1024 n=1024 k=1024
lenet.out             softmax  n=64 classes=10
resnet.out            softmax  n=64 classes=1000
lecture.char-rnn      softmax  n=2048 classes=64
lecture.words         softmax  n=512 classes=10000
lenet.s2              pool     n=64 c=6 h=28 w=28 k=2 stride=2
alexnet.pool1         pool     n=8 c=64 h=55 w=55 k=3 stride=2
vgg.pool1             pool     n=2 c=64 h=224 w=224 k=2 stride=2
resnet.stem           pool     n=4 c=64 h=112 w=112 k=3 stride=2 pad=1
inception.3a          pool     n=8 c=192 h=28 w=28 k=3 stride=1 pad=1
resnet.bn2            norm     n=16 c=64 h=56 w=56
resnet.bn5            norm     n=16 c=512 h=7 w=7
lecture.layer-norm    norm     n=2048 c=512
lenet                 optim    n=61706
lecture.char-rnn      optim    n=1000000
resnet.18             optim    n=11689512
lecture.chain-100     engine   length=100 n=10
lecture.chain-1000    engine   length=1000 n=10
lecture.chain-wide    engine   length=100 n=100000
lecture.batch-32      steps    n=32
lecture.batch-64      steps    n=64
lecture.batch-128     steps    n=128
"""

_LINE = "'mine matmul m=64 n=64 k=64'"


class Shape(NamedTuple):
    """A name, the group of kernels that it is for, and its axes."""

    name: str
    group: str
    axes: dict[str, int]


def text(axes: Mapping[str, object]) -> str:
    """Axes as the table writes them.

    >>> cr.bench.shapes.text({"n": 2, "c": 3})
    'n=2 c=3'
    """
    return " ".join(f"{name}={value}" for name, value in axes.items())


def parse(table: str, source: str = "the table of shapes") -> list[Shape]:
    """The shapes of such a table; # begins a comment.

    >>> cr.bench.shapes.parse("mine  matmul  m=2 n=3 k=4")
    [Shape(name='mine', group='matmul', axes={'m': 2, 'n': 3, 'k': 4})]
    """
    lines = [(number, line.split("#")[0].split()) for number, line in enumerate(table.splitlines(), 1)]
    return [_shape(words, f"{source}, line {number}") for number, words in lines if words]


def _shape(words: list[str], where: str) -> Shape:
    if len(words) < 3 or words[1] not in AXES:
        raise ValueError(
            f"{where}: {' '.join(words)!r} is no shape: write a name, a group ({', '.join(AXES)}) and its axes, as in "
            f"{_LINE}"
        )
    name, group, *pairs = words
    known, found = AXES[group], {}
    for pair in pairs:
        axis, _, value = pair.partition("=")
        if axis not in known or not value.isdigit() or (int(value) < 1 and axis != "pad"):
            raise ValueError(
                f"{where}: {pair!r} is no axis of {group}: it has {', '.join(known)}, whole numbers from 1"
            )
        found[axis] = int(value)
    whole = {axis: found.get(axis, default) for axis, default in known.items()}
    axes = {axis: value for axis, value in whole.items() if value is not None}
    if missing := [axis for axis in known if axis not in axes]:
        raise ValueError(f"{where}: {name} lacks {', '.join(missing)}: {group} needs {', '.join(known)}")
    return Shape(name, group, axes)


def _of_file(name: str) -> list[Shape]:
    try:
        found = parse(Path(name).read_text("utf-8"), name)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"--shapes {name}: the file is no text ({error.reason} at byte {error.start}); write lines such as {_LINE}"
        ) from None
    if not found:
        raise ValueError(f"--shapes {name}: the file names no shape; write lines such as {_LINE}")
    return found


def select(asked: str | None = None) -> list[Shape]:
    """All shapes, those whose name begins with `asked`, or those of a file of that name; several with commas.

    >>> sorted({shape.group for shape in cr.bench.shapes.select("inception")})
    ['conv', 'pool']
    """
    known = parse(TABLE)
    if not asked:
        return known
    chosen = []
    for part in asked.split(","):
        if Path(part).is_file():
            found = _of_file(part)
        else:
            found = [shape for shape in known if f"{shape.name}.".startswith(f"{part}.") or shape.name == part]
        if not found:
            names = list(dict.fromkeys(name for s in known for name in (s.name.partition(".")[0], s.name)))
            near = difflib.get_close_matches(part, names, 3) or sorted({s.name.partition(".")[0] for s in known})
            raise ValueError(
                f"--shapes {part}: there is no such file and no shape of that name; there is {', '.join(near)}"
            )
        chosen += found
    return chosen
