# Completion of mcp's programs for fish.
# Written by a test out of the programs' own --help; see tests/suite/completion.rs.

# The node that the line names with --root, as options for a program.
function __mcp_root
    set -l line (commandline -opc)
    for at in (seq (count $line))
        switch $line[$at]
            case --root
                test $at -lt (count $line); and printf '%s\n' --root $line[(math $at + 1)]
            case '--root=*'
                printf '%s\n' $line[$at]
        end
    end
end

function __mcp_targets
    set -l found (mcp-status (__mcp_root) --list 2>/dev/null)
    string replace -r '/.*' '' -- $found | sort -u
    printf '%s\n' $found
end

function __mcp_services
    mcp-status (__mcp_root) --list 2>/dev/null | string replace -r '/.*' '' | sort -u
end

function __mcp_stages
    mcp-boot (__mcp_root) --dry-run 2>/dev/null | string replace -rf '^stage ([^:]*):.*' '$1'
end

# Where in the line the program's name stands; fails where it is still to come.
function __mcp_program
    set -l line (commandline -opc)
    set -l at 2
    while test $at -le (count $line)
        switch $line[$at]
            case --root
                set at (math $at + 1)
            case '-*'
            case '*'
                echo $at
                return 0
        end
        set at (math $at + 1)
    end
    return 1
end

function __mcp_at_program
    set -l at (__mcp_program)
    or return 0
    set -l line (commandline -opc)
    test $line[$at] = help
end

# What the program that is named completes.
function __mcp_of_program
    set -l line (commandline -opc)
    set -l at (__mcp_program)
    or return
    set -l program mcp-$line[$at]
    # What stands before its name is its own as well.
    set -e line[$at]
    set -e line[1]
    complete -C (string join ' ' -- (string escape -- $program $line) (commandline -ct))
end

complete -c mcp -f
complete -c mcp -n __mcp_at_program -l root -x -a '(__fish_complete_directories)' -d 'Keep all files of mcp under DIR instead of the system\'s places'
complete -c mcp -n __mcp_at_program -s h -l help -d 'Print help'
complete -c mcp -n __mcp_at_program -s V -l version -d 'Print version'
complete -c mcp -n __mcp_at_program -a pull -d 'bring an OCI image to this node'
complete -c mcp -n __mcp_at_program -a build -d 'make a bootable image of that'
complete -c mcp -n __mcp_at_program -a run-vm -d 'run one component as a VM and stay with it until it ends'
complete -c mcp -n __mcp_at_program -a run-container -d 'the same for a podman container'
complete -c mcp -n __mcp_at_program -a run -d 'look at a component\'s runtime and exec the program that runs it'
complete -c mcp -n __mcp_at_program -a stop -d 'stop components: gracefully, then firmly'
complete -c mcp -n __mcp_at_program -a rm -d 'remove what a stopped component left'
complete -c mcp -n __mcp_at_program -a health -d 'is it healthy? one answer'
complete -c mcp -n __mcp_at_program -a boot -d 'bring the node up, stage by stage'
complete -c mcp -n __mcp_at_program -a status -d 'what should run, what does run, and how they differ'
complete -c mcp -n __mcp_at_program -a logs -d 'show and follow the consoles and containers\' logs'
complete -c mcp -n __mcp_at_program -a record -d 'what was deployed: show it, go back'
complete -c mcp -n __mcp_at_program -a deploy -d 'pull, build, restart, wait for health'
complete -c mcp -n __mcp_at_program -a units -d 'write the node\'s services as files of its init system'
complete -c mcp -n __mcp_at_program -a cluster -d 'what makes a Pacemaker cluster place services'
complete -c mcp -n __mcp_at_program -a help -d 'show a man page'
complete -c mcp -n 'not __mcp_at_program' -a '(__mcp_of_program)'

