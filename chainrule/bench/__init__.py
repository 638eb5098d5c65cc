"""Benchmarks of kernels: prove the result, then time it, in turns, against the machine's measured peaks.

`kernel` declares a kernel of yours, `kernels` gives those that come with chainrule, `run` measures, `compare` holds two
reports side by side. The same from the shell: `chainrule bench`.
"""

from . import shapes, sides
from .clock import Times, stopwatch, take_turns
from .kernel import Draw, Kernel, kernel
from .peaks import Peaks, by_threads, measure
from .report import Report, Row, compare, compared, duration, page, peaks_table, table, verdict
from .runner import run
from .suite import GROUPS, kernels
from .worker import Worker, serve
