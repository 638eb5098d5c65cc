"""Loss scaling, so that small gradients survive float16."""

from __future__ import annotations

from typing import Any

from ...autograd import Tensor, isfinite, no_grad, stack
from .optimizer import Optimizer


class GradScaler:
    r"""Multiplies the loss by s before `backward()`, divides the gradients by s before the step, and finds a good s.

    float16 holds nothing below $6 \cdot 10^{-8}$: gradients of s · loss are s times larger and stay above it. A step
    whose gradients overflow to infinity or NaN is left out and s is multiplied by `backoff_factor`; after
    `growth_interval` steps without overflow, by `growth_factor`. Arguments and names are those of
    `torch.amp.GradScaler`; the gradients are divided wherever they are, whatever `device` says. Raises ValueError for
    factors on the wrong side of 1.
    Source: Micikevicius et al. 2018, "Mixed precision training".

    >>> w = cr.tensor([2.0], requires_grad=True)
    >>> optimizer, scaler = cr.optim.SGD([w], lr=0.25), cr.amp.GradScaler(init_scale=8.0)
    >>> scaler.scale((w * w).sum()).backward()
    >>> w.grad.item()
    32.0
    >>> scaler.step(optimizer); scaler.update(); w.item()
    1.0
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ):
        if not (growth_factor > 1 and 0 < backoff_factor < 1 and init_scale > 0):
            raise ValueError(
                f"GradScaler received init_scale={init_scale}, growth_factor={growth_factor}, "
                f"backoff_factor={backoff_factor}; the scale is above 0, grows by a factor above 1 and backs off by "
                "one between 0 and 1. Pass GradScaler() for the usual values."
            )
        self.growth_factor, self.backoff_factor, self.growth_interval = growth_factor, backoff_factor, growth_interval
        self.device, self.enabled, self._scale, self._good = device, enabled, float(init_scale), 0
        self._found: dict[int, bool] = {}  # optimiser whose gradients are divided -> whether one overflowed
        self._stepped: set[int] = set()

    def get_scale(self) -> float:
        """The present factor s (1.0 if not enabled)."""
        return self._scale if self.enabled else 1.0

    def scale(self, outputs: Any) -> Any:
        """s times a tensor, or each tensor of a list or tuple."""
        if isinstance(outputs, list | tuple):
            return type(outputs)(map(self.scale, outputs))
        return outputs * self._scale if self.enabled else outputs

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients of the optimiser's parameters by s, in place; before clipping them, say."""
        if not self.enabled:
            return
        if id(optimizer) in self._found:
            raise RuntimeError(
                "GradScaler.unscale_ received an optimiser whose gradients are divided already; they would be divided "
                "twice. Call it once per step, and update() after the step."
            )
        with no_grad():
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            self._found[id(optimizer)] = not _all_finite(gradients)
            for g in gradients:
                g.mul_(1 / self._scale)

    def step(self, optimizer: Optimizer, *args: Any) -> Any:
        """Divide the gradients if `unscale_` has not, and let the optimiser step unless one of them overflowed."""
        if not self.enabled:
            return optimizer.step(*args)
        if id(optimizer) in self._stepped:
            raise RuntimeError(
                "GradScaler.step received an optimiser that has stepped since the last update(); its gradients are not "
                "scaled any more. Call update() after each step."
            )
        if id(optimizer) not in self._found:
            self.unscale_(optimizer)
        self._stepped.add(id(optimizer))
        return None if self._found[id(optimizer)] else optimizer.step(*args)

    def update(self, new_scale: float | None = None) -> None:
        """Set s for the next step by what the gradients of this one were, or to `new_scale`."""
        if not self.enabled:
            return
        if new_scale is not None:
            self._scale = float(new_scale)
        elif not self._found:
            raise RuntimeError(
                "GradScaler.update was called before any gradient was seen; call it once after step(optimizer)."
            )
        elif any(self._found.values()):
            self._scale, self._good = self._scale * self.backoff_factor, 0
        else:
            self._good += 1
            if self._good == self.growth_interval:
                self._scale, self._good = self._scale * self.growth_factor, 0
        self._found.clear()
        self._stepped.clear()

    def state_dict(self) -> dict[str, Any]:
        """The scale and the count of good steps, under PyTorch's names; {} if not enabled."""
        if not self.enabled:
            return {}
        return {
            "scale": self._scale,
            "growth_factor": self.growth_factor,
            "backoff_factor": self.backoff_factor,
            "growth_interval": self.growth_interval,
            "_growth_tracker": self._good,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state, ours or PyTorch's."""
        if not self.enabled:
            return
        missing = self.state_dict().keys() - state_dict.keys()
        if missing:
            raise ValueError(
                f"GradScaler.load_state_dict received a state without {sorted(missing)}; a scaler that was not enabled "
                "saves nothing. Pass what state_dict() of an enabled one returned."
            )
        self._scale, self._good = float(state_dict["scale"]), int(state_dict["_growth_tracker"])
        for name in ("growth_factor", "backoff_factor", "growth_interval"):
            setattr(self, name, state_dict[name])


def _all_finite(gradients: list[Tensor]) -> bool:
    """Read once, however many gradients: on a GPU each reading waits for it."""
    return not gradients or bool(stack([isfinite(g).all() for g in gradients]).all())
