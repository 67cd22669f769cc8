# Completion of mcp's programs for bash.
# Written by a test out of the programs' own --help; see tests/suite/completion.rs.

# The long options of program $1.
_mcp_options() {
    case $1 in
    mcp) echo '--root --help --version' ;;
    mcp-pull) echo '--root --for --dry-run --json --quiet --timeout --help --version' ;;
    mcp-build) echo '--root --for --arg --env --volume --json --timeout --gc --dry-run --help --version' ;;
    mcp-run-vm) echo '--root --help --version --name --disk --kernel --initrd --cmdline --rootfs --image --port --memory --vcpus --egress --volume --env --env-file --persistent --restart --stop-timeout --start-timeout --health --health-path --health-service --detach --wait --ready --console --notify-fd --recover --by-policy --no-restart --adopt --dry-run' ;;
    mcp-run-container) echo '--root --detach --wait --ready --console --notify-fd --recover --by-policy --no-restart --adopt --dry-run --help --version' ;;
    mcp-run) echo '--root --all --detach --by-init --wait --ready --console --notify-fd --recover --by-policy --no-restart --adopt --replace --dry-run --help --version' ;;
    mcp-stop) echo '--root --all --for-now --within --unsupervised --help --version' ;;
    mcp-rm) echo '--root --all --volumes --help --version' ;;
    mcp-health) echo '--root --all --timeout --wait --interval --successes --failures --ca --server-name --tls-no-verify --cert --key --authority --header --downtime --quiet --json --nagios --record --on-change --help --version' ;;
    mcp-boot) echo '--root --stage --dry-run --strict --json --notify-fd --down --within --last --chart --help --version' ;;
    mcp-status) echo '--root --json --list --verbose --health --remote --state --drift --placement --watch --wanted --installed --again --ended --prometheus --doctor --cluster --via --timeout --nagios --help --version' ;;
    mcp-logs) echo '--root --follow --lines --since --until --timestamps --raw --sanitize --json --supervisor --help --version' ;;
    mcp-record) echo '--root --new --back --drop --check --deployable --now --settle --leave --json --help --version' ;;
    mcp-deploy) echo '--from --dry-run --no-rollback --record-only --all --direct --root --quiet --help --version' ;;
    mcp-units) echo '--root --dest --dry-run --force --remove --generator --plan --help --version' ;;
    mcp-cluster) echo '--crm --pcs --xml --apply --dry-run --via --node --pin --shared --root --help --version' ;;
    mcp-get-guest-kernel) echo '--own' ;;
    mcp-probe) echo '--root --help --version' ;;
    grpc_health_probe) echo '-addr -service -connect-timeout -rpc-timeout -rpc-header -user-agent -tls -tls-ca-cert -tls-client-cert -tls-client-key -tls-server-name -tls-no-verify -v -version' ;;
    esac
}

# What follows option $2 of program $1: a word for what it is, or the words that are possible.
_mcp_value() {
    case $1:$2 in
    mcp:--root | \
    mcp-pull:--root | \
    mcp-build:--root | \
    mcp-run-vm:--root | \
    mcp-run-vm:--rootfs | \
    mcp-run-vm:--image | \
    mcp-run-container:--root | \
    mcp-run:--root | \
    mcp-stop:--root | \
    mcp-rm:--root | \
    mcp-health:--root | \
    mcp-boot:--root | \
    mcp-status:--root | \
    mcp-logs:--root | \
    mcp-record:--root | \
    mcp-deploy:--root | \
    mcp-units:--root | \
    mcp-units:--dest | \
    mcp-cluster:--root | \
    mcp-probe:--root)
        echo 'dirs'
        ;;
    mcp-pull:--for | \
    mcp-build:--for)
        echo 'unikernel microvm container'
        ;;
    mcp-pull:--timeout | \
    mcp-build:--arg | \
    mcp-build:-e | \
    mcp-build:--env | \
    mcp-build:--volume | \
    mcp-build:--timeout | \
    mcp-run-vm:--name | \
    mcp-run-vm:--cmdline | \
    mcp-run-vm:-p | \
    mcp-run-vm:--port | \
    mcp-run-vm:--memory | \
    mcp-run-vm:--vcpus | \
    mcp-run-vm:--volume | \
    mcp-run-vm:-e | \
    mcp-run-vm:--env | \
    mcp-run-vm:--stop-timeout | \
    mcp-run-vm:--start-timeout | \
    mcp-run-vm:--health-service | \
    mcp-run-vm:--notify-fd | \
    mcp-run-container:--notify-fd | \
    mcp-run:--notify-fd | \
    mcp-stop:--within | \
    mcp-health:--timeout | \
    mcp-health:--wait | \
    mcp-health:--interval | \
    mcp-health:--successes | \
    mcp-health:--failures | \
    mcp-health:--server-name | \
    mcp-health:--authority | \
    mcp-health:--header | \
    mcp-health:--on-change | \
    mcp-boot:--notify-fd | \
    mcp-boot:--within | \
    mcp-status:--ended | \
    mcp-status:--via | \
    mcp-status:--timeout | \
    mcp-logs:-n | \
    mcp-logs:--lines | \
    mcp-logs:--since | \
    mcp-logs:--until | \
    mcp-cluster:--via | \
    mcp-cluster:--node | \
    mcp-cluster:--pin | \
    grpc_health_probe:-addr | \
    grpc_health_probe:-service | \
    grpc_health_probe:-connect-timeout | \
    grpc_health_probe:-rpc-timeout | \
    grpc_health_probe:-rpc-header | \
    grpc_health_probe:-user-agent | \
    grpc_health_probe:-tls-server-name)
        echo 'any'
        ;;
    mcp-run-vm:--disk | \
    mcp-run-vm:--kernel | \
    mcp-run-vm:--initrd | \
    mcp-run-vm:--env-file | \
    mcp-run-vm:--health-path | \
    mcp-health:--ca | \
    mcp-health:--cert | \
    mcp-health:--key | \
    mcp-boot:--chart | \
    mcp-status:--prometheus | \
    mcp-deploy:--from | \
    grpc_health_probe:-tls-ca-cert | \
    grpc_health_probe:-tls-client-cert | \
    grpc_health_probe:-tls-client-key)
        echo 'files'
        ;;
    mcp-run-vm:--egress)
        echo 'all none'
        ;;
    mcp-run-vm:--restart)
        echo 'no on-failure always'
        ;;
    mcp-run-vm:--health)
        echo 'tcp http grpc none'
        ;;
    mcp-run-vm:--ready | \
    mcp-run-container:--ready | \
    mcp-run:--ready)
        echo 'started healthy'
        ;;
    mcp-run-vm:--console | \
    mcp-run-container:--console | \
    mcp-run:--console)
        echo 'file stdout'
        ;;
    mcp-boot:--stage)
        echo 'stages'
        ;;
    mcp-status:--state)
        echo 'absent starting running stopping waiting stopped exited completed failed unknown'
        ;;
    mcp-status:--drift)
        echo 'missing orphan image config stopped-but-running unhealthy unsupervised crash-loop record'
        ;;
    mcp-status:--placement)
        echo 'node cluster'
        ;;
    mcp-status:--wanted | \
    mcp-status:--installed | \
    mcp-status:--again | \
    mcp-cluster:--shared)
        echo 'targets'
        ;;
    esac
}

