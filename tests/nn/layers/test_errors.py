"""What layers and modules refuse: each message says what was received, why it cannot work and what to do."""

import pytest

import chainrule as cr
from chainrule import nn

CONSTRUCTION = [
    (lambda: nn.Linear(-1, 2), ValueError, r"Linear: received in_features=-1.*at least 0; pass in_features >= 0"),
    (lambda: nn.Linear(2.5, 2), ValueError, r"received in_features=2.5.*an integer"),
    (lambda: nn.Linear(2, True), ValueError, r"received out_features=True"),
    (lambda: nn.Bilinear(2, 0, 1), ValueError, r"Bilinear: received in2_features=0"),
    (lambda: nn.Maxout(2, 2, pieces=0), ValueError, r"Maxout: received pieces=0"),
    (lambda: nn.Conv2d(0, 2, 3), ValueError, r"Conv2d: received in_channels=0"),
    (lambda: nn.Conv2d(1, 2, 0), ValueError, r"kernel_size=\(0, 0\), which must be integers of at least 1"),
    (lambda: nn.Conv2d(1, 2, (3, 3, 3)), ValueError, r"kernel_size=\(3, 3, 3\) with 3 numbers for 2 spatial axes"),
    (lambda: nn.Conv1d(1, 2, (3, 3)), ValueError, r"2 numbers for 1 spatial axis; pass one integer, or 1"),
    (lambda: nn.Conv2d(1, 2, 3, stride=0), ValueError, r"received stride=\(0, 0\)"),
    (lambda: nn.Conv2d(1, 2, 3, padding=-1), ValueError, r"received padding=\(-1, -1\)"),
    (lambda: nn.Conv2d(1, 2, 3, padding="full"), ValueError, r"padding='full'.*pass one of 'same', 'valid'"),
    (
        lambda: nn.Conv2d(1, 2, 3, padding="same", stride=2),
        ValueError,
        r"padding='same' with stride=\(2, 2\).*stride=1",
    ),
    (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, r"groups=2.*pass groups that divide both"),
    (lambda: nn.Conv2d(2, 2, 3, padding_mode="circular"), NotImplementedError, r"padding_mode='circular'.*F\.pad"),
    (lambda: nn.ConvTranspose2d(2, 2, 3, padding="same"), ValueError, r"padding=\('same', 'same'\).*integers"),
    (lambda: nn.ConvTranspose1d(2, 2, 3, output_padding=1), ValueError, r"output_padding=1 with stride=1.*pass less"),
    (lambda: nn.MaxPool2d(0), ValueError, r"MaxPool2d: received kernel_size=\(0, 0\)"),
    (lambda: nn.MaxPool2d(2, padding=2), ValueError, r"padding=2 for kernel_size=2.*at most kernel_size / 2"),
    (lambda: nn.MaxPool1d(2, dilation=0), ValueError, r"received dilation=\(0,\)"),
    (lambda: nn.AvgPool2d(2, stride=-1), ValueError, r"AvgPool2d: received stride=\(-1, -1\)"),
    (lambda: nn.AdaptiveAvgPool2d(-1), ValueError, r"AdaptiveAvgPool2d: received output_size=\(-1, -1\)"),
    (lambda: nn.AdaptiveAvgPool1d(None), ValueError, r"AdaptiveAvgPool1d: received output_size=\(None,\)"),
    (lambda: nn.KMaxPool(0), ValueError, r"KMaxPool: received k=0"),
    (lambda: nn.BatchNorm2d(0), ValueError, r"BatchNorm2d: received num_features=0"),
    (lambda: nn.GroupNorm(2, 3), ValueError, "GroupNorm: num_groups=2 does not divide num_channels=3"),
    (lambda: nn.LayerNorm((3, 0)), ValueError, r"LayerNorm: received normalized_shape=\(3, 0\)"),
    (lambda: nn.Dropout(1.5), ValueError, r"Dropout: received p=1.5.*pass 0 <= p <= 1"),
    (lambda: nn.Dropout(0.5, inplace=True), NotImplementedError, r"Dropout: received inplace=True"),
    (lambda: nn.ReLU(inplace=True), NotImplementedError, r"ReLU: received inplace=True.*leave it out"),
    (lambda: nn.Embedding(0, 2), ValueError, r"Embedding: received num_embeddings=0"),
    (lambda: nn.Embedding(3, 2, padding_idx=3), ValueError, r"padding_idx=3 for num_embeddings=3"),
    (lambda: nn.Embedding(3, 2, max_norm=1.0), NotImplementedError, r"Embedding: received max_norm=1.0"),
    (lambda: nn.Embedding(3, 2, sparse=True), NotImplementedError, r"Embedding: received sparse=True"),
    (lambda: nn.Embedding.from_pretrained(cr.ones(3)), ValueError, r"shape \(3,\).*pass a tensor \(V, D\)"),
    (lambda: nn.MSELoss(reduction="avg"), ValueError, r"MSELoss: received reduction='avg'.*'mean', 'sum', 'none'"),
    (lambda: nn.Softmax(), TypeError, r"dim"),
    (lambda: nn.Perceptron(0), ValueError, r"Perceptron: received in_features=0"),
    (lambda: nn.models.MLP([3]), ValueError, r"MLP: received sizes=\[3\].*at least two sizes"),
    (lambda: nn.models.VGG(12), ValueError, r"VGG: received depth=12.*11, 13, 16, 19"),
    (lambda: nn.models.ResNet(19), ValueError, r"ResNet: received depth=19.*18, 34, 50, 101, 152"),
    (lambda: nn.models.DCNN(9, 2, widths=(7,)), ValueError, r"DCNN: received widths=\(7,\), maps=\(6, 14\)"),
    (lambda: nn.models.SentenceCNN(9, 2, mode="frozen"), ValueError, r"SentenceCNN: received mode='frozen'"),
]


