"""Steps captured on the CPU: replays do what eager steps do, bit for bit, or the step runs as it is and says why."""

import gc
import math
import operator
import pickle
import threading
import warnings

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.autograd import primitive
from chainrule.autograd.tensor import result

F = nn.functional
pytestmark = pytest.mark.usefixtures("cpu_by_default")

OPTIMISERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": lambda p: optim.Adam(p, lr=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01, amsgrad=True),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.1, lr_decay=0.1),
    "Adadelta": lambda p: optim.Adadelta(p),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
}


def network():
    cr.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3))


def batches(rng, count, size=4, features=(5,), classes=3):
    for _ in range(count):
        x = cr.tensor(rng.standard_normal((size, *features)).astype("f4"))
        yield x, cr.tensor(rng.integers(0, classes, size))


def training(model, optimizer, between=lambda: None):
    def step(x, y):
        optimizer.zero_grad()
        loss = cr.cross_entropy(model(x), y)
        loss.backward()
        between()
        optimizer.step()
        return loss

    return step


def state_of(model):
    return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}


def gradients_of(model):
    return {name: None if p.grad is None else p.grad.numpy().copy() for name, p in model.named_parameters()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert (a[name] is None) == (b[name] is None), name
        if a[name] is not None:
            assert a[name].dtype == b[name].dtype and a[name].tobytes() == b[name].tobytes(), name


def compared(make, data, after=lambda step: None):
    """Losses, states and gradients of an eager and a captured step after each batch; the captured step.

    make() gives a model and the step that trains it.
    """
    data, told, step = list(data), [], None
    for capture in (False, True):
        model, step = make()
        step = cr.capture(step) if capture else step
        told.append([])
        for batch in data:
            out = step(*batch)
            after(step)
            told[-1].append((out.detach().numpy().tobytes(), state_of(model), gradients_of(model)))
    for (a, states, slopes), (b, others, their) in zip(*told, strict=True):
        assert a == b
        assert_same(states, others)
        assert_same(slopes, their)
    return step


# ---- what is replayed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMISERS)
def test_replays_train_as_eager_steps_with_a_schedule(rng, name):
    schedules = {}

    def make():
        model = network()
        optimizer = OPTIMISERS[name](model.parameters())
        step = training(model, optimizer)
        schedules["now"] = optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
        return model, step

    step = compared(make, batches(rng, 7), lambda step: schedules["now"].step())
    assert step.reason == ""


def lenet():
    cr.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3),
    )  # fmt: skip


def normed():
    cr.manual_seed(0)
    layers = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 3)
    return nn.Sequential(*layers)


def wide():
    cr.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))


@pytest.mark.parametrize(
    "build, batch",
    [
        (wide, dict(features=(784,), classes=10, size=128)),
        (lenet, dict(features=(1, 16, 16))),
        (normed, dict(features=(2, 6, 6))),
    ],
)
def test_networks(rng, build, batch):
    def make():
        model = build()
        return model, training(model, optim.SGD(model.parameters(), lr=0.05, momentum=0.9))

    assert compared(make, batches(rng, 5, **batch)).reason == ""


