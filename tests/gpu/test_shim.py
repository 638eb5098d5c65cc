"""The stand-in itself: kernels run as on a GPU, and planted faults are seen."""

import numpy as np
import pytest
from hostsim import on_host

if not on_host():
    pytest.skip("tests of the stand-in: pytest --hostsim", allow_module_level=True)

from chainrule.kernels.cuda import runtime


@pytest.fixture
def launch(monkeypatch):
    """`launch` of the kernels in tests/hostsim/faults.cu."""
    from hostsim import raw

    folder = runtime._FOLDER

    def source(file):
        return (
            (raw.HERE / "faults.cu").read_text().replace('#include "common.cuh"', (folder / "common.cuh").read_text())
        )

    monkeypatch.setattr(runtime, "source", source)
    runtime._module.cache_clear(), runtime._kernel.cache_clear()
    yield lambda name, dtype, grid, block, args, **options: runtime.launch(
        "faults", name, dtype, grid, block, args, **{"BARRIER": "__syncthreads()", "BEFORE": 0, **options}
    )
    runtime._module.cache_clear(), runtime._kernel.cache_clear()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_kernel_with_barriers(launch, cupy, rng, order, dtype):
    x = rng.standard_normal(200).astype(dtype)
    out = cupy.empty(4, dtype)
    launch("block_totals", dtype, 4, 64, (cupy.asarray(x), out, np.int32(200)))
    expected = [x[i : i + 64].sum() for i in range(0, 200, 64)]
    np.testing.assert_allclose(out.get(), expected, rtol=1e-5)


def test_a_missing_barrier_is_seen(launch, cupy, rng, order):
    x, out = cupy.asarray(rng.standard_normal(64), "f4"), cupy.empty(1, "f4")
    with pytest.raises(
        RuntimeError, match=r"block_totals: thread \d+ of block \(0, 0, 0\) \w+ byte \d+ of static shared .* a race"
    ):
        launch("block_totals", "f4", 1, 64, (x, out, np.int32(64)), BARRIER="")


def test_a_missing_warp_barrier_is_seen(launch, cupy, rng, order):
    x, out = cupy.asarray(rng.standard_normal(20), "f4"), cupy.empty(20, "f4")
    launch("neighbours", "f4", 1, 32, (x, out, 20))
    assert out.get().tolist() == x.get()[[0, *range(19)]].tolist()
    with pytest.raises(
        RuntimeError, match="static shared memory, which thread .*, and no barrier lies between: a race"
    ):
        launch("neighbours", "f4", 1, 32, (x, out, 20), MISSING=1)


def test_blocks_that_write_to_one_place_are_seen(launch, cupy, order):
    for grid, block, other in ((1, 2, r"thread \d"), (2, 1, "thread 0 of another block")):
        with pytest.raises(RuntimeError, match=rf"writes element 0 of argument 1, which {other} wrote, and no barrier"):
            launch("all_write_one", "f4", grid, block, (cupy.empty(3, "f4"),))


def test_atomics_are_no_race(launch, cupy, order):
    total, out = cupy.zeros(1, "i4"), cupy.empty(3, "f4")
    launch("count", "f4", 3, 40, (total, out))
    assert int(total[0]) == 120 and out.get().tolist() == [40] * 3


def test_shared_memory_is_poisoned(launch, cupy, order):
    out = cupy.empty(8, "f4")
    for _ in range(2):  # also what an earlier launch left there
        launch("unset_shared", "f4", 1, 8, (out,), shared=32)
        np.testing.assert_array_equal(out.get(), [2] * 4 + [np.nan] * 4)


def test_dynamic_shared_memory_has_an_end(launch, cupy):
    out = cupy.empty(1, "f4")
    launch("shared_beyond", "f4", 1, 1, (out, 15000), shared=60004)
    with pytest.raises(RuntimeError, match="writes byte 64 of dynamic shared memory, beyond its end"):
        launch("shared_beyond", "f4", 1, 1, (out, 16), shared=64)
    with pytest.raises(RuntimeError, match="a GPU refuses the grid .*, 300000 bytes of dynamic shared memory"):
        launch("shared_beyond", "f4", 1, 1, (out, 0), shared=300000)


