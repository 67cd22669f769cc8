//! gRPC checks: against real servers, and against peers that a real server never is.

mod certs;
mod definitions;
mod faults;
mod guests;
mod probe_script;
mod servers;

use crate::health::{closed_port, health, peer, says, until_expired};
use certs::Certs;
use servers::{Make, Server, start};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[test]
fn grpc_serving_and_not() {
    for make in Make::ALL {
        let Some(server) = start("grpc_serving_and_not", make, &[]) else { continue };
        let at = format!("127.0.0.1:{}", server.port);
        let url = server.url("up");
        says(&health(&[&url]), 0, &format!("{url}: healthy: grpc {at}/up SERVING ("));
        let whole = format!("grpc://localhost:{}", server.port);
        says(&health(&[&whole]), 0, &format!("{whole}: healthy: grpc localhost:{} SERVING (", server.port));
        let down = server.url("down");
        says(&health(&[&down]), 1, &format!("{down}: unhealthy: grpc {at}/down: NOT_SERVING\n"));
        says(&health(&[&server.url("unsure")]), 1, "UNKNOWN: the service does not know its health\n");
        says(&health(&[&server.url("no.such%20Service")]), 1, ": unknown service: no.such Service\n");
        for (service, reason) in [("down", "not-serving"), ("unsure", "status-unknown"), ("nope", "unknown-service")] {
            let run = health(&["--json", &server.url(service)]);
            let answer: serde_json::Value = serde_json::from_str(&run.out).unwrap();
            assert_eq!(answer["targets"][0]["reason"], reason, "{make:?}");
        }
    }
}

#[test]
fn grpc_a_server_without_health() {
    for make in Make::ALL {
        let Some(server) = start("grpc_a_server_without_health", make, &["--bare"]) else { continue };
        let run = health(&["--json", &server.url("up")]);
        let answer: serde_json::Value = serde_json::from_str(&run.out).unwrap();
        assert_eq!((run.code, &answer["targets"][0]["reason"]), (Some(1), &"unimplemented".into()), "{make:?}");
        let words = answer["targets"][0]["message"].as_str().unwrap();
        assert!(words.starts_with("UNIMPLEMENTED: the server has no grpc.health.v1.Health"), "{words}");
    }
}

#[test]
fn grpc_other_statuses_and_deadlines() {
    for make in [Make::Grpcio, Make::Aio] {
        let Some(server) = start("grpc_other_statuses_and_deadlines", make, &[]) else { continue };
        says(&health(&[&server.url("sorry")]), 1, ": gRPC UNAVAILABLE: nicht jetzt: 100% €\\u{1b}[31m zwei\n");
        let run = health(&["--timeout", "500ms", &server.url("slow")]);
        says(&run, 1, ": timed out waiting for the gRPC answer\n");
        assert!(run.took >= Duration::from_millis(480) && run.took < Duration::from_secs(3), "{:?}", run.took);
    }
}

