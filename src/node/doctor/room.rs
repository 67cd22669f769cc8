//! Memory: whether what shall run fits, and whether what does not run yet could start now.

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
    vec![if all > total {
        let text = format!("the VMs that shall run need {all} MiB, and this node has {total}");
        Finding::fail("memory", "memory", text).way_out(way)
    } else if coming > free {
        let text = format!("the VMs that are still to start need {coming} MiB, and {free} are free");
        Finding::fail("memory", "memory", text).way_out(format!("stop something else, or {way}"))
    } else {
        Finding::ok("memory", "memory", format!("{free} MiB free of {total}, the VMs that shall run need {all}"))
    }]
}