def test_writes_beyond_an_array_are_seen(launch, cupy):
    x, out = cupy.zeros(5, "f4"), cupy.empty(5, "f4")
    launch("copy", "f4", 1, 32, (x, out, 5, 0))
    assert out.get().tolist() == [0] * 5
    with pytest.raises(RuntimeError, match="kernel copy: thread 5 .* writes element 5 of argument 2, beyond its end"):
        launch("copy", "f4", 1, 32, (x, out, 5, 1))


@pytest.mark.parametrize("before, element", [(0, 5), (1, -1)])
def test_reads_beyond_an_array_are_seen(launch, cupy, before, element):
    x, out = cupy.zeros(5, "f4"), cupy.empty(5, "f4")
    with pytest.raises(RuntimeError, match=f"reads element {element} of argument 1, beyond its end"):
        launch("reads_beyond", "f4", 1, 32, (x, out, 5), BEFORE=before)


def test_fences_are_checked(cupy, launch):
    x = cupy.zeros(5, "f4")
    x.memory.bytes[x.memory.start + 20] = 1  # as a kernel would through a pointer of its own
    with pytest.raises(RuntimeError, match="kernel copy wrote behind argument 1 of 20 bytes"):
        launch("copy", "f4", 1, 32, (x, cupy.empty(5, "f4"), 5, 0))


def test_fresh_memory_is_poisoned(cupy):
    assert np.isnan(cupy.empty((2, 3), "f4").get()).all() and (cupy.empty(3, "i4").get() == -1).all()


def test_arguments_of_the_wrong_width_are_refused(launch, cupy):
    x, out = cupy.ones(3, "f4"), cupy.empty(3, "f4")
    launch("scale", "f4", 1, 32, (x, out, 3, 2.5))
    assert out.get().tolist() == [2.5] * 3
    for wrong in ((x, out, 3, np.float16(2)), (x, out, np.int64(3), 2.0), (x, out, 3), (x, 1, out, 2.0)):
        with pytest.raises(TypeError, match="kernel scale takes .* and received .* a GPU would read garbage"):
            launch("scale", "f4", 1, 32, wrong)
    with pytest.raises(ValueError, match="a kernel received the whole number 2147483648, but counts in int32, .*split"):
        launch("scale", "f4", 1, 32, (x, out, 1 << 31, 2.0))


