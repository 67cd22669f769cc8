//! Components as services of real init systems, each in a machine of its own (`lab`): the same facts for each.

mod dinit;
mod facts;
mod lab;
mod openrc;
mod runit;
mod s6;
mod s6_rc;
mod systemd;
mod systemd_container;

#[allow(unused_imports)]
pub use facts::Init;
pub use lab::{Kind, Lab, Site, own_dir, source};
pub use systemd::lay_down;

#[test]
fn a_lab_comes_and_goes() {
    for kind in [Kind::Plain, Kind::Systemd] {
        let Some(lab) = Lab::new("inits::a_lab_comes_and_goes", kind, &[]) else { return };
        assert_eq!(lab.ask("hostname; mcp-status --list; echo $$ >/run/x; test -w /usr && echo so"), "lab\nso");
        assert!(!std::path::Path::new("/run/x").exists());
    }
}
