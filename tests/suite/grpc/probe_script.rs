//! `scripts/grpc_health_probe`: options, words and exit codes of the tool of that name.

use super::certs::Certs;
use super::servers::{Make, start};
use crate::health::{closed_port, peer};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The script beside mcp-health, where scripts/build puts it.
struct Placed(PathBuf);

impl Drop for Placed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Placed {
    fn new(test: &str) -> Placed {
        let folder = std::env::temp_dir().join(format!("mcp-probe-{}-{test}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("bin")).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/grpc_health_probe");
        crate::harness::copy_to_run(script, folder.join("bin/grpc_health_probe"));
        let link = std::os::unix::fs::symlink;
        link(env!("CARGO_BIN_EXE_mcp-health"), folder.join("bin/mcp-health")).unwrap();
        // As it is called from elsewhere.
        link("bin/grpc_health_probe", folder.join("probe")).unwrap();
        Placed(folder)
    }

    /// What it says to `args`, on standard error, where the other tool says it too.
    #[track_caller]
    fn says(&self, args: &[&str], code: i32, words: &str) {
        let mut command = Command::new(self.0.join("probe"));
        command.args(args).env("PATH", "/usr/bin:/bin").env_remove("MCP_LOG").stdin(Stdio::null());
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(code) && said.contains(words),
            "{args:?}: {:?} {said}",
            output.status.code()
        );
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn probe_script_answers() {
    let test = "probe_script_answers";
    let Some(server) = start(test, Make::Grpcio, &[]) else { return };
    let probe = Placed::new(test);
    let addr = format!("127.0.0.1:{}", server.port);
    probe.says(&["-addr", &addr], 0, "status: SERVING\n");
    let agent = server.metadata();
    assert_eq!(agent["user-agent"], "grpc_health_probe");
    probe.says(&[&format!("--addr={addr}"), "--service=up"], 0, "status: SERVING\n");
    probe.says(&["-addr", &format!(":{}", server.port), "-service", "up", "-tls=false"], 0, "status: SERVING\n");
    probe.says(&["-addr", &format!("dns:///{addr}"), "-connect-timeout", "1.5s", "-v"], 0, "status: SERVING\n");
    let not_serving = "service unhealthy (responded with \"NOT_SERVING\")\n";
    probe.says(&["-addr", &addr, "-service", "down"], 4, not_serving);
    probe.says(&["-addr", &addr, "-service", "unsure"], 4, "service unhealthy (responded with \"UNKNOWN\")\n");
    probe.says(&["-addr", &addr, "-service", "a b/\"c\\"], 3, "error: health rpc failed: unknown service: a b/\"c\\\n");
    probe.says(&["-addr", &addr, "-service", "sorry"], 3, "error: health rpc failed: gRPC UNAVAILABLE: nicht jetzt");
    let slow = ["-addr", &addr, "-service", "slow", "-connect-timeout", "100ms", "-rpc-timeout", "300ms"];
    probe.says(&slow, 3, "timeout: health rpc did not complete within 300ms\n");
    let Some(bare) = start(test, Make::Grpcio, &["--bare"]) else { return };
    let words = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): ";
    probe.says(&["-addr", &format!("127.0.0.1:{}", bare.port)], 3, words);
}

#[test]
fn probe_script_sends_headers_and_its_name() {
    let test = "probe_script_sends_headers_and_its_name";
    let Some(server) = start(test, Make::Grpcio, &[]) else { return };
    let addr = format!("127.0.0.1:{}", server.port);
    let args = ["-addr", &addr, "-rpc-header", "x-one: a b", "--rpc-header=x-two:c", "-user-agent", "kubelet/1 x"];
    Placed::new(test).says(&args, 0, "status: SERVING\n");
    let metadata = server.metadata();
    assert_eq!([&metadata["x-one"], &metadata["x-two"], &metadata["user-agent"]], ["a b", "c", "kubelet/1 x"]);
}

#[test]
fn probe_script_tls() {
    let test = "probe_script_tls";
    let Some(certs) = Certs::new(test) else { return };
    certs.issue("good", "ca", "DNS:api.example,IP:127.0.0.1", "30").issue("me", "ca", "DNS:me", "30");
    let path = |name: &str| certs.path(name);
    let (ca, cert, key) = (path("ca.pem"), path("me.pem"), path("me.key"));
    let server = ["--cert", &path("good.pem"), "--key", &path("good.key"), "--client-ca", &ca];
    let Some(server) = start(test, Make::Grpcio, &server) else { return };
    let addr = format!("127.0.0.1:{}", server.port);
    let probe = Placed::new(test);
    let me = ["-tls-client-cert", &cert, "-tls-client-key", &key];
    let with = |more: &[&'static str]| [&["-addr", &addr, "-tls"], more].concat();
    let all = [&with(&[])[..], &["-tls-ca-cert", &ca], &me].concat();
    probe.says(&all, 0, "status: SERVING\n");
    probe.says(&[&all[..], &["-tls-server-name", "api.example"]].concat(), 0, "status: SERVING\n");
    probe.says(&[&all[..], &["-tls-server-name", "b.example"]].concat(), 2, "certificate is not for b.example");
    probe.says(&[&with(&["-tls-no-verify"])[..], &me].concat(), 0, "status: SERVING\n");
    probe.says(&with(&["-tls-no-verify"]), 2, "the peer wants a client certificate");
    probe.says(&["-addr", &addr], 2, "error: failed to connect service at ");
}

#[test]
fn probe_script_no_connection() {
    let probe = Placed::new("probe_script_no_connection");
    let (_keep, port) = closed_port();
    let addr = format!("127.0.0.1:{port}");
    let words = format!("error: failed to connect service at \"{addr}\": connection refused\n");
    probe.says(&["-addr", &addr], 2, &words);
    let silent = peer(|mut s| drop(std::io::copy(&mut s, &mut std::io::sink())));
    let addr = silent.to_string();
    let words = format!("timeout: failed to connect service \"{addr}\" within 200ms: ");
    probe.says(&["-addr", &addr, "-connect-timeout", "200ms", "-rpc-timeout", "100ms"], 2, &words);
}

#[test]
fn probe_script_wrong_options() {
    let probe = Placed::new("probe_script_wrong_options");
    for (args, words) in [
        (&[][..], "error: -addr not specified\n"),
        (&["-addr", "h:1", "-connect-timeout", "0s"], "error: -connect-timeout must be greater than zero"),
        (&["-addr", "h:1", "-rpc-timeout", "soon"], "invalid value \"soon\" for flag -rpc-timeout"),
        (&["-addr", "h:1", "-tls-no-verify"], "error: specified -tls-no-verify without specifying -tls\n"),
        (&["-addr", "h:1", "-tls-ca-cert", "x"], "error: specified -tls-ca-cert without specifying -tls\n"),
        (&["-addr", "h:1", "-tls", "-tls-client-cert", "x"], "-tls-client-cert without specifying -tls-client-key\n"),
        (&["-addr", "h:1", "-tls", "-tls-no-verify", "-tls-ca-cert", "x"], "cannot specify -tls-ca-cert with"),
        (&["-addr", "h:1", "-tls=perhaps"], "invalid boolean value \"perhaps\" for -tls"),
        (&["-addr"], "flag needs an argument: -addr\n"),
        (&["-nope"], "flag provided but not defined: -nope\n"),
        (&["-addr", "h:1", "-gzip"], "error: -gzip is not there"),
        (&["-addr", "unix:///x"], "mcp-health asks over TCP alone\n"),
        (&["-addr", "h"], "the port is missing"),
        (&["-addr", "h:1", "-tls", "-tls-ca-cert", "/nothing"], "/nothing: no such file of trusted certificates\n"),
        (&["--help"], "usage: grpc_health_probe -addr HOST:PORT"),
    ] {
        probe.says(args, 1, words);
    }
    let output = Command::new(probe.0.join("probe")).arg("-version").output().unwrap();
    let version = format!("grpc_health_probe of mcp {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((output.status.code(), String::from_utf8(output.stdout).unwrap()), (Some(0), version));
}
