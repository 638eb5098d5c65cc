"""Loss scaling against PyTorch's rules."""

import pytest

import chainrule as cr
from chainrule.amp import GradScaler


def problem(**options):
    w = cr.tensor([2.0], requires_grad=True)
    return w, cr.optim.SGD([w], lr=0.25), GradScaler(init_scale=8.0, **options)


def test_scaling_changes_nothing_but_the_range():
    w, optimizer, scaler = problem()
    scaler.scale((w * w).sum()).backward()
    assert w.grad.item() == 32
    scaler.unscale_(optimizer)
    assert w.grad.item() == 4
    scaler.step(optimizer)
    scaler.update()
    assert w.item() == 1 and scaler.get_scale() == 8


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_step_that_overflowed_is_left_out(bad):
    w, optimizer, scaler = problem()
    (w * bad).sum().backward()
    assert scaler.step(optimizer) is None and w.item() == 2
    scaler.update()
    assert scaler.get_scale() == 4


def test_the_scale_grows_after_good_steps_alone():
    w, optimizer, scaler = problem(growth_interval=2)
    seen = []
    for bad in (0, 1, 0, 0, 0, 0):
        optimizer.zero_grad()
        (scaler.scale((w * 0).sum()) + (w * (float("inf") if bad else 0)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        seen.append(scaler.get_scale())
    assert seen == [8, 4, 4, 8, 8, 16]


def test_small_gradients_survive_float16():
    w = cr.tensor([1e-4], requires_grad=True)
    kept = []
    for scaler in (GradScaler(enabled=False), GradScaler(init_scale=2.0**14)):
        w.grad = None
        scaler.scale((w.half() * 1e-4).float().sum() * 1e-4).backward()
        kept.append(w.grad.item() / scaler.get_scale())
    assert kept[0] == 0 and kept[1] == pytest.approx(1e-8, rel=0.01)


def test_it_follows_pytorch(torch):
    ours, theirs = GradScaler(init_scale=4.0, growth_interval=2), torch.amp.GradScaler("cpu", 4.0, growth_interval=2)
    w, v = cr.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    pairs = ((cr.optim.SGD([w], lr=0.1), w, ours), (torch.optim.SGD([v], lr=0.1), v, theirs))
    for factor in (1.0, 2.0, float("inf"), 3.0, 1.0, float("nan"), 1.0):
        for optimizer, p, scaler in pairs:
            optimizer.zero_grad()
            scaler.scale((p * factor).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
        assert w.item() == pytest.approx(v.item()) and ours.get_scale() == theirs.get_scale()
    assert ours.state_dict() == theirs.state_dict()
    again = GradScaler()
    again.load_state_dict(theirs.state_dict())
    assert again.state_dict() == ours.state_dict()


def test_not_enabled_it_is_not_there():
    w, optimizer, _ = problem()
    scaler = GradScaler(enabled=False)
    loss = (w * w).sum()
    assert scaler.scale(loss) is loss and scaler.scale([loss])[0] is loss and scaler.state_dict() == {}
    loss.backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    scaler.load_state_dict({})
    assert w.item() == 1 and scaler.get_scale() == 1


def test_misuse_is_explained():
    w, optimizer, scaler = problem()
    with pytest.raises(ValueError, match="GradScaler received init_scale=0.* Pass GradScaler"):
        GradScaler(init_scale=0)
    with pytest.raises(RuntimeError, match="update was called before any gradient was seen"):
        scaler.update()
    scaler.scale((w * w).sum()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="unscale_ received an optimiser whose gradients are divided already"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="step received an optimiser that has stepped since the last update"):
        scaler.step(optimizer)
    scaler.update(2.0)
    assert scaler.get_scale() == 2
    with pytest.raises(ValueError, match="received a state without .*_growth_tracker"):
        scaler.load_state_dict({"scale": 1.0})
