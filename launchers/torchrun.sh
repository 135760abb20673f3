#!/usr/bin/env bash
# shardtune launch RECIPE --to torchrun
# The same on every node: {{ nodes | plain }}, {{ job.processes }} processes on each.
{% include "_begin.sh" %}
{% if static %}
: "${NODE_RANK:?set it to the number of this node, from 0}"
{% endif %}
output={{ job.output }}
{% include "_mark.sh" %}
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=300  # seconds to save in
{% if not static %}
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1  # which would listen on every interface
{% endif %}
{{ job.limit() }} {{ job.inside() }} {{ job.module(runner) }} \
  --nnodes={{ nodes | plain }} --nproc-per-node={{ job.processes }} --max-restarts={{ restarts }} \
{% if static %}
  --rdzv-backend=static --node-rank="$NODE_RANK" --master-addr={{ address }} --master-port={{ port }} \
{% else %}
  --rdzv-backend={{ backend }} --rdzv-id={{ job.name }} --rdzv-endpoint={{ address }}:{{ port }} \
  --rdzv-conf=join_timeout={{ launch.patience }} \
{% endif %}
  -m trainer.worker {{ job.recipe }} {{ job.settings }} &
{% include "_wait.sh" %}
{% include "_settle.sh" %}
exit "$status"
