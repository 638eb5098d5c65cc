"""While a graph grows, looks of CPython's collector pass for a while; nothing else changes."""

import subprocess
import sys
from textwrap import dedent

import pytest

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 14), reason="CPython 3.14's collector is left alone")

START = """
    import gc, weakref
    import chainrule as cr
    from chainrule.autograd.collector import put_off

    looks, young = [], []  # of each full look, and each one at new objects, whether it passed

    def note(phase, info):
        if phase == "start":
            (looks if info["generation"] == 2 else young).append(put_off.passing)

    gc.callbacks.append(note)

    def graph(nodes, others=0, y=None):
        y = cr.ones(1, requires_grad=True) if y is None else y
        for _ in range(nodes):
            y = -y
        for _ in range(others):
            y = -(-y)
            kept.append([])
        return y

    kept = []

    class Thing:
        pass

    def ring():
        thing = Thing()
        thing.itself = thing
        return thing

    heap = [[] for _ in range(100_000)]
    thing = ring()
    cycle = weakref.ref(thing)
    gc.collect()  # now heap and cycle are old
    del thing
    looks.clear()
    young.clear()
"""


def run(program):
    """What the program prints, in a process of its own."""
    done = subprocess.run([sys.executable, "-P", "-c", dedent(START) + dedent(program)], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split()


def test_while_a_graph_grows_looks_pass():
    program = "y = graph(1_000_000); print(all(looks), cycle() is None, sum(young) / len(young) > 0.5, young[0])"
    assert run(program) == ["True", "False", "True", "False"]  # the first ones have to find that the graph stays


def test_looks_pass_until_there_are_four_times_as_many_other_objects():
    program = """
        y = graph(0, others=200_000)
        print(all(looks), any(young), cycle() is None)
        y = graph(0, others=800_000, y=y)
        print(len(looks) - sum(looks), cycle() is None)
    """
    *before, whole, found = run(program)
    assert before == ["True", "True", "False"]
    assert 1 <= int(whole) <= 3 and found == "True"


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
    program = """
        gc.freeze(); n = gc.get_freeze_count()
        y = graph(200_000)
        print(gc.get_freeze_count() - n, any(looks + young))
    """
    assert run(program) == ["0", "False"]


def test_after_a_look_that_passed_nothing_is_frozen():
    assert run("y = graph(500_000); print(any(young), gc.get_freeze_count() > 1000)") == ["True", "False"]


def test_gradients_with_graphs_make_cycles_of_nodes_which_are_found():
    program = """
        leaves, most = weakref.WeakSet(), 0
        for _ in range(1_000):
            x = y = cr.ones(1, requires_grad=True)
            leaves.add(x)
            for _ in range(300):
                y = cr.sin(y)
            y.backward(create_graph=True)  # leaf -> gradient -> node -> leaf
            most = max(most, len(leaves))
        print(most)
    """
    assert int(*run(program)) < 400  # some 700 if nodes did not count


def test_it_can_be_taken_away():
    program = "gc.callbacks.remove(put_off); y = graph(500_000); print(any(looks + young), len(looks) > 0)"
    assert run(program) == ["False", "True"]


def test_a_new_cycle_that_looks_let_pass_is_found_by_the_next_whole_one():
    program = """
        y = graph(200_000); passing = young[-1]
        new = weakref.ref(ring())
        z = graph(20_000); print(passing, new() is None)
        z = graph(0, others=800_000, y=z); print(new() is None)
    """
    assert run(program) == ["True", "False", "True"]


def test_new_cycles_between_graphs_that_do_not_stay_are_found_at_once():
    program = """
        for _ in range(300):  # each graph is freed: nothing grows
            y = graph(2_000)
        new = weakref.ref(ring())
        y = graph(2_000); y = graph(2_000)
        print(any(looks), any(young[-500:]), new() is None)
    """
    assert run(program) == ["True", "False", "True"]


def test_new_cycles_of_other_objects_are_found_at_once_after_a_graph_grew():
    program = """
        y = graph(200_000); passing = young[-1]
        z = [[] for _ in range(2_000)]
        new = weakref.ref(ring())
        z = [[] for _ in range(2_000)]
        print(passing, new() is None, young[-1])
    """
    assert run(program) == ["True", "True", "False"]


def test_a_look_at_new_objects_that_the_program_asks_for_is_at_once():
    program = """
        y = graph(200_000)
        new = weakref.ref(ring())
        gc.collect(0)
        print(new() is None)
    """
    assert run(program) == ["True"]


def test_after_a_whole_look_new_objects_are_looked_at_again():
    program = """
        y = graph(200_000); passing = young[-1]
        gc.collect(); young.clear()
        new = weakref.ref(ring())
        z = graph(5_000)
        print(passing, any(young), new() is None)
    """
    assert run(program) == ["True", "False", "True"]
