//! Mistakes, and the one line that each gives.

use super::lines;

#[test]
fn ten_mistakes_are_ten_lines() {
    let text = r#"name = "other"
actve = true

[[components]]
name = "api"
runtime = "unikernel"
image = "Docker.io/Nginx"
memory_mb = "256"
memroy_mb = 256
vcpus = 0
ports = ["8080"]
env = { "A B" = "x" }
restart = on-failure
stop_timeout = "0s"
network = "host"
"#;
    assert_eq!(
        lines(text),
        [
            r#"F:1: name: "other" is not the file's name; write "svc" or rename the file"#,
            r#"F:2: actve: unknown key "actve"; did you mean "active"?"#,
            r#"F:7: components.api.image: "Docker.io/Nginx": the name of an image is lower case"#,
            r#"F:8: components.api.memory_mb: expected a whole number (an amount of MiB, 16 to 1048576), found the string "256"; leave out the quotes"#,
            r#"F:9: components.api.memroy_mb: unknown key "memroy_mb"; did you mean "memory_mb"?"#,
            r#"F:10: components.api.vcpus: 0 is not a number of CPUs: 1 to 255"#,
            r#"F:11: components.api.ports[0]: "8080" names one port; write "8080:8080" (host:guest)"#,
            r#"F:12: components.api.env."A B": "A B" is not the name of a variable: a letter or '_', then letters, digits, '_', '.', '-'"#,
            r#"F:13: restart: a string stands in quotes"#,
            r#"F:14: components.api.stop_timeout: "0s" is too short: at least 1ms"#,
            r#"F:15: components.api.network: is for containers; a VM has a network of its own, see egress"#,
        ]
    );
}

