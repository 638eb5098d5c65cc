"""The base of all optimisers: parameter groups, state, checks, and the one loop of `step`."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from numbers import Real
from typing import Any

from ...autograd import Tensor, enable_grad, forget_captured, hold, kernels_of, note_write, tensor, zeros_like

_AT_LEAST_0 = ("at least 0", lambda v: v >= 0)

# Hyper-parameter -> (rule in words, rule, a usual value). Checked when a group is added or loaded, and again before
# every step, because users and schedules write into the groups.
_RULES: dict[str, tuple[str, Callable[[float], bool], object]] = {
    "lr": (*_AT_LEAST_0, 1e-3),
    "momentum": (*_AT_LEAST_0, 0.9),
    "dampening": ("a finite number", math.isfinite, 0),
    "weight_decay": (*_AT_LEAST_0, 0),
    "eps": (*_AT_LEAST_0, 1e-8),
    "lr_decay": (*_AT_LEAST_0, 0),
    "initial_accumulator_value": (*_AT_LEAST_0, 0),
    "alpha": (*_AT_LEAST_0, 0.99),
    "rho": ("between 0 and 1", lambda v: 0 <= v <= 1, 0.9),
    "betas": ("at least 0 and below 1", lambda v: 0 <= v < 1, (0.9, 0.999)),
}


class Job:
    """Parameters on one device that move alike: the same options, the same count of steps, state that is new or not."""

    def __init__(self, kernels: Any, group: dict[str, Any], first: bool):
        self.kernels, self.group, self.first = kernels, group, first
        self.parameters: list[Tensor] = []
        self.gradients: list[Tensor] = []
        self.states: list[dict[str, Tensor]] = []

    def add(self, p: Tensor, gradient: Tensor, state: dict[str, Tensor]) -> None:
        self.parameters.append(p)
        self.gradients.append(gradient)
        self.states.append(state)

    @property
    def arrays(self) -> tuple[list, list]:
        """The parameters' arrays and their gradients'."""
        return [p.array for p in self.parameters], [g.array for g in self.gradients]

    def slot(self, name: str, used: object = True) -> list | None:
        """The arrays of a state, None if it is not used."""
        return [state[name].array for state in self.states] if used else None

    def count(self) -> None:
        """One step more."""
        for state in self.states:
            count = state["step"].array
            count[()] = count.item() + 1  # += 1 takes NumPy ten times as long

    @property
    def step(self) -> int:
        """Which step this is, from 1."""
        return int(self.states[0]["step"].array)

    def number(self, read: Callable[[], float]) -> Any:
        """A number that may change from step to step; see `cr.capture`."""
        return self.kernels.live(read)


class Optimizer:
    """Holds parameter groups and their state; a subclass names its state tensors and says how one parameter moves.

    params: an iterable of leaf tensors, of `(name, tensor)` pairs, or of dicts `{"params": …, "lr": …}`;
    defaults: the hyper-parameters of a group that does not state its own.
    Structure and names are those of `torch.optim.Optimizer`. `step` checks every gradient and every hyper-parameter
    before it writes anything: an error leaves all parameters as they were.

    >>> from chainrule import optim
    >>> w = cr.tensor([1.0, 2.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist() == np.float32([0.8, 1.6]).tolist()
    True
    """

    def __init__(self, params: Iterable, defaults: dict[str, Any]):
        if isinstance(params, Tensor) or not isinstance(params, Iterable):
            raise TypeError(
                f"{self._name} received {_kind(params)} as params; it needs an iterable of tensors or of groups. "
                "Pass model.parameters(), or [tensor] for a single one."
            )
        if isinstance(params, set | frozenset):
            raise TypeError(
                f"{self._name} received a set as params; a set has no order, so its state could not be saved and "
                "restored. Pass a list."
            )
        self.defaults = dict(defaults)
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self.stepped = False
        groups = list(params)
        if not groups:
            raise ValueError(
                f"{self._name} received no parameters, so it would train nothing. Pass model.parameters() of a model "
                "that has some (a generator can be used only once)."
            )
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    # What a subclass says: the names of its state tensors, whether it counts steps, and its update.
    _counts_steps = True

    def _slots(self, group: dict) -> tuple[str, ...]:
        raise NotImplementedError

    def _update(self, kernels: Any, job: Job) -> None:
        """Move the arrays of a job."""
        raise NotImplementedError

    def _check_group(self, group: dict) -> None:
        for name in self.defaults:
            if name not in _RULES:
                continue
            rule, holds, usual = _RULES[name]
            value = group[name]
            if type(value) in (float, int) and holds(value):
                continue
            for number in value if name == "betas" else (value,):
                if type(number) is not float and not isinstance(number, Real):
                    raise TypeError(
                        f"{self._name} received {name}={value!r}, of type {type(number).__name__}, which is not a "
                        f"Python number. Pass {name}={usual}, say (of a tensor: .item())."
                    )
                if not holds(float(number)):
                    raise ValueError(
                        f"{self._name} received {name}={value!r}; {name} must be {rule}. Pass {name}={usual}, say."
                    )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with its own hyper-parameters (for example layers unfrozen later)."""
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise TypeError(
                f"{self._name} received as a parameter group {_kind(param_group)} without 'params'; a group is a dict "
                'of parameters and their options. Pass {"params": [tensors], "lr": …}.'
            )
        members = [param_group["params"]] if isinstance(param_group["params"], Tensor) else param_group["params"]
        named = [member if isinstance(member, tuple) else ("", member) for member in members]
        group = {**self.defaults, **param_group, "params": [p for _, p in named]}
        if any(name for name, _ in named):
            group["param_names"] = [name for name, _ in named]
        known = {id(p) for p in self._parameters()}
        for i, p in enumerate(group["params"]):
            self._check_parameter(p, f"parameter {i} of group {len(self.param_groups)}", known)
            known.add(id(p))
        self._check_group(group)
        self.param_groups.append(group)
        forget_captured()

    def _held(self) -> list:
        """The options but for learning rates, which replays read anew, and the states."""
        options = [value for group in self.param_groups for name, value in group.items() if name != "lr"]
        return [*self.param_groups, *options, *self.state.values(), *self._as_often()]

    def _as_often(self) -> list:
        """For each state that counts steps, the first that has counted as many: by these a replay's jobs are made."""
        first: dict[float, dict] = {}
        counting = [state for state in self.state.values() if "step" in state] if self._counts_steps else []
        return [first.setdefault(float(state["step"].array), state) for state in counting]

    def _check_parameter(self, p: Any, where: str, known: set[int]) -> None:
        if not isinstance(p, Tensor):
            raise TypeError(f"{self._name} can optimise tensors; {where} is {_kind(p)}. Pass model.parameters().")
        if not p.is_leaf:
            raise ValueError(
                f"{self._name} received a computed tensor of shape {tuple(p.shape)} as {where}; backward() fills only "
                "the gradients of leaves. Pass the leaf it was computed from, or .detach().requires_grad_()."
            )
        if not p.is_floating_point():
            raise TypeError(
                f"{self._name} received {where} of dtype {p.dtype}, which has no gradient. Pass floating-point tensors."
            )
        if id(p) in known:
            raise ValueError(
                f"{self._name} received {where} twice; it would be moved twice per step. List every parameter once."
            )

    def _parameters(self) -> Iterator[Tensor]:
        return itertools.chain.from_iterable(group["params"] for group in self.param_groups)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients: `.grad` becomes None, or zeros with `set_to_none=False`."""
        for p in self._parameters():
            if p.grad is not None:
                p.grad = None if set_to_none else zeros_like(p.grad)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient once; `closure`, if given, is called first and its loss returned."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        hold(self._held)
        moving: list[tuple[int, Tensor, Tensor]] = []
        for i, group in enumerate(self.param_groups):
            self._check_group(group)
            for at, p in enumerate(group["params"]):
                gradient = p.grad
                if gradient is not None:
                    self._check_arrays(i, group, at, p, gradient)
                    moving.append((i, p, gradient))
        jobs: dict[tuple, Job] = {}
        for i, p, gradient in moving:  # all of them are sound: from here on things change
            group, kernels = self.param_groups[i], kernels_of(p)
            state, first = self._state_of(p, group)
            alike = i, kernels, first, kernels.aside(state["step"].array.item) if self._counts_steps else 0
            job = jobs.get(alike)
            if job is None:
                job = jobs[alike] = Job(kernels, group, first)
            job.add(p, gradient, state)
        for job in jobs.values():
            if self._counts_steps:
                job.kernels.each_time(job.count)
            self._update(job.kernels, job)
            note_write(*job.parameters)
        self.stepped = True
        return loss

    def _check_arrays(self, index: int, group: dict, at: int, p: Tensor, gradient: Tensor) -> None:
        array = p.array
        if not _alike(gradient.array, array):
            name = group["param_names"][at] if "param_names" in group else f"{at} of group {index}"
            raise ValueError(
                f"{self._name} received for parameter {name} (shape {tuple(p.shape)}, {p.dtype}, {p.device}) a "
                f"gradient of shape {tuple(gradient.shape)}, {gradient.dtype}, on {gradient.device}; they must agree. "
                "No parameter was changed. Assign to .grad a tensor like the parameter, or let backward() fill it."
            )
        for name, held in self.state[p].items():
            if name != "step" and not _alike(held.array, array):
                raise ValueError(
                    f"{self._name} holds state for a parameter that is now {p.dtype} of shape {tuple(p.shape)} on "
                    f"{p.device}; they must agree. No parameter was changed. After model.to(…), call "
                    "optimizer.load_state_dict(optimizer.state_dict()) to convert the state too."
                )

    def _state_of(self, p: Tensor, group: dict) -> tuple[dict[str, Tensor], bool]:
        """A parameter's state, made where it is missing, and whether it is new."""
        state, first = self.state[p], False
        for name in self._slots(group):
            if name not in state:
                state[name], first = zeros_like(p.detach()), True
        if self._counts_steps and "step" not in state:
            state["step"] = tensor(0.0, device="cpu")
        return state, first

    def state_dict(self) -> dict[str, Any]:
        """Return `{"state": {index: {name: tensor}}, "param_groups": [{…, "params": [indices]}]}`, as PyTorch does.

        The tensors are those in use, not copies; `load_state_dict` copies.
        """
        index = {id(p): i for i, p in enumerate(self._parameters())}
        groups = [{**group, "params": [index[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": {index[id(p)]: dict(s) for p, s in self.state.items() if s}, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a copy of a saved state, ours or PyTorch's; an error leaves this optimiser unchanged."""
        if not isinstance(state_dict, dict) or not {"state", "param_groups"} <= state_dict.keys():
            raise ValueError(
                f"{self._name}.load_state_dict received {_kind(state_dict)} without 'state' and 'param_groups'; "
                "that is not an optimiser's state. Pass what optimizer.state_dict() returned."
            )
        saved = state_dict["param_groups"]
        sizes, wanted = ([len(g["params"]) for g in groups] for groups in (saved, self.param_groups))
        if sizes != wanted:
            raise ValueError(
                f"{self._name}.load_state_dict received groups of {sizes} parameters, but this optimiser has {wanted}. "
                "Build it over the same model, with the same groups, before loading."
            )
        groups = [{**own, **new, "params": own["params"]} for own, new in zip(self.param_groups, saved)]
        for group in groups:
            self._check_group(group)
        ids = itertools.chain.from_iterable(g["params"] for g in saved)
        owner = {i: (p, g) for i, (p, g) in zip(ids, ((p, g) for g in groups for p in g["params"]))}
        state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)
        for i, entries in state_dict["state"].items():
            if i not in owner:
                raise ValueError(
                    f"{self._name}.load_state_dict received state for parameter {i!r}, but the parameters are "
                    f"{list(owner)}. Pass an unaltered state_dict()."
                )
            p, group = owner[i]
            state[p] = self._own_state(i, p, group, entries)
        self.state, self.param_groups = state, groups
        forget_captured()

    def _own_state(self, i: int, p: Tensor, group: dict, entries: dict[str, Any]) -> dict[str, Tensor]:
        own = {}
        entries = {name: value for name, value in entries.items() if value is not None}
        for name in (*self._slots(group), "step") if self._counts_steps else self._slots(group):
            if name not in entries:
                if not entries:  # a parameter that never had a gradient
                    return {}
                raise ValueError(
                    f"{self._name}.load_state_dict found no {name!r} in the state of parameter {i}, only "
                    f"{sorted(entries)}. It was saved by another kind of optimiser, or with other options: build the "
                    "same one."
                )
            value = entries[name]
            if name == "step":
                own[name] = tensor(float(value), device="cpu")
            elif tuple(value.shape) != tuple(p.shape):
                raise ValueError(
                    f"{self._name}.load_state_dict received {name!r} of shape {tuple(value.shape)} for parameter {i} "
                    f"of shape {tuple(p.shape)}. Load a state that was saved with this model."
                )
            else:
                own[name] = value.detach().to(p.device).to(p.dtype).clone()
        return own

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        lines = [f"{self._name} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter group {i}: {sum(p.numel() for p in group['params']):,} parameters")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name not in ("params", "param_names")]
        return "\n".join([*lines, ")"])


def _alike(x: Any, y: Any) -> bool:
    """Whether two arrays have one shape, dtype and device."""
    return type(x) is type(y) and (x.dtype is y.dtype or x.dtype == y.dtype) and x.shape == y.shape


def _kind(x: Any) -> str:
    return f"an object of type {type(x).__name__}"
