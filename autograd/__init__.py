"""Tensors, primitives and their derivative rules, the backward walk, and the picture of the graph."""

from ..kernels import for_array
from . import collector, methods, numpy_protocol, transforms
from .anomaly import AnomalyError, detect_anomaly
from .autocast import autocast
from .backward import backward, grad
from .capture import capture, forget_captured, hold
from .checkpoint import checkpoint
from .checks import GradientError, check_grads
from .creation import (
    arange,
    as_tensor,
    empty,
    empty_like,
    eye,
    from_dlpack,
    from_numpy,
    full,
    full_like,
    linspace,
    meshgrid,
    ones,
    ones_like,
    send,
    tensor,
    zeros,
    zeros_like,
)
from .display import mimebundle
from .fusion import is_watched, pool_fits
from .graph import Node
from .ops.convert import clone
from .ops.convolution import conv1d, conv2d, conv_transpose1d, conv_transpose2d
from .ops.elementwise import (
    absolute,
    add,
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    ceil,
    clamp,
    cos,
    cosh,
    divide,
    elu,
    equal,
    erf,
    exp,
    exp2,
    expm1,
    floor,
    floor_divide,
    gelu,
    greater,
    greater_equal,
    hardtanh,
    isfinite,
    isinf,
    isnan,
    leaky_relu,
    lerp,
    less,
    less_equal,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    logsigmoid,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    power,
    reciprocal,
    relu,
    relu6,
    remainder,
    round,
    rsqrt,
    sigmoid,
    sign,
    silu,
    sin,
    sinh,
    softplus,
    sqrt,
    square,
    subtract,
    tan,
    tanh,
    trunc,
    where,
)
from .ops.fused import conv2d_act_pool, linear_act
from .ops.indexing import (
    diag,
    diagonal,
    embedding,
    gather,
    getitem,
    index_add,
    index_select,
    masked_fill,
    masked_select,
    nonzero,
    one_hot,
    scatter,
    scatter_add,
    spread_at,
    take_along_dim,
    tril,
    triu,
    with_item,
)
from .ops.linalg import bilinear, bmm, dot, einsum, linear, matmul, mm, mv, outer, tensordot, trace
from .ops.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)
from .ops.normalization import batch_norm, dropout, feature_dropout, group_norm, layer_norm
from .ops.peaks import conv1d_max
from .ops.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    max_pool1d,
    max_pool2d,
)
from .ops.recurrent import gru_sequence, lstm_sequence, rnn_sequence
from .ops.reductions import (
    all,
    amax,
    amin,
    any,
    argmax,
    argmin,
    argsort,
    cumsum,
    log_softmax,
    logsumexp,
    max,
    mean,
    min,
    norm,
    prod,
    softmax,
    sort,
    std,
    sum,
    topk,
    var,
)
from .ops.shape import (
    broadcast_tensors,
    broadcast_to,
    cat,
    chunk,
    expand,
    expand_dims,
    flatten,
    flip,
    moveaxis,
    movedim,
    narrow,
    pad,
    permute,
    repeat_interleave,
    reshape,
    roll,
    split,
    squeeze,
    stack,
    sum_to,
    swapaxes,
    t,
    tile,
    transpose,
    unbind,
    unflatten,
    unsqueeze,
)
from .ops.tree import lstm_graph, rnn_tree
from .primitive import REGISTRY, Primitive, primitive, promote_types, result_type
from .random import (
    Generator,
    bernoulli,
    default_generator,
    manual_seed,
    multinomial,
    normal,
    rand,
    rand_like,
    randint,
    randint_like,
    randn,
    randn_like,
    randperm,
)
from .replay import each_tensor
from .state import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    scope,
    set_grad_enabled,
)
from .tensor import (
    Tensor,
    as_device,
    bool_,
    float16,
    float32,
    float64,
    get_default_device,
    get_default_dtype,
    int8,
    int16,
    int32,
    int64,
    is_floating,
    note_write,
    set_default_device,
    set_default_dtype,
    uint8,
    uint16,
    uint32,
    uint64,
)
from .watch import Watch, watching

methods.attach()
numpy_protocol.attach()


def kernels_of(tensor):
    """The kernels of the device that holds `tensor`.

    >>> cr.autograd.kernels_of(cr.ones(1)).__name__
    'chainrule.kernels.cpu'
    """
    return for_array(tensor.array)
