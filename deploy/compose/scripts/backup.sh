#!/bin/sh
# Dump every database into BACKUPS, check that the dump can be read, and drop dumps older than KEEP_DAYS. A dump is seen
# whole or not at all. To put one back: createdb NAME; pg_restore --dbname NAME FILE
set -eu
folder=${BACKUPS:-/backups}
now=$(date -u +%Y%m%dT%H%M%SZ)
for name in prefect mlflow lakefs; do
  part=$folder/.$name.part
  pg_dump --format custom --no-password --file "$part" --dbname "$name"
  pg_restore --list "$part" > /dev/null
  mv "$part" "$folder/$name-$now.dump"
  echo "$folder/$name-$now.dump: $(wc -c < "$folder/$name-$now.dump") bytes"
done
find "$folder" -maxdepth 1 -name '*.dump' -mtime "+${KEEP_DAYS:-14}" -delete
