"""Everything that needs a GPU, in one call of under nine minutes: proves, then times, and says what it left out.

    python benchmarks/gpu_check.py [--seconds 520] [--json FILE] [--tiny] [--packages FOLDER]

In this order: versions and ceilings (copy bandwidth, matrix rates) -> the table of ops on the device "cuda" -> each
kernel against its floor -> launch costs -> convolutions and training steps beside PyTorch, TF32 equal on both sides and
stated. An operation whose result is wrong is reported and not timed. Tables are printed, figures go to a JSON file.

It runs from a checkout without installing anything. --packages: a folder with what else is missing there (tqdm,
safetensors). --tiny: sizes for a test of this program itself; its times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from datetime import date
from functools import partial
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def importable(packages: str | None) -> None:
    """Let `import chainrule` find this checkout, and the tests' own modules."""
    if packages:
        sys.path.insert(0, packages)
    sys.path.insert(0, str(ROOT / "tests"))
    if find_spec("chainrule") is None:
        folder = Path(tempfile.mkdtemp()) / "chainrule"
        folder.mkdir()
        for source in (*(ROOT / "chainrule").iterdir(), *(ROOT / room for room in ("autograd", "kernels", "nn"))):
            (folder / source.name).symlink_to(source)
        sys.path.insert(0, str(folder.parent))


class Run:
    """The clock, what was found, and what was left out."""

    def __init__(self, seconds: float, tiny: bool):
        self.end, self.tiny = time.monotonic() + seconds, tiny
        self.results: dict = {"date": date.today().isoformat(), "left out": [], "wrong": []}

    def left(self) -> float:
        return self.end - time.monotonic()

    def section(self, name: str, needs: float, work) -> None:
        """Run a part if there is time for it; an error in it ends that part alone."""
        if self.left() < needs:
            self.results["left out"].append(f"{name}: {self.left():.0f} s were left, it needs about {needs:.0f}")
            return
        print(f"\n== {name} ({self.left():.0f} s left)", flush=True)
        try:
            work(self)
        except Exception as error:
            traceback.print_exc()
            self.results["left out"].append(f"{name}: {type(error).__name__}: {error}")

    def size(self, full: int, tiny: int) -> int:
        return tiny if self.tiny else full


def microseconds(call, repeats: int = 20) -> float:
    """Median time of a call on the GPU, between events."""
    from chainrule.bench.cuda import on_events

    call()
    sample = on_events(call)
    return statistics.median(sample(1) for _ in range(repeats)) * 1e6


def step_microseconds(step, synchronize, repeats: int, rounds: int = 5) -> float:
    """Median wall time of a step, many at a time between synchronisations."""
    for _ in range(4):
        step()
    synchronize()
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(repeats):
            step()
        synchronize()
        times.append((time.perf_counter() - begin) / repeats * 1e6)
    return statistics.median(times)


def table(rows: list[dict]) -> None:
    from chainrule import bench

    shown = lambda value: f"{value:.4g}" if isinstance(value, float) else str(value)
    if rows:
        print(bench.table([{name: shown(value) for name, value in row.items()} for row in rows]), flush=True)


# ---- what there is ---------------------------------------------------------------------------------------------------


def versions(run: Run) -> None:
    import cupy
    import numpy

    import chainrule as cr

    found = {
        "chainrule": cr.__version__,
        "numpy": numpy.__version__,
        "cupy": cupy.__version__,
        "python": sys.version.split()[0],
    }
    for name in ("torch", "numba", "numba_cuda"):
        with suppress(ImportError):
            found[name] = __import__(name).__version__
    with suppress(AttributeError):
        found["driver"] = cupy.cuda.runtime.driverGetVersion()
        found["runtime"] = cupy.cuda.runtime.runtimeGetVersion()
    run.results["versions"] = found
    run.results["gpu"] = cr.kernels.for_device("cuda").describe()
    print(run.results["gpu"], found, flush=True)


