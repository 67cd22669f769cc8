# shellcheck shell=sh
# quickstart-node.sh: sourced by quickstart, the whole node of examples/node. It finds MCP_ROOT, target, show and
# free_port there; MCP_ROOT and all in it go when quickstart ends.
# shellcheck disable=SC2154

# podman with a storage and a network of its own, so that nothing of it is left, and no container of this machine is
# touched or shown.
mkdir -p "$MCP_ROOT/podman/networks"
CONTAINERS_CONF=$MCP_ROOT/podman/containers.conf
CONTAINERS_STORAGE_CONF=$MCP_ROOT/podman/storage.conf
export CONTAINERS_CONF CONTAINERS_STORAGE_CONF
# podman's own limits want a right that a process in a sandbox may not have.
cat >"$CONTAINERS_CONF" <<CONF
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=1024:4096"]
[engine]
events_logger = "none"
tmp_dir = "$MCP_ROOT/podman/tmp"
[network]
network_backend = "netavark"
network_config_dir = "$MCP_ROOT/podman/networks"
CONF
cat >"$CONTAINERS_STORAGE_CONF" <<CONF
[storage]
driver = "$(if [ "$(id -u)" = 0 ]; then echo overlay; else echo vfs; fi)"
graphroot = "$MCP_ROOT/podman/graph"
runroot = "$MCP_ROOT/podman/run"
CONF
cat >"$MCP_ROOT/podman/networks/podman.json" <<CONF
{"name": "podman", "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9", "driver": "bridge",
 "network_interface": "mcp-example", "created": "2024-01-01T00:00:00Z",
 "subnets": [{"subnet": "10.88.231.0/24", "gateway": "10.88.231.1"}], "ipv6_enabled": false, "internal": false,
 "dns_enabled": false, "ipam_options": {"driver": "host-local"}}
CONF
clean_podman() {
    podman rm --all --force --time 0 >/dev/null 2>&1 || true
    # An ordinary user's: files of its subordinate users, and the process that holds its namespace.
    if [ "$(id -u)" != 0 ]; then
        podman unshare rm -rf "$MCP_ROOT/podman/graph" >/dev/null 2>&1 || true
        podman system migrate >/dev/null 2>&1 || true
    fi
}

say "making the node's images"
scripts/lib/get-test-parts "$target/node-parts" python3-grpcio
examples/node/make-images "$MCP_ROOT/etc/images" "$target/release/hello" "$target/node-parts"

# The example's files; only their ports may be taken here.
cp examples/node/mcp.toml "$MCP_ROOT/etc/"
cp examples/node/services/*.toml "$MCP_ROOT/etc/services/"
next=8000
# port OLD: `sed` words that put a free port into the place of OLD, wherever the host's side of it stands.
move() {
    next=$(free_port $((next + 1)))
    sed -i "s/127\.0\.0\.1:$1\(:[0-9]*\)\{0,1\}\"/127.0.0.1:$next\1\"/; s/^\( *port *= \)$1\$/\1$next/; s/10\.0\.2\.2 $1\"/10.0.2.2 $next\"/" \
        "$MCP_ROOT"/etc/services/*.toml
}
move 8053
move 8081
api=$next
move 8082
move 8080
web=$next
next=50050
move 50051
if find_ops; then
    printf '\n[ops]\nbinary = "%s"\nhome   = "%s"\n' "$ops" "$ops_home" >>"$MCP_ROOT/etc/mcp.toml"
else
    say "no ops here, so the api runs as a microvm too; a unikernel wants ops (https://ops.city)"
    sed -i 's/"unikernel"/"microvm"/' "$MCP_ROOT/etc/services/api.toml"
fi

printf '\n$ export MCP_ROOT=%s\n' "$MCP_ROOT"
show cat "$MCP_ROOT/etc/mcp.toml"
show mcp deploy --record-only --all
show mcp boot --dry-run
show mcp boot --strict
show mcp status --health
show curl -sS "http://127.0.0.1:$web/"

# One of them is killed, as a fault would: not asked, and nobody told.
pid=$(mcp status -v web | sed -n 's/^ *pid: *\([0-9]*\)$/\1/p')
show kill -KILL "$pid"
tries=0
until left=$(mcp status --list --state running --state starting web) && [ -z "$left" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || fail 1 "web still runs after its QEMU was killed"
    sleep 0.1
done
# Its answer is no: what shall run doesn't.
if show mcp status; then
    fail 1 "a node that lacks a service was called whole"
fi
show mcp boot --strict
show mcp status --health
show curl -sS "http://127.0.0.1:$api/"

show mcp boot --last
show mcp boot --chart "$MCP_ROOT/boot.svg"
grep -q '</svg>' "$MCP_ROOT/boot.svg" || fail 1 "$MCP_ROOT/boot.svg: not a whole picture"
cp "$MCP_ROOT/boot.svg" "$target/boot.svg"
say "(kept as $target/boot.svg, for a browser)"
show mcp boot --down
printf '\nDone, %s s after the build; nothing of it is left running.\n' $(($(date +%s) - began))
