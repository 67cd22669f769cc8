"""A node of 1,000 components."""

import os
import subprocess

from bare import need_qemu
from lab import Skip, median, now

SERVICES, EACH, RUNNING = 250, 4, 50


def define(lab):
    """250 services of four components, each with a port, a health check and a few more keys; the names."""
    folder = os.path.join(lab.root, "etc/services")
    os.makedirs(folder, mode=0o700)
    names = []
    for s in range(SERVICES):
        text = f'name = "svc{s:03}"\nactive = true\n'
        for c in range(EACH):
            number = s * EACH + c
            names.append(f"svc{s:03}/c{c}")
            text += f"""
[[components]]
name = "c{c}"
runtime = "unikernel"
disk = "{lab.image()}"
kernel = "{lab.kernel()}"
memory_mb = 32
ports = ["127.77.{number // 250}.{number % 250 + 1}:8080:8080"]
restart = "on-failure"
stop_timeout = "35s"
  [components.health]
  kind = "http"
  path = "/health"
  interval = "500ms"
"""
        with open(os.path.join(folder, f"svc{s:03}.toml"), "w") as f:
            f.write(text)
    return names


def timed(lab, *argv):
    begin = now()
    done = subprocess.run(argv, env=lab.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=60)
    took = 1000 * (now() - begin)
    return took, done


def start_some(lab, names):
    """Starts components, eight at a time; how many run."""
    waiting, going = list(names), []
    while waiting or going:
        while waiting and len(going) < 8:
            name = waiting.pop(0)
            lab.vms.add(name)
            going.append(lab.start([lab.tool("mcp-run-vm"), "--detach", "--ready", "started", name]))
        child = going.pop(0)
        child.wait(60)
        lab.children.remove(child)
        if child.returncode != 0:
            raise Skip(f"mcp-run-vm --detach ended with {child.returncode}")


def rows(lab, only):
    rounds = max(lab.rounds, 9)
    names = define(lab)
    status = lab.tool("mcp-status")
    if "definitions" in only:
        lines, _ = 0, timed(lab, status, "--list")
        took = []
        for _ in range(rounds):
            ms, done = timed(lab, status, "--list")
            took.append(ms)
            lines = done.stdout.count(b"\n")
        if lines < SERVICES * EACH:
            raise Skip(f"mcp-status --list shows {lines} components: {done.stderr.decode()[-200:]}")
        yield {"row": "definitions", "what": "1,000 definitions read (all of mcp-status --list, nothing running)",
               "unit": "ms", "ours": median(took), "budget": 50, "absolute": True}
    if "status" in only:
        need_qemu()
        picked = names[::len(names) // RUNNING][:RUNNING]
        start_some(lab, picked)
        # Idle guests still tick, and under emulation fifty of them keep a small machine busy: paused, they are VMs
        # with locks, sockets and states as before.
        for name in picked:
            with lab.monitor(name) as monitor:
                monitor.execute("stop")
        timed(lab, status)
        took = []
        for _ in range(rounds):
            ms, done = timed(lab, status)
            took.append(ms)
        lines = done.stdout.decode().splitlines()
        running = sum(1 for line in lines if any(w in line.split() for w in ("running", "starting", "ready")))
        for name in picked:
            with lab.monitor(name) as monitor:
                monitor.execute("cont")
        yield {"row": "status", "what": f"mcp-status, 1,000 components, {RUNNING} real VMs (paused)", "unit": "ms",
               "ours": median(took), "budget": 100, "absolute": True,
               "notes": [f"{len(lines)} lines, of which {running} say that it runs"]}
