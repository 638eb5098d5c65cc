"""The output of the `chainrule` command."""

import builtins
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from structure.house import printed

from chainrule import __version__, cli
from chainrule.kernels.cpu import jit


def say(*arguments, **options):
    return CliRunner().invoke(cli.main, arguments, **options)


class Driver:
    """As much of NVIDIA's driver library as `chainrule info` asks."""

    def __init__(self, release, *names):
        self.release, self.names = release, names

    def cuDriverGetVersion(self, release):
        release._obj.value = self.release

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self.names)

    def cuDeviceGet(self, device, index):
        device._obj.value = index + 7

    def cuDeviceTotalMem_v2(self, size, device):
        size._obj.value = 141 << 30

    def cuDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = {16: 132, 75: 9, 76: 0}[attribute]

    def cuDeviceGetName(self, name, size, device):
        name.value = self.names[device.value - 7].encode()[:size]


def test_help_lists_the_commands():
    result = say("--help")
    assert result.exit_code == 0
    assert all(f"\n  {command}" in result.output for command in ("info", "plot", "sample", "train"))
    assert "lenet5" in say("train", "--help").output


def test_version():
    assert say("--version").output == f"chainrule, version {__version__}\n"


def test_python_dash_m():
    text = subprocess.check_output([sys.executable, "-m", "chainrule", "--version"], text=True)
    assert text == say("--version").output


def test_info_names_every_fact():
    result = say("info")
    assert result.exit_code == 0, result.output
    facts = dict(line.split(maxsplit=1) for line in result.output.splitlines())
    assert " ".join(facts) == "chainrule Python NumPy BLAS Numba CPU threads GPU CuPy Numba-CUDA"
    assert facts["NumPy"] == np.__version__
    assert facts["chainrule"].startswith(__version__)
    assert facts["BLAS"].split()[0] == np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]


@pytest.mark.parametrize("setting", ["1", "3"])
def test_info_says_what_set_the_threads(setting):
    environment = {**os.environ, "OMP_NUM_THREADS": setting}
    text = subprocess.check_output([sys.executable, "-m", "chainrule", "info"], text=True, env=environment)
    assert f"threads    {setting} (OMP_NUM_THREADS={setting})" in text


def test_info_says_why_numba_is_off(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert "is installed, NUMBA_DISABLE_JIT is set" in cli.numba()
    monkeypatch.setattr(jit, "has_numba", lambda: False)
    assert cli.numba().endswith("is installed, CHAINRULE_NUMBA=0; the kernels are NumPy's")
    monkeypatch.setattr(cli, "installed", lambda *names: None)
    assert cli.numba() == "off: not installed (pip install numba); the kernels are NumPy's"


def test_info_says_where_compiled_kernels_are_kept(monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/somewhere")
    assert cli.numba().endswith("compiled kernels are kept in /somewhere")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    assert cli.numba().endswith(str(Path("kernels", "cpu", "__pycache__")))
    monkeypatch.setattr(os, "access", lambda folder, mode: False)
    assert cli.numba().endswith("compiled kernels are kept in Numba's folder in the user's cache")


@pytest.mark.parametrize("release, extra", [(12080, "cuda12"), (13010, "cuda13"), (14000, "cuda13")])
def test_info_names_the_gpu_and_the_extra_for_its_driver(monkeypatch, release, extra):
    monkeypatch.setattr(cli, "installed", lambda *names: None)
    text = cli.gpu(Driver(release, "NVIDIA H200", "NVIDIA T4"))
    facts = "(141.0 GiB, compute capability 9.0, 132 multiprocessors)"
    driver = f"driver for CUDA {release // 1000}.{release % 1000 // 10}"
    assert text == f"NVIDIA H200 {facts}, NVIDIA T4 {facts}; {driver}; to use it: pip install 'chainrule[{extra}]'"


def test_info_does_not_advise_what_is_installed(monkeypatch):
    monkeypatch.setattr(cli, "installed", lambda *names: "14.2.0")
    assert cli.gpu(Driver(13000, "NVIDIA H200")).endswith("132 multiprocessors); driver for CUDA 13.0")


def test_info_without_a_gpu():
    assert cli.gpu(None) == "none: no NVIDIA driver answers; chainrule uses the CPU"
    assert cli.gpu(Driver(12080)).startswith("no device; driver for CUDA 12.8")


NO_NUMBA_CUDA = "not installed (a part of chainrule[cuda13] and [cuda12]; only CHAINRULE_KERNELS=numba asks for it)"


def test_info_says_how_cupy_came_and_what_it_lacks(monkeypatch):
    monkeypatch.setattr(cli, "installed", lambda *names: None)
    assert cli.cupy() == "not installed (pip install 'chainrule[cuda13]', or [cuda12] for an older driver)"
    assert cli.numba_cuda() == NO_NUMBA_CUDA
    monkeypatch.setattr(cli, "installed", lambda *names: "14.2.0" if "cupy-cuda13x" in names else None)
    monkeypatch.setattr(cli, "missing_for_cuda", lambda: "CuPy 14.2.0 finds no NVIDIA GPU with a working driver")
    assert cli.cupy() == "14.2.0 (cupy-cuda13x), out of use: CuPy 14.2.0 finds no NVIDIA GPU with a working driver"
    monkeypatch.setattr(cli, "missing_for_cuda", lambda: "")
    runtime = types.SimpleNamespace(runtimeGetVersion=lambda: 13000)
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime)))
    assert cli.cupy() == "14.2.0 (cupy-cuda13x), CUDA runtime 13.0"
    assert cli.numba_cuda() == NO_NUMBA_CUDA


