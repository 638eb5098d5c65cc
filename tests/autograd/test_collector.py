"""While a graph grows, full looks of CPython's collector pass for a while; nothing else changes."""

import subprocess
import sys
from textwrap import dedent

import pytest

START = """
    import gc, weakref
    import chainrule as cr
    from chainrule.autograd.collector import put_off

    looks = []  # of each full look, whether it passed

    def note(phase, info):
        if phase == "start" and info["generation"] == 2:
            looks.append(put_off.passing)

    gc.callbacks.append(note)

    def graph(nodes):
        y = cr.ones(1, requires_grad=True)
        for _ in range(nodes):
            y = -y
        return y

    class Thing:
        pass

    heap = [[] for _ in range(100_000)]
    thing = Thing()
    thing.itself = thing
    cycle = weakref.ref(thing)
    gc.collect()  # now heap and cycle are old
    del thing
    looks.clear()
"""


def run(program):
    """What the program prints, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", dedent(START) + dedent(program)], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split()


def test_while_a_graph_grows_looks_pass_until_there_are_four_times_as_many():
    passed, whole = map(int, run("y = graph(1_000_000); print(sum(looks), len(looks) - sum(looks))"))
    assert passed >= 3
    assert 1 <= whole <= 3  # without it 6 to 8


def test_a_look_that_passes_frees_no_cycle_and_the_next_whole_one_does():
    program = """
        y = graph(300_000)
        print(all(looks), len(looks) > 0, cycle() is None)
        z = graph(800_000)
        print(all(looks), cycle() is None)
    """
    assert run(program) == ["True", "True", "False", "False", "True"]


def test_collect_looks_at_once():
    program = "y = graph(50_000); kept = cycle() is not None; gc.collect(); print(kept, cycle() is None, looks)"
    assert run(program) == ["True", "True", "[False]"]


@pytest.mark.parametrize(
    "off", ["gc.disable()", "gc.set_threshold(0)", "gc.set_threshold(700, 10, 0); gc.collect(1); gc.disable()"]
)
def test_collect_looks_at_once_after_the_collector_was_off(off):
    assert run(f"{off}; y = graph(50_000); gc.enable(); gc.collect(); print(cycle() is None, looks)") == [
        "True",
        "[False]",
    ]


def test_of_other_objects_no_look_passes():
    program = "y = [[] for _ in range(1_000_000)]; print(cycle() is None, any(looks), len(looks) > 1)"
    assert run(program) == ["True", "False", "True"]


def test_what_the_program_froze_stays_frozen():
    program = "gc.freeze(); n = gc.get_freeze_count(); y = graph(200_000); print(gc.get_freeze_count() - n, any(looks))"
    assert run(program) == ["0", "False"]


def test_after_a_look_that_passed_nothing_is_frozen():
    assert run("y = graph(500_000); print(any(looks), gc.get_freeze_count())") == ["True", "0"]


def test_it_can_be_taken_away():
    program = "gc.callbacks.remove(put_off); y = graph(500_000); print(any(looks), len(looks) > 0)"
    assert run(program) == ["False", "True"]