def ceilings(run: Run) -> None:
    """Copy bandwidth (read + write) and the rates of matrix products, on random numbers."""
    import cupy
    import numpy as np

    import chainrule as cr
    from chainrule.kernels.cuda import blas

    n = run.size(1 << 28, 1 << 10)
    x, y = cupy.zeros(n, np.float32), cupy.empty(n, np.float32)
    found = {"copy GB/s": 2 * x.nbytes / microseconds(lambda: cupy.copyto(y, x)) / 1e3}
    k = run.size(8192, 16)
    for name, dtype, precision in (
        ("fp32", "float32", "highest"),
        ("TF32", "float32", "high"),
        ("bf16", "bfloat16", "highest"),
    ):
        a, b = (_random((k, k), dtype) for _ in range(2))
        out = cupy.empty((k, k), a.dtype)
        before = cr.get_float32_matmul_precision()
        cr.set_float32_matmul_precision(precision)
        try:
            product = partial(blas.gemm, a, b, out)
            found[f"{name} TFLOP/s"] = 2 * k**3 / microseconds(product, 5) / 1e6
        finally:
            cr.set_float32_matmul_precision(before)
    run.results["ceilings"] = found
    table([found])


def _random(shape, dtype="float32", scale=1.0):
    import cupy
    import numpy as np

    values = np.random.default_rng(0).standard_normal(min(math.prod(shape), 1 << 22)).astype(np.float32) * np.float32(
        scale
    )
    array = cupy.resize(cupy.asarray(values), shape)
    if dtype == "bfloat16":
        import ml_dtypes

        dtype = ml_dtypes.bfloat16
    return array.astype(dtype)


# ---- checks ----------------------------------------------------------------------------------------------------------


def table_of_ops(run: Run) -> None:
    """Every generic check of every row of the table of ops on "cuda", as pytest runs them."""
    import numpy as np
    from ops import generic
    from ops.table import TABLE
    from ops.test_table import CHECKS

    import chainrule as cr

    before = cr.get_default_device()
    cr.set_default_device("cuda")
    rows, passed, stop = TABLE[:: run.size(1, 25)], 0, run.end - 0.55 * max(0.0, run.left())
    try:
        for number, row in enumerate(rows):
            if time.monotonic() > stop:
                run.results["left out"].append(f"table of ops: rows {row.name} and later ({len(rows) - number})")
                break
            for check in CHECKS:
                if check in row.without:
                    continue
                name = "no_derivative" if "derivative" in check and "derivative" in row.without else check
                try:
                    cr.manual_seed(0)
                    getattr(generic, name)(row, np.random.default_rng(0))
                    passed += 1
                except Exception as error:
                    run.results["wrong"].append(f"{row.name}, {check}: {type(error).__name__}: {str(error)[:300]}")
    finally:
        cr.set_default_device(before)
    run.results["table of ops"] = {"passed": passed, "failed": len(run.results["wrong"]), "rows": len(rows)}
    print(run.results["table of ops"], *run.results["wrong"][:20], sep="\n", flush=True)


# ---- kernels against their floors ------------------------------------------------------------------------------------


