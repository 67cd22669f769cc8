# switch.sh DIR ROOT NODES: what the nodes of a cluster have in common, in namespaces of its own: a bridge where the test is
# 10.9.0.254, a disk for each node (DIR/n1 ...), and the layer that they share: ROOT with the configuration of corosync and
# Pacemaker. Runs until it is killed.
set -eu
dir=$1 root=$2 nodes=$3
if [ -z "${MCP_SWITCH:-}" ]; then
    MCP_SWITCH=1 exec unshare --mount --net --propagation private bash -c 'eval "$MCP_SCRIPT"' "$0" "$@"
fi
mount -t tmpfs -o mode=755 switch "$dir"
l=$dir/l
mkdir "$l"
tar -C "$root" -c --exclude=./bin --exclude=./sbin --exclude=./lib --exclude=./lib64 \
    --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/snmp . | tar -C "$l" -x
ip link set lo up
# An address of its own: else it takes one of the nodes', and another when that one goes.
ip link add br0 address 02:00:00:00:00:fe type bridge
ip addr add 10.9.0.254/24 dev br0
ip link set br0 up

# What maintainer scripts would do.
cp -a /etc/passwd /etc/group "$l/etc/"
grep -q '^haclient:' "$l/etc/group" || echo 'haclient:x:189:' >>"$l/etc/group"
grep -q '^hacluster:' "$l/etc/passwd" || echo 'hacluster:x:189:189::/var/lib/pacemaker:/usr/sbin/nologin' >>"$l/etc/passwd"
user=$(sed -n 's/^hacluster:[^:]*:\([0-9]*\):.*/\1/p' "$l/etc/passwd")
group=$(sed -n 's/^haclient:[^:]*:\([0-9]*\):.*/\1/p' "$l/etc/group")
# Debian 13's IPaddr2 says awk, and means the gawk that resource-agents brings.
mkdir -p "$l/etc/alternatives"
[ ! -x "$l/usr/bin/gawk" ] || ln -sf /usr/bin/gawk "$l/etc/alternatives/awk"
{
    cat <<CONF
totem {
    version: 2
    cluster_name: lab
    transport: knet
    token: 1000
}
quorum {
    provider: corosync_votequorum
}
logging {
    to_stderr: no
    to_syslog: no
    to_logfile: yes
    logfile: /var/log/corosync/corosync.log
}
system {
    sched_rr: no
    move_to_root_cgroup: no
}
CONF
    echo 'nodelist {'
    for i in $nodes; do
        printf '    node {\n        ring0_addr: 10.9.0.%s\n        name: n%s\n        nodeid: %s\n    }\n' "$i" "$i" "$i"
    done
    echo '}'
} >"$l/etc/corosync/corosync.conf"
cp /etc/hosts "$l/etc/hosts"
for i in $nodes; do
    echo "10.9.0.$i n$i" >>"$l/etc/hosts"
done
mkdir -p "$l/var/log/crmsh" "$l/var/lib/pacemaker/cib" "$l/var/log/pacemaker" "$l/var/log/corosync" "$l/usr/sbin"
cat >"$l/var/lib/pacemaker/cib/cib.xml" <<CIB
<cib validate-with="pacemaker-3.7" admin_epoch="0" epoch="1" num_updates="0"><configuration><crm_config>
<cluster_property_set id="cib-bootstrap-options">
<nvpair id="o1" name="stonith-enabled" value="true"/>
<nvpair id="o2" name="stonith-action" value="off"/>
<nvpair id="o3" name="dc-deadtime" value="1s"/>
<nvpair id="o4" name="load-threshold" value="1000%"/>
</cluster_property_set></crm_config><nodes/><resources>
<primitive id="fence" class="stonith" type="fence_lab"><instance_attributes id="f">
<nvpair id="f1" name="pcmk_host_check" value="static-list"/>
<nvpair id="f2" name="pcmk_host_list" value="$(for i in $nodes; do printf ' n%s' "$i"; done)"/>
</instance_attributes></primitive>
</resources><constraints/></configuration><status/></cib>
CIB
chmod 600 "$l/var/lib/pacemaker/cib/cib.xml"
chown -R "$user:$group" "$l/var/lib/pacemaker" "$l/var/log/pacemaker"
cat >"$l/usr/sbin/fence_lab" <<'AGENT'
#!/bin/bash
# fence_lab: asks the lab's power switch.
action=off port=
while read -r line; do
    case $line in
    action=*) action=${line#*=} ;;
    port=* | plug=*) port=${line#*=} ;;
    esac
done
case $action in
metadata)
    cat <<XML
<?xml version="1.0" ?>
<resource-agent name="fence_lab" shortdesc="the lab's power switch"><longdesc>-</longdesc>
<parameters><parameter name="port" unique="0" required="1"><content type="string"/><shortdesc lang="en">node</shortdesc></parameter></parameters>
<actions><action name="on"/><action name="off"/><action name="reboot"/><action name="status"/><action name="list"/>
<action name="monitor"/><action name="metadata"/></actions></resource-agent>
XML
    ;;
off | reboot)
    exec 3<>/dev/tcp/10.9.0.254/7000 || exit 1
    echo "$port" >&3
    read -r -t 15 answer <&3 && [ "$answer" = off ]
    ;;
esac
AGENT
chmod 755 "$l/usr/sbin/fence_lab"
for i in $nodes; do
    mkdir "$dir/n$i"
    mount -t tmpfs -o mode=755 "n$i" "$dir/n$i"
    ln -s "$l" "$dir/n$i/l"
done
: >"$dir/up"
exec sleep infinity
