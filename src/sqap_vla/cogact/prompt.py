# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Instruction -> prompt -> token ids.

    In: What action should the robot take to {instruction, lower case}?\\nOut:

ids = BOS, prompt, the empty token, EOS. In training the answer followed the colon, so the empty token
("\\u2581" alone) stands where it began, and EOS is the cognition token whose hidden state the action head
reads. In Llama-2 these are 1, ..., 29871, 2; here they come from the tokenizer. Official checkpoints contain
no tokenizer: give the tokenizer.json of Llama-2.

Source: CogACT.predict_action (vla/cogactvla.py), PurePromptBuilder
(prismatic/models/backbones/llm/prompting/base_prompter.py).
"""

from __future__ import annotations

import json
from pathlib import Path

import tokenizers

from sqap_vla.cogact.errors import TokenizerError

EMPTY_TOKEN = "\u2581"  # SentencePiece's mark of a word boundary
DEFAULT_SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
MAX_PROMPT_TOKENS = 2048  # llm_max_length of the base VLM


def build_prompt(instruction: str) -> str:
    """The prompt the policy was trained with. Raises ValueError for an empty instruction."""
    if not instruction.strip():
        raise ValueError(
            f"instruction is {instruction!r}; it must not be empty: say, for instance, 'pick up the red cube'"
        )
    question = f"What action should the robot take to {instruction.lower()}?".replace("<image>", "")
    return f"In: {question}\nOut:"


class Tokenizer:
    """A Hugging Face tokenizer, used exactly as its file describes it, with the ids that CogACT adds."""

    def __init__(self, backend: tokenizers.Tokenizer, bos_token: str, eos_token: str, path: Path) -> None:
        backend.no_truncation()
        backend.no_padding()
        self.path = path
        self.vocab_size = backend.get_vocab_size()
        self._backend = backend
        self.bos_id, self.eos_id, self.empty_id = (self._id(token) for token in (bos_token, eos_token, EMPTY_TOKEN))

    @classmethod
    def from_path(cls, path: str | Path) -> Tokenizer:
        """From a tokenizer.json file or a directory that holds one (a checkpoint directory too).

        Beside it, tokenizer_config.json may name other tokens than <s> and </s>. Nothing is downloaded.
        Raises TokenizerError if there is no such file or it is not a tokenizer with BOS, EOS and the empty
        token.
        """
        file = _tokenizer_file(Path(path))
        try:
            backend = tokenizers.Tokenizer.from_str(file.read_text(encoding="utf-8"))
        except Exception as error:  # the tokenizers library raises nothing narrower
            raise TokenizerError(
                f"{file} is not a readable Hugging Face tokenizer ({error}); "
                "give the tokenizer.json of the model's base LLM"
            ) from error
        special = DEFAULT_SPECIAL_TOKENS | _special_tokens(file.with_name("tokenizer_config.json"))
        return cls(backend, special["bos_token"], special["eos_token"], file)

    def encode(self, instruction: str) -> list[int]:
        """Instruction -> ids for CogAct.cognition. Raises ValueError for an empty or overlong instruction."""
        # BOS by hand: whether a tokenizer.json adds it differs from file to file.
        prompt = self._backend.encode(build_prompt(instruction), add_special_tokens=False).ids
        ids = [self.bos_id, *prompt, self.empty_id, self.eos_id]
        if len(ids) > MAX_PROMPT_TOKENS:
            raise ValueError(
                f"the instruction gives {len(ids)} tokens; the policy takes {MAX_PROMPT_TOKENS}: shorten it"
            )
        return ids

    def _id(self, token: str) -> int:
        token_id = self._backend.token_to_id(token)
        if token_id is None:
            raise TokenizerError(
                f"{self.path} has no token {token!r}; CogACT's prompt needs BOS, EOS and the empty token "
                f"{EMPTY_TOKEN!r}: give the tokenizer of the model's base LLM"
            )
        return token_id


def _tokenizer_file(path: Path) -> Path:
    if path.is_file() and path.suffix == ".json":
        return path
    if path.is_dir():
        exact = path / "tokenizer.json"
        candidates = [exact] if exact.is_file() else sorted(path.glob("*tokenizer.json"))
        if len(candidates) == 1:
            return candidates[0]
        found = ", ".join(file.name for file in candidates) or "none"
        raise TokenizerError(
            f"{path} must hold one tokenizer.json; found: {found}. Official CogACT checkpoints contain no "
            "tokenizer: give the path of Llama-2's tokenizer.json"
        )
    if path.exists():
        raise TokenizerError(
            f"{path} is neither a .json file nor a directory; give the tokenizer.json that lies beside "
            "tokenizer.model in Hugging Face's Llama-2 repositories"
        )
    raise TokenizerError(
        f"tokenizer {path} does not exist; give the path of a tokenizer.json or of a directory that holds one"
    )


def _special_tokens(config_file: Path) -> dict[str, str]:
    if not config_file.is_file():
        return {}
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TokenizerError(f"{config_file} is not readable JSON ({error}); restore it or remove it") from error
    named = {name: config.get(name) for name in DEFAULT_SPECIAL_TOKENS}
    contents = {name: token["content"] if isinstance(token, dict) else token for name, token in named.items()}
    return {name: content for name, content in contents.items() if content}
