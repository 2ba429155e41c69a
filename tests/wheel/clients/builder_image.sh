#!/usr/bin/env bash
# A builder image from Debian's packages, without a registry: what test_containers.py builds in. As root; needs podman and mmdebstrap.
#
#   tests/wheel/clients/builder_image.sh [PODMAN [CERTIFICATES]]
#
# It has what clary's Dockerfiles ask of a manylinux image: a compiler, and a Python in /opt/python. CERTIFICATES: a file of those the
# package index is reached with, where they are not Debian's.
set -euo pipefail
podman=${1-podman} image=localhost/clary-builder:debian12
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mmdebstrap --variant=minbase --include=g++,python3-dev,python3-venv,ca-certificates bookworm "$folder/base.tar"
"$podman" import --quiet "$folder/base.tar" localhost/clary-debian:12
rm "$folder/base.tar"
cp "${2-/etc/ssl/certs/ca-certificates.crt}" "$folder/certificates.crt"
cat >"$folder/Dockerfile" <<'END'
FROM localhost/clary-debian:12
COPY certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt
RUN mkdir /opt/python && python3 -m venv /opt/python/cp311-cp311
END
"$podman" build --quiet --tag "$image" "$folder"
echo "$image"
