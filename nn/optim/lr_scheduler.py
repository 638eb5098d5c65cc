"""Learning-rate schedules, equal to those of `torch.optim.lr_scheduler`.

A schedule sets the rate of every parameter group when it is made and at each `step()`, which follows
`optimizer.step()`: once per epoch, or once per batch for `OneCycleLR`. t counts those steps from 0.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from .optimizer import Optimizer


class LRScheduler:
    """The base: counts steps in `last_epoch` and writes what `get_lr` returns, one rate per group.

    last_epoch: −1 to start; on resuming, make the schedule as at first and use `load_state_dict`.

    >>> from chainrule import optim
    >>> class Inverse(optim.lr_scheduler.LRScheduler):
    ...     def get_lr(self):
    ...         return [base / (1 + self.last_epoch) for base in self.base_lrs]
    >>> optimizer = optim.SGD([cr.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = Inverse(optimizer)
    >>> optimizer.step(); schedule.step(); schedule.get_last_lr()
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"{type(self).__name__} received an object of type {type(optimizer).__name__} as optimizer; it sets "
                "the rates of an optim.Optimizer. Pass the optimiser itself."
            )
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise ValueError(
                    f"{type(self).__name__} received last_epoch={last_epoch}, but parameter group {i} has no "
                    "'initial_lr' to continue from. Load the optimiser's state first, or leave last_epoch at -1."
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch + 1
        self._write(self.first_lr() if last_epoch == -1 else self.get_lr())

    def first_lr(self) -> list[float]:
        """Return the rates of t = 0: those that the groups have."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def get_lr(self) -> list[float]:
        """Return the rates at t = `last_epoch`."""
        raise NotImplementedError

    def step(self) -> None:
        """Advance t by one and set the rates."""
        if self.last_epoch == 0 and not self.optimizer.stepped:
            warnings.warn(
                f"{type(self).__name__}.step() came before the first optimizer.step(), so the schedule's first rate "
                "is skipped. Call optimizer.step() first.",
                stacklevel=2,
            )
        self.last_epoch += 1
        self._write(self.get_lr())

    def _write(self, rates: list[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates):
            group["lr"] = rate
        self._last_lr = rates

    def get_last_lr(self) -> list[float]:
        """Return the rates last set, one per group."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """Return what the schedule needs to continue (its optimiser's state is separate)."""
        return {name: value for name, value in self.__dict__.items() if name not in ("optimizer", "lr_lambdas")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state from `state_dict()` of a schedule of the same class."""
        if state_dict.keys() != self.state_dict().keys():
            raise ValueError(
                f"{type(self).__name__}.load_state_dict received {sorted(state_dict)}, but this schedule's state is "
                f"{sorted(self.state_dict())}. Load a state that was saved from a {type(self).__name__}."
            )
        self.__dict__.update(state_dict)


class LambdaLR(LRScheduler):
    r"""Multiply the initial rate by a function of t: $\eta_t = \eta_0\, f(t)$.

    lr_lambda: a function, or one per parameter group. Functions are not saved by `state_dict`.

    >>> from chainrule import optim
    >>> optimizer = optim.SGD([cr.zeros(1, requires_grad=True)], lr=0.8)
    >>> schedule = optim.lr_scheduler.LambdaLR(optimizer, lambda t: 0.5**t)
    >>> optimizer.step(); schedule.step(); schedule.get_last_lr()
    [0.4]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ):
        groups = len(optimizer.param_groups)
        self.lr_lambdas = list(lr_lambda) if isinstance(lr_lambda, list | tuple) else [lr_lambda] * groups
        if len(self.lr_lambdas) != groups:
            raise ValueError(
                f"LambdaLR received {len(self.lr_lambdas)} functions for {groups} parameter groups. Pass one function, "
                "or one per group."
            )
        super().__init__(optimizer, last_epoch)

    def first_lr(self) -> list[float]:
        """Return η₀ f(0)."""
        return self.get_lr()

    def get_lr(self) -> list[float]:
        """Return η₀ f(t)."""
        return [base * f(self.last_epoch) for base, f in zip(self.base_lrs, self.lr_lambdas)]


class StepLR(LRScheduler):
    r"""Multiply the rate by γ every `step_size` steps: $\eta_t = \eta_0\,\gamma^{\lfloor t / s\rfloor}$.

    >>> from chainrule import optim
    >>> optimizer = optim.SGD([cr.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates += schedule.get_last_lr()
    ...     optimizer.step(); schedule.step()
    >>> rates
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1):
        self.step_size, self.gamma = _positive("StepLR", "step_size", step_size), gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the current rates, times γ when t is a multiple of `step_size`."""
        factor = self.gamma if self.last_epoch % self.step_size == 0 else 1
        return [group["lr"] * factor for group in self.optimizer.param_groups]


class MultiStepLR(LRScheduler):
    r"""Multiply the rate by γ at each milestone: $\eta_t = \eta_0\,\gamma^{\#\{m \le t\}}$.

    >>> from chainrule import optim
    >>> optimizer = optim.SGD([cr.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = optim.lr_scheduler.MultiStepLR(optimizer, milestones=[1, 3], gamma=0.5)
    >>> for _ in range(3):
    ...     optimizer.step(); schedule.step()
    >>> schedule.get_last_lr()
    [0.25]
    """

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1):
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the current rates, times γ for every milestone at t."""
        factor = self.gamma ** self.milestones.count(self.last_epoch)
        return [group["lr"] * factor for group in self.optimizer.param_groups]


class CosineAnnealingLR(LRScheduler):
    r"""Half a cosine from the initial rate to `eta_min` in `T_max` steps.

    $$\eta_t = \eta_{\min} + \tfrac12(\eta_0 - \eta_{\min})\left(1 + \cos\frac{\pi t}{T_{\max}}\right)$$

    Computed, as in PyTorch, from the rate before, so that other schedules may act on the same optimiser.
    Source: Loshchilov, Hutter 2017, "SGDR".

    >>> from chainrule import optim
    >>> optimizer = optim.SGD([cr.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    >>> for _ in range(2):
    ...     optimizer.step(); schedule.step()
    >>> round(schedule.get_last_lr()[0], 6)
    0.5
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1):
        self.T_max, self.eta_min = _positive("CosineAnnealingLR", "T_max", T_max), eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the rates at t, from those at t − 1."""
        t, T, low = self.last_epoch, self.T_max, self.eta_min
        rates = self.first_lr()
        if (t - 1 - T) % (2 * T) == 0:  # the step after a minimum: its rate says nothing about the one to climb to
            return [rate + (base - low) * (1 - math.cos(math.pi / T)) / 2 for rate, base in zip(rates, self.base_lrs)]
        factor = (1 + math.cos(math.pi * t / T)) / (1 + math.cos(math.pi * (t - 1) / T))
        return [low + factor * (rate - low) for rate in rates]


class OneCycleLR(LRScheduler):
    r"""One rise of the rate to `max_lr` and one long fall far below the start; momentum moves the other way.

    The rate goes from $\eta_{\max}/\text{div\_factor}$ to $\eta_{\max}$ during the first `pct_start` of all steps,
    then to $\eta_{\max}/(\text{div\_factor}\cdot\text{final\_div\_factor})$; with `three_phase`, first back to its
    start in the same time as it rose. One step per batch; `total_steps`, or `epochs` times `steps_per_epoch`. Momentum
    (or Adam's β₁) goes from max_momentum to base_momentum and back if `cycle_momentum`.
    Raises ValueError beyond the last step. Source: Smith, Topin 2018, "Super-Convergence".

    >>> from chainrule import optim
    >>> optimizer = optim.SGD([cr.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    >>> schedule = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=10)
    >>> for _ in range(2):
    ...     optimizer.step(); schedule.step()
    >>> schedule.get_last_lr(), optimizer.param_groups[0]["momentum"]
    ([1.0], 0.85)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ):
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError(
                    f"OneCycleLR received total_steps=None, epochs={epochs}, steps_per_epoch={steps_per_epoch}, from "
                    "which its length cannot be told. Pass total_steps, or both epochs and steps_per_epoch."
                )
            total_steps = _positive("OneCycleLR", "epochs", epochs) * _positive(
                "OneCycleLR", "steps_per_epoch", steps_per_epoch
            )
        if anneal_strategy not in _ANNEAL:
            raise ValueError(
                f"OneCycleLR received anneal_strategy={anneal_strategy!r}, which is not known. Pass 'cos' or 'linear'."
            )
        if not 0 <= pct_start <= 1:
            raise ValueError(
                f"OneCycleLR received pct_start={pct_start}; it is the share of the steps that climb, between 0 and 1. "
                "Pass pct_start=0.3, say."
            )
        self.total_steps = _positive("OneCycleLR", "total_steps", total_steps)
        self.anneal_strategy = anneal_strategy
        self.momentum_name = self._momentum_name(optimizer) if cycle_momentum else None
        top, last = pct_start * total_steps - 1, total_steps - 1
        # (last step of the phase, rate and momentum at its start, rate and momentum at its end), as names in a group.
        up = (top, ("initial_lr", "max_momentum"), ("max_lr", "base_momentum"))
        self.phases = (
            [
                up,
                (2 * top, ("max_lr", "base_momentum"), ("initial_lr", "max_momentum")),
                (last, ("initial_lr", "max_momentum"), ("min_lr", "max_momentum")),
            ]
            if three_phase
            else [up, (last, ("max_lr", "base_momentum"), ("min_lr", "max_momentum"))]
        )
        if last_epoch == -1:
            ends = (("max_lr", max_lr), ("base_momentum", base_momentum), ("max_momentum", max_momentum))
            columns = [_per_group(optimizer, name, value) for name, value in ends]
            for group, high, low_m, high_m in zip(optimizer.param_groups, *columns):
                start = high / div_factor
                group.update(max_lr=high, initial_lr=start, min_lr=start / final_div_factor)
                if cycle_momentum:
                    group.update(base_momentum=low_m, max_momentum=high_m)
        super().__init__(optimizer, last_epoch)

    @staticmethod
    def _momentum_name(optimizer: Optimizer) -> str:
        for name in ("betas", "momentum"):
            if name in optimizer.defaults:
                return name
        raise ValueError(
            f"OneCycleLR received a {type(optimizer).__name__}, which has neither momentum nor betas to cycle. Pass "
            "cycle_momentum=False."
        )

    def first_lr(self) -> list[float]:
        """Return the rates at the start of the climb."""
        return self.get_lr()

    def get_lr(self) -> list[float]:
        """Return the rates at t, and set the momenta."""
        if self.last_epoch > self.total_steps:
            raise ValueError(
                f"OneCycleLR was stepped {self.last_epoch} times, but its cycle has total_steps={self.total_steps}. "
                "Step it once per batch, and build it for all the batches of the training."
            )
        t = self.last_epoch
        i = next((i for i, phase in enumerate(self.phases) if t <= phase[0]), len(self.phases) - 1)
        begin = self.phases[i - 1][0] if i else 0.0
        end, first, last = self.phases[i]
        share = (t - begin) / (end - begin) if end != begin else 1.0
        anneal = _ANNEAL[self.anneal_strategy]
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(anneal(group[first[0]], group[last[0]], share))
            if self.momentum_name is not None:
                momentum = anneal(group[first[1]], group[last[1]], share)
                betas = self.momentum_name == "betas"
                group[self.momentum_name] = (momentum, *group["betas"][1:]) if betas else momentum
        return rates


_ANNEAL = {
    "cos": lambda start, end, share: end + (start - end) / 2.0 * (1 + math.cos(math.pi * share)),
    "linear": lambda start, end, share: start + (end - start) * share,
}


def _positive(owner: str, name: str, value: int) -> int:
    if not isinstance(value, int) or value <= 0:
        raise ValueError(f"{owner} received {name}={value!r}; it counts steps. Pass a positive integer.")
    return value


def _per_group(optimizer: Optimizer, name: str, value: float | list[float]) -> list[float]:
    groups = len(optimizer.param_groups)
    values = list(value) if isinstance(value, list | tuple) else [value] * groups
    if len(values) != groups:
        raise ValueError(
            f"OneCycleLR received {len(values)} values of {name} for {groups} parameter groups. Pass one number, or "
            "one per group."
        )
    return values
