"""Shape arithmetic: against PyTorch where it is installed, and every refusal's message."""

import pytest
from hypothesis import assume, given, settings, strategies as st

from chainrule.kernels import geometry

ONE = dict(kernel_size=(2, 2), stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1))


@pytest.mark.parametrize("value, expected", [(3, (3, 3)), ((1, 2), (1, 2)), ([4, 5], (4, 5))])
def test_pair(value, expected):
    assert geometry.pair(value, "stride") == expected


@pytest.mark.parametrize(
    "padding, expected",
    [
        (0, ((0, 0), (0, 0))),
        ((1, 2), ((1, 1), (2, 2))),
        (((1, 2), (0, 3)), ((1, 2), (0, 3))),
        ("valid", ((0, 0), (0, 0))),
        ("same", ((1, 1), (1, 2))),
    ],
)
def test_padding_pairs(padding, expected):
    assert geometry.padding_pairs(padding, kernel_size=(3, 4), dilation=(1, 1)) == expected


@pytest.mark.parametrize("kernel, dilation", [(1, 1), (2, 1), (3, 2), (4, 3)])
def test_same_keeps_the_size(kernel, dilation):
    window = dict(kernel_size=(kernel,) * 2, dilation=(dilation,) * 2)
    padding = geometry.padding_pairs("same", **window)
    assert geometry.conv_output_size((5, 9), stride=(1, 1), padding=padding, **window) == (5, 9)


sizes, kernels, strides, paddings, dilations = (st.integers(1, most) for most in (12, 4, 4, 3, 3))


@settings(max_examples=150)
@given(sizes, kernels, strides, paddings, dilations)
def test_convolution_and_its_transpose_are_inverse_on_shapes(size, kernel, stride, padding, dilation):
    assume(dilation * (kernel - 1) + 1 <= size + 2 * padding)
    window = dict(
        kernel_size=(kernel,) * 2, stride=(stride,) * 2, padding=((padding,) * 2,) * 2, dilation=(dilation,) * 2
    )
    out = geometry.conv_output_size((size,) * 2, **window)
    rest = (size + 2 * padding - dilation * (kernel - 1) - 1) % stride
    assert geometry.conv_transpose_output_size(out, output_padding=(rest,) * 2, **window) == (size,) * 2


@settings(max_examples=200)
@given(sizes, kernels, strides, st.integers(0, 2), dilations, st.booleans())
def test_pooling_sizes_are_those_of_pytorch(size, kernel, stride, padding, dilation, ceil_mode):
    torch = pytest.importorskip("torch", reason="PyTorch is absent: pip install 'chainrule[compare]'")
    assume(padding <= kernel // 2 and dilation * (kernel - 1) + 1 <= size + 2 * padding)
    x = torch.zeros(1, 1, size, size)
    theirs = torch.nn.functional.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode).shape[2:]
    ours = geometry.pool_output_size(
        (size,) * 2,
        kernel_size=(kernel,) * 2,
        stride=(stride,) * 2,
        padding=((padding,) * 2,) * 2,
        dilation=(dilation,) * 2,
        ceil_mode=ceil_mode,
    )
    assert ours == tuple(theirs)


@pytest.mark.parametrize("size, count", [(7, 3), (3, 7), (6, 6), (5, 1), (4, 0)])
def test_adaptive_windows_cover_the_input_in_order(size, count):
    windows = geometry.adaptive_windows((size, size), output_size=(count, count))[0]
    assert windows.starts == tuple(i * size // count for i in range(count))
    assert all(a < b <= size for a, b in zip(windows.starts, windows.stops, strict=True))
    if count:
        assert windows.starts[0] == 0 and windows.stops[-1] == size


REFUSED = {
    "float": (lambda: geometry.pair(2.5, "stride"), TypeError, r"stride=2\.5 is not an int or a pair of ints: pass"),
    "string": (lambda: geometry.pair("ab", "stride"), TypeError, r"stride='ab' is not an int"),
    "three": (lambda: geometry.pair((1, 2, 3), "stride"), ValueError, r"stride=\(1, 2, 3\) has 3 entries.*pass a pair"),
    "zero": (lambda: geometry.pair(0, "stride"), ValueError, r"stride=0 is too small: every entry must be at least 1"),
    "negative padding": (
        lambda: geometry.padding_pairs(-1, kernel_size=(1, 1)),
        ValueError,
        r"padding=-1 is too small: every entry must be at least 0",
    ),
    "same with stride": (
        lambda: geometry.padding_pairs("same", kernel_size=(3, 3), stride=(2, 2)),
        ValueError,
        r'padding="same" with stride=\(2, 2\) has no defined size: use stride=1',
    ),
    "unknown padding": (
        lambda: geometry.padding_pairs("full", kernel_size=(3, 3)),
        ValueError,
        r"""padding='full' is not known: use "same", "valid", an int or a pair of ints""",
    ),
    "three pairs": (
        lambda: geometry.padding_pairs(((1, 1),) * 3, kernel_size=(3, 3)),
        ValueError,
        r"must hold two pairs: pass \(\(top, bottom\), \(left, right\)\)",
    ),
    "kernel too large": (
        lambda: geometry.conv_output_size((3, 9), **ONE | dict(kernel_size=(5, 5))),
        ValueError,
        r"convolution kernel \(5, 5\).*reaches over \(5, 5\).*size \(3, 9\).*use a smaller kernel",
    ),
    "dilation too large": (
        lambda: geometry.pool_output_size((4, 4), **ONE | dict(dilation=(5, 1))),
        ValueError,
        r"pooling kernel \(2, 2\) with dilation \(5, 1\) reaches over \(6, 2\)",
    ),
    "empty kernel": (
        lambda: geometry.conv_output_size((3, 3), **ONE | dict(kernel_size=(0, 3))),
        ValueError,
        r"kernel of size \(0, 3\) is empty: every entry must be at least 1",
    ),
    "pooling padding": (
        lambda: geometry.pool_output_size((4, 4), **ONE | dict(padding=((2, 2), (0, 0)))),
        ValueError,
        r"more than half of the pooling kernel \(2, 2\).*use at most half",
    ),
    "stepping over the input": (
        lambda: geometry.pool_windows((1, 1), **ONE | dict(padding=((1, 1), (1, 1)), dilation=(2, 2))),
        ValueError,
        r"steps over all 1 elements of the input: use less dilation or padding",
    ),
    "output_padding": (
        lambda: geometry.conv_transpose_output_size((3, 3), output_padding=(1, 0), **ONE),
        ValueError,
        r"output_padding=\(1, 0\) does not fit stride=\(1, 1\).*below its stride or its dilation",
    ),
    "transposed to nothing": (
        lambda: geometry.conv_transpose_output_size((1, 1), output_padding=(0, 0), **ONE | dict(padding=((1, 1),) * 2)),
        ValueError,
        r"input size \(1, 1\).*would have output size \(0, 0\): use a larger input or less padding",
    ),
    "adaptive absurd": (
        lambda: geometry.adaptive_windows((3, 3), output_size=(10**20, 2)),
        ValueError,
        r"output_size=\(100000000000000000000, 2\) is beyond 1048576 windows per axis: ask for fewer",
    ),
    "adaptive negative": (
        lambda: geometry.adaptive_windows((3, 3), output_size=(-1, 2)),
        ValueError,
        r"output_size=\(-1, 2\) is negative",
    ),
    "adaptive empty": (
        lambda: geometry.adaptive_windows((0, 3), output_size=(1, 2)),
        ValueError,
        r"empty plane of size \(0, 3\) has nothing to pool",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    call, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        call()
