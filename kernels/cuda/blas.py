"""Matrix products by cuBLAS and cuBLASLt, called through ctypes.

CuPy's own calls refuse to run while a CUDA graph is captured, copy transposed operands, and know neither `beta` nor
bias. These take row-major arrays as they lie (transposed and stacked ones too), add to what is there, add the bias and
apply ReLU on the way out, and use a workspace of their own, so that capture finds everything in place.
"""

from __future__ import annotations

import ctypes
import threading
from ctypes import byref, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from math import prod

import cupy

from ..precision import get_float32_matmul_precision

_WORKSPACE = 32 << 20  # bytes; what cuBLAS asks for on Hopper
KINDS = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}  # cudaDataType_t
_SUM = {"float32": 68, "float64": 70, "float16": 68, "bfloat16": 68}  # cublasComputeType_t: 16 bits sum in float32
_TF32 = 77  # CUBLAS_COMPUTE_32F_FAST_TF32
_RELU, _BIAS, _RELU_BIAS = 2, 4, 6  # cublasLtEpilogue_t

_turn = threading.Lock()  # a handle, and the bias of a plan, serve one call at a time


def gemm(a, b, out, *, alpha=1.0, beta=0.0):
    """out = alpha a b + beta out, for matrices or equally long stacks of them; gives out.

    a (…, M, K), b (…, K, N), out (…, M, N): a and b are read where they lie if each is row-major or transposed (one of
    its last two strides is one element), else copied; out is row-major; the matrices of a stack may lie anywhere.
    Floor: e (MK + KN + MN) bytes, 2 MNK FLOPs each.
    """
    (m, n), k, count = out.shape[-2:], a.shape[-1], prod(out.shape[:-2])
    if not out.size:
        return out
    if not k:
        out[...] = beta * out if beta else 0
        return out
    a, b = readable(a), readable(b)
    (op_a, lda), (op_b, ldb), (_, ldc) = (_stored(x) for x in (a, b, out))
    kind, scale = out.dtype.name, _scalar(out.dtype.name)
    with _turn:
        status = _cublas().cublasGemmStridedBatchedEx(
            _handle(), op_b, op_a, n, m, k,
            byref(scale(alpha)), b.data.ptr, KINDS[kind], ldb, _apart(b),
            a.data.ptr, KINDS[kind], lda, _apart(a),
            byref(scale(beta)), out.data.ptr, KINDS[kind], ldc, _apart(out),
            count, _compute(kind), -1,
        )  # fmt: skip
    _check(status, "cublasGemmStridedBatchedEx")
    return out


def affine(x, weight, bias, out, *, relu=False):
    """out = x weightᵀ + bias, through max(·, 0) if `relu`, in one kernel; bias may be None. Gives out.

    x (M, K), weight (N, K), bias (N), out (M, N), row-major (x and weight are copied if they are not).
    Floor: e (MK + NK + MN) bytes, 2 MNK FLOPs.
    """
    if not out.size:
        return out
    if bias is not None and bias.data.ptr % 16:
        bias = bias.copy()  # cuBLASLt reads it in pieces of 16 bytes
    x, weight = cupy.ascontiguousarray(x), cupy.ascontiguousarray(weight)
    (m, n), k, kind = out.shape, x.shape[1], out.dtype.name
    epilogue = (_BIAS if bias is not None else 0) + (_RELU if relu else 0) or 1
    scale = _scalar(kind)
    with _turn:
        plan = _plan(m, n, k, kind, _compute(kind), epilogue, _alignment(x, weight, out))
        if bias is not None:
            plan.set_bias(bias.data.ptr)
        status = _cublaslt().cublasLtMatmul(
            _light_handle(), plan.operation, byref(scale(1)), weight.data.ptr, plan.weight, x.data.ptr, plan.x,
            byref(scale(0)), out.data.ptr, plan.out, out.data.ptr, plan.out,
            byref(plan.algorithm), _workspace().ptr, _WORKSPACE, _stream(),
        )  # fmt: skip
    _check(status, "cublasLtMatmul")
    return out


# ---- how arrays lie --------------------------------------------------------------------------------------------------


def readable(x):
    """x, or a dense copy if cuBLAS cannot read the matrices of its last two axes where they lie."""
    return x if _stored(x) else cupy.ascontiguousarray(x)