complete -c mcp-pull -f
complete -c mcp-pull -l root -x -a '(__fish_complete_directories)' -d 'Keep all files of mcp under DIR instead of the system\'s places (also: MCP_ROOT)'
complete -c mcp-pull -l for -x -a 'unikernel microvm container' -d 'What an image is pulled for [default: unikernel]; a component\'s definition says its own'
complete -c mcp-pull -l dry-run -d 'Only say what would be fetched, and how many bytes; write nothing'
complete -c mcp-pull -l json -d 'Print one JSON object'
complete -c mcp-pull -s q -l quiet -d 'No progress and no closing line; warnings and errors stay'
complete -c mcp-pull -l timeout -x -d 'How long the pull of one image may take [default: 1h]'
complete -c mcp-pull -s h -l help -d 'Print help'
complete -c mcp-pull -s V -l version -d 'Print version'
complete -c mcp-pull -a '(__mcp_targets)'

complete -c mcp-build -f
complete -c mcp-build -l root -x -a '(__fish_complete_directories)' -d 'Keep all files of mcp under DIR instead of the system\'s places (also: MCP_ROOT)'
complete -c mcp-build -l for -x -a 'unikernel microvm container' -d 'What it is to run as: a check of what was pulled'
complete -c mcp-build -l arg -x -d 'An argument of the program, in the place of the image\'s'
complete -c mcp-build -s e -l env -x -d 'NAME=VALUE in the environment of the program'
complete -c mcp-build -l volume -x -d 'A named disk of a unikernel: NAME:/PATH[:SIZE]'
complete -c mcp-build -l json -d 'Print one JSON object'
complete -c mcp-build -l timeout -x -d 'How long one build may take, and the wait for another who makes the same [default: 30m]'
complete -c mcp-build -l gc -d 'Remove what no record and no running VM needs, until the store has its max_size'
complete -c mcp-build -l dry-run -d 'Only tell what --gc would remove'
complete -c mcp-build -s h -l help -d 'Print help'
complete -c mcp-build -s V -l version -d 'Print version'
complete -c mcp-build -a '(__mcp_targets)'

complete -c mcp-run-vm -f
complete -c mcp-run-vm -l root -x -a '(__fish_complete_directories)' -d 'Keep all files of mcp under DIR instead of the system\'s places (also: MCP_ROOT)'
complete -c mcp-run-vm -s h -l help -d 'Print help'
complete -c mcp-run-vm -s V -l version -d 'Print version'
complete -c mcp-run-vm -l name -x -d 'Name of the component NAME/NAME'
complete -c mcp-run-vm -l disk -r -F -d 'Boot this raw disk image'
complete -c mcp-run-vm -l kernel -r -F -d 'Boot this kernel, with --disk as its disk'
complete -c mcp-run-vm -l initrd -r -F -d 'Initial RAM disk for --kernel'
complete -c mcp-run-vm -l cmdline -x -d 'Command line for --kernel'
complete -c mcp-run-vm -l rootfs -x -a '(__fish_complete_directories)' -d 'Boot this directory as a microvm\'s root file system'
complete -c mcp-run-vm -l image -x -a '(__fish_complete_directories)' -d 'Run what mcp-build made: the directory that it prints'
complete -c mcp-run-vm -s p -l port -x -d 'Forward a port: [BIND:]HOST:GUEST[/PROTO]'
complete -c mcp-run-vm -l memory -x -d 'Memory in MiB'
complete -c mcp-run-vm -l vcpus -x -d 'Virtual CPUs'
complete -c mcp-run-vm -l egress -x -a 'all none' -d 'What it may reach: all, or none but its forwarded ports'
complete -c mcp-run-vm -l volume -x -d 'A named disk: NAME:/PATH[:SIZE]'
complete -c mcp-run-vm -s e -l env -x -d 'NAME=VALUE in the environment of a microvm\'s program'
complete -c mcp-run-vm -l env-file -r -F -d 'File with NAME=VALUE lines for the same, kept secret'
complete -c mcp-run-vm -l persistent -d 'Keep what the guest writes to its root disk'
complete -c mcp-run-vm -l restart -x -a 'no on-failure always' -d 'When a detached run starts again: no, on-failure or always'
complete -c mcp-run-vm -l stop-timeout -x -d 'How long a graceful stop may take, like 35s'
complete -c mcp-run-vm -l start-timeout -x -d 'How long it may take to become healthy, like 60s'
complete -c mcp-run-vm -l health -x -a 'tcp http grpc none' -d 'How health is asked: tcp, http, grpc or none'
complete -c mcp-run-vm -l health-path -r -F -d 'Path of an http health check'
complete -c mcp-run-vm -l health-service -x -d 'Service that a grpc health check asks about [default: the server as a whole]'
complete -c mcp-run-vm -l detach -d 'Leave the supervisor in the background and return when it has started'
complete -c mcp-run-vm -l wait -d 'With --detach: return when it is ready instead'
complete -c mcp-run-vm -l ready -x -a 'started healthy' -d 'When it counts as ready: started, or healthy (the default where a health check is known)'
complete -c mcp-run-vm -l console -x -a 'file stdout' -d 'Where the console goes besides its log: nowhere (file), or to standard output as well (stdout) [default: file]'
complete -c mcp-run-vm -l notify-fd -x -d 'Tell readiness by a newline on this descriptor, as s6 and dinit have it'
complete -c mcp-run-vm -l recover -d 'For units and mcp-boot: start nothing that an operator stopped, and change no wish'
complete -c mcp-run-vm -l by-policy -d 'Start it again by its restart policy, as --detach does: for an init to which all ends are the same, as dinit\'s'
complete -c mcp-run-vm -l no-restart -d 'With --detach: leave its restart policy to whoever watches it, a cluster manager: each end of it is one'
complete -c mcp-run-vm -l adopt -d 'With --detach: adopt what has lost its supervisor, and start nothing; 1 where nothing runs'
complete -c mcp-run-vm -l dry-run -d 'Print QEMU\'s argument vector, one argument a line, and start nothing'
complete -c mcp-run-vm -a '(__mcp_targets)'

