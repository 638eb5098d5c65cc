"""What is installed is what is in the repository."""

import importlib.machinery
import importlib.util
import subprocess
import sys

import pytest
from structure.house import FOLDERS, PACKAGES, PROJECT, ROOT, TIME_IMPORT, folder, modules


def test_every_folder_with_python_files_is_a_listed_package():
    found = {path.parent for top in FOLDERS.values() for path in (ROOT / top).rglob("*.py")}
    assert found == {folder(package) for package in PACKAGES}


def test_every_package_has_an_init():
    assert [p for p in PACKAGES if not (folder(p) / "__init__.py").is_file()] == []


def test_every_other_file_of_a_package_is_shipped():
    data = PROJECT["tool"]["setuptools"]["package-data"]
    for package in PACKAGES:
        inner = [folder(other) for other in PACKAGES if other.startswith(f"{package}.")] + ["__pycache__"]
        below = (p for p in folder(package).rglob("*") if not any(str(part) in str(p) for part in inner))
        files = {p for p in below if p.is_file() and p.suffix not in (".py", ".pyc")}
        shipped = {p for pattern in data.get(package, []) for p in folder(package).glob(pattern)}
        assert files == shipped, package


@pytest.mark.parametrize("name", [name for name, _ in modules() if not name.endswith("__main__")])
def test_every_module_is_found_under_the_one_import_root(name):
    package = name if name in PACKAGES else name.rpartition(".")[0]
    found = importlib.util.find_spec(package)
    if name != package:  # looked up without importing the package: kernels/cuda needs CuPy
        found = importlib.machinery.PathFinder.find_spec(name, found.submodule_search_locations)
    assert found.origin == str(dict(modules())[name])


def test_import_is_quick_and_loads_nothing_heavy():
    runs = [subprocess.check_output([sys.executable, "-c", TIME_IMPORT], text=True).split() for _ in range(5)]
    assert [heavy for _, *heavy in runs] == [[]] * 5
    assert min(float(times) for times, *_ in runs) < 4  # times NumPy