def kernel_cases(run: Run):
    """(label, operation, arguments, options) of calls that move 256 MB or more."""
    import cupy
    import numpy as np

    n, rows = run.size(1 << 26, 1 << 10), run.size(1 << 16, 16)
    x, g = _random((n,)), _random((n,))
    wide, images = (
        _random((rows, run.size(1024, 33))),
        _random((run.size(256, 2), 64, run.size(64, 8), run.size(64, 8))),
    )
    target = cupy.asarray(np.random.default_rng(0).integers(0, wide.shape[1], rows))
    one = lambda m: cupy.ones(m, np.float32)
    adam = dict(lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, decoupled=False, maximize=False, step=3)
    yield "gelu", "gelu", (x,), {}
    yield "relu backward", "relu_backward", (g, x), {}
    yield "sum", "sum", (x,), {}
    yield "dropout", "dropout", (x, 0.5), {"draw": 7.0}
    yield "softmax", "softmax", (wide, 1), {}
    yield "softmax + cross entropy", "cross_entropy", (wide, target, None, -100, 0.0), {}
    yield "the same with its gradient", "cross_entropy", (wide, target, None, -100, 0.0, "mean", True), {}
    yield "its backward alone", "cross_entropy_backward", (one(rows), wide, target, None, -100, 0.0), {}
    yield "layer norm", "layer_norm", (wide, one(wide.shape[1]), one(wide.shape[1])), {"axes": 1, "eps": 1e-5}
    mean = cupy.zeros(rows, np.float32)
    yield "layer norm backward", "layer_norm_backward", (wide, wide, one(wide.shape[1]), mean, mean + 1), {"axes": 1}
    yield "batch norm", "batch_norm", (images, one(64), one(64)), {"eps": 1e-5}
    yield "Adam", "adam_", (x.copy(), g, cupy.zeros_like(x), cupy.zeros_like(x), None), adam
    yield "gradient norm", "gradient_norm", ([x, g],), {}
    window = dict(kernel_size=(2, 2), stride=(2, 2), padding=((0, 0), (0, 0)))
    from chainrule.kernels.geometry import pool_windows

    windows = pool_windows(images.shape[2:], dilation=(1, 1), ceil_mode=False, **window)
    yield "max pool 2x2", "max_of_windows", (images, windows), {}
    geometry = dict(stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1)
    yield "3x3 convolution, im2col and product", "conv2d", (images, _random((64, 64, 3, 3)), None), geometry
    digits, plain = _random((run.size(1 << 16, 2), 1, 32, 32)), dict(geometry, padding=((0, 0), (0, 0)))
    lenet = digits, _random((6, 1, 5, 5)), one(6)
    yield "LeNet's C1 to S2", "conv2d_act_pool", lenet, dict(plain, activation="relu", pool=("max", 2, 2))
    pooled = images[:, :, ::2, ::2].copy()
    means = dict(activation="tanh", pool=("avg", 2, 2), size=images.shape[2:])
    yield "tanh and average pooling, backward", "act_pool_backward", (pooled, pooled, images), means
    index = cupy.asarray(np.random.default_rng(0).integers(0, 1000, run.size(8192, 32)))
    yield "embedding gradient", "index_add", ((1000, 512), 0, index, _random((len(index), 512))), {}
    yield from lstm_cell_case(run)


def lstm_cell_case(run: Run):
    """One step of an LSTM large enough for the memory to count."""
    import cupy
    import numpy as np

    from chainrule.kernels.cell import CELLS

    n, hidden = run.size(16384, 4), run.size(1024, 24)
    record, bias = _random((n, CELLS["lstm"].record, hidden)), cupy.zeros(4 * hidden, np.float32)
    local, out = (cupy.zeros((n, hidden), np.float32) for _ in range(2))
    yield "LSTM cell", "lstm_cell", (record, None, bias, bias, None, local, out, 0, n, True), {}


def kernels(run: Run) -> None:
    from chainrule.kernels.registry import implementations

    ceiling, rows = run.results["ceilings"], []
    for label, op, arguments, options in kernel_cases(run):
        for made in implementations(op, device="cuda"):
            try:
                us = microseconds(lambda made=made, a=arguments, o=options: made.function(*a, **o))
                moved, flops = made.floor(*arguments, **options)
            except Exception as error:
                run.results["left out"].append(f"{label} ({made.name}): {type(error).__name__}: {error}")
                continue
            floor = max(moved / ceiling["copy GB/s"] / 1e3, flops / ceiling["fp32 TFLOP/s"] / 1e6)
            share = 100 * floor / us
            if share > 105 and not run.tiny:
                run.results["wrong"].append(
                    f"{label} ({made.name}): faster than its floor, which is impossible: look at the floor"
                )
            rows.append(
                {
                    "kernel": label,
                    "by": made.name,
                    "MB": moved / 1e6,
                    "us": us,
                    "GB/s": moved / us / 1e3,
                    "% of floor": share,
                }
            )
    run.results["kernels"] = rows
    table(rows)