def _stored(x):
    """(cuBLAS's operation, leading dimension) or None: cuBLAS sees the transposed of a row-major matrix."""
    rows, columns = x.shape[-2:]
    down, right = (stride // x.itemsize for stride in x.strides[-2:])
    if (right == 1 or columns == 1) and (down >= columns or rows == 1):
        return 0, max(down if rows > 1 else 1, columns)
    if (down == 1 or rows == 1) and (right >= rows or columns == 1):
        return 1, max(right if columns > 1 else 1, rows)
    return None


def _apart(x):
    """Elements between one matrix of a stack and the next."""
    return x.strides[0] // x.itemsize if x.ndim == 3 else 0


def _alignment(*arrays):
    """The bytes, 256 at most, of which every array's address is a multiple."""
    together = 256
    for x in arrays:
        together |= x.data.ptr
    return together & -together


def _scalar(kind):
    return ctypes.c_double if kind == "float64" else ctypes.c_float


def _compute(kind):
    return _TF32 if kind == "float32" and get_float32_matmul_precision() == "high" else _SUM[kind]


# ---- the libraries ---------------------------------------------------------------------------------------------------


class CublasError(RuntimeError):
    """cuBLAS refused a call."""


def _check(status, call):
    if status:
        raise CublasError(
            f"{call} gave status {status} (cublasStatus_t): 3 is memory that could not be had, 7 an argument it cannot "
            "take, 13 a failed launch (often an earlier kernel's fault; set CUDA_LAUNCH_BLOCKING=1 to see whose)"
        )


@cache
def _library(name):
    from cuda.pathfinder import load_nvidia_dynamic_lib

    return ctypes.CDLL(load_nvidia_dynamic_lib(name).abs_path)


@cache
def _cublas():
    library = _library("cublas")
    pointer, number, wide = c_void_p, c_int, c_int64
    library.cublasCreate_v2.argtypes = [pointer]
    library.cublasSetStream_v2.argtypes = [pointer, pointer]
    library.cublasSetWorkspace_v2.argtypes = [pointer, pointer, c_size_t]
    library.cublasGemmStridedBatchedEx.argtypes = [
        pointer, number, number, number, number, number,
        pointer, pointer, number, number, wide,
        pointer, number, number, wide,
        pointer, pointer, number, number, wide,
        number, number, number,
    ]  # fmt: skip
    return library


@cache
def _cublaslt():
    library = _library("cublasLt")
    pointer = c_void_p
    library.cublasLtCreate.argtypes = [pointer]
    library.cublasLtMatmulDescCreate.argtypes = [pointer, c_int, c_int]
    library.cublasLtMatmulDescSetAttribute.argtypes = [pointer, c_int, pointer, c_size_t]
    library.cublasLtMatrixLayoutCreate.argtypes = [pointer, c_int, c_uint64, c_uint64, c_int64]
    library.cublasLtMatmulPreferenceCreate.argtypes = [pointer]
    library.cublasLtMatmulPreferenceSetAttribute.argtypes = [pointer, c_int, pointer, c_size_t]
    library.cublasLtMatmulAlgoGetHeuristic.argtypes = [pointer] * 7 + [c_int, pointer, pointer]
    library.cublasLtMatmul.argtypes = [pointer] * 14 + [c_size_t, pointer]
    return library


def _stream():
    return cupy.cuda.get_current_stream().ptr


@cache
def _workspace():
    return cupy.cuda.alloc(_WORKSPACE)


@cache
def _new_handle():
    handle = c_void_p()
    _check(_cublas().cublasCreate_v2(byref(handle)), "cublasCreate")
    return handle


_bound = None  # the stream that the handle works on


def _handle():
    """The handle on the current stream: setting a stream makes cuBLAS forget its workspace."""
    global _bound
    handle, stream = _new_handle(), _stream()
    if stream != _bound:
        _check(_cublas().cublasSetStream_v2(handle, stream), "cublasSetStream")
        _check(_cublas().cublasSetWorkspace_v2(handle, _workspace().ptr, _WORKSPACE), "cublasSetWorkspace")
        _bound = stream
    return handle


@cache
def _light_handle():
    handle = c_void_p()
    _check(_cublaslt().cublasLtCreate(byref(handle)), "cublasLtCreate")
    return handle


# ---- cuBLASLt's plans ------------------------------------------------------------------------------------------------


class _Found(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = [
        ("algorithm", c_uint64 * 8),
        ("workspace", c_size_t),
        ("status", c_int32),
        ("waves", ctypes.c_float),
        ("reserved", c_int32 * 4),
    ]


class _Plan:
    """The descriptors of one shape of `affine` and the algorithm that cuBLASLt's heuristic proposes for it."""

    def __init__(self, m, n, k, kind, compute, epilogue, alignment):
        lt, data = _cublaslt(), KINDS[kind]
        scale = data if kind == "float64" else KINDS["float32"]
        self.operation = c_void_p()
        _check(lt.cublasLtMatmulDescCreate(byref(self.operation), compute, scale), "cublasLtMatmulDescCreate")
        self._set(3, c_int32(1))  # TRANSA: the weight (N, K), read as (K, N) by columns, is turned
        self._set(7, c_int32(epilogue))
        self.weight, self.x, self.out = (self._layout(data, *shape) for shape in ((k, n), (k, m), (n, m)))
        self.algorithm = self._algorithm(alignment)

    def set_bias(self, pointer):
        self._set(8, c_void_p(pointer))

    def _set(self, attribute, value):
        size = ctypes.sizeof(value)
        _check(
            _cublaslt().cublasLtMatmulDescSetAttribute(self.operation, attribute, byref(value), size),
            "cublasLtMatmulDescSetAttribute",
        )

    def _layout(self, data, rows, columns):
        made = c_void_p()
        _check(
            _cublaslt().cublasLtMatrixLayoutCreate(byref(made), data, rows, columns, rows), "cublasLtMatrixLayoutCreate"
        )
        return made

    def _algorithm(self, alignment):
        lt, preference = _cublaslt(), c_void_p()
        _check(lt.cublasLtMatmulPreferenceCreate(byref(preference)), "cublasLtMatmulPreferenceCreate")
        settings = {1: c_uint64(_WORKSPACE)} | dict.fromkeys(range(5, 9), c_uint32(alignment))  # of weight, x, out, out
        for attribute, value in settings.items():
            _check(
                lt.cublasLtMatmulPreferenceSetAttribute(preference, attribute, byref(value), ctypes.sizeof(value)),
                "cublasLtMatmulPreferenceSetAttribute",
            )
        found, count = _Found(), c_int32()
        _check(
            lt.cublasLtMatmulAlgoGetHeuristic(
                _light_handle(), self.operation, self.weight, self.x, self.out, self.out, preference,
                1, byref(found), byref(count),
            ),
            "cublasLtMatmulAlgoGetHeuristic",
        )  # fmt: skip
        return found.algorithm


@cache
def _plan(m, n, k, kind, compute, epilogue, alignment):
    return _Plan(m, n, k, kind, compute, epilogue, alignment)
