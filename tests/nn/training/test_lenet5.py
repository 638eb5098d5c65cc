"""The main job, on few digits; the whole one proves its accuracy."""

import gzip
import re
import sys

import numpy as np
import pytest

import chainrule as cr
from chainrule import data

pytest.importorskip("matplotlib", reason="Matplotlib is absent: pip install 'chainrule[examples]'")
pytest.importorskip("sklearn", reason="scikit-learn is absent: pip install 'chainrule[examples]'")
pytest.importorskip("pygraphviz", reason="pygraphviz is absent: pip install 'chainrule[viz]'")

from chainrule.nn.examples import lenet5  # noqa: E402
from chainrule.nn.examples.plotting import draw_mistakes, draw_training  # noqa: E402

FILES = "best.safetensors, last.safetensors, log.csv, loss.dot, loss.svg, mistakes.png, training.png"


def weights(folder):
    return {name: t.numpy().tobytes() for name, t in cr.load(folder / "last.safetensors")["model"].items()}


def test_a_short_run_leaves_everything_and_says_so(tmp_path, capsys):
    summary = lenet5.train(epochs=1, out=tmp_path, samples=60)
    said = capsys.readouterr().out
    assert f"LeNet5: 61,706 parameters, on cpu with {cr.get_num_threads()} threads." in said
    assert re.search(r"1 epochs of 2 steps; about \d+ s\.", said)
    assert re.search(
        rf"LeNet-5 reads {summary['accuracy']:.2%} of 60 digits it never saw \({summary['mistakes']} ", said
    )
    assert said.rstrip().endswith(f"In {tmp_path}: {FILES}.")
    assert summary["mistakes"] == round(60 * (1 - summary["accuracy"]))
    for picture in ("training.png", "mistakes.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG\r\n")
    for layer in ("c1", "act1", "s2", "Conv2d", "6 × 1 × 5 × 5"):
        assert layer in (tmp_path / "loss.dot").read_text() and layer in (tmp_path / "loss.svg").read_text()


def test_equal_seeds_give_equal_weights_and_resuming_changes_nothing(tmp_path):
    def run(folder, **options):
        return lenet5.train(out=tmp_path / folder, samples=60, epochs=3, verbose=False, **options)

    run("a")
    run("b")
    run("c", seed=1)
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")

    class Interrupt(Exception):
        pass

    def stop(trainer, *args, original=lenet5.Trainer._epoch):
        if len(trainer.history) == 2:
            raise Interrupt
        original(trainer, *args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupt):
        patch.setattr(lenet5.Trainer, "_epoch", stop)
        run("d")
    assert run("d", resume=True)["epochs"] == 3
    assert weights(tmp_path / "d") == weights(tmp_path / "a")
    with pytest.raises(ValueError, match="epochs=5 of 2 batches.*laid out for 6 steps. Pass epochs=3"):
        lenet5.train(out=tmp_path / "d", samples=60, epochs=5, verbose=False, resume=True)


def test_mnist_files(tmp_path, rng):
    for part, n in (("train", 40), ("t10k", 20)):
        for kind, code, array in (
            ("images-idx3", b"\0\0\x08\x03", rng.integers(0, 256, (n, 28, 28))),
            ("labels-idx1", b"\0\0\x08\x01", rng.integers(0, 10, n)),
        ):
            sizes = np.array(array.shape, ">u4").tobytes()
            content = gzip.compress(code + sizes + array.astype(np.uint8).tobytes())
            (tmp_path / f"{part}-{kind}-ubyte.gz").write_bytes(content)
    summary = lenet5.train(f"mnist:{tmp_path}", epochs=1, out=tmp_path / "out", verbose=False)
    assert summary["tested"] == 20


@pytest.mark.parametrize("name", ["cifar", "mnist", "mnist:", "digits:here"])
def test_unknown_data(name, tmp_path):
    with pytest.raises(ValueError, match=f"data='{name}', which it does not know. Pass 'digits' or 'mnist:PATH'"):
        lenet5.train(name, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_nothing_begins(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"Matplotlib, which is not installed.*pip install 'chainrule\[examples\]'"):
        lenet5.train(out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def sheets(size, **options):
    return lenet5.Sheets(data.digits(size)[1], **options)


def test_an_undistorted_digit_stands_in_the_middle():
    images, labels = data.digits(28)[1].tensors
    x, y = sheets(28).batch(np.arange(5))
    expected = np.pad(images.numpy()[:5], ((0, 0), (0, 0), (2, 2), (2, 2)))
    np.testing.assert_allclose(x.numpy(), 1.275 * expected - 0.1, atol=1e-6)
    assert y.tolist() == labels.tolist()[:5] and x.shape == (5, 1, 32, 32) and x.dtype == np.float32
    one, label = sheets(28)[3]
    assert (one == x[3]).all() and label.item() == y[3].item()


def test_distortion_is_the_map_that_the_docstring_states(rng):
    """Against SciPy's affine transform, from the same random numbers."""
    ndimage = pytest.importorskip("scipy.ndimage")
    images = data.digits(28)[1].tensors[0].numpy()[:4, 0].astype(np.float64)
    x, _ = sheets(28, warp=0.3, shift=3.0, generator=cr.Generator(7)).batch(np.arange(4))
    draws = cr.Generator(7).rng
    maps = np.eye(2) + draws.uniform(-0.3, 0.3, (4, 2, 2))
    moves = draws.uniform(-3.0, 3.0, (4, 2))
    for image, a, t, ours in zip(images, maps, moves, x.numpy()[:, 0]):
        offset = 13.5 + t - a @ np.array([15.5, 15.5])
        theirs = ndimage.affine_transform(np.pad(image, 40), a, offset + 40, (32, 32), order=1)
        np.testing.assert_allclose(ours, 1.275 * theirs - 0.1, atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 13, 130])
def test_pictures_of_any_number_of_mistakes(tmp_path, rng, count):
    digits = rng.integers(0, 10, (2, count))
    draw_mistakes(rng.random((count, 28, 28)), *digits, 1000, tmp_path / "mistakes.png")
    assert (tmp_path / "mistakes.png").stat().st_size > 1000


def test_a_picture_of_one_epoch(tmp_path):
    row = {"epoch": 1, "loss": 2.0, "accuracy": 0.2, "val_loss": 1.9, "val_accuracy": 0.3}
    draw_training([row], tmp_path / "training.png", "one")
    assert (tmp_path / "training.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_whole_run_reads_98_5_per_cent(tmp_path):
    summary = lenet5.train(out=tmp_path, verbose=False)
    assert summary["accuracy"] >= 0.985
