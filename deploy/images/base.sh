#!/bin/sh
# Make the image that trilha's is built on from Debian's packages, where no registry of images can be reached:
#   deploy/images/base.sh localhost/trilha-base:bookworm
# The packages come from where this machine's apt gets its own. Needs root and debootstrap.
set -eu
name=$1
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' | sort -u | head -n 1)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
debootstrap --variant=minbase --include=ca-certificates,libgomp1,libpython3.11,python3,python3-venv bookworm "$folder" "$mirror" >&2
# What apt and the installation leave behind is of this machine and of today.
rm -rf "$folder"/var/cache/* "$folder"/var/lib/apt/lists/* "$folder"/var/log/* "$folder"/etc/apt/sources.list \
  "$folder"/usr/share/doc/* "$folder"/usr/share/man/* "$folder"/usr/share/locale/* "$folder"/etc/machine-id
rm -f "$folder"/etc/hostname "$folder"/etc/resolv.conf
find "$folder" -name __pycache__ -prune -exec rm -rf {} +
tar --create --sort=name --numeric-owner --mtime=@0 --directory "$folder" . |
  "${CONTAINER:-podman}" import --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin' - "$name" >&2
