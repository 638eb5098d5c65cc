"""Module: a node of the tree of layers. It owns parameters, buffers and submodules, and computes `forward`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from ..autograd import Tensor, hold, is_floating, mimebundle, no_grad, scope, tensor
from .parameter import Parameter

M = TypeVar("M", bound="Module")


class Kind(Enum):
    """What a registered attribute is; a transient buffer is left out of the state_dict."""

    PARAMETER = "parameter"
    BUFFER = "buffer"
    TRANSIENT = "transient buffer"
    MODULE = "module"


BUFFERS = (Kind.BUFFER, Kind.TRANSIENT)
SAVED = (Kind.PARAMETER, Kind.BUFFER)


class IncompatibleKeys(NamedTuple):
    """The answer of `load_state_dict`: names that the module has and the file lacks, and the other way round."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class RemovableHandle:
    """Takes a hook away again, by `remove()` or at the end of a `with` block.

    >>> layer = cr.nn.ReLU()
    >>> handle = layer.register_forward_hook(lambda module, args, output: output + 1)
    >>> before, _ = layer(cr.zeros(1)).item(), handle.remove()
    >>> before, layer(cr.zeros(1)).item()
    (1.0, 0.0)
    """

    def __init__(self, hooks: dict):
        self._hooks = hooks

    def remove(self) -> None:
        """Remove the hook; a second call does nothing."""
        self._hooks.pop(self, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class Module:
    """The base of every layer and model: subclasses make their parts in `__init__` and compute in `forward`.

    Assigning a `Parameter`, a `Module` or (by `register_buffer`) a tensor registers it under the attribute's name.
    Everything that walks a module does so in the order of registration and visits a shared part once.

    An error raised inside `forward` carries a note with the module's path, such as `in LeNet5.c1: Conv2d(1, 6, …)`.

    >>> class Affine(cr.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.scale = cr.nn.Parameter(cr.ones(2))
    ...
    ...     def forward(self, x):
    ...         return self.scale * x
    >>> [name for name, _ in Affine().named_parameters()]
    ['scale']
    """

    training: bool
    _registry: dict[str, Kind]
    _name: str | None = None  # the attribute under which the parent registered this module

    def __init__(self) -> None:
        # Values live in __dict__ like any attribute, which keeps reading them cheap; the registry says what they are.
        self.__dict__.update(_registry={}, _forward_pre_hooks={}, _forward_hooks={}, training=True)

    if TYPE_CHECKING:  # registration makes attributes that no annotation names

        def __getattr__(self, name: str) -> Any: ...

    # ---- registration ------------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        registry = self.__dict__.get("_registry")
        if registry is None:
            raise AttributeError(
                f"{type(self).__name__}: received attribute {name!r} before Module.__init__ had run, so it cannot be "
                "registered; call super().__init__() first"
            )
        kind = registry.get(name)
        if isinstance(value, Parameter):
            self._register(name, value, Kind.PARAMETER)
        elif isinstance(value, Module):
            self._register(name, value, Kind.MODULE)
        elif kind is None:
            object.__setattr__(self, name, value)
        elif value is None or (kind in BUFFERS and isinstance(value, Tensor)):
            self._register(name, value, kind)
        else:
            expected = {Kind.PARAMETER: "nn.Parameter", Kind.MODULE: "nn.Module"}.get(kind, "tensor")
            raise TypeError(
                f"{type(self).__name__}.{name}: received {type(value).__name__}, but {name!r} is registered as a "
                f"{kind.value}; assign a {expected} or None, or del the attribute first"
            )

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._registry.pop(name, None)

    def _register(self, name: str, value: Any, kind: Kind) -> None:
        if self._registry.get(name, kind) is not kind:
            del self._registry[name]
        self._registry[name] = kind
        object.__setattr__(self, name, value)
        if kind is Kind.MODULE and value is not None:
            object.__setattr__(value, "_name", name)

    def _register_new(self, name: str, value: Any, kind: Kind, type_: type) -> None:
        where = f"{type(self).__name__}: received the name {name!r} for a {kind.value}"
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"{where}; names are joined by dots into paths, so give a non-empty string without a dot")
        if hasattr(self, name) and name not in self._registry:
            raise ValueError(f"{where}, which is already an attribute; choose another name")
        if value is not None and not isinstance(value, type_):
            raise TypeError(f"{where} with a value of type {type(value).__name__}; give a {type_.__name__} or None")
        self._register(name, value, kind)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Register a parameter under a name that is not an attribute yet; None reserves the name."""
        self._register_new(name, param, Kind.PARAMETER, Parameter)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register a tensor that is state but is not trained; `persistent=False` leaves it out of the state_dict.

        >>> module = cr.nn.Module()
        >>> module.register_buffer("mean", cr.zeros(3))
        >>> list(module.state_dict())
        ['mean']
        """
        self._register_new(name, tensor, Kind.BUFFER if persistent else Kind.TRANSIENT, Tensor)

    def add_module(self, name: str, module: Module | None) -> None:
        """Register a submodule under a name that need not be an identifier, such as `'0'`."""
        self._register_new(name, module, Kind.MODULE, Module)

    # ---- walking -----------------------------------------------------------------------------------------------------

    def _own(self, *kinds: Kind) -> Iterator[tuple[str, Any]]:
        for name, kind in self._registry.items():
            if kind in kinds and self.__dict__[name] is not None:
                yield name, self.__dict__[name]

    def _modules(self) -> list[Module]:
        """The submodules, as fast as may be."""
        own = self.__dict__
        return [own[name] for name, kind in self._registry.items() if kind is Kind.MODULE and own[name] is not None]

    def _tree(self, prefix: str = "", seen: set | None = None) -> Iterator[tuple[str, Module]]:
        """Yield (path, module) for every module below, parents first; with a set `seen`, each module once."""
        stack = [(prefix, self)]
        while stack:
            path, module = stack.pop()
            if seen is not None:
                if id(module) in seen:
                    continue
                seen.add(id(module))
            yield path, module
            stack.extend([(_join(path, name), child) for name, child in module._own(Kind.MODULE)][::-1])

    def _named(self, prefix: str, recurse: bool, *kinds: Kind) -> Iterator[tuple[str, Any]]:
        seen = set()
        for path, module in self._tree(prefix, set()) if recurse else [(prefix, self)]:
            for name, value in module._own(*kinds):
                if id(value) not in seen:
                    seen.add(id(value))
                    yield _join(path, name), value

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Yield (path, parameter), each parameter once.

        >>> [name for name, _ in cr.nn.Sequential(cr.nn.Linear(2, 3), cr.nn.ReLU()).named_parameters()]
        ['0.weight', '0.bias']
        """
        return self._named(prefix, recurse, Kind.PARAMETER)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Yield each parameter once."""
        return (value for _, value in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """Yield (path, buffer), each buffer once."""
        return self._named(prefix, recurse, *BUFFERS)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Yield each buffer once."""
        return (value for _, value in self.named_buffers(recurse=recurse))

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield (name, module) of the direct submodules, each module once."""
        return self._named("", False, Kind.MODULE)

    def children(self) -> Iterator[Module]:
        """Yield each direct submodule once."""
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield (path, module) of this module and all below it, parents first, each module once."""
        return self._tree(prefix, set())

    def modules(self) -> Iterator[Module]:
        """Yield this module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def get_submodule(self, target: str) -> Module:
        """Return the module at a dotted path; the empty path is this module itself.

        >>> net = cr.nn.Sequential(cr.nn.Sequential(cr.nn.ReLU()))
        >>> net.get_submodule("0.0")
        ReLU()
        """
        module: Module = self
        for name in target.split(".") if target else []:
            children = dict(module._own(Kind.MODULE))
            if name not in children:
                raise AttributeError(
                    f"{type(self).__name__}: received the path {target!r}, but {type(module).__name__} has no "
                    f"submodule {name!r}; it has {', '.join(children) or 'none'}"
                )
            module = children[name]
        return module

    # ---- calling -----------------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the module's result; every subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} was called but has no forward; define forward(self, …)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        hold(self._held)
        before = scope.enter(self._name or type(self).__name__)
        try:
            if self._forward_pre_hooks or self._forward_hooks:
                return self._call_with_hooks(args, kwargs)
            return self.forward(*args, **kwargs)
        except Exception as error:
            _locate(error, self)
            raise
        finally:
            scope.leave(before)

    def _held(self) -> list:
        """What a call depends on besides values."""
        own = self.__dict__
        return [*own.values(), *own["_forward_pre_hooks"].values(), *own["_forward_hooks"].values()]

    def _call_with_hooks(self, args: tuple, kwargs: dict) -> Any:
        for hook in list(self._forward_pre_hooks.values()):
            changed = hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        output = self.forward(*args, **kwargs)
        for hook in list(self._forward_hooks.values()):
            changed = hook(self, args, output)
            if changed is not None:
                output = changed
        return output

    def register_forward_pre_hook(self, hook: Callable[[Any, tuple], Any]) -> RemovableHandle:
        """Call `hook(module, args)` before each `forward`; what it returns, if not None, replaces the arguments."""
        return _add(self._forward_pre_hooks, hook)

    def register_forward_hook(self, hook: Callable[[Any, tuple, Any], Any]) -> RemovableHandle:
        """Call `hook(module, args, output)` after each `forward`; what it returns, if not None, replaces the output.

        >>> layer, shapes = cr.nn.Linear(2, 3), []
        >>> with layer.register_forward_hook(lambda module, args, output: shapes.append(output.shape)):
        ...     _ = layer(cr.ones(5, 2))
        >>> shapes
        [(5, 3)]
        """
        return _add(self._forward_hooks, hook)

    # ---- changing ----------------------------------------------------------------------------------------------------

    def train(self: M, mode: bool = True) -> M:
        """Put this module and all below it into training mode (dropout drops, batch norm uses the batch)."""
        if not isinstance(mode, bool):
            raise TypeError(f"train: received mode={mode!r}; it switches a mode on or off, so pass True or False")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """Put this module and all below it into evaluation mode: `train(False)`."""
        return self.train(False)

    def apply(self: M, fn: Callable[[Module], Any]) -> M:
        """Call `fn` on every module, children before their parent; return this module."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Make every parameter record its gradient, or stop them all."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradient of every parameter, or fill it with zeros."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad = parameter.grad.detach() * 0

    def to(self: M, *args: Any, **kwargs: Any) -> M:
        """Move every parameter and buffer to a device and those of floating point to a dtype, in place.

        Takes `to(device)`, `to(dtype)`, `to(device, dtype)` or `to(tensor)`. The parameters stay the same objects: an
        optimiser made before goes on working. A dtype that is not of floating point raises TypeError.

        >>> cr.nn.Linear(2, 2).to(cr.float64).weight.dtype
        dtype('float64')
        """
        device, dtype = _device_and_dtype(*args, **kwargs)
        for value in [*self.parameters(), *self.buffers()]:
            as_dtype = dtype if is_floating(value.dtype) else None
            value.data = value.detach().to(device=device, dtype=as_dtype)
            if value.grad is not None:
                value.grad = value.grad.to(device=device, dtype=as_dtype)
        return self

    def cuda(self: M) -> M:
        """Move every parameter and buffer to the GPU."""
        return self.to(device="cuda")

    def cpu(self: M) -> M:
        """Move every parameter and buffer to the CPU."""
        return self.to(device="cpu")

    def float(self: M) -> M:
        """Turn every parameter and buffer of floating point into float32."""
        return self.to(dtype=np.float32)

    def double(self: M) -> M:
        """Turn every parameter and buffer of floating point into float64."""
        return self.to(dtype=np.float64)

    # ---- state -------------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Tensor]:
        """Return the live tensors; a part that is shared appears under each of its names."""
        tree = [(path, module._own(kind)) for path, module in self._tree() for kind in SAVED]
        return {_join(path, name): value for path, own in tree for name, value in own}

    def state_dict(self, *, prefix: str = "") -> dict[str, Tensor]:
        """Return every parameter and persistent buffer by its path, detached and sharing memory with the module.

        The names and layouts are PyTorch's, so files travel both ways; `prefix` is put before every name.

        >>> {name: value.shape for name, value in cr.nn.Linear(2, 3).state_dict().items()}
        {'weight': (3, 2), 'bias': (3,)}
        """
        return {prefix + name: value.detach() for name, value in self._state().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy tensors or arrays into the parameters and buffers of the same names.

        Everything is checked before anything is written: a name that is missing or unexpected (unless `strict=False`),
        a shape that differs, or a dtype that cannot be converted within its kind (float64 to float32 is fine, float to
        integer is not) raises RuntimeError and leaves the module as it was.

        >>> a, b = cr.nn.Linear(2, 3), cr.nn.Linear(2, 3)
        >>> b.load_state_dict(a.state_dict())
        IncompatibleKeys(missing_keys=[], unexpected_keys=[])
        """
        own = self._state()
        keys = IncompatibleKeys([n for n in own if n not in state_dict], [n for n in state_dict if n not in own])
        received = {name: _as_tensor(state_dict[name]) for name in own if name in state_dict}
        problems = [problem for name in received if (problem := _misfit(name, received[name], own[name]))]
        if strict:
            problems += [f"{name}: missing, expected {_describe(own[name])}" for name in keys.missing_keys]
            problems += [f"{name}: unexpected, the module has nothing of that name" for name in keys.unexpected_keys]
        problems = [f"\n  {type(self).__name__}.{problem}" for problem in problems]
        if problems:
            raise RuntimeError(
                f"{type(self).__name__}: received a state_dict that does not fit, and nothing was loaded:"
                f"{''.join(problems)}\nBuild the module with the sizes that the state was saved with"
                f"{', or pass strict=False to load the names that match' if strict else ''}."
            )
        with no_grad():
            for name, value in received.items():
                own[name].copy_(value)
        return keys

    # ---- showing -----------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """Return what stands between the parentheses of the module's line in `repr`."""
        return ""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict:
        return mimebundle(self)

    def __repr__(self) -> str:
        extra = self.extra_repr()
        children = [f"({name}): {_indent(repr(child))}" for name, child in self._own(Kind.MODULE)]
        if not children:
            return f"{type(self).__name__}({_indent(extra)})"
        return f"{type(self).__name__}(\n  " + "\n  ".join(([extra] if extra else []) + children) + "\n)"


def in_place_of(module: Module, forward: Callable[..., Any], *args: Any) -> Any:
    """Return forward(module, *args) under the module's name, as a call of the module returns its own forward's."""
    before = scope.enter(module._name or type(module).__name__)
    try:
        return forward(module, *args)
    except Exception as error:
        _locate(error, module)
        raise
    finally:
        scope.leave(before)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _indent(text: str) -> str:
    return text.replace("\n", "\n  ")


def _add(hooks: dict, hook: Callable) -> RemovableHandle:
    handle = RemovableHandle(hooks)
    hooks[handle] = hook
    return handle


def _locate(error: Any, module: Module) -> None:
    """Keep one note on the error, which grows to the left as the error leaves one module after the other."""
    name, notes = module._name or type(module).__name__, getattr(error, "__notes__", [])
    path, line = getattr(error, "module_path", None), getattr(error, "module_line", None)
    if f"in {path}: {line}" in notes:
        notes.remove(f"in {path}: {line}")
        name = f"{name}.{path}"
    else:
        error.module_line = line = f"{type(module).__name__}({module.extra_repr()})"
    error.module_path = name
    error.add_note(f"in {name}: {line}")


def _device_and_dtype(*args: Any, device: Any = None, dtype: Any = None) -> tuple[Any, np.dtype | None]:
    for arg in args:
        if isinstance(arg, Tensor):
            device, dtype = arg.device, arg.dtype
        elif isinstance(arg, np.dtype | type):
            dtype = arg
        else:
            device = arg
    if dtype is not None and not is_floating(np.dtype(dtype)):
        raise TypeError(
            f"Module.to: received dtype {np.dtype(dtype)}, but parameters need derivatives and so must be of floating "
            "point; pass cr.float32 or cr.float64"
        )
    return device, None if dtype is None else np.dtype(dtype)


def _as_tensor(value: Any) -> Any:
    """The value as a tensor if it is an array, PyTorch's tensors included."""
    if isinstance(value, Tensor) or not hasattr(value, "__array__"):
        return value
    return tensor(np.asarray(value.detach().cpu() if hasattr(value, "detach") else value))


def _describe(value: Any) -> str:
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


def _misfit(name: str, received: Any, expected: Tensor) -> str | None:
    alike = isinstance(received, Tensor) and received.shape == expected.shape
    if alike and np.can_cast(received.dtype, expected.dtype, "same_kind"):
        return None
    return f"{name}: received {_describe(received)}, expected {_describe(expected)}"
