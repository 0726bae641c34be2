#!/bin/sh
# Make the secrets of compose.yaml, at random, where there are none yet: deploy/compose/secrets.sh
# The folder is for its owner alone; the files in it can be read by the containers that they are mounted into.
set -eu
umask 022
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets

keep() { # NAME VALUE: write it, unless it is there
  [ -s "secrets/$1" ] || printf %s "$2" > "secrets/$1"
}
draw() { # LENGTH: so many hexadecimal digits
  head -c "$(($1 / 2))" /dev/urandom | od -An -v -tx1 | tr -d ' \n'
}

for name in postgres prefect-database mlflow-database lakefs-database grafana-database backup-database redis; do
  keep "$name" "$(draw 48)"
done
keep lakefs-connection "postgres://lakefs:$(cat secrets/lakefs-database)@postgres:5432/lakefs?sslmode=disable"
keep redis-url "redis://:$(cat secrets/redis)@redis:6379/1"
keep prefect "$(draw 48)"
keep prefect-auth "trilha:$(cat secrets/prefect)"
keep lakefs-encryption "$(draw 64)"
keep lakefs-key-id "AKIAIO$(draw 14 | tr a-f A-F)"
keep lakefs-key "$(draw 40)"
keep triggers-token "$(draw 48)"
keep grafana "$(draw 32)"
echo "$PWD/secrets: $(ls secrets | wc -l) secrets"
