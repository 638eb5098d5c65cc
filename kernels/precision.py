"""How exact products of float32 matrices are on the GPU: chosen here, read by its matrix kernels."""

_precision = "highest"


def set_float32_matmul_precision(precision: str) -> None:
    """'highest': float32 products on the GPU are IEEE float32. 'high': tensor cores round factors to TF32 (10 bits).

    The name is PyTorch's. 'highest' holds until another is chosen; the CPU always computes so. Raises ValueError for
    other words.

    >>> cr.set_float32_matmul_precision("highest")
    """
    global _precision
    if precision not in ("highest", "high"):
        raise ValueError(
            f"set_float32_matmul_precision received {precision!r}; pass 'highest' (IEEE float32) or 'high' (TF32)"
        )
    _precision = precision


def get_float32_matmul_precision() -> str:
    """'highest' or 'high': see `set_float32_matmul_precision`.

    >>> cr.get_float32_matmul_precision()
    'highest'
    """
    return _precision
