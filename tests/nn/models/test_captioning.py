"""The captioner: what its decoder begins with, and a world of shapes that it learns to describe and to look at."""

import sys

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.nn.examples import captions as example
from chainrule.nn.examples.captions import LONGEST, WORDS, describer, draw_scenes, learn
from chainrule.nn.models import Captioner


def test_it_describes_what_it_sees_and_looks_at_it():
    """The mean of the features, read first, tells much already: of ten seeds four look away at times (0.74 to 1)."""
    cr.manual_seed(4)
    rng, net = np.random.default_rng(104), describer()
    learn(net, (draw_scenes(32, rng) for _ in range(250)))
    images, captions, places = draw_scenes(100, rng)
    for told in (net.greedy(images, LONGEST), net.beam(images, 3, LONGEST)):
        assert (told.tokens == captions).all(1).float().mean().item() > 0.95
        looked = told.weights.numpy()[:, :6:2].argmax(-1)  # as it names the colours; then it knows the shapes
        assert (looked == places)[places >= 0].mean() > 0.85


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_show_and_tell_sees_the_image_at_its_first_step_alone(rng, cell):
    net = describer(attention=None, cell=cell)
    images, captions, _ = draw_scenes(16, rng)
    hidden, memory, mask = net.encode(images)
    features = net.cnn(images)
    np.testing.assert_allclose(memory[:, 5].detach().numpy(), features[:, :, 1, 1].detach().numpy())
    seen = net.image(features.mean((2, 3)))
    first = net.decoder.cell(cr.cat([seen, cr.zeros(16, 32)], -1))
    np.testing.assert_allclose(
        hidden[0].detach().numpy(), (first if cell == "gru" else first[0]).detach().numpy(), atol=1e-6
    )
    other = net.decoder(hidden, memory + 1.0, mask, captions)
    assert (other == net(images, captions)).all() and net.greedy(images).weights.shape[2] == 0


def test_show_and_tell_learns_a_few_images_by_heart(rng):
    net = describer(attention=None)
    images, captions, _ = scenes = draw_scenes(4, rng)
    learn(net, [scenes] * 400)
    told = net.greedy(images, LONGEST).tokens
    assert (told == captions[:, : told.shape[1]]).all()


@pytest.mark.parametrize("attention", ["additive", "general", None])
def test_every_parameter_learns(rng, attention):
    net = describer(attention=attention)
    images, captions, _ = draw_scenes(4, rng)
    net(images, captions, teacher_forcing_ratio=0.5).sum().backward()
    assert all((p.grad != 0).any() for p in net.parameters())


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x, y: Captioner(nn.Flatten(), 32, 9)(x, y), r"features have shape \(4, 1200\).*channels=32.*places"),
        (lambda x, y: Captioner(nn.Identity(), 32, 9)(x, y), r"shape \(4, 3, 20, 20\).*ends with \(N, 32, H, W\)"),
        (lambda x, y: describer()(x, y[:3]), r"Decoder: received a target of shape \(3, 7\) for a batch of 4"),
        (lambda x, y: describer(end=0), r"Decoder: received padding=0, start=1 and end=0.*three different numbers"),
    ],
)
def test_refuses(rng, call, message):
    with pytest.raises(ValueError, match=message):
        call(*draw_scenes(4, rng)[:2])


# ---- its picture -----------------------------------------------------------------------------------------------------


def test_scenes_are_what_their_captions_say(rng):
    images, captions, places = draw_scenes(200, rng)
    for image, caption, where in zip(images.numpy(), captions.tolist(), places):
        words, ink = WORDS.decode(caption), 0
        for color, shape, place in zip(words[::2], words[1::2], where[where >= 0]):
            mask, (row, column) = example.MASKS[example.SHAPES.index(shape)], divmod(place, 4)
            cell = image[example.COLORS.index(color), 5 * row : 5 * row + 5, 5 * column : 5 * column + 5]
            assert any((cell[top : top + 4, left : left + 4] == mask).all() for top in (0, 1) for left in (0, 1))
            ink += mask.sum()
        assert image.sum() == ink and words[2 * (where >= 0).sum()] == example.END


def test_what_is_told_ends_before_its_end_and_looks_are_shares(rng):
    net, scenes = describer(), draw_scenes(4, rng)
    learn(net, [scenes] * 150)
    for (words, looks), caption in zip(example.describe(net, scenes.images), scenes.captions.tolist()):
        assert words == WORDS.decode(caption)[: len(words)] and caption[len(words)] == 2
        assert looks.shape == (len(words), 4, 4)
        np.testing.assert_allclose(looks.sum((1, 2)), 1, rtol=1e-5)


@pytest.mark.parametrize(("ending", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG\r\n"), ("pdf", b"%PDF")])
def test_the_picture(ending, start, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="Matplotlib is absent: pip install 'chainrule[examples]'")
    told = [(["red", "bar"], np.full((2, 4, 4), 1 / 16)), (["blue"], np.eye(16)[:1].reshape(1, 4, 4))]
    monkeypatch.setattr(example, "describe", lambda net, images: [*told, told[0]])
    path = example.plot(tmp_path / "new" / f"a.{ending}", steps=0)
    assert path == tmp_path / "new" / f"a.{ending}" and path.read_bytes().startswith(start)


def test_the_picture_is_lit_where_the_net_looked(tmp_path):
    image = pytest.importorskip("matplotlib.image", reason="Matplotlib is absent: pip install 'chainrule[examples]'")
    scene = np.zeros((1, 3, 20, 20))
    scene[0, 0, 5:10, 15:] = 1
    example.draw_looks(scene, [(["red"], np.eye(16)[7:8].reshape(1, 4, 4))], tmp_path / "a.png")
    picture = image.imread(tmp_path / "a.png")[..., :3].reshape(-1, 3)
    count = lambda color: np.isclose(picture, color, atol=0.01).all(1).sum()
    assert count([1, 0, 0]) > 1.9 * count([0.2, 0, 0]) and count([0.2, 0.2, 0.2]) > 10 * count([1, 0, 0]) / 2


def test_what_cannot_be_drawn(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="Matplotlib is absent: pip install 'chainrule[examples]'")
    with pytest.raises(
        ValueError, match=r"received out='.*a\.gif', whose ending is no format that it writes\. End it in"
    ):
        example.plot(tmp_path / "x" / "a.gif")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"Matplotlib, which is not installed.*pip install 'chainrule\[examples\]'"):
        example.plot(tmp_path / "x" / "a.png")
    assert not (tmp_path / "x").exists()
