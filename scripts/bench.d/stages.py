"""mcp-boot: how soon it goes on, a stage of sixteen, and a node where everything runs already."""

import os
import socket
import subprocess
import time

from bare import Bare, need_qemu
from lab import Skip, first_answers, free_ports, interleaved, median, now, paired
from ready import console_says, in_thread


class Node:
    """A root of its own, with one component a service."""

    def __init__(self, lab):
        self.lab = lab
        self.root = os.path.join(lab.dir, lab.name("n"))
        self.env = lab.env | {"MCP_ROOT": self.root}
        os.makedirs(os.path.join(self.root, "etc/services"))
        self.ports = {}

    def define(self, name, image, memory=256):
        [port] = free_ports(1)
        self.ports[name] = port
        with open(os.path.join(self.root, "etc/services", name + ".toml"), "w") as f:
            f.write(f'name = "{name}"\n[[components]]\nname = "web"\nruntime = "unikernel"\ndisk = "{image}"\n'
                    f'kernel = "{self.lab.kernel()}"\nmemory_mb = {memory}\nports = ["127.0.0.1:{port}:8080"]\n')

    def stage(self, name="all", timeout="300s"):
        """One stage of all services; as the second one, so that it has an end."""
        names = ", ".join(f'"{name}"' for name in self.ports)
        with open(os.path.join(self.root, "etc/mcp.toml"), "w") as f:
            f.write(f'[[boot.sequence]]\nname = "{name}"\nservices = [{names}]\ntimeout = "{timeout}"\n')

    def boot(self, **options):
        return self.lab.start([self.lab.tool("mcp-boot")], env=self.env | options.pop("env", {}), **options)

    def console(self, name):
        return os.path.join(self.root, "log", name, "web/a/console.log")

    def down(self):
        subprocess.run([self.lab.tool("mcp-boot"), "--down", "--within", "60s"], env=self.env, timeout=120,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def onward(lab):
    """From the last guest's word that it listens to READY=1 after the only stage."""
    images = [lab.image(), lab.image("--listen-delay", "300"), lab.image("--listen-delay", "1100")]

    def one():
        node = Node(lab)
        for i, image in enumerate(images):
            node.define(f"s{i}", image)
        node.stage()
        path = os.path.join(lab.dir, lab.name() + ".sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.bind(path)
            s.settimeout(60)

            def wait():
                while b"READY=1" not in s.recv(4096):
                    pass
                return now()
            told = in_thread(wait)
            child = node.boot(env={"NOTIFY_SOCKET": path})
            limit = now() + 60
            # The last one's console; the others have said so long before.
            listens = console_says(node.console("s2"), limit, lambda: now() < limit)
            answer = told()
            lab.stop(child)
        node.down()
        if not answer:
            raise Skip("no READY=1 came")
        return 1000 * (answer - listens)
    took = interleaved({"ours": one}, lab.rounds)["ours"]
    yield {"row": "onward", "what": "last guest of a stage listens, to mcp-boot goes on", "ours": median(took),
           "unit": "ms", "budget": 20, "absolute": True, "ratio": None,
           "notes": [f"from {min(took):.1f} to {max(took):.1f} ms"]}


def stage(lab, count=16):
    """Until mcp-boot has ended, against bare QEMUs that are all started at once, until the last one answers."""
    image = lab.image()

    def ours():
        node = Node(lab)
        for i in range(count):
            node.define(f"s{i}", image)
        node.stage()
        begin = now()
        child = node.boot()
        code = lab.ended(child, 300)
        took = now() - begin
        found = first_answers(list(node.ports.values()), now() + 10)
        node.down()
        if code != 0 or len(found) < count:
            raise Skip(f"mcp-boot ended with {code}, {len(found)} of {count} answer")
        return took

    def peer():
        ports = free_ports(count)
        bare = [Bare(lab, lab.run_vm(lab.name("p"), image, port), port) for port in ports]
        try:
            begin = now()
            children = [b.start() for b in bare]
            found = first_answers(ports, begin + 300, pace=0.1, alive=lambda: all(c.poll() is None for c in children))
            for child in children:
                child.terminate()
            for child in children:
                lab.stop(child, patience=60)
            if len(found) < count:
                raise Skip(f"bare QEMU: {len(found)} of {count} answer")
            return max(found.values()) - begin
        finally:
            for b in bare:
                b.close()
    values = interleaved({"ours": ours, "peer": peer}, max(3, lab.rounds // 3))
    yield {"row": "stage", "what": f"mcp-boot of a stage of {count} VMs, against bare QEMUs to HTTP 200", "unit": "s",
           "ours": median(values["ours"]), "peer": median(values["peer"]),
           "ratio": paired(values["ours"], values["peer"]), "budget": 1.10}


def booted(lab, count=50):
    """mcp-boot where everything runs already: each VM is asked, and answers."""
    node = Node(lab)
    image = lab.image()
    for i in range(count):
        node.define(f"s{i}", image, memory=64)
    node.stage()
    try:
        if node.boot().wait(600) != 0:
            raise Skip("the node did not come up")

        def again():
            # The guests are still busy with the end of the connections before.
            time.sleep(0.5)
            begin = now()
            code = lab.ended(node.boot(), 60)
            if code != 0:
                raise Skip(f"mcp-boot ended with {code}")
            return 1000 * (now() - begin)
        took = interleaved({"ours": again}, lab.rounds)["ours"]
    finally:
        node.down()
    yield {"row": "booted", "what": f"mcp-boot where {count} VMs run already", "ours": median(took), "unit": "ms",
           "budget": 150, "absolute": True, "ratio": None, "notes": [f"from {min(took):.0f} to {max(took):.0f} ms"]}


def rows(lab, only):
    need_qemu()
    for name, what in (("onward", onward), ("stage", stage), ("booted", booted)):
        if name in only:
            yield from what(lab)
