"""The table of the work that is timed: each case is a maker's name, and the options of its call.

Each side does it in its own words, by the maker of that name in a module of these: `tensors.py` has the work for sides
with PyTorch's names, `arrays.py` for those that differentiate functions of arrays (JAX, HIPS autograd), `links.py` for
Chainer. A module is imported where its side takes part: Chainer's interpreter has no chainrule, nor ours Chainer.
"""

from __future__ import annotations

from importlib import import_module

#: name -> the module with its work, and what it computes with there
SIDES = {
    "chainrule": ("tensors", "Ours"),
    "captured": ("tensors", "Ours"),  # by `cr.capture`: recorded at the second call, replayed from the third on
    "pytorch": ("tensors", "Torch"),
    "jax": ("arrays", "Jax"),
    "autograd": ("arrays", "Hips"),
    "chainer": ("links", "Chainer"),
}

_CONVS = {
    "conv 16×64×56×56, 64 filters 3×3 pad 1": ((16, 64, 56, 56), 64, 3, 1, 1),
    "conv 16×3×64×64, 32 filters 3×3 pad 1": ((16, 3, 64, 64), 32, 3, 1, 1),
    "conv 16×128×28×28, 128 filters 3×3 pad 1": ((16, 128, 28, 28), 128, 3, 1, 1),
    "conv 8×3×224×224, 64 filters 11×11 stride 4 pad 2": ((8, 3, 224, 224), 64, 11, 4, 2),
    "conv 16×64×56×56, 128 filters 1×1": ((16, 64, 56, 56), 128, 1),
}
_LAYERS = {
    "max-pool 32×64×32×32, 2×2": ("MaxPool2d", (32, 64, 32, 32), (2,)),
    "max-pool 16×64×56×56, 3×3 stride 2 pad 1": ("MaxPool2d", (16, 64, 56, 56), (3, 2, 1)),
    "average pool 32×64×32×32, 2×2": ("AvgPool2d", (32, 64, 32, 32), (2,)),
    "average pool 16×64×56×56, 3×3 stride 2 pad 1": ("AvgPool2d", (16, 64, 56, 56), (3, 2, 1)),
    "average pool 32×512×7×7 to one number": ("AdaptiveAvgPool2d", (32, 512, 7, 7), (1,)),
    "batch norm 32×64×32×32": ("BatchNorm2d", (32, 64, 32, 32), (64,)),
    "batch norm 32×512×4×4": ("BatchNorm2d", (32, 512, 4, 4), (512,)),
    "layer norm 2048×512": ("LayerNorm", (2048, 512), (512,)),
    "layer norm 1024×64": ("LayerNorm", (1024, 64), (64,)),
    "embedding of 64×32 out of 64, width 64": ("Embedding", (64, 32), (64, 64), 64),
    "embedding of 50×50 out of 5000, width 300": ("Embedding", (50, 50), (5000, 300), 5000),
    "embedding of 64×32 out of 50000, width 128": ("Embedding", (64, 32), (50_000, 128), 50_000),
}


def _rows(group, maker, options, rows):
    return {name: (group, maker, dict(zip(options, row))) for name, row in rows.items()}