@pytest.mark.parametrize("command", ["train lenet5", "train charlm", "train sentiment", "train translate", "sample ."])
def test_device_cuda_says_what_it_lacks(monkeypatch, command):
    monkeypatch.setattr(cli, "missing_for_cuda", lambda: "CuPy cannot be imported; install it with pip")
    result = say(*command.split(), "--device", "cuda")
    assert result.exit_code == 2 and "Traceback" not in result.output
    assert "Invalid value for '--device': CuPy cannot be imported; install it with pip" in result.output
    assert "'tpu' is not one of 'cpu', 'cuda'" in say(*command.split(), "--device", "tpu").output


@pytest.fixture
def recipe(monkeypatch):
    """Stands for chainrule.nn.examples.lenet5 and keeps what it was called with."""
    calls = []
    examples = types.ModuleType("chainrule.nn.examples")
    examples.lenet5 = types.SimpleNamespace(train=lambda **options: calls.append(options))
    monkeypatch.setitem(sys.modules, "chainrule.nn.examples", examples)
    return calls, examples.lenet5


def test_train_lenet5_hands_its_options_on(recipe, tmp_path):
    calls, _ = recipe
    options = f"--data mnist:x --epochs 2 --out {tmp_path} --seed 3 --resume --viz"
    result = say("train", "lenet5", *options.split())
    assert result.exit_code == 0, result.output
    expected = {"data": "mnist:x", "epochs": 2, "out": tmp_path, "seed": 3, "resume": True, "viz": True}
    assert calls == [expected | {"device": "cpu"}]


@pytest.mark.parametrize("kind", ["FileNotFoundError", "ValueError", "ImportError"])
def test_train_says_what_the_user_can_mend_without_a_traceback(recipe, kind):
    def train(**options):
        raise getattr(builtins, kind)("no such folder: x")

    recipe[1].train = train
    result = say("train", "lenet5")
    assert (result.exit_code, result.output) == (1, "Error: no such folder: x\n")


def test_train_refuses_less_than_one_epoch():
    result = say("train", "lenet5", "--epochs", "0")
    assert result.exit_code == 2
    assert "0 is not in the range x>=1" in result.output