complete -c mcp-run-container -f
complete -c mcp-run-container -l root -x -a '(__fish_complete_directories)' -d 'Keep all files of mcp under DIR instead of the system\'s places (also: MCP_ROOT)'
complete -c mcp-run-container -l detach -d 'Leave the supervisor in the background and return when it has started'
complete -c mcp-run-container -l wait -d 'With --detach: return when it is ready instead'
complete -c mcp-run-container -l ready -x -a 'started healthy' -d 'When it counts as ready: started, or healthy (the default where a health check is known)'
complete -c mcp-run-container -l console -x -a 'file stdout' -d 'Where the console goes besides its log: nowhere (file), or to standard output as well (stdout) [default: file]'
complete -c mcp-run-container -l notify-fd -x -d 'Tell readiness by a newline on this descriptor, as s6 and dinit have it'
complete -c mcp-run-container -l recover -d 'For units and mcp-boot: start nothing that an operator stopped, and change no wish'
complete -c mcp-run-container -l by-policy -d 'Start it again by its restart policy, as --detach does: for an init to which all ends are the same, as dinit\'s'
complete -c mcp-run-container -l no-restart -d 'With --detach: leave its restart policy to whoever watches it, a cluster manager: each end of it is one'
complete -c mcp-run-container -l adopt -d 'With --detach: adopt what has lost its supervisor, and start nothing; 1 where nothing runs'
complete -c mcp-run-container -l dry-run -d 'Print podman\'s argument vector, one argument a line, and start nothing'
complete -c mcp-run-container -s h -l help -d 'Print help'
complete -c mcp-run-container -s V -l version -d 'Print version'
complete -c mcp-run-container -a '(__mcp_targets)'

