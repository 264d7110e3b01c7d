# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Hooks of the documentation's build: the order of the pages, and links into the checkout.

A page that nobody put in ORDER still appears, after the others. A page may link to a file of the checkout
(`../config/widowx.yaml`), as one reads it beside the code; on the site, where that file is not, the link becomes its
path. A link to a file that does not exist is a warning, and fails the build.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

ORDER = (
    "index.md",
    "quick_start.md",
    "robot_bringup.md",
    "presets.md",
    "simulators.md",
    "nodes.md",
    "method.md",
    "artifact.md",
    "performance.md",
    "results.md",
    "training.md",
    "reliability.md",
    "looking.md",
    "compare.md",
    "python.md",
)
API = "api/"

# [text](../path) or [text](../path#part), with the path in group 2
_LINK_OUT = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)(?:#[^)]*)?\)")
_log = logging.getLogger("mkdocs.hooks.site")


def pages_in_order(paths: list[str]) -> list[str]:
    """Pages as they shall appear, those of the API left out: ORDER first, then the others by name."""
    own = [path for path in paths if path.endswith(".md") and not path.startswith(API)]
    return sorted(own, key=lambda path: (ORDER.index(path) if path in ORDER else len(ORDER), path))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    paths = [file.src_uri for file in files.documentation_pages()]
    config.nav = [*pages_in_order(paths), {"API": sorted(path for path in paths if path.startswith(API))}]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = Path(page.file.abs_src_path).parent
    docs, checkout = Path(config.docs_dir), Path(config.config_file_path).parent

    def replaced(link: re.Match[str]) -> str:
        target = (here / link[2]).resolve()
        if target.is_relative_to(docs):
            return link[0]
        if not target.exists():
            _log.warning("%s links to '%s', which is not in the checkout", page.file.src_uri, link[2])
            return link[0]
        path = f"`{target.relative_to(checkout)}`"
        return path if link[1].strip("`") in str(target) else f"{link[1]} ({path})"

    return _LINK_OUT.sub(replaced, markdown)
