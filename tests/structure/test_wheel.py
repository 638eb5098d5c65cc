"""The wheel, installed as a user installs it, in an empty environment where the names of our folders are taken."""

import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile

import pytest
from structure.house import PACKAGES, ROOT, TIME_IMPORT, folder

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]

BOTH = """
import autograd, kernels, nn
import chainrule as cr
assert kernels.OWNER == nn.OWNER == "somebody else"
x = cr.tensor([1.0, 2.0, 3.0], requires_grad=True)
(x * x).sum().backward()
hips = autograd.grad(lambda x: (x * x).sum())(autograd.numpy.array([1.0, 2.0, 3.0]))
print(x.grad.tolist(), hips.tolist())
"""

USER = """
import chainrule as cr
from chainrule import nn, optim

model = nn.Linear(2, 3)
optimizer = optim.SGD(model.parameters(), lr=0.1)
x: cr.Tensor = cr.tensor([[1.0, 2.0]])
loss: cr.Tensor = model(x).sum()
loss.backward()
optimizer.step()
"""


def run(*command, **options):
    done = subprocess.run([*map(str, command)], text=True, capture_output=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out, source = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("source") / "chainrule"
    # setuptools writes beside what it reads: a copy keeps it from what other tests do in the checkout meanwhile
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "runs"))
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source)
    return out


@pytest.fixture(scope="module")
def python(built, tmp_path_factory):
    """The interpreter of an environment with the wheel, HIPS autograd, and stand-ins for other owners of our names."""
    home = tmp_path_factory.mktemp("user")
    venv.create(home / "venv", with_pip=True)
    python = home / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    for name in ("kernels", "nn"):
        (home / "venv" / site / name).mkdir()
        (home / "venv" / site / name / "__init__.py").write_text('OWNER = "somebody else"\n')
    run(python, "-m", "pip", "install", "--quiet", "autograd", *built.glob("*.whl"))
    return python


def test_wheel_and_sdist_hold_every_file(built):
    parts = {package: [*folder(package).glob("*.*"), *folder(package).glob("assets/*.*")] for package in PACKAGES}
    within = lambda package, p: f"{package.replace('.', '/')}/{p.relative_to(folder(package)).as_posix()}"
    files = {within(package, p) for package in PACKAGES for p in parts[package]}
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        assert {name for name in wheel.namelist() if ".dist-info/" not in name} == files
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {str(p.relative_to(ROOT)) for package in PACKAGES for p in parts[package]} <= names
    assert {"LICENSE", "README.md", "pyproject.toml"} <= names


def test_lives_beside_hips_autograd_and_other_owners_of_our_folder_names(python, tmp_path):
    assert run(python, "-c", BOTH, cwd=tmp_path) == "[2.0, 4.0, 6.0] [2.0, 4.0, 6.0]\n"


def test_import_is_quick_and_loads_nothing_heavy(python, tmp_path):
    runs = [run(python, "-c", TIME_IMPORT, cwd=tmp_path).split() for _ in range(5)]
    assert [heavy for _, *heavy in runs] == [[]] * 5
    assert min(float(times) for times, *_ in runs) < 4  # times NumPy


def test_command_is_installed(python, tmp_path):
    assert run(python.with_name("chainrule"), "info", cwd=tmp_path).startswith("chainrule ")
    assert run(python, "-m", "chainrule", "--version", cwd=tmp_path).startswith("chainrule, version ")


def test_users_program_is_type_checked(python, tmp_path):
    mypy = [sys.executable, "-m", "mypy", "--python-executable", str(python), "--cache-dir", str(tmp_path / "cache")]
    (tmp_path / "right.py").write_text(USER)
    (tmp_path / "wrong.py").write_text(USER + "number: int = loss\n")
    run(*mypy, "right.py", cwd=tmp_path)
    wrong = subprocess.run([*mypy, "wrong.py"], cwd=tmp_path, text=True, capture_output=True)
    assert "wrong.py:11: error: Incompatible types in assignment" in wrong.stdout


def test_uninstalling_leaves_the_other_owners_alone(python, tmp_path):
    run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "chainrule")
    assert run(python, "-c", "import autograd, kernels, nn; print(nn.OWNER)", cwd=tmp_path) == "somebody else\n"