def launch_costs(run: Run) -> None:
    """Host time of one small operation, nothing waited for."""
    import cupy

    import chainrule as cr

    count, found = run.size(2000, 20), {}
    x = cr.ones(64, device="cuda")
    wait = cupy.cuda.get_current_stream().synchronize
    found["chainrule x + y, us"] = step_microseconds(lambda: [x + x for _ in range(count)], wait, 1) / count
    a = x.array
    found["CuPy x + y, us"] = step_microseconds(lambda: [a + a for _ in range(count)], wait, 1) / count
    kernel = cr.kernels.for_device("cuda")
    found["our pointwise kernel, us"] = (
        step_microseconds(lambda: [kernel.sigmoid(a) for _ in range(count)], wait, 1) / count
    )
    with suppress(ImportError):
        torch = on_gpu()
        t = torch.ones(64, device="cuda")
        found["PyTorch x + y, us"] = (
            step_microseconds(lambda: [t + t for _ in range(count)], torch.cuda.synchronize, 1) / count
        )
    run.results["launch costs"] = found
    table([found])


# ---- beside PyTorch --------------------------------------------------------------------------------------------------


def on_gpu():
    import torch

    if not torch.cuda.is_available():
        raise ImportError("this PyTorch has no CUDA")
    torch.backends.cudnn.benchmark = True
    return torch


def precision(torch, high: bool) -> None:
    """TF32 on or off, on both sides and in all of PyTorch's libraries."""
    import chainrule as cr

    cr.set_float32_matmul_precision("high" if high else "highest")
    if torch:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = high


def convolutions(run: Run) -> None:
    """Forward of 3x3 convolutions of ResNet's sizes and of 1x1 with bias and ReLU, beside cuDNN's."""
    torch, rows = on_gpu(), []
    from chainrule.kernels.cuda import convolution

    batch = run.size(64, 2)
    for c, size in ((64, 56), (128, 28), (256, 14), (512, 7)):
        for name, high, dtype in (("fp32", False, "float32"), ("TF32", True, "float32"), ("bf16", False, "bfloat16")):
            precision(torch, high)
            x, w = _random((batch, c, size, size), dtype), _random((c, c, 3, 3), dtype, 0.02)
            geometry = dict(stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1)
            ours = microseconds(lambda x=x, w=w, g=geometry: convolution.conv2d(x, w, None, **g))
            kind = getattr(torch, dtype)
            t, v = (
                torch.randn(batch, c, size, size, device="cuda", dtype=kind),
                torch.randn(c, c, 3, 3, device="cuda", dtype=kind),
            )
            t, v = t.contiguous(memory_format=torch.channels_last), v.contiguous(memory_format=torch.channels_last)
            theirs = torch_microseconds(torch, lambda t=t, v=v: torch.nn.functional.conv2d(t, v, padding=1))
            rate = run.results["ceilings"][f"{name} TFLOP/s"]
            floor = 2 * batch * size * size * c * c * 9 / rate / 1e6
            rows.append(
                {
                    "3x3": f"C {c}, {size}x{size}, {name}",
                    "ours us": ours,
                    "cuDNN us": theirs,
                    "cuDNN / ours": theirs / ours,
                    "% of floor": 100 * floor / ours,
                }
            )
    precision(torch, False)
    c, geometry = 256, dict(stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1)
    x, w, b = _random((batch, 56, 56, 64)).transpose(0, 3, 1, 2), _random((c, 64, 1, 1)), _random((c,))
    relu = dict(geometry, activation="relu", pool=None)
    ours = microseconds(lambda: convolution.conv2d_act_pool(x, w, b, **relu))
    t = torch.randn(batch, 64, 56, 56, device="cuda").contiguous(memory_format=torch.channels_last)
    conv = torch.nn.Conv2d(64, c, 1, device="cuda").to(memory_format=torch.channels_last)
    with torch.no_grad():
        theirs = torch_microseconds(torch, lambda: torch.relu(conv(t)))
    rows.append(
        {"3x3": "1x1, 64 -> 256, bias + ReLU, fp32", "ours us": ours, "cuDNN us": theirs, "cuDNN / ours": theirs / ours}
    )
    run.results["convolutions"] = rows
    table(rows)