complete -c mcp-run -f
complete -c mcp-run -l root -x -a '(__fish_complete_directories)' -d 'Keep all files of mcp under DIR instead of the system\'s places (also: MCP_ROOT)'
complete -c mcp-run -l all -d 'Recover all components: start what shall run and doesn\'t, as it was deployed'
complete -c mcp-run -l detach -d 'Leave the supervisor in the background and return when it has started'
complete -c mcp-run -l by-init -d 'Start through the node\'s [boot] start_command, so that the init system owns it; without one as --detach'
complete -c mcp-run -l wait -d 'With --detach, --by-init or --all: return when it is ready instead'
complete -c mcp-run -l ready -x -a 'started healthy' -d 'When it counts as ready: started, or healthy (the default where a health check is known)'
complete -c mcp-run -l console -x -a 'file stdout' -d 'Where the console goes besides its log: nowhere (file), or to standard output as well (stdout)'
complete -c mcp-run -l notify-fd -x -d 'Tell readiness by a newline on this descriptor, as s6 and dinit have it'
complete -c mcp-run -l recover -d 'For units and mcp-boot: start nothing that an operator stopped, and change no wish'
complete -c mcp-run -l by-policy -d 'Start it again by its restart policy, as --detach does: for an init to which all ends are the same, as dinit\'s'
complete -c mcp-run -l no-restart -d 'With --detach: leave its restart policy to whoever watches it, a cluster manager: each end of it is one'
complete -c mcp-run -l adopt -d 'With --detach: adopt what has lost its supervisor, and start nothing; 1 where nothing runs'
complete -c mcp-run -l replace -d 'Put a new VM in the place of the running one, by what was deployed or the definition, and answer when it serves'
complete -c mcp-run -l dry-run -d 'With --replace: start nothing, say how each would be replaced'
complete -c mcp-run -s h -l help -d 'Print help'
complete -c mcp-run -s V -l version -d 'Print version'
complete -c mcp-run -a '(__mcp_targets)'

complete -c mcp-stop -f
complete -c mcp-stop -l root -x -a '(__fish_complete_directories)' -d 'Keep all files of mcp under DIR instead of the system\'s places (also: MCP_ROOT)'
complete -c mcp-stop -l all -d 'Stop everything that runs'
complete -c mcp-stop -l for-now -d 'For units: stop it, also where its supervisor is gone, and let it start again with its init or the next boot'
complete -c mcp-stop -l within -x -d 'So long they have, where their own stop_timeout is longer: then they are stopped firmly'
complete -c mcp-stop -l unsupervised -d 'For units: only what has lost its supervisor; that there is nothing of it is well'
complete -c mcp-stop -s h -l help -d 'Print help'
complete -c mcp-stop -s V -l version -d 'Print version'
complete -c mcp-stop -a '(__mcp_targets)'

complete -c mcp-rm -f
complete -c mcp-rm -l root -x -a '(__fish_complete_directories)' -d 'Keep all files of mcp under DIR instead of the system\'s places (also: MCP_ROOT)'
complete -c mcp-rm -l all -d 'Remove what every component left'
complete -c mcp-rm -l volumes -d 'Remove named volumes too: the data on them is gone'
complete -c mcp-rm -s h -l help -d 'Print help'
complete -c mcp-rm -s V -l version -d 'Print version'
complete -c mcp-rm -a '(__mcp_targets)'

complete -c mcp-health -f
complete -c mcp-health -l root -x -a '(__fish_complete_directories)' -d 'Keep all files of mcp under DIR instead of the system\'s places (also: MCP_ROOT)'
complete -c mcp-health -l all -d 'Check all components of the node'
complete -c mcp-health -l timeout -x -d 'How long one check may take in all [default: the definition\'s, else 2s]'
complete -c mcp-health -l wait -x -d 'Check again and again until healthy, at most this long'
complete -c mcp-health -l interval -x -d 'Pause between checks [default: the definition\'s, else 500ms]'
complete -c mcp-health -l successes -x -d 'How many good checks in a row make it healthy [default: 1; with --wait the definition\'s]'
complete -c mcp-health -l failures -x -d 'How many bad checks in a row make it unhealthy, without --wait [default: 1]'
complete -c mcp-health -l ca -r -F -d 'Trust the certificates in this PEM file instead of the system\'s'
complete -c mcp-health -l server-name -x -d 'The name that the certificate must have'
complete -c mcp-health -l tls-no-verify -d 'Take any certificate, whoever it is of'
complete -c mcp-health -l cert -r -F -d 'Show this certificate to a server that wants one: a PEM file, with --key'
complete -c mcp-health -l key -r -F -d 'The private key of --cert: a PEM file'
complete -c mcp-health -l authority -x -d 'gRPC: ask as if the server had this name (:authority)'
complete -c mcp-health -l header -x -d 'gRPC: send this along'
complete -c mcp-health -l downtime -d 'Ask over and over until standard input ends, then tell the longest time without an answer'
complete -c mcp-health -s q -l quiet -d 'Print nothing; the exit code is the answer'
complete -c mcp-health -l json -d 'Print one JSON object'
complete -c mcp-health -l nagios -d 'Answer as a Nagios plugin does, with its exit codes'
complete -c mcp-health -l record -d 'Write each answer down, and print only what has changed since the last time'
complete -c mcp-health -l on-change -x -d 'On each change run CMD by sh -c, told about it by MCP_TARGET, MCP_HEALTH and others (implies --record)'
complete -c mcp-health -s h -l help -d 'Print help'
complete -c mcp-health -s V -l version -d 'Print version'
complete -c mcp-health -a '(__mcp_targets)'

