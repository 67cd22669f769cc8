//! Memory: whether what shall run fits, and whether what does not run yet could start now. And what the kernel lets one
//! user watch.

use super::{Finding, Patient};
use crate::guest::launch::preflight::QEMU_OWN_MIB;
use crate::sys::memory;

pub(super) fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let (Some(total), Some(free)) = (memory::total_mib(), memory::available_mib()) else { return Vec::new() };
    // What the cluster may put here besides is for it to count.
    let vms = || patient.wanted().filter(|(e, c)| c.is_vm() && !e.may_come());
    let needs = |mib: u32| u64::from(mib) + QEMU_OWN_MIB;
    let all: u64 = vms().map(|(_, c)| needs(c.memory_mb)).sum();
    let coming: u64 = vms().filter(|(e, _)| !e.is_alive()).map(|(_, c)| needs(c.memory_mb)).sum();
    let way = "lower memory_mb, set active = false for what need not run, or add memory";
    let memory = if all > total {
        let text = format!("the VMs that shall run need {all} MiB, and this node has {total}");
        Finding::fail("memory", "memory", text).way_out(way)
    } else if coming > free {
        let text = format!("the VMs that are still to start need {coming} MiB, and {free} are free");
        Finding::fail("memory", "memory", text).way_out(format!("stop something else, or {way}"))
    } else {
        Finding::ok("memory", "memory", format!("{free} MiB free of {total}, the VMs that shall run need {all}"))
    };
    let mut findings = vec![memory];
    findings.extend(watches(vms().count()));
    findings
}

/// Whether each of `vms` supervisors can be told when its console grows; else it looks once a second, which wakes the CPU.
fn watches(vms: usize) -> Option<Finding> {
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").ok()?;
    let limit: usize = limit.trim().parse().ok()?;
    if vms < limit {
        return None;
    }
    let text = format!("{vms} VMs shall run, each supervisor takes an inotify, and a user may have {limit}");
    let way = format!("sysctl fs.inotify.max_user_instances={}; without, the rest looks once a second", vms + 128);
    Some(Finding::note("inotify", "inotify", text).way_out(way))
}
