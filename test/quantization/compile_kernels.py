# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Compiles every Triton kernel as the package launches it, at CogACT-Base's sizes, for a GPU that is not here.

    python compile_kernels.py 86    (compute capability 8.6)

Prints a line of JSON for each launch: the kernel, its shared memory in bytes, what the GPU has, and an error if it does
not compile. A kernel's launcher runs on CPU tensors; in place of the launch its arguments become a signature.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator

os.environ["TRITON_INTERPRET"] = "0"

import torch
import triton
from torch import nn
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sqap_vla.cogact import (
    attention_kernel,
    dependent_launch,
    head_kernels,
    head_steps,
    residual_norm_kernel,
    resize_kernel,
    rotary_kernel,
    shared_memory,
)
from sqap_vla.cogact.diffusion import ddim_schedule
from sqap_vla.cogact.head_kernels import CONTRACT, EXPAND, PROJECT, QKV
from sqap_vla.cogact.resize import Resizer
from sqap_vla.pruning import sampling_kernel
from sqap_vla.quantization.backends import triton_kernels, triton_rotation, triton_rows
from sqap_vla.quantization.backends.hadamard_factors import factors_of
from sqap_vla.quantization.packing import IntegerWeight

SHARED_MEMORY = {75: 64, 80: 163, 86: 99, 87: 163, 89: 99, 90: 227, 120: 99}  # KiB of a program
POINTERS = {
    torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32", torch.int8: "*i8", torch.uint8: "*u8",
    torch.int32: "*i32", torch.int64: "*i64", torch.bool: "*i1",
}  # fmt: skip
MODULES = (
    attention_kernel, head_kernels, head_steps, residual_norm_kernel, resize_kernel, rotary_kernel, sampling_kernel,
    triton_kernels, triton_rotation, triton_rows,
)  # fmt: skip


class Compiled:
    """Stands in for a kernel: compiles where it would be launched."""

    def __init__(self, kernel: triton.JITFunction, capability: int) -> None:
        self.kernel, self.capability = kernel, capability

    def __getitem__(self, grid: object) -> Callable[..., None]:
        return self.compile

    def compile(self, *args: object, **kwargs: object) -> None:
        options = {name: kwargs.pop(name) for name in ("num_warps", "num_stages", "launch_pdl") if name in kwargs}
        given = dict(zip(self.kernel.arg_names, args, strict=False)) | kwargs
        signature, constants, attributes = {}, {}, {}
        for place, parameter in enumerate(self.kernel.params):
            value = given[parameter.name]
            kind, constant = _kind(value, parameter.is_constexpr)
            signature[parameter.name] = kind
            if constant:
                constants[place,] = value
            elif torch.is_tensor(value) or (kind == "i32" and value % 16 == 0):
                attributes[place,] = [["tt.divisibility", 16]]
        line = {"kernel": self.kernel.__name__, "room": 1024 * SHARED_MEMORY[self.capability]}
        try:
            source = ASTSource(self.kernel, signature, constants, attributes)
            made = triton.compile(source, target=GPUTarget("cuda", self.capability, 32), options=options)
            line["shared"] = made.metadata.shared
        except Exception as error:  # noqa: BLE001 whatever the compiler says is what is asked for
            line["error"] = f"{type(error).__name__}: {str(error)[:300]}"
        sys.stdout.write(json.dumps(line) + "\n")


def _kind(value: object, is_constant: bool) -> tuple[str, bool]:
    """Type in the signature, and whether it is a constant."""
    if is_constant or value is None or (type(value) is int and value == 1):
        return "constexpr", True
    if torch.is_tensor(value):
        return POINTERS[value.dtype], False
    return ("fp32" if isinstance(value, float) else "i32"), False


