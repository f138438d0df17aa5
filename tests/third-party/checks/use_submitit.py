"""submitit: a function as a job, an array, a failing one, a cancelled one, several tasks."""
import os
import time

import submitit


def add(a, b):
    assert os.environ["SLURM_JOB_ID"].isdigit()
    return a + b


def fail():
    raise ValueError("as intended")


def until(what, reached, limit=60):
    end = time.monotonic() + limit
    while not reached():
        assert time.monotonic() < end, f"waited {limit} s for {what}"
        time.sleep(0.3)


executor = submitit.SlurmExecutor(folder="logs")
executor.update_parameters(time=5, nodes=1, cpus_per_task=1, mem="200MB", job_name="one")
assert executor.submit(add, 1, 2).result() == 3
jobs = executor.map_array(add, [1, 2, 3], [4, 5, 6])
assert [job.result() for job in jobs] == [5, 7, 9]
assert len({job.job_id.split("_")[0] for job in jobs}) == 1
try:
    executor.submit(fail).result()
    raise SystemExit("a failing function returned")
except submitit.core.utils.FailedJobError as error:
    assert "as intended" in str(error)
sleeper = executor.submit(time.sleep, 300)
until("the sleeper to run", lambda: sleeper.watcher.get_state(sleeper.job_id, mode="force") == "RUNNING")
sleeper.cancel()
until("its end", lambda: sleeper.watcher.get_state(sleeper.job_id, mode="force").startswith("CANCELLED"))
several = submitit.AutoExecutor(folder="logs")
several.update_parameters(timeout_min=2, tasks_per_node=2, nodes=1, slurm_setup=["echo set up"])
assert several.submit(add, 5, 6).results() == [11, 11]
print("five kinds of job")