class Characters(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.table, self.cell, self.out = nn.Embedding(7, 4), getattr(nn, kind)(4, 6), nn.Linear(6, 7)

    def forward(self, x):
        return self.out(self.cell(self.table(x))[0]).reshape(-1, 7)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_networks(rng, kind):
    def make():
        cr.manual_seed(0)
        model = Characters(kind)
        return model, training(model, optim.Adam(model.parameters(), lr=0.01))

    data = [(cr.tensor(rng.integers(0, 7, (5, 3))), cr.tensor(rng.integers(0, 7, 15))) for _ in range(5)]
    assert compared(make, data).reason == ""


def test_gradients_are_clipped(rng):
    def make():
        model = network()
        clip = lambda: nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        return model, training(model, optim.SGD(model.parameters(), lr=0.5), clip)

    assert compared(make, batches(rng, 5)).reason == ""

    def valued():
        model = network()
        clip = lambda: nn.utils.clip_grad_value_(model.parameters(), 0.01)
        return model, training(model, optim.SGD(model.parameters(), lr=0.5), clip)

    assert compared(valued, batches(rng, 5)).reason == ""


def test_gradients_add_up_and_are_left_behind(rng):
    def make():
        model = network()
        count = iter(range(100))

        def step(x, y):
            loss = cr.cross_entropy(model(x), y)
            loss.backward()
            return loss

        def outer(x, y):  # the gradients of two batches, then none
            out = captured(x, y)
            if next(count) % 2:
                for p in model.parameters():
                    p.grad = None
            return out

        captured = cr.capture(step)
        made.append(captured)
        return model, outer

    made = []
    data = list(batches(rng, 8))
    model, step = make()
    eager = network()
    for i, (x, y) in enumerate(data):
        loss = cr.cross_entropy(eager(x), y)
        loss.backward()
        mine = step(x, y)
        assert mine.item() == loss.item()
        if i % 2:
            for p in eager.parameters():
                p.grad = None
        assert_same(gradients_of(model), gradients_of(eager))
    assert made[0].reason == ""


def test_no_gradients_are_recorded_under_no_grad(rng):
    model = network()
    evaluate = cr.capture(lambda x: model(x).softmax(1))
    with cr.no_grad():
        for x, _ in batches(rng, 4):
            assert evaluate(x).tolist() == model(x).softmax(1).tolist()
    assert evaluate.reason == ""


def test_forms_are_kept_apart(rng):
    model, plain = network(), network()
    step = cr.capture(training(model, optim.SGD(model.parameters(), lr=0.1)))
    eager = training(plain, optim.SGD(plain.parameters(), lr=0.1))
    for size in (4, 4, 4, 2, 2, 4, 2, 2):
        for x, y in batches(rng, 1, size):
            assert step(x, y).item() == eager(x, y).item()
    assert step.reason == "" and len(step._known) == 2


def test_numbers_that_are_equal_are_not_the_same():
    step = cr.capture(lambda x, k: x / k if isinstance(k, float) else x // k)
    for k in (2, 2, 2, 2.0, 2.0, 2.0, 0.0, 0.0, -0.0, -0.0, 1, 1, True, True):
        with np.errstate(divide="ignore"):
            expected = np.float32(7) / np.float32(k) if isinstance(k, float) else 7 // k
            assert step(cr.full((1,), 7.0), k).item() == expected
    for _ in range(40):
        assert step(cr.ones(1), float("nan")).isnan().item()
    assert step.reason == ""


def test_arrays_of_other_layouts_are_other_forms(rng):
    step = cr.capture(lambda x: (x * 2 + 1).reshape(-1))
    for values in 3 * [rng.standard_normal((3, 4))]:
        for x in (cr.tensor(values), cr.tensor(values.T.copy()).T, cr.tensor(np.repeat(values, 2, 1))[:, ::2]):
            assert step(x).tolist() == (values * 2 + 1).reshape(-1).tolist()
    assert len(step._known) == 3


def test_another_default_dtype_is_another_form():
    step = cr.capture(lambda x: x * cr.ones(2))
    for default in (cr.float32, cr.float64) * 4:
        before = cr.autograd.get_default_dtype()
        cr.set_default_dtype(default)
        try:
            assert step(cr.tensor([1.0, 2.0], dtype=cr.float32)).dtype == default
        finally:
            cr.set_default_dtype(before)
    assert step.reason == "" and len(step._known) == 2


def test_one_tensor_passed_twice_is_one(rng):
    def step(x, y):
        (x * y).sum().backward()

    captured = cr.capture(step)
    x, y = (cr.tensor(v, requires_grad=True) for v in ([1.0, 2.0], [3.0, 4.0]))
    for _ in range(4):
        x.grad = y.grad = None
        captured(x, y)
        assert x.grad.tolist() == [3, 4] and y.grad.tolist() == [1, 2]
        x.grad = None
        captured(x, x)
        assert x.grad.tolist() == [2, 4]
    assert captured.reason == ""


def test_dropout_draws_anew_and_as_eagerly():
    draws = []
    for wrap in (lambda step: step, cr.capture):
        cr.manual_seed(3)
        w = cr.ones(64, requires_grad=True)

        def work(x, w=w):
            w.grad = None
            out = cr.dropout(x * w, 0.5)
            out.sum().backward()
            return out

        step = wrap(work)
        draws.append([(step(cr.ones(64)).tolist(), w.grad.tolist()) for _ in range(6)])
    assert draws[0] == draws[1] and len({str(d) for d in draws[1]}) == 6 and step.reason == ""


def test_generators_that_are_seeded_between_steps_and_inside():
    draws = []
    for wrap in (lambda step: step, cr.capture):
        cr.manual_seed(0)
        between = wrap(lambda x: cr.dropout(x, 0.5))
        inside = wrap(lambda x: (cr.manual_seed(7), cr.dropout(x, 0.5))[1])
        draws.append([])
        for i in range(6):
            if i == 4:
                cr.manual_seed(3)
            draws[-1].append(between(cr.ones(64)).tolist())
        draws[-1] += [inside(cr.ones(64)).tolist() for _ in range(4)]
    assert draws[0] == draws[1] and len({str(d) for d in draws[1]}) == 7


def test_a_checkpoint_draws_again_what_it_drew(rng):
    told, data = [], [x for x, _ in batches(rng, 5)]
    for wrap in (lambda step: step, cr.capture):
        model = network().insert(1, nn.Dropout(0.5))

        def work(x, model=model):
            model.zero_grad()
            out = cr.dropout(cr.checkpoint(model, x), 0.5)
            out.sum().backward()
            return out

        step = wrap(work)
        told.append([(step(x).tolist(), {k: g.tolist() for k, g in gradients_of(model).items()}) for x in data])
    assert told[0] == told[1] and step.reason == ""


def test_results_have_no_history_and_keep_their_structure():
    w = cr.ones(3, requires_grad=True)
    step = cr.capture(lambda x: {"sum": (w * x).sum(), "all": [w * x, "text"], "w": w})
    for i in range(4):
        out = step(cr.full((3,), float(i)))
        assert out["sum"].item() == 3 * i and out["all"][0].tolist() == [i] * 3 and out["all"][1] == "text"
        assert not (out["sum"].requires_grad or out["all"][0].requires_grad) and out["w"].tolist() == [1, 1, 1]
    assert step.reason == ""


# ---- what lies outside -----------------------------------------------------------------------------------------------


def test_values_computed_from_parameters_alone_are_computed_anew():
    w = cr.tensor([1.0, 2.0], requires_grad=True)

    def step(x):
        w.grad = None
        loss = (w * w).sum() * x + w.detach().sum()
        loss.backward()
        with cr.no_grad():
            w.sub_(w.grad * 0.1)
        return loss

    captured, ends = cr.capture(step), []
    for run in (step, captured):
        with cr.no_grad():
            w[...] = cr.tensor([1.0, 2.0])
        ends.append([run(cr.tensor(1.0)).item() for _ in range(5)])
    assert ends[0] == ends[1] and captured.reason == ""


def test_parameters_may_be_given_other_arrays():
    w = cr.tensor([1.0, 2.0], requires_grad=True)
    step = cr.capture(lambda x: (w * x).sum())
    x = cr.ones(2)
    assert [step(x).item() for _ in range(3)] == [3] * 3
    w.data = cr.tensor([5.0, 6.0])
    assert step(x).item() == 11
    w.data = cr.tensor([5.0, 6.0, 7.0])
    assert step(cr.ones(3)).item() == 18
    w.data = cr.tensor([1.0, 1.0], dtype=cr.float64)
    assert step(x).item() == 2 and step(x).item() == 2 and step.reason == ""


def test_a_frozen_parameter_is_frozen():
    v, w = cr.ones(2, requires_grad=True), cr.ones(2, requires_grad=True)

    def step():
        v.grad = w.grad = None
        (v * w).sum().backward()

    captured = cr.capture(step)
    for _ in range(3):
        captured()
    w.requires_grad_(False)
    for _ in range(3):
        captured()
        assert w.grad is None and v.grad.tolist() == [1, 1]
    assert captured.reason == ""


def test_states_that_are_loaded_are_used(rng):
    data = list(batches(rng, 8))
    ends = []
    for wrap in (lambda step: step, cr.capture):
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        step = wrap(training(model, optimizer))
        for x, y in data[:4]:
            step(x, y)
        saved, options = {k: v.clone() for k, v in model.state_dict().items()}, optimizer.state_dict()
        options["param_groups"][0]["lr"] = 0.01
        for x, y in data[4:6]:
            step(x, y)
        model.load_state_dict(saved)
        optimizer.load_state_dict(options)
        for x, y in data[6:]:
            step(x, y)
        ends.append(state_of(model))
    assert_same(*ends)
    assert step.reason == ""


def test_a_replaced_tensor_makes_a_new_recording():
    held = {"h": cr.ones(2)}
    step = cr.capture(lambda x: held["h"] * x)
    for value in (1.0, 1.0, 1.0, 2.0, 2.0, 3.0):
        if held["h"][0].item() != value:
            held["h"] = cr.full((2,), value)
        assert step(cr.ones(2)).tolist() == [value] * 2
    assert step.reason == ""


def test_what_is_held_may_be_read_by_any_function():
    """A built-in method has no object of Python's that a weak reference could be kept of."""
    options = [2.0]

    def step(x):
        cr.autograd.hold(options.copy)
        return x * options[0]

    captured = cr.capture(step)
    for value in (2.0, 2.0, 2.0, 3.0, 3.0, 2.0):
        options[0] = value
        assert captured(cr.ones(2)).tolist() == [value] * 2
    assert captured.reason == ""


def test_options_that_an_optimiser_takes_over_are_read(rng):
    """A group added later moves too, though nothing that was recorded knows of it."""
    ends = []
    for wrap in (lambda step: step, cr.capture):
        v, w = cr.ones(2, requires_grad=True), cr.ones(2, requires_grad=True)
        optimizer = optim.SGD([v], lr=0.1)

        def work(v=v, w=w, optimizer=optimizer):
            optimizer.zero_grad()
            w.grad = None
            (v * w).sum().backward()
            optimizer.step()

        step = wrap(work)
        for _ in range(4):
            step()
        optimizer.add_param_group({"params": [w], "lr": 0.5})
        for _ in range(4):
            step()
        ends.append((v.tolist(), w.tolist()))
    assert ends[0] == ends[1] and step.reason == ""


def test_options_and_modules_that_are_changed_are_noticed(rng):
    """Recordings for both modes are kept: going to and fro makes no new ones."""

    def change(i, model, optimizer):
        if i % 4 == 3:
            model.train(not model.training)
        if i == 14:
            optimizer.param_groups[0]["momentum"] = 0.5
        if i == 16:
            optimizer.param_groups[0] = {**optimizer.param_groups[0], "lr": 0.05}
        if i == 17:
            model[1].p = 0.25
        if i == 20:
            model[3] = nn.Linear(8, 3)
            optimizer.add_param_group({"params": model[3].parameters()})
        if i == 24:
            model.append(nn.Tanh())
        if i == 27:
            model[0].register_forward_hook(lambda module, args, out: out * 2)

    told, data, counts = [], list(batches(rng, 32)), []
    for wrap in (lambda step: step, cr.capture):
        cr.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 3))
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        step = wrap(training(model, optimizer))
        told.append([])
        for i, batch in enumerate(data):
            change(i, model, optimizer)
            told[-1].append((step(*batch).item(), state_of(model)))
            if i == 13 and isinstance(step, cr.capture):
                counts = [len(known) for known in step._known.values()]
    for (a, states), (b, others) in zip(*told, strict=True):
        assert a == b
        assert_same(states, others)
    assert step.reason == "" and counts == [2]


