"""What the CPU can do: NumPy's functions under NumPy's names, and the ones that NumPy lacks or does slowly."""

from numpy import (
    abs, add, all, allclose, amax, amin, any, arange, arccos, arccosh, arcsin, arcsinh, arctan, arctan2, arctanh, argmax,
    argmin, argsort, array, array_equal, asarray, ascontiguousarray, atleast_1d, bitwise_and, bitwise_count, bitwise_not,
    bitwise_or, bitwise_xor, broadcast_arrays, broadcast_shapes, broadcast_to, cbrt, ceil, clip, concatenate, copy, copysign,
    copyto, cos, cosh, count_nonzero, cumprod, cumsum, deg2rad, diag, diagonal, divide, dot, einsum, empty, empty_like, equal,
    exp, exp2, expand_dims, expm1, eye, flip, float_power, floor, floor_divide, fmax, fmin, fmod, full, full_like, greater,
    greater_equal, heaviside, hypot, interp, isclose, isfinite, isinf, isnan, less, less_equal, linspace, log, log1p, log2,
    log10, logaddexp, logical_and, logical_not, logical_or, logical_xor, max, maximum, mean, meshgrid, min, minimum, mod,
    moveaxis, multiply, nan_to_num, ndarray, negative, nonzero, not_equal, ones, ones_like, outer, pad, permute_dims, positive,
    power, prod, put_along_axis, rad2deg, ravel, reciprocal, remainder, repeat, reshape, result_type, rint, roll, round,
    searchsorted, shares_memory, sign, signbit, sin, sinc, sinh, sort, split, sqrt, square, squeeze, stack, std, subtract,
    swapaxes, take, take_along_axis, tan, tanh, tensordot, tile, trace, transpose, tri, tril, tril_indices, triu,
    triu_indices, true_divide, trunc, unique, unravel_index, var, where, zeros, zeros_like,
)

from . import workers
from .convolution import conv2d, conv2d_input, conv2d_weight
from .indexing import index_add, scatter_add
from .matmul import matmul
from .normalization import batch_norm, batch_norm_backward, layer_norm, layer_norm_backward
from .optim import adadelta_, adagrad_, adam_, rmsprop_, sgd_
from .pooling import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    adaptive_max_pool2d,
    avg_pool2d,
    avg_pool2d_backward,
    gather_planes,
    max_pool2d,
    scatter_planes,
)
from .reduction import sum
from .softmax import (
    cross_entropy,
    cross_entropy_backward,
    log_softmax,
    log_softmax_backward,
    logsumexp,
    softmax,
    softmax_backward,
)
from .special import erf, gelu, gelu_backward, logsigmoid, sigmoid, silu, softplus
