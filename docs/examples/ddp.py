"""DistributedDataParallel by Slurm's variables: rank, world size and place come from srun.

Without a GPU it takes CPUs over gloo: srun -n 2 python ddp.py
"""
import argparse
import os

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--epochs", type=int, default=1)
    epochs = options.parse_args().epochs
    rank, world = int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"])
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29400")
    gpu = torch.cuda.is_available()
    dist.init_process_group("nccl" if gpu else "gloo", rank=rank, world_size=world)
    # --gpu-bind=single:1 shows each task one GPU, and a MIG slice is one device too.
    device = torch.device("cuda:0" if gpu else "cpu")
    model = DistributedDataParallel(torch.nn.Linear(16, 1).to(device))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    torch.manual_seed(rank)
    for epoch in range(epochs):
        inputs = torch.randn(64, 16, device=device)
        loss = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        total = loss.detach().clone()
        dist.all_reduce(total)
        if rank == 0:
            print(f"epoch {epoch}: loss {total.item() / world:.4f} over {world} ranks on {device}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
