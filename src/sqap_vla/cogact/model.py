# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""CogACT: two pictures and a prompt -> cognition feature -> a chunk of normalised actions.

    dino, siglip [B, 3, 224, 224] -> vision_backbone -> projector -> 256 visual tokens
    BOS, visual tokens, rest of the prompt -> llm_backbone -> last hidden state, the cognition feature
    cognition + noise [B, 16, 7] -> action_model (DDIM) -> normalised actions [B, 16, 7]

Names of sub-modules and parameters are the official checkpoint's: `state_dict()` keys are `<module of the
.pt>.<its key>`. What inference never uses (see layout.py) is not built. Source: vla/cogactvla.py,
prismatic/models/vlms/prismatic.py.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sqap_vla.cogact.action_head import ActionModel
from sqap_vla.cogact.config import CogActConfig
from sqap_vla.cogact.llama import DecoderOutput, LlamaDecoder, Pruning, TokenReuse
from sqap_vla.cogact.vision import Projector, VisionBackbone


class CogAct(nn.Module):
    def __init__(self, config: CogActConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_backbone = VisionBackbone(config.dino, config.siglip)
        self.projector = Projector(config.dino.embed_dim + config.siglip.embed_dim, config.decoder.hidden_size)
        self.llm_backbone = nn.ModuleDict({"llm": nn.ModuleDict({"model": LlamaDecoder(config.decoder)})})
        self.action_model = ActionModel(config.head)

    def with_decoder(self, decoder: LlamaDecoder) -> CogAct:
        """A model of the same tensors around another decoder; this one stays as it is."""
        other = sharing_copy(self)
        other.config = dataclasses.replace(self.config, decoder=decoder.config)
        other.llm_backbone = nn.ModuleDict({"llm": nn.ModuleDict({"model": decoder})})
        return other.train(self.training)

    @property
    def decoder(self) -> LlamaDecoder:
        return self.llm_backbone["llm"]["model"]

    @property
    def device(self) -> torch.device:
        return self.decoder.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of what vision and decoder compute in; the head stays float32."""
        return self.decoder.norm.weight.dtype

    def encode_images(self, dino: Tensor, siglip: Tensor) -> Tensor:
        """Normalised pictures [B, 3, 224, 224] each (see preprocess.py) -> visual tokens [B, 256, D]."""
        dino, siglip = (picture.to(self.device, self.dtype) for picture in (dino, siglip))
        return self.projector(self.vision_backbone(dino, siglip))  # [B, N, D]

    def cognition(
        self,
        visual: Tensor,
        input_ids: Sequence[Sequence[int]],
        pruning: Pruning | Sequence[Pruning] | None = None,
        record_hidden: bool = False,
        reuse: TokenReuse | None = None,
    ) -> DecoderOutput:
        """Visual tokens [B, N, D] and one prompt per row (ids of prompt.py, BOS first) -> decoder output.

        Prompts may differ in length. Raises ValueError if the rows do not match or an id is not in the
        vocabulary.
        """
        embeds, last_index = self.embed(visual, input_ids)
        return self.decoder(embeds, last_index, slice(1, 1 + visual.shape[1]), pruning, record_hidden, reuse)

    def embed(self, visual: Tensor, input_ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """What the decoder is given: BOS, visual tokens, rest of the prompt, padded [B, T, D]; index of each row's
        last real token [B]."""
        padded, last_index = self.pad_ids(input_ids, visual.shape[:2])
        return self.embed_ids(visual, padded.to(self.device)), last_index.to(self.device)

    def pad_ids(
        self, input_ids: Sequence[Sequence[int]], visual: Sequence[int], length: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Prompts -> ids padded on the right to `length` (the longest, by default), int64 [B, L], and the index of each
        row's last real token among visual and text tokens, [B]; on the host.

        visual: batch and number of visual tokens. Raises ValueError if the rows do not match, an id is not in the
        vocabulary, or a prompt is longer than `length`.
        """
        batch, tokens = visual
        self._check_ids(input_ids, batch)
        longest = max(map(len, input_ids))
        length = longest if length is None else length
        if longest > length:
            raise ValueError(f"a prompt has {longest} tokens; there is room for {length}: shorten the instruction")
        padded = torch.tensor([[*ids, *[0] * (length - len(ids))] for ids in input_ids])
        return padded, torch.tensor([tokens + len(ids) - 1 for ids in input_ids])

    def embed_ids(self, visual: Tensor, ids: Tensor) -> Tensor:
        """Visual tokens [B, N, D], padded ids [B, L] -> BOS, visual tokens, rest of the text [B, N + L, D]."""
        text = self.decoder.embed_tokens(ids).to(visual.dtype)  # [B, L, D]
        return torch.cat([text[:, :1], visual, text[:, 1:]], dim=1)

    def sample_actions(
        self, cognition: Tensor, noise: Tensor, ddim_steps: int = 10, cfg_scale: float = 1.5, cache_interval: int = 1
    ) -> Tensor:
        """Cognition [B, D], noise [B, 16, 7] -> normalised actions, float32 [B, 16, 7], not clipped.

        cache_interval: see ActionModel.trajectory.
        """
        noise = noise.to(self.device, torch.float32)
        return self.action_model.sample(cognition.to(torch.float32), noise, ddim_steps, cfg_scale, cache_interval)

    def _check_ids(self, input_ids: Sequence[Sequence[int]], batch: int) -> None:
        if len(input_ids) != batch or not all(input_ids):
            raise ValueError(
                f"{len(input_ids)} prompts (lengths {[len(ids) for ids in input_ids]}) for {batch} images; "
                "give one prompt for each image, none empty"
            )
        highest, lowest = max(map(max, input_ids)), min(map(min, input_ids))
        if lowest < 0 or highest >= self.config.decoder.vocab_size:
            raise ValueError(
                f"token ids reach from {lowest} to {highest} and the model has "
                f"{self.config.decoder.vocab_size} embeddings; use the tokenizer of this checkpoint"
            )


def sharing_copy(module: nn.Module) -> nn.Module:
    """A module of its own with the same parameters and sub-modules."""
    other = copy.copy(module)
    other._modules = dict(module._modules)
    return other
