"""Schedules give PyTorch's sequences of rates and momenta."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import optim
from chainrule.optim import lr_scheduler

CASES = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("StepLR", {"step_size": 1}),
    ("MultiStepLR", {"milestones": [2, 5, 5, 9], "gamma": 0.3}),
    ("CosineAnnealingLR", {"T_max": 5}),
    ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.01}),
    ("CosineAnnealingLR", {"T_max": 1}),
    ("LambdaLR", {"lr_lambda": lambda t: 0.9**t}),
    ("LambdaLR", {"lr_lambda": [lambda t: 1 / (1 + t), lambda t: t]}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 21}),
    ("OneCycleLR", {"max_lr": [0.5, 1.0], "epochs": 3, "steps_per_epoch": 7, "anneal_strategy": "linear"}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 30, "three_phase": True, "pct_start": 0.4, "div_factor": 10.0}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 25, "cycle_momentum": False, "final_div_factor": 100.0}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 25, "base_momentum": [0.8, 0.7], "max_momentum": 0.9}),
]


def make(library, tensor, kind):
    groups = [{"params": [tensor()]}, {"params": [tensor()], "lr": 0.3}]
    if kind == "Adam":
        return library.Adam(groups, lr=0.1)
    return library.SGD(groups, lr=0.1, momentum=0.9)


def sequence(optimizer, schedule, steps):
    rows = []
    for _ in range(steps):
        rows.append([float(g["lr"]) for g in optimizer.param_groups])
        rows[-1] += [g["betas"][0] if "betas" in g else g["momentum"] for g in optimizer.param_groups]
        assert schedule.get_last_lr() == pytest.approx(rows[-1][:2])
        optimizer.step()
        schedule.step()
    return np.array(rows)


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("name, options", CASES)
def test_equals_pytorch(torch, kind, name, options):
    ours = make(optim, lambda: cr.zeros(1, requires_grad=True), kind)
    theirs = make(torch.optim, lambda: torch.zeros(1, requires_grad=True), kind)
    mine = getattr(lr_scheduler, name)(ours, **options)
    reference = getattr(torch.optim.lr_scheduler, name)(theirs, **options)
    np.testing.assert_allclose(sequence(ours, mine, 20), sequence(theirs, reference, 20), rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("name, options", CASES)
def test_resumes_from_its_state(name, options):
    def new():
        optimizer = make(optim, lambda: cr.zeros(1, requires_grad=True), "SGD")
        return optimizer, getattr(lr_scheduler, name)(optimizer, **options)

    optimizer, schedule = new()
    sequence(optimizer, schedule, 8)
    states = optimizer.state_dict(), schedule.state_dict()
    again, resumed = new()
    again.load_state_dict(states[0])
    resumed.load_state_dict(states[1])
    assert (sequence(optimizer, schedule, 12) == sequence(again, resumed, 12)).all()


def optimizer():
    return optim.SGD([cr.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)


def test_warns_of_the_wrong_order():
    schedule = lr_scheduler.StepLR(optimizer(), 2)
    with pytest.warns(UserWarning, match=r"before the first optimizer.step\(\).*Call optimizer.step\(\) first"):
        schedule.step()


@pytest.mark.parametrize(
    "error, make, message",
    [
        (TypeError, lambda: lr_scheduler.StepLR(3, 2), "type int as optimizer.*Pass the optimiser itself"),
        (ValueError, lambda: lr_scheduler.StepLR(optimizer(), 0), "step_size=0; it counts steps. Pass a positive"),
        (ValueError, lambda: lr_scheduler.StepLR(optimizer(), 2, last_epoch=4), "no 'initial_lr' to continue from"),
        (ValueError, lambda: lr_scheduler.CosineAnnealingLR(optimizer(), -1), "T_max=-1"),
        (ValueError, lambda: lr_scheduler.LambdaLR(optimizer(), [abs, abs]), "2 functions for 1 parameter groups"),
        (ValueError, lambda: lr_scheduler.OneCycleLR(optimizer(), 0.1), "its length cannot be told"),
        (ValueError, lambda: lr_scheduler.OneCycleLR(optimizer(), 0.1, 0), "total_steps=0"),
        (
            ValueError,
            lambda: lr_scheduler.OneCycleLR(optimizer(), 0.1, epochs=2, steps_per_epoch=-1),
            "steps_per_epoch",
        ),
        (ValueError, lambda: lr_scheduler.OneCycleLR(optimizer(), 0.1, 9, pct_start=2), "pct_start=2"),
        (ValueError, lambda: lr_scheduler.OneCycleLR(optimizer(), 0.1, 9, anneal_strategy="x"), "'cos' or 'linear'"),
        (ValueError, lambda: lr_scheduler.OneCycleLR(optimizer(), [0.1, 0.2], 9), "2 values of max_lr for 1"),
        (
            ValueError,
            lambda: lr_scheduler.OneCycleLR(optim.Adagrad([cr.zeros(1, requires_grad=True)]), 0.1, 9),
            "neither momentum nor betas.*Pass cycle_momentum=False",
        ),
    ],
)
def test_misuse(error, make, message):
    with pytest.raises(error, match=message):
        make()


def test_one_cycle_ends():
    opt = optimizer()
    schedule = lr_scheduler.OneCycleLR(opt, 0.1, total_steps=2)
    opt.step()
    schedule.step()
    schedule.step()
    with pytest.raises(ValueError, match="stepped 3 times.*total_steps=2.*once per batch"):
        schedule.step()


def test_refuses_the_state_of_another_schedule():
    schedule = lr_scheduler.StepLR(optimizer(), 2)
    with pytest.raises(ValueError, match="saved from a StepLR"):
        schedule.load_state_dict(lr_scheduler.CosineAnnealingLR(optimizer(), 2).state_dict())
