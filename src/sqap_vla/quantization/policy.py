# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Which layer runs in how many bits, and everything else a quantized model is made by.

A policy is an ordered list of rules, a name pattern and a precision each; the first that matches a linear layer's name
decides. Names are CogAct's module names, patterns are the shell's, with * going over dots:

    llm_backbone.llm.model.layers.*.mlp.down_proj=w4a8        *.layers.0.*=w8a8        action_model.*=bf16

Without a rule of one's own, vision, projector and head are not quantized (bf16: they keep the model's dtype), and
everything else, the linears of the decoder, has the policy's one precision, w4a4 unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from sqap_vla.quantization.linear import LinearSpec
from sqap_vla.quantization.quantizer import Granularity, Precision
from sqap_vla.quantization.rotation import Rotation, RotationKind

# Of rotated activations, which are nearly normal: 0.7 to 0.8 measured best at 512 channels. The wider the layer, the
# further out is the largest of a token.
DEFAULT_ACTIVATION_CLIP = 0.8
NOT_QUANTIZED = ("vision_backbone.*", "projector.*", "action_model.*")


@dataclass(frozen=True)
class PrecisionPolicy:
    """rules: (pattern, precision), in order; the first that matches decides. precision: of the decoder's linears that
    no rule names. Raises ValueError for an unknown precision.
    """

    rules: tuple[tuple[str, Precision], ...] = ()
    precision: Precision = Precision.W4A4

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", tuple(_rule(pattern, precision) for pattern, precision in self.rules))
        object.__setattr__(self, "precision", _precision("the decoder", self.precision))

    @classmethod
    def parse(cls, texts: Iterable[str], precision: Precision | str = Precision.W4A4) -> PrecisionPolicy:
        """Of texts `pattern=precision`. Raises ValueError for a text of another form."""
        rules = []
        for text in texts:
            pattern, equals, wanted = text.partition("=")
            if not equals:
                raise ValueError(f"policy rule {text!r} has no '='; write pattern=precision, as *.down_proj=w4a8")
            rules.append((pattern.strip(), wanted.strip()))
        return cls(tuple(rules), precision)

    def precision_of(self, layer: str) -> Precision:
        """Of a linear layer by its full name."""
        rules = (*self.rules, *((pattern, Precision.BF16) for pattern in NOT_QUANTIZED))
        return next((precision for pattern, precision in rules if fnmatchcase(layer, pattern)), self.precision)

    def check(self, layers: Iterable[str]) -> None:
        """Raises ValueError if a rule of one's own matches none of the layers: most likely it is misspelt."""
        layers = list(layers)
        for pattern, _ in self.rules:
            if not any(fnmatchcase(layer, pattern) for layer in layers):
                raise ValueError(
                    f"policy rule {pattern!r} matches no linear layer; their names are like {layers[0]}, {layers[-1]}"
                )


@dataclass(frozen=True)
class QuantizationConfig:
    """A quantized model's recipe. group_size: of weights; None is one scale for each output channel. activation_clip:
    range of four-bit activations over their largest magnitude. bias_correction: add to each layer's bias what rounding
    its weight takes from the mean output on calibration frames.

    Raises ValueError for values that do not exist or do not go together.
    """

    policy: PrecisionPolicy = field(default_factory=PrecisionPolicy)
    rotation: Rotation = field(default_factory=Rotation)
    granularity: Granularity = Granularity.TOKEN
    group_size: int | None = None
    clip_search: bool = True
    activation_clip: float = DEFAULT_ACTIVATION_CLIP
    bias_correction: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "granularity", Granularity(self.granularity))
        if type(self.clip_search) is not bool or type(self.bias_correction) is not bool:
            raise ValueError(
                f"clip_search is {self.clip_search!r}, bias_correction {self.bias_correction!r}; each is true or false"
            )
        self._spec(Precision.W4A4)  # validates what it is built of

    @property
    def needs_calibration(self) -> bool:
        """Whether frames must be run through the float model first."""
        return self.granularity is Granularity.CHANNEL or self.bias_correction

    def __str__(self) -> str:
        """Short, for tables and logs: w4a4 full token."""
        words = [self.policy.precision.value, self.rotation.kind.value, self.granularity.value]
        words += [f"group {self.group_size}"] if self.group_size else []
        words += ["bias-corrected"] if self.bias_correction else []
        return " ".join(words + ([f"{len(self.policy.rules)} rules"] if self.policy.rules else []))

    def spec_of(self, layer: str) -> LinearSpec | None:
        """Of a linear layer by its full name; None if it is not quantized."""
        precision = self.policy.precision_of(layer)
        return self._spec(precision) if precision.is_quantized else None

    def to_dict(self) -> dict[str, Any]:
        """JSON, as a manifest has it."""
        return {
            "precision": self.policy.precision.value,
            "rules": [f"{pattern}={precision.value}" for pattern, precision in self.policy.rules],
            "rotation": {
                "kind": self.rotation.kind.value,
                "fold_norms": self.rotation.fold_norms,
                "seed": self.rotation.seed,
            },
            "granularity": self.granularity.value,
            "group_size": self.group_size,
            "clip_search": self.clip_search,
            "activation_clip": self.activation_clip,
            "bias_correction": self.bias_correction,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> QuantizationConfig:
        """The inverse of `to_dict`. Raises ValueError for anything else."""
        try:
            fields = dict(content)
            policy = PrecisionPolicy.parse(fields.pop("rules"), fields.pop("precision"))
            config = cls(policy, Rotation(**fields.pop("rotation")), **fields)
            as_written = config.to_dict()
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a quantization config: {error!r}") from error
        if as_written != content:
            raise ValueError(f"not a quantization config: {dict(content)!r}; it would be written as {as_written!r}")
        return config

    def _spec(self, precision: Precision) -> LinearSpec:
        return LinearSpec(
            precision, self.granularity, self.group_size, self.clip_search, self.activation_clip, self.bias_correction
        )


def _rule(pattern: str, precision: str | Precision) -> tuple[str, Precision]:
    if not pattern:
        raise ValueError("a policy rule has an empty pattern; write * for every layer")
    return pattern, _precision(f"policy rule {pattern}", precision)


def _precision(what: str, value: str | Precision) -> Precision:
    try:
        return Precision(value)
    except ValueError as error:
        known = ", ".join(each.value for each in Precision)
        raise ValueError(f"{what} has precision {value!r}; precisions are {known}") from error


PRESETS = {
    # What measures best without calibration frames.
    "default": QuantizationConfig(rotation=Rotation(RotationKind.FULL), granularity=Granularity.TOKEN),
    # The same with them: 2 to 4 dB better in w4a4, 8 in w4a8.
    "calibrated": QuantizationConfig(
        rotation=Rotation(RotationKind.FULL), granularity=Granularity.TOKEN, bias_correction=True
    ),
    # What the paper says, as far as it says it: eq. 6, norms as they are, one scale for a tensor.
    "paper": QuantizationConfig(
        rotation=Rotation(RotationKind.QK_INPUT, fold_norms=False),
        granularity=Granularity.TENSOR,
        activation_clip=1.0,
    ),
}


def preset(name: str, **changes: Any) -> QuantizationConfig:
    """A preset, with fields replaced. Raises ValueError for an unknown name."""
    if name not in PRESETS:
        raise ValueError(f"quantization preset is {name!r}; there are {', '.join(PRESETS)}")
    return replace(PRESETS[name], **changes)