def torch_microseconds(torch, call, repeats: int = 20) -> float:
    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e3)
    return statistics.median(times)


def lenet_step(cr, batch: int):
    model = cr.nn.models.LeNet5().to("cuda")
    optimizer = cr.optim.Adam(model.parameters())
    x, y = cr.randn(batch, 1, 32, 32, device="cuda"), cr.randint(0, 10, (batch,), device="cuda")

    def step(x, y):
        optimizer.zero_grad()
        loss = cr.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step, (x, y)


def torch_lenet_step(torch, batch: int):
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
    ).cuda()  # fmt: skip
    x, y = torch.randn(batch, 1, 32, 32, device="cuda"), torch.randint(0, 10, (batch,), device="cuda")
    return torch_step(torch, lambda: nn.functional.cross_entropy(model(x), y), model)


def torch_step(torch, loss_of, model):
    optimizer = torch.optim.Adam(model.parameters(), fused=True, capturable=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of()
        loss.backward()
        optimizer.step()
        return loss

    return step


def torch_captured(torch, step):
    """The step as a hand-made CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


CHARLM = dict(vocabulary=100, width=128, hidden=512, layers=2, steps=128, batch=64)


def charlm_step(cr, low: bool, sizes: dict):
    v, e, h, layers, t, b = sizes.values()
    nn = cr.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.lstm, self.out = nn.Embedding(v, e), nn.LSTM(e, h, num_layers=layers), nn.Linear(h, v)

        def forward(self, x):
            return self.out(self.lstm(self.embedding(x))[0])

    model = Net().to("cuda")
    optimizer = cr.optim.Adam(model.parameters())
    x, y = (cr.randint(0, v, (t, b), device="cuda") for _ in range(2))

    def step(x, y):
        optimizer.zero_grad()
        with cr.autocast("cuda", dtype="bfloat16" if low else "float16", enabled=low):
            loss = cr.cross_entropy(model(x).reshape(-1, v), y.reshape(-1))
        loss.backward()
        optimizer.step()
        return loss

    return step, (x, y)


def torch_charlm_step(torch, low: bool, sizes: dict):
    v, e, h, layers, t, b = sizes.values()
    nn = torch.nn
    parts = nn.ModuleList([nn.Embedding(v, e), nn.LSTM(e, h, num_layers=layers), nn.Linear(h, v)]).cuda()
    x, y = (torch.randint(0, v, (t, b), device="cuda") for _ in range(2))

    def loss():
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=low):
            return nn.functional.cross_entropy(parts[2](parts[1](parts[0](x))[0]).reshape(-1, v), y.reshape(-1))

    return torch_step(torch, loss, parts)


def steps(run: Run) -> None:
    """Training steps: ours as it is and captured; PyTorch's as it is, captured by hand, and compiled."""
    import cupy

    import chainrule as cr

    wait, rows = cupy.cuda.get_current_stream().synchronize, []
    batch, sizes = (
        run.size(256, 4),
        CHARLM if not run.tiny else {**CHARLM, "hidden": 16, "steps": 4, "batch": 2, "width": 8},
    )
    torch = None
    with suppress(ImportError):
        torch = on_gpu()
    cases = [
        (
            "LeNet-5, batch 256, fp32",
            False,
            lambda: lenet_step(cr, batch),
            lambda: torch_lenet_step(torch, batch),
        ),
        (
            "char-LSTM 2 x 512, T 128, batch 64, fp32",
            False,
            lambda: charlm_step(cr, False, sizes),
            lambda: torch_charlm_step(torch, False, sizes),
        ),
        (
            "the same, TF32",
            True,
            lambda: charlm_step(cr, False, sizes),
            lambda: torch_charlm_step(torch, False, sizes),
        ),
        (
            "the same, bf16",
            False,
            lambda: charlm_step(cr, True, sizes),
            lambda: torch_charlm_step(torch, True, sizes),
        ),
    ]
    for name, high, ours, theirs in cases:
        if run.left() < 30 and not run.tiny:
            run.results["left out"].append(f"step: {name}")
            continue
        row: dict = {"step": name}
        precision(torch, high)
        repeats = run.size(30, 1)

        def timed(label, make, wait, row=row, name=name, repeats=repeats):
            try:
                row[label] = step_microseconds(make(), wait, repeats)
            except Exception as error:
                run.results["left out"].append(f"{name}, {label}: {type(error).__name__}: {str(error)[:200]}")

        def eager(ours=ours):
            step, given = ours()
            return lambda: step(*given)

        def captured(ours=ours, name=name):
            step, given = ours()
            step = cr.capture(step)
            for _ in range(3):
                step(*given)
            if step.reason:
                raise RuntimeError(step.reason)
            return lambda: step(*given)

        timed("ours eager", eager, wait)
        timed("ours captured", captured, wait)
        if torch:
            timed("PyTorch eager", theirs, torch.cuda.synchronize)
            timed("PyTorch captured", lambda theirs=theirs: torch_captured(torch, theirs()), torch.cuda.synchronize)
            if run.left() > 120:
                timed(
                    "PyTorch compiled",
                    lambda theirs=theirs: torch.compile(theirs(), mode="reduce-overhead"),
                    torch.cuda.synchronize,
                )
        best = min([v for k, v in row.items() if k.startswith("ours")], default=math.nan)
        for label in ("eager", "captured", "compiled"):
            if f"PyTorch {label}" in row:
                row[f"{label} / ours"] = row[f"PyTorch {label}"] / best
        rows.append(row)
    run.results["steps"] = rows
    table(rows)


# ---- the whole -------------------------------------------------------------------------------------------------------


def roofline(run: Run, path: Path) -> None:
    """Each kernel's share of its floor, as bars."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = run.results.get("kernels", [])
    figure, axes = plt.subplots(figsize=(9, 0.4 * len(rows) + 1.5), layout="constrained")
    axes.barh([f"{r['kernel']} ({r['by']})" for r in rows], [r["% of floor"] for r in rows], color="#3b6fb6")
    axes.axvline(100, color="#888888", linewidth=1)
    axes.set_xlabel(f"% of the floor by measured ceilings, {run.results['gpu']}")
    axes.invert_yaxis()
    figure.savefig(path, dpi=150)


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=520, help="stop cleanly after so long")
    parser.add_argument("--json", type=Path, help="where the figures go (benchmarks/results/DATE-GPU.json)")
    parser.add_argument("--tiny", action="store_true", help="small sizes: a test of this program")
    parser.add_argument("--packages", help="a folder of further packages")
    options = parser.parse_args(arguments)
    importable(options.packages)
    run = Run(options.seconds, options.tiny)
    run.section("versions", 5, versions)
    run.section("ceilings", 10, ceilings)
    run.section("table of ops on cuda", 30, table_of_ops)
    run.section("kernels against their floors", 20, kernels)
    run.section("launch costs", 10, launch_costs)
    run.section("training steps", 60, steps)
    run.section("convolutions", 30, convolutions)
    name = "".join(c if c.isalnum() else "-" for c in run.results.get("gpu", "gpu").lower()).strip("-")
    target = options.json or ROOT / "benchmarks" / "results" / f"{run.results['date']}-{name}.json"
    target.write_text(json.dumps(run.results, indent=1) + "\n")
    if run.results.get("kernels"):
        with suppress(ImportError):
            roofline(run, target.with_suffix(".png"))
    print(
        f"\nfigures: {os.path.relpath(target)}",
        "left out:",
        *run.results["left out"],
        "wrong:",
        *run.results["wrong"],
        sep="\n  ",
    )
    return run.results


if __name__ == "__main__":
    sys.exit(1 if main()["wrong"] else 0)
