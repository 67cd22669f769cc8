//! The parts that other tests are made of do what those tests take for granted.

use crate::harness::{
    Door, Node, Registry, caddy_image, finish, free_port, get, hello, hello_image, hello_over_base, nginx_image,
    podman_export, redis_image, until, zstd_copy,
};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn inspect(options: &[&str], reference: &str) -> serde_json::Value {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "inspect", "--raw"]).args(options).arg(reference);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    serde_json::from_str(&finish(command, "skopeo inspect").expect(0).out).unwrap()
}

#[test]
fn a_registry_gives_what_it_was_given() {
    let node = Node::new();
    let doors = [
        Door::default(),
        Door { password: Some(("me", "secret")), tls: false, ..Door::default() },
        Door { password: Some(("me", "secret")), tls: true, ..Door::default() },
    ];
    let image = hello_image(&node);
    for door in doors {
        let Some(mut registry) = Registry::with("a_registry_gives_what_it_was_given", &node, door) else { return };
        let reference = registry.fill(&image.reference(), "app/hello:1");
        assert_eq!(std::fs::metadata(registry.blob(&image.layers[0].digest)).unwrap().len(), image.layers[0].size);
        registry.stop();
        registry.go_on();
        let dir = registry.certs();
        let mut options = if door.tls { vec!["--cert-dir", &dir] } else { vec!["--tls-verify=false"] };
        options.extend(door.password.map(|_| "--creds=me:secret"));
        let manifest = inspect(&options, &format!("docker://{reference}"));
        assert_eq!(manifest["layers"][0]["digest"], image.layers[0].digest.as_str());
        let last = registry.requests().last().cloned().unwrap();
        assert!(last.starts_with("GET /v2/app/hello/manifests/1 200 "), "{last}");
    }
}

#[test]
fn images_are_whole() {
    let node = Node::new();
    let over = hello_over_base(&node, 4);
    assert_eq!(over.layers.len(), 2);
    assert_eq!(over.manifest, hello_over_base(&node, 4).manifest, "the same input, other bytes");
    let test = "images_are_whole";
    if !crate::harness::have(test, "skopeo") {
        return;
    }
    let zstd = inspect(&[], &zstd_copy(&node, &over));
    assert_eq!(zstd["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    let makers = [redis_image, caddy_image, nginx_image];
    for (maker, program) in makers.iter().zip(["usr/bin/redis-check-rdb", "usr/bin/caddy", "usr/sbin/nginx"]) {
        let Some(image) = maker(test, &node) else { return };
        let Some(tar) = podman_export(test, &node, &image.reference()) else { return };
        let mut command = Command::new("tar");
        command.arg("-tf").arg(tar).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let names = finish(command, "tar").expect(0).out;
        for name in [program, "bin", "usr/bin/sh", "etc/ld.so.cache"] {
            assert!(names.lines().any(|n| n == name), "{name} is not in {}", image.reference());
        }
    }
}

#[test]
fn the_example_serves_so_many_at_once_and_goes_on() {
    let port = free_port();
    let hello = Command::new(hello()).args(["--port", &port.to_string()]).stdout(Stdio::null()).spawn().unwrap();
    let hello = Example(hello);
    until("the example listens", || get(port, "/health").is_some());
    let first_line = |mut stream: &TcpStream| {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\nConnection: keep-alive\r\n\r\n").unwrap();
        let mut bytes = [0; 12];
        stream.read_exact(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    for _ in 0..3 {
        // Thrice side by side: each makes threads that end while others begin.
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..50).for_each(|_| assert_eq!(get(port, "/health").as_deref(), Some("ok\n"))));
            }
        });
        let connect = || TcpStream::connect(("127.0.0.1", port)).unwrap();
        // The last of those before may still be ending.
        until("all before are over", || threads(hello.0.id()) <= 5);
        let held: Vec<TcpStream> = std::iter::repeat_with(connect).take(128).collect();
        assert!(held.iter().all(|stream| first_line(stream) == "HTTP/1.1 200"));
        assert_eq!(first_line(&connect()), "HTTP/1.1 503");
        assert_eq!(threads(hello.0.id()), 129);
        drop(held);
        until("it serves again", || get(port, "/health").as_deref() == Some("ok\n"));
    }
    until("its threads end", || threads(hello.0.id()) <= 5);
}

struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}
