"""What every test finds ready: seeds that are printed, a random generator of its own, and skips that say why."""

import os
import random
import zlib
from importlib.util import find_spec

import hypothesis
import numpy as np
import pytest

import chainrule as cr

# Compilation by Numba makes the first example of a test slow; only a person can judge a deadline.
hypothesis.settings.register_profile("chainrule", deadline=None, print_blob=True)
hypothesis.settings.load_profile("chainrule")


def pytest_addoption(parser):
    parser.addoption(
        "--seed",
        type=int,
        default=int(os.environ.get("CHAINRULE_TEST_SEED", 0)),
        help="seed of every random number in the tests, hypothesis included (default 0)",
    )
    parser.addoption(
        "--hostsim",
        action="store_true",
        help="let device 'cuda' be its stand-in on the CPU (needs g++), and make it the default device",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = config.option.seed
    if config.option.hostsim:
        from hostsim import module

        module.install()
        cr.set_default_device("cuda")


def pytest_report_header(config):
    torch = "present" if find_spec("torch") else "absent, parity tests are skipped (pip install 'chainrule[compare]')"
    return [f"seed: {config.option.seed} (repeat with --seed {config.option.seed})", f"PyTorch: {torch}"]


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not _gpu_present():
        pytest.skip("needs a CUDA device and CuPy (pip install 'chainrule[cuda12]' or 'chainrule[cuda13]')")


def _gpu_present():
    if find_spec("cupy") is None:
        return False
    import cupy

    try:
        return cupy.cuda.runtime.getDeviceCount() > 0
    except cupy.cuda.runtime.CUDARuntimeError:
        return False


@pytest.fixture
def seed(request):
    """A number that depends on --seed and the test's name alone, so that tests can run alone or in any order."""
    return zlib.crc32(f"{request.config.option.seed} {request.node.nodeid}".encode())


@pytest.fixture
def rng(seed):
    return np.random.default_rng(seed)


@pytest.fixture(autouse=True)
def _seeded(seed):
    random.seed(seed)
    np.random.seed(seed)
    cr.manual_seed(seed)


@pytest.fixture
def cpu_by_default():
    """New tensors lie on the CPU, where --hostsim or a command may say otherwise; afterwards as before."""
    yield from _by_default("cpu")


@pytest.fixture
def gpu_by_default():
    """New tensors lie on the GPU; afterwards as before."""
    yield from _by_default("cuda")


def _by_default(device):
    before = cr.get_default_device()
    cr.set_default_device(device)
    yield
    cr.set_default_device(before)


@pytest.fixture(scope="session")
def device():
    """'cuda' where there is a GPU or its stand-in, else 'cpu'."""
    return "cpu" if cr.kernels.missing_for_cuda() else "cuda"


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is absent: pip install 'chainrule[compare]'")
