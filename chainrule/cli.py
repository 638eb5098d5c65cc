"""The `chainrule` command."""

import ctypes
import difflib
import importlib.util
import inspect
import os
import platform
import shlex
import sys
import traceback
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
import numpy as np

from . import __version__
from .kernels import missing_for_cuda


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


def on_device(command):
    """Add --device, which refuses a GPU that is not there and says what it lacks.

    >>> from chainrule.cli import on_device, train
    >>> [option.name for option in train.commands["lenet5"].params][-1]
    'device'
    """
    option = click.option(
        "--device",
        type=click.Choice(["cpu", "cuda"]),
        default="cpu",
        show_default=True,
        callback=_there,
        help="Where to compute: cuda is an NVIDIA GPU.",
    )
    return option(command)


_page = click.option("--viz", is_flag=True, help="Write run.html in --out: a page that shows the training as it runs.")


def _there(context, parameter, device):
    missing = missing_for_cuda() if device == "cuda" else ""
    if missing:
        raise click.BadParameter(missing, context, parameter)
    return device


@main.group()
def train():
    """Train one of the models of the lectures."""


@train.command()
@click.option("--data", default="digits", show_default=True, help="'digits', or mnist:PATH of a folder of IDX files.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training images.  [default: the recipe's]")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("runs/lenet5"), show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of weights, order and augmentation.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out.")
@_page
@on_device
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
@_page
@on_device
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
@on_device
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
@on_device
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
@on_device
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


def of_program(command):
    """Add the argument FILE.py:FUNCTION, which the command gets as the function.

    >>> from chainrule.cli import draw, of_program
    >>> draw.params[0].metavar
    'FILE.py:FUNCTION'
    """
    return click.argument("function", metavar="FILE.py:FUNCTION", callback=_loaded)(command)


def _loaded(context, parameter, text):
    """The function that FILE.py:FUNCTION names."""
    file, colon, name = text.rpartition(":")
    path = Path(file)
    if not colon or not name.isidentifier():
        raise click.BadParameter(
            f"{text!r} names no function; write FILE.py:FUNCTION, a function that returns the loss", context, parameter
        )
    if not path.is_file():
        raise click.BadParameter(f"there is no file {path} (looked in {Path.cwd()})", context, parameter)
    sys.path.insert(0, str(path.parent.resolve()))  # as `python FILE.py` does
    spec = importlib.util.spec_from_file_location(f"program_{path.stem}", path)
    if spec is None:
        raise click.BadParameter(f"{path} is no Python file: its name must end in .py", context, parameter)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where dataclasses look for it
    with own_errors(spec.origin):
        spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if not callable(found):
        functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        near = difflib.get_close_matches(name, functions) or functions[:8]
        raise click.BadParameter(
            f"{path} has no function {name!r}; it has {', '.join(near) or 'none'}", context, parameter
        )
    return found


def recorded(function, backward=False):
    """Run a function without arguments under `record`: (the tensor that it returned, its and its file's variables).

    With `backward`, a backward pass from that tensor is recorded too, unless the function made one itself.

    Errors: click.ClickException for a function that needs arguments or returns no tensor.

    >>> from chainrule.cli import recorded
    >>> def loss():
    ...     w = cr.tensor(3.0, requires_grad=True)
    ...     return w * w
    >>> t, names = recorded(loss, backward=True)
    >>> names["w"].grad
    tensor(6.)
    """
    from .autograd import Tensor
    from .autograd.viz import record

    name, code = getattr(function, "__name__", "the function"), getattr(function, "__code__", None)
    _takes_nothing(function, name)
    names = dict(getattr(function, "__globals__", {}))

    def look(frame, event, argument):
        if event == "return" and frame.f_code is code:
            names.update(frame.f_locals)

    before = sys.getprofile()
    with record() as recording:
        sys.setprofile(look)
        try:
            with own_errors(code.co_filename if code else ""):
                out = function()
        finally:
            sys.setprofile(before)
        if not isinstance(out, Tensor):
            raise click.ClickException(
                f"{name}() returned {type(out).__name__}; let it return the tensor whose graph is wanted, e.g. the loss"
            )
        if backward and out.requires_grad and not recording.passes:
            _scalar(out, name).backward()
    if all(one is not out for one in names.values()):
        names[name] = out  # what is returned and has no name is called like the function
    return out, names


@contextmanager
def own_errors(file):
    """End with the traceback of an error in the user's program, from its `file` on.

    >>> from chainrule.cli import own_errors
    >>> with own_errors("lesson.py"):
    ...     pass
    """
    try:
        yield
    except Exception as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != str(file):
            trace = trace.tb_next
        click.echo("".join(traceback.format_exception(type(error), error, trace)).rstrip(), err=True)
        raise click.exceptions.Exit(1) from error


def _name_of(function) -> str:
    """The function's name, which a lambda, a partial and an object that can be called do not have."""
    name = getattr(function, "__name__", "")
    return name if name.isidentifier() else "program"


