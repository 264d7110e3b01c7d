# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What each linear layer costs: bytes, and the error of its weight and of its output under a quantization.

The network runs once, in float, rotated; whenever it comes to a layer that is to be quantized, that layer is quantized
beside it, given the same input, and thrown away. So errors are each layer's own, not those handed down to it, and never
more than one quantized layer is in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sqap_vla.cogact.model import CogAct
from sqap_vla.quantization.calibration import InputStatistics, input_statistics
from sqap_vla.quantization.linear import LinearSpec, QuantizedLinear
from sqap_vla.quantization.metrics import sqnr_db
from sqap_vla.quantization.policy import QuantizationConfig
from sqap_vla.quantization.quantize import layer_specs
from sqap_vla.quantization.quantizer import Granularity, QuantizedWeight, channel_scale
from sqap_vla.quantization.rotation import rotate_model


@dataclass(frozen=True)
class LayerCost:
    """name: full. shape: outputs, inputs. precision: w4a4, ...; the dtype where it is not quantized. size_bytes: of
    all that is stored for it; float_bytes: in 16 bits. weight_sqnr_db, output_sqnr_db: None where it is not quantized,
    or has not run.
    """

    name: str
    shape: tuple[int, int]
    precision: str
    size_bytes: int
    float_bytes: int
    weight_sqnr_db: float | None = None
    output_sqnr_db: float | None = None


@torch.inference_mode()
def layer_costs(
    model: CogAct,
    config: QuantizationConfig,
    run: Callable[[CogAct], object],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[LayerCost]:
    """Of a float model, which is rotated by it and of no further use. run: passes frames through a model, without
    padding; a layer that runs several times is measured on its first input. progress: layers done, of how
    many. Raises ValueError if the policy or a layer's sizes do not fit.
    """
    specs = layer_specs(model, config)
    rotate_model(model, config.rotation)
    statistics = input_statistics(model, specs, lambda: run(model)) if config.needs_calibration else {}
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    measured: dict[str, LayerCost] = {}

    def listen(name: str) -> Callable[[nn.Linear, tuple[Tensor], Tensor], None]:
        def hook(layer: nn.Linear, arguments: tuple[Tensor], output: Tensor) -> None:
            if name not in measured:
                measured[name] = _measure(name, layer, specs[name], statistics.get(name), arguments[0], output)
                progress(len(measured), len(specs))

        return hook

    handles = [linears[name].register_forward_hook(listen(name)) for name in specs]
    try:
        run(model)
    finally:
        for handle in handles:
            handle.remove()
    return [measured.get(name) or _plain(name, layer, specs.get(name)) for name, layer in linears.items()]


def stored_layers(model: nn.Module) -> list[LayerCost]:
    """Of a model, or a part of one, as it is, such as an artifact's: errors are not known, since the float weights are
    not there."""
    rows = []
    for name, module in model.named_modules():
        if isinstance(module, QuantizedLinear):
            shape = (module.out_features, module.in_features)
            size_bytes = sum(tensor.numel() * tensor.element_size() for tensor in module.buffers())
            rows.append(LayerCost(name, shape, module.spec.precision.value, size_bytes, 2 * shape[0] * shape[1]))
        elif isinstance(module, nn.Linear):
            rows.append(_plain(name, module, None))
    return rows


def format_layers(rows: list[LayerCost], config: QuantizationConfig | None = None) -> str:
    """Plain text: a line for each layer, one for each group of layers that are not quantized, and the sum."""
    width = max(len(_short(row.name)) for row in rows)
    head = f"{'layer':<{width}}  {'shape':>13}  {'bits':<8}{'MB':>9}{'of fp16':>9}{'weight':>9}{'output':>9}"
    lines = [head, f"{'':<{width}}  {'':>13}  {'':<8}{'':>9}{'%':>9}{'SQNR dB':>9}{'SQNR dB':>9}"]
    groups: dict[tuple[str, str], list[LayerCost]] = {}
    for row in rows:
        if row.precision.startswith("w"):
            lines.append(_line(_short(row.name), f"{row.shape[0]} x {row.shape[1]}", row, width))
        else:
            groups.setdefault((row.name.partition(".")[0], row.precision), []).append(row)
    for (part, precision), members in groups.items():
        whole = _sum(f"{part}: {len(members)} linears", precision, members)
        lines.append(_line(whole.name, "", whole, width))
    lines.append(_line(f"all {len(rows)} linears", "", _sum("", "", rows), width))
    lines += [
        "",
        "weight: float weight against its integers times scales; output: float output against the layer's own on the",
        "same float input. A rotation is part of both. MB: 10^6 bytes, scales and biases included.",
    ]
    if config is not None:
        lines.append(f"rotation {config.rotation.kind.value}, activations by {config.granularity.value}")
    return "\n".join(lines)


def _measure(
    name: str, layer: nn.Linear, spec: LinearSpec, statistics: InputStatistics | None, x: Tensor, output: Tensor
) -> LayerCost:
    scale = mean = None
    if spec.granularity is Granularity.CHANNEL:
        scale = channel_scale(statistics.magnitude, spec.precision.activation_bits)
    if spec.bias_correction:
        mean = statistics.mean
    try:
        quantized = QuantizedLinear.from_float(layer, spec, scale, mean)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return LayerCost(
        name=name,
        shape=(layer.out_features, layer.in_features),
        precision=spec.precision.value,
        size_bytes=sum(tensor.numel() * tensor.element_size() for tensor in quantized.buffers()),
        float_bytes=2 * layer.weight.numel(),
        weight_sqnr_db=sqnr_db(layer.weight, _float_weight(quantized)),
        output_sqnr_db=sqnr_db(output, quantized(x)),
    )


def _float_weight(layer: QuantizedLinear) -> Tensor:
    """float32 [N, K]: what the integers stand for."""
    weight = QuantizedWeight(layer.integer_weight.values(), layer.weight_scale).dequantize()
    return weight if layer.channel_scale is None else weight / layer.channel_scale


def _plain(name: str, layer: nn.Linear, spec: LinearSpec | None) -> LayerCost:
    """A layer that is not quantized, or that never ran."""
    tensors = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
    size_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    precision = str(layer.weight.dtype).removeprefix("torch.") if spec is None else f"{spec.precision.value}?"
    return LayerCost(name, (layer.out_features, layer.in_features), precision, size_bytes, 2 * layer.weight.numel())


def _sum(name: str, precision: str, rows: list[LayerCost]) -> LayerCost:
    size_bytes, float_bytes = sum(row.size_bytes for row in rows), sum(row.float_bytes for row in rows)
    return LayerCost(name, (0, 0), precision, size_bytes, float_bytes)


def _line(name: str, shape: str, row: LayerCost, width: int) -> str:
    errors = "".join(f"{'-':>9}" if v is None else f"{v:>9.1f}" for v in (row.weight_sqnr_db, row.output_sqnr_db))
    share = 100 * row.size_bytes / row.float_bytes
    return f"{name:<{width}}  {shape:>13}  {row.precision:<8}{row.size_bytes / 1e6:>9.3f}{share:>9.1f}{errors}"


def _short(name: str) -> str:
    return name.replace("llm_backbone.llm.model.layers.", "decoder ")
