"""no_grad, enable_grad, inference_mode, set_grad_enabled: nested, raising, in threads, coroutines and generators."""

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import chainrule as cr


def recorded():
    return (cr.ones(1, requires_grad=True) * 2).requires_grad


def run(main):
    """What the coroutine main() returns, in a thread of its own: a browser's tests leave a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(main())).result()


def test_no_grad_stops_recording():
    with cr.no_grad():
        assert not recorded() and not cr.is_grad_enabled()
    assert recorded() and cr.is_grad_enabled()


def test_leaves_made_in_no_grad_still_require_gradients():
    with cr.no_grad():
        x = cr.ones(1, requires_grad=True)
    assert (x * 2).requires_grad


def test_nesting():
    with cr.no_grad():
        with cr.enable_grad():
            assert recorded()
            with cr.no_grad(), cr.no_grad():
                assert not recorded()
            assert recorded()
        assert not recorded()
    assert recorded()


def test_one_manager_entered_twice():
    quiet = cr.no_grad()
    with quiet:
        with quiet:
            assert not recorded()
        assert not recorded()
    assert recorded()


def test_exceptions_restore():
    for make in (cr.no_grad, cr.inference_mode, lambda: cr.set_grad_enabled(False), cr.detect_anomaly):
        with pytest.raises(LookupError), make():
            raise LookupError
        assert recorded() and not cr.is_inference_mode_enabled()


def test_decorated_functions():
    @cr.no_grad()
    def quiet(flag):
        """Words."""
        if flag:
            raise LookupError
        return recorded()

    assert quiet(False) is False
    assert quiet.__name__ == "quiet" and quiet.__doc__ == "Words."
    with pytest.raises(LookupError):
        quiet(True)
    assert recorded()


def test_a_decorated_recursive_function():
    @cr.no_grad()
    def down(n):
        return (recorded(), *down(n - 1)) if n else (recorded(),)

    assert down(3) == (False,) * 4
    assert recorded()


def test_set_grad_enabled_as_a_function_and_as_a_block():
    cr.set_grad_enabled(False)
    assert not recorded()
    cr.set_grad_enabled(True)
    assert recorded()
    with cr.set_grad_enabled(False):
        assert not recorded()
        cr.set_grad_enabled(True)
        assert recorded()
    assert recorded()
    with cr.no_grad(), cr.set_grad_enabled(True):
        assert recorded()


def test_set_grad_enabled_as_a_decorator():
    @cr.set_grad_enabled(False)
    def quiet():
        return recorded()

    assert recorded()
    assert quiet() is False
    assert recorded()


def test_inference_mode():
    x = cr.ones(2, requires_grad=True)
    with cr.inference_mode():
        y = x * 2
        z = cr.ones(2)
        assert cr.is_inference_mode_enabled() and not cr.is_grad_enabled()
    assert y.is_inference() and z.is_inference() and not x.is_inference()
    for t in (y, z):
        with pytest.raises(RuntimeError, match=r"requires_grad on a tensor made in inference_mode.*clone"):
            t.requires_grad_()
    y.clone().requires_grad_()
    with cr.inference_mode(False):
        assert recorded()
    with cr.inference_mode(), cr.enable_grad():
        assert recorded() and not cr.is_inference_mode_enabled()


def test_inference_tensors_are_constants_in_later_graphs():
    with cr.inference_mode():
        c = cr.ones(2) * 3
    x = cr.ones(2, requires_grad=True)
    (x * c).sum().backward()
    assert x.grad.tolist() == [3, 3]
    c.data = cr.zeros(2)
    assert c.tolist() == [0, 0]


def test_backward_works_inside_no_grad():
    x = cr.tensor(3.0, requires_grad=True)
    y = x * x
    with cr.no_grad():
        y.backward()
    assert x.grad.item() == 6 and not x.grad.requires_grad


# ---- generators ------------------------------------------------------------------------------------------------------


def test_a_decorated_generator_is_quiet_inside_and_leaves_its_consumer_alone():
    @cr.no_grad()
    def numbers():
        """Words."""
        got = yield recorded()
        assert got == "sent"
        try:
            yield recorded()
        except LookupError:
            yield recorded()
        return "done"

    generator = numbers()
    assert numbers.__name__ == "numbers"
    assert next(generator) is False and recorded()
    assert generator.send("sent") is False and recorded()
    assert generator.throw(LookupError) is False and recorded()
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "done"
    assert recorded()


def test_a_decorated_generator_that_raises_or_is_closed():
    closed = []

    @cr.no_grad()
    def numbers():
        try:
            yield 1
            raise LookupError
        finally:
            closed.append(recorded())

    with pytest.raises(LookupError):
        list(numbers())
    generator = numbers()
    next(generator)
    generator.close()
    assert len(closed) == 2 and recorded()


def test_an_undecorated_generator_closed_elsewhere_harms_nobody():
    def numbers():
        with cr.no_grad():
            yield 1

    generator = numbers()
    contextvars.copy_context().run(next, generator)  # entered in another context
    with cr.no_grad():
        generator.close()  # leaves in this one
        assert not recorded()
    assert recorded()


def test_interleaved_decorated_generators():
    @cr.no_grad()
    def quiet():
        while True:
            yield recorded()

    @cr.enable_grad()
    def loud():
        while True:
            yield recorded()

    a, b = quiet(), loud()
    assert [(next(a), next(b)) for _ in range(3)] == [(False, True)] * 3
    with cr.no_grad():
        assert (next(a), next(b), recorded()) == (False, True, False)


# ---- threads ---------------------------------------------------------------------------------------------------------


def test_no_grad_does_not_leak_into_other_threads():
    inside, leave, seen = threading.Event(), threading.Event(), []

    def quiet():
        with cr.no_grad():
            inside.set()
            leave.wait(10)
            seen.append(recorded())

    thread = threading.Thread(target=quiet)
    thread.start()
    inside.wait(10)
    assert recorded()
    leave.set()
    thread.join()
    assert seen == [False]


def test_threads_start_recording_whatever_their_parent_does():
    seen = []
    with cr.no_grad():
        thread = threading.Thread(target=lambda: seen.append(recorded()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_one_manager_shared_by_threads_that_overlap():
    quiet = cr.no_grad()
    barrier, seen = threading.Barrier(2), []

    def work(outer):
        with cr.set_grad_enabled(outer):
            barrier.wait()
            with quiet:
                barrier.wait()
                inside = recorded()
                barrier.wait()
            seen.append((outer, inside, recorded()))

    threads = [threading.Thread(target=work, args=(outer,)) for outer in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [(False, False, False), (True, False, True)]


def test_sixteen_threads_build_and_walk_graphs_at_once():
    shared = cr.tensor(np.linspace(0.1, 1, 50), requires_grad=True)
    barrier = threading.Barrier(16)

    def work(i):
        barrier.wait()
        made = []
        for step in range(20):
            x = cr.tensor(np.linspace(-1, 1, 50) + i, requires_grad=True)
            with cr.no_grad():
                x.mul_(1.0)
            y = cr.tanh(x * shared)
            for _ in range(10):
                y = y * 0.9 + x
            (gx, gs) = cr.autograd.grad((y * y).sum(), [x, shared])
            made.append((gx.numpy(), gs.numpy()))
            with cr.no_grad() if step % 2 else cr.enable_grad():
                assert (x * 2).requires_grad is (step % 2 == 0)
        return made

    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(work, range(16)))
    barrier = threading.Barrier(1)
    for i in (0, 7, 15):
        for (a, b), (c, d) in zip(work(i), together[i], strict=True):
            assert np.array_equal(a, c) and np.array_equal(b, d)


def test_threads_share_a_leaf_and_walk_separate_graphs_with_backward():
    leaves = [cr.ones(3, requires_grad=True) for _ in range(16)]
    w = cr.tensor([1.0, 2.0, 3.0])

    def work(leaf):
        for _ in range(50):
            (leaf * w).sum().backward()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, leaves))
    assert all(leaf.grad.tolist() == [50, 100, 150] for leaf in leaves)


# ---- coroutines ------------------------------------------------------------------------------------------------------


def test_tasks_do_not_see_one_another():
    quiet = cr.no_grad()

    async def task(outer):
        with cr.set_grad_enabled(outer):
            await asyncio.sleep(0)
            with quiet:
                await asyncio.sleep(0)
                inside = recorded()
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            return outer, inside, recorded()

    async def main():
        return await asyncio.gather(*[task(bool(i % 2)) for i in range(6)])

    assert run(main) == [(bool(i % 2), False, bool(i % 2)) for i in range(6)]
    assert recorded()


def test_decorated_coroutines():
    @cr.no_grad()
    async def quiet():
        await asyncio.sleep(0)
        return recorded()

    async def loud():
        await asyncio.sleep(0)
        return recorded()

    async def main():
        return await asyncio.gather(quiet(), loud(), quiet())

    assert run(main) == [False, True, False]
    assert quiet.__name__ == "quiet"


def test_asynchronous_generators_are_refused():
    async def numbers():
        yield 1

    with pytest.raises(TypeError, match="no_grad: received the asynchronous generator numbers.*with block"):
        cr.no_grad()(numbers)


# ---- scopes ----------------------------------------------------------------------------------------------------------


def test_scopes_name_the_nodes():
    x = cr.ones(1, requires_grad=True)
    with cr.autograd.scope("net"), cr.autograd.scope("0"):
        y = x * 2
    assert y.grad_fn.path == "net.0"
    assert (x * 2).grad_fn.path == ""


def test_a_decorated_function_runs_in_its_scope():
    @cr.autograd.scope("block")
    def block(x):
        return x * 2

    with cr.autograd.scope("net"):
        assert block(cr.ones(1, requires_grad=True)).grad_fn.path == "net.block"


def test_scopes_keep_the_rest_of_the_state():
    with cr.no_grad(), cr.autograd.scope("a"):
        assert not recorded()
        with cr.enable_grad():
            y = cr.ones(1, requires_grad=True) * 2
    assert y.grad_fn.path == "a"
