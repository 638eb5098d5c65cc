"""The captioner: what its decoder begins with, and a world of shapes that it learns to describe and to look at."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.nn.models import Captioner

TOKENS = "<padding> <start> <end> red green blue square cross bar".split()
SQUARE, CROSS, BAR = np.ones((4, 4)), np.zeros((4, 4)), np.zeros((4, 4))
CROSS[1:3], CROSS[:, 1:3], BAR[:, 1:3] = 1, 1, 1
LONGEST = 7  # three shapes of two words each, END


def world(rng, count):
    """Images (N, 3, 12, 12) with shapes of different colours in some quarters, captions that name them from red to blue
    as "red cross blue bar", and the quarters of the shapes named, −1 for none."""
    images, captions, places = np.zeros((count, 3, 12, 12)), np.zeros((count, LONGEST), np.int64), []
    for image, caption in zip(images, captions):
        colors = np.sort(rng.choice(3, rng.integers(1, 4), replace=False))
        quarters = rng.choice(4, len(colors), replace=False)
        shapes = rng.integers(3, size=len(colors))
        for color, quarter, shape in zip(colors, quarters, shapes):
            top, left = 6 * (quarter // 2) + rng.integers(3), 6 * (quarter % 2) + rng.integers(3)
            image[color, top : top + 4, left : left + 4] = (SQUARE, CROSS, BAR)[shape]
        caption[: 2 * len(colors) + 1] = [*np.stack([3 + colors, 6 + shapes], 1).flatten(), 2]
        places.append([*quarters, -1, -1][:3])
    return cr.tensor(images, dtype=cr.float32), cr.tensor(captions), np.array(places)


def network(**options):
    cnn = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 32, 6, stride=6), nn.ReLU())
    return Captioner(cnn, 32, len(TOKENS), **{"embedding_dim": 16, "hidden_size": 32} | options)


def learn(net, batches):
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    for x, y in batches:
        optimizer.zero_grad()
        cr.cross_entropy(net(x, y).flatten(0, 1), y.flatten(), ignore_index=0).backward()
        optimizer.step()


def test_it_describes_what_it_sees_and_looks_at_it(rng):
    net = network()
    learn(net, zip(*(t.split(32) for t in world(rng, 32 * 200)[:2])))
    images, captions, places = world(rng, 100)
    for told in (net.greedy(images, LONGEST), net.beam(images, 3, LONGEST)):
        assert (told.tokens == captions).all(1).float().mean().item() > 0.95
        looked = told.weights.numpy()[:, :6:2].argmax(-1)  # as it names the colours; then it knows the shapes
        assert (looked == places)[places >= 0].mean() > 0.85


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_show_and_tell_sees_the_image_at_its_first_step_alone(rng, cell):
    net = network(attention=None, cell=cell)
    images, captions, _ = world(rng, 16)
    hidden, memory, mask = net.encode(images)
    features = net.cnn(images)
    np.testing.assert_allclose(memory[:, 3].detach().numpy(), features[:, :, 1, 1].detach().numpy())
    seen = net.image(features.mean((2, 3)))
    first = net.decoder.cell(cr.cat([seen, cr.zeros(16, 32)], -1))
    np.testing.assert_allclose(
        hidden[0].detach().numpy(), (first if cell == "gru" else first[0]).detach().numpy(), atol=1e-6
    )
    other = net.decoder(hidden, memory + 1.0, mask, captions)
    assert (other == net(images, captions)).all() and net.greedy(images).weights.shape[2] == 0


def test_show_and_tell_learns_a_few_images_by_heart(rng):
    net = network(attention=None)
    images, captions, _ = world(rng, 4)
    learn(net, [(images, captions)] * 400)
    told = net.greedy(images, LONGEST).tokens
    assert (told == captions[:, : told.shape[1]]).all()


@pytest.mark.parametrize("attention", ["additive", "general", None])
def test_every_parameter_learns(rng, attention):
    net = network(attention=attention)
    images, captions, _ = world(rng, 4)
    net(images, captions, teacher_forcing_ratio=0.5).sum().backward()
    assert all((p.grad != 0).any() for p in net.parameters())


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x, y: Captioner(nn.Flatten(), 32, 9)(x, y), r"features have shape \(4, 432\).*channels=32.*places"),
        (lambda x, y: Captioner(nn.Identity(), 32, 9)(x, y), r"shape \(4, 3, 12, 12\).*ends with \(N, 32, H, W\)"),
        (lambda x, y: network()(x, y[:3]), r"Decoder: received a target of shape \(3, 7\) for a batch of 4"),
        (lambda x, y: network(end=0), r"Decoder: received padding=0, start=1 and end=0.*three different numbers"),
    ],
)
def test_refuses(rng, call, message):
    with pytest.raises(ValueError, match=message):
        call(*world(rng, 4)[:2])
