//! Files for OpenRC: an init script for each component, which supervise-daemon keeps up, one for each stage, and `mcp`, which
//! belongs to a runlevel and starts the stages.
//!
//! supervise-daemon starts again whatever ends, and knows no readiness. So it runs a shell (`mcp-supervise.sh`, a name that
//! OpenRC takes for no service), which asks `mcp-status --again` after each end, and takes the service down where it shall
//! not run again. Readiness is for the stages' services, which wait in `mcp-boot --stage`.

use super::UnitFile;
use super::plan::{Plan, Stage, Unit};
use super::words::{gate, service, sh};

/// Where they go by default.
pub const FOLDER: &str = "/etc/init.d";
/// What makes it know of them.
pub const NEXT: &str = "rc-update add mcp default\nrc-service mcp start";

/// What is on its way: pids, and how it went.
const RUN: &str = "/run/mcp-openrc";
const NOTE: &str = "# Written by mcp-units from the node's definitions; run it again after a change of them.\n";

/// All files.
pub fn files(plan: &Plan) -> Vec<UnitFile> {
    let mut files = vec![
        UnitFile::script("mcp", node(plan)),
        UnitFile { content: super::Content::Text(supervise(plan), 0o644), path: "mcp-supervise.sh".into() },
    ];
    for (index, stage) in plan.stages.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|i| plan.stages.get(i));
        files.push(UnitFile::script(gate(stage), stage_script(plan, stage, before)));
        files.extend(stage.units.iter().map(|unit| component(plan, unit, before)));
    }
    files.extend(plan.rest.iter().map(|unit| component(plan, unit, plan.stages.last())));
    files
}

fn words<'a>(units: impl IntoIterator<Item = &'a Unit>) -> String {
    units.into_iter().map(service).collect::<Vec<_>>().join(" ")
}

/// What all scripts begin with.
fn head(plan: &Plan, description: &str) -> String {
    let root = plan.root.as_ref().map(|root| format!("export MCP_ROOT={}\n", sh(&root.display().to_string())));
    format!("#!/sbin/openrc-run\n{NOTE}\ndescription=\"{description}\"\n{}", root.unwrap_or_default())
}

fn programs(plan: &Plan) -> String {
    sh(&plan.programs.display().to_string())
}

fn log(plan: &Plan) -> String {
    sh(&plan.log.display().to_string())
}

fn component(plan: &Plan, unit: &Unit, before: Option<&Stage>) -> UnitFile {
    let (head, name) = (head(plan, &format!("mcp component {}", unit.id)), service(unit));
    let need = before.map(|stage| format!("    need {}\n", gate(stage))).unwrap_or_default();
    let text = format!(
        r#"{head}id={id}
run={RUN}/{name}
programs={programs}
log={log}/{name}.log
supervisor=supervise-daemon
command=/bin/sh
command_args="${{RC_SERVICE%/*}}/mcp-supervise.sh {name} $id"
pidfile=$run.pid
# Longer than the whole stop ladder: mcp-run itself kills what does not stop.
retry="TERM/{stop}/KILL/5"
respawn_delay=1
respawn_max=0
extra_commands="up"
extra_started_commands="reload"
description_up="Start it and wait until it is ready, has ended, or 3 s are over; for [boot] start_command"
description_reload="Replace it by what its definition says now, without a gap where that can be"

depend() {{
{need}    use net
}}

start_pre() {{
    mkdir -p -m 0700 {RUN} && rm -f "$run.ready" "$run.end" || return
    "$programs/mcp-status" --wanted "$id" && return
    eerror "$id shall not run; mcp-run $id starts it"
    return 1
}}

stop() {{
    default_stop || return
    # What has lost its supervisor runs on without it.
    told=$("$programs/mcp-stop" --for-now "$id" 2>&1)
    case $? in
        0) einfo "$told" ;;
        1) ;;
        *)
            eerror "$told"
            return 1
            ;;
    esac
}}

