# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""manifest.json: what is written reads back, all else is refused with a reason, never a stray exception."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqap_vla.quantization import manifest as module
from sqap_vla.quantization.manifest import (
    ArtifactError,
    FileEntry,
    Manifest,
    Source,
    decode,
    encode,
    read_manifest,
)
from sqap_vla.quantization.policy import preset

QUANTIZATION = preset("default", group_size=128).to_dict()
MANIFEST = Manifest(
    source=Source("CogACT-Base", "step-000001.pt", 1, "f" * 64),
    dtype="bfloat16",
    model_config={"dino": {"depth": 24}},
    norm_stats={"bridge_orig": {"action": {"q01": [-0.028, 1e-9], "q99": [0.1, 2.0], "mask": [True, False]}}},
    shards=(FileEntry("model-00aa11bb-00001-of-00001.safetensors", 10, "0" * 64),),
    tokenizer_directory="tokenizer-00aa11bb",
    tokenizer=(FileEntry("tokenizer.json", 3, "1" * 64),),
    created="2026-01-01T00:00:00+00:00",
    tool_version="sqap_vla 0.1.0",
    quantization=QUANTIZATION,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def signed(document: dict[str, Any]) -> bytes:
    """A document with the checksum that belongs to it, as a careful forger would write it."""
    document = {key: value for key, value in document.items() if key != "manifest_sha256"}
    return json.dumps({**document, "manifest_sha256": module._checksum(document)}).encode()


def test_a_manifest_reads_back_as_it_was_written():
    assert decode(encode(MANIFEST)) == MANIFEST


def test_the_announced_summary_is_json_without_the_numbers():
    summary = json.loads(json.dumps(MANIFEST.summary()))
    assert summary["source"]["fingerprint"] == "f" * 64 and summary["unnorm_keys"] == ["bridge_orig"]
    assert "norm_stats" not in summary


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"schema_version": 1}, "schema_version is 1; this version of sqap_vla reads 2"),
        ({"schema_version": True}, "schema_version is True"),
        ({"format": "something else"}, "not an artifact's manifest"),
        ({"dtype": "int4"}, "dtype is 'int4'; this version knows float32, bfloat16"),
        ({"quantization": {"bits": 4}}, "not a quantization config"),
        ({"quantization": {**QUANTIZATION, "clip_search": "yes"}}, "clip_search is 'yes'"),
        ({"quantization": {**QUANTIZATION, "precision": "w3a3"}}, "precisions are w4a4, w4a8, w8a8, bf16"),
        ({"calibration": None}, "calibration must be strings"),
        ({"shards": []}, "there are no shards"),
        ({"shards": [{"name": "../x", "size_bytes": 1, "sha256": "0" * 64}]}, "'../x' is not a plain name"),
        ({"shards": [{"name": "/etc/passwd", "size_bytes": 1, "sha256": "0" * 64}]}, "not a plain name"),
        ({"shards": [{"name": "a", "size_bytes": True, "sha256": "0" * 64}]}, "size_bytes of a is True"),
        ({"shards": [{"name": "a", "size_bytes": 1, "sha256": "0" * 64}] * 2}, "listed twice"),
        ({"tokenizer_directory": ".."}, "'..' is not a plain name"),
        ({"tokenizer_directory": ""}, "tokenizer files without tokenizer_directory"),
        ({"extra": 1}, "must be an object with"),
    ],
)
def test_a_wrong_value_is_refused_with_its_reason(change: dict[str, Any], reason: str):
    with pytest.raises(ValueError, match=".*") as refusal:
        decode(signed({**json.loads(encode(MANIFEST)), **change}))
    assert reason in str(refusal.value)


def test_an_edited_number_is_refused():
    """Statistics move a robot: a hand that makes q99 larger must not go unnoticed."""
    edited = encode(MANIFEST).replace(b"0.1,", b"0.9,")
    assert edited != encode(MANIFEST)
    with pytest.raises(ValueError, match="edited or damaged"):
        decode(edited)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b"\xff\xfe",
        b"NaN",
        b'{"format": "sqap_vla artifact", "schema_version": 1, "x": 1e999}',
        b'{"format": "sqap_vla artifact", "schema_version": 1, "x": "\\ud800"}',
        b'{"x": ' + b"9" * 10_000 + b"}",
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path, data: bytes):
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(ArtifactError, match="delete .* and let model_loader write it again"):
        read_manifest(tmp_path)


@settings(max_examples=300, deadline=None)
@given(
    position=st.integers(0, len(encode(MANIFEST)) - 1),
    replacement=st.binary(max_size=4),
    cut=st.integers(0, 40),
)
def test_changed_bytes_are_refused_or_mean_the_same(position: int, replacement: bytes, cut: int):
    data = encode(MANIFEST)
    with contextlib.suppress(ValueError):
        assert decode(data[:position] + replacement + data[position + cut :]) == MANIFEST  # white space only


@settings(max_examples=300, deadline=None)
@given(
    key=st.sampled_from([field.name for field in dataclasses.fields(Manifest)] + ["format"]),
    value=json_values,
)
def test_a_changed_value_that_is_signed_gives_a_manifest_or_a_reason(key: str, value: Any):
    with contextlib.suppress(ValueError):
        assert isinstance(decode(signed({**json.loads(encode(MANIFEST)), key: value})), Manifest)


def test_no_more_than_a_manifest_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_MANIFEST_BYTES", 100)
    (tmp_path / "manifest.json").write_bytes(encode(MANIFEST))
    with pytest.raises(ArtifactError, match="larger than 100 bytes"):
        read_manifest(tmp_path)
