//! Components on three real nodes of corosync and Pacemaker, each a machine of its own (`lab`).

mod client;
mod facts;
mod lab;
mod stages;
mod status;

#[allow(unused_imports)]
pub use lab::{Cluster, NODES, OUTSIDE, address};
use std::time::Instant;

#[test]
fn a_cluster_comes_fences_and_goes() {
    let Some(mut cluster) = Cluster::new("cluster::a_cluster_comes_fences_and_goes") else { return };
    cluster.ask("crm configure primitive d ocf:pacemaker:Dummy op monitor interval=1s");
    let first = cluster.until_placed("d", |_| true);
    let began = Instant::now();
    cluster.kill(first);
    let second = cluster.until_placed("d", |node| node != first);
    eprintln!("cluster: n{first} killed, moved to n{second} after {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(cluster.fenced(), [first]);
    cluster.boot(first);
    cluster.until_online(&[1, 2, 3]);
    assert_eq!(cluster.place("d"), second);
    let traces = cluster.traces();
    assert!(traces.iter().all(|path| path.exists()), "{traces:?}");
    drop(cluster);
    assert!(traces.iter().all(|path| !path.exists()), "{traces:?}");
}
