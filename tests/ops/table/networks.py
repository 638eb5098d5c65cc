"""Rows of normalisation, dropout and losses. The oracle is the textbook formula, item by item."""

import math

import numpy as np
from oracles import philox

import chainrule as cr

from .reductions import log_softmax
from .row import Sample, distinct, elementwise, normal, of_primitive, product, public, uniform

# ---- normalisation ---------------------------------------------------------------------------------------------------


def standardised(x, axes, eps):
    mean = x.mean(axes, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + eps)


def channelwise(v, x):
    return v.reshape(-1, *[1] * (x.ndim - 2))


def scaled(y, weight, bias, x):
    y = y if weight is None else y * channelwise(weight, x)
    return y if bias is None else y + channelwise(bias, x)


def batch_norm(x, weight=None, bias=None, *, eps, report=None):
    return scaled(standardised(x, tuple(d for d in range(x.ndim) if d != 1), eps), weight, bias, x)


def running_norm(x, mean, var, weight=None, bias=None, *, eps=1e-5):
    return scaled((x - channelwise(mean, x)) / np.sqrt(channelwise(var, x) + eps), weight, bias, x)


def group_norm(x, weight=None, bias=None, *, groups, eps=1e-5):
    parts = x.reshape(len(x), groups, math.prod(x.shape[1:]) // groups)
    return scaled(standardised(parts, (2,), eps).reshape(x.shape), weight, bias, x)


def layer_norm(x, weight=None, bias=None, *, axes, eps=1e-5):
    y = standardised(x, tuple(range(x.ndim - axes, x.ndim)), eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def affine(shapes, size, params):
    """Samples with weight and bias, one of them, and neither."""

    def make(rng):
        for shape in shapes:
            n = size(shape)
            for weight, bias in [(True, True), (True, False), (False, True), (False, False)]:
                given = (normal(rng, *n) if weight else None, normal(rng, *n) if bias else None)
                yield Sample((normal(rng, *shape), *given), params(shape))

    return make


def two(shape):
    return 2 if len(shape) > 2 else 1


BATCHES = [(4, 3), (3, 2, 2), (2, 2, 2, 3)]


def running(rng):
    for shape in BATCHES:
        given = normal(rng, shape[1]), uniform(rng, shape[1:2], 0.5, 2.0), normal(rng, shape[1]), normal(rng, shape[1])
        yield Sample((normal(rng, *shape), *given), {}, fixed=(1, 2))
        yield Sample((normal(rng, *shape), *given[:2], None, None), {"eps": 0.1}, fixed=(1, 2))
    yield Sample((normal(rng, 0, 3), normal(rng, 3), uniform(rng, (3,), 0.5, 2), None, None), {}, fixed=(1, 2))


# ---- losses ----------------------------------------------------------------------------------------------------------

REDUCTIONS = ["mean", "sum", "none"]


def reduced(losses, reduction, count=None):
    if reduction == "none":
        return losses
    total = math.fsum(np.ravel(losses))
    return np.asarray(
        total if reduction == "sum" else total / (losses.size if count is None else count) if losses.size else math.nan
    )


def pointwise(loss):
    """A loss of pairs of numbers."""

    def oracle(x, y, reduction="mean", **given):
        losses = np.array([loss(a, b, **given) for a, b in zip(x.flat, y.flat, strict=True)]).reshape(x.shape)
        return reduced(losses, reduction)

    return oracle


def smooth_l1(x, y, beta=1.0):
    return (x - y) ** 2 / (2 * beta) if abs(x - y) < beta else abs(x - y) - beta / 2


def huber(x, y, delta=1.0):
    return (x - y) ** 2 / 2 if abs(x - y) <= delta else delta * (abs(x - y) - delta / 2)


def pair_samples(**choices):
    def make(rng):
        for params in product(reduction=REDUCTIONS, **choices):
            for shape in [(2, 3), (), (4,)]:
                joint = distinct(rng, 2, *shape)
                yield Sample((joint[0, ...], joint[1, ...]), params)
        yield Sample((distinct(rng, 0, 2), distinct(rng, 0, 2)), {"reduction": "sum"})

    return make


def divergence(x, t, *, reduction="mean", log_target=False):
    terms = np.exp(t) * (t - x) if log_target else np.where(t > 0, t * np.log(np.where(t > 0, t, 1)), 0) - t * x
    whole = terms.sum()
    return {"none": terms, "sum": whole, "mean": whole / max(1, x.size), "batchmean": whole / len(x)}[reduction]


def log_probabilities(rng):
    for reduction in (*REDUCTIONS, "batchmean"):
        for log_target in (False, True):
            x, t = np.log(rng.dirichlet(np.ones(4), 3)), rng.dirichlet(np.ones(4), 3)
            yield Sample((x, np.log(t) if log_target else t), {"reduction": reduction, "log_target": log_target})


def item_losses(scores, target, weight, ignore_index, label_smoothing, log_probability):
    """The loss of each item and its weight; scores (N, C, *d)."""
    losses, counted = np.zeros(target.shape), np.zeros(target.shape)
    classes = scores.shape[1]
    share = np.ones(classes) if weight is None else weight
    for place in np.ndindex(*target.shape):
        t = target[place]
        if t == ignore_index:
            continue
        logs = log_probability(scores[(place[0], slice(None), *place[1:])].tolist())
        losses[place] = -(1 - label_smoothing) * share[t] * logs[t]
        losses[place] -= label_smoothing / classes * math.fsum(share[c] * logs[c] for c in range(classes))
        counted[place] = share[t]
    return losses, counted


def classified(log_probability):
    def oracle(scores, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
        if scores.ndim == 1:
            target = np.asarray(target)
            out = oracle(scores[None], target[None], weight, ignore_index, reduction, label_smoothing)
            return out.reshape(())
        losses, counted = item_losses(scores, target, weight, ignore_index, label_smoothing, log_probability)
        return reduced(losses, reduction, math.fsum(counted.ravel()))

    return oracle


def soft_cross_entropy(scores, target, weight=None, reduction="mean", label_smoothing=0.0):
    if scores.ndim == 1:
        return soft_cross_entropy(scores[None], target[None], weight, reduction, label_smoothing).reshape(())
    classes = scores.shape[1]
    share = np.ones(classes) if weight is None else weight
    losses = np.zeros((scores.shape[0], *scores.shape[2:]))
    for place in np.ndindex(*losses.shape):
        at = (place[0], slice(None), *place[1:])
        logs, wanted = log_softmax(scores[at].tolist()), target[at] * (1 - label_smoothing) + label_smoothing / classes
        losses[place] = -math.fsum(share[c] * wanted[c] * logs[c] for c in range(classes))
    return reduced(losses, reduction, losses.size)


SCORES = [((4, 3), (4,)), ((3,), ()), ((2, 3, 2), (2, 2)), ((2, 2, 2, 2), (2, 2, 2))]


def class_samples(smoothing=(0.0, 0.2), logs=False):
    def make(rng):
        for params in (
            product(reduction=REDUCTIONS, label_smoothing=smoothing) if smoothing else product(reduction=REDUCTIONS)
        ):
            for scores, items in SCORES:
                classes = scores[1] if len(scores) > 1 else scores[0]
                target = rng.integers(0, classes, items)
                yield Sample((normal(rng, *scores), target, None), params)
                yield Sample((normal(rng, *scores), target, uniform(rng, (classes,), 0.2, 2.0)), params, fixed=(2,))
                if target.size > 1:
                    target = target.copy()
                    target[(0,) * target.ndim] = 1
                    target[(-1,) * target.ndim] = 0
                    yield Sample((normal(rng, *scores), target, None), {**params, "ignore_index": 1})
                    target = np.where(target == 1, -100, target)
                    yield Sample((normal(rng, *scores), target, uniform(rng, (classes,), 0.2, 2.0)), params, fixed=(2,))
        yield Sample((normal(rng, 0, 3), np.zeros(0, int), None), {"reduction": "sum"})

    return make


def items(rng):
    always = {"ignore_index": -100, "label_smoothing": 0.0, "with_gradient": True}
    for sample in class_samples()(rng):
        x, given = sample.inputs[0], {**always, **sample.params}
        if x.ndim > 1:
            yield Sample(sample.inputs, given, fixed=sample.fixed)
        if x.ndim == 2 and given["label_smoothing"]:
            yield Sample(sample.inputs, {**given, "with_gradient": False}, fixed=sample.fixed)
    yield Sample((normal(rng, 0, 3), np.zeros(0, int), None), {**always, "reduction": "none"})


def items_oracle(x, target, weight=None, *, ignore_index, label_smoothing, reduction, with_gradient):
    losses, counted = item_losses(x, target, weight, ignore_index, label_smoothing, log_softmax)
    return reduced(losses, reduction, math.fsum(counted.ravel()))


def probability_samples(rng):
    for params in product(reduction=REDUCTIONS, label_smoothing=[0.0, 0.2]):
        for scores, _ in SCORES:
            target = uniform(rng, scores, 0.1, 1.0)
            classes = scores[1] if len(scores) > 1 else scores[0]
            yield Sample((normal(rng, *scores), target, None), params)
            yield Sample((normal(rng, *scores), target, uniform(rng, (classes,), 0.2, 2.0)), params, fixed=(2,))


def binary(p, t):
    return -(t * math.log(p) + (1 - t) * math.log(1 - p))


def bce(p, t, weight=None, reduction="mean"):
    losses = np.array([binary(a, b) for a, b in zip(p.flat, t.flat, strict=True)]).reshape(p.shape)
    return reduced(losses if weight is None else losses * weight, reduction)


def bce_logits(x, t, weight=None, pos_weight=None, reduction="mean"):
    positive = np.ones(x.shape) * (1 if pos_weight is None else pos_weight)
    log_yes = np.array([-math.log1p(math.exp(-v)) for v in x.flat]).reshape(x.shape)
    losses = -(positive * t * log_yes + (1 - t) * (log_yes - x))
    return reduced(losses if weight is None else losses * weight, reduction)


def binary_samples(low, high, positive=False):
    def make(rng):
        for reduction in REDUCTIONS:
            for shape in [(2, 3), (), (4,)]:
                given = uniform(rng, shape, low, high), uniform(rng, shape, 0.1, 0.9)
                nothing = (None, None) if positive else (None,)
                yield Sample((*given, *nothing), {"reduction": reduction})
                yield Sample((*given, uniform(rng, shape, 0.2, 2), *nothing[1:]), {"reduction": reduction}, fixed=(2,))
                if positive:
                    yield Sample((*given, None, uniform(rng, shape[-1:], 0.2, 2)), {"reduction": reduction}, fixed=(3,))
        empty = np.zeros((0, 2))
        yield Sample((empty, empty, *((None, None) if positive else (None,))), {"reduction": "sum"})

    return make


def dropped(x, *, p, draw):
    """What Philox's words keep, scaled."""
    kept = philox(x.size, draw).reshape(x.shape) >= round(p * 2**32)
    return np.where(kept, x / (1 - p), 0)


def drawn(x, p, seed, shape):
    """`dropped` with what a generator draws."""
    mask = dropped(np.ones(shape), p=p, draw=int(np.random.default_rng(seed).integers(2**53)))
    return x * mask


def drops(*shapes, name="seed"):
    return lambda rng: [
        Sample((normal(rng, *s),), {"p": p, name: int(rng.integers(1 << 40))}) for s in shapes for p in (0.3, 0.5)
    ]


ROWS = [
    of_primitive(
        "batch_norm_batch",
        batch_norm,
        affine(BATCHES, lambda s: s[1:2], lambda s: {"eps": 1e-3, "report": None}),
        loose=1e-3,
    ),
    of_primitive(
        "layer_norm_last",
        layer_norm,
        affine([(3, 4), (2, 3, 2), (4,), (0, 3)], lambda s: s[-two(s) :], lambda s: {"axes": two(s), "eps": 1e-3}),
        loose=1e-3,
    ),
    public(
        "batch_norm",
        lambda x, weight=None, bias=None: batch_norm(x, weight, bias, eps=1e-5),
        affine(BATCHES, lambda s: s[1:2], lambda s: {}),
        label="training",
        function=lambda x, weight=None, bias=None: cr.batch_norm(x, None, None, weight, bias, training=True),
        loose=5e-3,
    ),
    public("batch_norm", running_norm, running, label="running"),
    public(
        "layer_norm",
        lambda x, weight=None, bias=None: layer_norm(x, weight, bias, axes=two(x.shape)),
        affine([(3, 4), (2, 3, 2), (4,), (0, 3)], lambda s: s[-two(s) :], lambda s: {}),
        function=lambda x, weight=None, bias=None: cr.layer_norm(x, x.shape[-two(x.shape) :], weight, bias),
        loose=5e-3,
    ),
    of_primitive(
        "group_norm_groups",
        group_norm,
        affine([(3, 8), (2, 6, 2), (2, 4, 40), (0, 4, 3)], lambda s: s[1:2], lambda s: {"groups": 2, "eps": 1e-3}),
        loose=1e-3,
    ),
    public(
        "group_norm",
        lambda x, weight=None, bias=None: group_norm(x, weight, bias, groups=2),
        affine([(3, 8), (2, 6, 2), (2, 4, 2, 3)], lambda s: s[1:2], lambda s: {}),
        function=lambda x, weight=None, bias=None: cr.group_norm(x, 2, weight, bias),
        loose=5e-3,
    ),
    of_primitive("dropped", dropped, drops((4, 5), (), (0, 3), name="draw")),
    public(
        "dropout",
        lambda x, p, seed: drawn(x, p, seed, x.shape),
        drops((4, 5), (), (0, 3)),
        function=lambda x, p, seed: cr.dropout(x, p, generator=cr.Generator(seed)),
    ),
    public(
        "feature_dropout",
        lambda x, p, seed: drawn(x, p, seed, (*x.shape[:2], *[1] * (x.ndim - 2))),
        drops((3, 4, 2), (2, 3, 2, 2)),
        function=lambda x, p, seed: cr.feature_dropout(x, p, generator=cr.Generator(seed)),
    ),
    elementwise("scale_shift", lambda x, s, t: x * s + t, (-2.0, 2.0), (-2.0, 2.0), (-2.0, 2.0)),
    elementwise("squared_error", lambda x, y: (x - y) ** 2, (-2.0, 2.0), (-2.0, 2.0)),
    elementwise(
        "smooth_l1_items",
        smooth_l1,
        (-2.0, 2.0),
        (-2.0, 2.0),
        good=lambda x, y: np.minimum(np.abs(np.abs(x - y) - 1), np.abs(np.abs(x - y) - 0.37)) > 1e-3,
        params=[{"beta": 1.0}, {"beta": 0.37}],
    ),
    elementwise(
        "binary_cross_entropy_items",
        lambda x, t: math.log1p(math.exp(-x)) + (1 - t) * x,
        (-3.0, 3.0),
        (0.1, 0.9),
    ),
    public("mse_loss", pointwise(lambda x, y: (x - y) ** 2), pair_samples()),
    public("l1_loss", pointwise(lambda x, y: abs(x - y)), pair_samples()),
    public("smooth_l1_loss", pointwise(smooth_l1), pair_samples(beta=[1.0, 0.37])),
    public("huber_loss", pointwise(huber), pair_samples(delta=[1.0, 0.37])),
    public("kl_div", divergence, log_probabilities),
    of_primitive("cross_entropy_items", items_oracle, items),
    public("cross_entropy", classified(log_softmax), class_samples(), label="classes"),
    public("cross_entropy", soft_cross_entropy, probability_samples, label="probabilities"),
    public("nll_loss", classified(list), class_samples(smoothing=())),
    elementwise("bounded_log", lambda x: max(math.log(x), -100.0), (0.1, 3.0)),
    public("binary_cross_entropy", bce, binary_samples(0.05, 0.95)),
    public(
        "binary_cross_entropy_with_logits",
        bce_logits,
        binary_samples(-3, 3, positive=True),
        function=lambda x, t, weight=None, pos_weight=None, reduction="mean": cr.binary_cross_entropy_with_logits(
            x, t, weight, reduction, pos_weight
        ),
    ),
]
