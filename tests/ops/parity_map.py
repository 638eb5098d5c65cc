"""Which operations of PyTorch's `op_db` are ours, which of their options are not, and why."""

import chainrule as cr
import chainrule.nn.functional as F

#: op_db's name is that of our function, or of a Tensor's method
SAME = """
    T __getitem__ __radd__ __rand__ __rmatmul__ __rmod__ __rmul__ __ror__ __rpow__ __rsub__ __rxor__ abs acos
    acosh add all amax amin any arange argmax argmin argsort asin asinh atan atan2 atanh bitwise_and bitwise_not
    bitwise_or bitwise_xor bmm bool broadcast_tensors broadcast_to cat ceil chunk clamp clone contiguous cos
    cosh cumsum diag diagonal div dot double einsum eq erf exp exp2 expand expand_as expm1 eye flatten flip
    float floor floor_divide full full_like gather ge gt half index_add index_select int isfinite isinf isnan
    item le lerp linspace log log10 log1p log2 log_softmax logaddexp logical_and logical_not logical_or
    logical_xor logsumexp long lt mT masked_fill masked_select matmul max maximum mean meshgrid min minimum mm
    movedim mul mv narrow ne neg new_full new_ones new_zeros nonzero norm ones ones_like outer permute pow prod
    ravel reciprocal remainder repeat repeat_interleave reshape roll round rsqrt scatter scatter_add sigmoid
    sign sin sinh softmax sort split sqrt square squeeze stack std sub sum t take_along_dim tan tanh tensordot
    tile topk trace transpose tril triu true_divide trunc unbind unflatten unsqueeze var view where zeros
    zeros_like
""".split()

#: the same of torch.nn.functional
FUNCTIONAL = """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d avg_pool1d avg_pool2d
    batch_norm bilinear binary_cross_entropy binary_cross_entropy_with_logits conv1d conv2d conv_transpose1d
    conv_transpose2d cross_entropy elu embedding gelu group_norm hardtanh huber_loss kl_div l1_loss layer_norm
    leaky_relu linear logsigmoid max_pool1d max_pool2d mse_loss nll_loss one_hot pad relu relu6 silu smooth_l1_loss
    softplus
""".split()

#: where op_db passes its arguments in another order or form than the public function takes them
ADAPTED = {
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    "where": lambda x, condition, other: cr.where(condition, x, other),
    "einsum": lambda operands, equation: cr.einsum(equation, *operands),
    "nn.functional.embedding": lambda weight, index, **options: F.embedding(index, weight, **options),
    "meshgrid": lambda first, *rest, **options: cr.meshgrid(
        *(first if isinstance(first, list) else (first, *rest)), **options
    ),
}


def has(*names):
    return lambda x, args, options: any(name in options for name in names)


def point(x, args, options):
    return not x.ndim


def negative_border(x, args, options):
    return any(n < 0 for n in args[0]) and args[1:2] != ("constant",) and len(args) > 1


#: name -> (which samples, why we leave them out)
REFUSED = {
    "add": (has("alpha"), "alpha=: write x + alpha * y"),
    "sub": (has("alpha"), "alpha=: write x - alpha * y"),
    "div": (has("rounding_mode"), "rounding_mode=: use floor_divide, or trunc of the quotient"),
    "round": (has("decimals"), "decimals=: round(x * 10**d) / 10**d"),
    "linspace": (lambda x, args, options: hasattr(x, "ndim") or hasattr(args[0], "ndim"), "ends given as tensors"),
    "nn.functional.pad": (negative_border, "negative widths cut in constant mode only"),
    "nn.functional.avg_pool2d": (
        lambda x, args, options: any(isinstance(a, tuple) and len(a) != 2 for a in args),
        "1-tuples for two dimensions: an int or a pair",
    ),
    "nn.functional.batch_norm": (lambda x, args, options: x.ndim < 2, "the input has a channel dimension"),
    "gather": (
        lambda x, args, options: not x.ndim or args[1].ndim != x.ndim,
        "0-d tensors, and empty indices of another rank",
    ),
    "index_select": (point, "0-d tensors"),
    "index_add": (point, "0-d tensors"),
    "scatter": (point, "0-d tensors"),
    "scatter_add": (point, "0-d tensors"),
    "topk": (point, "0-d tensors"),
    "cat": (
        lambda x, args, options: len({t.ndim for t in x}) > 1,
        "an empty vector joins with nothing of another rank",
    ),
    "tensordot": (lambda x, args, options: 1 in x.shape, "broadcasting of contracted dimensions"),
    "norm": (lambda x, args, options: args[:1] in (("nuc",), (0,)), "the nuclear norm; the norm of order 0 is a count"),
    "nn.functional.embedding": (
        lambda x, args, options: x.ndim != 2 or has("max_norm")(x, args, options),
        "renormalising the weight, in place, in a forward",
    ),
    "repeat_interleave": (has("output_size"), "output_size= is a hint for the GPU"),
    **{
        name: (has("memory_format"), "memory formats other than C order")
        for name in "bool double float half int long".split()
    },
    "std": (lambda x, args, options: args[:1] in ((True,), (False,)), "std(True): pass unbiased=True"),
    "var": (lambda x, args, options: args[:1] in ((True,), (False,)), "var(True): pass unbiased=True"),
}

#: ours by name, but not comparable
INCOMPARABLE = {
    "equal": "torch.equal compares whole tensors; ours is NumPy's, elementwise",
    "to": "every sample names a memory format; tests/ops/test_promotion.py converts between all dtypes",
    "bfloat16": "NumPy, through which results are compared, has none: tests/autograd/test_bfloat16.py",
    "zero_": "writes to a leaf: tests of writes in place",
    **dict.fromkeys(
        "bernoulli multinomial normal rand_like randint randint_like randn randn_like nn.functional.dropout".split(),
        "draws random numbers of its own",
    ),
    **dict.fromkeys("empty empty_like new_empty".split(), "the values are whatever the memory held"),
}


def ours(name):
    """Our function for a name of op_db, None if there is none."""
    if name in ADAPTED:
        return ADAPTED[name]
    if name.startswith("nn.functional."):
        return getattr(F, name.removeprefix("nn.functional."), None)
    function = None if "." in name else getattr(cr, name, None)
    function = function if callable(function) and not isinstance(function, type) else getattr(cr.Tensor, name, None)
    return function if callable(function) else None


NAMES = SAME + ["nn.functional." + name for name in FUNCTIONAL]