@pytest.mark.parametrize("make, error, message", CONSTRUCTION)
def test_construction_refuses(make, error, message):
    with pytest.raises(error, match=message):
        make()


CALLS = [
    (nn.Linear(3, 2), (5, 4), r"Linear: received an input of shape \(5, 4\).*in_features=3"),
    (nn.Linear(3, 2), (), r"Linear: received an input of shape \(\)"),
    (nn.Conv2d(3, 2, 3), (1, 4, 8, 8), r"shape \(1, 4, 8, 8\) has 4 channels.*expects 3"),
    (nn.Conv2d(3, 2, 3), (8, 8), r"shape \(8, 8\).*\(N, C, H, W\) or \(C, H, W\)"),
    (nn.Conv1d(3, 2, 9), (1, 3, 8), r"kernel.*larger input"),
    (nn.ConvTranspose2d(3, 2, 3), (1, 4, 8, 8), r"has 4 channels.*expects 3"),
    (nn.MaxPool2d(2), (8, 8), r"shape \(8, 8\).*must be \(N, C, H, W\)"),
    (nn.AvgPool1d(9), (1, 1, 8), r"kernel.*larger input"),
    (nn.BatchNorm1d(3), (2, 4), r"BatchNorm1d: received an input of shape \(2, 4\).*num_features=3"),
    (nn.BatchNorm2d(3), (2, 3), r"BatchNorm2d: received an input of shape \(2, 3\) with 2 axes.*\(N, C, H, W\)"),
    (nn.GroupNorm(2, 4), (2, 6, 3), "num_channels=4"),
    (nn.LayerNorm(3), (2, 4), r"normalized_shape=\(3,\)"),
    (nn.Dropout2d(), (2, 4), r"Dropout2d: received an input of shape \(2, 4\)"),
    (nn.KMaxPool(5), (1, 3), r"k_max: received an input of shape \(1, 3\).*k=5"),
    (nn.ThresholdUnit([1.0, 1.0], 1.0), (4, 3), r"ThresholdUnit: received an input of shape \(4, 3\)"),
    (nn.models.LeNet5(), (1, 1, 28, 28), r"(?s)kernel.*in LeNet5\.c5: Conv2d\(16, 120, kernel_size=\(5, 5\)"),
]


@pytest.mark.parametrize("layer, shape, message", CALLS)
def test_call_refuses(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer(cr.zeros(shape))


def test_an_error_names_the_module_path_once():
    net = nn.Sequential({"features": nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3)), "head": nn.Linear(4, 2)})
    with pytest.raises(ValueError) as caught:
        net(cr.ones(1, 1, 8, 8))
    assert caught.value.__notes__ == ["in Sequential.features.1: Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1))"]


