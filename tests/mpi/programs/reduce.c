/* A reduction over all ranks. With an argument: rank 1 ends in that way before it, or all wait for a file first
   (wait:FILE), or meet in barriers until it is there (turn:FILE). */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
  int rank, size, sum = 0;
  const char *how = argc > 1 ? argv[1] : "";
  if (strcmp(how, "early") == 0 && strcmp(getenv("SLURM_PROCID"), "1") == 0) return 7;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (strcmp(how, "abort") == 0) {
    if (rank == 1) MPI_Abort(MPI_COMM_WORLD, 5);
    for (;;) pause();
  }
  if (strncmp(how, "wait:", 5) == 0) {
    /* Says that it is there, and waits for a file. */
    char mark[4096];
    snprintf(mark, sizeof mark, "%s.%d", how + 5, rank);
    fclose(fopen(mark, "w"));
    while (access(how + 5, F_OK) != 0) usleep(20000);
  }
  if (strncmp(how, "turn:", 5) == 0) {
    /* Rank 0 decides for all, so that all leave after the same barrier. */
    char mark[4096];
    int over = 0, turns = 0;
    snprintf(mark, sizeof mark, "%s.%d", how + 5, rank);
    while (!over) {
      MPI_Barrier(MPI_COMM_WORLD);
      if (++turns == 3) fclose(fopen(mark, "w"));
      if (rank == 0) over = turns > 3 && access(how + 5, F_OK) == 0;
      MPI_Bcast(&over, 1, MPI_INT, 0, MPI_COMM_WORLD);
      usleep(5000);
    }
  }
  MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  printf("rank %d of %d: sum %d\n", rank, size, sum);
  fflush(stdout);
  MPI_Finalize();
  return 0;
}
