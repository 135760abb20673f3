"""A Ray Train job: `python -m trainer.ray_job job.json` on the cluster, one worker on each node.

Ray places the workers and ends all of them when one fails; each starts the processes of its node as any other launcher
does.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from trainer.environment import with_secrets


def main() -> int:
    """Runs the job; the exit status."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    ray.init()
    asked = {"CPU": 1.0} | ({"GPU": float(job["gpus"])} if job["gpus"] else {})
    scaling = ScalingConfig(
        num_workers=job["nodes"],
        use_gpu=bool(job["gpus"]),
        resources_per_worker=asked,
        placement_strategy="STRICT_SPREAD" if job["nodes"] > 1 else "PACK",
    )
    run = RunConfig(failure_config=FailureConfig(max_failures=0))
    # Its own group is for the workers' address alone; the processes of the run have theirs.
    group = TorchConfig(backend="gloo")
    TorchTrainer(node, train_loop_config=job, torch_config=group, scaling_config=scaling, run_config=run).fit()
    return 0


def node(job: dict[str, Any]) -> None:
    """The part of one node; RuntimeError with the exit status where it fails."""
    import ray
    from ray.train import get_context
    from ray.train.collective import broadcast_from_rank_zero

    address = broadcast_from_rank_zero(ray.util.get_node_ip_address())
    with tempfile.TemporaryDirectory() as scratch:
        recipe = Path(scratch) / "recipe.yaml"
        recipe.write_text(job["recipe"], encoding="utf-8")
        command = [
            *job["limit"],
            *(sys.executable, "-m", "trainer", "train", str(recipe), f"launch.port={job['port']}"),
            *("--node", str(get_context().get_world_rank()), "--address", address),
        ]
        status = subprocess.run(command, env=with_secrets(job["secrets"]), check=False).returncode
    if status:
        raise RuntimeError(f"the node ended with exit status {status}; its own words stand above")


if __name__ == "__main__":
    sys.exit(main())
