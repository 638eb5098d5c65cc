"""Write docs/performance.md from the newest file in benchmarks/results/: `python benchmarks/page.py`."""

import json
from pathlib import Path

from run import report

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"

TEXT = """# Speed beside PyTorch

The same work in alternating turns on the same machine, each side in a process of its own with {threads} threads;
medians of the best of several starts. A ratio above 1 means that chainrule is faster. Measured on {date}: {cpu},
Python {python}, chainrule {chainrule}, PyTorch {pytorch}.

{table}

Made by

    python benchmarks/run.py --json benchmarks/results/{name}
    python benchmarks/page.py

Absolute times drift on shared machines; compare ratios. `make bench` measures on yours.
"""


def page() -> str:
    """The text of the page."""
    newest = sorted((ROOT / "benchmarks" / "results").glob("*-cpu*.json"))[-1]
    result = json.loads(newest.read_text())
    facts = {key: result[key] for key in ("threads", "date", "cpu", "python")}
    return TEXT.format(**facts, **result["versions"], table=report(result), name=newest.name)


if __name__ == "__main__":
    PAGE.write_text(page())
