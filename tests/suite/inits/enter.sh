# enter.sh KIND NAME DIR ROOTS ADDRESS BIND...: a machine of its own, of this NAME, in namespaces of its own: this machine's root
# under a tmpfs, with what ROOTS (DIR:DIR:...) hold laid over it, so nothing that happens inside is seen outside. KIND is
# `plain`, where process 1 only reaps and init systems run as its children, or `systemd`. DIR is its disk, /keep inside; where
# it is a mount point already, it is used as it is: its folder l is the layer of the ROOTS. ADDRESS (or `-`) is what the machine
# has on the bridge `br0` of the network that this is called in. The BINDs are seen inside as they are. Runs until process 1 has
# ended, and then removes its control group.
set -eu
kind=$1 name=$2 dir=$3 roots=$4 address=$5
shift 5
if [ -z "${MCP_LAB:-}" ]; then
    # MCP_SCRIPT is this text: the mounts below may hide its file.
    MCP_LAB=outer exec unshare --mount --propagation private bash -c 'eval "$MCP_SCRIPT"' "$0" "$kind" "$name" "$dir" "$roots" "$address" "$@"
fi
if [ "$MCP_LAB" = outer ]; then
    mountpoint -q "$dir" || mount -t tmpfs -o mode=755 lab "$dir"
    new=
    [ -d "$dir/u" ] || new=1
    if [ ! -e "$dir/l" ]; then
        # Copied, since a layer of an overlay can't lie in another.
        mkdir "$dir/l"
        IFS=:
        for l in $roots; do
            tar -C "$l" -c --exclude=./bin --exclude=./sbin --exclude=./lib --exclude=./lib64 . |
                tar -C "$dir/l" -x --keep-directory-symlink
        done
        unset IFS
    fi
    mkdir -p "$dir/u" "$dir/w" "$dir/m" "$dir/cg" "$dir/keep"
    m=$dir/m
    mount -t overlay lab -o "lowerdir=$dir/l:/,upperdir=$dir/u,workdir=$dir/w" "$m"
    mkdir -p "$m/keep"
    mount --bind "$dir/keep" "$m/keep"
    for d in run tmp var/tmp dev; do
        mkdir -p "$m/$d"
        mount -t tmpfs -o mode=755 t "$m/$d"
    done
    chmod 1777 "$m/tmp" "$m/var/tmp"
    for n in null zero full random urandom tty; do
        mknod -m 666 "$m/dev/$n" c $(stat -c '0x%t 0x%T' "/dev/$n")
    done
    # A KVM that works inside as it does outside.
    [ ! -c /dev/kvm ] || mknod -m 666 "$m/dev/kvm" c $(stat -c '0x%t 0x%T' /dev/kvm)
    mkdir "$m/dev/pts" "$m/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666 d "$m/dev/pts"
    ln -s pts/ptmx "$m/dev/ptmx"
    ln -s /proc/self/fd "$m/dev/fd"
    mount -t tmpfs t "$m/dev/shm"
    for bind in "$@"; do
        if [ -d "$bind" ]; then
            mkdir -p "$m$bind"
        else
            mkdir -p "$m${bind%/*}"
            : >"$m$bind"
        fi
        mount --bind "$bind" "$m$bind"
    done
    # Nothing of this machine's own services comes up inside, and nothing of its own mcp is seen.
    [ -z "$new" ] || rm -rf "$m/etc/systemd/system" "$m/etc/mcp" "$m/var/lib/mcp" "$m/var/log/mcp" "$m/var/log/journal" \
        "$m"/var/spool/cron/crontabs/* "$m"/etc/cron.d/* "$m"/etc/init.d/*
    mkdir -p "$m/etc/systemd/system" "$m/proc" "$m/sys"
    echo "$name" >"$m/etc/hostname"
    echo "$name" | md5sum | cut -c 1-32 >"$m/etc/machine-id"
    # A control group of cgroups v2 alone, whatever this machine mounts where.
    group=
    if mount -t cgroup2 c "$dir/cg" 2>/dev/null; then
        group=$dir/cg/mcp-lab-$$
        mkdir "$group" || group=
    fi
    status=0
    MCP_LAB=inner unshare --mount --pid --uts --ipc --net --fork --kill-child --propagation private \
        bash -c '[ -z "$1" ] || echo $$ >"$1/cgroup.procs"; shift; exec unshare --cgroup bash -c "$@"' x "$group" \
        'eval "$MCP_SCRIPT"' "$0" "$kind" "$name" "$dir" "$roots" "$address" </dev/null 9</proc/self/ns/net || status=$?
    until [ -z "$group" ] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && [ ! -d "$group" ]; do
        [ -d "$group" ] || break
        sleep 0.02
    done
    exit "$status"
fi
cd "$dir/m"
ip link set lo up 2>/dev/null || true
if [ "$address" != - ]; then
    outside() { nsenter --net=/proc/self/fd/9 ip "$@"; }
    # That of a machine of this name that was killed may last for a moment.
    outside link del "$name" 2>/dev/null || true
    ip link add eth0 type veth peer name "$name" netns /proc/self/fd/9
    outside link set "$name" master br0 up
    ip addr add "$address/24" dev eth0
    ip link set eth0 up
fi
exec 9<&-
hostname "$name"
mount -t proc p proc
mount -t sysfs -o ro s sys
# Among them those of a cluster, where crun wants it.
[ "$kind$address" = plain- ] || mount -t cgroup2 c sys/fs/cgroup
mkdir -p oldroot
pivot_root . oldroot
umount -l /oldroot
rmdir /oldroot 2>/dev/null || true
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
if [ "$kind" = systemd ]; then
    exec env -i container=lab "PATH=$PATH" /lib/systemd/systemd --system --show-status=no --log-target=journal </dev/null
fi
: >/run/lab-is-up
while :; do
    sleep 1000 &
    wait $! || true
done