up() {{
    if service_started && kill -0 "$(cat "$pidfile" 2>/dev/null)" 2>/dev/null; then
        # It may be on its way out, or wait for its next try.
        [ -e "$run.end" ] || kill -USR1 "$(cat "$run.sh")" 2>/dev/null
    elif service_started; then
        mark_service_stopped
    fi
    left=50
    while service_started && [ -e "$run.end" ] && [ "$left" -gt 0 ]; do
        sleep 0.1
        left=$((left - 1))
    done
    service_started || "$RC_SERVICE" start || return
    left=30
    while [ "$left" -gt 0 ]; do
        [ ! -s "$run.ready" ] || return 0
        if [ -e "$run.end" ]; then
            tail -n 1 "$log" >&2
            return "$(cat "$run.end")"
        fi
        sleep 0.1
        left=$((left - 1))
    done
}}

reload() {{
    ebegin "Replacing $id"
    "$programs/mcp-run" --replace "$id"
    eend $?
}}
"#,
        id = unit.id,
        programs = programs(plan),
        log = log(plan),
        stop = unit.stop_time.as_secs() + 1,
    );
    UnitFile::script(name, text)
}

fn stage_script(plan: &Plan, stage: &Stage, before: Option<&Stage>) -> String {
    let head = head(plan, &format!("mcp stage {}", stage.name));
    let need = before.map(|stage| format!("    need {}\n", gate(stage))).unwrap_or_default();
    let after = if stage.units.is_empty() { String::new() } else { format!("    after {}\n", words(&stage.units)) };
    format!(
        r#"{head}stage={name}
run={RUN}/mcp-stage-$stage
programs={programs}
components="{components}"

depend() {{
{need}{after}    use net
    # The foundation waits for ever.
    keyword -timeout
}}

start() {{
    ebegin "Bringing up stage $stage"
    mkdir -p -m 0700 {RUN} || return
    code=137
    # One that was killed is begun again: it goes on where the stage stands.
    while [ "$code" = 137 ]; do
        "$programs/mcp-boot" --stage "$stage" &
        echo $! >"$run.boot"
        wait $!
        code=$?
    done
    eend "$code"
}}

stop() {{
    ebegin "Stopping stage $stage"
    "$programs/mcp-boot" --down --stage "$stage"
    code=$?
    # Those that had nothing running.
    for one in $components; do
        rc-service --nodeps --ifstarted "$one" stop || code=1
    done
    rm -f "$run.boot"
    eend $code
}}
"#,
        name = stage.name,
        programs = programs(plan),
        components = words(&stage.units),
    )
}

/// The service that stands for the node.
fn node(plan: &Plan) -> String {
    let gates: Vec<String> = plan.stages.iter().map(gate).collect();
    let down = match gates.is_empty() {
        true => String::new(),
        false => "    \"$programs/mcp-boot\" --down || code=1\n".to_string(),
    };
    let reversed: Vec<String> = gates.iter().rev().cloned().collect();
    let staged = plan.stages.iter().flat_map(|stage| &stage.units);
    format!(
        r#"{head}run={RUN}
programs={programs}
log={log}
stages="{gates}"
components="{components}"
unstaged="{unstaged}"
extra_commands="stages"
description_stages="Bring up the stages in order, in the foreground"

depend() {{
    use net dns logger
    after localmount bootmisc firewall clock $stages $components $unstaged
}}

# The stages come up in the background, and meanwhile this service is inactive: a foundation that does not become healthy
# must not keep a runlevel from the services after it.
start() {{
    ! yesno "$IN_BACKGROUND" || return 0
    ebegin "Bringing up the stages in the background"
    mkdir -p -m 0700 "$run" "$log" && mark_service_inactive
    setsid sh -c 'echo $$ >"$0/mcp.pid"; exec "$1" stages >>"$2/mcp.log" 2>&1' "$run" "$RC_SERVICE" "$log" </dev/null &
    eend $?
}}

stages() {{
    for stage in $stages; do
        rc-service "$stage" start || return
    done
    for one in $unstaged; do
        rc-service "$one" up &
    done
    wait
    ! service_inactive || IN_BACKGROUND=yes "$RC_SERVICE" start
}}

stop() {{
    ebegin "Taking the stages down"
    code=0
    for pid in "$run/mcp.pid" "$run"/mcp-stage-*.boot; do
        [ ! -e "$pid" ] || kill -TERM "$(cat "$pid")" 2>/dev/null
        rm -f "$pid"
    done
    for one in $unstaged; do
        rc-service --nodeps --ifstarted "$one" stop &
    done
    wait
{down}    # Those that had nothing running, and what only says that all is up.
    for one in $components {reversed}; do
        rc-service --nodeps --ifstarted "$one" stop || code=1
    done
    eend $code
}}
"#,
        head = head(plan, "all services of this node that mcp runs"),
        programs = programs(plan),
        log = log(plan),
        gates = gates.join(" "),
        components = words(staged),
        unstaged = words(&plan.rest),
        reversed = reversed.join(" "),
    )
}

