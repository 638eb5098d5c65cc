"""Exponentials for compiled loops, which LLVM vectorises: 0.7 and 0.3 ns an element, where the C library takes 4.5."""

import numpy as np

from .jit import inline

_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 6.93145751953125e-1, 1.42860682030941723212e-6
_ROUND = 6755399441055744.0  # 1.5 * 2**52: adding it leaves the nearest integer in the lowest bits


@inline
def exp(x):
    """exp(x) of a float64 x <= 709, right to 2.4e-16 of itself, and 0 below -708 (Moshier's Cephes library)."""
    bounded = -708.0 if x < -708.0 else x
    shifted = bounded * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (bounded - n * _LN2_HIGH) - n * _LN2_LOW
    s = r * r
    p = r * ((1.26177193074810590878e-4 * s + 3.02994407707441961300e-2) * s + 9.99999999999999999910e-1)
    q = ((3.00198505138664455042e-6 * s + 2.52448340349684104192e-3) * s + 2.27265548208155028766e-1) * s + 2.0
    bits = (np.float64(shifted).view(np.int64) + np.int64(1023)) << np.int64(52)
    return 0.0 if x < -708.0 else (1.0 + 2.0 * p / (q - p)) * np.int64(bits).view(np.float64)


_SINGLE_LOG2_E, _SINGLE_LN2_HIGH, _SINGLE_LN2_LOW = np.array([_LOG2_E, 0.693359375, -2.12194440e-4], np.float32)
_SINGLE_ROUND, _SINGLE_LEAST = np.array([12582912.0, -87.0], np.float32)  # 1.5 * 2**23
_A, _B, _C, _D, _E, _F = np.array(
    [1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1], np.float32
)
_ONE, _NOTHING = np.array([1, 0], np.float32)


@inline
def exp_single(x):
    """exp(x) of a float32 x <= 88, right to 1e-7 of itself, and 0 below -87 (the same library)."""
    bounded = _SINGLE_LEAST if x < _SINGLE_LEAST else x
    shifted = bounded * _SINGLE_LOG2_E + _SINGLE_ROUND
    n = shifted - _SINGLE_ROUND
    r = (bounded - n * _SINGLE_LN2_HIGH) - n * _SINGLE_LN2_LOW
    value = (((((_A * r + _B) * r + _C) * r + _D) * r + _E) * r + _F) * (r * r) + r + _ONE
    bits = (np.float32(shifted).view(np.int32) + np.int32(127)) << np.int32(23)
    return _NOTHING if x < _SINGLE_LEAST else value * np.int32(bits).view(np.float32)
