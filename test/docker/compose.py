# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Reads a compose file as Docker Compose does, as far as these need it: `extends`, and variables with a default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def services(path: Path) -> dict[str, dict[str, Any]]:
    """Every service of the file, with what it extends below it; variables in their defaults."""
    result = {}
    for name, service in _load(path)["services"].items():
        above = service.pop("extends", None)
        if above:
            base = services(path.parent / above["file"])[above["service"]]
            service = _merged(base, service)
        result[name] = service
    return result


def volumes(path: Path) -> set[str]:
    return set(_load(path).get("volumes", {}))


def variables(path: Path) -> dict[str, str]:
    """The variables that a compose file takes from the environment, with their defaults."""
    return dict(VARIABLE.findall(path.read_text(encoding="utf-8")))


def _load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(VARIABLE.sub(lambda match: match[2], path.read_text(encoding="utf-8")))


def _merged(below: Any, above: Any) -> Any:
    """Mappings are joined, lists appended, anything else replaced; a command is one thing and replaced."""
    if isinstance(below, dict) and isinstance(above, dict):
        joined = {key: _merged(below[key], above[key]) for key in below.keys() & above.keys()}
        joined |= {key: above[key] for key in ("command", "entrypoint") if key in above}
        return below | above | joined
    return below + above if isinstance(below, list) and isinstance(above, list) else above