def test_a_model_in_the_place_of_another_is_used():
    held = {}
    step = cr.capture(lambda x: held["model"](x))
    with cr.no_grad():
        for i in range(9):
            if i % 3 == 0:
                held["model"] = nn.Sequential(nn.Linear(2, 2, bias=False))
                held["model"][0].weight.fill_(float(i))
            assert step(cr.ones(2)).tolist() == [2 * (i - i % 3)] * 2
    assert step.reason == ""


def test_modules_made_inside_are_not_waited_for():
    step = cr.capture(lambda x: nn.Sequential(nn.ReLU(), nn.MSELoss())[0](x))
    for i in range(5):
        assert step(cr.full((2,), float(i))).tolist() == [i, i]
    assert [len(known) for known in step._known.values()] == [1]


def test_a_hook_on_a_leaf_is_noticed():
    w = cr.ones(2, requires_grad=True)

    def step(x):
        w.grad = None
        (w * x).sum().backward()

    captured = cr.capture(step)
    for i in range(8):
        handle = w.register_hook(lambda g: g * 3) if i == 4 else None
        captured(cr.full((2,), float(i)))
        assert w.grad.tolist() == [i * 3 if i == 4 else i] * 2
        if handle:
            handle.remove()
    assert captured.reason == ""


@pytest.mark.parametrize("clears", [True, False])
def test_a_gradient_that_comes_from_elsewhere(clears):
    """An optimiser moves what has a gradient, and clears it, though no recorded step has used that parameter."""

    def trained(wrap):
        p, q = (cr.ones(2, requires_grad=True) for _ in range(2))
        optimizer, told = optim.SGD([p, q], lr=0.5), []

        @wrap
        def step(x):
            if clears:
                p.grad = q.grad = None
            (p * x).sum().backward()
            optimizer.step()

        for i in range(10):
            if i % 4 == 3:
                q.grad = cr.ones(2)
            step(cr.ones(2))
            told.append((p.tolist(), q.tolist(), q.grad is None))
            if not clears:
                q.grad = None
        return told, step

    (expected, _), (got, step) = trained(lambda step: step), trained(cr.capture)
    assert got == expected and step.reason == "" and step._times.popitem()[1] < 4


