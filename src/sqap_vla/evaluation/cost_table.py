# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What every method costs on CogACT-Base, beside the paper's figures. Nothing is measured: see quantization/costs.py.

The paper's figures are EfficientVLA's (arXiv 2506.10100, Table 2) but for its own. That table's 4.19 TFLOP of the
dense network are those of a prompt of 32 tokens, with every block of the original code and without attention's own
products; the column for that length is the one to compare. Which tokens VLA-Cache reuses depends on the pictures:
69 from layer 2 on give the published 80.1 %.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqap_vla.cogact.config import CogActConfig, official_config
from sqap_vla.quantization.costs import Cost, Precision, as_run, cost, dense_workload
from sqap_vla.runtime.method import METHODS, Method, make_method, method_entry
from sqap_vla.runtime.workload import workload

TEXT_TOKENS = 25
PUBLISHED_TEXT_TOKENS = 32
REUSED_TOKENS = 69
QUANTIZED = ("dense", "sqap")
W4A4 = Precision(4, 4)


@dataclass(frozen=True)
class CostRow:
    """One method at one precision. bops: percent of dense fp16. published_length: coarse BOPs with a prompt as long as
    in the paper's table. paper: the paper's figure, None where it has none."""

    method: str
    precision: Precision
    settings: str
    cost: Cost
    bops_product: float
    bops_coarse: float
    published_length: float
    paper: float | None


@dataclass(frozen=True)
class CostQuestion:
    """text_tokens: prompt length. quantized: bits of the rows that are not fp16. reused_tokens: by VLA-Cache.
    attention_products: count q k^T and the weighted sum of v. original: count what the original code runs."""

    text_tokens: int = TEXT_TOKENS
    quantized: Precision = W4A4
    reused_tokens: int = REUSED_TOKENS
    attention_products: bool = False
    original: bool = True

    def __post_init__(self) -> None:
        if self.text_tokens < 1:
            raise ValueError(f"text_tokens is {self.text_tokens}; a prompt has at least one token")


def cost_rows(question: CostQuestion, config: CogActConfig | None = None) -> list[CostRow]:
    """Every method in fp16, then those that the paper quantizes. config: CogACT-Base by default."""
    config = config or official_config()
    pairs = [(name, Precision()) for name in METHODS]
    pairs += [(name, question.quantized) for name in QUANTIZED if question.quantized != Precision()]
    return [_row(name, precision, question, config) for name, precision in pairs]


def format_table(rows: list[CostRow], question: CostQuestion) -> str:
    """Plain text, a line for each row and what the columns mean."""
    lines = [
        f"CogACT-Base, one chunk, {256 + question.text_tokens} tokens; BOPs in percent of dense fp16",
        "",
        f"{'method':<13}{'bits':<6}{'TMAC':>7}{'product':>9}{'coarse':>8}{f'at {256 + PUBLISHED_TEXT_TOKENS}':>8}"
        f"{'paper':>7}{'weights':>9}{'activ.':>8}{'carried':>9}  settings",
        f"{'':<13}{'':<6}{'':>7}{'%':>9}{'%':>8}{'%':>8}{'%':>7}{'GB':>9}{'MB':>8}{'MB':>9}",
    ]
    for row in rows:
        paper = f"{row.paper:.1f}" if row.paper is not None else "-"
        lines.append(
            f"{row.method:<13}{row.precision!s:<6}{row.cost.macs / 1e12:>7.3f}{row.bops_product:>9.1f}"
            f"{row.bops_coarse:>8.1f}{row.published_length:>8.1f}{paper:>7}{row.cost.weight_bytes / 1e9:>9.2f}"
            f"{row.cost.activation_bytes / 1e6:>8.0f}{row.cost.carried_bytes / 1e6:>9.0f}  {row.settings}"
        )
    counted = "all that the original code runs" if question.original else "what this package runs"
    products = "with" if question.attention_products else "without"
    lines += [
        "",
        f"Counted: {counted}, {products} attention's own products. product: b_w * b_a; coarse: max(b_w, b_a) / 16.",
        f"at {256 + PUBLISHED_TEXT_TOKENS}: coarse, for the prompt whose dense network has the published 4.19 TFLOP.",
        "weights: matrices and embeddings; activ.: what matrix products read; carried: kept for the next frame.",
    ]
    return "\n".join(lines)


def _row(name: str, precision: Precision, question: CostQuestion, config: CogActConfig) -> CostRow:
    full, (product, coarse) = _cost(name, precision, question.text_tokens, question, config)
    _, (_, published) = _cost(name, precision, PUBLISHED_TEXT_TOKENS, question, config)
    in_paper = (precision != Precision()) == (name == "sqap") and precision in (Precision(), W4A4)
    paper = method_entry(name).paper_bops if in_paper else None
    return CostRow(name, precision, _settings(name, question), full, product, coarse, published, paper)


def _cost(
    name: str, precision: Precision, text_tokens: int, question: CostQuestion, config: CogActConfig
) -> tuple[Cost, tuple[float, float]]:
    """The cost, and BOPs relative to dense fp16."""
    work = workload(_published(name), config, text_tokens, question.reused_tokens)
    dense = dense_workload(config, config.dino.num_patches + text_tokens)
    if not question.original:
        work, dense = as_run(work), as_run(dense)
    own = cost(config, work, precision, question.attention_products)
    return own, own.relative_to(cost(config, dense, None, question.attention_products))


def _published(name: str) -> Method:
    """The method under the options that the paper's figure belongs to."""
    return make_method(name, **method_entry(name).published)


def _settings(name: str, question: CostQuestion) -> str:
    method, parts = _published(name), []
    if method.selector is not None:
        parts.append(f"{method.budget()} of 256 tokens after layer {method.prune_layer}")
    if method.reuse is not None:
        parts.append(f"{question.reused_tokens} tokens reused from layer {method.reuse.reuse_layers[0]} on")
    if method.reduction is not None:
        parts.append(f"{method.reduction.num_kept(32)} of 32 layers, {method.reduction.mlp_sparsity:.0%} MLP sparsity")
    if method.head_cache_interval > 1:
        parts.append(f"head every {method.head_cache_interval} steps")
    return ", ".join(parts)
