"""Write docs/performance.md and docs/kernels.md from benchmarks/results/: `python benchmarks/page.py`.

The newest results of each machine: of DATE-cpu-MACHINE.json, by benchmarks/run.py, and of DATE-bench-MACHINE.json, by
`chainrule bench`.
"""

import json
import re
from pathlib import Path

from run import report, versions

from chainrule import bench

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
KERNELS = ROOT / "docs" / "kernels.md"

TEXT = """# Speed beside PyTorch and others

The same work in alternating turns on the same machine, each side in a process of its own with as many threads;
medians of the best of several starts; a side thrice as slow as chainrule has one turn a start instead of four. A ratio
above 1 means that chainrule is faster, one in bold that the other is.
A side is timed where its results are those of chainrule: the loss of a third step, all gradients of an operation.

Captured: the same step by `cr.capture`, recorded once and replayed. JAX compiles a whole step, its update included,
into one function, and a chain of operations into one loop, which no engine that runs them one by one can match: its
second ratio is to the captured step. It is written as its users would: channels last, scans over time and over the
nodes of a tree, memory given back to the next step. HIPS autograd runs the same formulas on NumPy; Chainer, which needs
an older NumPy, its own links and functions in an interpreter of its own (`make chainer`). What takes either of them
more than a second is left out. tinygrad is a peer of [`chainrule bench`](benchmarks.md) alone.

{results}
Absolute times drift on shared machines; compare ratios. `make bench` measures on yours.
"""

RESULTS = """## {cpu}

Measured on {date} with {threads} threads: Python {python}, {versions}.

{table}

Made by

    python benchmarks/run.py --json benchmarks/results/{name}
    python benchmarks/page.py
"""


def newest(kind: str) -> list[Path]:
    """The newest results of that kind from each machine."""
    files = sorted((ROOT / "benchmarks" / "results").glob(f"*-{kind}-*.json"))
    return list({file.name.partition(f"-{kind}-")[2]: file for file in files}.values())


def page() -> str:
    """The text of the page."""
    parts = []
    for file in newest("cpu"):
        result = json.loads(file.read_text())
        facts = {key: result[key] for key in ("date", "threads", "cpu", "python")}
        parts.append(RESULTS.format(**facts, versions=versions(result), table=report(result), name=file.name))
    return _unbroken(TEXT.format(results="\n".join(parts)))


def _unbroken(text: str) -> str:
    """The text with no line broken between a figure and its unit."""
    return re.sub(r"(?<=\d) (?=(?:s|ms|us|µs|MiB)\b)", "\N{NO-BREAK SPACE}", text)


KERNELS_TEXT = """# Kernels, one by one

What `chainrule bench` measured ([how](benchmarks.md)): medians on warm buffers, the fastest of a shape in bold, ~ where
the noise stayed above the bound, a word instead of a time where it was refused. % of roof: chainrule's share of what
the machine allows for the multiplications of the definition; Winograd's and Fourier's algorithms need fewer, and pass
100. Captured: the same by `cr.capture`. JAX, which compiles, computes of forward + backward the gradients alone: those
of a product without the product.

{results}"""

#: what made the reports that do not note it
OLDER = {
    "2026-11-22-bench-xeon-2-cores.json": "chainrule bench conv --shapes resnet --compare torch --seconds 0.25",
}
KERNELS_RESULTS = """## {machine}

{report}
Made by

    {command} --json benchmarks/results/{name}
    python benchmarks/page.py
"""


def kernels_page() -> str:
    """The text of the page of kernels, from reports of `chainrule bench`."""
    parts = []
    for file in newest("bench"):
        found = bench.Report.load(file)
        text = bench.page(found, file.name).replace("\n## ", "\n### ")
        command = found.facts.get("command") or OLDER[file.name]
        machine = found.facts["machine"]
        parts.append(KERNELS_RESULTS.format(machine=machine, report=text, command=command, name=file.name))
    return _unbroken(KERNELS_TEXT.format(results="\n".join(parts)))


if __name__ == "__main__":
    PAGE.write_text(page())
    KERNELS.write_text(kernels_page())
