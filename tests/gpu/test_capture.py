"""Whole training steps captured as CUDA graphs: replays train as eager steps do, bit for bit."""

import warnings

import numpy as np
import pytest
from hostsim import on_host

import chainrule as cr
from chainrule import nn, optim

OPTIMISERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda p: optim.Adam(p, lr=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01, amsgrad=True),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.1, lr_decay=0.1),
    "Adadelta": lambda p: optim.Adadelta(p),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
}


def network(seed=0):
    cr.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3)).to("cuda")


def batches(rng, count, size=4):
    for _ in range(count):
        x, y = rng.standard_normal((size, 5)).astype("f4"), rng.integers(0, 3, size)
        yield cr.tensor(x, device="cuda"), cr.tensor(y, device="cuda")


def training(model, optimizer):
    def step(x, y):
        optimizer.zero_grad()
        loss = cr.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


@pytest.mark.parametrize("name", OPTIMISERS)
def test_replays_train_as_eager_steps(rng, name):
    data, losses, models = list(batches(rng, 6)), [], []
    for wrap in (lambda step: step, cr.capture):
        model = network()
        optimizer = OPTIMISERS[name](model.parameters())
        step = wrap(training(model, optimizer))
        losses.append([step(x, y).item() for x, y in data])
        models.append([p.cpu().detach().numpy() for p in model.parameters()])
        steps = {float(s["step"].item()) for s in optimizer.state.values() if "step" in s}
        assert steps <= {6.0}
    assert step.reason == ""
    assert losses[0] == losses[1]
    for a, b in zip(*models, strict=True):
        np.testing.assert_array_equal(a, b)


def test_learning_rates_change_from_replay_to_replay(rng):
    data, ends = list(batches(rng, 6)), []
    for wrap in (lambda step: step, cr.capture):
        model = network()
        optimizer = optim.Adam(model.parameters(), lr=0.05)
        schedule = optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
        step = wrap(training(model, optimizer))
        for x, y in data:
            step(x, y)
            schedule.step()
        ends.append(model[0].weight.cpu().tolist())
    assert ends[0] == ends[1] and step.reason == ""


def test_graphs_are_kept_by_shape_and_flags(rng):
    model = network()
    step = cr.capture(training(model, optim.SGD(model.parameters(), lr=0.1)))
    reference = network()
    plain = training(reference, optim.SGD(reference.parameters(), lr=0.1))
    for size in (4, 4, 4, 2, 2, 4, 2, 2):
        for x, y in batches(rng, 1, size):
            assert step(x, y).item() == plain(x, y).item()
    assert len(step._known) == 2 and step.reason == ""
    with cr.no_grad():
        evaluate = cr.capture(lambda x: model(x).argmax(1))
        assert [evaluate(x).tolist() == model(x).argmax(1).tolist() for x, _ in batches(rng, 4)] == [True] * 4


def test_results_are_overwritten_and_have_no_history(rng):
    w = cr.ones(3, device="cuda", requires_grad=True)
    step = cr.capture(lambda x: {"sum": (w * x).sum(), "all": [w * x]})
    outs = [step(cr.full((3,), float(i), device="cuda")) for i in range(4)]
    assert not outs[3]["sum"].requires_grad and outs[2]["sum"] is outs[3]["sum"] and outs[3]["sum"].item() == 9
    assert outs[3]["all"][0].tolist() == [3, 3, 3]


def test_a_step_that_waits_runs_as_it_is_and_says_why(rng):
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    plain = training(model, optimizer)

    def step(x, y):
        loss = plain(x, y)
        return loss if loss.item() < 1e9 else None

    captured, data = cr.capture(step), list(batches(rng, 3))
    captured(*data[0])
    with pytest.warns(UserWarning, match="step runs without a CUDA graph: capture failed with .*Error"):
        captured(*data[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        captured(*data[2])
    assert "capture failed" in captured.reason
    reference = network()
    again = training(reference, optim.SGD(reference.parameters(), lr=0.1))
    for x, y in data:
        again(x, y)
    assert model[0].weight.tolist() == reference[0].weight.tolist()


def test_arguments_that_tell_nothing_make_no_graph():
    step = cr.capture(lambda x, y: x * len(y))
    with pytest.warns(UserWarning, match="runs as it is: it received an argument of type set") as told:
        assert [step(cr.ones(1, device="cuda"), {1}).item() for _ in range(3)] == [1, 1, 1]
    assert len(told) == 1
    assert step.reason.startswith("it received an argument of type set; graphs are told apart by tensors")


def test_graphs_are_not_kept_without_end(monkeypatch):
    import sys

    monkeypatch.setattr(sys.modules["chainrule.autograd.capture"], "_MOST", 2)
    step = cr.capture(lambda x: x + 1)
    with pytest.warns(UserWarning, match="runs as it is: its arguments have come in 2 forms already") as told:
        for n in (1, 2, 3, 3, 3, 1, 1):
            assert step(cr.zeros(n, device="cuda")).tolist() == [1] * n
            assert ("2 forms already" in step.reason) == (n == 3)
    assert len(told) == 1


def test_dropout_draws_anew_at_each_replay():
    draws = []
    for wrap in (lambda step: step, cr.capture):
        cr.manual_seed(3)
        step = wrap(lambda x: cr.dropout(x, 0.5))
        draws.append([step(cr.ones(64, device="cuda")).tolist() for _ in range(5)])
    assert draws[0] == draws[1] and len({tuple(d) for d in draws[1]}) == 5 and step.reason == ""


def test_running_statistics_move_at_each_replay(rng):
    ends = []
    data = [cr.tensor(rng.standard_normal((6, 3)), device="cuda") for _ in range(5)]
    for wrap in (lambda step: step, cr.capture):
        layer = nn.BatchNorm1d(3).double().to("cuda")
        step = wrap(lambda x, layer=layer: layer(x).sum())
        for x in data:
            step(x)
        ends.append((layer.running_mean.tolist(), layer.running_var.tolist(), layer.num_batches_tracked.item()))
    assert ends[0] == ends[1] and step.reason == ""


def test_a_tensor_on_the_cpu_is_read_anew_each_time():
    step = cr.capture(lambda x, lengths: x * max(lengths.tolist()))
    with pytest.warns(UserWarning, match="runs as it is: a tensor among its arguments is on the CPU") as told:
        ends = [step(cr.ones(1, device="cuda"), cr.tensor([i], device="cpu")).item() for i in range(5)]
    assert len(told) == 1
    assert ends == [0, 1, 2, 3, 4] and "is on the CPU, whose values a graph would not see change" in step.reason


def test_one_step_serves_both_devices():
    step = cr.capture(lambda x: x * 2)
    for _ in range(3):
        assert step(cr.ones(2, device="cpu")).tolist() == step(cr.ones(2, device="cuda")).tolist() == [2, 2]
    assert step.reason == "" or "is alive" in step.reason


def test_a_step_without_tensors_says_what_it_lacks():
    step = cr.capture(lambda: cr.ones(2, device="cuda").tolist())
    with pytest.warns(UserWarning, match="runs as it is: no tensor among its arguments says"):
        assert step() == [1, 1]
    assert "no tensor among its arguments" in step.reason


@pytest.mark.skipif(not on_host(), reason="the stand-in alone can look at a graph")
def test_nothing_runs_while_it_is_captured(rng, cupy):
    x = cr.ones(3, device="cuda")
    step = cr.capture(lambda a: x.add_(a))
    for i in range(1, 5):
        step(cr.ones(3, device="cuda"))
        assert x.tolist() == [1 + i] * 3
