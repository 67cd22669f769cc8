"""A whole node of 100 and of 300 components: what its programs take, and what each component costs in memory."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time

from bare import need_qemu
from containers import IMAGE, Space
from idle import field
from lab import REQUEST, Monitor, Skip, median, now

MEMORY = 24
"""MiB of a guest: enough for Nanos and a small server."""
PEAK = {"vm": 48, "container": 16}
"""MiB that one takes at most while it starts: what has to be free before any of them is started."""
AT_ONCE = 8
PERIOD = 10


def available():
    return field("/proc/meminfo", "MemAvailable") / 1024


class Fleet:
    """A root of its own with one stage of `count` services of one component."""

    def __init__(self, lab, count):
        self.lab, self.names = lab, [f"s{i:04}" for i in range(count)]
        self.root = os.path.join(lab.dir, lab.name("n"))
        self.env = lab.env | {"MCP_ROOT": self.root}
        os.makedirs(os.path.join(self.root, "etc/services"))
        services = ", ".join(f'"{name}"' for name in self.names)
        # A stage before it, so that it is not the foundation, for which a boot waits without end.
        self.write("etc/mcp.toml", f'[[boot.sequence]]\nname = "first"\nservices = ["{self.names[0]}"]\n'
                   f'[[boot.sequence]]\nname = "all"\nservices = [{services.partition(", ")[2]}]\ntimeout = "300s"\n')

    def write(self, name, text):
        with open(os.path.join(self.root, name), "w") as f:
            f.write(text)

    def wrap(self, *argv):
        return argv

    def start(self):
        waiting, going = list(self.names), []
        while waiting or going:
            while waiting and len(going) < AT_ONCE:
                argv = self.wrap(self.lab.tool("mcp-run"), "--detach", "--wait", waiting.pop(0))
                going.append(self.lab.start(argv, env=self.env, stderr=subprocess.PIPE, text=True))
            child = going.pop(0)
            complaint = child.communicate(timeout=300)[1]
            self.lab.children.remove(child)
            if child.returncode != 0:
                raise Skip(f"mcp-run --detach ended with {child.returncode}: {complaint.strip()[-200:]}")

    def timed(self, tool, codes):
        """Milliseconds of a program of ours; the median of the rounds, and its last answer."""
        took = []
        for number in range(-1, self.lab.rounds):
            begin = now()
            done = subprocess.run(self.wrap(self.lab.tool(tool)), env=self.env, stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=300)
            took += [1000 * (now() - begin)] * (number >= 0)
            if done.returncode not in codes:
                raise Skip(f"{tool} ended with {done.returncode}: {done.stderr.strip()[-200:]}")
        return median(took), done.stdout

    def pid(self, name, lock="lock"):
        with open(os.path.join(self.root, "run", name, "web", lock)) as f:
            return int(f.read().split()[0])

    def state(self, name, slot):
        with open(os.path.join(self.root, "run", name, "web", slot, "state.json")) as f:
            return json.load(f)

    def check(self, told):
        running = sum(1 for line in told.splitlines() if "running" in line.split())
        if running != len(self.names):
            raise Skip(f"mcp-status shows {running} of {len(self.names)} that run")


class Vms(Fleet):
    def __init__(self, lab, count):
        super().__init__(lab, count)
        image, kernel = lab.image(), lab.kernel()
        for i, name in enumerate(self.names):
            self.write(f"etc/services/{name}.toml", f"""name = "{name}"
