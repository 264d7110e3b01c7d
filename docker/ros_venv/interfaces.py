# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Build a ROS 2 interface package into a venv with the wheels' own rosidl generators and a C/C++ compiler.

Runs in the venv's interpreter, since it imports rosidl. An interface package is five shared libraries and
three Python extensions (the names are fixed by rosidl, which opens them by package name):

    lib<pkg>__rosidl_generator_c.so                  message structs and functions, type hash and description
    lib<pkg>__rosidl_typesupport_fastrtps_c.so       CDR (de)serialization, used by rmw_fastrtps_cpp
    lib<pkg>__rosidl_typesupport_introspection_c.so  field tables
    lib<pkg>__rosidl_typesupport_c.so                opens one of the two above at run time
    lib<pkg>__rosidl_generator_py.so                 Python object <-> C struct
    <pkg>/<pkg>_s__rosidl_typesupport_*.so           the extensions that rclpy imports

C++ message structs are left out: nothing in a venv compiles against them.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ros_venv.ament import register_package, register_resource
from ros_venv.toolchain import Toolchain

TYPESUPPORTS = ("rosidl_typesupport_fastrtps_c", "rosidl_typesupport_introspection_c")


def _rosidl(package: str, extension: str):
    """The command-line extension class of a rosidl package: its public way to be called outside CMake."""
    return getattr(importlib.import_module(f"{package}.cli"), extension)


def generate(package: str, source: Path, includes: list[str], output: Path) -> None:
    """Write the sources of every message in `source`/msg below `output`, one include root per role.

    `includes`: share directories of the packages whose messages are used.
    Result: `output`/{idl,c,fastrtps_c,introspection_c,typesupport_c,python}/`package`.
    """
    root = {
        role: output / role / package
        for role in ("idl", "c", "fastrtps_c", "introspection_c", "typesupport_c", "python")
    }
    messages = [f"{source}:msg/{path.name}" for path in sorted((source / "msg").glob("*.msg"))]
    idl = _rosidl("rosidl_adapter", "TranslateMsgToIDL")("msg2idl").translate(
        package, messages, includes, output_path=root["idl"]
    )
    descriptions = _rosidl("rosidl_generator_type_description", "HashTypeDescription")(
        "type_description"
    ).generate_type_hashes(package, idl, includes, output_path=root["idl"])
    _rosidl("rosidl_generator_c", "GenerateC")("c").generate(
        package,
        idl,
        includes,
        output_path=root["c"],
        type_description_files=[str(path) for path in descriptions],
    )
    typesupports = {
        "fastrtps_c": _rosidl("rosidl_typesupport_fastrtps_c", "GenerateFastRTPSCTypesupport")("fastrtps_c"),
        "introspection_c": _rosidl("rosidl_typesupport_introspection_c", "GenerateIntrospectionCTypesupport")(
            "introspection_c"
        ),
        "typesupport_c": _rosidl("rosidl_typesupport_c", "GenerateCTypesupport")(
            "c", typesupport_implementations=list(TYPESUPPORTS)
        ),
        "python": _rosidl("rosidl_generator_py", "GeneratePython")(
            "py", typesupport_implementations=["rosidl_typesupport_c", *TYPESUPPORTS]
        ),
    }
    for role, generator in typesupports.items():
        generator.generate(package, idl, includes, output_path=root[role])
    (root["python"] / "__init__.py").touch()


def compile_package(package: str, dependencies: tuple[str, ...], output: Path, prefix: Path, site: Path) -> None:
    """Compile what `generate` wrote into `prefix`/lib and `site`/`package`."""
    tools = Toolchain(prefix, output)

    def sources(role: str, pattern: str) -> list[Path]:
        return sorted((output / role / package).rglob(pattern))

    def build(kind: str, files: list[Path], *libraries: str) -> None:
        # Beside its own libraries each links the same kind of its dependencies: geometry_msgs__<kind> ...
        peers = [f"{name}__{kind}" for name in dependencies]
        tools.link(prefix / "lib" / f"lib{package}__{kind}.so", files, [*libraries, *peers, *runtime])

    runtime = ("rosidl_runtime_c", "rcutils")
    own = f"{package}__rosidl_generator_c"
    structs = (own, *(f"{name}__rosidl_generator_c" for name in dependencies))
    build("rosidl_generator_c", sources("c", "*.c"))
    with ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(
                build,
                "rosidl_typesupport_fastrtps_c",
                sources("fastrtps_c", "*.cpp"),
                *structs,
                "rmw",
                "rosidl_typesupport_fastrtps_c",
                "rosidl_typesupport_fastrtps_cpp",
                "fastcdr",
            ),
            pool.submit(
                build,
                "rosidl_typesupport_introspection_c",
                sources("introspection_c", "*.c"),
                *structs,
                "rosidl_typesupport_introspection_c",
            ),
            pool.submit(
                build,
                "rosidl_typesupport_c",
                sources("typesupport_c", "*.cpp"),
                *structs,
                "rosidl_typesupport_c",
            ),
        ]
        for job in jobs:
            job.result()
    build("rosidl_generator_py", sources("python", "*_s.c"), f"{package}__rosidl_typesupport_c", *structs)
    shutil.copytree(
        output / "python" / package, site / package, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.c")
    )
    for typesupport in ("rosidl_typesupport_c", *TYPESUPPORTS):
        libraries = [
            f"{package}__rosidl_generator_py",
            f"{package}__{typesupport}",
            f"{package}__rosidl_typesupport_c",
            *structs,
            "rmw",
            *runtime,
        ]
        tools.link(
            site / package / f"{package}_s__{typesupport}.so",
            sources("python", f"*.ep.{typesupport}.c"),
            libraries,
        )


def install_interfaces(package: str, source: Path, dependencies: tuple[str, ...], prefix: Path, site: Path) -> None:
    """Generate, compile and install an interface package and register it in the prefix's ament index."""
    includes = [str(prefix / "share" / name) for name in dependencies]
    with tempfile.TemporaryDirectory(prefix=f"{package}-") as directory:
        output = Path(directory)
        generate(package, source, includes, output)
        compile_package(package, dependencies, output, prefix, site)
        shutil.copytree(source / "msg", prefix / "share" / package / "msg", dirs_exist_ok=True)
        shutil.copytree(output / "idl" / package / "msg", prefix / "share" / package / "msg", dirs_exist_ok=True)
        headers = shutil.ignore_patterns("*.c", "*.cpp")
        for role in ("c", "fastrtps_c", "introspection_c"):
            shutil.copytree(
                output / role / package,
                prefix / "include" / package / package,
                dirs_exist_ok=True,
                ignore=headers,
            )
    files = sorted(
        f"msg/{path.name}" for path in (prefix / "share" / package / "msg").iterdir() if path.suffix in (".idl", ".msg")
    )
    register_package(prefix, package, source / "package.xml")
    register_resource(prefix, "rosidl_interfaces", package, "\n".join(files))


def main() -> None:
    """Install the interface package SOURCE into PREFIX (run by the builder, in the venv's interpreter)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("source", type=Path, help="directory with package.xml and msg/")
    parser.add_argument("prefix", type=Path, help="the venv")
    parser.add_argument("dependencies", nargs="+", help="packages whose messages are used, with theirs")
    arguments = parser.parse_args()
    install_interfaces(
        arguments.source.name,
        arguments.source.resolve(),
        tuple(arguments.dependencies),
        arguments.prefix.resolve(),
        Path(sysconfig.get_path("purelib")),
    )


if __name__ == "__main__":
    main()