def test_train_charlm_hands_its_options_on(monkeypatch, tmp_path):
    from chainrule.nn.examples import charlm

    calls = []
    monkeypatch.setattr(charlm, "train", lambda **options: calls.append(options))
    options = "--data hello --cell gru --hidden 8 --layers 2 --dropout 0.1 --epochs 2 --seed 3 --resume"
    result = say("train", "charlm", *options.split(), "--temperature", "0.5", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    expected = {"data": "hello", "cell": "gru", "hidden": 8, "layers": 2, "dropout": 0.1, "epochs": 2, "out": tmp_path}
    assert calls == [expected | {"seed": 3, "resume": True, "viz": False, "temperature": 0.5, "device": "cpu"}]


def test_train_translate_hands_its_options_on(monkeypatch, tmp_path):
    from chainrule.nn.examples import translate

    calls = []
    monkeypatch.setattr(translate, "train", lambda **options: calls.append(options))
    result = say("train", "translate", *"--epochs 2 --seed 3 --resume --out".split(), str(tmp_path))
    assert result.exit_code == 0, result.output
    assert calls == [{"epochs": 2, "out": tmp_path, "seed": 3, "resume": True, "device": "cpu"}]
    assert say("train", "translate", "--epochs", "0").exit_code == 2


def test_train_translate_cannot_resume_what_never_began(tmp_path):
    pytest.importorskip("matplotlib", reason="Matplotlib is absent: pip install 'chainrule[examples]'")
    result = say("train", "translate", "--resume", "--out", str(tmp_path))
    assert (result.exit_code, "Traceback" in result.output) == (1, False)
    assert f"Error: {tmp_path} is no run of translate: there is no settings.json in it. Train one: " in result.output


def test_what_a_run_of_charlm_says_when_it_cannot(tmp_path):
    out = ("--out", str(tmp_path / "out"))
    for arguments, message in (
        (("train", "charlm", "--data", str(tmp_path / "x"), *out), "there is no such file"),
        (("train", "charlm", "--temperature", "-1", *out), "The temperature received is -1.0"),
        (("sample", str(tmp_path)), "is no run of charlm: there is no settings.json in it"),
    ):
        result = say(*arguments)
        assert (result.exit_code, message in result.output, "Traceback" in result.output) == (1, True, False)
    assert not (tmp_path / "out").exists()
    assert say("train", "charlm", "--cell", "elman").exit_code == 2


def test_sample_continues_a_prompt(tmp_path):
    pytest.importorskip("matplotlib", reason="Matplotlib is absent: pip install 'chainrule[examples]'")
    result = say("train", "charlm", "--data", "hello", "--hidden", "32", "--out", str(tmp_path))
    assert result.exit_code == 0 and f"Let it write: chainrule sample {tmp_path}" in result.output
    options = "--length 3 --temperature 0 --seed 5".split()
    assert printed(say("sample", str(tmp_path), "--prompt", "he", *options)) == "hello\n"
    assert printed(say("sample", str(tmp_path), *options)) == "hell\n"
    result = say("sample", str(tmp_path), "--prompt", "hi")
    assert (result.exit_code, result.output.startswith("Error: Vocabulary received 'i', which")) == (1, True)


def test_train_sentiment_hands_its_options_on(monkeypatch, tmp_path):
    from chainrule.nn.examples import sentiment

    calls = []
    monkeypatch.setattr(sentiment, "train", lambda **options: calls.append(options))
    result = say("train", "sentiment", *"--data here --epochs 2 --seed 3 --out".split(), str(tmp_path))
    assert result.exit_code == 0, result.output
    assert calls == [{"data": "here", "epochs": 2, "out": tmp_path, "seed": 3, "device": "cpu"}]


def test_what_a_run_of_sentiment_says_when_it_cannot(tmp_path):
    pytest.importorskip("matplotlib", reason="Matplotlib is absent: pip install 'chainrule[examples]'")
    (tmp_path / "a.tsv").write_text("praise good\n")
    for data, message in (("a.tsv", "'praise good' in line 1, which has no label, tab"), ("b.tsv", "no such file")):
        result = say("train", "sentiment", "--data", str(tmp_path / data), "--out", str(tmp_path / "out"))
        assert (result.exit_code, message in result.output, "Traceback" in result.output) == (1, True, False)
    assert not (tmp_path / "out").exists()


def test_plot_captions_says_what_it_wrote(monkeypatch, tmp_path):
    from chainrule.nn.examples import captions

    monkeypatch.setattr(captions, "plot", lambda out: out)
    result = say("plot", "captions", "--out", str(tmp_path / "a.png"))
    assert (result.exit_code, result.output) == (0, f"Wrote {tmp_path / 'a.png'}.\n")


def test_plot_vanishing_says_what_it_wrote(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib", reason="Matplotlib is absent: pip install 'chainrule[examples]'")
    from chainrule.nn.examples import vanishing

    monkeypatch.setattr(vanishing, "measure", lambda *sizes, made=vanishing.measure: made(5, 2, 2))
    result = say("plot", "vanishing", "--out", str(tmp_path / "a.png"))
    assert (result.exit_code, printed(result)) == (0, f"Wrote {tmp_path / 'a.png'}.\n")
    result = say("plot", "vanishing", "--out", str(tmp_path / "a.gif"))
    assert result.exit_code == 1 and result.output.startswith("Error: plot received out=")
