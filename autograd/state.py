"""What the current thread of execution is doing: recording a graph or not, watched by whom, inside which module.

All of it lives in one immutable `State` in one `ContextVar`, so threads, coroutines and contexts never see the choices
of others, and the path that every operation takes reads a single variable.
"""

from __future__ import annotations

import functools
import inspect
from contextvars import ContextVar


class State:
    """`record` the graph? `watch`: who is told of every operation. `inference`: bar results from graphs?

    `scope`: the module path. `low`: the 16-bit dtype of each device under `autocast`. `entered`: the context manager
    that made this state and the state to return to, so that one manager may serve many threads and tasks at once.
    `plain`: nothing but recording and scopes is in force, so small operations may take their short path.

    Never changed once made. Slots, because every operation reads it: a named tuple's fields cost ten times as much.
    """

    __slots__ = ("record", "watch", "inference", "scope", "low", "entered", "plain")

    def __init__(self, record=True, watch=(), inference=False, scope=None, low=None, entered=None):
        self.record = record
        self.watch = watch
        self.inference = inference
        self.scope = scope
        self.low = low
        self.entered = entered
        self.plain = not (watch or inference or low)

    def replace(self, **changes) -> State:
        """This state with some fields changed."""
        fields = {name: getattr(self, name) for name in self.__slots__[:-1]}
        return State(**{**fields, **changes})


state: ContextVar[State] = ContextVar("chainrule_state", default=State())


class StateContext:
    """Changes the state inside a `with` block, or inside the function (or generator) that it decorates."""

    changes: dict = {}

    def __enter__(self):
        current = state.get()
        state.set(current.replace(**self.changes, entered=(self, current)))
        return self

    def __exit__(self, *exc):
        entered = state.get().entered
        # Another's state is left alone: a generator may be closed in another context than the one that entered.
        if entered and entered[0] is self:
            state.set(entered[1])
        return False

    def __call__(self, function):
        if inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{type(self).__name__}: received the asynchronous generator {function.__name__}, whose body shares "
                "the state of its consumer; use a with block inside it that no yield interrupts"
            )
        if inspect.iscoroutinefunction(function):
            return self._decorate_coroutine(function)
        if inspect.isgeneratorfunction(function):
            return self._decorate_generator(function)

        @functools.wraps(function)
        def inside(*args, **kwargs):
            with self._again():
                return function(*args, **kwargs)

        return inside

    def _again(self):
        again = StateContext()
        again.changes = self.changes
        return again

    def _decorate_coroutine(self, function):
        @functools.wraps(function)
        async def inside(*args, **kwargs):
            with self._again():
                return await function(*args, **kwargs)

        return inside

    def _decorate_generator(self, function):
        """The state holds while the generator's body runs, never while its consumer does."""

        @functools.wraps(function)
        def inside(*args, **kwargs):
            body = function(*args, **kwargs)
            step, value = body.send, None
            try:
                while True:
                    try:
                        with self._again():
                            item = step(value)
                    except StopIteration as stop:
                        return stop.value
                    try:
                        step, value = body.send, (yield item)
                    except GeneratorExit:
                        raise
                    except BaseException as error:
                        step, value = body.throw, error
            finally:
                body.close()

        return inside


class no_grad(StateContext):
    """Stop recording: results inside do not require gradients.

    Usable as `with cr.no_grad():` and as the decorator `@cr.no_grad()`.

    >>> w = cr.tensor([1.0, 2.0], requires_grad=True)
    >>> with cr.no_grad():
    ...     y = w * 2
    >>> y.requires_grad
    False
    """

    changes = {"record": False}


class enable_grad(StateContext):
    """Record again inside a `no_grad` block.

    >>> w = cr.tensor([1.0], requires_grad=True)
    >>> with cr.no_grad(), cr.enable_grad():
    ...     y = w * 2
    >>> y.requires_grad
    True
    """

    changes = {"record": True, "inference": False}


class inference_mode(StateContext):
    """Like `no_grad`, and results inside can never require a gradient later (`Tensor.is_inference`).

    >>> with cr.inference_mode():
    ...     y = cr.ones(2) * 3
    >>> y.is_inference()
    True
    """

    changes = {"record": False, "inference": True}

    def __init__(self, mode: bool = True):
        self.changes = {"record": not mode, "inference": bool(mode)}


class set_grad_enabled(StateContext):
    """Set recording to `mode`: at once when called, and until the end of the block in a `with` statement.

    >>> with cr.set_grad_enabled(False):
    ...     cr.is_grad_enabled()
    False
    """

    def __init__(self, mode: bool):
        self.changes = {"record": bool(mode)}
        self._before = state.get()
        state.set(self._before.replace(**self.changes))

    def __enter__(self):
        state.set(state.get().replace(**self.changes, entered=(self, self._before)))
        return self

    def __call__(self, function):
        state.set(self._before)
        return super().__call__(function)


class scope(StateContext):
    """Name the part of the program that records: nodes made inside carry the path of names (see `Node.path`).

    `nn.Module` enters one for each call, so that pictures and errors can say `LeNet5.features.0`.

    >>> x = cr.ones(2, requires_grad=True)
    >>> with cr.autograd.scope("encoder"):
    ...     y = x * 2
    >>> y.grad_fn.path
    'encoder'
    """

    def __init__(self, name: str):
        self.name = name

    def __enter__(self):
        scope.enter(self.name, self)
        return self

    def _again(self):
        return scope(self.name)

    @staticmethod
    def enter(name: str, by=None) -> State:
        """Enter the scope for a plain call, after which `leave` is given what this returns: the state before.

        A `with` statement does the same at twice the price, for code whose end may run elsewhere.
        """
        now = state.get()
        state.set(State(now.record, now.watch, now.inference, (now.scope, name), now.low, by and (by, now)))
        return now

    leave = staticmethod(state.set)


def scope_path(link: tuple | None) -> str:
    """'a.b.c' of the linked scopes (((None, 'a'), 'b'), 'c')."""
    names = []
    while link is not None:
        link, name = link
        names.append(name)
    return ".".join(reversed(names))


def is_grad_enabled() -> bool:
    """Whether operations are being recorded.

    >>> cr.is_grad_enabled()
    True
    """
    return state.get().record


def is_inference_mode_enabled() -> bool:
    """Whether `inference_mode` is on.

    >>> cr.is_inference_mode_enabled()
    False
    """
    return state.get().inference
