# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`sqap-vla demo`: simulated tabletop, model loader, policy and diagnostics as four processes, watched by this one.

The policy is the trained CogACT-Mini that comes with the package, compressed by the loader. A video of what it saw and
kept, and a report of how fast it was, stay in --out.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path

import rclpy
from lifecycle_msgs.msg import Transition

from sqap_vla.evaluation.recorder import ReplayRecorder
from sqap_vla.evaluation.summary import RunInfo
from sqap_vla.nodes.demo_screen import Screen
from sqap_vla.nodes.demo_watch import Watch
from sqap_vla.nodes.node_process import NodeProcess
from sqap_vla.nodes.parameter_files import build, read_parameter_file
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.spinning import spin_until
from sqap_vla.nodes.tabletop_loop import CONFIG, keep_to_this_machine, start_loop, start_node
from sqap_vla.runtime.method import make_method
from sqap_vla.training.shipped import SHIPPED_POLICY

SCREEN_PERIOD_S = 0.5
NOTE = "CogACT-Mini, trained on the tabletop's four tasks; it does not succeed every time (docs/results.md)."


def run(args: Namespace) -> int:
    """Runs for args.seconds or until Ctrl-C. Returns the exit status: 0 where chunks came and every node ended well."""
    keep_to_this_machine()
    out: Path = args.out
    policy = build(
        PolicyParameters,
        read_parameter_file(CONFIG, "policy") | {"method": args.method, "seed": args.seed},
        str(CONFIG),
    )
    info = RunInfo(
        bag="the built-in tabletop",
        checkpoint=SHIPPED_POLICY.name,
        method=args.method,
        seed=args.seed,
        step_s=policy.step_s,
        gripper_kind=policy.gripper,
        mode="live",
        precision=str(policy.make_method().recipe or ""),
        note=NOTE,
    )
    screen = Screen(sys.stdout)
    screen.line(f"sqap-vla demo: {NOTE}")
    screen.line("starting simulator, loader, policy and diagnostics: ten seconds or so")
    rclpy.init(signal_handler_options=rclpy.SignalHandlerOptions.NO)
    try:
        with ExitStack() as stack:
            recorder = stack.enter_context(ReplayRecorder(out, info))
            watch = Watch(recorder)
            stack.callback(watch.destroy_node)
            nodes = start_nodes(stack, args, watch)
            try:
                follow(watch, nodes, screen, args.seconds)
            except KeyboardInterrupt:
                screen.line("stopping")
            summary = recorder.finish(episodes=watch.successes())
            statuses = {node.name: node.stop() for node in reversed(nodes)}
    finally:
        rclpy.try_shutdown()
    bad = {name: status for name, status in statuses.items() if status}
    screen.line(f"{summary['frames']} chunks; episodes: {summary['episodes']}; video and report: {out / 'report.md'}")
    if bad:
        screen.line(
            "ended badly: "
            + ", ".join(f"{name} ({status})" for name, status in bad.items())
            + f"; see the logs in {out}"
        )
    return 0 if summary["frames"] and not bad else 1


def start_nodes(stack: ExitStack, args: Namespace, watch: Watch) -> list[NodeProcess]:
    """The four nodes, active. Raises NodeFailed."""
    out: Path = args.out
    tabletop, loader, policy = start_loop(
        stack,
        out,
        make_method(args.method),
        tabletop={"instruction": args.instruction, "family": args.family, "seed": args.seed},
        loader={"checkpoint": str(SHIPPED_POLICY), "artifact_dir": str(out / "model" / "artifact")},
        policy={"method": args.method, "seed": args.seed},
    )
    diagnostics = start_node(stack, out, "diagnostics", {})
    configure, activate = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
    loader.transition(watch, configure, activate)
    policy.transition(watch, configure, activate)
    diagnostics.transition(watch, configure, activate)
    return [tabletop, loader, policy, diagnostics]


def follow(watch: Watch, nodes: list[NodeProcess], screen: Screen, seconds: float) -> None:
    """Shows the status until the time is over. Raises RuntimeError where a node dies."""
    start_s = time.monotonic()
    while (elapsed_s := time.monotonic() - start_s) < seconds:
        spin_until(watch, lambda: False, min(SCREEN_PERIOD_S, seconds - elapsed_s))
        dead = [node.name for node in nodes if not node.alive]
        if dead:
            raise RuntimeError(f"{', '.join(dead)} ended; its log is in the output directory")
        screen.show(watch.lines(elapsed_s, seconds))
