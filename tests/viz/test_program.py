"""The model that pictures, pages and explanations read: steps, values, names, modules, gradients."""

import gc
import inspect
import weakref

import numpy as np
import pytest

import chainrule as cr
from chainrule.autograd.viz.program import Program
from chainrule.autograd.viz.snapshot import THUMB, WHOLE, Snapshot, number

f64 = cr.float64


def texts(values):
    return [value.data.text if value.data else None for value in values if value is not None]


def micrograd():
    a, b = cr.tensor(2.0, requires_grad=True), cr.tensor(-3.0, requires_grad=True)
    c = cr.tensor(10.0, requires_grad=True)
    e = a * b
    d = e + c
    return a, b, c, d.tanh() * 3


def test_values_that_nobody_kept_are_computed_again():
    *_, out = micrograd()
    program = Program(out)
    assert [step.name for step in program.steps] == ["multiply", "add", "tanh", "multiply"]
    assert texts(program.steps[0].inputs) == ["2", "-3"]
    assert texts(program.steps[1].inputs) == ["-6", "10"]  # of `a * b`, neither rule keeps the result
    assert texts(program.steps[3].inputs) == ["0.9993", "3"]


def test_names_come_from_variables_arguments_parameters_and_assignments():
    net = cr.nn.Sequential(cr.nn.Linear(3, 2))
    data, w = cr.ones(4, 3), cr.ones(2, requires_grad=True)
    hidden = net(data)
    loss = (hidden * w).sum()
    program = Program(loss, {"passed": w})
    step = program.steps[0]
    assert [program.name(v) for v in step.inputs] == ["data", "0.weight", "0.bias"]
    assert program.name(step.results[0]) == "hidden"
    assert program.name(program.steps[1].inputs[1]) == "passed"
    assert program.name(program.results[0]) == "loss"
    assert program.label(program.steps[1].results[0]) == "multiply"


scale = cr.tensor([2.0, 3.0], requires_grad=True)  # a variable of the file
body = cr.nn.Sequential(cr.nn.Linear(2, 2))


def named(out):
    """The names of the leaves, asked for in a function that holds none of them."""
    program = Program(out)
    return {program.name(value) for value in program.values if value.maker is None}


def test_names_come_from_the_file_and_from_the_callers():
    shift = cr.ones(2, requires_grad=True)
    assert named(body(shift * scale)) == {"shift", "scale", "0.weight", "0.bias"}


def test_names_come_from_lists_dicts_and_what_self_holds():
    class Experiment:
        def __init__(self):
            self.gain, self.net = cr.ones(2, requires_grad=True), cr.nn.Linear(2, 2)

        def names(self):
            params = {"W1": cr.ones(2, 2, requires_grad=True), 3: cr.ones(2)}
            more = [cr.ones(2, requires_grad=True)]
            return named(self.net(self.gain) @ params["W1"] @ more[0])

    assert Experiment().names() == {"gain", "weight", "bias", "W1", "more[0]"}


def test_leaves_whose_variable_is_gone_are_called_as_in_the_source():
    def neuron(start):
        x, w, b = cr.ones(2), cr.tensor([start, 2.0], requires_grad=True), cr.tensor(0.5, requires_grad=True)
        return (x * w).sum() + b

    assert named(neuron(1.0)) == {"x", "w", "b"}
    assert named(neuron(1.0) + neuron(2.0)) == {"x (1)", "w (1)", "b (1)", "x (2)", "w (2)", "b (2)"}
    w = cr.ones(2, requires_grad=True)
    assert named(neuron(1.0) + w.sum()) == {"x", "w (1)", "b", "w"}


def test_a_variable_does_not_take_the_path_of_a_parameter():
    net = cr.nn.Sequential(cr.nn.Linear(3, 2))
    for _p, p in net.named_parameters():
        p.grad = None
    assert named(net(cr.ones(1, 3))) - {""} == {"0.weight", "0.bias"}


def test_a_nameless_array_is_not_called_like_a_variable_of_the_program():
    x, weight = cr.ones(1, 3, requires_grad=True), cr.ones(4, 3)
    hidden = cr.nn.functional.linear(x, weight)
    program = Program(cr.nn.functional.linear(cr.zeros(1, 4), cr.ones(2, 4, requires_grad=True)).sum() + hidden.sum())
    zeros = next(value for value in program.values if value.shape == (1, 4) and value.role == "constant")
    assert program.label(zeros) == "constant"


def test_a_name_assigned_again_and_again_is_numbered():
    x = cr.ones(2, requires_grad=True)
    for _ in range(3):
        x = x * 2
    program = Program(x.sum())
    assert [program.name(step.results[0]) for step in program.steps[:3]] == ["x (1)", "x (2)", "x (3)"]


