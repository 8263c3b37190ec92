#!/bin/bash
# peers.sh DIRECTORY: Debian's dma, nullmailer and Postfix, each installed in a root tree of its own below DIRECTORY, for
# tests/bench/debian.py. Needs root, debootstrap and the machine's apt. May be run again; what is there is kept.
set -e
to=${1:?usage: peers.sh DIRECTORY}
suite=bookworm
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
    awk '$1 == "URIs:" { print $2; exit } $1 == "deb" { print ($2 ~ /^\[/) ? $3 : $2; exit }')
mkdir -p "$to"
[ -d "$to/base/usr" ] || debootstrap --variant=minbase $suite "$to/base" "$mirror"

tree() {
    local root=$to/$1
    shift
    [ -e "$root/.done" ] && return
    rm -rf --one-file-system "$root"
    cp -a "$to/base" "$root"
    cp /etc/apt/apt.conf.d/* "$root/etc/apt/apt.conf.d/"
    printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
    echo bench.test > "$root/etc/mailname"
    echo "127.0.0.1 localhost bench.test" > "$root/etc/hosts"
    chroot "$root" useradd -u 1000 -m bench
    mknod -m 666 "$root/dev/null" c 1 3 2>/dev/null || true
    mknod -m 666 "$root/dev/urandom" c 1 9 2>/dev/null || true
    chroot "$root" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get install -y -qq --no-install-recommends "$@"
    touch "$root/.done"
}

tree dma dma
tree nullmailer nullmailer
tree postfix postfix libsasl2-modules
queue=$to/nullmailer/var/spool/nullmailer
[ -p "$queue/trigger" ] || { mkfifo "$queue/trigger"; chmod 622 "$queue/trigger"; chown 8:0 "$queue/trigger"; }
touch "$to/dma/etc/aliases"