def test_an_optimiser_whose_state_was_cleared_starts_anew(rng):
    told, data = [], list(batches(rng, 8))
    for wrap in (lambda step: step, cr.capture):
        model = network()
        optimizer = optim.Adam(model.parameters(), lr=0.1)
        step = wrap(training(model, optimizer))
        for i, batch in enumerate(data):
            if i == 5:
                optimizer.state.clear()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the step makes new state, which is its own
                step(*batch)
        told.append(state_of(model))
    assert_same(*told)


def test_what_never_stays_the_same_is_given_up():
    held = {}
    step = cr.capture(lambda x: held["h"] * x)
    with pytest.warns(UserWarning, match="runs as it is: what it takes from outside has been replaced 24 times"):
        for i in range(30):
            held["h"] = cr.full((2,), float(i))
            assert step(cr.ones(2)).tolist() == [i] * 2
    assert "pass it as arguments" in step.reason


def test_graphs_from_before_a_replay_notice_what_it_wrote():
    w = cr.ones(2, requires_grad=True)

    def step(x):
        with cr.no_grad():
            w.mul_(x)

    captured = cr.capture(step)
    for _ in range(2):
        captured(cr.ones(2))
    for _ in range(2):
        loss = (w * w).sum()
        captured(cr.ones(2))
        with pytest.raises(RuntimeError, match="changed in place after it was recorded"):
            loss.backward()
    assert captured.reason == ""


# ---- what is not captured --------------------------------------------------------------------------------------------


def said(step, *calls, match):
    """Call the step on each, of which one warns; the reason stays."""
    captured = cr.capture(step)
    with pytest.warns(UserWarning, match=match) as told:
        outs = [captured(*call) for call in calls]
    assert len(told) == 1
    assert captured.reason
    return outs


def test_a_step_that_looks_at_values_does_its_work_once():
    x = cr.zeros(2)

    def step(a):
        x.add_(a)
        return a * 2 if x.sum().item() < 4 else a * 3

    outs = said(step, *[(cr.ones(2),)] * 4, match="step runs as it is: Python looked at the value of a tensor")
    assert x.tolist() == [4, 4] and [o.tolist()[0] for o in outs] == [2, 3, 3, 3]


@primitive(name="noisy", differentiable=False)
def noisy(k, x):
    return x * np.random.default_rng().random(x.shape)


@pytest.mark.parametrize(
    "step, match",
    [
        (lambda x: x * cr.tensor(np.ones(2)), "a tensor was made of NumPy's numbers inside"),
        (lambda x: x[x > 0], "depends on values"),
        (lambda x: x + cr.rand(2), "a tensor was made of NumPy's numbers inside"),
        (lambda x: print(x) or x, "looked at the value"),
        (lambda x: x if x.sum() > 0 else -x, "looked at the value"),
        (lambda x: x * float(x.max()), "looked at the value"),
        (lambda x: cr.tensor(np.asarray(x) * 2), "NumPy took the array out"),
        (lambda x: x * len(f"{x.sum():.2f}"), "looked at the value"),
        (lambda x: pickle.loads(pickle.dumps(x.detach())), "copied or stored"),
        (lambda x: cr.from_dlpack(x.detach()), "another library|memory was reached"),
        (lambda x: x * max(x.tolist()), "looked at the value"),
        (lambda x: x * 2 if x.array.ctypes.data else x, "its memory was reached by .ctypes"),
        (lambda x: x[: int(x.sum())], "looked at the value"),
        (lambda x: x.numpy(), "NumPy took the array out"),
        (lambda x: x * noisy(x), "an array was used that the recording has not seen made"),
        (lambda x: (x * 2).array, r"a tensor of shape \(2,\) that it made is kept"),
        (lambda x: cr.as_tensor(x.array[x.argmax(0).array :]).reshape(-1)[:2], "looked at the value"),
        (lambda x: x * cr.nonzero(x).numel(), "depends on values"),
    ],
)
def test_what_a_replay_could_not_repeat(step, match, capsys):
    for out in said(step, *[(cr.ones(2),)] * 4, match=match):
        assert out.shape[0] == 2 and type(out) in (cr.Tensor, np.ndarray)


