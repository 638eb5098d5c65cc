"""The kernels in bfloat16, whose 8 bits they widen to float32 while they compute, against float64."""

import numpy as np
import pytest

from chainrule.kernels import cpu

bfloat16 = pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes").bfloat16
ROWS = dict(axes=1, eps=1e-5)
ADAM = dict(lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.1, decoupled=True, maximize=False, step=3)
# (function, shapes of its arrays, its other arguments, settings)
CASES = [
    ("sigmoid", [(5, 33)], (), {}),
    ("gelu_backward", [(64,), (64,)], (), {}),
    ("softmax", [(3, 40)], (1,), {}),
    ("log_softmax_backward", [(3, 37), (3, 37)], (1,), {}),
    ("logsumexp", [(3, 5, 7)], (1,), {}),
    ("layer_norm", [(4, 48), (48,), (48,)], (), ROWS),
    ("layer_norm_backward", [(4, 48), (4, 48), (48,), (4,), (4,)], (), dict(axes=1)),
    ("batch_norm", [(6, 3, 5), (3,), (3,)], (), dict(eps=1e-5)),
    ("batch_norm_backward", [(6, 3, 5), (6, 3, 5), (3,), (3,), (3,)], (), {}),
    ("group_norm", [(6, 4, 5), (4,), (4,)], (), dict(groups=2, eps=1e-5)),
    ("group_norm_backward", [(6, 4, 5), (6, 4, 5), (4,), (12,), (12,)], (), dict(groups=2)),
    ("sum", [(7, 33)], (0,), {}),
    ("dropout", [(130,)], (0.5,), dict(draw=5)),
]


def wide(a):
    return a.astype("f8")


@pytest.mark.parametrize("name, shapes, rest, settings", CASES, ids=[case[0] for case in CASES])
def test_function(cuda, cupy, rng, name, shapes, rest, settings):
    arrays = [rng.uniform(0.5, 2, s).astype(bfloat16) for s in shapes]
    got = getattr(cuda, name)(*map(cupy.asarray, arrays), *rest, **settings)
    expected = getattr(cpu, name)(*map(wide, arrays), *rest, **settings)
    several = isinstance(got, tuple)
    for one, wanted in zip(got if several else [got], expected if several else [expected], strict=True):
        assert one.dtype == bfloat16
        np.testing.assert_allclose(wide(one.get()), wanted, rtol=2e-2, atol=2e-2 * (1 + np.abs(wanted).max()))


def test_updates(cuda, cupy, rng):
    arrays = [rng.uniform(0.5, 1, 100).astype(bfloat16) for _ in range(4)]
    on, expected = [cupy.asarray(a) for a in arrays], [wide(a) for a in arrays]
    cuda.adam_(*on, None, **ADAM)
    cpu.adam_(*expected, None, **ADAM)
    np.testing.assert_allclose(wide(on[0].get()), expected[0], rtol=2e-2)
    assert float(cuda.gradient_norm(on)) == pytest.approx(
        float(cpu.gradient_norm([wide(a.get()) for a in on])), rel=1e-6
    )


def test_cross_entropy(cuda, cupy, rng):
    x, target, g = rng.standard_normal((6, 40)).astype(bfloat16), rng.integers(0, 40, 6), np.ones(6, bfloat16)
    given = None, -100, 0.1
    for reduction, slope in ("none", g), ("mean", g[0]):
        loss, gradient = cuda.cross_entropy(cupy.asarray(x), cupy.asarray(target), *given, reduction, True)
        expected, wanted = cpu.cross_entropy(wide(x), target, *given, reduction, True)
        assert loss.dtype == gradient.dtype == bfloat16
        np.testing.assert_allclose(wide(loss.get()), expected, rtol=1e-2)
        np.testing.assert_allclose(wide(gradient.get()), wanted, atol=1e-2)
        got = cuda.cross_entropy_backward(cupy.asarray(slope), cupy.asarray(x), cupy.asarray(target), *given, reduction)
        np.testing.assert_allclose(wide(got.get()), wanted, atol=1e-2)
