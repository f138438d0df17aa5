"""parsl: a pilot job that starts its workers by srun."""
import os

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.launchers import SrunLauncher
from parsl.providers import SlurmProvider


@python_app
def square(x):
    import os

    return x * x, os.environ["SLURM_JOB_ID"], os.environ["SLURM_STEP_ID"]


if __name__ == "__main__":
    provider = SlurmProvider(
        "main",
        nodes_per_block=1,
        cores_per_node=1,
        init_blocks=1,
        max_blocks=1,
        exclusive=False,
        walltime="00:05:00",
        launcher=SrunLauncher(),
        worker_init=f"export PATH={os.environ['PATH']}",
    )
    pilot = HighThroughputExecutor(label="pilot", address="127.0.0.1", max_workers_per_node=1, provider=provider)
    with parsl.load(Config(executors=[pilot], run_dir="runs")):
        answers = [square(i).result() for i in range(3)]
    assert [answer[0] for answer in answers] == [0, 1, 4], answers
    assert len({answer[1:] for answer in answers}) == 1, answers
    print("three calls in step 0 of one job")