def test_a_tensor_that_is_kept_elsewhere():
    class Net:
        h = cr.zeros(2)

        def step(self, x):
            self.h = self.h.detach() + x
            return self.h.sum()

    net = Net()
    outs = said(net.step, *[(cr.ones(2),)] * 5, match=r"a tensor of shape \(2,\) that it made is kept .* return it")
    assert [o.item() for o in outs] == [2, 4, 6, 8, 10] and net.h.tolist() == [5, 5]


def test_losses_in_a_list_are_right_and_said():
    losses, w = [], cr.ones(2, requires_grad=True)

    def step(x):
        loss = (w * x).sum()
        loss.backward()
        losses.append(loss)
        return loss

    said(step, *[(cr.full((2,), float(i)),) for i in range(5)], match="is kept by something else")
    assert [loss.item() for loss in losses] == [0, 2, 4, 6, 8]


def test_a_tensor_that_is_given_another_array_inside():
    w = cr.ones(2)

    def step(x):
        w.data = w.data + x

    said(step, *[(cr.ones(2),)] * 4, match="gave a tensor of shape .* another array")
    assert w.tolist() == [5, 5]


def test_a_forest_among_the_arguments_and_one_that_the_step_knows():
    net, x = nn.RecursiveNet(2), cr.ones(3, 2)
    left, right = (nn.Forest(nn.Tree.from_nested(nested)) for nested in (((0, 1), 2), (0, (1, 2))))
    known = [left]
    with cr.no_grad():
        own = {forest: net(x, forest)[0].tolist() for forest in (left, right)}
        given = cr.capture(lambda x, forest: net(x, forest)[0])
        with pytest.warns(UserWarning, match="runs as it is: it received an argument of type Forest") as told:
            for forest in (left, left, left, right):
                assert given(x, forest).tolist() == own[forest]
        assert len(told) == 1 and told[0].filename == __file__
        assert "of type Forest; graphs are told apart by tensors" in given.reason
        assert "pass those alone, or call the step without capture" in given.reason
        outs = said(lambda x: net(x, known[0])[0], *[(x,)] * 3, match="a tensor was made of NumPy's numbers inside")
    assert [out.tolist() for out in outs] == [own[left]] * 3


def test_an_argument_with_a_history():
    w = cr.ones(2, requires_grad=True)

    def step(x):
        (x * 2).sum().backward()

    captured = cr.capture(step)
    with pytest.warns(UserWarning, match="step runs as it is: a tensor among its arguments has a history") as told:
        for _ in range(3):
            captured(w * 3)
    assert len(told) == 1 and w.grad.tolist() == [18, 18] and "pass x.detach()" in captured.reason


def test_someone_who_watches_sees_every_operation():
    step = cr.capture(lambda x: x * 2)
    for _ in range(3):
        step(cr.ones(2))
    names = []

    class Names(cr.autograd.Watch):
        def made(self, primitive, node, arrays, out):
            names.append(primitive.name)

    with cr.autograd.watching(Names()):
        assert step(cr.ones(2)).tolist() == [2, 2]
    assert names == ["multiply"] and step.reason.startswith("someone watches")
    assert step(cr.ones(2)).tolist() == [2, 2] and step.reason == ""


def test_gradients_with_a_history():
    w = cr.ones(2, requires_grad=True)

    def step(x):
        w.grad = None
        (w * w * x).sum().backward(create_graph=True)

    said(step, *[(cr.ones(2),)] * 3, match="has a history")
    assert w.grad.tolist() == [2, 2]


def test_an_error_leaves_everything_as_it_was():
    w = cr.ones(2)
    step = cr.capture(lambda x: w * x[:3].reshape(3) if len(step._known) else w * x)
    with pytest.raises(ValueError, match="multiply"):
        step(cr.ones(4))
    assert type(w.array) is np.ndarray


def test_an_error_while_recording_is_raised_and_leaves_the_tensors_alone():
    w, calls = cr.ones(2), []

    def step(x):
        calls.append(0)
        w.add_(x)
        if len(calls) == 2:
            raise KeyError("mine")
        return w * 1

    captured = cr.capture(step)
    captured(cr.ones(2))
    with pytest.raises(KeyError, match="mine"):
        captured(cr.ones(2))
    assert type(w.array) is np.ndarray and w.tolist() == [3, 3]
    assert captured(cr.ones(2)).tolist() == [4, 4] and "KeyError while it was captured" in captured.reason


def test_frozen_objects_hide_tensors():
    w = cr.ones(2)
    gc.freeze()
    try:
        said(lambda x: w * x, *[(cr.ones(2),)] * 3, match="gc.freeze")
    finally:
        gc.unfreeze()


def test_forms_are_not_kept_without_end(monkeypatch):
    import sys

    monkeypatch.setattr(sys.modules["chainrule.autograd.capture"], "_MOST", 2)
    step = cr.capture(lambda x: x + 1)
    with pytest.warns(UserWarning, match="runs as it is: its arguments have come in 2 forms already") as told:
        for n in (1, 2, 3, 3, 3, 1, 1):
            assert step(cr.zeros(n)).tolist() == [1] * n
            assert ("2 forms already" in step.reason) == (n == 3)
    assert len(told) == 1


def test_a_class_out_of_range_is_an_error_in_replays_too(rng):
    step = cr.capture(lambda x, y: cr.cross_entropy(x, y))
    for x, y in batches(rng, 3, features=(3,)):
        step(x, y)
    with pytest.raises(IndexError):
        step(x, cr.tensor([0, 1, 2, 3]))


def test_an_argument_that_the_step_knows_already():
    v, w = (cr.ones(2, requires_grad=True) for _ in range(2))

    def step(x):
        w.grad = None
        (x * w).sum().backward()

    captured = cr.capture(step)
    for x in (w, w, w, v, v, w, v):
        v.grad = None
        captured(x)
        assert w.grad.tolist() == ([2, 2] if x is w else [1, 1]) and (v.grad is None) == (x is w)
    assert captured.reason == ""


