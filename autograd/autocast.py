"""Mixed precision: which operations compute in the low precision that `autocast` names, and which in float32."""

from __future__ import annotations

from .ops import (  # noqa: F401  (their primitives are in the tables below)
    convolution,
    elementwise,
    fused,
    linalg,
    losses,
    normalization,
    peaks,
    recurrent,
    reductions,
    tree,
)
from .primitive import REGISTRY
from .state import StateContext, state
from .tensor import as_device, as_dtype

#: products: tensor cores make them several times faster, and they sum in float32 inside
LOW = (
    "matmul_batched linear_rows einsum_plain conv2d_pairs conv2d_input conv2d_weight conv1d_peaks windows_product "
    "windows_input windows_weight rnn_rows lstm_rows gru_rows rnn_tree lstm_graph linear_act_rows "
    "conv2d_act_pool_planes"
)
#: what overflows or loses its digits in 16 bits: exponentials, powers, long sums, norms, losses
FULL = (
    "exp exp2 expm1 log log1p log2 log10 reciprocal power tan sinh cosh arcsin arccos softplus_by sum_over mean_over "
    "var_over std_over prod_last cumsum_along logsumexp_over softmax_along log_softmax_along norm2_over "
    "cross_entropy_items bounded_log layer_norm_last batch_norm_batch group_norm_groups"
)

for _precision, _keys in (("low", LOW), ("full", FULL)):
    for _key in _keys.split():
        REGISTRY[_key].precision = _precision


class autocast(StateContext):
    """Compute products in 16 bits and delicate operations in float32, without a change to the network.

    Inside the block, on tensors of the device named: matrix products, convolutions and recurrent layers take their
    floating inputs in `dtype` (unless given, float16 on a GPU and bfloat16 on the CPU, as in PyTorch); exponentials,
    powers, sums, norms, softmax and losses take them in float32; other operations compute in the widest dtype of their
    inputs. float64 is left alone. Casts are recorded: parameters stay float32 and so do their gradients. Small
    gradients vanish in float16: see `GradScaler`.

    Usable as `with cr.autocast("cuda"):` and as a decorator. Raises ValueError for a device and TypeError for a dtype
    that it does not know, and ImportError for bfloat16 where ml_dtypes is missing. Source: Micikevicius et al. 2018,
    "Mixed precision training".

    >>> x, w = cr.ones(2, 3), cr.ones(3, 2, requires_grad=True)
    >>> with cr.autocast("cpu", dtype=cr.float16):
    ...     y = x @ w
    ...     y.dtype, y.softmax(0).dtype
    (dtype('float16'), dtype('float32'))
    >>> y.float().sum().backward(); w.grad.dtype
    dtype('float32')
    """

    def __init__(self, device_type: str = "cuda", dtype=None, enabled: bool = True):
        self.device = as_device(device_type) if enabled else str(device_type)
        if dtype is None:
            dtype = _bfloat16() if enabled and self.device == "cpu" else "float16"
        self.dtype = as_dtype(dtype)
        if self.dtype.itemsize != 2 or self.dtype.kind in "iu":
            raise TypeError(
                f"autocast: received dtype={self.dtype}; products are cast to 16 bits of floating point; pass "
                "cr.float16 or cr.bfloat16"
            )
        self.changes = {"low": self.dtype if enabled else None}

    def __enter__(self):
        current = state.get()
        low = {**(current.low or {}), self.device: self.changes["low"]}
        state.set(
            current.replace(low={d: t for d, t in low.items() if t is not None} or None, entered=(self, current))
        )
        return self

    def _again(self):
        return autocast(self.device, self.dtype, self.changes["low"] is not None)


def _bfloat16():
    try:
        return as_dtype("bfloat16")
    except ImportError:
        raise ImportError(
            "autocast: received no dtype, which means bfloat16 on the CPU, which NumPy lacks and ml_dtypes brings; "
            "install it with pip install 'chainrule[bfloat16]', or pass dtype=cr.float16"
        ) from None
