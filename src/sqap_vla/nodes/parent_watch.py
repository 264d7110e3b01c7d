# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A node that another program started ends with it, however that one ends, kill -9 included.

The parent keeps the write end of a pipe and hands the read end down; the kernel closes the write end when the parent
dies. Other than PR_SET_PDEATHSIG, this does not hang on the thread that started the node, and is not lost in an exec.
"""

from __future__ import annotations

import os
import signal
import threading

PIPE_VARIABLE = "SQAP_VLA_PARENT_PIPE"


class ParentPipe:
    """The parent's side. `child_fd` is for Popen's pass_fds, `environment` for its env; `started` once it runs."""

    def __init__(self) -> None:
        self.child_fd, parent_fd = os.pipe()
        self._parent_end = os.fdopen(parent_fd, "wb")
        self.environment = {PIPE_VARIABLE: str(self.child_fd)}

    def started(self) -> None:
        os.close(self.child_fd)

    def close(self) -> None:
        """The child ends, if it has not yet. May be called again."""
        self._parent_end.close()


def end_with_parent() -> None:
    """Where the environment names such a pipe: SIGTERM to this process as soon as its other end is closed."""
    given = os.environ.pop(PIPE_VARIABLE, None)
    if given is None:
        return

    def watch() -> None:
        os.read(int(given), 1)  # nobody writes: it returns when the last write end is gone
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent_watch", daemon=True).start()
