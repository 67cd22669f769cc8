"""From exec to HTTP 200: one VM against three peers, and sixteen at once."""

import os
import shutil
import threading
import time

from bare import Bare, need_qemu, plain
from lab import REQUEST, Skip, first_answers, free_ports, interleaved, median, now, paired
import socket


def timed(lab, start, port, what):
    """Milliseconds from just before `start()` to the first 200 at `port`. Ends the process."""
    begin = now()
    child = start()
    found = first_answers([port], begin + 60, alive=lambda: child.poll() is None)
    lab.stop(child, patience=45)
    if port not in found:
        raise Skip(f"{what} gave no HTTP 200 (it ended with {child.returncode})")
    return 1000 * (found[port] - begin)


def accel(lab):
    """What mcp-run-vm chooses here, for the peers to have the same."""
    [port] = free_ports(1)
    lines = lab.call(*lab.run_vm(lab.name(), lab.image(), port), "--dry-run").splitlines()
    return lines[lines.index("-accel") + 1]


class Boots:
    """The rows `exec`, `plain` and `ops`, measured in the same rounds."""

    def __init__(self, lab):
        need_qemu()
        self.lab = lab
        self.image = lab.image()
        self.accel = accel(lab)

    def ours(self):
        [port] = free_ports(1)
        name = self.lab.name()
        command = self.lab.run_vm(name, self.image, port)
        took = timed(self.lab, lambda: self.lab.start(command), port, "mcp-run-vm")
        shutil.rmtree(self.lab.run_dir(name), ignore_errors=True)
        return took

    def bare(self):
        [port] = free_ports(1)
        bare = Bare(self.lab, self.lab.run_vm(self.lab.name("p"), self.image, port), port)
        try:
            return timed(self.lab, bare.start, port, "bare QEMU")
        finally:
            bare.close()

    def plain(self):
        [port] = free_ports(1)
        argv = plain(self.image, port, os.path.join(self.lab.dir, "plain.log"))
        if self.accel == "kvm":
            argv = [a.replace("accel=tcg", "accel=kvm").replace("max", "host") for a in argv]
        return timed(self.lab, lambda: self.lab.start(argv), port, "plain QEMU")

    def ops(self):
        """ops forwards a port to the same port of the guest, so its image listens there; it writes to the image."""
        program, env, _ = self.lab.ops()
        [port] = free_ports(1)
        image = self.lab.image("--port", str(port))
        command = [program, "run", self.lab.hello(), "-i", os.path.basename(image), "-s", "-m", "256M", "-p",
                   str(port)] + ([] if self.accel == "kvm" else ["--accel=false"])
        return timed(self.lab, lambda: self.lab.start(command, env=env), port, "ops run")

    def rows(self, only):
        peers = {"exec": ("bare", "bare QEMU, same arguments", 1.05), "plain": ("plain", "pc, SeaBIOS", 0.75),
                 "ops": ("ops", "ops run, image built", 0.7)}
        peers = {row: peer for row, peer in peers.items() if row in only}
        variants = {"ours": self.ours} | {peer[0]: getattr(self, peer[0]) for peer in peers.values()}
        values = interleaved(variants, self.lab.rounds)
        for row, (peer, words, budget) in peers.items():
            ours, theirs = values["ours"], values[peer]
            yield {"row": row, "what": f"exec to HTTP 200, against {words}", "ours": median(ours),
                   "peer": median(theirs), "unit": "ms", "ratio": paired(ours, theirs), "budget": budget}


def four(lab):
    """Four clients at once of one idle VM; the same VM has a second forward, as QEMU makes it."""
    need_qemu()
    ours, theirs = free_ports(2)
    name = lab.name()
    child = lab.start(lab.run_vm(name, lab.image(), ours))
    if ours not in first_answers([ours], now() + 60, alive=lambda: child.poll() is None):
        raise Skip("the VM did not come up")
    with lab.monitor(name) as monitor:
        said = monitor.human(f"hostfwd_add n0 tcp:127.0.0.1:{theirs}-:8080")
    if said.strip():
        raise Skip(f"hostfwd_add: {said.strip()}")

    def longest(port):
        time.sleep(0.1)
        barrier, took = threading.Barrier(4), []

        def client():
            with socket.socket() as s:
                s.settimeout(20)
                barrier.wait()
                begin = now()
                s.connect(("127.0.0.1", port))
                s.sendall(REQUEST)
                if not s.recv(4096).startswith(b"HTTP/1.1 200"):
                    return
                took.append(1000 * (now() - begin))
        threads = [threading.Thread(target=client) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if len(took) < 4:
            raise Skip("a client got no answer")
        return max(took)

    values = interleaved({"ours": lambda: longest(ours), "peer": lambda: longest(theirs)}, max(lab.rounds, 9))
    lab.stop(child, patience=45)
    yield {"row": "four", "what": "4 clients at once, longest answer, against plain hostfwd", "unit": "ms",
           "ours": median(values["ours"]), "peer": median(values["peer"]),
           "ratio": paired(values["ours"], values["peer"]), "budget": 0.3}


def sixteen(lab, count=16):
    """All started at once, as xargs -P16 does, until the last one answers."""
    need_qemu()
    image = lab.image()

    def run(starts, ports, what):
        begin = now()
        children = [start() for start in starts]
        # Slow boots: fewer tries, each with more time.
        found = first_answers(ports, begin + 300, pace=0.1, alive=lambda: all(c.poll() is None for c in children))
        for child in children:
            child.terminate()
        for child in children:
            lab.stop(child, patience=60)
        if len(found) < count:
            raise Skip(f"{what}: {count - len(found)} of {count} gave no HTTP 200")
        return max(found.values()) - begin

    def ours():
        ports = free_ports(count)
        commands = [lab.run_vm(lab.name(), image, port) for port in ports]
        return run([lambda c=c: lab.start(c) for c in commands], ports, "mcp-run-vm")

    def peer():
        ports = free_ports(count)
        bare = [Bare(lab, lab.run_vm(lab.name("p"), image, port), port) for port in ports]
        try:
            return run([b.start for b in bare], ports, "bare QEMU")
        finally:
            for b in bare:
                b.close()

    values = interleaved({"ours": ours, "peer": peer}, max(3, lab.rounds // 3))
    yield {"row": "sixteen", "what": f"{count} VMs side by side, all to HTTP 200, against bare QEMU", "unit": "s",
           "ours": median(values["ours"]), "peer": median(values["peer"]),
           "ratio": paired(values["ours"], values["peer"]), "budget": 1.10}
