# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Services with which an operator lets commands through or holds them back. Inference goes on meanwhile.

~/enable      SetBool: false holds commands back until true
~/stop        Trigger: holds them back until ~/reset_stop, whatever ~/enable says; survives deactivation
~/reset_stop  Trigger: ends the stop
"""

from __future__ import annotations

from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

DISABLED = "disabled"
STOPPED = "stopped_by_operator"


class CommandGate:
    def __init__(self, node: Node) -> None:
        self._enabled = True
        self._stopped = False
        self._logger = node.get_logger()
        node.create_service(SetBool, "~/enable", self._on_enable)
        node.create_service(Trigger, "~/stop", self._on_stop)
        node.create_service(Trigger, "~/reset_stop", self._on_reset_stop)

    @property
    def closed(self) -> str:
        """Why commands are held back; '' where they are not."""
        return STOPPED if self._stopped else "" if self._enabled else DISABLED

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        response.success, response.message = True, self._tell()
        return response

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._stopped = True
        response.success, response.message = True, self._tell()
        return response

    def _on_reset_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._stopped = False
        response.success, response.message = True, self._tell()
        return response

    def _tell(self) -> str:
        text = f"commands are held back: {self.closed}" if self.closed else "commands are let through"
        self._logger.info(text)
        return text