#[test]
fn grpc_metadata_and_authority() {
    let test = "grpc_metadata_and_authority";
    let told =
        ["--header", "Authorization: Bearer a:b", "--header", "x-y:1", "--header", "x-y:2", "--header", "b-bin:é"];
    if let Some(server) = start(test, Make::Go, &[]) {
        says(&health(&[&told[..], &["--authority", "api.example:99", &server.url("")]].concat()), 0, "SERVING");
        let metadata = server.metadata();
        assert_eq!(metadata[":authority"], serde_json::json!(["api.example:99"]));
        assert_eq!(metadata["authorization"], serde_json::json!(["Bearer a:b"]));
        assert_eq!(metadata["x-y"], serde_json::json!(["1", "2"]));
        assert_eq!(metadata["b-bin"], serde_json::json!(["é"]));
        let agent = format!("mcp-health/{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(metadata["user-agent"], serde_json::json!([agent]));
        says(&health(&["--header", "user-agent: me", &server.url("")]), 0, "SERVING");
        let metadata = server.metadata();
        assert_eq!(metadata["user-agent"], serde_json::json!(["me"]));
        assert_eq!(metadata[":authority"], serde_json::json!([format!("127.0.0.1:{}", server.port)]));
    }
    if let Some(server) = start(test, Make::Grpcio, &[]) {
        says(&health(&[&told[..], &[&server.url("up")]].concat()), 0, "SERVING");
        assert_eq!(server.metadata()["authorization"], "Bearer a:b");
    }
}

/// A server with the certificate `name`, and what else it takes.
fn tls(test: &str, make: Make, certs: &Certs, name: &str, more: &[&str]) -> Option<Server> {
    let (cert, key) = (certs.path(&format!("{name}.pem")), certs.path(&format!("{name}.key")));
    start(test, make, &[&["--cert", &cert, "--key", &key], more].concat())
}

#[test]
fn grpc_over_tls() {
    let test = "grpc_over_tls";
    let Some(certs) = Certs::new(test) else { return };
    certs.issue("good", "ca", "DNS:api.example,IP:127.0.0.1", "30");
    certs.issue("old", "ca", "IP:127.0.0.1", "0");
    certs.issue("named", "ca", "DNS:api.example", "30");
    certs.run("req -x509 -newkey rsa:2048 -nodes -keyout self.key -out self.pem -subj /CN=x -days 9 -addext subjectAltName=IP:127.0.0.1");
    let (ca, other) = (certs.path("ca.pem"), certs.path("other.pem"));
    for make in [Make::Grpcio, Make::Go] {
        let Some(server) = tls(test, make, &certs, "good", &[]) else { continue };
        let url = server.tls_url("up");
        let run = health(&["--ca", &ca, &url]);
        says(&run, 0, &format!("{url}: healthy: grpcs 127.0.0.1:{}/up SERVING (", server.port));
        says(&health(&["--ca", &ca, "--server-name", "api.example", &url]), 0, "SERVING");
        says(&health(&["--ca", &ca, "--server-name", "b.example", &url]), 1, "TLS: certificate is not for b.example; ");
        says(&health(&["--ca", &other, &url]), 1, "TLS: certificate of an unknown issuer; ");
        says(&health(&["--tls-no-verify", &url]), 0, "SERVING");
        says(&health(&["--ca", &ca, &server.tls_url("down")]), 1, "NOT_SERVING\n");
        // Without TLS, and what has other words for it.
        let plain = health(&[&server.url("up")]);
        assert!(
            plain.code == Some(1)
                && ["closed without an answer", "the peer speaks TLS"].iter().any(|w| plain.out.contains(w)),
            "{}",
            plain.out
        );
        let Some(old) = tls(test, make, &certs, "old", &[]) else { continue };
        until_expired(&["--ca", &ca, &old.tls_url("up")]);
        says(&health(&["--ca", &ca, &old.tls_url("up")]), 1, "TLS: certificate has expired\n");
        says(&health(&["--tls-no-verify", &old.tls_url("up")]), 0, "SERVING");
        let Some(named) = tls(test, make, &certs, "named", &[]) else { continue };
        says(&health(&["--ca", &ca, &named.tls_url("up")]), 1, "TLS: certificate is not for 127.0.0.1; ");
        let Some(own) = tls(test, make, &certs, "self", &[]) else { continue };
        says(&health(&["--ca", &ca, &own.tls_url("up")]), 1, "TLS: self-signed certificate that is not trusted");
        says(&health(&["--tls-no-verify", &own.tls_url("up")]), 0, "SERVING");
    }
}

#[test]
fn grpc_over_tls_of_both() {
    let test = "grpc_over_tls_of_both";
    let Some(certs) = Certs::new(test) else { return };
    certs
        .issue("good", "ca", "IP:127.0.0.1", "30")
        .issue("me", "ca", "DNS:me", "30")
        .issue("them", "other", "DNS:x", "30");
    certs.run("ec -in me.key -out sec1.key");
    certs.run("req -newkey rsa:2048 -nodes -keyout rsa8.key -out rsa.csr -subj /CN=rsa");
    certs.run("x509 -req -in rsa.csr -CA ca.pem -CAkey ca.key -out rsa.pem -days 9 -extfile extensions");
    certs.run("rsa -in rsa8.key -traditional -out pkcs1.key");
    let path = |name: &str| certs.path(name);
    let ca = path("ca.pem");
    for (make, more) in [(Make::Grpcio, &[][..]), (Make::Go, &[]), (Make::Go, &["--tls12"])] {
        let options = [&["--client-ca", ca.as_str()], more].concat();
        let Some(server) = tls(test, make, &certs, "good", &options) else { continue };
        let url = server.tls_url("up");
        for (cert, key) in
            [("me.pem", "me.key"), ("me.pem", "sec1.key"), ("rsa.pem", "rsa8.key"), ("rsa.pem", "pkcs1.key")]
        {
            says(&health(&["--ca", &ca, "--cert", &path(cert), "--key", &path(key), &url]), 0, "SERVING");
        }
        says(
            &health(&["--ca", &ca, &url]),
            1,
            "TLS: the peer wants a client certificate; give it one (--cert and --key)\n",
        );
        let run = health(&["--ca", &ca, "--cert", &path("them.pem"), "--key", &path("them.key"), &url]);
        says(&run, 1, "TLS: the peer refuses our client certificate: ");
    }
}

#[test]
fn grpc_bad_files_and_options() {
    let test = "grpc_bad_files_and_options";
    let Some(certs) = Certs::new(test) else { return };
    certs.issue("me", "ca", "DNS:me", "30");
    certs.run("ec -in me.key -aes128 -passout pass:secret -out locked.key");
    let path = |name: &str| certs.path(name);
    let (me, key, nothing) = (path("me.pem"), path("me.key"), path("nothing"));
    // Nobody is asked.
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = asked.clone();
    let address = peer(move |_| flag.store(true, std::sync::atomic::Ordering::SeqCst));
    let (url, plain) = (format!("grpcs://{address}/x"), format!("grpc://{address}/x"));
    for (args, code, words) in [
        (&["--cert", &me, "--key", &path("ca.key"), &url][..], 100, "ca.key: with "),
        (&["--cert", &me, "--key", &path("ca.key"), &url], 100, "me.pem: not the key of that certificate\n"),
        (&["--cert", &me, "--key", &path("locked.key"), &url], 100, "locked.key: the key is encrypted; "),
        (&["--cert", &me, "--key", &me, &url], 100, "me.pem: no private key in it; it must be PEM\n"),
        (&["--cert", &key, "--key", &key, &url], 100, "me.key: no usable certificate in it; it must be PEM\n"),
        (&["--cert", &nothing, "--key", &key, &url], 100, "nothing: no such file"),
        (&["--cert", &me, "--key", &nothing, &url], 100, "nothing: no such file"),
        (&["--ca", &nothing, &url], 100, "nothing: no such file"),
        (&["--cert", &me, &url], 2, "--key <FILE>"),
        (&["--key", &key, &url], 2, "--cert <FILE>"),
        (&["--ca", &me, "--tls-no-verify", &url], 2, "'--ca <FILE>' cannot be used with '--tls-no-verify'"),
        (&["--ca", &me, &plain], 2, "--ca: no target speaks TLS; https:// and grpcs:// do, and tls = true\n"),
        (&["--tls-no-verify", &plain], 2, "--tls-no-verify: no target speaks TLS"),
        (&["--cert", &me, "--key", &key, &plain], 2, "--cert: no target speaks TLS"),
        (&["--server-name", "x", &plain], 2, "--server-name: no target speaks TLS"),
        (&["--authority", "x", "tcp://127.0.0.1:1"], 2, "--authority: no target is asked by gRPC"),
        (&["--header", "a: b", "http://127.0.0.1:1"], 2, "--header: no target is asked by gRPC; "),
        (&["--header", "a b", &plain], 2, "not NAME: VALUE"),
        (&["--header", "te: x", &plain], 2, "te is set by gRPC itself"),
        (&["--authority", "a b", &plain], 2, "not HOST or HOST:PORT"),
        (&["grpc://127.0.0.1"], 2, "the port is missing: grpc://HOST:PORT\n"),
        (&["grpc://127.0.0.1:1/a?b"], 2, "a gRPC target has a service and nothing after it\n"),
    ] {
        let run = health(args);
        says(&run, code, words);
        assert_eq!((run.err.lines().count(), run.out.as_str()), (1, ""), "{args:?}");
    }
    assert!(!asked.load(std::sync::atomic::Ordering::SeqCst));
    // It means something to one of the targets.
    let (_keep, port) = closed_port();
    let run = health(&["--tls-no-verify", &format!("tcp://127.0.0.1:{port}"), &format!("grpcs://127.0.0.1:{port}")]);
    assert_eq!((run.code, run.out.matches("connection refused").count()), (Some(1), 2), "{}", run.err);
}

/// `nghttpd`: HTTP/2 and no gRPC.
struct Nghttpd(Child);

impl Drop for Nghttpd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn grpc_a_server_of_http2_alone() {
    let test = "grpc_a_server_of_http2_alone";
    if !crate::harness::have(test, "nghttpd") {
        return;
    }
    let Some(certs) = Certs::new(test) else { return };
    certs.issue("good", "ca", "IP:127.0.0.1", "30");
    for tls in [false, true] {
        let port = crate::harness::free_port().to_string();
        let mut command = Command::new("nghttpd");
        command.args(["-a", "127.0.0.1", "-d", "/proc/self/fdinfo"]);
        match tls {
            true => command.args([&port, &certs.path("good.key"), &certs.path("good.pem")]),
            false => command.args(["--no-tls", &port]),
        };
        let _server =
            Nghttpd(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        says(&health(&["--wait", "20s", &format!("tcp://127.0.0.1:{port}")]), 0, "healthy");
        let ca = certs.path("ca.pem");
        let run = match tls {
            true => health(&["--ca", &ca, &format!("grpcs://127.0.0.1:{port}")]),
            false => health(&[&format!("grpc://127.0.0.1:{port}")]),
        };
        says(&run, 1, ": not gRPC: HTTP status 404\n");
    }
}
