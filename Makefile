# Every command makes the environment it needs in .venv: a fresh clone asks for Python >= 3.11, make and a C library.
# Another interpreter: make PYTHON=python3.13 test. Arguments for a command: make test ARGS='-k conv2d' (-n 0: one process).

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin

.PHONY: help demo test lint bench chainer kernels clean
help:
	@echo "make demo    train LeNet-5 on real handwritten digits and draw what it learnt (runs/lenet5)"
	@echo "make test    run every test and every documented example"
	@echo "make lint    ruff, and mypy on the built wheel"
	@echo "make bench   measure chainrule beside PyTorch, and JAX, HIPS autograd and Chainer where they are installed"
	@echo "make chainer an environment for Chainer, which needs an older NumPy (and Python up to 3.11)"
	@echo "make kernels compile every CUDA kernel with NVIDIA's compiler (no GPU needed)"
	@echo "make clean   remove .venv and everything built"

demo: .venv/with-viz,examples
	@echo "== demo: LeNet-5 on 1,797 real handwritten digits; results in runs/lenet5"
	$(BIN)/chainrule train lenet5 $(ARGS)

test: .venv/with-dev,viz,examples
	@echo "== test: every test and every documented example"
	$(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

lint: .venv/with-dev,viz,examples
	@echo "== lint: ruff on the sources, mypy on the wheel that users get"
	$(BIN)/ruff check .
	rm -rf .venv/wheel && $(BIN)/python -m build --no-isolation --outdir .venv/wheel . > .venv/build.log || { cat .venv/build.log; exit 1; }
	$(BIN)/pip install --quiet --no-deps --target .venv/wheel/site .venv/wheel/*.whl
	cd .venv/wheel/site && ../../bin/mypy --config-file ../../../pyproject.toml --cache-dir ../../mypy_cache -p chainrule

bench: .venv/with-compare
	@echo "== bench: chainrule beside PyTorch, in alternating runs; a ratio above 1 means chainrule is faster"
	$(BIN)/python benchmarks/run.py $(ARGS)

# Chainer has an environment of its own: its last release needs NumPy below 1.24, which no Python above 3.11 has.
chainer: .venv/chainer/installed

.venv/chainer/installed:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info < (3, 12) else "Python %d.%d is too new: Chainer needs NumPy below 1.24, and that Python 3.11 or older; name one, as in: make PYTHON=python3.11 chainer" % sys.version_info[:2])'
	@echo "== installing Chainer 7.8.1 into .venv/chainer (a minute the first time)"
	$(PYTHON) -m venv .venv/chainer
	.venv/chainer/bin/python -m pip install --quiet --disable-pip-version-check numpy==1.23.5 'setuptools<66' wheel typing_extensions filelock protobuf six
	.venv/chainer/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation chainer==7.8.1
	.venv/chainer/bin/python -c 'import chainer'
	@touch $@

# CuPy has an environment of its own: the tests of the CPU say what a machine without it is told.
kernels: .venv/kernels/installed
	@echo "== kernels: every CUDA kernel compiled for three generations of GPUs, registers and machine code checked"
	.venv/kernels/bin/pytest -q tests/gpu/test_compile.py tests/gpu/test_compile_numba.py $(ARGS)

.venv/kernels/installed: pyproject.toml | .venv/created
	@echo "== installing chainrule[gpu-check] into .venv/kernels (1 GB, some minutes the first time)"
	$(PYTHON) -m venv .venv/kernels
	.venv/kernels/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[gpu-check]' pytest hypothesis
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stem names the extras: .venv/with-viz,examples holds chainrule[viz,examples], reinstalled when pyproject.toml changes.
.venv/with-%: pyproject.toml | .venv/created
	@echo "== installing chainrule[$*] into .venv (some minutes the first time)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

.venv/created:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python %d.%d is too old: chainrule needs 3.11 or newer; name one, as in: make PYTHON=python3.12" % sys.version_info[:2])'
	@echo "== creating .venv with $$($(PYTHON) --version)"
	$(PYTHON) -m venv .venv
	@touch $@
