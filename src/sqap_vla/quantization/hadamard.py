# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Fast Walsh-Hadamard transform along the last axis, orthogonal, for every length.

A length n is split as n = blocks * m * 2^k, and its matrix is, with I the identity and (x) the Kronecker product,

    T_n = I_blocks (x) H_m (x) H_2 (x) ... (x) H_2 / sqrt(m * 2^k),       T_n T_n^t = I

    n            blocks  m    2^k
    2^k          1       1    n       4096, 128
    m' 2^j       1       m    2^k     m' odd; m = 4 m', 8 m', ..., the first that has a matrix below: 96 = 12 * 8,
                                      344 = 172 * 2, 5120 = 20 * 256, 11008 = 172 * 64
    any other    odd     1    2^k     no Hadamard matrix of this order, or none known here: blocks of the largest power
                                      of two in n, side by side. Still orthogonal, but an outlier spreads over its
                                      block only; an odd n is left as it is.

Matrices H_m of +-1 with H H^t = m I come from Paley's two constructions over primes, and for 172 from Williamson's.
With 43 blocks of H_256 in place of 172 * 64, the transform of 11008 takes a seventh of the operations (on two CPU
cores, 282 tokens: 4 ms and not 20), but one large channel then stays 6.6 times larger, 1/16 of it in 256 places and
not 1/105 everywhere, and the largest channel sets the scale of a whole token. So it is not done.

Powers of two are done in steps of up to 64 as small matrix products, which CPUs and GPUs like better than
butterflies. H_m need not be symmetric: the inverse is a function of its own.

Source: MacWilliams and Sloane, The Theory of Error-Correcting Codes, ch. 2 (Paley); Williamson, Hadamard's determinant
theorem and the sum of four squares, Duke Math. J. 11 (1944).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

LARGEST_STEP = 64
NARROW = 16  # products this narrow are slower, one for each row, than one product of a transposed copy: 344 is 18 times
WILLIAMSON_ORDER = 172


def transform(x: Tensor) -> Tensor:
    """T_n x along the last axis of x [..., n]. Floating; shape, dtype and device stay."""
    return _apply(x, inverse=False)


def inverse_transform(x: Tensor) -> Tensor:
    """T_n^t x, which undoes `transform`."""
    return _apply(x, inverse=True)


@functools.lru_cache(maxsize=256)
def split(n: int) -> tuple[int, int, int]:
    """(blocks, m, 2^k) of a length, as the module says. Raises ValueError if n is not positive."""
    if n < 1:
        raise ValueError(f"a transform of length {n} was asked for; it must be at least 1")
    power = n & -n
    odd = n // power
    if odd == 1:
        return 1, 1, power
    factor = 4
    while factor <= power:
        if _construction(odd * factor) is not None:
            return 1, odd * factor, power // factor
        factor *= 2
    return odd, 1, power


@functools.lru_cache(maxsize=64)
def hadamard_matrix(order: int) -> Tensor:
    """H_order, int8 [order, order] of +-1. Read-only. Raises ValueError if there is none, or none known here."""
    construct = _construction(order)
    if construct is None:
        raise ValueError(
            f"no Hadamard matrix of order {order} is known here; take a power of two, q + 1 for a prime q = 3 mod 4, "
            f"2 (q + 1) for a prime q = 1 mod 4, or {WILLIAMSON_ORDER}, times a power of two"
        )
    return construct(order)


