"""dask-jobqueue: a worker as a batch job, work through it, scaled down to nothing."""
import subprocess
import time

from dask.distributed import Client
from dask_jobqueue import SLURMCluster

if __name__ == "__main__":
    with SLURMCluster(
        cores=1, memory="500MB", processes=1, walltime="00:10:00", interface="lo", log_directory="logs"
    ) as cluster, Client(cluster) as client:
        cluster.scale(jobs=1)
        assert sum(client.gather(client.map(lambda x: x * x, range(10)))) == 285
    end = time.monotonic() + 60
    while subprocess.run(["squeue", "-h", "-n", "dask-worker"], capture_output=True, check=True).stdout:
        assert time.monotonic() < end, "waited 60 s for the worker's job to leave the queue"
        time.sleep(0.3)
    print("ten tasks by one worker")