def test_the_place_is_the_very_expression():
    x = cr.ones(2, requires_grad=True)
    y = (x * 2 + 1).sum()
    line = inspect.currentframe().f_lineno - 1
    steps = Program(y).steps
    assert [step.place.expression for step in steps] == ["x * 2", "x * 2 + 1", "(x * 2 + 1).sum()"]
    assert {(step.place.file, step.place.line) for step in steps} == {(__file__, line)}


def test_calls_of_modules_are_a_tree_with_their_classes():
    net = cr.nn.Sequential({"body": cr.nn.Sequential(cr.nn.Linear(2, 2), cr.nn.Softplus()), "head": cr.nn.Linear(2, 1)})
    out = net(cr.ones(1, 2))
    root = Program(out).root
    (top,) = root.calls
    assert [(call.path, call.kind) for call in top.calls] == [
        ("Sequential.body", "Sequential"),
        ("Sequential.head", "Linear"),
    ]
    assert [step.name for step in top.every_step()] == ["linear", "softplus", "linear"]


def test_two_calls_of_one_module_are_two_calls():
    layer = cr.nn.Linear(2, 2)
    out = layer(layer(cr.ones(1, 2)))
    assert [call.path for call in Program(out).root.calls] == ["Linear", "Linear"]


def test_the_walk_gives_the_engines_gradients_and_changes_none():
    cr.manual_seed(0)
    net = cr.nn.Sequential(cr.nn.Linear(3, 4), cr.nn.Tanh(), cr.nn.Linear(4, 1))
    loss = (net(cr.randn(5, 3)) ** 2).mean()
    program = Program(loss)
    assert not program.walked
    program.walk()
    assert program.walked
    assert all(p.grad is None for p in net.parameters())
    shown = {value.leaf: value.gradient.array for value in program.values if value.role == "parameter"}
    loss.backward()
    for p in net.parameters():
        np.testing.assert_array_equal(shown[p], p.grad.numpy())


def test_gifts_show_what_arrives_how_paths_meet_and_what_broadcasting_costs():
    a, b = cr.tensor([1.0, 2.0], requires_grad=True), cr.tensor(3.0, requires_grad=True)
    y = a * b + a
    program = Program(y.sum())
    program.walk()
    order = sorted(program.steps, key=lambda step: step.pulse.order)
    assert [step.name for step in order] == ["sum", "add", "multiply"]
    to_product, to_a = order[1].pulse.gifts
    assert to_a.before is None and to_a.total.array.tolist() == [1.0, 1.0]
    to_a_again, to_b = order[2].pulse.gifts
    assert to_a_again.before.array.tolist() == [1.0, 1.0]
    assert to_a_again.total.array.tolist() == [4.0, 4.0]
    assert to_b.broadcast and to_b.raw.array.tolist() == [1.0, 2.0] and to_b.fitted.scalar == 3.0
    assert to_b.value.gradient.scalar == 3.0
    assert to_product.value.gradient.array.tolist() == [1.0, 1.0]


def test_a_released_graph_still_shows_leaves_and_says_why_no_more():
    x = cr.ones(3, requires_grad=True)
    y = (x * x).sum()
    y.backward()
    program = Program(y)
    assert program.steps[0].inputs[0].gradient.array.tolist() == [2.0, 2.0, 2.0]
    with pytest.raises(RuntimeError, match=r"released by an earlier backward pass \(first at multiply, .*retain_graph"):
        program.walk()


def test_a_walk_leaves_no_trace_for_the_next_reader():
    x = cr.ones(2, requires_grad=True)
    y = (x * 3).sum()
    Program(y).walk()
    again = Program(y)
    assert not again.walked and all(value.gradient is None for value in again.values)


def test_a_checkpoint_can_be_walked():
    x = cr.ones(2, requires_grad=True)
    y = cr.checkpoint(lambda x: (x * x).exp(), x).sum()
    program = Program(y)
    program.walk()
    np.testing.assert_allclose(program.values[0].gradient.array, [2 * np.e] * 2, rtol=1e-6)


def test_what_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match="received float; pass the tensor whose graph is wanted, e.g. the loss"):
        Program(3.0)


# ---- recording -------------------------------------------------------------------------------------------------------


