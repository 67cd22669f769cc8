# enter.sh KIND DIR ROOTS BIND...: a machine of its own in namespaces of its own: this machine's root under a tmpfs, with what
# ROOTS (DIR:DIR:...) hold copied in, so nothing that happens inside is seen outside. KIND is `plain`, where process 1 only
# reaps and init systems run as its children, or `systemd`. The BINDs are seen inside as they are. Runs until process 1
# has ended, and then removes its control group.
set -eu
kind=$1 dir=$2 roots=$3
shift 3
if [ -z "${MCP_LAB:-}" ]; then
    MCP_LAB=outer exec unshare --mount --propagation private bash "$0" "$kind" "$dir" "$roots" "$@"
fi
if [ "$MCP_LAB" = outer ]; then
    mount -t tmpfs -o mode=755 lab "$dir"
    mkdir "$dir/u" "$dir/w" "$dir/m" "$dir/cg"
    m=$dir/m
    mount -t overlay lab -o "lowerdir=/,upperdir=$dir/u,workdir=$dir/w" "$m"
    # Copied, since a layer of an overlay can't lie in another.
    IFS=:
    for l in $roots; do
        tar -C "$l" -c --exclude=./bin --exclude=./sbin --exclude=./lib --exclude=./lib64 . |
            tar -C "$m" -x --keep-directory-symlink
    done
    unset IFS
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
    rm -rf "$m/etc/systemd/system" "$m/etc/mcp" "$m/var/lib/mcp" "$m/var/log/mcp" "$m/var/log/journal" \
        "$m"/var/spool/cron/crontabs/* "$m"/etc/cron.d/* "$m"/etc/init.d/*
    mkdir -p "$m/etc/systemd/system" "$m/proc" "$m/sys"
    echo lab >"$m/etc/hostname"
    echo 0123456789abcdef0123456789abcdef >"$m/etc/machine-id"
    # A control group of cgroups v2 alone, whatever this machine mounts where.
    group=
    if mount -t cgroup2 c "$dir/cg" 2>/dev/null; then
        group=$dir/cg/mcp-lab-$$
        mkdir "$group" || group=
    fi
    status=0
    MCP_LAB=inner unshare --mount --pid --uts --ipc --net --fork --kill-child --propagation private \
        bash -c '[ -z "$1" ] || echo $$ >"$1/cgroup.procs"; shift; exec unshare --cgroup bash "$@"' x "$group" "$0" "$kind" \
        "$dir" "$roots" </dev/null || status=$?
    until [ -z "$group" ] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && [ ! -d "$group" ]; do
        [ -d "$group" ] || break
        sleep 0.02
    done
    exit "$status"
fi
cd "$dir/m"
ip link set lo up 2>/dev/null || true
hostname lab
mount -t proc p proc
mount -t sysfs -o ro s sys
[ "$kind" != systemd ] || mount -t cgroup2 c sys/fs/cgroup
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
