"""Values and derivatives at singular points: ours, PyTorch's, and the page that documents where they differ."""

# ruff: noqa: E501 - a table is read row by row

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import chainrule as cr

PAGE = Path(__file__).parents[2] / "docs" / "derivative-conventions.md"
nan, inf = math.nan, math.inf


class Kink(NamedTuple):
    """A singular point: a function of a library `m`, its functional module `F` and tensors; what we give there."""

    name: str
    function: Callable
    inputs: list
    value: object
    gradients: list  # of the sum of the result, one per input
    differs: str = ""  # the section of the page that explains why PyTorch's gradients differ

    def of(self, m, create_graph=False):
        """(value, gradients) in a library."""
        F = importlib.import_module(f"{m.__name__}.nn.functional")
        xs = [m.tensor(x, dtype=m.float64, requires_grad=True) for x in self.inputs]
        with np.errstate(all="ignore"):
            y = self.function(m, F, *xs)
            firsts = m.autograd.grad(y, xs, m.ones_like(y), create_graph=create_graph)
            if not create_graph:
                return plain(y), [plain(g) for g in firsts]
            total = sum(g.sum() for g in firsts)
            none = [None] * len(xs)
            seconds = m.autograd.grad(total, xs, allow_unused=True) if total.requires_grad else none
        zeros = [np.zeros(len(x)) for x in self.inputs]
        return [plain(g) for g in firsts], [z if g is None else plain(g) for g, z in zip(seconds, zeros, strict=True)]


def plain(tensor):
    tensor = tensor.detach()
    return (tensor.new_zeros(tensor.shape) + tensor).numpy()  # PyTorch's symbolic zeros hold no numbers to copy


def shown(array) -> str:
    """A value as the page shows it."""
    return " ".join(f"{v:.4g}" for v in np.ravel(array) + 0.0) or "nothing"


def line(kink, value, gradients) -> str:
    given = "; ".join(shown(x) for x in kink.inputs)
    return f"| {kink.name} | {given} | {shown(value)} | {'; '.join(shown(g) for g in gradients)} |"