def test_an_array_from_elsewhere():
    def step(x):
        made = cr.ones(2)
        made.array = np.full(2, 5.0)
        return made

    outs = said(step, *[(cr.ones(2),)] * 3, match="returned a tensor that the recording has not seen made")
    assert [o.tolist() for o in outs] == [[5, 5]] * 3


def test_what_kernels_give_that_is_no_array():
    said(lambda x: x if cr.autograd.kernels_of(x).get_printoptions() else x, *[(cr.ones(2),)] * 3, match="a dict came")


def test_a_number_that_changes_is_not_computed_with_in_python():
    lr = {"now": 0.5}
    w = cr.ones(2)

    def step(x):
        rate = cr.autograd.kernels_of(x).live(lambda: lr["now"])
        with cr.no_grad():
            w.sub_(x * (rate * 2))

    said(step, *[(cr.ones(2),)] * 4, match="computed with a number that changes")
    assert w.tolist() == [-3, -3]


# ---- threads ---------------------------------------------------------------------------------------------------------


def test_other_threads_work_while_a_step_is_recorded(rng):
    """They use the tensors that look recorded, and nothing of theirs is noted."""
    w, inside, done, seen = cr.ones(4), threading.Event(), threading.Event(), []

    def other():
        inside.wait(10)
        seen.append((w * 3 + w[1:2]).sum().item())
        done.set()

    def step(x):
        inside.set()
        assert done.wait(10)
        return w * x

    thread = threading.Thread(target=other)
    captured = cr.capture(step)
    done.set()
    captured(cr.ones(4))
    done.clear()
    inside.clear()
    thread.start()
    captured(cr.ones(4))
    thread.join()
    assert seen == [16] and captured.reason == ""
    assert len(captured._known[next(iter(captured._known))]) == 1
    assert captured(cr.full((4,), 2.0)).tolist() == [2] * 4


def test_gradients_that_another_thread_leaves(rng):
    """They are added in place to recorded arrays, and are no gradients of the step."""
    v, w = (cr.ones(3, requires_grad=True) for _ in range(2))
    v.grad = cr.zeros(3)

    def other():
        (v * 2).sum().backward()
        w.grad = None
        (w * 2).sum().backward()

    def step(x):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return x * 2

    said(step, *[(cr.ones(3),)] * 3, match="left a gradient that the recording has not seen made")
    assert v.grad.tolist() == [6, 6, 6] and w.grad.tolist() == [2, 2, 2] and type(v.grad.array) is np.ndarray


def test_one_thread_records_at_a_time():
    """The other's step runs as it is, and is recorded later."""
    x, began, end, outs = cr.ones(2), threading.Event(), threading.Event(), []
    calls = iter(range(10))

    def slow(x):
        if next(calls) == 1:
            began.set()
            assert end.wait(10)
        return x * 2

    one, other = cr.capture(slow), cr.capture(lambda x: x * 3)
    one(x), other(x)
    thread = threading.Thread(target=lambda: outs.append(one(x).tolist()))
    thread.start()
    assert began.wait(10)
    outs.append(other(x).tolist())
    end.set()
    thread.join()
    assert outs == [[3, 3], [2, 2]] and one.reason == other.reason == ""
    assert [step for step in (one, other) for known in step._known.values() if known] == [one]


def test_a_captured_step_within_another():
    inner = cr.capture(lambda x: x * 2)
    outer = cr.capture(lambda x: inner(x) + 1)
    for i in range(6):
        assert outer(cr.full((2,), float(i))).tolist() == [2 * i + 1] * 2
    assert outer.reason == "" and inner.reason == ""


# ---- runs of elementwise operations ----------------------------------------------------------------------------------

UNARY = [
    lambda x: -x,
    lambda x: x.abs(),
    lambda x: (x * x + 1).sqrt(),
    lambda x: x.square(),
    lambda x: 1 / (x * x + 0.5),
    lambda x: x * 3 - 1,
    lambda x: 2.5 - x,
    lambda x: x / 7,
    lambda x: cr.where(x > 0, x, x * 0.1),
    lambda x: x * (x < 1).to(x.dtype),
    lambda x: x.exp().clamp(max=3.0),  # these two are NumPy's
    lambda x: x.tanh(),
    lambda x: x.relu(),
]
BINARY = [
    lambda x, y: x + y,
    lambda x, y: x - y,
    lambda x, y: x * y,
    lambda x, y: x / (y * y + 1),
    lambda x, y: cr.where(x >= y, x, y),
    lambda x, y: cr.where(x != y, x * y, x),
]


def drawn(rng, count):
    """A function of two tensors: so many operations on what has been computed before."""
    choices = []
    for _ in range(count):
        table = BINARY if rng.random() < 0.6 else UNARY
        choices.append((table[rng.integers(len(table))], rng.random(), rng.random()))

    def run(*values):
        values = list(values)
        for op, a, b in choices:
            first, second = (values[-1 - int(u * min(len(values), 4))] for u in (a, b))
            values.append(op(first, second) if op in BINARY else op(first))
        return values

    return run


