"""A console log of 2 GB."""

import os
import shutil
import socket
import subprocess
import time

from lab import Skip, interleaved, median, now, paired

LINE = 80
STEP = 50_000_000
"""Nanoseconds between two records of the index: a busy console is looked at 20 times a second."""


def make(lab, name, size):
    """A log of 80-byte lines as it is after a guest that wrote 8 MB a second, with its index."""
    folder = os.path.join(lab.log_dir(name), "a")
    os.makedirs(folder, mode=0o700)
    if shutil.disk_usage(folder).free < size * 1.2:
        raise Skip(f"{folder} has less room than {size >> 20} MB; set TMPDIR")
    path = os.path.join(folder, "console.log")
    count = size // LINE
    with open(path, "wb") as f:
        at, block = 0, 50_000
        while at < count:
            n = min(block, count - at)
            f.write(b"".join(b"line %011d %s\n" % (i, b"x" * 62) for i in range(at, at + n)))
            at += n
    size = os.path.getsize(path)
    per_record = 8_000_000 * STEP // 1_000_000_000
    first = time.time_ns() - (size // per_record + 1) * STEP
    with open(os.path.join(folder, "console.idx"), "wb") as f:
        f.write(b"mcpidx1\n" + os.stat(path).st_ino.to_bytes(8, "little"))
        for i, offset in enumerate(range(per_record, size + per_record, per_record)):
            f.write(min(offset, size).to_bytes(8, "little") + (first + i * STEP).to_bytes(8, "little"))
    return path


def one(lab, *argv):
    """Milliseconds until all of the output has come, and the output."""
    begin = now()
    out = subprocess.run(argv, env=lab.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, timeout=60).stdout
    return 1000 * (now() - begin), out


def through_cat(lab, argv, size):
    """MB of log per second through a pipe to cat, and the reader's largest resident set in MB."""
    begin = now()
    reader = lab.start(argv, stdout=subprocess.PIPE)
    sink = lab.start(["cat"], stdin=reader.stdout)
    reader.stdout.close()
    most = 0.0
    while reader.poll() is None:
        most = max(most, high_water(reader.pid))
        time.sleep(0.02)
    sink.wait()
    took = now() - begin
    lab.children.remove(reader)
    lab.children.remove(sink)
    if reader.returncode != 0:
        raise Skip(f"{argv[0]} ended with {reader.returncode}")
    return size / 1e6 / took, most


def high_water(pid):
    try:
        with open(f"/proc/{pid}/status") as f:
            return next((int(line.split()[1]) / 1024 for line in f if line.startswith("VmHWM:")), 0.0)
    except OSError:
        return 0.0


def memory_of_tail(lab, argv):
    """Largest resident set in MB of a reader whose work is done: held up by a socket too small for its answer, since
    a pipe is a thing that mcp-logs enlarges."""
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    child = lab.start(argv, stdout=theirs)
    theirs.close()
    most, last, limit = 0.0, -1.0, now() + 10
    while now() < limit and child.poll() is None and (not most or most != last):
        last, most = most, high_water(child.pid)
        time.sleep(0.2)
    with ours:
        while ours.recv(65536):
            pass
    child.wait()
    lab.children.remove(child)
    if not most:
        raise Skip("mcp-logs ended before its memory was looked at")
    return most


def rows(lab, only, gigabytes):
    size = int(gigabytes * 1e9)
    big, small = lab.name("log"), lab.name("log")
    path = make(lab, big, size)
    make(lab, small, 2_000_000)
    size = os.path.getsize(path)
    tool = lab.tool("mcp-logs")
    if "tail" in only:
        commands = {"ours": [tool, "-n", "100", big], "peer": ["tail", "-n", "100", path]}
        outputs = {k: one(lab, *c)[1] for k, c in commands.items()}
        notes = []
        if outputs["ours"] != outputs["peer"]:
            notes.append("the output differs from tail's")
        values = interleaved({k: lambda c=c: one(lab, *c)[0] for k, c in commands.items()}, max(lab.rounds, 9))
        yield {"row": "tail", "what": f"last 100 lines of {gigabytes:g} GB, against tail -n 100", "unit": "ms",
               "ours": median(values["ours"]), "peer": median(values["peer"]), "absolute": True, "budget": 20,
               "ratio": paired(values["ours"], values["peer"]), "notes": notes}
        yield {"row": "tail", "what": "its memory, against that for a log of 2 MB", "unit": "MB", "budget": 1.10,
               "ours": (ours := memory_of_tail(lab, [tool, "-n", "100", big])),
               "peer": (peer := memory_of_tail(lab, [tool, "-n", "100", small])), "ratio": ours / peer}
    if "whole" in only:
        commands = {"plain": [tool, big], "times": [tool, "--timestamps", big], "cat": ["cat", path]}
        most = dict.fromkeys(commands, 0.0)

        def run(kind):
            speed, memory = through_cat(lab, commands[kind], size)
            most[kind] = max(most[kind], memory)
            return speed
        values = interleaved({k: lambda k=k: run(k) for k in commands}, max(3, lab.rounds // 2))
        for kind, words in (("plain", ""), ("times", " --timestamps")):
            yield {"row": "whole", "what": f"{gigabytes:g} GB to a pipe{words}, log read, against cat", "unit": "MB/s",
                   "ours": median(values[kind]), "peer": median(values["cat"]), "absolute": True, "budget": 500,
                   "at_least": True, "ratio": paired(values[kind], values["cat"]),
                   "notes": [f"{most[kind]:.1f} MB of memory at most"]}