# fmt: off
KINKS = [
    Kink("relu at 0", lambda m, F, x: m.relu(x), [[0.,-0.]], [0.0, -0.0], [[0.0, 0.0]]),
    Kink("relu of NaN", lambda m, F, x: m.relu(x), [[nan]], [nan], [[0.0]], differs="nan"),
    Kink("abs at 0", lambda m, F, x: m.abs(x), [[0.,-0.]], [0.0, 0.0], [[0.0, 0.0]]),
    Kink("sign at 0", lambda m, F, x: m.sign(x), [[0.]], [0.0], [[0.0]]),
    Kink("floor at an integer", lambda m, F, x: m.floor(x), [[2.]], [2.0], [[0.0]]),
    Kink("round at a half", lambda m, F, x: m.round(x), [[0.5,1.5,2.5]], [0.0, 2.0, 2.0], [[0.0, 0.0, 0.0]]),
    Kink("sqrt at 0", lambda m, F, x: m.sqrt(x), [[0.]], [0.0], [[inf]]),
    Kink("sqrt below 0", lambda m, F, x: m.sqrt(x), [[-1.]], [nan], [[nan]]),
    Kink("rsqrt at 0", lambda m, F, x: m.rsqrt(x), [[0.]], [inf], [[-inf]]),
    Kink("log at 0", lambda m, F, x: m.log(x), [[0.]], [-inf], [[inf]]),
    Kink("log below 0", lambda m, F, x: m.log(x), [[-1.]], [nan], [[-1.0]]),
    Kink("log1p at -1", lambda m, F, x: m.log1p(x), [[-1.]], [-inf], [[inf]]),
    Kink("log2 at 0", lambda m, F, x: m.log2(x), [[0.]], [-inf], [[inf]]),
    Kink("reciprocal at 0", lambda m, F, x: m.reciprocal(x), [[0.]], [inf], [[-inf]]),
    Kink("0 / 0", lambda m, F, x, y: m.divide(x,y), [[0.],[0.]], [nan], [[inf], [nan]]),
    Kink("1 / 0", lambda m, F, x, y: m.divide(x,y), [[1.],[0.]], [inf], [[inf], [-inf]]),
    Kink("arcsin at 1", lambda m, F, x: m.asin(x), [[1.,-1.]], [1.5707963267948966, -1.5707963267948966], [[inf, inf]]),
    Kink("arccos at 1", lambda m, F, x: m.acos(x), [[1.,-1.]], [0.0, 3.141592653589793], [[-inf, -inf]]),
    Kink("arccosh at 1", lambda m, F, x: m.acosh(x), [[1.]], [0.0], [[inf]]),
    Kink("arctanh at 1", lambda m, F, x: m.atanh(x), [[1.]], [inf], [[inf]]),
    Kink("arctan2 at the origin", lambda m, F, x, y: m.atan2(x,y), [[0.],[0.]], [0.0], [[0.0], [-0.0]]),
    Kink("maximum, tie", lambda m, F, x, y: m.maximum(x,y), [[1.],[1.]], [1.0], [[0.5], [0.5]]),
    Kink("minimum, tie", lambda m, F, x, y: m.minimum(x,y), [[1.],[1.]], [1.0], [[0.5], [0.5]]),
    Kink("maximum of NaN", lambda m, F, x, y: m.maximum(x,y), [[nan,1.],[1.,nan]], [nan, nan], [[0.0, 0.0], [0.0, 0.0]], differs="nan"),
    Kink("minimum of NaN", lambda m, F, x, y: m.minimum(x,y), [[nan,1.],[1.,nan]], [nan, nan], [[0.0, 0.0], [0.0, 0.0]], differs="nan"),
    Kink("clamp at its bounds", lambda m, F, x: m.clamp(x,-1.,1.), [[-1.,1.,0.,5.,nan]], [-1.0, 1.0, 0.0, 1.0, nan], [[1.0, 1.0, 1.0, 0.0, 0.0]]),
    Kink("clamp, min above max", lambda m, F, x: m.clamp(x,1.,-1.), [[-2.,0.,2.,1.,-1.]], [-1.0, -1.0, -1.0, -1.0, -1.0], [[0.0, 0.0, 0.0, 0.0, 0.0]]),
    Kink("clamp at bounds that are tensors", lambda m, F, x, a, b: m.clamp(x,a,b), [[-1.,1.,0.,5.,nan],[-1.,-1.,-1.,-1.,-1.],[1.,1.,1.,1.,1.]], [-1.0, 1.0, 0.0, 1.0, nan], [[1.0, 1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0]]),
    Kink("clamp by tensors, min above max", lambda m, F, x, a, b: m.clamp(x,a,b), [[-2.,0.,2.],[1.,1.,1.],[-1.,-1.,-1.]], [-1.0, -1.0, -1.0], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]),
    Kink("clamp by a NaN", lambda m, F, x, a, b: m.clamp(x,a,b), [[0.,0.],[nan,-1.],[1.,nan]], [nan, nan], [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]),
    Kink("hardtanh at its bounds", lambda m, F, x: F.hardtanh(x), [[-1.,1.,0.]], [-1.0, 1.0, 0.0], [[0.0, 0.0, 1.0]]),
    Kink("relu6 at its bounds", lambda m, F, x: F.relu6(x), [[0.,6.,3.]], [0.0, 6.0, 3.0], [[0.0, 0.0, 1.0]]),
    Kink("leaky_relu at 0", lambda m, F, x: F.leaky_relu(x,0.1), [[0.]], [0.0], [[0.1]]),
    Kink("elu at 0", lambda m, F, x: F.elu(x,0.5), [[0.]], [0.0], [[0.5]]),
    Kink("softplus at threshold", lambda m, F, x: F.softplus(x), [[20.,21.]], [20.000000002061153, 21.0], [[0.9999999979388464, 1.0]]),
    Kink("x ** 0", lambda m, F, x: x**0, [[0.,2.,nan]], [1.0, 1.0, 1.0], [[0.0, 0.0, 0.0]]),
    Kink("x ** y at y = 0", lambda m, F, x, y: x**y, [[0.,2.],[0.,0.]], [1.0, 1.0], [[0.0, 0.0], [0.0, 0.6931471805599453]]),
    Kink("x ** y at x = 0", lambda m, F, x, y: x**y, [[0.,0.,0.],[0.,2.,-1.]], [1.0, 0.0, inf], [[0.0, 0.0, -inf], [0.0, 0.0, -inf]]),
    Kink("x ** 1 at 0", lambda m, F, x: x**1, [[0.]], [0.0], [[1.0]]),
    Kink("x ** 0.5 at 0", lambda m, F, x: x**0.5, [[0.]], [0.0], [[inf]]),
    Kink("x ** 2 at 0", lambda m, F, x: x**2, [[0.]], [0.0], [[0.0]]),
    Kink("x ** -1 at 0", lambda m, F, x: x**-1, [[0.]], [inf], [[-inf]]),
    Kink("x ** y at x = 0, y > 0", lambda m, F, x, y: x**y, [[0.,0.,0.],[1.,0.5,2.]], [0.0, 0.0, 0.0], [[1.0, inf, 0.0], [0.0, 0.0, 0.0]]),
    Kink("x ** y for x < 0, y whole", lambda m, F, x, y: x**y, [[-2.],[2.]], [4.0], [[-4.0], [nan]]),
    Kink("x ** y for x < 0, y not whole", lambda m, F, x, y: x**y, [[-2.],[0.5]], [nan], [[nan], [nan]]),
    Kink("0 ** y", lambda m, F, y: 0.0**y, [[0.,1.,-1.]], [1.0, 0.0, inf], [[0.0, 0.0, -inf]]),
    Kink("2 ** y", lambda m, F, y: 2**y, [[0.,1.]], [1.0, 2.0], [[0.6931471805599453, 1.3862943611198906]]),
    Kink("(-2) ** y", lambda m, F, y: (-2)**y, [[2.,1.]], [4.0, -2.0], [[nan, nan]]),
    Kink("x ** inf", lambda m, F, x, y: x**y, [[1.,2.],[inf,inf]], [1.0, inf], [[inf, inf], [0.0, inf]]),
    Kink("remainder of a multiple", lambda m, F, x, y: m.remainder(x,y), [[4.],[2.]], [0.0], [[1.0], [-2.0]]),
    Kink("remainder by 0", lambda m, F, x, y: m.remainder(x,y), [[4.],[0.]], [nan], [[1.0], [-inf]]),
    Kink("amax, ties", lambda m, F, x: m.amax(x,0), [[1.,1.,0.]], 1.0, [[0.5, 0.5, 0.0]]),
    Kink("amin, ties", lambda m, F, x: m.amin(x,0), [[1.,1.,3.]], 1.0, [[0.5, 0.5, 0.0]]),
    Kink("amax of NaN", lambda m, F, x: m.amax(x,0), [[1.,nan,0.]], nan, [[0.0, 0.0, 0.0]], differs="nan"),
    Kink("max of all, ties", lambda m, F, x: x.max(), [[1.,1.,0.]], 1.0, [[0.5, 0.5, 0.0]]),
    Kink("max of all, NaN", lambda m, F, x: x.max(), [[1.,nan,0.]], nan, [[0.0, 0.0, 0.0]], differs="nan"),
    Kink("max along a dimension, ties", lambda m, F, x: x.max(0)[0], [[1.,1.,0.]], 1.0, [[1.0, 0.0, 0.0]]),
    Kink("min along a dimension, ties", lambda m, F, x: x.min(0)[0], [[1.,1.,3.]], 1.0, [[1.0, 0.0, 0.0]]),
    Kink("max along a dimension, NaN", lambda m, F, x: x.max(0)[0], [[1.,nan,0.]], nan, [[0.0, 1.0, 0.0]]),
    Kink("sort, ties", lambda m, F, x: m.sort(x,stable=True)[0]*m.tensor([1.,2.,3.],dtype=m.float64), [[1.,1.,0.]], [0.0, 2.0, 3.0], [[2.0, 3.0, 1.0]]),
    Kink("sort descending, ties", lambda m, F, x: m.sort(x,stable=True,descending=True)[0]*m.tensor([1.,2.,3.],dtype=m.float64), [[1.,1.,0.]], [1.0, 2.0, 0.0], [[1.0, 2.0, 3.0]]),
    Kink("sort with NaN", lambda m, F, x: m.sort(x,stable=True)[0]*m.tensor([1.,2.,3.],dtype=m.float64), [[nan,1.,0.]], [0.0, 2.0, nan], [[3.0, 2.0, 1.0]]),
    Kink("sort descending with NaN", lambda m, F, x: m.sort(x,stable=True,descending=True)[0]*m.tensor([1.,2.,3.],dtype=m.float64), [[1.,nan,0.]], [nan, 2.0, 0.0], [[2.0, 1.0, 3.0]]),
    Kink("topk, ties", lambda m, F, x: m.topk(x,1)[0], [[1.,1.,0.]], [1.0], [[1.0, 0.0, 0.0]]),
    Kink("topk with NaN", lambda m, F, x: m.topk(x,1)[0], [[1.,nan,0.]], [nan], [[0.0, 1.0, 0.0]]),
    Kink("norm 2 at 0", lambda m, F, x: x.norm(), [[0.,0.]], 0.0, [[0.0, 0.0]]),
    Kink("norm 1 at 0", lambda m, F, x: x.norm(1), [[0.,1.]], 1.0, [[0.0, 1.0]]),
    Kink("norm inf at 0", lambda m, F, x: x.norm(inf), [[0.,0.]], 0.0, [[0.0, 0.0]]),
    Kink("norm inf, ties", lambda m, F, x: x.norm(inf), [[2.,-2.,1.]], 2.0, [[0.5, -0.5, 0.0]]),
    Kink("norm -inf, ties", lambda m, F, x: x.norm(-inf), [[2.,-2.,3.]], 2.0, [[0.5, -0.5, 0.0]]),
    Kink("norm 3 at 0", lambda m, F, x: x.norm(3), [[0.,0.]], 0.0, [[0.0, 0.0]]),
    Kink("norm 1.5 partly 0", lambda m, F, x: x.norm(1.5), [[0.,1.]], 1.0, [[0.0, 1.0]]),
    Kink("norm 0.5 partly 0", lambda m, F, x: x.norm(0.5), [[0.,1.]], 1.0, [[0.0, 1.0]]),
    Kink("norm 3 partly 0", lambda m, F, x: x.norm(3), [[0.,1.]], 1.0, [[0.0, 1.0]]),
    Kink("norm 2 of infinity", lambda m, F, x: x.norm(), [[inf,1.]], inf, [[nan, 0.0]]),
    Kink("std of equal numbers", lambda m, F, x: m.std(x), [[2.,2.,2.]], 0.0, [[0.0, 0.0, 0.0]]),
    Kink("std of one", lambda m, F, x: m.std(x), [[2.]], nan, [[nan]]),
    Kink("std of one, biased", lambda m, F, x: m.std(x,correction=0), [[2.]], 0.0, [[0.0]]),
    Kink("var of one", lambda m, F, x: m.var(x), [[2.]], nan, [[nan]]),
    Kink("mean of none", lambda m, F, x: m.mean(x), [[]], nan, [[]]),
    Kink("var of none", lambda m, F, x: m.var(x), [[]], nan, [[]]),
    Kink("prod with one 0", lambda m, F, x: m.prod(x), [[0.,2.,3.]], 0.0, [[6.0, 0.0, 0.0]]),
    Kink("prod with two 0s", lambda m, F, x: m.prod(x), [[0.,0.,3.]], 0.0, [[0.0, 0.0, 0.0]]),
    Kink("prod with infinity", lambda m, F, x: m.prod(x), [[inf,2.]], inf, [[nan, inf]]),
    Kink("logsumexp of nothing but -inf", lambda m, F, x: m.logsumexp(x,0), [[-inf,-inf]], -inf, [[0.0, 0.0]], differs="empty"),
    Kink("logsumexp with -inf", lambda m, F, x: m.logsumexp(x,0), [[-inf,0.]], 0.0, [[0.0, 1.0]]),
    Kink("logsumexp with inf", lambda m, F, x: m.logsumexp(x,0), [[inf,0.]], inf, [[nan, 0.0]]),
    Kink("logsumexp with two inf", lambda m, F, x: m.logsumexp(x,0), [[inf,inf]], inf, [[nan, nan]]),
    Kink("softmax with -inf", lambda m, F, x: m.softmax(x,0)*m.tensor([1.,2.],dtype=m.float64), [[-inf,0.]], [0.0, 2.0], [[-0.0, 0.0]]),
    Kink("softmax of nothing but -inf", lambda m, F, x: m.softmax(x,0), [[-inf,-inf]], [nan, nan], [[nan, nan]]),
    Kink("softmax with inf", lambda m, F, x: m.softmax(x,0), [[inf,0.]], [nan, nan], [[nan, nan]]),
    Kink("log_softmax with -inf", lambda m, F, x: m.log_softmax(x,0)[1], [[-inf,0.]], 0.0, [[0.0, 0.0]]),
    Kink("logaddexp of two -inf", lambda m, F, x, y: m.logaddexp(x,y), [[-inf],[-inf]], [-inf], [[nan], [nan]]),
    Kink("logaddexp of two inf", lambda m, F, x, y: m.logaddexp(x,y), [[inf],[inf]], [inf], [[nan], [nan]]),
    Kink("where(x > 0, log(x), 0): no NaN from the branch not taken, but 0 / 0 at 0", lambda m, F, x: m.where(x>0, m.log(x), m.zeros_like(x)), [[-1.,1.,0.]], [0.0, 0.0, 0.0], [[-0.0, 1.0, nan]]),
    Kink("where(x > 0, sqrt(x), 0): the derivative inf of the branch not taken at 0, times 0", lambda m, F, x: m.where(x>0, m.sqrt(x), 0*x), [[0.,1.]], [0.0, 1.0], [[nan, 0.5]]),
    Kink("where, NaN in the branch not taken", lambda m, F, x, y: m.where(m.tensor([True,False]), x, y), [[nan,nan],[nan,1.]], [nan, 1.0], [[1.0, 0.0], [0.0, 1.0]]),
    Kink("masked_fill over NaN", lambda m, F, x: x.masked_fill(m.tensor([True,False]), 0.), [[nan,1.]], [0.0, 1.0], [[0.0, 1.0]]),
    Kink("max_pool, ties", lambda m, F, x: F.max_pool1d(x.reshape(1,1,-1),2), [[1.,1.,0.,0.]], [[[1.0, 0.0]]], [[1.0, 0.0, 1.0, 0.0]]),
    Kink("max_pool of NaN", lambda m, F, x: F.max_pool1d(x.reshape(1,1,-1),2), [[1.,nan,nan,0.]], [[[nan, nan]]], [[0.0, 1.0, 1.0, 0.0]]),
    Kink("max_pool of -inf", lambda m, F, x: F.max_pool1d(x.reshape(1,1,-1),2), [[-inf,-inf]], [[[-inf]]], [[1.0, 0.0]]),
    Kink("adaptive_max_pool, ties", lambda m, F, x: F.adaptive_max_pool1d(x.reshape(1,1,-1),1), [[1.,1.,0.]], [[[1.0]]], [[1.0, 0.0, 0.0]]),
    Kink("l1_loss at 0", lambda m, F, x, y: F.l1_loss(x,y), [[1.],[1.]], 0.0, [[0.0], [-0.0]]),
    Kink("smooth_l1_loss at beta", lambda m, F, x, y: F.smooth_l1_loss(x,y), [[1.,0.],[0.,0.]], 0.25, [[0.5, 0.0], [-0.5, 0.0]]),
    Kink("smooth_l1_loss, beta 0", lambda m, F, x, y: F.smooth_l1_loss(x,y,beta=0.), [[1.,0.],[0.,0.]], 0.5, [[0.5, 0.0], [-0.5, -0.0]]),
    Kink("huber_loss at delta", lambda m, F, x, y: F.huber_loss(x,y), [[1.,0.],[0.,0.]], 0.25, [[0.5, 0.0], [-0.5, 0.0]]),
    Kink("binary_cross_entropy, p = 0, t = 0", lambda m, F, x, y: F.binary_cross_entropy(x,y,reduction='sum'), [[0.],[0.]], 0.0, [[1.0], [100.0]], differs="bce"),
    Kink("binary_cross_entropy, p = 0, t = 1", lambda m, F, x, y: F.binary_cross_entropy(x,y,reduction='sum'), [[0.],[1.]], 100.0, [[-1000000000000.0], [100.0]], differs="bce"),
    Kink("binary_cross_entropy, p = 1, t = 0", lambda m, F, x, y: F.binary_cross_entropy(x,y,reduction='sum'), [[1.],[0.]], 100.0, [[1000000000000.0], [-100.0]], differs="bce"),
    Kink("binary_cross_entropy, p = 1, t = 1", lambda m, F, x, y: F.binary_cross_entropy(x,y,reduction='sum'), [[1.],[1.]], 0.0, [[-1.0], [-100.0]], differs="bce"),
    Kink("binary_cross_entropy, p = 1e-50, t = 1", lambda m, F, x, y: F.binary_cross_entropy(x,y,reduction='sum'), [[1e-50],[1.]], 100.0, [[-1000000000000.0], [100.0]], differs="bce"),
    Kink("layer_norm of equal numbers", lambda m, F, x: F.layer_norm(x,(3,))*m.tensor([1.,2.,4.],dtype=m.float64), [[2.,2.,2.]], [0.0, 0.0, 0.0], [[-421.6370213557839, -105.40925533894597, 527.0462766947298]]),
    Kink("cross_entropy, other logit -inf", lambda m, F, x: F.cross_entropy(x.reshape(1,-1),m.tensor([1])), [[-inf,0.]], 0.0, [[0.0, 0.0]]),
    Kink("cross_entropy, all ignored", lambda m, F, x: F.cross_entropy(x.reshape(1,-1),m.tensor([-100])), [[1.,0.]], nan, [[0.0, 0.0]]),
    Kink("cross_entropy, all ignored, sum", lambda m, F, x: F.cross_entropy(x.reshape(1,-1),m.tensor([-100]),reduction='sum'), [[1.,0.]], 0.0, [[0.0, 0.0]]),
    Kink("cross_entropy, smoothed, other logit -inf", lambda m, F, x: F.cross_entropy(x.reshape(1,-1),m.tensor([1]),label_smoothing=.1), [[-inf,0.]], inf, [[-0.05, 0.04999999999999993]]),
    Kink("cross_entropy, target's logit -inf", lambda m, F, x: F.cross_entropy(x.reshape(1,-1),m.tensor([0])), [[-inf,0.]], inf, [[-1.0, 1.0]]),
    Kink("cross_entropy of probabilities, logit -inf", lambda m, F, x: F.cross_entropy(x.reshape(1,-1),m.tensor([[0.,1.]],dtype=m.float64)), [[-inf,0.]], nan, [[0.0, 0.0]]),
    Kink("nll_loss of -inf", lambda m, F, x: F.nll_loss(x.reshape(1,-1),m.tensor([0])), [[-inf,0.]], inf, [[-1.0, 0.0]]),
    Kink("gelu at infinity", lambda m, F, x: F.gelu(x), [[inf,-inf]], [inf, nan], [[nan, nan]]),
    Kink("silu at infinity", lambda m, F, x: F.silu(x), [[inf,-inf]], [inf, nan], [[nan, nan]]),
    Kink("sigmoid at infinity", lambda m, F, x: m.sigmoid(x), [[inf,-inf]], [1.0, 0.0], [[0.0, 0.0]]),
    Kink("tanh at infinity", lambda m, F, x: m.tanh(x), [[inf,-inf]], [1.0, -1.0], [[0.0, 0.0]]),
    Kink("logsigmoid at infinity", lambda m, F, x: F.logsigmoid(x), [[inf,-inf]], [0.0, -inf], [[0.0, 1.0]]),
    Kink("softplus at infinity", lambda m, F, x: F.softplus(x), [[inf,-inf]], [inf, 0.0], [[1.0, 0.0]]),
    Kink("exp at infinity", lambda m, F, x: m.exp(x), [[inf,-inf]], [inf, 0.0], [[inf, 0.0]]),
    Kink("square at infinity", lambda m, F, x: m.square(x), [[inf]], [inf], [[inf]]),
    Kink("elu at infinity", lambda m, F, x: F.elu(x), [[inf,-inf]], [inf, -1.0], [[1.0, 0.0]]),
    Kink("elu far out", lambda m, F, x: F.elu(x), [[1000.,-1000.]], [1000.0, -1.0], [[1.0, 0.0]]),
    Kink("cumsum with infinity", lambda m, F, x: m.cumsum(x,0), [[inf,1.]], [inf, inf], [[2.0, 1.0]]),
    Kink("scatter, repeated index", lambda m, F, x, y: m.scatter(x,0,m.tensor([1,1,0]),y), [[0.,0.,0.],[1.,2.,3.]], [3.0, 2.0, 0.0], [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]], "repeated"),
    Kink("lerp between equals", lambda m, F, x, y: m.lerp(x,y,0.5), [[1.],[1.]], [1.0], [[0.5], [0.5]]),
    Kink("x / clamp(norm(x), 1) at 0", lambda m, F, x: x/m.clamp(x.norm(),min=1.0), [[0.,0.]], [0.0, 0.0], [[1.0, 1.0]]),
]
# fmt: on


