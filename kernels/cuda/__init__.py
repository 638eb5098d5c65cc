"""What the GPU can do: CuPy's functions under NumPy's names, and the ones that CuPy lacks or does slowly."""

import cupy

from .convolution import conv2d, conv2d_act_pool, conv2d_input, conv2d_weight
from .epilogue import act_backward, act_pool_backward
from .graph import Graph, aside, describe, each_time, live
from .indexing import add_at, index_add, scatter_add
from .matmul import add_product, affine, affine_act, affine_act_backward, affine_backward, matmul
from .memory import memory_held
from .normalization import (
    batch_norm,
    batch_norm_backward,
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm_backward,
)
from .optim import adadelta_, adagrad_, adam_, clip_, gradient_norm, rmsprop_, sgd_
from .peaks import conv1d_max, windows_input, windows_product, windows_weight
from .pointwise import (
    absolute_backward,
    binary_cross_entropy,
    binary_cross_entropy_backward,
    clip_backward,
    elu,
    elu_backward,
    erf,
    gelu,
    gelu_backward,
    leaky_relu,
    leaky_relu_backward,
    logsigmoid,
    logsigmoid_backward,
    relu,
    relu_backward,
    rsqrt,
    rsqrt_backward,
    scale_shift,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    smooth_l1,
    smooth_l1_backward,
    softplus,
    softplus_backward,
    squared_error,
    squared_error_backward,
    tanh_backward,
)
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
from .random import dropout
from .recurrent import recurrent_sequence, recurrent_sequence_backward
from .reduction import norm, running_sum, sum, variance
from .softmax import (
    cross_entropy,
    cross_entropy_backward,
    log_softmax,
    log_softmax_backward,
    logsumexp,
    logsumexp_backward,
    multiply_,
    softmax,
    softmax_backward,
)
from .transfer import send


def __getattr__(name):
    """CuPy's function of that name, kept as this module's own from then on."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(cupy, name)
    return value
