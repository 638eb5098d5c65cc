"""Optimisers against PyTorch step by step, against the lectures' formulas, and against misuse."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import optim

OPTIONS = {
    "SGD": [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.3},
        {"momentum": 0.9, "nesterov": True},
        {"weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True},
        {"maximize": True},
    ],
    "Adagrad": [
        {},
        {"lr_decay": 0.1},
        {"weight_decay": 0.1},
        {"initial_accumulator_value": 0.5, "eps": 1e-3},
        {"maximize": True, "weight_decay": 0.1, "lr_decay": 0.2},
    ],
    "Adadelta": [{}, {"rho": 0.5}, {"weight_decay": 0.1, "eps": 1e-3}, {"maximize": True, "lr": 0.5}],
    "RMSprop": [
        {},
        {"alpha": 0.5},
        {"momentum": 0.9},
        {"centered": True},
        {"momentum": 0.9, "centered": True, "weight_decay": 0.1, "maximize": True},
    ],
    "Adam": [
        {},
        {"betas": (0.5, 0.9), "eps": 1e-3},
        {"weight_decay": 0.1},
        {"amsgrad": True},
        {"amsgrad": True, "weight_decay": 0.1, "maximize": True},
        {"decoupled_weight_decay": True, "weight_decay": 0.1},
    ],
    "AdamW": [{}, {"weight_decay": 0.5}, {"amsgrad": True, "maximize": True}],
}
CASES = [(name, options) for name, rows in OPTIONS.items() for options in rows]
SHAPES = [(3, 4), (5,), (), (2, 0)]


def pair(torch, rng, dtype=np.float64):
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]
    ours = [cr.tensor(a, requires_grad=True) for a in arrays]
    return ours, [torch.tensor(a, requires_grad=True) for a in arrays]


def give(torch, ours, theirs, rng, leave_out=None):
    for i, (p, q) in enumerate(zip(ours, theirs)):
        g = rng.standard_normal(p.shape).astype(p.dtype)
        p.grad = None if i == leave_out else cr.tensor(g)
        q.grad = None if i == leave_out else torch.tensor(g)


@pytest.mark.parametrize("name, options", CASES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_equals_pytorch_step_by_step(torch, rng, name, options, dtype):
    ours, theirs = pair(torch, rng, dtype)
    mine, reference = getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    close = {"rtol": 1e-12, "atol": 1e-12} if dtype is np.float64 else {"rtol": 2e-5, "atol": 2e-6}
    for step in range(8):
        give(torch, ours, theirs, rng, leave_out=1 if step == 3 else None)
        mine.step()
        reference.step()
        for p, q in zip(ours, theirs):
            np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), **close)


@pytest.mark.parametrize("name", OPTIONS)
def test_defaults_are_pytorchs(torch, name):
    ours = getattr(optim, name)([cr.zeros(1, requires_grad=True)]).defaults
    theirs = getattr(torch.optim, name)([torch.zeros(1, requires_grad=True)]).defaults
    assert ours == {key: theirs[key] for key in ours}
    assert theirs.keys() - ours.keys() <= {"foreach", "differentiable", "fused", "capturable"}


@pytest.mark.parametrize("name, options", CASES)
def test_state_has_pytorchs_structure_and_moves_both_ways(torch, rng, name, options):
    ours, theirs = pair(torch, rng)
    mine, reference = getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    for _ in range(3):
        give(torch, ours, theirs, rng)
        mine.step()
        reference.step()
    state, theirs_state = mine.state_dict(), reference.state_dict()
    assert [g["params"] for g in state["param_groups"]] == [g["params"] for g in theirs_state["param_groups"]]
    assert {i: set(s) for i, s in state["state"].items()} == {i: set(s) for i, s in theirs_state["state"].items()}

    # Theirs into a new one of ours, ours into a new one of theirs: both go on as before.
    as_ours = {
        "state": {i: {k: cr.tensor(v.numpy()) for k, v in s.items()} for i, s in theirs_state["state"].items()},
        "param_groups": theirs_state["param_groups"],
    }
    as_theirs = {
        "state": {i: {k: torch.tensor(v.numpy()) for k, v in s.items()} for i, s in state["state"].items()},
        "param_groups": [
            {**g, "foreach": None, "differentiable": False, "fused": None, "capturable": False}
            for g in state["param_groups"]
        ],
    }
    mine, reference = getattr(optim, name)(ours, lr=9.0), getattr(torch.optim, name)(theirs, lr=9.0)
    mine.load_state_dict(as_ours)
    reference.load_state_dict(as_theirs)
    give(torch, ours, theirs, rng)
    mine.step()
    reference.step()
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-12, atol=1e-12)


def follow(optimizer, w, gradients):
    for g in gradients:
        w.grad = cr.tensor(np.array([g]))
        optimizer.step()
    return w.item()


GRADIENTS = [0.5, -1.25, 2.0, 0.125]


def start(value=1.0):
    return cr.tensor(np.array([value]), requires_grad=True)


def test_lectures_gradient_descent_and_momentum():
    w, v = 1.0, 0.0
    for g in GRADIENTS:
        v = 0.9 * v + g
        w -= 0.1 * v
    p = start()
    assert follow(optim.SGD([p], lr=0.1, momentum=0.9), p, GRADIENTS) == pytest.approx(w, rel=1e-14)
    p = start()
    assert follow(optim.SGD([p], lr=0.1), p, GRADIENTS) == pytest.approx(1 - 0.1 * sum(GRADIENTS), rel=1e-14)


def test_lectures_adagrad():
    w, total = 1.0, 0.0
    for g in GRADIENTS:
        total += g * g
        w -= 0.1 * g / (total**0.5 + 1e-10)
    p = start()
    assert follow(optim.Adagrad([p], lr=0.1), p, GRADIENTS) == pytest.approx(w, rel=1e-14)


def test_lectures_adadelta():
    w, e, d = 1.0, 0.0, 0.0
    for g in GRADIENTS:
        e = 0.9 * e + 0.1 * g * g
        step = ((d + 1e-6) / (e + 1e-6)) ** 0.5 * g
        d = 0.9 * d + 0.1 * step * step
        w -= step
    p = start()
    assert follow(optim.Adadelta([p]), p, GRADIENTS) == pytest.approx(w, rel=1e-13)


def test_lectures_rmsprop():
    w, e = 1.0, 0.0
    for g in GRADIENTS:
        e = 0.9 * e + 0.1 * g * g
        w -= 0.01 * g / (e**0.5 + 1e-8)
    p = start()
    assert follow(optim.RMSprop([p], lr=0.01, alpha=0.9), p, GRADIENTS) == pytest.approx(w, rel=1e-13)


def test_lectures_adam():
    w, m, v = 1.0, 0.0, 0.0
    for t, g in enumerate(GRADIENTS, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w -= 0.01 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8)
    p = start()
    assert follow(optim.Adam([p], lr=0.01), p, GRADIENTS) == pytest.approx(w, rel=1e-13)


def test_groups_have_their_own_options_and_can_be_added():
    a, b, c = start(), start(), start()
    optimizer = optim.SGD([{"params": a}, {"params": [b], "lr": 1.0}], lr=0.1)
    optimizer.add_param_group({"params": [c], "weight_decay": 1.0})
    for p in (a, b, c):
        p.grad = cr.ones(1, dtype=np.float64)
    optimizer.step()
    assert [p.item() for p in (a, b, c)] == pytest.approx([0.9, 0.0, 0.8])
    assert "Parameter group 2: 1 parameters" in repr(optimizer)


def test_zero_grad():
    p = start()
    optimizer = optim.SGD([p], lr=0.1)
    p.grad = cr.ones(1, dtype=np.float64)
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0.0]
    optimizer.zero_grad()
    assert p.grad is None


def test_closure_is_called_with_recording_on_and_its_loss_returned():
    p = start(3.0)
    optimizer = optim.SGD([p], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (p * p / 2).sum()
        loss.backward()
        return loss

    with cr.no_grad():
        loss = optimizer.step(closure)
    assert (loss.item(), p.item()) == (4.5, 1.5)


def test_a_step_invalidates_graphs_that_kept_the_old_parameter():
    p = start(3.0)
    loss = (p * p).sum()
    p.grad = cr.ones(1, dtype=np.float64)
    optim.SGD([p], lr=0.1).step()
    with pytest.raises(RuntimeError):
        loss.backward()


def test_named_parameters_are_named_in_errors():
    p = start()
    optimizer = optim.SGD([("layer.bias", p)], lr=0.1)
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["layer.bias"]
    p.grad = cr.ones(1, dtype=np.float64)
    p.data = cr.ones(2, dtype=np.float64)
    with pytest.raises(ValueError, match=r"parameter layer\.bias .*gradient of shape \(1,\).*No parameter was changed"):
        optimizer.step()


@pytest.mark.parametrize("data", [np.ones(2), np.ones(1, np.float32)])
def test_a_misfit_gradient_changes_nothing(data):
    a, b = start(), start()
    optimizer = optim.Adam([a, b], lr=0.1)
    for p in (a, b):
        p.grad = cr.ones(1, dtype=np.float64)
    b.data = cr.tensor(data)
    with pytest.raises(ValueError, match="parameter 1 of group 0 .*they must agree.*let backward"):
        optimizer.step()
    assert (a.item(), b.tolist()) == (1.0, data.tolist())
    assert all(not s or s["step"].item() == 0 for s in optimizer.state.values())


def test_a_state_of_another_dtype_changes_nothing_and_can_be_converted():
    a, b = start(), start()
    optimizer = optim.Adam([a, b], lr=0.1)
    for p in (a, b):
        p.grad = cr.ones(1, dtype=np.float64)
    optimizer.step()
    before = a.item()
    b.data, b.grad = b.detach().float(), None
    b.grad = cr.ones(1)
    with pytest.raises(ValueError, match=r"is now float32 of shape \(1,\).*No parameter was changed.*load_state_dict"):
        optimizer.step()
    assert a.item() == before
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step()
    assert b.item() == pytest.approx(0.8)


def test_a_step_that_fails_in_a_late_group_leaves_the_next_one_as_it_was():
    """Momentum that it had begun would make the first gradient of the next step a second one."""
    p, q = cr.tensor([1.0, 2.0], requires_grad=True), cr.ones(3, requires_grad=True)
    optimizer = optim.SGD([{"params": [p]}, {"params": [q]}], lr=0.1, momentum=0.9, dampening=0.5)
    p.grad, q.grad = cr.ones(2), cr.ones(3)
    optimizer.param_groups[1]["momentum"] = "x"
    with pytest.raises(TypeError, match="momentum='x'"):
        optimizer.step()
    assert p.tolist() == [1.0, 2.0] and optimizer.state_dict()["state"] == {}
    optimizer.param_groups[1]["momentum"] = 0.9
    optimizer.step()
    assert np.allclose(p.tolist(), [0.9, 1.9])


def test_a_bad_rate_in_a_later_group_changes_nothing():
    a, b = start(), start()
    optimizer = optim.SGD([{"params": [a]}, {"params": [b]}], lr=0.1)
    for p in (a, b):
        p.grad = cr.ones(1, dtype=np.float64)
    optimizer.param_groups[1]["lr"] = -1.0
    with pytest.raises(ValueError, match="SGD received lr=-1.0; lr must be at least 0"):
        optimizer.step()
    assert (a.item(), b.item()) == (1.0, 1.0)


def test_a_nan_gradient_is_the_users_business():
    p = start()
    p.grad = cr.tensor(np.array([np.nan]))
    optim.Adam([p]).step()
    assert np.isnan(p.item())


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("SGD", {"lr": -1}, "SGD received lr=-1; lr must be at least 0. Pass lr=0.001"),
        ("SGD", {"lr": float("nan")}, "lr must be at least 0"),
        ("SGD", {"momentum": -0.1}, "momentum must be at least 0"),
        ("SGD", {"weight_decay": -0.1}, "weight_decay must be at least 0"),
        ("SGD", {"nesterov": True}, "nesterov=True with momentum=0 .*Pass momentum=0.9 and dampening=0"),
        ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "undamped"),
        ("Adam", {"betas": (1.0, 0.9)}, r"betas=\(1.0, 0.9\); betas must be at least 0 and below 1"),
        ("Adam", {"eps": -1e-8}, "eps must be at least 0"),
        ("AdamW", {"betas": (0.9, -0.1)}, "betas must be"),
        ("Adagrad", {"lr_decay": -1}, "lr_decay must be at least 0"),
        ("Adagrad", {"initial_accumulator_value": -1}, "initial_accumulator_value must be at least 0"),
        ("Adadelta", {"rho": 1.5}, "rho must be between 0 and 1"),
        ("RMSprop", {"alpha": -0.5}, "alpha must be at least 0"),
    ],
)
def test_hyperparameters_out_of_range(name, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(optim, name)([start()], **options)


def test_a_rate_that_is_no_number():
    with pytest.raises(TypeError, match=r"lr='fast', of type str.*Pass lr=0.001"):
        optim.SGD([start()], lr="fast")


def test_parameters_that_cannot_be_optimised():
    p = start()
    with pytest.raises(TypeError, match=r"an object of type \w+ as params.*Pass model.parameters\(\)"):
        optim.SGD(p)
    with pytest.raises(TypeError, match="a set has no order.*Pass a list"):
        optim.SGD({p})
    with pytest.raises(ValueError, match="received no parameters.*Pass model.parameters"):
        optim.SGD([])
    with pytest.raises(TypeError, match="parameter 0 of group 0 is an object of type int"):
        optim.SGD([3])
    with pytest.raises(ValueError, match=r"computed tensor of shape \(1,\).*Pass the leaf"):
        optim.SGD([p * 2])
    with pytest.raises(TypeError, match="dtype int64, which has no gradient"):
        optim.SGD([cr.tensor([1])])
    with pytest.raises(ValueError, match="parameter 1 of group 0 twice"):
        optim.SGD([p, p])
    with pytest.raises(TypeError, match='Pass {"params"'):
        optim.SGD([p]).add_param_group([start()])
    with pytest.raises(TypeError, match="without 'params'"):
        optim.SGD([{"lr": 1.0}])


def trained(optimizer_class=optim.Adam, **options):
    p, q = start(), cr.ones(2, 3, requires_grad=True)
    optimizer = optimizer_class([p, q], **options)
    p.grad, q.grad = cr.ones(1, dtype=np.float64), cr.ones(2, 3)
    optimizer.step()
    return optimizer


def test_states_that_do_not_fit_change_nothing():
    optimizer, good = trained(), trained()
    before = {k: {n: t.clone() for n, t in s.items()} for k, s in optimizer.state_dict()["state"].items()}

    def refuse(state, message):
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(state)
        after = optimizer.state_dict()["state"]
        assert all((after[k][n] == t).all() for k, s in before.items() for n, t in s.items())

    good = good.state_dict()
    refuse([], "without 'state' and 'param_groups'")
    refuse({**good, "param_groups": good["param_groups"] * 2}, r"groups of \[2, 2\] parameters.*has \[2\]")
    refuse({**good, "state": {7: {}}}, "state for parameter 7")
    refuse(trained(optim.RMSprop).state_dict(), "no 'exp_avg' in the state of parameter 0.*build the same one")
    swapped = {**good, "state": {0: good["state"][1], 1: good["state"][0]}}
    refuse(swapped, r"'exp_avg' of shape \(2, 3\) for parameter 0 of shape \(1,\)")
    broken = {**good, "param_groups": [{**good["param_groups"][0], "lr": -1.0}]}
    refuse(broken, "lr must be at least 0")


def test_a_loaded_state_is_a_copy():
    source, target = trained(), trained()
    target.load_state_dict(source.state_dict())
    source.state_dict()["state"][0]["exp_avg"].fill_(5.0)
    assert target.state_dict()["state"][0]["exp_avg"].item() == pytest.approx(0.1)
