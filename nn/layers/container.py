"""Modules that hold modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ...autograd import hold
from ..module import Kind, Module
from .fusion import run_at

__all__ = ["ModuleDict", "ModuleList", "Sequential"]


class _Container(Module):
    """A module whose submodules are its items, in order of registration."""

    def _items(self) -> dict[str, Module]:
        return dict(self._own(Kind.MODULE))

    def __len__(self) -> int:
        return len(self._items())

    def __contains__(self, item: Any) -> bool:
        return any(item is module for module in self._items().values())


class _Indexed(_Container):
    """A container whose items have positions; new ones are named by their number."""

    def __iter__(self) -> Iterator[Module]:
        return iter(self._items().values())

    def _name_at(self, index: int) -> str:
        names = list(self._items())
        if not -len(names) <= index < len(names):
            raise IndexError(
                f"{type(self).__name__}: received index {index}, but it holds {len(names)} modules; "
                f"pass {-len(names)} <= index < {len(names)}"
            )
        return names[index]

    def __getitem__(self, index: int | slice) -> Any:
        items = self._items()
        if isinstance(index, slice):
            return self._like(list(items.items())[index])
        return items[self._name_at(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._name_at(index), module)

    def __delitem__(self, index: int | slice) -> None:
        names = list(self._items())
        for name in names[index] if isinstance(index, slice) else [self._name_at(index)]:
            delattr(self, name)
        self._renumber()

    def append(self, module: Module) -> Any:
        """Add a module at the end and return the container."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add modules at the end and return the container."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Put a module before the one at `index` and return the container."""
        modules = list(self)
        modules.insert(index, module)
        for name in self._items():
            delattr(self, name)
        return self.extend(modules)

    def _renumber(self) -> None:
        """Close the gaps in the numbers; names that are words stay."""
        items = self._items()
        if all(name.isdigit() for name in items):
            for name in items:
                delattr(self, name)
            self.extend(items.values())

    def _like(self, items: list[tuple[str, Module]]) -> _Indexed:
        raise NotImplementedError


class Sequential(_Indexed):
    """Call modules one after the other, each on the result of the one before: f(x) = fₙ(…f₂(f₁(x))).

    Takes modules, or one mapping of names to modules. A Linear or Conv2d with a ReLU, Tanh or Sigmoid behind it, and
    for the second a max- or average pooling over windows side by side, is one operation of the graph, unless one of
    them has a hook.

    >>> net = cr.nn.Sequential(cr.nn.Linear(2, 3), cr.nn.ReLU(), cr.nn.Linear(3, 1))
    >>> net(cr.ones(5, 2)).shape, len(net), net[1]
    ((5, 1), 3, ReLU())
    """

    def __init__(self, *args: Any):
        super().__init__()
        named = args[0] if len(args) == 1 and isinstance(args[0], Mapping) else {str(i): m for i, m in enumerate(args)}
        for name, module in named.items():
            self.add_module(name, module)

    def forward(self, input: Any) -> Any:
        """Return the last module's result."""
        modules, at = self._modules(), 0
        while at < len(modules):
            input, count = run_at(modules, at, input)
            for module in modules[at : at + count] if count > 1 else ():  # which were not called by themselves
                hold(module._held)
            at += count
        return input

    def _like(self, items: list[tuple[str, Module]]) -> Sequential:
        return Sequential(dict(items))


class ModuleList(_Indexed):
    """A list of modules, each registered under its number; it has no forward of its own.

    >>> layers = cr.nn.ModuleList([cr.nn.Linear(2, 2) for _ in range(3)])
    >>> len(layers), [name for name, _ in layers.named_parameters()][:2]
    (3, ['0.weight', '0.bias'])
    """

    def __init__(self, modules: Iterable[Module] = ()):
        super().__init__()
        self.extend(modules)

    def _like(self, items: list[tuple[str, Module]]) -> ModuleList:
        return ModuleList(module for _, module in items)


class ModuleDict(_Container):
    """A dictionary of modules, each registered under its key; it has no forward of its own.

    >>> heads = cr.nn.ModuleDict({"age": cr.nn.Linear(4, 1), "name": cr.nn.Linear(4, 9)})
    >>> list(heads), heads["age"](cr.ones(2, 4)).shape
    (['age', 'name'], (2, 1))
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()):
        super().__init__()
        self.update(modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._items())

    def __contains__(self, key: Any) -> bool:
        return key in self._items()

    def __getitem__(self, key: str) -> Module:
        items = self._items()
        if key not in items:
            raise KeyError(f"ModuleDict: received the key {key!r}, which it lacks; it has {', '.join(items) or 'none'}")
        return items[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    def pop(self, key: str) -> Module:
        """Take a module out and return it."""
        module = self[key]
        delattr(self, key)
        return module

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace modules."""
        for key, module in dict(modules).items():
            self[key] = module

    def keys(self) -> Iterable[str]:
        """Return the names."""
        return self._items().keys()

    def values(self) -> Iterable[Module]:
        """Return the modules."""
        return self._items().values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """Return the pairs of name and module."""
        return self._items().items()