def test_a_recording_outlives_backward_and_shows_the_steps_of_constants():
    with cr.viz.record() as recording:
        w = cr.tensor([1.0, -2.0], requires_grad=True)
        y = w * 3
        mask = (y > 0).float()
        loss = (y * mask).sum()
        loss.backward()
        aside = y.detach() * 2
    program = Program(loss)
    assert [(s.name, s.recorded) for s in program.steps] == [
        ("multiply", True),
        ("greater", False),
        ("multiply", True),
        ("sum", True),
    ]
    assert program.walked
    masked = program.steps[2].inputs[1]
    assert program.name(masked) == "mask" and masked.cut == "to(float32)"
    assert masked.source.data.array.tolist() == [True, False]
    assert [value.cut for value in recording.cuts] == ["to(float32)", "detach"]
    assert [step.name for step in recording.steps][-1] == "multiply" and aside.tolist() == [6.0, -12.0]
    w.grad = None
    assert Program(loss).steps[0].inputs[0].gradient.array.tolist() == [3.0, 0.0]


def test_a_recording_keeps_values_of_the_moment():
    """A parameter that an optimiser changes in place is another value afterwards."""
    w = cr.tensor([1.0], requires_grad=True)
    with cr.viz.record():
        before = (w * 2).sum()
        before.backward()
        cr.optim.SGD([w], lr=0.5).step()
        after = (w * 2).sum()
    assert texts(Program(before).steps[0].inputs)[0] == "1"
    assert texts(Program(after).steps[0].inputs)[0] == "0"


def test_a_recording_shows_an_lstm_gate_by_gate_unless_told_to_keep_kernels_whole():
    layer, x = cr.nn.LSTM(2, 3), cr.ones(4, 1, 2)
    counts = []
    for fused in (False, True):
        with cr.viz.record(fused=fused):
            out = layer(x)[0].sum()
        counts.append([step.name for step in Program(out).steps].count("sigmoid"))
    assert counts == [12, 0]
    steps = [call.name for call in Program(layer(x)[0].sum()).root.calls]
    assert "step" not in steps


def test_the_failing_operation_is_known():
    recording = cr.viz.record()
    with pytest.raises(ValueError), recording as seen:
        cr.ones(2) * 2
        cr.ones(2) + cr.ones(3)
    primitive, _, arrays, params, place = seen.failed
    assert primitive.name == "add" and [a.shape for a in arrays] == [(2,), (3,)] and params == {}
    assert place.expression == "cr.ones(2) + cr.ones(3)"


def test_a_step_outside_the_graph_has_its_parameters_too():
    with cr.viz.record() as recording, cr.no_grad():
        cr.conv2d(cr.ones(1, 1, 6, 6), cr.ones(2, 1, 3, 3), stride=2)
    (step,) = recording.steps
    assert not step.recorded and step.params["stride"] == (2, 2) and step.cost.flops == 2 * (2 * 2 * 2) * 9


def gifts(recording):
    return [len(step.pulse.gifts) if step.pulse else None for step in recording.steps]


def test_recordings_within_recordings_each_have_their_steps_and_gradients_once():
    x = cr.ones(2, requires_grad=True)
    with cr.viz.record() as outer:
        y = x * 2
        with cr.viz.record() as inner:
            z = (y * y).sum()
            z.backward(retain_graph=True)
    assert [step.name for step in outer.steps] == ["multiply", "multiply", "sum"] and gifts(outer) == [1, 2, 1]
    assert [step.name for step in inner.steps] == ["multiply", "sum"] and gifts(inner) == [2, 1]
    with cr.viz.record() as later:
        z.backward()
    assert later.steps == [] and gifts(outer) == [1, 2, 1]


def test_a_recording_entered_twice_tells_each_step_once():
    recording = cr.viz.record()
    with recording, recording as seen:
        (cr.ones(2, requires_grad=True) * 2).sum()
    assert [step.name for step in seen.steps] == ["multiply", "sum"]


def test_pictures_inside_a_recording_are_no_part_of_it():
    x = cr.ones(2, requires_grad=True)
    with cr.viz.record() as recording:
        loss = (x * 2).sum()
        cr.viz.text(loss, mode="both")
        assert recording.passes == []
        assert cr.viz.why(x, loss).cause == "backward not run"
        loss.backward()
    assert len(recording.passes) == 1 and gifts(recording) == [1, 1]


@pytest.mark.parametrize("names", [["x"], {1: cr.ones(2)}])
def test_names_are_words(names):
    with pytest.raises(TypeError, match=r"received names=.*; pass a dict: \{'a name': tensor or module\}"):
        Program(cr.ones(2), names)


def test_a_program_of_nothing_is_refused():
    with pytest.raises(ValueError, match="received no tensors in the list; pass those whose graph is wanted"):
        cr.viz.draw([])


def test_each_of_several_results_has_its_cotangent():
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    program = Program([x * 3, x * 5])
    program.walk([cr.tensor([1.0, 0.0]), cr.tensor([0.0, 10.0])])
    assert program.steps[0].inputs[0].gradient.array.tolist() == [3.0, 50.0]