def launches() -> Iterator[Callable[[], object]]:
    """One for each way in which a frame of CogACT-Base uses a kernel."""
    rows, dim, hidden = 186, 4096, 11008
    x = torch.zeros(rows, dim, dtype=torch.bfloat16)
    for outputs, inputs in ((3 * dim, dim), (2 * hidden, dim), (dim, hidden)):
        integers = torch.zeros(rows, inputs, dtype=torch.int8)
        weight = IntegerWeight(torch.zeros(outputs, inputs // 2, dtype=torch.uint8), 4)
        y = torch.zeros(rows, outputs, dtype=torch.bfloat16)
        scales = torch.zeros(rows, 1), torch.zeros(outputs, 1)
        residual = y if outputs == dim else None
        yield lambda args=(y, integers, weight, *scales, None, residual, True): triton_kernels.launch_gemm(*args)
    yield lambda: triton_rows.launch_quantize(x, 4, 0.9, None, torch.zeros(dim).bfloat16(), 1e-5, True)
    yield lambda: triton_rotation.launch_rotate_quantize(x, factors_of(32, 128), 4, 0.9, False, True)
    both = torch.zeros(rows, 2 * hidden, dtype=torch.bfloat16)
    yield lambda: triton_rotation.launch_rotate_quantize(both, factors_of(hidden, 1), 4, 0.9, True, True)
    qkv, table = torch.zeros(1, rows, 3 * dim, dtype=torch.bfloat16), torch.zeros(1, rows, 128, dtype=torch.bfloat16)
    yield lambda: attention_kernel.attend(qkv, table, table, 32, 32)
    yield lambda: rotary_kernel.rotary_heads_kernel(qkv, table, table, 64)
    picture = torch.zeros(1, 261, 1024, dtype=torch.bfloat16)
    norm = nn.LayerNorm(1024, eps=1e-6).bfloat16()
    yield lambda: residual_norm_kernel.add_and_norm(picture, picture, torch.zeros(1024).bfloat16(), norm)
    resizer = Resizer(480, 640, 224, torch.device("cpu"))
    frame = torch.zeros(1, 480, 640, 3, dtype=torch.uint8)
    yield lambda: resize_kernel.resize_axis_kernel(frame, 2, *resizer._columns, 22)
    taken = torch.zeros(256, dtype=torch.bool)
    yield lambda: sampling_kernel.farthest_points(taken, ~taken, 110, 16)
    yield from head_launches()


def head_launches() -> Iterator[Callable[[], object]]:
    tokens, dim = 17, 768
    rows, normed = torch.zeros(2 * tokens, dim), torch.zeros(2 * tokens, dim, dtype=torch.float16)

    def weight(outputs: int, inputs: int) -> torch.Tensor:
        return torch.zeros(outputs, inputs, dtype=torch.float16)

    yield lambda: head_kernels.product(normed, weight(3 * dim, dim), torch.zeros(3 * dim), QKV)
    yield lambda: head_kernels.product(normed, weight(4 * dim, dim), torch.zeros(4 * dim), EXPAND, gelu=True)
    wide = torch.zeros(2 * tokens, 4 * dim, dtype=torch.float16)
    yield lambda: head_kernels.product(wide, weight(dim, 4 * dim), None, CONTRACT)
    qkv = torch.zeros(2 * tokens, 3 * dim, dtype=torch.float16)
    yield lambda: head_kernels.attend_and_project(qkv, weight(dim, dim), tokens, 12, PROJECT)
    yield lambda: head_kernels.gather(rows, normed, torch.zeros(6, 2 * tokens, dim), torch.zeros(dim), 1e-6)
    shapes = ((dim, 7), (dim,), (tokens, dim), (7, dim), (7,))
    weights = head_steps.StepWeights(*(torch.zeros(*shape) for shape in shapes), 1e-6)
    factors = head_steps.DdimFactors.of(ddim_schedule(10), 5)
    state = torch.zeros(1, 16, 7), rows.view(2, tokens, dim), normed.view(2, tokens, dim), weights, torch.zeros(2, dim)
    for timestep, given in ((torch.zeros(dim), None), (torch.zeros(dim), factors), (None, factors)):
        yield lambda timestep=timestep, given=given: head_steps.step(*state, timestep, given, 1.5)


def main(capability: int) -> None:
    shared_memory.shared_memory = lambda device: 1024 * SHARED_MEMORY[capability]
    triton_kernels.shared_memory = triton_rotation.shared_memory = shared_memory.shared_memory
    dependent_launch.launches_early = lambda device: capability >= 90
    for module in MODULES:
        for name, kernel in list(vars(module).items()):
            if isinstance(kernel, triton.JITFunction) and name.startswith("_") and _is_entry(module, name):
                setattr(module, name, Compiled(kernel, capability))
    for launch in launches():
        launch()


def _is_entry(module: object, name: str) -> bool:
    """Whether it is launched, and not called by another kernel."""
    with open(module.__file__, encoding="utf-8") as file:
        return f"{name}[" in file.read()


if __name__ == "__main__":
    main(int(sys.argv[1]))
