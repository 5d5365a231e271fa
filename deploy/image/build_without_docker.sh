#!/usr/bin/env bash
# Builds the Dockerfile where there is no container engine: Debian 12, as root, with Debian's buildah.
# The base image is made by debootstrap from the mirror that apt uses; what cmake/setup has downloaded
# and what ccache holds is used again. --timestamp=0 makes the image's digest repeatable, and ccache's
# compilers others than the host's.
#
#   deploy/image/build_without_docker.sh FOLDER [--target=cpu|cuda] [--build-arg=NAME=VALUE...]
#
# The target is cpu unless told otherwise. FOLDER keeps the base and the layers for the next build, and gets image.json (`buildah inspect`) and
# bundle/, which `runc run -b FOLDER/bundle NAME` starts.
set -euo pipefail
case "${1:-}" in
  "" | -*) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
folder=$(realpath -m "$1")
shift
cd "$(dirname "$0")/../.."
deps=${LECTERN_DEPS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/lectern}
LECTERN_DEPS_DIR=$deps cmake/setup image protos model
mkdir -p "$folder/tmp"

# Prints the apt configuration for Debian's archives.
apt_lines() {
  apt-get indextargets --format '$(ORIGIN) deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    sed -n 's/^Debian deb/deb/p' | sort -u
}
image() { TMPDIR="$folder/tmp" buildah --root "$folder/store" --runroot "$folder/run" --storage-driver overlay "$@"; }
# Mounts that buildah leaves would keep FOLDER from being removed.
finish() {
  image rm --all >/dev/null 2>&1 || true
  awk -v folder="$folder/" 'index($2, folder) == 1 {print $2}' /proc/self/mounts | tac | xargs -r umount
}
trap finish EXIT
seconds() { echo $((SECONDS - started)); }

base=localhost/debian:bookworm-slim
started=$SECONDS
if ! image inspect --type image $base >/dev/null 2>&1; then
  mirror=$(apt_lines | awk '$3 == "bookworm" {print $2; exit}')
  rm -rf "$folder/rootfs"
  debootstrap --variant=minbase --include=ca-certificates bookworm "$folder/rootfs" "$mirror" >"$folder/debootstrap.log"
  apt_lines >"$folder/rootfs/etc/apt/sources.list"
  container=$(image from scratch)
  image add -q "$container" "$folder/rootfs" / >/dev/null
  image config --cmd /bin/bash "$container"
  image commit -q "$container" $base >/dev/null
  image rm "$container" >/dev/null
  rm -rf "$folder/rootfs"
  echo "base image: $(seconds) s"
fi

started=$SECONDS
volumes=(--volume "$deps:/deps")
if command -v ccache >/dev/null; then
  cache=$(ccache -k cache_dir)
  mkdir -p "$cache"
  volumes+=(--volume "$cache:/ccache")
fi
image bud --isolation chroot --layers --pull-never --format docker --build-arg BASE=$base \
  --build-arg VERSION="$(sed -n 's/^project(lectern VERSION \([^ ]*\) .*/\1/p' CMakeLists.txt)" \
  --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
  "${volumes[@]}" --target cpu "$@" -t localhost/lectern:latest -f Dockerfile . >"$folder/build.log" 2>&1 ||
  { tail -n 40 "$folder/build.log" >&2; exit 1; }
image inspect --type image localhost/lectern:latest >"$folder/image.json"
echo "image: $(seconds) s"

rm -rf "$folder/oci" "$folder/bundle"
image push -q localhost/lectern:latest "oci:$folder/oci:latest" >/dev/null 2>&1
umoci unpack --image "$folder/oci:latest" "$folder/bundle" >/dev/null 2>&1
echo "unpacked: $(du -sm "$folder/bundle/rootfs" | cut -f1) MiB, compressed: $(du -sm "$folder/oci" | cut -f1) MiB"
