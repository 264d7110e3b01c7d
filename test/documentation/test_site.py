# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The documentation builds without a warning, every page can be reached, and no link leads nowhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
HREF = re.compile(r'<a [^>]*href="([^"#]+?\.html)(?:#[^"]*)?"')


def build(config: Path, site: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config)]
    return subprocess.run([*command, "--site-dir", str(site)], cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("site")
    result = build(ROOT / "mkdocs.yml", path)
    assert result.returncode == 0, f"mkdocs refuses the documentation:\n{result.stdout}{result.stderr}"
    return path


def test_every_page_is_in_the_navigation(site: Path) -> None:
    navigation = set(HREF.findall((site / "index.html").read_text()))
    pages = {str(path.relative_to(DOCS).with_suffix(".html")) for path in DOCS.rglob("*.md")}
    assert pages <= navigation | {"index.html"}


@pytest.mark.parametrize(
    ("page", "name", "argument", "words"),
    [
        ("runtime", "sqap_vla.runtime.controller.ChunkController", "", "Plays the newest chunk"),
        ("evaluation", "sqap_vla.evaluation.bag.BagReader", "topics", "An open bag"),
        ("nodes", "sqap_vla.nodes.conversions.camera_from_info", "rectified", "Intrinsics of the image"),
        ("nodes", "sqap_vla.nodes.policy.PolicyNode", "", "Raises ParameterError"),
    ],
)
def test_pages_of_the_api_hold_signatures_and_docstrings(
    site: Path, page: str, name: str, argument: str, words: str
) -> None:
    text = (site / "api" / f"{page}.html").read_text()
    assert f'id="{name}"' in text
    entry = re.sub(r"<[^>]+>", "", text.split(f'id="{name}"')[1][:8000])
    assert argument in entry
    assert words in entry


def small_site(tmp_path: Path, text: str) -> Path:
    """A checkout of one page, with the hooks of the real one. Returns its configuration."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Page\n\n{text}\n")
    (tmp_path / "config.yaml").touch()
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"site_name: test\ntheme: mkdocs\nhooks: [{DOCS / 'hooks' / 'site.py'}]\n")
    return config


def test_a_link_into_the_checkout_becomes_its_path(tmp_path: Path) -> None:
    result = build(small_site(tmp_path, "See [the preset](../config.yaml)."), tmp_path / "site")
    assert result.returncode == 0, result.stderr
    assert "See the preset (<code>config.yaml</code>)." in (tmp_path / "site" / "index.html").read_text()


@pytest.mark.parametrize("link", ["../nothing.yaml", "nothing.md"])
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path, link: str) -> None:
    result = build(small_site(tmp_path, f"See [this]({link})."), tmp_path / "site")
    assert result.returncode != 0
    assert link in result.stderr
