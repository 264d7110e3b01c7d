# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Methods register themselves; what a keyword means is said once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
import torch

from sqap_vla.pruning.fastv import FastVSelector
from sqap_vla.runtime import methods
from sqap_vla.runtime.method import METHODS, Method, make_method, method_entry, method_options
from sqap_vla.runtime.methods import registry
from sqap_vla.runtime.methods.options import Option, Ratio

Steps = Annotated[int | None, Option("Number of steps.", 1, 9)]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    return registry.register


def test_the_methods_of_the_paper_s_table_in_its_order():
    assert METHODS == ("dense", "random", "fastv", "vla_cache", "efficientvla", "sqap")
    assert [method_entry(name).paper_bops for name in METHODS] == [100.0, 58.5, 42.0, 80.1, 45.1, 26.3]


def test_a_new_method_needs_one_function(register):
    @register("seventh", summary="half of them, by attention")
    def seventh(*, ratio: Ratio = 0.5, seventh_steps: Steps = None) -> Method:
        return Method(selector=FastVSelector(), ratio=ratio, prune_layer=seventh_steps or 4)

    assert registry.method_names()[-1] == "seventh"
    assert make_method("seventh") == Method("seventh", FastVSelector(), 0.5, 4)
    assert make_method("seventh", seventh_steps=2, ratio=0.25).prune_layer == 2
    described = method_options()["seventh_steps"]["seventh"]
    assert (described.kind, described.default, described.option.description) == (int, None, "Number of steps.")
    with pytest.raises(ValueError, match="seventh_steps is 10; it must be from 1 to 9"):
        make_method("dense", seventh_steps=10)


def test_the_method_of_the_documentation_works(register):
    text = (Path(__file__).parents[2] / "docs" / "method.md").read_text()
    source = text.split("## A method of your own")[1].split("```python\n")[1].split("```")[0]
    exec(compile(source, "method.md", "exec"), {"__name__": "method_md"})
    method = make_method("every_other", ratio=0.25)
    selection = method.selector.select(None, torch.zeros(256, dtype=torch.bool), method.budget(), seed=0)
    assert len(selection.kept) == 192 and selection.kept[:3].tolist() == [0, 1, 2]


def test_every_file_of_the_package_is_found():
    """No list of methods is kept anywhere: the package imports what lies beside it."""
    files = {path.stem for path in Path(methods.__file__).parent.glob("*.py")} - {"__init__"}
    assert files <= {name.rpartition(".")[2] for name in sys.modules if name.startswith(methods.__name__ + ".")}


def test_none_means_the_method_s_own_default():
    assert make_method("fastv", ratio=None, prune_layer=None) == make_method("fastv")


def test_options_of_other_methods_have_no_effect():
    assert make_method("fastv", static_tokens=3, use_ring=False) == make_method("fastv")
    assert make_method("dense", ratio=0.9) == make_method("dense")


def test_an_unknown_option_lists_the_known_ones():
    with pytest.raises(ValueError, match="option 'rato' is not known; known are attention_share, ee_points_m"):
        make_method("sqap", rato=0.5)


def test_one_keyword_means_the_same_everywhere():
    for name, by_method in method_options().items():
        assert len({keyword.kind for keyword in by_method.values()}) == 1, name
        assert len({keyword.option for keyword in by_method.values()}) == 1, name


class TestRefusals:
    def test_a_name_that_is_taken(self, register):
        with pytest.raises(ValueError, match="'fastv' is registered already"):
            register("fastv", summary="")(lambda: Method())

    def test_a_keyword_of_another_type(self, register):
        def build(*, ratio: Annotated[int, Option("")] = 1) -> Method:
            return Method()

        with pytest.raises(ValueError, match="ratio of 'new' has another type"):
            register("new", summary="")(build)

    def test_a_keyword_that_is_not_described(self, register):
        def build(*, ratio: float = 0.5) -> Method:
            return Method()

        with pytest.raises(ValueError, match=r"build\(ratio\) must be keyword-only, with a default and an Option"):
            register("new", summary="")(build)
