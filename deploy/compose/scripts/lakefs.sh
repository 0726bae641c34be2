#!/bin/sh
# lakeFS, with its first user made on its first start, which it does by itself on a local database only.
set -eu
lakefs=${LAKEFS:-/app/lakefs}
# Of what `setup` prints the new key is a part, so only a failure is told.
said=$("$lakefs" setup --user-name "$LAKEFS_INSTALLATION_USER_NAME" --access-key-id "$LAKEFS_INSTALLATION_ACCESS_KEY_ID" \
  --secret-access-key "$LAKEFS_INSTALLATION_SECRET_ACCESS_KEY" 2>&1) ||
  case $said in
    *"already complete"*) ;;
    *) echo "$said" >&2; exit 1 ;;
  esac
exec "$lakefs" run
