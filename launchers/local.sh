#!/usr/bin/env bash
# shardtune launch RECIPE --to local
{% include "_begin.sh" %}
{% if launch.nodes > 1 %}
# The same on every node, told its number by NODE_RANK, from 0.
exec {{ job.train() }} --node NODE_RANK --address {{ job.fill(launch.address, "launch.address") }}
{% else %}
exec {{ job.train() }}
{% endif %}