def _takes_nothing(function, name):
    parameters = inspect.signature(function).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if needed:
        raise click.ClickException(
            f"{name}() needs {', '.join(needed)}, but it is called without arguments; give them defaults, or write a "
            "function around it"
        )


def _scalar(out, name):
    if out.shape != ():
        raise click.ClickException(
            f"{name}() returned a tensor of shape {tuple(out.shape)}, but gradients are those of a number; let it "
            "return a number, e.g. the sum"
        )
    return out


@contextmanager
def picture_errors():
    """Say in one line what a picture or explanation lacks.

    >>> from chainrule.cli import picture_errors
    >>> with picture_errors():
    ...     raise RuntimeError("the graph was released")
    Traceback (most recent call last):
    click.exceptions.ClickException: the graph was released
    """
    with plain_errors():
        try:
            yield
        except RuntimeError as error:
            raise click.ClickException(str(error)) from error


def named(names, show, *arguments, **options):
    """Call `show` from where `names` are the variables, after which pictures name their values.

    >>> from chainrule.cli import named
    >>> v = cr.tensor(1.0, requires_grad=True)
    >>> "speed: input" in named({"speed": v}, cr.viz.text, v * 2)
    True
    """
    call = {"__name__": "program", "__show__": partial(show, *arguments, **options)}
    return eval(compile("__show__()", "<program>", "eval"), call, names)


@main.command()
@of_program
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="An .svg, .png, .pdf or .dot file.  [default: FUNCTION.svg]",
)
@click.option(
    "--mode",
    type=click.Choice(["forward", "backward", "both"]),
    default="forward",
    show_default=True,
    help="The way of the data, of the gradients, or both.",
)
@click.option("--depth", type=click.IntRange(min=0), help="Levels of modules to open.  [default: what stays readable]")
def draw(function, out, mode, depth):
    """Draw the graph of the tensor that FUNCTION returns.

    FUNCTION takes no arguments and returns a tensor, for example the loss; FILE.py is run first.
    """
    from .autograd.viz import draw

    t, names = recorded(function)
    with picture_errors():
        picture = named(names, draw, t, mode=mode, depth=depth)
        click.echo(f"Wrote {picture.save(out or f'{_name_of(function)}.svg')}.")


@main.command()
@of_program
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="An .html file.  [default: FUNCTION.html]",
)
def page(function, out):
    """Write a page that steps through FUNCTION's computation, forward and backward.

    FUNCTION takes no arguments and returns a tensor, for example the loss; FILE.py is run first. The page is one file
    that needs no network.
    """
    from .autograd.viz import page

    t, names = recorded(function)
    with picture_errors():
        path = named(names, page, t, out or f"{_name_of(function)}.html")
        click.echo(f"Wrote {path}.")


@main.command()
@of_program
@click.argument("name", required=False)
def why(function, name):
    """Say why a gradient is None, zero, NaN, infinite, exploding or vanishing.

    FUNCTION takes no arguments and returns the loss; FILE.py is run first. NAME is a variable of the function or the
    file, or a parameter like net.0.weight; without it, the worst of what the loss depends on is told.
    """
    from .autograd.viz import why

    t, names = recorded(function, backward=True)
    asked = t if name is None else _tensor_named(name, names)
    names = names if name is None else {name: asked, **names}  # its answer calls it as the question does
    with picture_errors():
        click.echo(named(names, why, asked, loss=None if asked is t else t))


def _tensor_named(name, names):
    """The variable or parameter of that name."""
    from .autograd import Tensor

    known, short = {}, {}  # by variable and path, by path alone
    for key, value in names.items():
        if isinstance(value, Tensor):
            known[key] = value
        elif hasattr(value, "named_parameters") and not isinstance(value, type):
            known |= {f"{key}.{path}": parameter for path, parameter in value.named_parameters()}
            short = dict(value.named_parameters()) | short
    if name not in known and name not in short:
        near = difflib.get_close_matches(name, known) or list(known)[:8]
        raise click.ClickException(f"there is no tensor {name!r}; there are {', '.join(near) or 'none'}")
    return known[name] if name in known else short[name]


