#!/bin/sh
# Export each secret that was mounted under the name of a variable, then become the command. What is exported here is in
# neither the compose file nor `docker inspect`.
set -eu
for file in "${SECRETS:-/run/secrets}"/*; do
  name=${file##*/}
  case $name in *[!A-Z0-9_]*) continue ;; esac
  export "$name=$(cat "$file")"
done
exec "$@"
