# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Reads a Dockerfile as far as its tests need: stages, instructions, and ARG and ENV put in.

Not there: heredocs, ONBUILD, another escape character; a file that has them is refused.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

_BETWEEN_COMMANDS = {"&&", "||", ";", "|", "if", "then", "fi"}
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}|\$(\w+)")


@dataclass(frozen=True)
class Instruction:
    """One instruction, its continued lines joined; `value` has the variables of its stage put in."""

    keyword: str
    value: str

    @property
    def words(self) -> list[str]:
        """Arguments of either form, without flags such as --from."""
        words = json.loads(self.value) if self.value.startswith("[") else shlex.split(self.value)
        return [word for word in words if not word.startswith("--")]

    def flag(self, name: str) -> str | None:
        """What `--name=` says."""
        return next((word.split("=", 1)[1] for word in self.value.split() if word.startswith(f"--{name}=")), None)


@dataclass
class Stage:
    """From one FROM to the next. `base` is an image or an earlier stage's name."""

    name: str
    base: str
    variables: dict[str, str]
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, keyword: str) -> list[Instruction]:
        return [instruction for instruction in self.instructions if instruction.keyword == keyword]

    @property
    def commands(self) -> list[list[str]]:
        """The words of each simple command of every RUN, without the shell's own (operators, if, then, fi)."""
        result = [[]]
        for run in self.all("RUN"):
            lexer = shlex.shlex(run.value, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            for word in lexer:
                if word in _BETWEEN_COMMANDS:
                    result.append([])
                else:
                    result[-1].append(word)
            result.append([])
        return [words for words in result if words]


def put_in(text: str, variables: dict[str, str]) -> str:
    """Variables in their values; one without a value keeps its default, or stays as it is (a shell's own)."""

    def value(match: re.Match[str]) -> str:
        known = variables.get(match[1] or match[3])
        return known if known is not None else match[2] if match[2] is not None else match[0]

    return _VARIABLE.sub(value, text)


def parse(text: str, arguments: dict[str, str] | None = None) -> list[Stage]:
    """The stages of a Dockerfile; `arguments` as with --build-arg. Raises ValueError where it is beyond this parser."""
    given, stages, before = arguments or {}, [], {}
    for keyword, raw in _lines(text):
        stage = stages[-1] if stages else None
        if keyword == "FROM":
            base, *rest = put_in(raw, before).split()
            name = rest[1] if len(rest) == 2 and rest[0].upper() == "AS" else str(len(stages))
            inherited = next((dict(earlier.variables) for earlier in stages if earlier.name == base), {})
            stages.append(Stage(name, base, inherited))
        elif keyword == "ARG":
            name, _, default = raw.partition("=")
            known = before if stage is None else stage.variables
            fallback = put_in(default, known) if "=" in raw else before.get(name)
            if (value := given.get(name, fallback)) is not None:
                known[name] = value
        elif stage is None:
            raise ValueError(f"{keyword} stands before the first FROM; only ARG may")
        else:
            value = put_in(raw, stage.variables)
            if keyword == "ENV":
                stage.variables |= dict(word.split("=", 1) for word in shlex.split(value))
            stage.instructions.append(Instruction(keyword, value))
    return stages


def read(path: Path, **arguments: str) -> list[Stage]:
    return parse(path.read_text(encoding="utf-8"), arguments)


def _lines(text: str) -> list[tuple[str, str]]:
    """(keyword, rest) of each instruction; comments, also those between continued lines, are left out."""
    kept = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(kept))
    if "<<" in joined:
        raise ValueError("heredocs are not read by this parser")
    parts = (line.strip().split(maxsplit=1) for line in joined.splitlines())
    return [(part[0].upper(), part[1] if len(part) == 2 else "") for part in parts]
