"""The optimisers of the lectures. g is the gradient (negated if `maximize`), θ a parameter, η the learning rate."""

from __future__ import annotations

from typing import Any

from .optimizer import Job, Optimizer


class SGD(Optimizer):
    r"""Stochastic gradient descent, with momentum, Nesterov's momentum and weight decay.

    $$g \leftarrow g + \lambda\theta,\quad v \leftarrow \mu v + (1-\tau)\,g,\quad
    \theta \leftarrow \theta - \eta\,v \qquad(\text{Nesterov: } \theta - \eta\,(g + \mu v))$$

    lr η, momentum μ, dampening τ, weight_decay λ; the first v is g itself. Arguments and formula are PyTorch's.
    Raises ValueError for a negative rate and for `nesterov` without momentum or with dampening.
    Source: Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning".

    >>> from chainrule import optim
    >>> w = cr.tensor([3.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=0.1, momentum=0.9)
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     (w * w / 2).sum().backward()
    ...     optimizer.step()
    >>> round(w.item(), 4)
    2.16
    """

    _counts_steps = False

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ):
        super().__init__(
            params,
            dict(
                lr=lr,
                momentum=momentum,
                dampening=dampening,
                weight_decay=weight_decay,
                nesterov=nesterov,
                maximize=maximize,
            ),
        )

    def _check_group(self, group: dict) -> None:
        super()._check_group(group)
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ValueError(
                f"SGD received nesterov=True with momentum={group['momentum']} and dampening={group['dampening']}; "
                "Nesterov's step looks ahead along an undamped momentum. Pass momentum=0.9 and dampening=0."
            )

    def _slots(self, group: dict) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def _update(self, kernels: Any, job: Job) -> None:
        group = job.group
        kernels.sgd_(
            *job.arrays,
            job.slot("momentum_buffer", group["momentum"]),
            lr=job.number(lambda: group["lr"]),
            momentum=group["momentum"],
            dampening=group["dampening"],
            weight_decay=group["weight_decay"],
            nesterov=group["nesterov"],
            maximize=group["maximize"],
            first=job.first,
        )