def test_a_failed_training_call_leaves_batch_norm_as_it_was():
    layer = nn.BatchNorm1d(3)
    with pytest.raises(ValueError, match="one value per channel"):
        layer(cr.ones(1, 3))
    assert layer.num_batches_tracked.item() == 0 and (layer.running_var == 1).all()


def test_module_refuses():
    class Early(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(1, 1)

    with pytest.raises(
        AttributeError, match=r"Early: received attribute 'fc' before.*call super\(\).__init__\(\) first"
    ):
        Early()
    with pytest.raises(NotImplementedError, match=r"Module was called but has no forward; define forward"):
        nn.Module()(1)
    layer = nn.Linear(1, 1)
    with pytest.raises(
        TypeError, match=r"Linear\.weight: received Tensor.*registered as a parameter; assign a nn.Parameter"
    ):
        layer.weight = cr.ones(1, 1)
    norm = nn.BatchNorm1d(2)
    with pytest.raises(
        TypeError, match=r"running_mean: received float.*registered as a buffer; assign a tensor or None"
    ):
        norm.running_mean = 0.0
    with pytest.raises(ValueError, match=r"name 'a.b' for a module; names are joined by dots.*without a dot"):
        layer.add_module("a.b", nn.ReLU())
    with pytest.raises(ValueError, match=r"name 'forward' for a buffer, which is already an attribute; choose another"):
        layer.register_buffer("forward", cr.ones(1))
    with pytest.raises(
        TypeError, match=r"name 'p' for a parameter with a value of type Tensor; give a Parameter or None"
    ):
        layer.register_parameter("p", cr.ones(1))
    with pytest.raises(AttributeError, match=r"received the path 'a.b', but Linear has no submodule 'a'; it has none"):
        layer.get_submodule("a.b")
    with pytest.raises(TypeError, match=r"Module.to: received dtype int64.*pass cr.float32 or cr.float64"):
        layer.to(cr.int64)
    with pytest.raises(TypeError, match=r"train: received mode='eval'.*pass True or False"):
        layer.train("eval")
    with pytest.raises(IndexError, match=r"Sequential: received index 1, but it holds 1 modules; pass -1 <= index < 1"):
        nn.Sequential(nn.ReLU())[1]
    with pytest.raises(KeyError, match=r"ModuleDict: received the key 'b', which it lacks; it has a"):
        nn.ModuleDict({"a": nn.ReLU()})["b"]
    with pytest.raises(TypeError, match=r"name '0' for a module with a value of type int; give a Module"):
        nn.Sequential(3)


def test_perceptron_refuses_other_answers():
    with pytest.raises(
        ValueError, match=r"Perceptron.learn: received x of shape \(2, 3\) and y of shape \(2,\).*\+1 or -1"
    ):
        nn.Perceptron(3).learn(cr.ones(2, 3), cr.tensor([0.0, 1.0]))


INIT = [
    (lambda: nn.init.uniform_(cr.ones(2), 1, 0), r"uniform_: received a=1, b=0.*pass a <= b"),
    (lambda: nn.init.normal_(cr.ones(2), std=-1), r"normal_: received std=-1.*pass std >= 0"),
    (lambda: nn.init.trunc_normal_(cr.ones(2), a=3, b=2), r"trunc_normal_: received.*\[3, 2\]"),
    (lambda: nn.init.trunc_normal_(cr.ones(2), a=100, b=101), r"practically never found; pass a < b within 8 std"),
    (lambda: nn.init.eye_(cr.ones(2)), r"eye_: received a tensor of shape \(2,\) with 1 axes, but needs 2"),
    (lambda: nn.init.dirac_(cr.ones(2, 2)), r"dirac_: .* needs 3 to 5"),
    (lambda: nn.init.dirac_(cr.ones(3, 2, 1), groups=2), r"groups=2.*divide the first axis"),
    (lambda: nn.init.xavier_uniform_(cr.ones(2)), r"xavier_uniform_: .* needs 2 or more; fill biases with zeros_"),
    (lambda: nn.init.xavier_normal_(cr.ones(0, 0)), r"shape \(0, 0\), which joins no inputs"),
    (lambda: nn.init.kaiming_normal_(cr.ones(2, 2), mode="fan"), r"mode='fan'.*'fan_in' or 'fan_out'"),
    (lambda: nn.init.calculate_gain("softmax"), r"nonlinearity='softmax'.*pass one of linear"),
]


@pytest.mark.parametrize("call, message", INIT)
def test_init_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