complete -c mcp-boot -f
complete -c mcp-boot -l root -x -a '(__fish_complete_directories)' -d 'Keep all files of mcp under DIR instead of the system\'s places (also: MCP_ROOT)'
complete -c mcp-boot -l stage -x -a '(__mcp_stages)' -d 'Run this stage alone'
complete -c mcp-boot -l dry-run -d 'Start nothing, print what would be done'
complete -c mcp-boot -l strict -d 'Exit with 1 if anything was left unhealthy'
complete -c mcp-boot -l json -d 'Print what happens as JSON Lines (with --last: the record as one JSON document)'
complete -c mcp-boot -l notify-fd -x -d 'Tell readiness by a newline on this descriptor, as s6 and dinit have it'
complete -c mcp-boot -l down -d 'Stop the stages, the last one first; the next boot starts them again'
complete -c mcp-boot -l within -x -d 'With --down: how long it may take in all [default: what the components\' stop_timeout add up to]'
complete -c mcp-boot -l last -d 'Tell how the last boot went'
complete -c mcp-boot -l chart -r -F -d 'Draw the last boot into FILE, an SVG picture ("-": standard output)'
complete -c mcp-boot -s h -l help -d 'Print help'
complete -c mcp-boot -s V -l version -d 'Print version'

complete -c mcp-status -f
complete -c mcp-status -l root -x -a '(__fish_complete_directories)' -d 'Keep all files of mcp under DIR instead of the system\'s places (also: MCP_ROOT)'
complete -c mcp-status -l json -d 'Print one JSON document'
complete -c mcp-status -l list -d 'Print names only, SERVICE/COMPONENT, one a line'
complete -c mcp-status -s v -l verbose -d 'Show everything known of each'
complete -c mcp-status -l health -d 'Ask what runs whether it is healthy, instead of telling what mcp-health --record was told last'
complete -c mcp-status -l remote -d 'Ask registries whether the tags of deployed images still name what was deployed'
complete -c mcp-status -l state -x -a 'absent starting running stopping waiting stopped exited completed failed unknown' -d 'Only those in this state'
complete -c mcp-status -l drift -x -a 'missing orphan image config stopped-but-running unhealthy unsupervised crash-loop record' -d 'Only those with this drift'
complete -c mcp-status -l placement -x -a 'node cluster' -d 'Only those whose definition has this placement'
complete -c mcp-status -l watch -d 'Show it again on every change, and every INTERVAL (2s)'
complete -c mcp-status -l wanted -x -a '(__mcp_targets)' -d 'Say by the exit code alone whether TARGET shall run: 0 yes, 1 no'
complete -c mcp-status -l installed -x -a '(__mcp_targets)' -d 'Say whether TARGET could start here from what is local, without the network: 0 yes; 1 no, and why'
complete -c mcp-status -l again -x -a '(__mcp_targets)' -d 'For units: say by the exit code alone whether an init shall start TARGET again now that its supervisor has ended: 0 yes, 1 no'
complete -c mcp-status -l ended -x -d 'With --again: the exit code with which the supervisor ended; above 255 or below 0 where a signal ended it'
complete -c mcp-status -l prometheus -r -F -d 'Write metrics to FILE, whole ("-": standard output)'
complete -c mcp-status -l doctor -d 'Say what this node lacks for what its definitions ask, and what to do: 0 nothing, 1 something'
complete -c mcp-status -l cluster -d 'Show all nodes of the Pacemaker cluster that this one belongs to'
complete -c mcp-status -l via -x -d 'With --cluster: how each node is reached, a line of shell in which {node} is its name (default: by ssh)'
complete -c mcp-status -l timeout -x -d 'With --cluster: what has not answered by then is unreachable (10s)'
complete -c mcp-status -l nagios -d 'Answer as a Nagios plugin does, with its exit codes'
complete -c mcp-status -s h -l help -d 'Print help'
complete -c mcp-status -s V -l version -d 'Print version'
complete -c mcp-status -a '(__mcp_targets)'

