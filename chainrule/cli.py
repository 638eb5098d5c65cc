"""The `chainrule` command."""

import ctypes
import os
import platform
import sys
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
import numpy as np

from . import __version__


@click.group()
@click.version_option(__version__, prog_name="chainrule")
def main():
    """Chainrule: automatic differentiation and neural networks on NumPy and Numba."""


@contextmanager
def plain_errors():
    """Say what the user can mend in one line; anything else keeps its traceback.

    >>> from chainrule.cli import plain_errors
    >>> with plain_errors():
    ...     raise FileNotFoundError("no such folder: x")
    Traceback (most recent call last):
    click.exceptions.ClickException: no such folder: x
    """
    try:
        yield
    except (OSError, ValueError, ImportError, FloatingPointError) as error:
        raise click.ClickException(str(error)) from error


@main.group()
def train():
    """Train one of the models of the lectures."""


@train.command()
@click.option("--data", default="digits", show_default=True, help="'digits', or mnist:PATH of a folder of IDX files.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training images.  [default: the recipe's]")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("runs/lenet5"), show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of weights, order and augmentation.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out.")
def lenet5(**options):
    """Train LeNet-5 to read handwritten digits."""
    from .nn.examples import lenet5

    with plain_errors():
        lenet5.train(**options)


@train.command()
@click.option(
    "--data",
    default="reference",
    show_default=True,
    help="'reference' (Python's language reference), a text file, or 'hello' (the lecture's toy).",
)
@click.option("--cell", type=click.Choice(["lstm", "gru", "rnn"]), default="lstm", show_default=True)
@click.option("--hidden", type=click.IntRange(min=1), default=256, show_default=True, help="Units in a layer.")
@click.option("--layers", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--dropout", type=click.FloatRange(0, 1), default=0.3, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the text.  [default: for some 3,000 steps]")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("runs/charlm"), show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of weights, dropout and samples.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out.")
@click.option("--temperature", type=float, default=0.8, show_default=True, help="Of the samples on the way.")
def charlm(**options):
    """Train a recurrent network to write text, character by character."""
    from .nn.examples import charlm

    with plain_errors():
        charlm.train(**options)