# The operands of program $1, in the same way.
_mcp_operands() {
    case $1 in
    mcp) echo 'pull build run-vm run-container run stop rm health boot status logs record deploy units cluster help' ;;
    mcp-pull) echo 'targets' ;;
    mcp-build) echo 'targets' ;;
    mcp-run-vm) echo 'targets' ;;
    mcp-run-container) echo 'targets' ;;
    mcp-run) echo 'targets' ;;
    mcp-stop) echo 'targets' ;;
    mcp-rm) echo 'targets' ;;
    mcp-health) echo 'targets' ;;
    mcp-status) echo 'targets' ;;
    mcp-logs) echo 'targets' ;;
    mcp-record) echo 'targets' ;;
    mcp-deploy) echo 'services' ;;
    mcp-units) echo 'systemd s6 s6-rc runit openrc dinit' ;;
    mcp-cluster) echo 'services' ;;
    mcp-get-guest-kernel) echo 'dirs' ;;
    esac
}

# The words of kind $1. What is asked of programs goes to those in folder $2, on the node of --root $3.
_mcp_words() {
    local with=() service component
    [[ -z $3 ]] || with=(--root "$3")
    case $1 in
    targets)
        "$2"mcp-status "${with[@]}" --list 2>/dev/null </dev/null | while IFS=/ read -r service component; do
            printf '%s\n' "$service" "$service/$component"
        done
        ;;
    services) "$2"mcp-status "${with[@]}" --list 2>/dev/null </dev/null | sed 's,/.*,,' ;;
    stages) "$2"mcp-boot "${with[@]}" --dry-run 2>/dev/null </dev/null | sed -n 's/^stage \([^:]*\):.*/\1/p' ;;
    any) ;;
    *) printf '%s\n' "$1" ;;
    esac
}

_mcp() {
    local program=${1##*/} folder='' cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} kind root='' at
    [[ $1 != */* ]] || folder=${1%/*}/
    COMPREPLY=()
    # bash splits --option=value at the sign.
    if [[ $cur == = ]]; then
        cur=''
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for ((at = 1; at < COMP_CWORD - 1; at++)); do
        [[ ${COMP_WORDS[at]} == --root ]] || continue
        root=${COMP_WORDS[at + 1]}
        [[ $root != = ]] || root=${COMP_WORDS[at + 2]}
        root=${root/#~\//$HOME/}
    done
    if [[ $program == mcp ]]; then
        for ((at = 1; at < COMP_CWORD; at++)); do
            case ${COMP_WORDS[at]} in
            --root) if [[ ${COMP_WORDS[at + 1]} == = ]]; then at=$((at + 2)); else at=$((at + 1)); fi ;;
            help) break ;;
            -*) ;;
            *)
                program=mcp-${COMP_WORDS[at]}
                break
                ;;
            esac
        done
    fi
    kind=$(_mcp_value "$program" "$prev")
    if [[ -z $kind && $cur == -* ]]; then
        kind=$(_mcp_options "$program")
    elif [[ -z $kind ]]; then
        kind=$(_mcp_operands "$program")
    fi
    case $kind in
    dirs | files)
        compopt -o filenames 2>/dev/null
        if [[ $kind == dirs ]]; then
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        fi
        ;;
    *) mapfile -t COMPREPLY < <(compgen -W "$(_mcp_words "$kind" "$folder" "$root")" -- "$cur") ;;
    esac
}

complete -F _mcp mcp mcp-pull mcp-build mcp-run-vm mcp-run-container mcp-run mcp-stop mcp-rm mcp-health mcp-boot mcp-status mcp-logs mcp-record mcp-deploy mcp-units mcp-cluster mcp-get-guest-kernel mcp-probe grpc_health_probe