def _apply(x: Tensor, inverse: bool) -> Tensor:
    n = x.shape[-1]
    blocks, m, power = split(n)
    y = x.reshape(-1, blocks * m * power)
    after = 1  # lengths of the axes to the right of the one being transformed
    while after < power:
        step = min(LARGEST_STEP, power // after)
        y = _multiply_axis(y, _factor(step, x.dtype, x.device), after)
        after *= step
    if m > 1:
        matrix = _factor(m, x.dtype, x.device)
        y = _multiply_axis(y, matrix.t() if inverse else matrix, power)
    return y.reshape(x.shape)


def _multiply_axis(y: Tensor, matrix: Tensor, after: int) -> Tensor:
    """matrix [s, s] times the axis s of y seen as [rows, s, after]."""
    size = matrix.shape[0]
    if after == 1:
        return (y.reshape(-1, size) @ matrix.t()).reshape(y.shape)
    if after < NARROW:
        across = y.reshape(-1, size, after).transpose(1, 2)  # [rows, after, s]
        across = (across.reshape(-1, size) @ matrix.t()).unflatten(0, (-1, after))
        return across.transpose(1, 2).reshape(y.shape)
    return torch.matmul(matrix, y.reshape(-1, size, after)).reshape(y.shape)


@functools.lru_cache(maxsize=64)
def _factor(order: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """H_order / sqrt(order)."""
    with torch.inference_mode(False):  # it outlives the call, and may be used outside of inference mode later
        return (hadamard_matrix(order).to(torch.float64) / math.sqrt(order)).to(device=device, dtype=dtype)


def _construction(order: int) -> Callable[[int], Tensor] | None:
    if order & (order - 1) == 0:
        return _sylvester
    if order % 4:
        return None
    if order == WILLIAMSON_ORDER:
        return _williamson
    if _is_prime(order - 1):
        return _paley_one
    if order % 8 == 4 and _is_prime(order // 2 - 1):
        return _paley_two
    return None


def _sylvester(order: int) -> Tensor:
    matrix = torch.ones(1, 1, dtype=torch.int8)
    while matrix.shape[0] < order:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix


def _paley_one(order: int) -> Tensor:
    """I + S, S = [[0, 1], [-1, Q]]; skew, as q = 3 mod 4."""
    matrix = torch.eye(order, dtype=torch.int8)
    matrix[0, 1:] = 1
    matrix[1:, 0] = -1
    matrix[1:, 1:] += _jacobsthal(order - 1)
    return matrix


def _paley_two(order: int) -> Tensor:
    """C (x) [[1, 1], [1, -1]] + I (x) [[1, -1], [-1, -1]], C = [[0, 1], [1, Q]]; symmetric, as q = 1 mod 4."""
    half = order // 2
    conference = torch.zeros(half, half, dtype=torch.int8)
    conference[0, 1:] = conference[1:, 0] = 1
    conference[1:, 1:] = _jacobsthal(half - 1)
    off_diagonal = torch.tensor([[1, 1], [1, -1]], dtype=torch.int8)
    diagonal = torch.tensor([[1, -1], [-1, -1]], dtype=torch.int8)
    return torch.kron(conference, off_diagonal) + torch.kron(torch.eye(half, dtype=torch.int8), diagonal)


def _jacobsthal(prime: int) -> Tensor:
    """Q [q, q]: +1 where the difference of row and column is a square modulo q, -1 where not, 0 on the diagonal."""
    character = torch.full((prime,), -1, dtype=torch.int8)
    numbers = torch.arange(prime)
    character[numbers * numbers % prime] = 1
    character[0] = 0
    return character[(numbers[:, None] - numbers) % prime]


def _williamson(order: int) -> Tensor:
    """Four symmetric circulants A, B, C, D of order 43 with A^2 + B^2 + C^2 + D^2 = 172 I, put together.

    Their first rows are constant on the cosets of the six sixth roots of unity modulo 43, generated by 3^7 (3 is a
    primitive root), so each is 7 signs: -1 on coset 3^i where bit i of its number is set. Going through all 2^28
    quadruples by their power spectra leaves seven, up to order; this is one of them.
    """
    prime = order // 4
    numbers = torch.arange(prime)
    circulants = []
    for bits in (7, 25, 44, 77):
        row = torch.ones(prime, dtype=torch.int8)
        for i in (i for i in range(7) if bits >> i & 1):
            row[[3 ** (i + 7 * j) % prime for j in range(6)]] = -1
        circulants.append(row[(numbers - numbers[:, None]) % prime])
    a, b, c, d = circulants
    return torch.cat([torch.cat(row, 1) for row in ([a, b, c, d], [-b, a, -d, c], [-c, d, a, -b], [-d, -c, b, a])])


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % divisor for divisor in range(2, math.isqrt(n) + 1))
