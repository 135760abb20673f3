#!/usr/bin/env bash
# shardtune launch RECIPE --to mpi
# For Open MPI: one process on each node, which starts and watches those of the run.
{% include "_begin.sh" %}
output={{ job.output }}
{% include "_mark.sh" %}
{{ job.limit() }} mpirun -np {{ launch.nodes }}{% if hosts %} --hostfile {{ hosts }}{% endif %} --map-by ppr:1:node --bind-to none \
  --mca odls_base_sigkill_timeout 300{% for name in job.variables %} -x {{ name }}{% endfor %} \
  {{ job.train(limited=False) }} \
  --node OMPI_COMM_WORLD_RANK,PMIX_RANK,PMI_RANK --address {{ address }} &
{% include "_wait.sh" %}
{% include "_settle.sh" %}
exit "$status"
