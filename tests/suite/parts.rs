//! The parts that other tests are made of do what those tests take for granted.

use crate::harness::{
    Door, Node, Registry, caddy_image, finish, hello_image, hello_over_base, nginx_image, podman_export, redis_image,
    zstd_copy,
};
use std::process::{Command, Stdio};

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
        Door { password: Some(("me", "secret")), tls: false },
        Door { password: Some(("me", "secret")), tls: true },
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