complete -c mcp-logs -f
complete -c mcp-logs -l root -x -a '(__fish_complete_directories)' -d 'Keep all files of mcp under DIR instead of the system\'s places (also: MCP_ROOT)'
complete -c mcp-logs -s f -l follow -d 'Go on with what comes, across rotation and restart, until interrupted'
complete -c mcp-logs -s n -l lines -x -d 'Only the last N lines of each component [default: all; with --follow and no --since: 10]'
complete -c mcp-logs -l since -x -d 'Only lines from then on: an RFC 3339 time, or how long ago, like 5m'
complete -c mcp-logs -l until -x -d 'Only lines up to then: an RFC 3339 time, or how long ago'
complete -c mcp-logs -s t -l timestamps -d 'Put its time before each line: RFC 3339, UTC'
complete -c mcp-logs -l raw -d 'Leave the bytes of guest or container as they are, on a terminal too (also: --no-sanitize)'
complete -c mcp-logs -l sanitize -d 'Make control bytes harmless also where standard output is no terminal'
complete -c mcp-logs -l json -d 'One JSON object a line: time, component, a container\'s stream, line'
complete -c mcp-logs -l supervisor -d 'What the components\' detached supervisors had to say, instead of the consoles'
complete -c mcp-logs -s h -l help -d 'Print help'
complete -c mcp-logs -s V -l version -d 'Print version'
complete -c mcp-logs -a '(__mcp_targets)'

complete -c mcp-record -f
complete -c mcp-record -l root -x -a '(__fish_complete_directories)' -d 'Keep all files of mcp under DIR instead of the system\'s places (also: MCP_ROOT)'
complete -c mcp-record -l new -d 'Start next what the definition says, of the image as it was last pulled and built'
complete -c mcp-record -l back -d 'Start next what ran before the current version'
complete -c mcp-record -l drop -d 'Forget the version on trial'
complete -c mcp-record -l check -d 'Answer whether what the definition says, of the image as it was last pulled and built, is the current version'
complete -c mcp-record -l deployable -d 'Print the services that mcp-deploy may start, one a line, with a note on listeners that their guests can reach; without TARGET those of all definitions'
complete -c mcp-record -l now -d 'With --new or --back: make it current at once, so that nothing leads back by itself'
complete -c mcp-record -l settle -d 'With --new or --back: what does not run must settle at its next start, also with --now or if it is current already'
complete -c mcp-record -l leave -d 'With --now: leave running what is not healthy in time, for somebody to look at, until it is deployed again'
complete -c mcp-record -l json -d 'Print one JSON object a component'
complete -c mcp-record -s h -l help -d 'Print help'
complete -c mcp-record -s V -l version -d 'Print version'
complete -c mcp-record -a '(__mcp_targets)'

complete -c mcp-deploy -f
complete -c mcp-deploy -l from -r -F -d 'install FILE as the definition of the service that it names'
complete -c mcp-deploy -l dry-run -d 'say what would be done, and change nothing'
complete -c mcp-deploy -l no-rollback -d 'leave a new version that is not healthy running, to look at it'
complete -c mcp-deploy -l record-only -d 'pull, build and record; the next start takes it'
complete -c mcp-deploy -l all -d 'all services whose definitions have active = true'
complete -c mcp-deploy -l direct -d 'on this node: the only way there is, and so what is done anyway'
complete -c mcp-deploy -l root -x -a '(__fish_complete_directories)' -d 'keep all files of mcp under DIR (also: MCP_ROOT)'
complete -c mcp-deploy -s q -l quiet -d 'only errors and the status at the end'
complete -c mcp-deploy -s h -l help -d 'this text'
complete -c mcp-deploy -s V -l version -d 'the version'
complete -c mcp-deploy -a '(__mcp_services)'

