"""Limits on gradients, in place, between `backward()` and `step()`."""

from __future__ import annotations

from collections.abc import Iterable

from ...autograd import Tensor, as_tensor, clamp, float16, kernels_of, no_grad, note_write, stack, tensor


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    r"""Scale all gradients together so that their common norm is at most `max_norm`; return the norm before.

    $$g \leftarrow g \cdot \min\!\left(1, \frac{\text{max\_norm}}{\lVert g \rVert_p + 10^{-6}}\right)$$

    norm_type: p (`float("inf")` for the largest magnitude). Raises ValueError for a negative max_norm, RuntimeError
    for a NaN or infinite norm if `error_if_nonfinite`; the gradients are then unchanged.
    Source: Pascanu, Mikolov, Bengio 2013, "On the difficulty of training recurrent neural networks".

    >>> w = cr.tensor([0.0, 0.0], requires_grad=True)
    >>> (w * cr.tensor([3.0, 4.0])).sum().backward()
    >>> cr.nn.utils.clip_grad_norm_([w], max_norm=1.0).item()
    5.0
    >>> np.round(w.grad.numpy(), 4).tolist() == np.float32([0.6, 0.8]).tolist()
    True
    """
    _check_limit("clip_grad_norm_", "max_norm", max_norm)
    with no_grad():
        gradients = _gradients(parameters)
        if not gradients:
            return tensor(0.0)
        kernels, arrays = kernels_of(gradients[0]), [g.array for g in gradients]
        if norm_type == 2:
            total = as_tensor(kernels.gradient_norm(arrays))
        else:  # in float16 the powers of a few hundred overflow
            total = stack([(g.float() if g.dtype == float16 else g).norm(norm_type) for g in gradients]).norm(norm_type)
        if error_if_nonfinite and not abs(total.item()) < float("inf"):
            raise RuntimeError(
                f"clip_grad_norm_ found a total norm of {total.item()}, which cannot be scaled to {max_norm}. No "
                "gradient was changed. Look for its origin with cr.detect_anomaly(), or lower the learning rate."
            )
        kernels.clip_(arrays, total.array, float(max_norm))
        for g in gradients:
            note_write(g)
    return total


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    r"""Clamp every element of every gradient into $[-c, c]$, c = `clip_value`; raises ValueError for a negative c.

    >>> w = cr.tensor([0.0, 0.0], requires_grad=True)
    >>> (w * cr.tensor([3.0, -0.25])).sum().backward()
    >>> cr.nn.utils.clip_grad_value_([w], 1.0)
    >>> w.grad.tolist()
    [1.0, -0.25]
    """
    _check_limit("clip_grad_value_", "clip_value", clip_value)
    with no_grad():
        for g in _gradients(parameters):
            g.copy_(clamp(g, -clip_value, clip_value))


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p.grad for p in parameters if p.grad is not None]


def _check_limit(function: str, name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{function} received {name}={value!r}; a limit cannot be negative. Pass {name}=1.0, say.")
