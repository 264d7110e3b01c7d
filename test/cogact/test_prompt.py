# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil

import pytest

from sqap_vla.cogact.errors import TokenizerError
from sqap_vla.cogact.prompt import Tokenizer, build_prompt


@pytest.fixture
def tokenizer_file(demo_directory, tmp_path):
    return shutil.copy(demo_directory / "tokenizer.json", tmp_path / "tokenizer.json")


def test_prompt_and_ids_match(arrays, tokenizer):
    expected = arrays("f_end_to_end")
    assert build_prompt(str(expected["instruction"])) == str(expected["prompt"])
    assert tokenizer.encode(str(expected["instruction"])) == expected["input_ids"][0].tolist()
    for row, instruction in enumerate(expected["batch_instructions"]):
        assert tokenizer.encode(str(instruction)) == expected[f"batch_input_ids{row}"][0].tolist()


def test_ids_begin_with_bos_and_end_with_the_empty_token_and_eos(tokenizer):
    ids = tokenizer.encode("open the drawer")
    assert ids[0] == tokenizer.bos_id and ids[-2:] == [tokenizer.empty_id, tokenizer.eos_id]
    assert tokenizer.bos_id not in ids[1:]


def test_bos_comes_once_when_the_file_adds_it_too(tokenizer_file):
    plain = Tokenizer.from_path(tokenizer_file).encode("open the drawer")
    content = json.loads(tokenizer_file.read_text())
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    tokenizer_file.write_text(json.dumps(content))
    assert Tokenizer.from_path(tokenizer_file).encode("open the drawer") == plain


def test_the_instruction_is_lower_cased_and_otherwise_kept():
    assert build_prompt("Pick UP  the Cube") == "In: What action should the robot take to pick up  the cube?\nOut:"
    assert build_prompt("look <image> here") == "In: What action should the robot take to look  here?\nOut:"


def test_other_special_tokens_are_read_from_the_tokenizer_config(tokenizer_file):
    tokenizer_file.with_name("tokenizer_config.json").write_text(
        json.dumps({"bos_token": {"content": "<unk>"}, "eos_token": "</s>"})
    )
    assert Tokenizer.from_path(tokenizer_file.parent).bos_id == 0


@pytest.mark.parametrize("instruction", ["", "   ", "\n"])
def test_an_empty_instruction_is_refused(tokenizer, instruction):
    with pytest.raises(ValueError, match="must not be empty"):
        tokenizer.encode(instruction)


def test_an_overlong_instruction_is_refused(tokenizer):
    with pytest.raises(ValueError, match="the policy takes 2048"):
        tokenizer.encode("pick " * 3000)


def test_files_that_are_no_tokenizer(tmp_path, tokenizer_file):
    with pytest.raises(TokenizerError, match="does not exist"):
        Tokenizer.from_path(tmp_path / "nowhere.json")
    with pytest.raises(TokenizerError, match="found: none. Official CogACT checkpoints contain no tokenizer"):
        (empty := tmp_path / "empty").mkdir()
        Tokenizer.from_path(empty)
    for content in ("", "{", "[]", '{"model": 3}', "\x00\x01"):
        (broken := tmp_path / "broken.json").write_text(content)
        with pytest.raises(TokenizerError, match="not a readable Hugging Face tokenizer"):
            Tokenizer.from_path(broken)
    (sentencepiece := tmp_path / "tokenizer.model").write_bytes(b"\x0a")
    with pytest.raises(TokenizerError, match="neither a .json file nor a directory"):
        Tokenizer.from_path(sentencepiece)
    tokenizer_file.with_name("tokenizer_config.json").write_text("{")
    with pytest.raises(TokenizerError, match="tokenizer_config.json is not readable JSON"):
        Tokenizer.from_path(tokenizer_file)


def test_a_tokenizer_without_the_empty_token_is_refused(tokenizer_file):
    content = json.loads(tokenizer_file.read_text().replace("\u2581", "_").replace("\\u2581", "_"))
    tokenizer_file.write_text(json.dumps(content))
    with pytest.raises(TokenizerError, match="has no token '\u2581'"):
        Tokenizer.from_path(tokenizer_file)