few = pytest.mark.filterwarnings("ignore:.*degrees of freedom")  # PyTorch's remark on a variance of one number


@pytest.mark.parametrize("kink", KINKS, ids=lambda kink: kink.name)
def test_ours(kink):
    value, gradients = kink.of(cr)
    np.testing.assert_allclose(value, kink.value, rtol=1e-10)
    for got, expected in zip(gradients, kink.gradients, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10)


@pytest.mark.parametrize("kink", KINKS, ids=lambda kink: kink.name)
@few
def test_theirs(kink, torch):
    """PyTorch agrees, except where the page says that it does not."""
    value, gradients = kink.of(torch)
    np.testing.assert_allclose(value, kink.value, rtol=1e-10)
    agrees = all(np.allclose(g, e, rtol=1e-10, equal_nan=True) for g, e in zip(gradients, kink.gradients, strict=True))
    assert agrees == (not kink.differs), f"PyTorch gives {[g.tolist() for g in gradients]}"
    assert agrees or line(kink, value, gradients) in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("kink", KINKS, ids=lambda kink: kink.name)
@few
def test_the_composed_rules_agree_and_second_derivatives_make_no_nan(kink, torch):
    """Where the value and PyTorch's second derivative are finite, so is ours."""
    firsts, ours = kink.of(cr, create_graph=True)
    for got, expected in zip(firsts, kink.gradients, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10)
    _, theirs = kink.of(torch, create_graph=True)
    for got, expected in zip(ours, theirs, strict=True):
        assert not np.isfinite(kink.value).all() or np.isfinite(got[np.isfinite(expected)]).all(), (
            f"ours {got}, PyTorch's {expected}"
        )


def test_the_page_shows_our_choices():
    page = PAGE.read_text(encoding="utf-8")
    rows = [row for row in page.splitlines() if row.startswith("| ") and row.count("|") == 5]
    expected = [line(kink, kink.value, kink.gradients) for kink in KINKS]
    assert [row for row in rows if row in expected] == expected, (
        "docs/derivative-conventions.md: a row is missing or stale"
    )


def test_the_page_explains_every_difference():
    page = PAGE.read_text(encoding="utf-8")
    for kink in KINKS:
        assert not kink.differs or f"**{kink.differs}**" in page, kink.name


def test_a_norm_of_order_0_is_a_count():
    x = cr.tensor([0.0, 2.0], requires_grad=True)
    assert not x.norm(0).requires_grad