class Adagrad(Optimizer):
    r"""Adagrad: every weight's own rate, falling with the sum of its squared gradients.

    $$G \leftarrow G + g^2,\quad \theta \leftarrow \theta - \frac{\eta}{1 + (t-1)\,d}\,\frac{g}{\sqrt{G} + \epsilon}$$

    lr η, lr_decay d, G starts at initial_accumulator_value. Arguments and formula are PyTorch's.
    Raises ValueError for a negative hyper-parameter.
    Source: Duchi, Hazan, Singer 2011, "Adaptive subgradient methods for online learning".

    >>> from chainrule import optim
    >>> w = cr.tensor([3.0, 300.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> optim.Adagrad([w], lr=0.5).step()
    >>> w.tolist()
    [2.5, 299.5]
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ):
        super().__init__(
            params,
            dict(
                lr=lr,
                lr_decay=lr_decay,
                eps=eps,
                weight_decay=weight_decay,
                initial_accumulator_value=initial_accumulator_value,
                maximize=maximize,
            ),
        )

    def _slots(self, group: dict) -> tuple[str, ...]:
        return ("sum",)

    def _update(self, kernels: Any, job: Job) -> None:
        group = job.group
        if job.first:
            for total in job.slot("sum") or ():
                total[...] = group["initial_accumulator_value"]
        kernels.adagrad_(
            *job.arrays,
            job.slot("sum"),
            lr=job.number(lambda: group["lr"] / (1 + (job.step - 1) * group["lr_decay"])),
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            maximize=group["maximize"],
        )


class Adadelta(Optimizer):
    r"""Adadelta: Adagrad with a fading memory, and steps in the parameter's own units.

    $$E \leftarrow \rho E + (1-\rho) g^2,\quad \Delta = \frac{\sqrt{D + \epsilon}}{\sqrt{E + \epsilon}}\,g,\quad
    D \leftarrow \rho D + (1-\rho)\Delta^2,\quad \theta \leftarrow \theta - \eta\Delta$$

    lr η, rho ρ. Arguments and formula are PyTorch's. Raises ValueError for a hyper-parameter out of range.
    Source: Zeiler 2012, "ADADELTA: an adaptive learning rate method".

    >>> from chainrule import optim
    >>> w = cr.tensor([1.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> optim.Adadelta([w]).step()
    >>> round(w.item(), 4)
    0.9968
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
    ):
        super().__init__(params, dict(lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize))

    def _slots(self, group: dict) -> tuple[str, ...]:
        return ("square_avg", "acc_delta")

    def _update(self, kernels: Any, job: Job) -> None:
        group = job.group
        kernels.adadelta_(
            *job.arrays,
            job.slot("square_avg"),
            job.slot("acc_delta"),
            lr=job.number(lambda: group["lr"]),
            rho=group["rho"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            maximize=group["maximize"],
        )


class RMSprop(Optimizer):
    r"""RMSprop: the gradient divided by the root of a running mean of its square.

    $$E \leftarrow \alpha E + (1-\alpha) g^2,\quad v \leftarrow \mu v + \frac{g}{\sqrt{E - \bar g^2} + \epsilon},\quad
    \theta \leftarrow \theta - \eta v$$

    lr η, alpha α, momentum μ; the running mean of g, ḡ, is subtracted only if `centered`. Arguments and formula are
    PyTorch's. Raises ValueError for a negative hyper-parameter. Source: Hinton's Coursera lecture 6e, 2012.

    >>> from chainrule import optim
    >>> w = cr.tensor([1.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> optim.RMSprop([w], lr=0.01).step()
    >>> round(w.item(), 4)
    0.9
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ):
        super().__init__(
            params,
            dict(
                lr=lr,
                momentum=momentum,
                alpha=alpha,
                eps=eps,
                centered=centered,
                weight_decay=weight_decay,
                maximize=maximize,
            ),
        )

    def _slots(self, group: dict) -> tuple[str, ...]:
        optional = (("momentum_buffer", group["momentum"] > 0), ("grad_avg", group["centered"]))
        return ("square_avg", *(name for name, used in optional if used))

    def _update(self, kernels: Any, job: Job) -> None:
        group = job.group
        kernels.rmsprop_(
            *job.arrays,
            job.slot("square_avg"),
            job.slot("momentum_buffer", group["momentum"] > 0),
            job.slot("grad_avg", group["centered"]),
            lr=job.number(lambda: group["lr"]),
            alpha=group["alpha"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            maximize=group["maximize"],
        )


class Adam(Optimizer):
    r"""Adam: momentum and RMSprop, both corrected for starting at zero.

    $$m \leftarrow \beta_1 m + (1-\beta_1) g,\quad v \leftarrow \beta_2 v + (1-\beta_2) g^2,\quad
    \theta \leftarrow \theta - \eta\,\frac{m / (1-\beta_1^t)}{\sqrt{v / (1-\beta_2^t)} + \epsilon}$$

    lr η, betas (β₁, β₂); `amsgrad` puts the largest v so far in place of v. `weight_decay` λ adds λθ to g, or, if
    `decoupled_weight_decay`, multiplies θ by 1 − ηλ instead (AdamW). Arguments and formula are PyTorch's.
    Raises ValueError for a hyper-parameter out of range.
    Sources: Kingma, Ba 2015, "Adam"; Reddi, Kale, Kumar 2018 (AMSGrad).

    >>> from chainrule import optim
    >>> w = cr.tensor([1.0, -100.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> optim.Adam([w], lr=0.5).step()
    >>> w.tolist()
    [0.5, -99.5]
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ):
        super().__init__(
            params,
            dict(
                lr=lr,
                betas=betas,
                eps=eps,
                weight_decay=weight_decay,
                amsgrad=amsgrad,
                maximize=maximize,
                decoupled_weight_decay=decoupled_weight_decay,
            ),
        )

    def _slots(self, group: dict) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if group["amsgrad"] else ("exp_avg", "exp_avg_sq")

    def _update(self, kernels: Any, job: Job) -> None:
        group = job.group
        kernels.adam_(
            *job.arrays,
            job.slot("exp_avg"),
            job.slot("exp_avg_sq"),
            job.slot("max_exp_avg_sq", group["amsgrad"]),
            lr=job.number(lambda: group["lr"]),
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            decoupled=group["decoupled_weight_decay"],
            maximize=group["maximize"],
            step=job.number(lambda: job.step),
        )


class AdamW(Adam):
    r"""Adam with weight decay taken out of the gradient: first $\theta \leftarrow (1 - \eta\lambda)\,\theta$.

    Arguments and formula are PyTorch's; see `Adam`.
    Source: Loshchilov, Hutter 2019, "Decoupled weight decay regularization".

    >>> from chainrule import optim
    >>> w = cr.tensor([1.0], requires_grad=True)
    >>> (w * 0).sum().backward()
    >>> optim.AdamW([w], lr=0.1, weight_decay=0.5).step()
    >>> round(w.item(), 4)
    0.95
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True)