[[components]]
name = "web"
runtime = "unikernel"
disk = "{image}"
kernel = "{kernel}"
memory_mb = {MEMORY}
ports = ["127.78.{i // 250}.{i % 250 + 1}:8080:8080"]
restart = "no"
""")

    def parts(self, name):
        return {"supervisor": self.pid(name), "QEMU": self.pid(name, "a/lock")}

    def answers(self, i):
        with socket.create_connection((f"127.78.{i // 250}.{i % 250 + 1}", 8080), 20) as s:
            s.sendall(REQUEST)
            return s.recv(4096).startswith(b"HTTP/1.1 200")

    def execute(self, command):
        for name in self.names:
            with Monitor(os.path.join(self.root, "run", name, "web/a/qmp.sock")) as monitor:
                monitor.execute(command)


class Containers(Fleet):
    def __init__(self, lab, count):
        super().__init__(lab, count)
        self.space = Space(lab)
        self.env |= self.space.env | {"MCP_ROOT": self.root}
        for name in self.names:
            self.write(f"etc/services/{name}.toml", f'name = "{name}"\n[[components]]\nname = "web"\nimage = "{IMAGE}"\n'
                       'network = "none"\nrestart = "no"\n')

    def wrap(self, *argv):
        return self.space(*argv)

    def start(self):
        self.space.load()
        self.lab.call(*self.wrap(self.lab.tool("mcp-record"), "--new", "--now", self.names[0]), env=self.env)
        folder = os.path.join(self.root, "lib/registry")
        for name in self.names[1:]:
            os.makedirs(os.path.join(folder, name), mode=0o700)
            shutil.copy(os.path.join(folder, self.names[0], "web.json"), os.path.join(folder, name))
        super().start()

    def parts(self, name):
        container = self.state(name, "c")["container"]
        return {"supervisor": self.pid(name), "conmon": container["conmon"]["pid"]}


def ticks(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(") ")[2].split()
    return int(fields[11]) + int(fields[12])


def row(what, value, unit, budget, *notes):
    return {"row": "scale", "what": what, "ours": value, "unit": unit, "budget": budget, "absolute": True, "ratio": None,
            "notes": list(notes)}


def memory(fleet, kind, budgets):
    """What each process of a component holds: resident, and its share of what several hold (Pss)."""
    held = {}
    for name in fleet.names:
        for part, pid in fleet.parts(name).items():
            sizes = [field(f"/proc/{pid}/smaps_rollup", size) / 1024 for size in ("Rss", "Pss")]
            held.setdefault(part, []).append(sizes)
    for part, sizes in held.items():
        rss, pss = (median(column) for column in zip(*sizes))
        total = sum(size for _, size in sizes)
        yield row(f"{len(fleet.names)} {kind}s: {part}, proportional (Pss)", pss, "MB", budgets[part],
                  f"resident {rss:.1f} MB; all of them together {total:.0f} MB, proportional")


def further(seen, what, count, ms):
    """What each component beyond those of a smaller node adds."""
    smaller = seen.setdefault(what, {})
    smaller[count] = ms
    least = min(smaller)
    return [] if least == count else [f"{(ms - smaller[least]) / (count - least):.2f} ms for each beyond {least}"]


def measure(lab, kind, count, seen):
    need = count * PEAK[kind] + 1024
    if available() < need:
        raise Skip(f"{count} {kind}s want {need} MiB of free memory, there are {available():.0f}")
    fleet = Vms(lab, count) if kind == "vm" else Containers(lab, count)
    try:
        what, before, begin = f"{count} {kind}s", available(), now()
        fleet.start()
        took = now() - begin
        if kind == "vm":
            # Their pages are there once each has served, and they are idle once that connection has gone.
            if not all(fleet.answers(i) for i in range(count)):
                raise Skip("a guest gives no answer")
            time.sleep(3)
        whole = (before - available()) / count
        notes = [f"started {AT_ONCE} at a time in {took:.0f} s"]
        if kind == "vm":
            pids = [fleet.pid(name, "a/lock") for name in fleet.names]
            spent = sum(map(ticks, pids))
            time.sleep(PERIOD)
            share = (sum(map(ticks, pids)) - spent) / os.sysconf("SC_CLK_TCK") / PERIOD / count
            notes.append(f"an idle guest takes {100 * share:.2f} % of a core")
            ms, _ = fleet.timed("mcp-boot", (0,))
            yield row(f"{what}: mcp-boot with nothing to do, each is asked", ms, "ms", 3 * count + 50,
                      *further(seen, f"{kind} boot", count, ms))
            # Idle guests tick, and hundreds under emulation keep a small machine busy: that is not what status costs.
            fleet.execute("stop")
        else:
            ms, _ = fleet.timed("mcp-boot", (0,))
            yield row(f"{what}: mcp-boot with nothing to do", ms, "ms", 3 * count + 50,
                      *further(seen, f"{kind} boot", count, ms))
        ms, told = fleet.timed("mcp-status", (0, 1))
        fleet.check(told)
        yield row(f"{what}: mcp-status", ms, "ms", 3 * count + 50, *notes, *further(seen, f"{kind} status", count, ms))
        budgets = {"supervisor": 1.5, "QEMU": 64, "conmon": 2}
        yield from memory(fleet, kind, budgets)
        yield row(f"{what}: taken from the node's memory, each", whole, "MB", PEAK[kind])
    finally:
        # Nothing here wants a graceful end, and hundreds of those take minutes.
        if kind == "container":
            for name in fleet.names:
                with contextlib.suppress(OSError, ValueError, IndexError):
                    os.kill(fleet.pid(name), 9)
            fleet.space.close()
            shutil.rmtree(fleet.space.dir, ignore_errors=True)
        lab.kill_leftovers()


def rows(lab, counts):
    need_qemu()
    seen = {}
    for count in counts:
        for kind in ("vm", "container"):
            yield from measure(lab, kind, count, seen)