def test_records_die_with_their_graph():
    with cr.viz.record():
        y = cr.ones(3, requires_grad=True) * 2
    node = weakref.ref(y.grad_fn)
    gc.disable()
    try:
        del y
        assert node() is None
    finally:
        gc.enable()


def test_a_long_chain_is_read_and_walked_without_recursion():
    x = y = cr.ones(1, dtype=f64, requires_grad=True)
    for _ in range(20_000):
        y = y * 1.0
    program = Program(y.sum())
    program.walk()
    assert len(program.steps) == 20_001 and program.values[0].gradient.scalar == 1.0
    assert program.name(program.values[0]) == "x" and x.grad is None


# ---- snapshots -------------------------------------------------------------------------------------------------------


def test_figures_leave_out_what_is_not_finite():
    s = Snapshot(np.array([1.0, np.nan, -3.0, np.inf, 0.0, 0.0]))
    assert (s.nans, s.infs, s.zeros, s.min, s.max, s.mean) == (1, 1, 0.5, -3.0, 1.0, -0.5)
    assert s.norm == pytest.approx(np.sqrt(10)) and s.text == "-3 … 1, 1 NaN, 1 Inf"
    assert sum(s.histogram[0]) == 4


def test_large_arrays_are_kept_in_figures_and_a_thumb():
    array = np.arange(WHOLE * 4, dtype="f4").reshape(4 * WHOLE // 256, 256)
    s = Snapshot(array)
    assert s.array is None and s.scalar is None and s.thumb.shape == (THUMB, THUMB)
    blocks = array.reshape(THUMB, -1, THUMB, 256 // THUMB).mean(axis=(1, 3))
    np.testing.assert_allclose(s.thumb, blocks, rtol=1e-6)
    assert s.mean == pytest.approx(array.mean(dtype="f8"))


def test_a_snapshot_is_a_copy():
    array = np.zeros(3)
    s = Snapshot(array)
    array[:] = 1
    assert s.array.tolist() == [0, 0, 0] and s.max == 0


@pytest.mark.parametrize(
    "array, text",
    [
        (np.float32(0.1), "0.1"),
        (np.array([1, 2]), "[1, 2]"),
        (np.zeros((0, 3)), "empty"),
        (np.array(True), "True"),
        (np.full((2, 2), np.nan), "nan … nan, 4 NaN"),
        (np.array([[1e-8, 2e12]]), "1e-8 … 2e12"),
        (np.full((2, 2), 0.25), "all 0.25"),
    ],
)
def test_the_short_text(array, text):
    assert Snapshot(array).text == text


def test_numbers_are_short():
    assert [number(v) for v in (-0.0, 1 / 3, -1e100, 7, float("nan"))] == ["0", "0.3333", "-1e100", "7", "nan"]


def test_bfloat16_is_shown():
    pytest.importorskip("ml_dtypes")
    assert Snapshot(cr.tensor([1.5, 2.0], dtype=cr.bfloat16).array).text == "[1.5, 2]"


def test_a_leaf_that_is_detached_too_stays_a_leaf():
    with cr.viz.record() as recording:
        w = cr.tensor([1.0, 2.0], requires_grad=True)
        copy = w.detach()
        loss = (w * 3).sum() + (copy * 2).sum()
        loss.backward()
    first, second = (step for step in Program(loss).steps if step.name == "multiply")
    assert first.inputs[0].role == "input" and first.inputs[0].gradient.array.tolist() == [3.0, 3.0]
    assert second.inputs[0].cut == "detach" and second.inputs[0].source is first.inputs[0]
    assert recording.value_of(w) is first.inputs[0]


def test_a_recording_of_backward_takes_in_what_was_computed_before():
    w = cr.tensor([1.0, 2.0], requires_grad=True)
    loss = (w * 3).sum()
    with cr.viz.record() as recording:
        loss.backward()
    assert [(step.name, step.pulse.order) for step in recording.steps] == [("multiply", 1), ("sum", 0)]
    (one,) = recording.passes
    assert not one.failed and one.outputs == [recording.value_of(loss)] and one.place.expression == "loss.backward()"


def test_a_pass_within_a_pass_leaves_the_recording_whole():
    w, inner = cr.ones(1, requires_grad=True), cr.ones(1, requires_grad=True)
    with cr.viz.record() as recording:
        doubled = w * 2
        doubled.register_hook(cr.enable_grad()(lambda g: cr.autograd.grad((inner * 5).sum(), [inner])[0]))
        doubled.sum().backward()
    assert w.grad.tolist() == [10.0] and len(recording.passes) == 1
    assert recording.steps[0].pulse.gifts[0].fitted.scalar == 10.0
