"""PSI/J: a job of two tasks by srun, one that fails, one that is cancelled."""
import pathlib
from datetime import timedelta

from psij import Job, JobAttributes, JobExecutor, JobSpec, JobState, ResourceSpecV1
from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutorConfig

LIMIT = timedelta(seconds=120)
executor = JobExecutor.get_instance(
    "slurm", config=BatchSchedulerExecutorConfig(queue_polling_interval=2, initial_queue_polling_delay=1)
)


def submit(program, *arguments):
    folder = pathlib.Path.cwd()
    job = Job(
        JobSpec(
            executable=program,
            arguments=list(arguments),
            stdout_path=folder / "out",
            stderr_path=folder / "err",
            resources=ResourceSpecV1(process_count=2),
            attributes=JobAttributes(duration=timedelta(minutes=3)),
            launcher="srun",
        )
    )
    executor.submit(job)
    return job


assert submit("/bin/echo", "hello").wait(timeout=LIMIT).state is JobState.COMPLETED
assert pathlib.Path("out").read_text().split() == ["hello", "hello"]
assert submit("/bin/false").wait(timeout=LIMIT).state is JobState.FAILED
sleeper = submit("/bin/sleep", "300")
sleeper.wait(target_states=[JobState.ACTIVE], timeout=LIMIT)
sleeper.cancel()
assert sleeper.wait(timeout=LIMIT).state is JobState.CANCELED
print("completed, failed and cancelled")
