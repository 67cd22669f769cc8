"""What a supervisor costs whose guest is healthy and silent."""

import os
import time

from bare import need_qemu
from lab import Skip, first_answers, free_ports, now


def field(path, name):
    """KiB or a count from a `Name:  value` file of /proc."""
    with open(path) as f:
        for line in f:
            if line.startswith(name + ":"):
                return int(line.split()[1])
    raise Skip(f"{path} has no {name}")


def switches(pid):
    """Context switches of all threads so far: each wake-up is at least one."""
    return sum(field(f"/proc/{pid}/task/{task}/status", kind) for task in os.listdir(f"/proc/{pid}/task")
               for kind in ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"))


def rows(lab, seconds):
    """One in the foreground, one detached, both made healthy by their health check and then left alone."""
    need_qemu()
    kinds, ports = ("foreground", "detached"), free_ports(2)
    names = {kind: lab.name() for kind in kinds}
    for kind, port in zip(kinds, ports):
        more = ["--detach", "--wait"] if kind == "detached" else []
        child = lab.start(lab.run_vm(names[kind], lab.image(), port, *more, ready="healthy"))
        if more:
            child.wait()
            lab.children.remove(child)
        if port not in first_answers([port], now() + 60):
            raise Skip("the VM did not come up")
    # Nanos writes a last line about its address some two seconds after it is up; that is no idle guest yet.
    time.sleep(8)
    pids = {kind: lab.supervisor(names[kind]) for kind in kinds}
    before = {kind: switches(pid) for kind, pid in pids.items()}
    time.sleep(seconds)
    for kind, pid in pids.items():
        woken = switches(pid) - before[kind]
        common = {"row": "idle", "absolute": True}
        rollup = f"/proc/{pid}/smaps_rollup"
        yield common | {"what": f"idle supervisor, {kind}: resident", "unit": "MB", "budget": 4,
                        "ours": field(f"/proc/{pid}/status", "VmRSS") / 1024}
        yield common | {"what": f"idle supervisor, {kind}: proportional (Pss)", "unit": "MB", "budget": 1.5,
                        "ours": field(rollup, "Pss") / 1024}
        yield common | {"what": f"idle supervisor, {kind}: context switches in {seconds:.0f} s", "unit": "x",
                        "budget": 0, "ours": woken}
