# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""From names and options to methods. The files beside this one register themselves; see the package's docstring."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqap_vla.runtime.methods.base import Method
from sqap_vla.runtime.methods.options import Option
from sqap_vla.runtime.methods.quantization import quantization_options

Builder = Callable[..., Method]


@dataclass(frozen=True)
class Keyword:
    """One keyword of a method: its type without None, its default there, its meaning and range."""

    kind: Any
    default: Any
    option: Option


@dataclass(frozen=True)
class MethodEntry:
    """A registered method.

    paper_bops: the paper's figure (Table 1), percent of dense fp16; None if it has none. published: the options behind
    that figure, where they are not the defaults.
    """

    name: str
    summary: str
    build: Builder
    keywords: dict[str, Keyword]
    paper_bops: float | None
    published: Mapping[str, Any]
    order: int


_entries: dict[str, MethodEntry] = {}


def register(
    name: str,
    *,
    summary: str,
    paper_bops: float | None = None,
    published: Mapping[str, Any] = MappingProxyType({}),
    order: int = 100,
) -> Callable[[Builder], Builder]:
    """Makes a function of keywords the method `name`. order: place in lists; ties by name. Raises ValueError for a name
    that is taken, a keyword without Option, or one that another method uses for something of another type."""

    def add(build: Builder) -> Builder:
        if name in _entries:
            raise ValueError(f"method {name!r} is registered already")
        keywords = _keywords(build)
        for keyword, described in keywords.items():
            if keyword in common_options():
                raise ValueError(f"{keyword} of {name!r} is an option that every method has already; rename it")
            for other in _entries.values():
                if keyword in other.keywords and other.keywords[keyword].kind != described.kind:
                    raise ValueError(f"{keyword} of {name!r} has another type than that of {other.name!r}; rename it")
        _entries[name] = MethodEntry(name, summary, build, keywords, paper_bops, published, order)
        return build

    return add


def method_names() -> tuple[str, ...]:
    return tuple(entry.name for entry in sorted(_entries.values(), key=lambda entry: (entry.order, entry.name)))


def method_entry(name: str) -> MethodEntry:
    """Raises ValueError for an unknown name; it lists the known ones."""
    if name not in _entries:
        raise ValueError(f"method {name!r} is not known; known are {', '.join(method_names())}")
    return _entries[name]


def common_options() -> dict[str, Keyword]:
    """Keywords that every method has: those of the quantization."""
    return _keywords(quantization_options)


def method_options() -> dict[str, dict[str, Keyword]]:
    """Every keyword of any method -> its description for each method that has it, in the order of the methods."""
    common = common_options()
    options: dict[str, dict[str, Keyword]] = {
        keyword: dict.fromkeys(method_names(), described) for keyword, described in common.items()
    }
    for name in method_names():
        for keyword, described in _entries[name].keywords.items():
            options.setdefault(keyword, {})[name] = described
    return options


def make_method(name: str, **options: Any) -> Method:
    """The method `name`. An option that is None or left out has the method's own default.

    Options of other methods are accepted and have no effect, so that a configuration stays valid when only the name
    changes; their ranges are checked all the same. Raises ValueError for an unknown name or option (it lists the known
    ones) or bad values.
    """
    entry, known = method_entry(name), method_options()
    given = {key: value for key, value in options.items() if value is not None}
    for key, value in given.items():
        if key not in known:
            raise ValueError(f"option {key!r} is not known; known are {', '.join(sorted(known))}")
        for keyword in known[key].values():
            keyword.option.check_value(key, value)
    own, common = ({k: given[k] for k in given if k in keywords} for keywords in (entry.keywords, common_options()))
    return dataclasses.replace(entry.build(**own), name=name, asked=quantization_options(**common))


def _keywords(build: Builder) -> dict[str, Keyword]:
    hints = typing.get_type_hints(build, include_extras=True)
    keywords = {}
    for name, parameter in inspect.signature(build).parameters.items():
        options = [extra for extra in getattr(hints.get(name), "__metadata__", ()) if isinstance(extra, Option)]
        if parameter.kind is not parameter.KEYWORD_ONLY or parameter.default is parameter.empty or len(options) != 1:
            raise ValueError(f"{build.__name__}({name}) must be keyword-only, with a default and an Option in its type")
        inner = typing.get_args(hints[name])[0]
        kinds = [kind for kind in typing.get_args(inner) if kind is not type(None)]
        kind = kinds[0] if type(None) in typing.get_args(inner) else inner
        keywords[name] = Keyword(kind, parameter.default, options[0])
    return keywords
