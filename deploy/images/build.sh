#!/bin/sh
# Build the image with Docker or podman, whichever answers: deploy/images/build.sh trilha:dev
#   CONTAINER  docker or podman
#   BASE       the image to build on; where none can be pulled, one is made from Debian's packages
set -eu
cd "$(dirname "$0")/../.."
name=$1
shift
if [ -z "${CONTAINER:-}" ]; then
  for CONTAINER in docker podman; do
    "$CONTAINER" info >/dev/null 2>&1 && break
    [ "$CONTAINER" = podman ] && { echo "error: neither docker nor podman answers; next: install one" >&2; exit 1; }
  done
fi
export CONTAINER
if [ -z "${BASE:-}" ]; then
  BASE=docker.io/library/python:3.11-slim-bookworm
  if ! "$CONTAINER" image inspect "$BASE" >/dev/null 2>&1 && ! "$CONTAINER" pull --quiet "$BASE" >/dev/null 2>&1; then
    BASE=localhost/trilha-base:bookworm
    "$CONTAINER" image inspect "$BASE" >/dev/null 2>&1 || deploy/images/base.sh "$BASE"
  fi
fi
certificates=${SSL_CERT_FILE:-${PIP_CERT:-/dev/null}} # of a host behind a proxy; lent, never kept
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
if [ -n "$(git status --porcelain --untracked-files=no 2>/dev/null)" ]; then revision=$revision-dirty; fi
set -- --build-arg "BASE=$BASE" --build-arg SOURCE_DATE_EPOCH=0 --secret "id=certificates,src=$certificates" \
  --file deploy/images/Dockerfile "$@"
if [ "$CONTAINER" = podman ]; then
  # In a chroot: a build needs no isolation from the machine that it is for, and so no runtime that this one may lack.
  build() { podman build --quiet --isolation chroot --layers --timestamp 0 "$@" .; }
  # To look a copied folder up in its cache podman copies it again, all 1.6 GB: the environment is an image of its own.
  environment=localhost/trilha-environment:latest
  made_of=$({ podman image inspect --format '{{.Id}}' "$BASE"; cat deploy/images/Dockerfile deploy/images/requirements.lock \
    requirements-setup.lock; } | sha256sum | cut -c 1-64)
  if [ "$(podman image inspect --format '{{index .Labels "trilha.made-of"}}' "$environment" 2>/dev/null)" != "$made_of" ]; then
    build "$@" --target environment --label "trilha.made-of=$made_of" --tag "$environment" >&2
  fi
  build "$@" --build-arg "ENVIRONMENT=$environment" --build-arg "REVISION=$revision" --tag "$name"
else
  DOCKER_BUILDKIT=1 docker build --quiet "$@" --build-arg "REVISION=$revision" --tag "$name" .
fi
