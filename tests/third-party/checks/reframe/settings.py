def partition(name, scheduler):
    return {
        "name": name,
        "scheduler": scheduler,
        "launcher": "srun",
        "environs": ["plain"],
        "access": ["-p main"],
    }


site_configuration = {
    "systems": [
        {
            "name": "here",
            "hostnames": [".*"],
            "partitions": [partition("by_sacct", "slurm"), partition("by_squeue", "squeue")],
        }
    ],
    "environments": [{"name": "plain"}],
}