@train.command()
@click.option("--data", default="made", show_default=True, help="'made' by a grammar, a file or a folder of yours.")
@click.option("--epochs", type=click.IntRange(min=1), default=15, show_default=True, help="Passes over the sentences.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("runs/sentiment"), show_default=True
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of sentences, split, weights and order.")
def sentiment(**options):
    """Train Kim's sentence CNN and an LSTM to tell praise from blame."""
    from .nn.examples import sentiment

    with plain_errors():
        sentiment.train(**options)


@train.command()
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the sentences.  [default: the recipe's]")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("runs/translate"), show_default=True
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of weights and order.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out.")
def translate(**options):
    """Train a network with attention to translate into a language made by rule."""
    from .nn.examples import translate

    with plain_errors():
        translate.train(**options)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--prompt", help="What it begins with.  [default: the text's first character]")
@click.option("--length", type=click.IntRange(min=0), default=400, show_default=True, help="Characters to write.")
@click.option("--temperature", type=float, default=0.8, show_default=True, help="0: the likeliest each time.")
@click.option("--seed", type=int, default=0, show_default=True)
def sample(**options):
    """Let the model of RUN, a folder of `chainrule train charlm`, continue a prompt."""
    from .nn.examples import charlm

    with plain_errors():
        click.echo(charlm.sample(**options))


@main.group()
def plot():
    """Draw one of the pictures of the lectures."""


@plot.command()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("vanishing-gradients.svg"),
    show_default=True,
    help="An .svg, .png or .pdf file.",
)
def vanishing(**options):
    """Draw how far back the gradients of RNN, GRU and LSTM reach."""
    from .nn.examples import vanishing

    with plain_errors():
        click.echo(f"Wrote {vanishing.plot(**options)}.")


@plot.command()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("captions.png"),
    show_default=True,
    help="A .png, .svg or .pdf file.",
)
def captions(**options):
    """Draw where a network looks as it describes scenes of coloured shapes, which it first learns."""
    from .nn.examples import captions

    with plain_errors():
        click.echo(f"Wrote {captions.plot(**options)}.")


@main.command()
def info():
    """Say which versions, devices and threads chainrule uses here."""
    facts = {
        "chainrule": f"{__version__} ({Path(__file__).parent})",
        "Python": f"{platform.python_version()} ({platform.system()} {platform.machine()})",
        "NumPy": np.__version__,
        "BLAS": blas(),
        "Numba": numba(),
        "CPU": cpu(),
        "threads": threads(),
        "CuPy": installed("cupy-cuda12x", "cupy-cuda13x", "cupy") or "not installed",
        "GPU": gpu(cuda_driver()),
    }
    for name, fact in facts.items():
        click.echo(f"{name:10} {fact}")


def installed(*distributions):
    """Return the version of the first of these distributions that is installed, else None.

    >>> from chainrule.cli import installed
    >>> installed("no-such-thing", "numpy") == np.__version__
    True
    """
    for name in distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def blas():
    """Return the name and version of the BLAS that NumPy was built with.

    >>> from chainrule.cli import blas
    >>> len(blas()) > 0
    True
    """
    found = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{found.get('name', 'unknown')} {found.get('version', '')}".strip()


def numba():
    """Return Numba's version, whether it compiles, and where the compiled kernels are kept.

    >>> from chainrule.cli import numba
    >>> numba().split(": ")[0] in ("on", "off")
    True
    """
    from .kernels.cpu import jit

    release = installed("numba")
    if not jit.has_numba():
        reason = f"{release} is installed, CHAINRULE_NUMBA=0" if release else "not installed (pip install numba)"
        return f"off: {reason}; the kernels are NumPy's"
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        return f"off: {release} is installed, NUMBA_DISABLE_JIT is set; its loops run as Python, very slowly"
    beside = Path(jit.__file__).parent
    folder = beside / "__pycache__" if os.access(beside, os.W_OK) else "Numba's folder in the user's cache"
    return f"on: {release}, compiled kernels are kept in {os.environ.get('NUMBA_CACHE_DIR') or folder}"


def cpu():
    """Return the processor's model and how many of its cores this process may use.

    >>> from chainrule.cli import cpu
    >>> "cores usable" in cpu()
    True
    """
    cores = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    return f"{_processor()}, {usable} of {cores} cores usable"


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def threads():
    """Return the number of CPU workers and what set it.

    >>> from chainrule.cli import threads
    >>> int(threads().split()[0]) >= 1
    True
    """
    from .kernels.cpu import workers

    setting = os.environ.get("OMP_NUM_THREADS")
    return f"{workers.get_num_threads()} ({f'OMP_NUM_THREADS={setting}' if setting else 'the usable cores'})"


def cuda_driver():
    """Return NVIDIA's driver library, started, or None where there is none.

    >>> from chainrule.cli import cuda_driver, gpu
    >>> text = gpu(cuda_driver())
    """
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    return driver if driver.cuInit(0) == 0 else None


def gpu(driver):
    """Return the GPUs that `driver` sees, and the extra to install where CuPy is missing.

    >>> from chainrule.cli import gpu
    >>> gpu(None)
    'none: no NVIDIA driver answers; chainrule uses the CPU'
    """
    if driver is None:
        return "none: no NVIDIA driver answers; chainrule uses the CPU"
    release, count = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(release))
    driver.cuDeviceGetCount(ctypes.byref(count))
    major = release.value // 1000
    names = ", ".join(_gpu_name(driver, i) for i in range(count.value)) or "no device"
    text = f"{names} (driver for CUDA {major}.{release.value % 1000 // 10})"
    if installed("cupy-cuda12x", "cupy-cuda13x", "cupy"):
        return text
    return f"{text}; to use it: pip install 'chainrule[cuda{min(major, 13)}]'"


def _gpu_name(driver, index):
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)
    return name.value.decode()