/// What supervise-daemon runs for each component.
fn supervise(plan: &Plan) -> String {
    format!(
        r#"#!/bin/sh
{NOTE}# mcp-supervise.sh NAME SERVICE/COMPONENT: what supervise-daemon, which starts again whatever ends, keeps running for the
# service NAME. Runs the component's supervisor, and after each end asks whether to run it again.
name=$1 id=$2
run={RUN}/$name programs={programs} log={log}
asked='' child='' nap=''
trap 'asked=1; kill -TERM $child $nap 2>/dev/null' TERM
trap 'kill -HUP $child 2>/dev/null' HUP
trap 'kill -TERM $nap 2>/dev/null' USR1
umask 077
mkdir -p "$log"
exec >>"$log/$name.log" 2>&1
echo $$ >"$run.sh"

daemon_is_there() {{
    read -r comm <"/proc/$PPID/comm" && [ "$comm" = supervise-daemo ]
}} 2>/dev/null

# One before us was killed, and its mcp-run goes on with nobody to tell of its end: ours takes over what that runs.
if read -r old <"$run.child" && read -r comm <"/proc/$old/comm"; then
    case $comm in mcp-run*) kill -KILL "$old" ;; esac
fi 2>/dev/null

pause=1
while :; do
    # The guest's console has a log of its own, which is rotated; here are the words of mcp-run.
    if [ -n "$(find "$log/$name.log" -size +1024k 2>/dev/null)" ]; then
        mv "$log/$name.log" "$log/$name.log.1"
        exec >>"$log/$name.log" 2>&1
    fi
    began=$(date +%s)
    "$programs/mcp-run" --recover --notify-fd 3 "$id" 3>"$run.ready" &
    child=$!
    echo "$child" >"$run.child"
    [ -z "$asked" ] || kill -TERM "$child"
    # A signal ends the wait, but not the child.
    while
        wait "$child"
        code=$?
        kill -0 "$child" 2>/dev/null
    do :; done
    child=''
    # Whoever has come in our place has these files.
    [ -n "$asked" ] || daemon_is_there || exit 1
    rm -f "$run.child" "$run.ready"
    [ -z "$asked" ] || break
    "$programs/mcp-status" --again "$id" --ended "$code"
    case $? in
        0 | 111) ;;
        *) break ;;
    esac
    [ $(($(date +%s) - began)) -lt 60 ] || pause=1
    sleep "$pause" &
    nap=$!
    wait "$nap"
    nap=''
    [ -z "$asked" ] || break
    pause=$((pause * 2))
    [ "$pause" -le 60 ] || pause=60
done
rm -f "$run.sh"
[ -z "$asked" ] || exit 0
echo "$code" >"$run.end"
# Not before supervise-daemon listens, which its pid file tells; and a service that is still starting would be said to have
# started after it has stopped.
while daemon_is_there; do
    rc-service "$name" status >/dev/null 2>&1
    [ $? = 8 ] || [ ! -s "$run.pid" ] || break
    sleep 0.1
done
# Of one whose init script is gone (and this a link to nowhere) OpenRC would say for ever that it is up.
[ -e "/run/openrc/started/$name" ] || rm -f "/run/openrc/started/$name"
# Its end is the service's end, which is told again and again: supervise-daemon may miss a signal.
while [ -z "$asked" ] && daemon_is_there && kill -TERM "$PPID"; do
    sleep 1 &
    nap=$!
    wait "$nap"
done
"#,
        programs = programs(plan),
        log = log(plan),
    )
}
