/* PMI-2 as Slurm's own client library speaks it: ranks pass a token round by what they put and get. */
#include <slurm/pmi2.h>
#include <stdio.h>
#include <string.h>

#define MUST(call)                                                                     \
  do {                                                                                 \
    int result = (call);                                                               \
    if (result != PMI2_SUCCESS) { printf("%s: %d\n", #call, result); return 1; }       \
  } while (0)

int main(void) {
  int spawned, size, rank, appnum, found, length;
  char job[256], key[64], value[1024], mapping[1024], node[1024];
  MUST(PMI2_Init(&spawned, &size, &rank, &appnum));
  MUST(PMI2_Job_GetId(job, sizeof job));
  MUST(PMI2_Info_GetJobAttr("PMI_process_mapping", mapping, sizeof mapping, &found));
  snprintf(key, sizeof key, "card-%d", rank);
  snprintf(value, sizeof value, "rank=%d; with a semicolon", rank);
  MUST(PMI2_KVS_Put(key, value));
  snprintf(node, sizeof node, "seen-%d", rank);
  MUST(PMI2_Info_PutNodeAttr(node, "here"));
  MUST(PMI2_Info_GetNodeAttr(node, value, sizeof value, &found, 1));
  for (int round = 0; round < 3; round++) MUST(PMI2_KVS_Fence());
  snprintf(key, sizeof key, "card-%d", (rank + 1) % size);
  MUST(PMI2_KVS_Get(job, PMI2_ID_NULL, key, value, sizeof value, &length));
  printf("%d of %d in %s: %s, %s\n", rank, size, strchr(job, '.') ? "a step" : job, value, mapping);
  MUST(PMI2_Finalize());
  return 0;
}
