# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`PYTHON .../sqap_vla/simpler --socket PATH`: serves SIMPLER. PYTHON is the interpreter SIMPLER is installed for.

The directory is loaded as a package of its own, so that neither sqap_vla nor its other packages are importable there.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NAME = "sqap_vla_simpler"


def load_server() -> type:
    """The class Server, from this directory under a name of its own."""
    if sys.path[0] == str(HERE):
        del sys.path[0]  # its modules must not shadow others
    spec = importlib.util.spec_from_file_location(NAME, HERE / "__init__.py", submodule_search_locations=[str(HERE)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    return importlib.import_module(f"{NAME}.server").Server


def options(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"it is '{text}'; it must be a JSON object: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"it is '{text}'; it must be a JSON object")
    return value


def stop(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(prog="simpler", description="Serves SIMPLER on a Unix socket.")
    parser.add_argument("--socket", type=Path, required=True, help="path of the socket")
    parser.add_argument(
        "--make-options",
        type=options,
        default={},
        metavar="JSON",
        help='further arguments of simpler_env.make, such as {"shader_dir": "ibl"}',
    )
    parser.add_argument("--once", action="store_true", help="end with the first client")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="[simpler] %(message)s")
    signal.signal(signal.SIGTERM, stop)
    try:
        import simpler_env
    except ImportError as error:
        parser.exit(
            1, f"simpler: {error}; install SimplerEnv for {sys.executable}, or use the interpreter that has it\n"
        )
    try:
        server = load_server()(simpler_env, arguments.socket, arguments.make_options)
    except OSError as error:
        parser.exit(1, f"simpler: {error}\n")
    try:
        server.serve(arguments.once)
    except KeyboardInterrupt:
        return 0
    finally:
        server.close()


if __name__ == "__main__":
    sys.exit(main())
