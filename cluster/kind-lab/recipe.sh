# The recipe of the lab's images, read by `lab`: programs from Go modules, Debian from its packages, images from folders.
# A change of this file or of the folders beside it makes another image.
coredns=v1.14.6
containerd=v2.4.2
etcd=3.7.0-0
metrics_server=v0.9.0
pause=3.10.2

# --- Programs ---------------------------------------------------------------------------------------------------------

go_build() { # MODULE PACKAGE OUTPUT [FLAG...]: built anew when the module or the flags are others
  local module=$1 package=$2 output=$3 stamp; shift 3
  stamp=$(cat "$here/$module"/*.* <(printf '%s\n' "$@") | sha256sum)
  if [ -x "$programs/$output" ] && [ "$(cat "$programs/.$output" 2>/dev/null)" = "$stamp" ]; then return; fi
  local kept=${cache%/kind-lab/*}/binaries/$version-linux-$(go env GOARCH)/$output
  if [ "$module" = kubernetes ] && [ -x "$kept" ]; then
    cp "$kept" "$programs/$output" # podlab's own, of the same modules
    printf '%s\n' "$stamp" >"$programs/.$output"
    return
  fi
  say "go build $output"
  (cd "$here/$module" && CGO_ENABLED=0 GOFLAGS= go build -trimpath -buildvcs=false -mod=readonly "$@" -o "$programs/$output.new" "$package")
  mv "$programs/$output.new" "$programs/$output"
  printf '%s\n' "$stamp" >"$programs/.$output"
}

build_programs() {
  local marks="-s -w" package
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    marks+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=37 -X $package.gitTreeState=clean"
    marks+=" -X $package.gitCommit=unknown -X $package.buildDate=1970-01-01T00:00:00Z"
  done
  mkdir -p "$programs"
  go_build ../binaries/kind sigs.k8s.io/kind kind -ldflags "-s -w"
  go_build cni . kind-lab-cni -ldflags "-s -w"
  go_build kubernetes go.etcd.io/etcd/server/v3 etcd -ldflags "-s -w"
  for name in kube-proxy kubelet kubeadm kube-apiserver kube-controller-manager kube-scheduler kubectl; do
    go_build kubernetes "k8s.io/kubernetes/cmd/$name" "$name" -tags grpcnotrace -ldflags "$marks"
  done
  for name in containerd ctr containerd-shim-runc-v2; do
    go_build containerd "github.com/containerd/containerd/v2/cmd/$name" "$name" -tags "no_btrfs no_devmapper no_zfs no_aufs" \
      -ldflags "-s -w -X github.com/containerd/containerd/v2/version.Version=$containerd"
  done
  go_build coredns . coredns -ldflags "-s -w"
  go_build storage github.com/rancher/local-path-provisioner local-path-provisioner -ldflags "-s -w"
  go_build metrics-server sigs.k8s.io/metrics-server/cmd/metrics-server metrics-server -ldflags "-s -w"
}

# --- Images -----------------------------------------------------------------------------------------------------------

as_image() { # FOLDER TAG CHANGE...
  local folder=$1 tag=$2 changes=() change; shift 2
  for change in "$@"; do changes+=(-c "$change"); done
  tar -C "$folder" --owner=0 --group=0 -c . | docker import "${changes[@]}" - "$tag" >/dev/null
}

one_program() { # FILE TAG: an image of one static program, named as its command
  local scratch; scratch=$(mktemp -d "$cache/image.XXXX")
  mkdir -p "$scratch"/{tmp,etc,usr/local/bin}
  cp "$programs/$1" "$scratch/usr/local/bin/"
  as_image "$scratch" "$2" "ENTRYPOINT [\"/usr/local/bin/$1\"]" "ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin"
  rm -rf "$scratch"
}

with_nft() { # FILE TAG ROOT: the program beside nft and what nft needs, taken from the node's root
  local scratch library; scratch=$(mktemp -d "$cache/image.XXXX")
  mkdir -p "$scratch"/{tmp,etc,usr/local/bin,usr/sbin}
  cp "$programs/$1" "$scratch/usr/local/bin/"
  cp "$3/usr/sbin/nft" "$scratch/usr/sbin/"
  chroot "$3" ldd /usr/sbin/nft | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$scratch$(dirname "$library")"
    cp -L "$3$library" "$scratch$library"
  done
  as_image "$scratch" "$2" "ENTRYPOINT [\"/usr/local/bin/$1\"]" "ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin"
  rm -rf "$scratch"
}

debian() { # FOLDER PACKAGE...: a small Debian 12, kept as an archive
  local root=$1 bootstrap=$cache/debootstrap mirror kept; shift
  kept=$cache/debian-$(printf '%s\n' "$@" | sha256sum | cut -c1-16).tar
  if [ ! -f "$kept" ]; then
    [ -x "$bootstrap/usr/sbin/debootstrap" ] || unpack "$bootstrap" debootstrap
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -1)
    rm -rf "$root"
    DEBOOTSTRAP_DIR=$bootstrap/usr/share/debootstrap "$bootstrap/usr/sbin/debootstrap" --variant=minbase \
      --include="$(printf %s, "$@" | sed 's/,$//')" bookworm "$root" "$mirror" >"$cache/debootstrap.log" 2>&1 ||
      { tail -5 "$cache/debootstrap.log" >&2; fail "debootstrap failed."; }
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}/*
    tar -C "$root" --numeric-owner -cf "$kept.new" . && mv "$kept.new" "$kept"
    rm -rf "$root"
  fi
  mkdir -p "$root" && tar -C "$root" --numeric-owner -xpf "$kept"
}

node_root() { # FOLDER
  local root=$1
  say "Debian for the nodes"
  debian "$root" systemd systemd-sysv iptables nftables iproute2 conntrack kmod procps ethtool ca-certificates \
    containernetworking-plugins runc catatonit
  cp "$programs"/{kubeadm,kubelet,kubectl} "$root/usr/bin/"
  cp "$programs"/{containerd,ctr,containerd-shim-runc-v2} "$root/usr/local/bin/"
  cp -r "$here"/node/. "$root/"
  mv "$root/entrypoint" "$root/usr/local/bin/entrypoint"
  printf %s "$version" >"$root/kind/version"
  mkdir -p "$root/etc/systemd/system/multi-user.target.wants" "$root/etc/cni/net.d" "$root/opt/cni/bin"
  ln -s ../containerd.service ../kubelet.service "$root/etc/systemd/system/multi-user.target.wants/"
  mkdir -p "$root/etc/systemd/journald.conf.d"
  printf '[Journal]\nReadKMsg=no\n' >"$root/etc/systemd/journald.conf.d/lab.conf"
  systemctl_mask "$root" getty@tty1.service
}

systemctl_mask() { ln -sf /dev/null "$1/etc/systemd/system/$2"; }

build_image() {
  local root=$cache/root tags=() name holder
  rm -rf "$root"
  node_root "$root"
  say "Images of the control plane"
  for name in kube-apiserver kube-controller-manager kube-scheduler; do
    one_program $name registry.k8s.io/$name:$version; tags+=(registry.k8s.io/$name:$version)
  done
  one_program etcd registry.k8s.io/etcd:$etcd; tags+=(registry.k8s.io/etcd:$etcd)
  one_program local-path-provisioner registry.k8s.io/kind-lab/storage:v1; tags+=(registry.k8s.io/kind-lab/storage:v1)
  name=registry.k8s.io/metrics-server/metrics-server:$metrics_server
  one_program metrics-server $name; tags+=($name)
  with_nft kube-proxy registry.k8s.io/kube-proxy:$version "$root"; tags+=(registry.k8s.io/kube-proxy:$version)
  with_nft kind-lab-cni registry.k8s.io/kind-lab/cni:v1 "$root"; tags+=(registry.k8s.io/kind-lab/cni:v1)
  local scratch; scratch=$(mktemp -d "$cache/image.XXXX")
  cp "$programs/coredns" "$scratch/coredns"; mkdir "$scratch/etc" "$scratch/tmp"
  as_image "$scratch" registry.k8s.io/coredns/coredns:$coredns 'ENTRYPOINT ["/coredns"]'; tags+=(registry.k8s.io/coredns/coredns:$coredns)
  rm -rf "$scratch" && scratch=$(mktemp -d "$cache/image.XXXX")
  cp "$root/usr/bin/catatonit" "$scratch/pause"
  as_image "$scratch" registry.k8s.io/pause:$pause 'ENTRYPOINT ["/pause", "-P"]'; tags+=(registry.k8s.io/pause:$pause)
  rm -rf "$scratch"

  # What makes and removes the folders of volumes.
  scratch=$(mktemp -d "$cache/image.XXXX")
  unpack "$scratch" busybox-static
  for name in sh mkdir rm; do ln -s busybox "$scratch/bin/$name"; done
  as_image "$scratch" registry.k8s.io/kind-lab/helper:v1 "ENV PATH=/bin"; tags+=(registry.k8s.io/kind-lab/helper:v1)
  rm -rf "$scratch"

  say "The node image"
  tar -C "$root" --numeric-owner -c . | docker import - podlab/kind-node:base >/dev/null
  rm -rf "$root"
  holder=$(docker run -d --privileged --entrypoint sleep podlab/kind-node:base infinity)
  docker exec -d "$holder" /usr/local/bin/containerd
  for _ in $(seq 300); do docker exec "$holder" ctr version >/dev/null 2>&1 && break; sleep 0.1; done
  docker save "${tags[@]}" | docker exec -i "$holder" ctr -n k8s.io images import --label=io.cri-containerd.pinned=pinned --no-unpack - >/dev/null
  for name in "${tags[@]}"; do
    docker exec "$holder" ctr -n k8s.io images ls -q | grep -xF "$name" >/dev/null || fail "The image $name is not in the node image."
  done
  docker exec "$holder" sh -c 'kill $(pidof containerd); while pidof containerd >/dev/null; do sleep 0.1; done; rm -rf /run/containerd'
  docker commit -c 'ENTRYPOINT ["/usr/local/bin/entrypoint"]' "$holder" podlab/kind-node:full >/dev/null
  docker rm -f "$holder" >/dev/null
  printf 'FROM podlab/kind-node:full\nENV container=docker\nSTOPSIGNAL SIGRTMIN+3\nENTRYPOINT ["/usr/local/bin/entrypoint"]\n' |
    DOCKER_BUILDKIT=0 docker build -q -t "$node_image" - >/dev/null
  say "Keeping it in the cache"
  docker save -o "$image_file.new" "$node_image"
  mv "$image_file.new" "$image_file"
}

made_from() { # BASE: what podlab would make it from, which takes ours for its own
  cat "$here/../images/$1/Dockerfile" "$here"/../../podlab/images/tools/{fetch,lookup}.py | sha256sum | cut -d' ' -f1
}

# The course's bundled images, from Debian's Python: what cluster/images/*/Dockerfile make where there is a registry.
build_bases() {
  local root=$cache/base tool base
  say "The course's bundled images"
  rm -rf "$root"
  debian "$root" python3 curl procps iproute2 libgomp1
  mkdir -p "$root"/opt/podlab/{bin,libexec}
  ln -s /usr/bin/python3 "$root/opt/podlab/libexec/python3"
  ln -s /usr/bin/python3 "$root/usr/local/bin/python"
  for tool in fetch lookup; do
    { echo '#!/opt/podlab/libexec/python3 -IS'; cat "$here/../../podlab/images/tools/$tool.py"; } >"$root/opt/podlab/bin/$tool"
    chmod 755 "$root/opt/podlab/bin/$tool"
  done
  chroot "$root" useradd --uid 1000 --create-home user
  as_image "$root" podlab/python:latest "LABEL dev.podlab.base=python dev.podlab.recipe=$(made_from python)" 'CMD ["python3"]' "ENV LANG=C.UTF-8" "ENV PYTHONUNBUFFERED=1" \
    "ENV PATH=/opt/podlab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" "WORKDIR /"
  printf 'FROM podlab/python:latest\nLABEL dev.podlab.base=toolbox dev.podlab.recipe=%s\nCMD ["sh"]\n' "$(made_from toolbox)" | DOCKER_BUILDKIT=0 docker build -q -t podlab/toolbox:latest - >/dev/null
  rm -rf "$root"
  docker save -o "$bases_file.new" podlab/python:latest podlab/toolbox:latest
  mv "$bases_file.new" "$bases_file"
}

build_all() {
  local made; made=$(recipe) # of what is read now, whoever edits meanwhile
  mkdir -p "$cache"
  build_programs
  start
  build_bases
  build_image
  printf '%s\n' "$made" >"$cache/recipe"
}
