"""Large transfers through the forward of a Nanos guest, each way, against bare QEMU."""

import select
import socket

from bare import Bare, need_qemu
from lab import Skip, first_answers, free_ports, interleaved, median, now, paired

SIZE = 300_000_000
SILENCE = 5
"""Seconds without a byte after which a transfer has stalled."""


def rate(port, way):
    """MB/s of one transfer up to its last byte, and whether that was all of it."""
    head = (f"POST /health HTTP/1.1\r\nContent-Length: {SIZE}\r\n\r\n" if way == "upload" else
            f"GET /download?mb={SIZE // 1_000_000} HTTP/1.1\r\n\r\n").encode()
    chunk, done = bytes(1 << 18), 0
    with socket.create_connection(("127.0.0.1", port), 10) as s:
        s.sendall(head)
        s.setblocking(False)
        begin = last = now()
        streams = ([], [s]) if way == "upload" else ([s], [])
        while done < SIZE and any(select.select(*streams, [], SILENCE)):
            count = s.send(chunk[:SIZE - done]) if way == "upload" else len(s.recv(len(chunk)))
            if not count:
                break
            done, last = done + count, now()
        whole = done >= SIZE
        if way == "upload" and whole:
            # A part of it may still be in a buffer of this machine.
            whole = bool(select.select([s], [], [], SILENCE)[0])
            last = now() if whole else last
    return done / 1e6 / (last - begin) if last > begin else 0, whole


def rows(lab, only):
    """The peer has the arguments of mcp-run-vm without `event_idx=off`: where it stalls, its rate up to there counts."""
    need_qemu()
    image, stalls = lab.image(), {}

    def measured(start, port, way, who):
        child = start()
        try:
            if port not in first_answers([port], now() + 60, alive=lambda: child.poll() is None):
                raise Skip(f"{who} gave no HTTP 200")
            value, whole = rate(port, way)
            stalls[who, way] = stalls.get((who, way), 0) + (not whole)
            return value
        finally:
            lab.stop(child, patience=45)

    def ours(way):
        [port] = free_ports(1)
        command = lab.run_vm(lab.name(), image, port)
        return measured(lambda: lab.start(command), port, way, "mcp-run-vm")

    def bare(way):
        [port] = free_ports(1)
        peer = Bare(lab, lab.run_vm(lab.name("p"), image, port), port)
        peer.argv = [argument.replace(",event_idx=off", "") for argument in peer.argv]
        try:
            return measured(peer.start, port, way, "bare QEMU")
        finally:
            peer.close()

    rounds = max(3, lab.rounds // 2)
    for way in only:
        values = interleaved({"ours": lambda: ours(way), "peer": lambda: bare(way)}, rounds)
        if 0 in values["peer"]:
            raise Skip(f"{way}: bare QEMU moved nothing at all")
        yield {"row": way, "what": f"{way} of {SIZE // 1_000_000} MB, against bare QEMU with event indexes",
               "ours": median(values["ours"]), "peer": median(values["peer"]), "unit": "MB/s",
               "ratio": paired(values["ours"], values["peer"]), "budget": 0.85, "at_least": True,
               "notes": [f"{who}: {stalls.get((who, way), 0)} of {rounds + 1} transfers stalled"
                         for who in ("mcp-run-vm", "bare QEMU")]}
