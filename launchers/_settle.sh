# How the run ended is in its summary: the launcher's exit status does not say it.
{{ settle }} "$output" "$status" "$mark"
status=$?
