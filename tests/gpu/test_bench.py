"""`cr.bench` on the GPU: the registry's implementations beside the public operation, between events, launches apart."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.bench import runner

FAST = cr.bench.Peaks("float32", 1, {1 << 16: 1e6}, {1 << 16: 1e6}, 1e9, 1e9)


def run(kernels):
    return cr.bench.run(kernels, device="cuda", threads=1, seconds=0.01, peaks=FAST, progress=False).rows


@pytest.mark.parametrize("group, by", [("matmul", "cuda"), ("softmax", "cuda"), ("conv", "cuda")])
def test_kernels_are_proven_and_timed(group, by, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_MOST_SETS", 2)  # the stand-in captures slowly
    tiny = dict(matmul="m=4 n=5 k=6", softmax="n=4 classes=5", conv="n=1 c=2 h=6 w=6 o=3 k=3 pad=1")
    (tmp_path / "tiny.txt").write_text(f"tiny {group} {tiny[group]}\n")
    rows = run(list(cr.bench.kernels(group, str(tmp_path / "tiny.txt"))))
    assert {(row.status, row.note) for row in rows} == {("timed", "")}
    assert {row.implementation for row in rows} == {"chainrule", by}
    assert all(row.hot.median > 0 and row.launch > 0 for row in rows)


def test_a_wrong_kernel_is_not_timed():
    made = cr.bench.kernel(
        name="double", axes={"n": [5]}, inputs=lambda draw, n: (draw(n),), reference=lambda x: 2 * x
    )(lambda x: x + x)
    made.implementation("wrong")(lambda x: x * np.float32(2.1))
    assert [row.status for row in run([made])] == ["timed", "wrong"]


def test_what_a_graph_cannot_hold_is_timed_as_it_is(cupy):
    from chainrule.bench.cuda import captured

    waits = lambda: cupy.ones(3).sum().item()
    assert captured(waits) is waits


def test_peaks_of_the_gpu(monkeypatch):
    from chainrule.bench import peaks

    monkeypatch.setattr(peaks, "_GPU", (1 << 10, 8))
    found = cr.bench.measure("float32", device="cuda")
    assert found.matrix > 0 and set(found.copy) == {2 << 10}
