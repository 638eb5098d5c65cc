"""The commands with --device cuda: tiny runs."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from chainrule import cli

pytest.importorskip("matplotlib", reason="Matplotlib is absent: pip install 'chainrule[examples]'")
pytestmark = pytest.mark.usefixtures("cpu_by_default")


def test_charlm_and_sample(tmp_path):
    options = f"train charlm --data hello --hidden 8 --epochs 1 --device cuda --out {tmp_path}"
    result = CliRunner().invoke(cli.main, options.split())
    assert result.exit_code == 0, result.output + repr(result.exception)
    written = [
        CliRunner().invoke(cli.main, ["sample", str(tmp_path), "--length", "5", "--temperature", "0", *device]).output
        for device in ([], ["--device", "cuda"])
    ]
    assert written[0] == written[1] and len(written[0]) == 7


def test_lenet5(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is absent: pip install 'chainrule[examples]'")
    from chainrule.nn.examples import lenet5

    summary = lenet5.train(epochs=1, out=tmp_path, samples=8, verbose=False, device="cuda")
    assert summary["epochs"] == 1 and Path(tmp_path / "mistakes.png").is_file()


def test_sentiment(tmp_path):
    from chainrule.nn.examples import sentiment

    summary = sentiment.train(epochs=1, out=tmp_path, count=60, verbose=False, device="cuda")
    assert len(summary["accuracy"]) == 3


def test_translate(tmp_path):
    from chainrule.nn.examples import translate

    summary = translate.train(epochs=1, out=tmp_path, samples=8, verbose=False, device="cuda")
    assert summary["tested"] == 2 and (tmp_path / "alignment.png").is_file()
