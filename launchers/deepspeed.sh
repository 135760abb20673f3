#!/usr/bin/env bash
# shardtune launch RECIPE --to deepspeed
{% include "_begin.sh" %}
output={{ job.output }}
{% include "_mark.sh" %}
{% if hosts %}
mapfile -t hosts < <(sed -e 's/#.*//' -- {{ hosts }} | awk '{ print $1 }' | grep -vxF -e ''{% for host in launch.exclude %} -e {{ host }}{% endfor %})
hosts=("${hosts[@]:0:{{ launch.nodes }}}")
[ "{{ "${#hosts[@]}" | plain }}" -eq {{ launch.nodes }} ] || { echo "launch.hosts names {{ "${#hosts[@]}" | plain }} hosts, {{ launch.nodes }} are needed" >&2; exit 2; }
{% else %}
hosts=(localhost)
{% endif %}
address={% if launch.address %}{{ launch.address }}{% elif hosts %}"${hosts[0]}"{% else %}127.0.0.1{% endif %}

{% if ssh %}
# One connection a host, with the user's own configuration of ssh; the host stops when its connection ends.
# shellcheck disable=SC2329  # it runs on the hosts
node() {
{% include "_begin.sh" %}
  {{ job.train() }} --node "$1" --address "$2" < /dev/null &
  child=$!
  { cat > /dev/null; kill -TERM "$child" 2> /dev/null; } <&0 &
  wait "$child"
}
files="$(mktemp -d)" || exit 2
trap 'rm -rf -- "$files"' EXIT
sessions=() feeders=()
for index in "${!hosts[@]}"; do
  mkfifo "$files/$index" || exit 2
  (
    trap '' TERM INT HUP # the host is told to stop, and the connection stays until it has saved
    exec ssh -- "${hosts[$index]}" bash
  ) < "$files/$index" &
  sessions+=($!)
  { declare -f node; printf 'node %q %q; exit\n' "$index" "$address"; exec sleep infinity; } > "$files/$index" &
  feeders+=($!)
done
stop() { kill "${feeders[@]}" 2> /dev/null; }
trap stop TERM INT HUP
status=0
for session in "${sessions[@]}"; do
  while kill -0 "$session" 2> /dev/null; do
    wait "$session"
    ended=$?
  done
  if [ "$ended" -ne 0 ]; then
    status=$ended
    stop
  fi
done
stop
{% else %}
files="$(mktemp -d)" || exit 2
trap 'rm -rf -- "$files"' EXIT
printf '%s slots={{ job.processes }}\n' "${hosts[@]}" > "$files/hosts"
{% if passed %}
printf '%s\n' {{ passed }} > "$files/environment"  # DeepSpeed hands it on to the hosts
{% endif %}
export DS_ENV_FILE="$files/environment"
{% if not job.gpus %}
export DS_ACCELERATOR=cpu
{% endif %}
{{ job.limit() }} {{ job.module("deepspeed.launcher.runner") }} --hostfile="$files/hosts" \
  {% if launch.nodes > 1 %}--launcher=pdsh{% else %}--no_ssh --node_rank=0{% endif %} --no_local_rank \
  --master_addr="$address" --master_port={{ launch.meeting_port }} \
  --module trainer.worker {{ job.recipe }} {{ job.settings }} &
{% include "_wait.sh" %}
{% endif %}
{% include "_settle.sh" %}
exit "$status"