def test_reductions_of_a_block(launch, cupy, rng, order):
    for n, block in ((1, 32), (33, 64), (500, 96), (70, 256)):
        x = np.abs(rng.standard_normal(n)).astype("f4")
        most, total = cupy.empty((), "f4"), cupy.empty((), "f4")
        launch("largest", "f4", 1, block, (cupy.asarray(x), most, total, n))
        assert most.get() == x.max() and abs(total.get() - x.sum()) < 1e-3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_types(launch, cupy, dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes").bfloat16
    out = cupy.empty(3, dtype)
    launch("scale", dtype, 1, 32, (cupy.asarray(np.array([1, 2, 3], dtype)), out, 3, 0.5))
    assert out.get().astype(float).tolist() == [0.5, 1.0, 1.5]


def test_divergent_barriers_and_deadlocks_are_named(launch, cupy, order):
    out = cupy.empty(1, "f4")
    with pytest.raises(RuntimeError, match="divergent barrier"):
        launch("half_the_block_waits", "f4", 1, 64, (out,))
    flag = cupy.zeros(1, "i4")
    with pytest.raises(RuntimeError, match="deadlock: every thread"):
        launch("waits_for_another_block", "f4", 1, 33, (flag,))


def test_grids_that_a_gpu_refuses(launch, cupy):
    x = cupy.zeros(1, "f4")
    for grid, block in ((1, 2048), ((1, 70000), 32)):
        with pytest.raises(RuntimeError, match="kernel copy: a GPU refuses the grid"):
            launch("copy", "f4", grid, block, (x, x, 1, 0))
    launch("copy", "f4", 0, 32, (x, x, 0, 0))


def test_the_array_is_as_strict_as_cupys(cupy):
    x = cupy.arange(6.0).reshape(2, 3)
    assert x.base is not None and x[0].base is x.base and (x + 1).base is None
    for wrong in (lambda: x + np.ones(3), lambda: np.ones(3) + x, lambda: np.asarray(x), lambda: cupy.sum(np.ones(3))):
        with pytest.raises(TypeError, match="Unsupported type|Implicit conversion"):
            wrong()
    with pytest.raises(TypeError, match=r"sum\(\) got an unexpected keyword argument \['where'\]"):
        cupy.sum(x, where=x > 0)
    assert type(x.sum()) is cupy.ndarray and type(np.tanh(x)) is cupy.ndarray and float(x.sum()) == 15
    with pytest.raises(TypeError):
        [1, 2][x[0, 0].astype("i4")]


def test_capture_refuses_what_waits(cupy):
    from hostsim import module

    x = cupy.ones(3)
    with module.capturing():
        y = x * 2
        for waits in (
            y.get,
            y[0].item,
            lambda: float(y[0]),
            lambda: bool(y[0] > 0),
            lambda: y[y > 0],
            lambda: cupy.asarray([1.0]),
        ):
            with pytest.raises(RuntimeError, match="while a CUDA graph is captured"):
                waits()
    with module.capturing(in_pool=False), pytest.raises(RuntimeError, match="new memory outside the graph's pool"):
        x + 1
    assert y.get().tolist() == [2] * 3


def test_a_graph_is_replayed(launch, cupy, cuda, rng):
    x, stream = cupy.ones((3, 3), "f4"), cupy.cuda.Stream(non_blocking=True)
    out = cupy.empty((3, 3), "f4")
    cuda.matmul(x, x)  # makes the library's handle and workspace
    with cupy.cuda.using_allocator(cupy.cuda.MemoryPool().malloc), stream:
        stream.begin_capture()
        launch("scale", "f4", 1, 32, (x, out, 9, 2.0))
        y = cuda.matmul(out, x)
        x += 1
        z = y.sum(axis=0)
        graph = stream.end_capture()
    assert x.get().tolist() == [[1] * 3] * 3 and np.isnan(out.get()).all() and np.isnan(z.get()).all()
    for n in (1, 2):
        graph.launch(stream)
        assert z.get().tolist() == [18 * n * n] * 3 and x.get()[0, 0] == n + 1


def test_index_arrays_wrap_around_as_cupys(cupy):
    x, at = cupy.arange(12).reshape(3, 4), cupy.asarray([2, 3, -4])
    assert x[at].get().tolist() == x.get()[[2, 0, 2]].tolist()
    assert x[..., at].get().tolist() == x.get()[:, [2, 3, 0]].tolist()
    assert x[None, 1, at].get().tolist() == [[6, 7, 4]]
    assert cupy.take(x, at, axis=0).get().tolist() == x.get()[[2, 0, 2]].tolist()
    assert cupy.take_along_axis(x, at[:, None], axis=1).get().tolist() == [[2], [7], [8]]
    with pytest.raises(IndexError):
        x[3]
    y, stream = cupy.zeros(3, "i8"), cupy.cuda.Stream(non_blocking=True)
    with cupy.cuda.using_allocator(cupy.cuda.MemoryPool().malloc), stream:
        stream.begin_capture()
        y[...] = x[0, at]
        graph = stream.end_capture()
    at[...] = 1
    graph.launch(stream)
    assert y.get().tolist() == [1, 1, 1]