SHAPES = [
    ((6,), (6,)), ((4, 3), (3,)), ((2, 1, 3), (4, 1)), ((), ()), ((), (5,)), ((0,), (0,)), ((1,), (1,)),
    ((90, 200), ()),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", range(24))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numbers that grow without end
def test_drawn_programs(rng, case, dtype):
    """Forward and backward of random programs: the same bits as eagerly, whatever the shapes and layouts."""
    work = drawn(rng, int(rng.integers(5, 60)))
    shapes = SHAPES[case % len(SHAPES)]
    data = []
    for _ in range(4):
        pair = [cr.tensor(rng.standard_normal(shape).astype(dtype)) for shape in shapes]
        if case % 3 == 1:
            pair = [t.T.clone().T for t in pair]  # not in C order
        data.append(pair)

    def step(*given):
        leaves = [t.detach().requires_grad_() for t in given]
        values = work(*leaves)
        values[-1].sum().backward()
        return [values[-1], values[len(values) // 2], *[t.grad for t in leaves if t.grad is not None]]

    captured = cr.capture(step)
    for given in data:
        expected, got = step(*given), captured(*given)
        assert len(expected) == len(got)
        for a, b in zip(expected, got, strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype
            a, b = a.detach().numpy(), b.numpy()
            np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
            assert np.where(np.isnan(a), 0, a).tobytes() == np.where(np.isnan(b), 0, b).tobytes()
    assert captured.reason == ""


def machines(captured):
    """The runs of the newest replay."""
    from chainrule.kernels.cpu.machine import Fused

    replay = next(iter(captured._known.values()))[0]
    return [thing for thing in replay.run.__globals__.values() if isinstance(thing, Fused)]


def chain(x, a, b, length=100):
    y = x
    for _ in range(length // 2):
        y = y * a + b
    return y


@pytest.mark.parametrize("numba", [True, False])
def test_a_chain_is_one_run(rng, numba, monkeypatch):
    from chainrule.kernels.cpu.jit import Loop, has_numba

    if numba and not has_numba():
        pytest.skip("needs Numba")
    monkeypatch.setattr(Loop, "use_numba", numba)
    x, a, b = (cr.tensor(rng.standard_normal(10).astype("f4")) for _ in range(3))
    x.requires_grad_()

    def step():
        x.grad = None
        y = chain(x, a, b)
        y.backward(cr.ones(10))
        return y

    expected = step().tolist(), x.grad.tolist()
    captured = cr.capture(step)
    for _ in range(4):
        assert (captured().tolist(), x.grad.tolist()) == expected
    assert captured.reason == "" and len(machines(captured)) == (1 if numba else 0)


def test_the_sign_of_zero_in_a_run(rng):
    def step(x):
        for _ in range(24):
            x = x * 1.5 - 0.25
        return x * 0.0, x * -0.0, x * 0 - 0.0, x * 0 + -0.0

    captured = cr.capture(step)
    for _ in range(4):
        x = cr.tensor(rng.standard_normal(6).astype("f4"))
        for a, b in zip(step(x), captured(x), strict=True):
            assert a.numpy().tobytes() == b.numpy().tobytes()
    assert machines(captured)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_number_that_changes_is_an_operand_like_others(dtype):
    """It is Python's own, which the machine cannot look into."""
    now, one = {"rate": 1.0}, cr.tensor(np.ones(6, dtype))

    def step(x):
        rate, y = cr.autograd.kernels_of(x).live(lambda: now["rate"]), x.array
        for _ in range(20):
            y = y * rate + one.array
        return result(y)

    captured = cr.capture(step)
    for now["rate"] in (1.0, 0.5, -0.25, 2.0):
        assert captured(one).tolist() == step(one).tolist()
    assert captured.reason == ""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 3000])
def test_two_operations_in_one_instruction(rng, size, dtype):
    """Each is rounded for itself, whichever of its operands the second takes from the first."""
    from chainrule.kernels.cpu.jit import compiles
    from chainrule.kernels.cpu.machine import _CODES

    both = [operator.add, operator.sub, operator.mul, operator.truediv]
    a, b = (cr.tensor(rng.standard_normal(size).astype(dtype)) for _ in range(2))

    def step(x):
        orders = [(f, g) for f in both for g in both]
        return [g(f(x, a), b) for f, g in orders] + [g(b, f(x, a)) for f, g in orders]

    captured = cr.capture(step)
    for _ in range(4):
        x = cr.tensor(rng.standard_normal(size).astype(dtype))
        for one, other in zip(step(x), captured(x), strict=True):
            assert one.numpy().tobytes() == other.numpy().tobytes()
    codes = {code for machine in machines(captured) for code in machine.code[:, 0]}
    assert not compiles() or codes.issuperset(code for pair, code in _CODES.items() if type(pair) is tuple)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 10, 16, 17])
def test_what_an_instruction_gave_is_any_operand_of_the_next(rng, size, dtype):
    """Up to 16 elements it is not loaded again; results that leave and numbers come in between."""
    from chainrule.kernels.cpu.jit import compiles

    a, b = (cr.tensor(rng.standard_normal(size).astype(dtype)) for _ in range(2))

    def step(x, leave):
        y, out = x * a, []
        for _ in range(3):
            y = a - y
            y = y * y
            y = cr.where(y > b, y, x)
            y = cr.where(b < x, x, y)
            out += [y] if leave else []
            y = b / (y + 0.5)
            y = cr.sqrt(abs(y)) - y
            z = 1.0 / y
            y = y.square() + z
            y = cr.where(x == a, y, -y)
        return [*out, y]

    for leave in (True, False):
        captured = cr.capture(step)
        for _ in range(4):
            x = cr.tensor(rng.standard_normal(size).astype(dtype))
            for one, other in zip(step(x, leave), captured(x, leave), strict=True):
                assert one.numpy().tobytes() == other.numpy().tobytes()
        assert captured.reason == "" and len(machines(captured)) == int(compiles())


def test_a_number_is_not_the_result_of_that_number():
    """7.0 + x takes nothing from the tape's seventh value, which x * y gave just before and nobody uses."""
    from chainrule.kernels.cpu.machine import _paired
    from chainrule.kernels.cpu.recording import Call, Ref

    x, y, seventh, last = map(Ref, (0, 1, 7, 8))
    product = Call(np.multiply, (x, y), {}, seventh)
    alone = [(np.multiply, (x, y), seventh), (np.add, (7.0, x), last)]
    assert _paired([product, Call(np.add, (7.0, x), {}, last)], [last]) == alone
    two = [((np.multiply, np.add), (x, y, x), last)]
    assert _paired([product, Call(np.add, (seventh, x), {}, last)], [last]) == two


def test_of_two_nans_the_left_one_is_kept():
    """As NumPy keeps it, sign and all, also where the right one was made just before."""
    x, y, z = cr.tensor([math.nan]), cr.ones(1), cr.tensor([-math.nan])

    def step(x, y, z):
        r = z + x * y
        for _ in range(12):
            r = r * y
        return r

    captured = cr.capture(step)
    assert [np.signbit(f(x, y, z).numpy()).item() for f in (step, captured, captured, captured)] == [True] * 4


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("frozen", [False, True])
def test_a_parameter_that_sits_out_some_steps(name, frozen):
    """From then on it has counted fewer steps, and what moved together no longer does."""

    def trained(capture):
        p, q = (cr.ones(2, requires_grad=True) for _ in range(2))
        optimizer = OPTIMISERS[name]([p, q])

        def step(x, aux):
            optimizer.zero_grad()
            loss = (q * x * x).sum()
            if aux or frozen:
                loss = loss + (p * x).sum()
            loss.backward()
            optimizer.step()

        step = cr.capture(step) if capture else step
        for i in range(12):
            p.requires_grad_(not frozen or i != 3)
            step(cr.ones(2) * (i + 1), i % 4 != 3)
        return p.tolist(), q.tolist()

    assert trained(True) == trained(False)


def test_an_owner_that_dies_between_two_reads():
    """What a replay asks for its options may be gone by the time that it is asked."""

    class Holder:
        net = nn.Linear(4, 4)

    holder, spare = Holder(), nn.Linear(4, 4)

    def read():
        gc.collect()
        return [holder]

    def step(x):
        cr.autograd.hold(read)
        return (spare if holder.net is None else holder.net)(x) * 2

    captured = cr.capture(step)
    with cr.no_grad():
        for _ in range(3):
            captured(cr.ones(2, 4))
        holder.net.me = [holder.net]  # a cycle, which only the collector ends
        Holder.net = None
        assert captured(cr.ones(2, 4)).tolist() == step(cr.ones(2, 4)).tolist()


def test_an_array_whose_memory_moves(rng):
    """NumPy may move an array's elements, which then lie elsewhere in the same object."""
    w, ones, before = cr.ones(10), cr.ones(10), set()
    captured = cr.capture(lambda x: chain(x, w, ones))
    for value in (1.0, 0.5, -1.0, 0.25, 0.75):
        before.add(w.array.ctypes.data)
        w.array.resize(100_000, refcheck=False)
        kept = np.zeros(10, np.float32)  # takes the place that has become free
        w.array.resize(10, refcheck=False)
        w.array[:] = value
        assert captured(ones).tolist() == chain(ones, w, ones).tolist() and not kept.any()
    assert len(before) > 1 and captured.reason == ""


def test_an_array_of_another_type():
    """What is no array is an error in replays too, as the machine looks into the object itself."""
    w = cr.tensor(2.0)
    captured = cr.capture(lambda x: chain(x, w, w))
    for _ in range(3):
        captured(cr.ones(3))
    w.array = np.float32(2)
    with pytest.raises(TypeError, match="no kernels for an array of type numpy.float32"):
        captured(cr.ones(3))


def test_large_arrays_are_shared_by_threads(rng):
    from chainrule.kernels.cpu.jit import compiles

    x, a, b = (cr.tensor(rng.standard_normal(300_001).astype("f4")) for _ in range(3))
    captured = cr.capture(lambda x: chain(x, a, b, 40))
    for _ in range(4):
        assert captured(x).numpy().tobytes() == chain(x, a, b, 40).numpy().tobytes()
    assert len(machines(captured)) == int(compiles())


def test_empty_arrays_are_written_in_place():
    """Their strides may be 0, as those of an array that shows one element in several places."""
    captured = cr.capture(lambda x: (x * 1.0).sub_(x))
    for _ in range(4):
        assert captured(cr.ones(2, 0)).shape == (2, 0)
    assert captured.reason == ""


def test_another_thread_sets_a_gradient_while_a_step_is_recorded():
    w = cr.ones(2, requires_grad=True)

    def step(x):
        thread = threading.Thread(target=lambda: setattr(w, "grad", cr.ones(2)))
        thread.start()
        thread.join()
        return x * 2

    captured, failures, before = cr.capture(step), [], threading.excepthook
    threading.excepthook = lambda given: failures.append(given.exc_value)
    try:
        with pytest.warns(UserWarning, match="it left a gradient that the recording has not seen made"):
            assert [captured(cr.ones(2)).tolist() for _ in range(3)] == [[2.0, 2.0]] * 3
    finally:
        threading.excepthook = before
    assert failures == [] and w.grad.tolist() == [1.0, 1.0]


def test_results_that_leave_are_fresh():
    a = cr.ones(3)
    captured = cr.capture(lambda x: [x * 2, chain(x, a, a)])
    outs = [captured(cr.full((3,), float(i))) for i in range(5)]
    assert [[t.tolist()[0] for t in out] for out in outs] == [[2 * i, i + 50] for i in range(5)]