#: case name -> (group, maker, options)
CASES = {
    "chain of 1000 operations on 10 numbers, forward + backward": ("engine", "chain", {}),
    "chain of 1000 operations on 10 numbers, forward": ("engine", "chain", {"backward": False}),
    "LeNet-5 step, batch 64 (tanh, average pooling)": ("steps", "lenet", {}),
    "LeNet-5 step, batch 64 (ReLU, max pooling)": ("steps", "lenet", dict(activation="ReLU", pool="MaxPool2d")),
    "MLP 784-256-10 step, batch 128": ("steps", "mlp", {}),
    "ResNet-18 step, 32×32, batch 32": ("steps", "resnet18", {}),
    "VGG-11 step, 32×32, batch 32": ("steps", "vgg11", {}),
    "character LSTM step, hidden 256, T 64, batch 32, Adam": ("recurrent", "characters", {}),
    "character LSTM step, 2 layers, hidden 512": ("recurrent", "characters", dict(hidden=512, layers=2, embed=128)),
    "character GRU step, hidden 256": ("recurrent", "characters", dict(kind="GRU")),
    "LSTM 256 forward, no_grad": ("recurrent", "characters", dict(backward=False)),
    "GRU 256 forward, no_grad": ("recurrent", "characters", dict(kind="GRU", backward=False)),
    "recursive net, one tree of 64 leaves, width 64": ("recurrent", "recursive", {}),
    "recursive net, 32 trees of 64 leaves (PyTorch: a loop)": ("recurrent", "recursive", dict(trees=32)),
    "sentence CNN step (Kim), 50 sentences of 50 words": ("recurrent", "sentences", {}),
    **_rows("conv", "conv", ("x", "filters", "kernel", "stride", "padding"), _CONVS),
    **_rows("ops", "layer", ("kind", "x", "sizes", "classes"), _LAYERS),
    "softmax cross entropy 128×10": ("ops", "entropy", dict(rows=128, classes=10)),
    "softmax cross entropy 2048×64": ("ops", "entropy", dict(rows=2048, classes=64)),
    "softmax cross entropy 256×1000": ("ops", "entropy", dict(rows=256, classes=1000)),
    "softmax cross entropy 512×20000": ("ops", "entropy", dict(rows=512, classes=20_000)),
    "Adam on 10 million numbers": ("ops", "adam", dict(size=10_000_000)),
    "Adam on 10 million numbers in 50 parameters": ("ops", "adam", dict(size=200_000, count=50)),
}

#: maker -> options that make it tiny, for smoke tests and for the memory that was there before the work
SMALL = {
    "chain": dict(length=10),
    "conv": dict(x=(1, 3, 16, 16), filters=2, kernel=3),
    "characters": dict(hidden=16, embed=8, steps=3, batch=2, vocabulary=8),
    "recursive": dict(leaves=4, width=3),
    "sentences": dict(batch=2, vocabulary=9, embed=4, filters=3),
    "lenet": dict(batch=2),
    "mlp": dict(batch=2),
    "resnet18": dict(batch=2, size=16, widths=(4, 8)),
    "vgg11": dict(batch=2, widths=(4, 4, 4, 4, 4)),
    "layer": dict(batch=2),
    "entropy": dict(rows=4, classes=5),
    "adam": dict(size=100),
}

#: maker -> options without which each side draws numbers of its own
SURE = {"sentences": dict(dropout=0.0)}

#: side -> cases for which it would need more than a second
TOO_SLOW = {
    "autograd": (
        "ResNet-18 step, 32×32, batch 32",
        "VGG-11 step, 32×32, batch 32",
        "character LSTM step, hidden 256, T 64, batch 32, Adam",
        "character LSTM step, 2 layers, hidden 512",
        "character GRU step, hidden 256",
        "recursive net, 32 trees of 64 leaves (PyTorch: a loop)",
        "sentence CNN step (Kim), 50 sentences of 50 words",
    ),
    "chainer": ("ResNet-18 step, 32×32, batch 32",),
}
#: makers whose work is measured as a captured step too
CAPTURED = ("chain", "mlp", "lenet", "resnet18", "vgg11", "characters", "sentences", "entropy")

#: of these the highest memory is measured too
PEAKS = ("character LSTM step, 2 layers, hidden 512",)
#: of these the first step after the import is measured
FIRST = (
    "MLP 784-256-10 step, batch 128",
    "LeNet-5 step, batch 64 (tanh, average pooling)",
    "character LSTM step, hidden 256, T 64, batch 32, Adam",
)
#: nodes of chains whose cost per node is measured
NODES = (1_000, 10_000, 100_000, 1_000_000)


def runs(side, case):
    """Whether a side runs a case."""
    return CASES[case][1] in CAPTURED if side == "captured" else case not in TOO_SLOW.get(side, ())


def options(case, small=False, sure=False):
    """The options of a case, perhaps tiny; `sure` ones draw nothing at random."""
    _, maker, given = CASES[case]
    return {**given, **(SMALL[maker] if small else {}), **(SURE.get(maker, {}) if sure else {})}


class Side:
    """Who takes part: what it computes with (`api`), and the makers of its work."""

    def __init__(self, name):
        module, api = SIDES[name]
        self.name, self.makers = name, import_module(module)
        self.api = getattr(self.makers, api)()

    def make(self, case, small=False, sure=False):
        """A function that does the work of a case, with its options, once."""
        work = getattr(self.makers, CASES[case][1])(self.api, **options(case, small, sure))
        return self.api.api.capture(work) if self.name == "captured" else work
