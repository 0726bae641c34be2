#!/bin/sh
# The Secrets that the manifests refer to: deploy/kubernetes/secrets.sh | kubectl create --filename -
# What is only ours is drawn at random; `create` refuses to overwrite, so running it again changes nothing. What somebody
# else made comes from the environment:
#   POSTGRES_PASSWORD, REDIS_PASSWORD    of managed databases; drawn where the databases are in the cluster
#   OBJECT_STORE_KEY_ID, OBJECT_STORE_KEY   onprem: a key for the buckets
#   AZURE_STORAGE_KEY                    azure: Triton's key for Blob Storage
#   KUBEFLOW_TOKEN                       where the trigger service starts runs on Kubeflow
set -eu

draw() { # LENGTH: so many hexadecimal digits
  head -c "$(($1 / 2))" /dev/urandom | od -An -v -tx1 | tr -d ' \n'
}
secret() { # NAME
  printf -- '---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: trilha}\nstringData:\n' "$1"
}
key() { # NAME VALUE; nothing where there is no value
  [ -z "$2" ] || printf "  %s: '%s'\n" "$1" "$(printf %s "$2" | sed "s/'/''/g")"
}

secret trilha-databases # passwords of Postgres' superuser, of the roles that own one database each, and of Redis
key postgres "${POSTGRES_PASSWORD:-$(draw 48)}"
for role in prefect mlflow lakefs; do key "$role" "$(draw 48)"; done
key backup "$(draw 48)"  # may read everything, and write nothing
key grafana "$(draw 48)" # may call two functions that list runs and steps, and nothing else
key redis "${REDIS_PASSWORD:-$(draw 48)}"

secret trilha-prefect # what Prefect's server asks for, and all its clients show
key PREFECT_API_AUTH_STRING "trilha:$(draw 48)"

secret trilha-lakefs # lakeFS' first user
key access-key-id "AKIAIO$(draw 14 | tr a-f A-F)"
key secret-access-key "$(draw 40)"

secret trilha-lakefs-server # what lakeFS encrypts its secrets with; with another one, all of lakeFS' keys are lost
key encryption "$(draw 64)"

secret trilha-triggers # what callers of the trigger service show
key token "$(draw 48)"

if [ -n "${OBJECT_STORE_KEY_ID:-}${AZURE_STORAGE_KEY:-}" ]; then
  secret trilha-object-store
  key access-key-id "${OBJECT_STORE_KEY_ID:-}"
  key secret-access-key "${OBJECT_STORE_KEY:-}"
  key azure-storage-key "${AZURE_STORAGE_KEY:-}"
fi
if [ -n "${KUBEFLOW_TOKEN:-}" ]; then
  secret trilha-kubeflow
  key token "$KUBEFLOW_TOKEN"
fi
