//! More than one node: what Pacemaker has placed where, and what each node says of itself.
//!
//! Nothing here decides anything: Pacemaker does. It is looked at when that is asked for, and no program of Pacemaker's
//! is started otherwise.

pub mod answer;
pub mod ask;
pub mod judge;
pub mod pacemaker;
pub mod xml;

pub use ask::Via;
pub use judge::{ClusterDrift, Picture, Row, Seen};

use crate::sys::{Deadline, Result};
use std::time::Instant;

/// Looks at all nodes, until `deadline` at the latest. What may only have been passing by is looked at twice, where it is
/// a row that is asked for.
pub fn look(via: &Via, health: bool, deadline: Deadline, asked_for: impl Fn(&Row) -> bool) -> Result<Picture> {
    let began = Instant::now();
    let first = once(via, health, deadline)?;
    // A look that there is no time for would only find silent nodes.
    let time = deadline.left() > began.elapsed() * 2;
    if !time || !first.rows.iter().any(|row| asked_for(row) && row.may_pass()) {
        return Ok(first);
    }
    match once(via, health, deadline) {
        Ok(second) => Ok(first.confirmed_by(second)),
        Err(_) => Ok(first),
    }
}

fn once(via: &Via, health: bool, deadline: Deadline) -> Result<Picture> {
    let (cluster, here) = ask::pacemaker(deadline, matches!(via, Via::Ssh { .. }))?;
    let named = match via {
        Via::Ssh { arguments, .. } => Via::Ssh { here, arguments: arguments.clone() },
        Via::Shell(_) => via.clone(),
    };
    let asked = ask::nodes(&cluster.nodes, &named, health, deadline);
    Ok(judge::judge(cluster, asked))
}
