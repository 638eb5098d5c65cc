"""The kernels in Python compile to machine code; needs Numba-CUDA and nvJitLink but no GPU and no driver."""

import pytest
from hostsim import on_host

if on_host():
    pytest.skip("Numba's compiler for GPUs stands beside the real CuPy alone", allow_module_level=True)
for package in ("cupy", "numba_cuda", "cuda.core"):
    pytest.importorskip(package, reason="needs CuPy and Numba-CUDA: pip install 'chainrule[gpu-check]'")

from chainrule.kernels.cuda import numba_cells, numba_kernels, numba_runtime  # noqa: E402

#: of each kernel its arrays' dtypes, T the one that it is compiled for, and how many whole numbers follow
KERNELS = {
    "im2col": (("T", "T"), 16),
    "col2im": (("T", "T"), 19),
    "max_of_windows": (("T", "T", "int64", "int32", "int32"), 7),
    "lstm_cell": (("T",) * 5, 5),
    "lstm_cell_backward": (("T",) * 5, 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("capability", [(7, 5), (9, 0)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", KERNELS)
def test_compiles(name, dtype, capability):
    arrays, numbers = KERNELS[name]
    types = *((dtype if a == "T" else a, True) for a in arrays), *[("int32", False)] * numbers
    code, entry = numba_runtime.compiled(
        getattr(numba_cells if name.startswith("lstm") else numba_kernels, name), types, capability
    )
    assert code.startswith(b"\x7fELF") and entry.encode() in code
