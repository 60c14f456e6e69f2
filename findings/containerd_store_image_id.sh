#!/bin/bash
# One image, two IDs: what Docker's containerd image store calls an image depends on who wrote its manifest.
#
# Guess: `docker images --no-trunc` tells an image's identity, the digest of its config, as it always has. So the
# same config and layers, loaded twice in two wrappings, are one image with one ID, in whatever store.
#
# Instead: with the containerd store the ID is the digest of a manifest. The same config and layers, loaded with
# an OCI manifest that carries an annotation and with one that does not, are two images with two IDs; the config's
# digest is neither, and a look-up by it finds nothing. With a graph driver there is one, under that digest.
#
# Seen with docker.io 26.1.5 (Debian 13). What rests on it: images are known by their config's digest, and an
# engine's ID is only what that engine wants to hear.
set -euo pipefail
if ((EUID != 0)) || ! command -v mmdebstrap >/dev/null; then
  echo "this needs root and mmdebstrap" >&2
  exit 77
fi
work=$(mktemp -d /tmp/finding-XXXXXX)
pid=''
finish() {
  if [[ -n $pid ]]; then kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap finish EXIT

mkdir "$work/root"
mmdebstrap --quiet --variant=extract --include=docker.io,containerd,runc trixie - 2>"$work/mmdebstrap.log" |
  tar -C "$work/root" -xf - || { cat "$work/mmdebstrap.log" >&2; exit 77; }

# two archives of one config and one layer; only the manifests differ
python3 - "$work" <<'PYTHON'
import hashlib, io, json, sys, tarfile
work = sys.argv[1]
digest = lambda data: "sha256:" + hashlib.sha256(data).hexdigest()
pack = lambda document: json.dumps(document, sort_keys=True).encode()
layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w") as tar:
    info = tarfile.TarInfo("hello")
    info.size = 6
    tar.addfile(info, io.BytesIO(b"hello\n"))
layer = layer.getvalue()
config = pack({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [digest(layer)]}})
oci = "application/vnd.oci.image."
for name, more in (("plain", {}), ("annotated", {"annotations": {"who": "somebody else"}})):
    manifest = pack({
        "schemaVersion": 2, "mediaType": oci + "manifest.v1+json",
        "config": {"mediaType": oci + "config.v1+json", "digest": digest(config), "size": len(config)},
        "layers": [{"mediaType": oci + "layer.v1.tar", "digest": digest(layer), "size": len(layer)}], **more,
    })
    one = {"mediaType": oci + "manifest.v1+json", "digest": digest(manifest), "size": len(manifest)}
    blob = lambda data: "blobs/sha256/" + digest(data)[7:]
    parts = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": pack({"schemaVersion": 2, "manifests": [one]}),
        "manifest.json": pack([{"Config": blob(config), "RepoTags": None, "Layers": [blob(layer)]}]),
        blob(config): config, blob(layer): layer, blob(manifest): manifest,
    }
    with tarfile.open(f"{work}/{name}.tar", "w") as tar:
        for path, data in parts.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
open(f"{work}/config", "w").write(digest(config))
PYTHON
config=$(<"$work/config")

# $1: is the containerd store on; leaves the IDs in $work/ids and a look-up's status in $work/found
try() {
  local own=$work/$1
  mkdir "$own"
  printf '{"features":{"containerd-snapshotter":%s}}' "$1" >"$own/daemon.json"
  # shellcheck disable=SC2016 # expanded inside
  unshare --mount --propagation slave -- sh -c '
    root=$1 own=$2
    mount --bind "$root" "$root" # a chroot is to be a mount for the engine
    for name in bin sbin lib lib64; do [ -e "$root/$name" ] || ln -s "usr/$name" "$root/$name"; done
    for name in proc sys dev tmp; do mkdir -p "$root/$name"; mount --rbind "/$name" "$root/$name"; done
    mount --make-rslave "$root/sys"
    if [ "$(stat -fc %T /sys/fs/cgroup)" != cgroup2fs ]; then
      umount -Rl "$root/sys/fs/cgroup"
      mount -t cgroup2 none "$root/sys/fs/cgroup"
    fi
    mkdir -p "$root/run"
    mount -t tmpfs tmpfs "$root/run"
    exec env -i PATH=/usr/sbin:/usr/bin chroot "$root" /usr/sbin/dockerd --config-file="$own/daemon.json" \
      --data-root="$own/data" --exec-root="$own/run" --pidfile="$own/pid" --host="unix://$own/engine.sock" \
      --group=0 --bridge=none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false' \
    sh "$work/root" "$own" >"$own/log" 2>&1 &
  pid=$!
  ask() { curl --silent --show-error --fail --unix-socket "$own/engine.sock" "$@"; }
  for _ in $(seq 300); do ask http://engine/version >"$own/version" 2>/dev/null && break; sleep 0.2; done
  for name in plain annotated; do
    ask -X POST -H 'Content-Type: application/x-tar' --data-binary "@$work/$name.tar" http://engine/images/load >/dev/null
  done
  ask http://engine/images/json?all=1 | python3 -c 'import json, sys; print(*sorted(i["Id"] for i in json.load(sys.stdin)))' >"$work/ids"
  found=yes
  ask "http://engine/images/$config/json" >/dev/null 2>&1 || found=no
  python3 -c 'import json, sys; print("docker", json.load(sys.stdin)["Version"])' <"$own/version"
  kill "$pid" && wait "$pid" || true
  pid=''
}

echo "the image's config: $config"
try false
read -ra graph <"$work/ids"
echo "graph driver:     ${#graph[@]} image, ${graph[*]}; found by its config: $found"
[[ ${#graph[@]} == 1 && ${graph[0]} == "$config" && $found == yes ]] || { echo "this changed" >&2; exit 1; }
try true
read -ra store <"$work/ids"
echo "containerd store: ${#store[@]} images, ${store[*]}; found by its config: $found"
[[ ${#store[@]} == 2 && " ${store[*]} " != *" $config "* && $found == no ]] || { echo "this changed" >&2; exit 1; }