/// Each row: a line to put in place of another one of a good file, and how the one problem begins.
#[test]
fn each_mistake_is_one_line() {
    let base = "name = \"svc\"\nactive = true\n[[components]]\nname = \"api\"\nruntime = \"microvm\"\nimage = \"localhost/a:1\"\nports = [\"80:80\"]\nX = 1\n[components.health]\nkind = \"tcp\"\nY = 1\n";
    assert_eq!(lines(&base.replace("X = 1\n", "").replace("Y = 1\n", "")), Vec::<String>::new());
    let rows: &[(&str, &str, &str)] = &[
        ("active = true", "active = \"true\"", "F:2: active: expected true or false, found the string \"true\"; leave"),
        ("active = true", "active = 1.5", "F:2: active: expected true or false, found the float 1.5"),
        (
            "active = true",
            "runtime = \"microvm\"",
            "F:2: runtime: unknown key \"runtime\" here; it belongs in [[components]]",
        ),
        ("name = \"svc\"", "", "F:1: name: missing; add name = \"svc\""),
        (
            "Y = 1",
            "host = \"shop\"",
            "F:11: components.api.health.host: only a check of kind \"http\" or \"grpc\" has it",
        ),
        ("Y = 1", "tls_verify = false", "F:11: components.api.health.tls_verify: means nothing without tls = true"),
        (
            "kind = \"tcp\"",
            "kind = \"http\"\nheaders = { Host = \"x\" }",
            "F:11: components.api.health.headers.Host: Host is sent by the check itself; the key host changes",
        ),
        ("name = \"svc\"", "nmae = \"svc\"", "F:1: nmae: unknown key \"nmae\"; did you mean \"name\"?"),
        ("name = \"svc\"", "name = \"SVC\"", "F:1: name: \"SVC\" is not a name"),
        (
            "[[components]]",
            "[components]",
            "F:3: components: expected an array of tables, found one table; write [[components]]",
        ),
        ("[[components]]", "[[components]", "F:3: syntax: unclosed array table"),
        ("name = \"api\"", "", "F:3: components[0].name: missing; add name"),
        ("name = \"api\"", "name = \"a_b\"", "F:4: components[0].name: \"a_b\" is not a name"),
        (
            "runtime = \"microvm\"",
            "runtime = \"mircovm\"",
            "F:5: components.api.runtime: \"mircovm\" is not \"unikernel\" or \"microvm\" or \"container\"; did you mean \"microvm\"?",
        ),
        ("runtime = \"microvm\"", "runtime = microvm", "F:5: runtime: a string stands in quotes"),
        ("image = \"localhost/a:1\"", "", "F:3: components.api: names nothing to run"),
        ("image = \"localhost/a:1\"", "img = \"localhost/a:1\"", "F:6: components.api.img: unknown key \"img\""),
        (
            "image = \"localhost/a:1\"",
            "image = \"\"",
            "F:6: components.api.image: expected an image reference in quotes, but it is empty",
        ),
        (
            "image = \"localhost/a:1\"",
            "image = 5",
            "F:6: components.api.image: expected an image reference in quotes, found the integer 5",
        ),
        (
            "image = \"localhost/a:1\"",
            "initrd = \"/x\"",
            "F:6: components.api.initrd: goes with kernel, which is missing",
        ),
        ("image = \"localhost/a:1\"", "disk = \"\\u0000\"", "F:6: components.api.disk: has a NUL"),
        (
            "image = \"localhost/a:1\"",
            "disk = \"~/a.img\"",
            "F:6: components.api.disk: \"~/a.img\": \"~\" is a shell's",
        ),
        ("X = 1", "disk = \"a\"", "F:8: components.api.disk: a component has one source, and image is there too"),
        ("X = 1", "kernel = \"a\"", "F:8: components.api.kernel: a component has one source, and image is there too"),
        ("X = 1", "cmdline = \"a\"", "F:8: components.api.cmdline: goes with a kernel that boots without a disk"),
        ("X = 1", "workdir = \"srv\"", "F:8: components.api.workdir: \"srv\" is not an absolute path"),
        ("X = 1", "stop_signal = \"SIGFOO\"", "F:8: components.api.stop_signal: \"SIGFOO\" is not a signal; write one"),
        ("X = 1", "tty = \"yes\"", "F:8: components.api.tty: expected true or false"),
        ("X = 1", "entrypoint = \"sh\"", "F:8: components.api.entrypoint: expected an array of strings"),
        ("X = 1", "memory_mb = 15", "F:8: components.api.memory_mb: 15 is not an amount of MiB: 16 to 1048576"),
        ("X = 1", "memory_mb = -1", "F:8: components.api.memory_mb: -1 is not an amount"),
        (
            "X = 1",
            "memory_mb = 256.0",
            "F:8: components.api.memory_mb: expected a whole number (an amount of MiB, 16 to 1048576), found the float 256.0",
        ),
        (
            "X = 1",
            "memory_mb = 99999999999999999999999",
            "F:8: components.api.memory_mb: 99999999999999999999999 is not",
        ),
        ("X = 1", "vcpus = 256", "F:8: components.api.vcpus: 256 is not a number of CPUs: 1 to 255"),
        (
            "X = 1",
            "vcpus = 1979-05-27",
            "F:8: components.api.vcpus: expected a whole number (a number of CPUs, 1 to 255), found a date",
        ),
        (
            "X = 1",
            "args = \"--verbose\"",
            "F:8: components.api.args: expected an array of strings, like [\"a\", \"b\"], found a string",
        ),
        ("X = 1", "args = [1]", "F:8: components.api.args[0]: expected a string, found an integer; put it in quotes"),
        (
            "X = 1",
            "env = [\"A=b\"]",
            "F:8: components.api.env: expected a table, env = { NAME = \"value\" }, found an array",
        ),
        (
            "X = 1",
            "env = { PORT = 8080 }",
            "F:8: components.api.env.PORT: expected a string, found an integer; put it in quotes",
        ),
        ("X = 1", "env = { A = \"a\\u0000\" }", "F:8: components.api.env.A: has a NUL"),
        ("X = 1", "env = { \"1A\" = \"a\" }", "F:8: components.api.env.1A: \"1A\" is not the name of a variable"),
        (
            "X = 1",
            "egress = false",
            "F:8: components.api.egress: expected \"all\" or \"none\", found the boolean false",
        ),
        (
            "X = 1",
            "volumes = [\"/host:/srv\"]",
            "F:8: components.api.volumes[0]: \"/host:/srv\": a host path is for containers",
        ),
        (
            "X = 1",
            "volumes = [\"a:/x\", \"b:/x/\"]",
            "F:8: components.api.volumes[1]: \"b:/x/\": /x has a volume already",
        ),
        (
            "X = 1",
            "volumes = [\"a:/x\", \"a:/y\"]",
            "F:8: components.api.volumes[1]: \"a:/y\": the disk \"a\" is mounted already",
        ),
        ("X = 1", "include = [\"etc\"]", "F:8: components.api.include[0]: \"etc\" is not an absolute path"),
        (
            "X = 1",
            "stop_timeout = 35",
            "F:8: components.api.stop_timeout: expected a duration in quotes, found the integer 35; write \"35s\"",
        ),
        ("X = 1", "stop_timeout = \"35\"", "F:8: components.api.stop_timeout: \"35\" has no unit; write \"35s\""),
        ("X = 1", "stop_timeout = \"0.5ms\"", "F:8: components.api.stop_timeout: \"0.5ms\" is too short"),
        ("X = 1", "stop_timeout = \"9999h\"", "F:8: components.api.stop_timeout: \"9999h\" is too long: at most 8760h"),
        ("X = 1", "stop_timeout = \"-1s\"", "F:8: components.api.stop_timeout: \"-1s\" is not a duration"),
        (
            "X = 1",
            "restart = \"on_failure\"",
            "F:8: components.api.restart: \"on_failure\" is not \"no\" or \"on-failure\" or \"always\"; did you mean \"on-failure\"?",
        ),
        (
            "X = 1",
            "kind = \"tcp\"",
            "F:8: components.api.kind: unknown key \"kind\" here; it belongs in [components.health]",
        ),
        ("X = 1", "a.b.c = 1", "F:8: components.api.a: unknown key \"a\"; known are: name, runtime,"),
        ("X = 1", "vcpus = 1\nvcpus = 1", "F:9: vcpus: duplicate key"),
        ("ports = [\"80:80\"]", "ports = [\"80:80\"", "F:7: ports: the array is not closed"),
        ("ports = [\"80:80\"]", "ports = [\"80:80]", "F:7: ports: the string is not closed"),
        (
            "ports = [\"80:80\"]",
            "ports = [80]",
            "F:7: components.api.ports[0]: expected a port like \"8080:80\", found the integer 80; put it in quotes",
        ),
        (
            "ports = [\"80:80\"]",
            "ports = 80",
            "F:7: components.api.ports: expected an array of ports, like [\"8080:80\"], found the integer 80",
        ),
        (
            "ports = [\"80:80\"]",
            "ports = [\"[::1]:80:80\"]",
            "F:7: components.api.ports[0]: \"[::1]:80:80\": an IPv6 bind is for containers only",
        ),
        (
            "ports = [\"80:80\"]",
            "ports = [\"80:80\", \"0.0.0.0:80:81\"]",
            "F:7: components.api.ports[1]: 0.0.0.0:80/tcp on the node is taken by 127.0.0.1:80:80 on line 7",
        ),
        ("ports = [\"80:80\"]", "ports = [\"80:80/udp\"]", "F:9: components.api.health: there is no tcp port to ask"),
        (
            "ports = [\"80:80\"]",
            "prots = [\"80:80\"]",
            "F:7: components.api.prots: unknown key \"prots\"; did you mean \"ports\"?",
        ),
        (
            "[components.health]",
            "[[components.health]]",
            "F:9: components.api.health: expected one table, found an array of them; write [components.health]",
        ),
        ("[components.health]", "[health]", "F:9: health: unknown key \"health\" here; it belongs in [[components]]"),
        ("kind = \"tcp\"", "kind = \"smtp\"", "F:10: components.api.health.kind: \"smtp\" is not \"tcp\""),
        ("Y = 1", "port = 81", "F:11: components.api.health.port: guest port 81 can't be reached"),
        ("Y = 1", "port = 0", "F:11: components.api.health.port: 0 is not a port: 1 to 65535"),
        (
            "Y = 1",
            "port = \"80\"",
            "F:11: components.api.health.port: expected a whole number (a port, 1 to 65535), found the string \"80\"; leave out",
        ),
        ("Y = 1", "path = \"/x\"", "F:11: components.api.health.path: only a check of kind \"http\" has it"),
        ("Y = 1", "service = \"x\"", "F:11: components.api.health.service: only a check of kind \"grpc\" has it"),
        ("Y = 1", "ca = \"x\"", "F:11: components.api.health.ca: means nothing without tls = true"),
        ("Y = 1", "cert = \"x\"", "F:11: components.api.health.cert: means nothing without tls = true"),
        ("Y = 1", "tls = true\ncert = \"x\"", "F:12: components.api.health.cert: goes with key, which is missing"),
        ("Y = 1", "tls = true\nkey = \"x\"", "F:12: components.api.health.key: goes with cert, which is missing"),
        ("Y = 1", "interval = \"0s\"", "F:11: components.api.health.interval: \"0s\" is too short"),
        (
            "Y = 1",
            "timeout = 5",
            "F:11: components.api.health.timeout: expected a duration in quotes, found the integer 5; write \"5s\"",
        ),
        ("Y = 1", "failures = 0", "F:11: components.api.health.failures: 0 is not a number of checks: 1 to 1000"),
        (
            "Y = 1",
            "retries = 3",
            "F:11: components.api.health.retries: unknown key \"retries\"; known are: kind, port,",
        ),
        (
            "Y = 1",
            "[[components]]\nname = \"api\"\nimage = \"localhost/b\"",
            "F:12: components[1].name: a second component \"api\"; the first is on line 4",
        ),
        (
            "Y = 1",
            "[[components]]\nname = \"b\"\nimage = \"localhost/b\"\nports = [\"80:1\"]",
            "F:14: components.b.ports[0]: 127.0.0.1:80/tcp on the node is taken by 127.0.0.1:80:80 on line 7",
        ),
        (
            "Y = 1",
            "[[components]]\nname = \"b\"\ndisk = \"x.img\"",
            "F:13: components.b.disk: is for VMs, and runtime is \"container\" unless said otherwise",
        ),
        ("Y = 1", "[[components]]\nname = \"b\"\nkernel = \"x\"", "F:13: components.b.kernel: is for VMs"),
        (
            "Y = 1",
            "[[components]]\nname = \"b\"\nrootfs = \"x\"",
            "F:13: components.b.rootfs: is for microvms; set runtime to \"microvm\"",
        ),
        (
            "Y = 1",
            "[[components]]\nname = \"b\"\nimage = \"localhost/b\"\nmemory_mb = 64",
            "F:14: components.b.memory_mb: is for VMs, and this is a container; set runtime",
        ),
        (
            "Y = 1",
            "[[components]]\nname = \"b\"\nimage = \"localhost/b\"\nnetwork = \"--x\"",
            "F:14: components.b.network: \"--x\" begins with '-'",
        ),
        (
            "Y = 1",
            "[[components]]\nname = \"b\"\nruntime = \"unikernel\"\ndisk = \"b\"\nargs = []",
            "F:15: components.b.args: a disk brings its own",
        ),
        (
            "Y = 1",
            "[[components]]\nname = \"b\"\nruntime = \"unikernel\"\nkernel = \"b\"\nroot = \"ephemeral\"",
            "F:15: components.b.root: a kernel alone has no root disk",
        ),
    ];
    for (old, new, told) in rows {
        assert!(base.contains(old), "{old}");
        let text = base.replacen(old, new, 1);
        let text = if *old == "X = 1" { text } else { text.replace("X = 1\n", "\n") };
        let text = if *old == "Y = 1" { text } else { text.replace("Y = 1\n", "\n") };
        let found = lines(&text);
        assert!(found.len() == 1 && found[0].starts_with(told), "{new:?}: {found:#?}\nnot {told}");
    }
}
