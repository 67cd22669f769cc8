"""From the moment that the guest listens to the moment that we say so."""

import os
import random
import socket
import threading
import time

from bare import need_qemu
from lab import Skip, first_answers, free_ports, interleaved, median, now

LISTENS = b"hello: listening on 8080\n"
DELAYS = (0, 300, 700, 1100, 1500)
"""How long the guest's program waits before it listens, ms. The boot before it takes as long as it takes."""


def console_says(path, deadline, alive):
    """When hello's word that it listens stood in the console log: what it does next after listen(2), so this is late
    by a write to the serial line, and an answer may be a little early. Looked at every half millisecond; no
    connection of ours that the guest would have to answer besides."""
    fd, seen = None, b""
    try:
        while now() < deadline and alive():
            if fd is None:
                try:
                    fd = os.open(path, os.O_RDONLY)
                except FileNotFoundError:
                    time.sleep(0.002)
                    continue
            more = os.read(fd, 4096)
            t = now()
            seen += more
            if LISTENS in seen:
                return t
            time.sleep(0.0005)
    finally:
        if fd is not None:
            os.close(fd)
    raise Skip("the guest did not listen")


def in_thread(what):
    """Calls `what` in a thread; a function that waits for its answer."""
    box = []
    thread = threading.Thread(target=lambda: box.append(what()), daemon=True)
    thread.start()

    def answer():
        thread.join(60)
        return box[0] if box else None
    return answer


def by_wait(lab, delay):
    """`mcp-health --wait`, begun when the VM has started."""
    [port] = free_ports(1)
    name = lab.name()
    child = lab.start(lab.run_vm(name, lab.image("--listen-delay", str(delay)), port))
    state = os.path.join(lab.run_dir(name), "a", "state.json")
    limit = now() + 60
    while not os.path.exists(state) and now() < limit:
        time.sleep(0.001)
    asked = lab.start([lab.tool("mcp-health"), "--wait", "60s", "-q", name])
    told = in_thread(lambda: (asked.wait(), now()))
    listens = console_says(os.path.join(lab.log_dir(name), "a", "console.log"), limit, lambda: child.poll() is None)
    answer = told()
    lab.stop(asked)
    lab.stop(child, patience=45)
    if not answer or answer[0] != 0:
        raise Skip(f"mcp-health --wait ended with {answer and answer[0]}")
    return 1000 * (answer[1] - listens)


def by_notify(lab, delay):
    """READY=1 on NOTIFY_SOCKET, from mcp-run-vm with its default health check (tcp)."""
    [port] = free_ports(1)
    name = lab.name()
    path = os.path.join(lab.dir, name + ".sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        s.settimeout(60)

        def wait():
            while b"READY=1" not in s.recv(4096):
                pass
            return now()
        told = in_thread(wait)
        command = lab.run_vm(name, lab.image("--listen-delay", str(delay)), port, ready="healthy")
        child = lab.start(command, env=lab.env | {"NOTIFY_SOCKET": path})
        listens = console_says(os.path.join(lab.log_dir(name), "a", "console.log"), now() + 60,
                               lambda: child.poll() is None)
        answer = told()
        lab.stop(child, patience=45)
    if not answer:
        raise Skip("no READY=1 came")
    return 1000 * (answer - listens)


def by_client(lab, delay):
    """A client that reads the console and then asks: what nobody who asks the guest can beat by much."""
    [port] = free_ports(1)
    name = lab.name()
    child = lab.start(lab.run_vm(name, lab.image("--listen-delay", str(delay)), port))
    listens = console_says(os.path.join(lab.log_dir(name), "a", "console.log"), now() + 60,
                           lambda: child.poll() is None)
    found = first_answers([port], now() + 30, alive=lambda: child.poll() is None)
    lab.stop(child, patience=45)
    if port not in found:
        raise Skip("the VM gave no HTTP 200")
    return 1000 * (found[port] - listens)


def rows(lab, only):
    need_qemu()
    ways = {"wait": ("mcp-health --wait", by_wait), "notify": ("READY=1 on NOTIFY_SOCKET", by_notify)}
    ways = {row: ways[row] for row in ways if row in only} | {"client": ("", by_client)}

    def one(way, late):
        return way(lab, random.choice(DELAYS[1:]) if late else DELAYS[0])
    values = interleaved({(row, late): lambda w=ways[row][1], late=late: one(w, late)
                          for row in ways for late in (False, True)}, lab.rounds)
    for (row, late), took in values.items():
        if row == "client":
            continue
        when = "0.3-1.5 s after boot" if late else "at once after boot"
        yield {"row": row, "what": f"guest listens {when}, to {ways[row][0]}", "ours": median(took), "unit": "ms",
               "peer": median(values["client", late]), "budget": 20, "absolute": True,
               "notes": [f"from {min(took):.1f} to {max(took):.1f} ms; the peer is an HTTP answer to a client that "
                         "reads the console"]}
