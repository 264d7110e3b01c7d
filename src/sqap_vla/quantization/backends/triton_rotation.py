# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: RUF005 - Triton reads no (*a, b)
"""Triton's rotation kernels: one program makes one token's Hadamard transform into integers.

    rotate_quantize     x -> Hadamard transform -> integers; x may be silu(gate) * up

The transform of a token of n = R * C values is two small products with matrices of +-1, (H_R X) H_C, X [R, C], on
tensor cores. The first one multiplies values as they came: bfloat16 times +-1 is exact, and sums are float32. For the
second the sums are taken apart into two numbers of bfloat16, which hold 16 of their 24 bits: enough for eight bits.

A token is a chain - load, gate, two products, its scale, integers - that leaves most of a processor idle, so what
counts is that two programs fit on one, and that loads are all on their way before the first is needed. Where there is
shared memory for it, the whole left factor is there before the input is (AHEAD).
"""

from __future__ import annotations

import math

import triton
import triton.language as tl
from torch import Tensor

from sqap_vla.cogact.shared_memory import shared_memory
from sqap_vla.quantization.backends.hadamard_factors import SMALLEST_DOT, Factors, left_factor, right_factor
from sqap_vla.quantization.backends.triton_rows import COMPILED, integers, magnitude, outputs, scale_of

WARPS = 4
_BLOCK = 64  # rows; four warps of Hopper's do them in one piece
_PROGRAMS = 2  # on one processor


@triton.jit
def _sigmoid(x):
    """Of float32, to its last bit or two."""
    if COMPILED:
        return tl.inline_asm_elementwise(
            """{
            .reg .f32 t;
            mul.ftz.f32 t, $1, 0fBFB8AA3B;  // -1 / log(2)
            ex2.approx.ftz.f32 t, t;
            add.ftz.f32 t, t, 0f3F800000;
            rcp.approx.ftz.f32 $0, t;
            }""",
            "=f,f", [x], tl.float32, True, 1,
        )  # fmt: skip
    return tl.sigmoid(x)


@triton.jit
def _gate(gate, up):
    """silu(gate) * up"""
    wide = gate.to(tl.float32)
    return (wide * _sigmoid(wide) * up.to(tl.float32)).to(gate.dtype)


@triton.jit
def _times_right(sums, right):
    """sums float32 [R, C] times right [C, C]."""
    if right.dtype == tl.float32:
        return tl.dot(sums, right, input_precision="ieee")
    if right.dtype == tl.bfloat16:
        # Cut off: upper halves cost nothing to take, and rounding one value at a time is a slow instruction.
        bits = sums.to(tl.int32, bitcast=True)
        high = (bits >> 16).to(tl.int16).to(tl.bfloat16, bitcast=True)
        rest = sums - (bits & -65536).to(tl.float32, bitcast=True)
    else:
        high = sums.to(right.dtype)
        rest = sums - high.to(tl.float32)
    return tl.dot(rest.to(right.dtype), right, tl.dot(high, right))


