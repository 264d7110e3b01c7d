# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Installs the ROS 2 package: Python modules from src/, launch files and configuration into
share/sqap_vla.
"""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "sqap_vla"


def files(directory: str, *patterns: str) -> list[str]:
    """Files of the checkout below a top-level directory, as paths relative to this file."""
    return sorted(str(path) for pattern in patterns for path in Path(directory).glob(pattern) if path.is_file())


def data_of_package() -> list[str]:
    """Everything below src/ that is no Python (the simulator's scene, for one), relative to the package."""
    root = Path("src") / PACKAGE
    paths = (path for path in root.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc"))
    return sorted(str(path.relative_to(root)) for path in paths)


setup(
    name=PACKAGE,
    version="0.1.0",
    description="On-robot deployment of CogACT vision-language-action policies compressed with SQAP",
    license="Apache-2.0",
    author="The sqap_vla Authors",
    python_requires=">=3.10",
    package_dir={"": "src"},
    packages=find_packages("src"),
    package_data={PACKAGE: data_of_package()},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", files("launch", "*.launch.py")),
        (f"share/{PACKAGE}/config", files("config", "*")),
    ],
    install_requires=["setuptools"],
    extras_require={"test": ["pytest"], "ray": ["ray>=2.9"], "rerun": ["rerun-sdk"]},
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "sqap-vla = sqap_vla.cli:main",
            "policy_node = sqap_vla.nodes.policy:main",
            "model_loader_node = sqap_vla.nodes.model_loader:main",
            "diagnostics_node = sqap_vla.nodes.diagnostics:main",
            "tabletop_node = sqap_vla.nodes.tabletop:main",
            "simpler_bridge_node = sqap_vla.nodes.simpler_bridge:main",
            "gazebo_arm_node = sqap_vla.nodes.gazebo_arm:main",
        ]
    },
)
