"""Replacing a version: under load without a gap, and with a volume with the shortest."""

import json
import os
import random
import signal
import subprocess
import sys

from bare import Bare, need_qemu
from boot import timed as boot_time
from depot import Depot, Node
from depot import timed as call
from lab import REPO, Skip, first_answers, free_ports, median, now

CLIENTS, REPLACEMENTS = 4, 20


class Load:
    """Clients of a port, each a process of its own."""

    def __init__(self, lab, port, clients, pause=0):
        script = os.path.join(REPO, "scripts/bench.d/client.py")
        argv = [sys.executable, script, str(port)] + ([str(pause)] if pause else [])
        self.lab = lab
        self.children = [lab.start(argv, stdout=subprocess.PIPE) for _ in range(clients)]

    def end(self):
        """All requests of all clients: [began, took in ms, ok]."""
        for child in self.children:
            child.send_signal(signal.SIGTERM)
        seen = []
        for child in self.children:
            out, _ = child.communicate(timeout=30)
            self.lab.children.remove(child)
            seen += json.loads(out)
        return sorted(seen)


def rows(lab, only):
    need_qemu()
    if "replace" in only:
        yield from replace(lab)
    if "gap" in only:
        yield from gap(lab)


def define(root, name, port, source, *more):
    folder = os.path.join(root, "etc/services")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name + ".toml"), "w") as f:
        f.write(f'name = "{name}"\n[[components]]\nname = "{name}"\nruntime = "unikernel"\nmemory_mb = 128\n'
                + "".join(f"{line}\n" for line in (*source, *more))
                + f'ports = ["127.0.0.1:{port}:8080"]\n[components.health]\nkind = "http"\npath = "/health"\n')


def replace(lab):
    """20 replacements in place, and as often a VM that boots beside and goes again, in random order under one load."""
    versions = [lab.image("--port", "8080"), lab.image("--port", "8080", "--graceful")]
    port, beside = free_ports(2)
    lab.vms |= {"web", "beside"}

    def version(number, name, at):
        source = [f'disk = "{versions[number % 2]}"', f'kernel = "{lab.kernel()}"']
        define(lab.root, name, at, source)
    version(0, "web", port)
    lab.call(lab.tool("mcp-run-vm"), "--detach", "--wait", "web")
    windows = {"replace": [], "beside": []}
    load = Load(lab, port, CLIENTS)
    try:
        for number in range(1, REPLACEMENTS + 1):
            for what in random.sample(list(windows), 2):
                begin = now()
                if what == "replace":
                    version(number, "web", port)
                    lab.call(lab.tool("mcp-run"), "--replace", "web")
                else:
                    version(number, "beside", beside)
                    lab.call(lab.tool("mcp-run-vm"), "--detach", "--wait", "beside")
                    lab.call(lab.tool("mcp-stop"), "beside")
                windows[what].append((begin, now()))
    finally:
        seen = load.end()
    failed = [r for r in seen if not r[2]]
    # A request belongs to what went on when it began.
    longest = {what: [max((took for at, took, _ in seen if begin <= at < end), default=0) for begin, end in spans]
               for what, spans in windows.items()}
    lengths = {what: median([1000 * (end - begin) for begin, end in spans]) for what, spans in windows.items()}
    yield {"row": "replace", "what": f"{REPLACEMENTS} replacements under {CLIENTS} clients, failed requests", "unit": "",
           "ours": len(failed), "budget": 0, "absolute": True,
           "notes": [f"of {len(seen)} requests in all; a replacement took {lengths['replace']:.0f} ms, "
                     f"a VM that came and went beside {lengths['beside']:.0f} ms (medians)"]}
    yield {"row": "replace", "what": "the longest answer meanwhile, against a VM that boots beside", "unit": "ms",
           "ours": max(longest["replace"]), "peer": max(longest["beside"]), "budget": 1.2,
           "ratio": max(longest["replace"]) / max(longest["beside"]),
           "notes": [f"median of the longest of each: {median(longest['replace']):.1f} and "
                     f"{median(longest['beside']):.1f} ms"]}


def gap(lab):
    """A volume can't have two writers: the old version stops before the new one starts."""
    depot, node = Depot(lab), Node(lab).with_ops()
    for tag in (1, 2):
        config = {"Entrypoint": ["/hello"], "Cmd": ["--port", "8080", "--graceful"], "Labels": {"round": str(tag)},
                  "Env": [f"ROUND={tag}"]}
        depot.fill(f"hello{tag}", config, f"{lab.hello()}=/hello")
    (port,) = free_ports(1)
    deploy = os.path.join(os.path.dirname(lab.tool("mcp-run")), "mcp-deploy")
    if not os.access(deploy, os.X_OK):
        deploy = os.path.join(REPO, "scripts/mcp-deploy")
    env = node.env | {"PATH": os.path.dirname(lab.tool("mcp-run")) + ":" + node.env["PATH"]}

    def version(number):
        define(node.root, "web", port, [f'image = "{depot.reference(f"hello{number % 2 + 1}")}"'],
               'volumes = ["data:/srv:32M"]', 'restart = "no"')
        return call([deploy, "web"], env, "mcp-deploy")

    try:
        version(0)
        gaps, boots, ratios = [], [], []
        _, line = call(node.pull(depot.reference("hello1")), env, "mcp-pull")
        image = call([lab.tool("mcp-build"), line.split()[2]], env, "mcp-build")[1].split()[1]
        for number in range(1, max(lab.rounds, 7) + 1):
            load = Load(lab, port, 1, pause=2)
            try:
                first_answers([port], now() + 20)
                version(number)
                if port not in first_answers([port], now() + 60):
                    raise Skip("no answer after mcp-deploy")
            finally:
                seen = load.end()
            gaps.append(longest_gap(seen))
            boots.append(boot(lab, node, image))
            ratios.append(gaps[-1] - boots[-1])
        yield {"row": "gap", "what": "mcp deploy with a volume: not answered, beyond the guest's boot", "unit": "ms",
               "ours": median(ratios), "budget": 150, "absolute": True,
               "notes": [f"{median(gaps):.0f} ms without an answer, of which bare QEMU takes {median(boots):.0f} to boot "
                         "the same image to HTTP 200 (medians)"]}
    finally:
        subprocess.run([lab.tool("mcp-stop"), "--all"], env=env, timeout=120, capture_output=True)
        node.remove()


def longest_gap(seen):
    """Milliseconds from the end of one good answer to the end of the next, at most."""
    good = [at + took / 1000 for at, took, ok in seen if ok]
    if len(good) < 2:
        raise Skip("the old version did not answer")
    return 1000 * max(b - a for a, b in zip(good, good[1:]))


def boot(lab, node, image):
    (port,) = free_ports(1)
    command = [lab.tool("mcp-run-vm"), "--root", node.root, "--name", lab.name("p"), "--image", image, "--port",
               f"127.0.0.1:{port}:8080", "--memory", "128", "--ready", "started"]
    bare = Bare(lab, command, port)
    try:
        return boot_time(lab, bare.start, port, "bare QEMU")
    finally:
        bare.close()
