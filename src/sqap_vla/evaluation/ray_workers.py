# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes on a Ray cluster: an actor for each worker, with a simulator and a policy of its own.

RAY_ADDRESS names a running cluster; without it Ray starts on this machine, for as long as the run. Every machine of a
cluster needs this package and the checkpoint under the same path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from sqap_vla.evaluation.closed_loop import EpisodeResult
from sqap_vla.evaluation.evaluate import EpisodeRunner, Evaluation


def ray_episodes(question: Evaluation, seeds: Sequence[int], workers: int) -> Iterator[EpisodeResult]:
    """In the order in which they end. Raises RuntimeError where Ray is missing or a worker dies, and what an episode
    raises."""
    if not seeds:
        return
    try:
        import ray
    except ImportError as error:
        raise RuntimeError("--engine ray needs the package ray: pip install 'sqap_vla[ray]'") from error
    address = os.environ.get("RAY_ADDRESS")
    ray.init(address, **({} if address else {"num_cpus": workers, "include_dashboard": False}), log_to_driver=False)
    try:
        runner = ray.remote(num_cpus=1)(EpisodeRunner)
        idle = [runner.remote(question) for _ in range(min(workers, len(seeds)))]
        left, running, death = list(reversed(seeds)), {}, None
        while running or (left and death is None):
            while left and idle and death is None:
                actor = idle.pop()
                running[actor.run.remote(left.pop())] = actor
            (done, *_), _ = ray.wait(list(running))
            actor = running.pop(done)
            try:
                result = ray.get(done)
            except ray.exceptions.RayActorError as error:
                death = error  # the others finish what they are at, and then it ends
                continue
            idle.append(actor)
            yield result
        if death is not None:
            raise RuntimeError(f"a Ray worker has died; finished episodes stay, start again: {death}") from death
    finally:
        ray.shutdown()
