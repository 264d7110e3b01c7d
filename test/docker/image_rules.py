# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What an image must keep to; each rule returns its faults in words, none if all is well."""

from __future__ import annotations

import fnmatch
import re
from itertools import pairwise
from pathlib import Path

from dockerfile import Stage

PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)$")


def normal(name: str) -> str:
    """A distribution's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(directory: Path) -> dict[str, str]:
    """Name and version of every requirement below `directory`."""
    lines = (line.strip() for path in sorted(directory.glob("*.txt")) for line in path.read_text().splitlines())
    return {normal(match[1]): match[2] for line in lines if (match := PIN.match(line))}


def unpinned_bases(stages: list[Stage]) -> list[str]:
    names, faults = set(), []
    for stage in stages:
        if stage.base not in names:
            _, _, tag = stage.base.rpartition("/")[2].partition(":")
            if not re.search(r"\d", tag) or "latest" in tag or "$" in stage.base:
                faults.append(f"{stage.name} stands on '{stage.base}'; give it a tag with a version")
        names.add(stage.name)
    return faults


def runs_as_root(stages: list[Stage]) -> list[str]:
    users = [instruction.value for instruction in stages[-1].all("USER")]
    user = users[-1].partition(":")[0] if users else "root"
    return [f"the image runs as '{user}'"] if user in ("root", "0") or "$" in user else []


def downloads(stages: list[Stage]) -> list[str]:
    added = [word for stage in stages for add in stage.all("ADD") for word in add.words]
    return [f"ADD of {word}: nobody checks what comes" for word in added if "://" in word or word.startswith("git@")]


def missing_sources(stages: list[Stage], context: Path, ignore: str) -> list[str]:
    """COPY of what the build context does not have, or of a stage that is not there."""
    faults, names = [], []
    for stage in stages:
        for copy in stage.all("COPY"):
            if (origin := copy.flag("from")) is not None:
                faults += [f"COPY --from={origin}: there is no such stage"] if origin not in names else []
                continue
            for source in copy.words[:-1]:
                if not (context / source).exists():
                    faults.append(f"COPY {source}: it is not in the checkout")
                elif ignored(source, ignore):
                    faults.append(f"COPY {source}: the ignore file leaves it out of the build context")
        names.append(stage.name)
    return faults


def ignored(path: str, rules: str) -> bool:
    """Whether a .dockerignore leaves `path` out: the last rule that matches it or a directory above it holds."""
    result, above = False, [path, *map(str, Path(path).parents)]
    for rule in (line.strip() for line in rules.splitlines()):
        if rule and not rule.startswith("#") and any(fnmatch.fnmatch(name, rule.lstrip("!")) for name in above):
            result = not rule.startswith("!")
    return result


def pip_installs(stages: list[Stage]) -> list[list[str]]:
    """Arguments of every `pip install`, in order."""
    commands = [command for stage in stages for command in stage.commands]
    return [words[2:] for words in commands if words[0].endswith("pip") and words[1] == "install"]


def named(words: list[str]) -> dict[str, str]:
    """What one `pip install` names itself: distribution and version, '' where it gives none."""
    of_options = {i + 1 for i, word in enumerate(words) if word in ("-r", "-c", "--target")}
    plain = [word for i, word in enumerate(words) if i not in of_options and not word.startswith("-")]
    return {normal(name): version for name, _, version in (word.partition("==") for word in plain)}


def files_of(words: list[str], option: str, requirements: Path) -> list[Path]:
    """The requirement or constraint files of one `pip install`, where they are in the checkout."""
    return [requirements / Path(name).name for at, name in pairwise(words) if at == option]


def unpinned_packages(stages: list[Stage], requirements: Path, others: dict[str, str]) -> list[str]:
    """Packages of pip whose version is not that of `requirements`; `others` are known besides, and hold before them."""
    known, faults = pins(requirements) | others, []
    for words in pip_installs(stages):
        constraints = files_of(words, "-c", requirements)
        files = [*constraints, *files_of(words, "-r", requirements)]
        faults += [f"{path.name} is not in the checkout" for path in files if not path.is_file()]
        for name, version in named(words).items():
            if version and version != known.get(name):
                faults.append(f"{name}=={version}; the requirements say {known.get(name)}")
            elif not version and not (constraints and name in known):
                faults.append(f"{name} has no version")
    return faults


def installed_by_pip(stages: list[Stage], requirements: Path) -> set[str]:
    """Every distribution that is asked for, by name or in a file."""
    names = set()
    for words in pip_installs(stages):
        names |= set(named(words))
        for path in files_of(words, "-r", requirements):
            names |= {normal(match[1]) for line in path.read_text().splitlines() if (match := PIN.match(line.strip()))}
    return names


def installed_by_apt(stages: list[Stage]) -> set[str]:
    commands = [command for stage in stages for command in stage.commands]
    return {
        word.partition("=")[0]
        for words in commands
        if words[:2] == ["apt-get", "install"]
        for word in words[2:]
        if not word.startswith("-")
    }