complete -c mcp-units -f
complete -c mcp-units -l root -x -a '(__fish_complete_directories)' -d 'Keep all files of mcp under DIR instead of the system\'s places (also: MCP_ROOT)'
complete -c mcp-units -l dest -x -a '(__fish_complete_directories)' -d 'The folder that the files go to [default: the init\'s own]'
complete -c mcp-units -l dry-run -d 'Show the files, write nothing'
complete -c mcp-units -l force -d 'Overwrite what a person has changed, too'
complete -c mcp-units -l remove -d 'Remove all that was written for INIT'
complete -c mcp-units -l generator -d 'For systemd\'s generator: only what is this node\'s alone, into a --dest that is made anew each time; where nothing is configured, nothing'
complete -c mcp-units -l plan -d 'For scripts: print one line for each component, with what it wants of whoever places it; write nothing'
complete -c mcp-units -s h -l help -d 'Print help'
complete -c mcp-units -s V -l version -d 'Print version'
complete -c mcp-units -a 'systemd s6 s6-rc runit openrc dinit'

complete -c mcp-cluster -f
complete -c mcp-cluster -l crm -d 'by the crm shell (the default where crm is there)'
complete -c mcp-cluster -l pcs -d 'by pcs (the default where crm is not)'
complete -c mcp-cluster -l xml -d 'the whole configuration with the changes in it, as XML'
complete -c mcp-cluster -l apply -d 'make the changes, all at once, and say which'
complete -c mcp-cluster -l dry-run -d 'change nothing; where would each land, and what would'
complete -c mcp-cluster -l via -x -d 'ask each node; {node} is its name, as in \'ssh {node}\''
complete -c mcp-cluster -l node -x -d 'memory of that node that components may take, as in 8G'
complete -c mcp-cluster -l pin -x -d 'keep TARGET (SERVICE/COMPONENT) on NODE, where its volume is'
complete -c mcp-cluster -l shared -x -a '(__mcp_targets)' -d 'all nodes have the volume of TARGET'
complete -c mcp-cluster -l root -x -a '(__fish_complete_directories)' -d 'keep all files of mcp under DIR (also: MCP_ROOT)'
complete -c mcp-cluster -s h -l help -d 'this text'
complete -c mcp-cluster -s V -l version -d 'the version'
complete -c mcp-cluster -a '(__mcp_services)'

complete -c mcp-get-guest-kernel -f
complete -c mcp-get-guest-kernel -l own -d 'take this node\'s own kernel from /boot and /lib/modules instead'
complete -c mcp-get-guest-kernel -a '(__fish_complete_directories)'

complete -c mcp-probe -f
complete -c mcp-probe -l root -x -a '(__fish_complete_directories)' -d 'the node\'s files are under DIR (also: MCP_ROOT)'
complete -c mcp-probe -s h -l help -d 'this text'
complete -c mcp-probe -s V -l version -d 'the version'

complete -c grpc_health_probe -f
complete -c grpc_health_probe -o addr -x -d 'whom to ask'
complete -c grpc_health_probe -o service -x -d 'the service to ask about (the server as a whole)'
complete -c grpc_health_probe -o connect-timeout -x -d 'how long connecting may take (1s)'
complete -c grpc_health_probe -o rpc-timeout -x -d 'how long the answer may take (1s); the two are one budget'
complete -c grpc_health_probe -o rpc-header -x -d 'send this along'
complete -c grpc_health_probe -o user-agent -x -d 'as whom to ask (grpc_health_probe)'
complete -c grpc_health_probe -o tls -d 'speak TLS'
complete -c grpc_health_probe -o tls-ca-cert -r -F -d 'trust the certificates in this PEM file'
complete -c grpc_health_probe -o tls-client-cert -r -F -d 'show this certificate, with'
complete -c grpc_health_probe -o tls-client-key -r -F -d 'its private key'
complete -c grpc_health_probe -o tls-server-name -x -d 'the name that the certificate must have'
complete -c grpc_health_probe -o tls-no-verify -d 'take any certificate'
complete -c grpc_health_probe -o v -d 'say more'
complete -c grpc_health_probe -o version -d 'print the version'
