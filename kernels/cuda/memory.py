"""How much of the GPU's memory is in use."""

import cupy


def memory_held() -> str:
    """What CuPy's pool holds and what is left of the GPU's memory, in words."""
    pool, (left, there) = cupy.get_default_memory_pool(), cupy.cuda.runtime.memGetInfo()
    used, held = pool.used_bytes(), pool.total_bytes()
    return (
        f"CuPy's pool holds {held:,} bytes, {used:,} of them in use; {left:,} of the GPU's {there:,} bytes are free "
        "besides"
    )
