#!/usr/bin/env bash
# shardtune launch RECIPE --to ray
# A Ray Train job: one worker on each node of the cluster, which starts and watches the processes there.
set -o pipefail
cd -- {{ job.folder }} || exit 2
work="$(mktemp -d)" || exit 2
trap 'rm -rf -- "$work"' EXIT
printf '%s' {{ facts }} > "$work/job.json"
ray job submit --no-wait --address {{ launch.ray.cluster }} --submission-id {{ job.name }}-"$(date +%s)" \
  --working-dir "$work" --runtime-env-json {{ environment }} -- {{ job.python }} -m trainer.ray_job job.json