@triton.jit
def _rotate_quantize(
    values_ptr, scale_ptr, x_ptr, left_ptr, right_ptr,
    stride_x, factor, clip_ratio,
    R: tl.constexpr, C: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
    GATED: tl.constexpr, LIMIT: tl.constexpr, PLANAR: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """One token [R, C] of x, or of silu(gate) * up whose halves lie side by side, transformed, as integers. The left
    factor is padded to [BLOCKS * BLOCK] * 2; the right one's columns are in the order in which they are written."""
    row = tl.program_id(0).to(tl.int64)
    r, c = tl.arange(0, BLOCK), tl.arange(0, C)
    right = tl.load(right_ptr + c[:, None] * C + c[None, :])
    left_at = left_ptr + r[:, None] * (BLOCKS * BLOCK) + r[None, :]
    lefts = ()
    if AHEAD:
        for j in tl.static_range(BLOCKS):
            for i in tl.static_range(BLOCKS):
                lefts = lefts + (tl.load(left_at + i * (BLOCKS * BLOCK * BLOCK) + j * BLOCK),)
    x_at = x_ptr + row * stride_x + r[:, None] * C + c[None, :]
    sums = ()
    for _ in tl.static_range(BLOCKS):
        sums = sums + (tl.zeros((BLOCK, C), dtype=tl.float32),)
    if AHEAD:
        xs, ups = (), ()
        for j in tl.static_range(BLOCKS):
            here = j * BLOCK + r[:, None] < R
            xs = xs + (tl.load(x_at + j * BLOCK * C, mask=here, other=0.0),)
            if GATED:
                ups = ups + (tl.load(x_at + R * C + j * BLOCK * C, mask=here, other=0.0),)
        if GATED:
            # All before the first product: between products, they would be done one at a time.
            gated = ()
            for j in tl.static_range(BLOCKS):
                gated = gated + (_gate(xs[j], ups[j]),)
            xs = gated
        for j in tl.static_range(BLOCKS):
            added = ()
            for i in tl.static_range(BLOCKS):
                added = added + (tl.dot(lefts[j * BLOCKS + i], xs[j], sums[i], input_precision="ieee"),)
            sums = added
    else:
        for j in tl.range(0, BLOCKS, num_stages=1):
            here = j * BLOCK + r[:, None] < R
            x = tl.load(x_at + j * BLOCK * C, mask=here, other=0.0)
            if GATED:
                x = _gate(x, tl.load(x_at + R * C + j * BLOCK * C, mask=here, other=0.0))
            added = ()
            for i in tl.static_range(BLOCKS):
                left = tl.load(left_at + i * (BLOCKS * BLOCK * BLOCK) + j * BLOCK)
                added = added + (tl.dot(left, x, sums[i], input_precision="ieee"),)
            sums = added
    turned = ()
    for i in tl.static_range(BLOCKS):
        turned = turned + (_times_right(sums[i], right),)
    largest = magnitude(turned[0])
    for i in tl.static_range(1, BLOCKS):
        largest = tl.maximum(largest, magnitude(turned[i]))
    largest = tl.max(largest)
    scale, finite = scale_of(largest, clip_ratio, LIMIT)
    at = values_ptr + row * (R * C)
    if PLANAR:
        at += r[:, None] * (C // 2) + (c // (C // 2) * (R * C // 2) + c % (C // 2))[None, :]
        of_block = BLOCK * C // 2
    else:
        at += r[:, None] * C + c[None, :]
        of_block = BLOCK * C
    for i in tl.static_range(BLOCKS):
        tl.store(at + i * of_block, integers(turned[i], scale, LIMIT), mask=i * BLOCK + r[:, None] < R)
    scale = tl.where(largest == 0, 1.0, scale * factor)
    tl.store(scale_ptr + row, tl.where(finite, scale, float("nan")))


@triton.jit
def _rotate_across_quantize(
    values_ptr, scale_ptr, x_ptr, left_ptr,
    stride_x, factor, clip_ratio,
    R: tl.constexpr, C: tl.constexpr, BLOCK: tl.constexpr,
    GATED: tl.constexpr, LIMIT: tl.constexpr, PLANAR: tl.constexpr,
):  # fmt: skip
    """As _rotate_quantize, without a right factor."""
    row = tl.program_id(0).to(tl.int64)
    r, c, pair = tl.arange(0, BLOCK), tl.arange(0, C), tl.arange(0, C // 2)
    left = tl.load(left_ptr + r[:, None] * BLOCK + r[None, :])
    inside = r[:, None] < R
    x_at = x_ptr + row * stride_x + r[:, None] * C + c[None, :]
    x = tl.load(x_at, mask=inside, other=0.0)
    if GATED:
        x = _gate(x, tl.load(x_at + R * C, mask=inside, other=0.0))
    at = values_ptr + row * (R * C)
    if PLANAR:
        even, odd = tl.split(tl.reshape(x, (BLOCK, C // 2, 2)))  # before the product: of wider values, in fewer steps
        even, odd = tl.dot(left, even, input_precision="ieee"), tl.dot(left, odd, input_precision="ieee")
        largest = tl.max(tl.maximum(magnitude(even), magnitude(odd)))
        scale, finite = scale_of(largest, clip_ratio, LIMIT)
        at += r[:, None] * (C // 2) + pair[None, :]
        tl.store(at, integers(even, scale, LIMIT), mask=inside)
        tl.store(at + R * C // 2, integers(odd, scale, LIMIT), mask=inside)
    else:
        mixed = tl.dot(left, x, input_precision="ieee")
        largest = tl.max(magnitude(mixed))
        scale, finite = scale_of(largest, clip_ratio, LIMIT)
        tl.store(at + r[:, None] * C + c[None, :], integers(mixed, scale, LIMIT), mask=inside)
    scale = tl.where(largest == 0, 1.0, scale * factor)
    tl.store(scale_ptr + row, tl.where(finite, scale, float("nan")))


def launch_rotate_quantize(
    x: Tensor, factors: Factors, bits: int, clip_ratio: float, gated: bool = False, planar: bool = False
) -> tuple[Tensor, Tensor]:
    """x [M, n], or [M, 2 n] with gate and up side by side -> int8 [M, n] and float32 [M, 1]."""
    values, scale = outputs(x, factors.rows * factors.width)
    common = (x.stride(0), 1.0 / math.sqrt(factors.rows * factors.columns), clip_ratio if bits == 4 else 1.0)
    options = {
        "R": factors.rows, "C": factors.width, "GATED": gated, "LIMIT": 2 ** (bits - 1) - 1, "PLANAR": planar,
        "num_warps": WARPS,
    }  # fmt: skip
    block = max(SMALLEST_DOT, triton.next_power_of_2(factors.rows))
    if factors.columns == 1:
        left = left_factor(factors.rows, block, x.dtype, x.device)
        _rotate_across_quantize[(x.shape[0],)](values, scale, x, left, *common, BLOCK=block, **options)
        return values, scale
    block = min(block, _BLOCK)
    blocks = triton.cdiv(factors.rows, block)
    left = left_factor(factors.rows, block * blocks, x.dtype, x.device)
    right = right_factor(factors.columns, planar, x.dtype, x.device)
    needed = x.element_size() * ((block * blocks) ** 2 + block * blocks * factors.width + factors.width**2)
    ahead = _PROGRAMS * needed <= shared_memory(x.device)
    _rotate_quantize[(x.shape[0],)](
        values, scale, x, left, right, *common, BLOCK=block, BLOCKS=blocks, AHEAD=ahead, **options
    )
    return values, scale
