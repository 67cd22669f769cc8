# shellcheck shell=sh
# needs.sh: sourced by scripts that install what they need. Debian's names; other systems are told what is missing.
# After `need` for each thing, `install_missing` says what it is about to install and does it.

# Debian keeps mke2fs where an ordinary user's PATH doesn't look.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
missing=
# What can be asked for only once the rest is installed.
then_need=
me=$(basename "$0")

say() { printf '%s\n' "$*"; }
fail() {
    code=$1
    shift
    printf '%s: %s\n' "$me" "$*" >&2
    exit "$code"
}

# need PACKAGE... -- CHECK...: the packages are wanted where the command CHECK fails.
need() {
    packages=
    while [ "$1" != -- ]; do
        packages="$packages $1"
        shift
    done
    shift
    "$@" >/dev/null 2>&1 || missing="$missing$packages"
}
has() { command -v "$1"; }
# A linker, and a C library to link statically with.
has_c() { has cc && [ -f "$(cc -print-file-name=libc.a)" ]; }
has_roots() { [ -s /etc/ssl/certs/ca-certificates.crt ] || [ -n "${SSL_CERT_FILE:-}" ]; }

# at_least WANTED FOUND: whether version FOUND is WANTED or later.
at_least() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

need_to_build() {
    get_rust="run: apt-get install rustup && rustup default stable (Debian 12: see https://rustup.rs)"
    { has cargo && has rustc; } >/dev/null || fail 100 "no Rust: cargo and rustc are not on PATH; $get_rust"
    rust=$(rustc --version | cut -d ' ' -f 2)
    wanted_rust=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    at_least "$wanted_rust" "$rust" || fail 100 "Rust $rust is too old, $wanted_rust or later is needed; $get_rust"
    need gcc libc6-dev -- has_c
    need ca-certificates -- has_roots
}
need_to_run() {
    need qemu-system-x86 -- has qemu-system-x86_64
    need squashfs-tools-ng -- has tar2sqfs
    need e2fsprogs -- has mke2fs
    # What get-guest-kernel unpacks: kernels and modules, as each Debian compresses them.
    need lz4 -- has lz4
    need xz-utils -- has xz
    need zstd -- has zstd
}
netavark() {
    for program in /usr/lib/podman/netavark /usr/libexec/podman/netavark; do
        [ ! -x "$program" ] || { "$program" "$@" && return; }
    done
    return 127
}
# A netavark that names no default firewall driver knows iptables alone.
need_firewall() {
    if netavark version | grep -q '"default_fw_driver": *"nftables"'; then
        need nftables -- has nft
    else
        need iptables -- has iptables
    fi
}
# What goes into images must run there without a library.
has_busybox() { [ -x /bin/busybox ] && ! ldd /bin/busybox; }
need_containers() {
    need busybox-static -- has_busybox
    need crun -- has crun
    need mount -- has mount
    need netavark -- netavark version
    need podman -- has podman
    then_need=need_firewall
    # An ordinary user's containers.
    [ "$(id -u)" = 0 ] || need slirp4netns uidmap -- has slirp4netns
}

# one_kind_of_cgroups SCRIPT ARGUMENT...: runs the script again where crun works. It wants one kind of cgroups: where there
# are two, it gets a mount namespace with the old kind alone. Returns where there is one.
one_kind_of_cgroups() {
    grep -q ' /sys/fs/cgroup/unified ' /proc/self/mounts || return 0
    [ "$(id -u)" = 0 ] || fail 100 "crun doesn't run with cgroups of two kinds, as here; run this as root"
    # shellcheck disable=SC2016
    exec unshare --mount sh -c 'umount -l /sys/fs/cgroup/unified && exec "$0" "$@"' "$@"
}

# apt ARGUMENT...: apt-get as root, quiet unless it fails.
apt() {
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" >"$apt_log" 2>&1 && return
    cat "$apt_log" >&2
    fail 111 "apt-get $* failed"
}

install_missing() {
    install_packages
    if [ -n "$then_need" ]; then
        missing=
        $then_need
        install_packages
    fi
}
install_packages() {
    missing=${missing# }
    [ -n "$missing" ] || return 0
    has apt-get >/dev/null || fail 100 "install what these packages of Debian have: $missing"
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif has sudo >/dev/null; then
        as_root=sudo
    else
        fail 100 "not root, and no sudo: as root, run apt-get install $missing"
    fi
    say "installing Debian packages: $missing"
    # Asks people only.
    if [ -z "${CI:-}" ] && [ -t 0 ] && [ -t 1 ]; then
        printf 'Go on? [Y/n] '
        read -r answer || answer=n
        case $answer in
        '' | [yY]*) ;;
        *) fail 1 "nothing was installed" ;;
        esac
    fi
    apt_log=$(mktemp)
    trap 'rm -f "$apt_log"' EXIT
    apt update
    # By itself, first: it conflicts with a backported qemu-utils that may be there.
    case " $missing " in
    *" qemu-system-x86 "*) apt install -y --no-install-recommends qemu-system-x86 ;;
    esac
    # shellcheck disable=SC2086
    apt install -y --no-install-recommends $missing
    rm -f "$apt_log"
    trap - EXIT
}

# find_ops: sets ops and ops_home (the folder that holds .ops), and fails where there is no ops that can work.
find_ops() {
    ops=${MCP_TEST_OPS:-$(command -v ops || true)}
    ops_home=${MCP_TEST_OPS_HOME:-${OPS_HOME:-${HOME:-}}}
    [ -n "$ops" ] && [ -x "$ops" ] && [ -f "$ops_home/.ops/latest.txt" ]
}

# unpacked DIR PACKAGE PROGRAM: PROGRAM is on PATH after this, else it fails. Where it isn't installed it is unpacked into
# DIR out of Debian's PACKAGE, which, installed, would start a server that everybody can reach.
unpacked() {
    PATH=$PATH:$1
    has "$3" >/dev/null && return
    has apt-get >/dev/null || return
    mkdir -p "$1"
    say "unpacking $3 of $2 into $1"
    # As root, apt would drop to a user that can't write here, and warn about it.
    (cd "$1" && rm -f "$2"*.deb && apt-get -qq -o APT::Sandbox::User=root download "$2") || return
    dpkg-deb --fsys-tarfile "$1/$2"*.deb | tar -C "$1" -x --strip-components=3 --wildcards "./usr/*bin/$3"
    rm -f "$1/$2"*.deb
    has "$3" >/dev/null
}

# find_registry DIR: docker-registry, so.
find_registry() { unpacked "$1" docker-registry docker-registry; }

# find_promtool DIR: promtool, so.
find_promtool() {
    # A package of its own since Debian 13.
    package=prometheus
    apt-cache show promtool >/dev/null 2>&1 && package=promtool
    unpacked "$1" "$package" promtool
}

# find_cron DIR: cron, so.
find_cron() { unpacked "$1" cron cron; }
