child=$!
trap 'kill -TERM "$child" 2> /dev/null' TERM INT HUP
while kill -0 "$child" 2> /dev/null; do
  wait "$child"
  status=$?
done