_BENCHED = {
    "conv": "Convolutions.",
    "lstm": "Recurrent layers: LSTM, GRU, RNN.",
    "matmul": "Products of matrices.",
    "softmax": "Softmax, and cross entropy.",
    "pool": "Max and average pooling.",
    "norm": "Batch and layer normalisation.",
    "optim": "Steps of optimisers.",
    "engine": "Chains of small operations: what the engine itself costs.",
    "steps": "Training steps of small networks.",
    "all": "All of them.",
}
_dtype = click.option(
    "--dtype", type=click.Choice(["float16", "bfloat16", "float32", "float64"]), default="float32", show_default=True
)
_threads = click.option(
    "--threads", type=click.IntRange(min=1), help="Threads, each on a core.  [default: the usable cores]"
)
_BENCH_OPTIONS = (
    click.option("--shapes", help="A network (lenet, alexnet, vgg, resnet, inception, lecture, deepbench) or a file."),
    click.option("--impl", help="Implementations of those names alone, with commas."),
    _dtype,
    click.option(
        "--compare", default="", help="Peers: torch, jax, tinygrad, chainer, autograd (HIPS), numpy, with commas."
    ),
    _threads,
    click.option(
        "--seconds",
        type=click.FloatRange(min=0, min_open=True),
        default=2.0,
        show_default=True,
        help="For one contestant at most.",
    ),
    click.option("--json", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here too."),
    click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw them: an .svg or .png file."),
    on_device,
)


@main.group()
def bench():
    """Prove kernels, then time them beside the machine's peaks and other libraries."""


def _again(context):
    """The command that measures the same once more: what was given but for the files to write."""
    by_hand = lambda name: context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    given = [p for p in context.command.params if by_hand(p.name) and p.name not in ("json", "plot")]
    words = [word for p in given for word in (p.opts[0], str(context.params[p.name]))]
    return shlex.join(["chainrule", "bench", context.info_name, *words])


def _benched(group, what):
    def command(json, plot, shapes, **options):
        from .bench import kernels, run

        again = _again(click.get_current_context())

        def kept(report):
            report.facts["command"] = again
            if json:
                report.save(json)

        with picture_errors():
            report = run(kernels(group, shapes), **options, each=kept)
            kept(report)
            click.echo(report)
            for path in [*([json] if json else []), *(report.plot(plot) if plot else [])]:
                click.echo(f"Wrote {path}.")
        if "stopped" in report.facts:
            sys.exit(130)
        sys.exit(0 if all(row.status == "timed" for row in report.rows) else 1)

    for option in reversed(_BENCH_OPTIONS):
        command = option(command)
    bench.command(group, help=what)(command)


for _group, _what in _BENCHED.items():
    _benched(_group, _what)


@bench.command("peaks")
@_dtype
@_threads
def peaks_by_threads(dtype, threads):
    """Measure what the machine can do at best, with 1, 2, 4, … threads."""
    from .bench import by_threads, peaks_table

    with plain_errors():
        click.echo(peaks_table(by_threads(dtype, threads)))


@bench.command("compare")
@click.argument("before", type=click.Path(dir_okay=False))
@click.argument("after", type=click.Path(dir_okay=False))
def compare_reports(before, after):
    """Say of each row of two reports of --json: faster, slower, same or undecided."""
    from .bench import Report, compared

    with plain_errors():
        click.echo(compared(Report.load(before), Report.load(after)))


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
        "GPU": gpu(cuda_driver()),
        "CuPy": cupy(),
        "Numba-CUDA": numba_cuda(),
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
    names = ", ".join(_one_gpu(driver, i) for i in range(count.value)) or "no device"
    text = f"{names}; driver for CUDA {_dotted(release.value)}"
    if installed(*_CUPY):
        return text
    return f"{text}; to use it: pip install 'chainrule[cuda{min(major, 13)}]'"


def _one_gpu(driver, index):
    device, name, size = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    count, major, minor = (_attribute(driver, device, which) for which in (16, 75, 76))  # CU_DEVICE_ATTRIBUTE_…
    return (
        f"{name.value.decode()} ({size.value / 2**30:.1f} GiB, compute capability {major}.{minor}, "
        f"{count} multiprocessors)"
    )


def _attribute(driver, device, which):
    value = ctypes.c_int()
    driver.cuDeviceGetAttribute(ctypes.byref(value), which, device)
    return value.value


def _dotted(release):
    """CUDA's 13010 as 13.1."""
    return f"{release // 1000}.{release % 1000 // 10}"


_CUPY = ("cupy-cuda13x", "cupy-cuda12x", "cupy")


def cupy():
    """Return CuPy's version, the distribution it came in, and its CUDA runtime or why it is out of use.

    >>> from chainrule.cli import cupy
    >>> len(cupy()) > 0
    True
    """
    found = next((name for name in _CUPY if installed(name)), None)
    if found is None:
        return "not installed (pip install 'chainrule[cuda13]', or [cuda12] for an older driver)"
    missing = missing_for_cuda()
    if missing:
        return f"{installed(found)} ({found}), out of use: {missing}"
    release = sys.modules["cupy"].cuda.runtime.runtimeGetVersion()
    return f"{installed(found)} ({found}), CUDA runtime {_dotted(release)}"


def numba_cuda():
    """Return the version of Numba's compiler for GPUs.

    >>> from chainrule.cli import numba_cuda
    >>> len(numba_cuda()) > 0
    True
    """
    release = installed("numba-cuda")
    return (
        release or "not installed (a part of chainrule[cuda13] and [cuda12]; only CHAINRULE_KERNELS=numba asks for it)"
    )
