"""One gRPC probe as a process."""

import os
import shutil
import socket
import subprocess
import time

from lab import REPO, Skip, interleaved, median, now, paired
from logs import high_water

PROBE = "github.com/grpc-ecosystem/grpc-health-probe@v0.4.61"

SETTINGS = bytes(3) + b"\x04\x00" + bytes(4)
"""HTTP/2's first frame, empty."""


def build(lab, where, *argv):
    """What `go` makes of `argv`, run in the folder `where`."""
    if not shutil.which("go"):
        raise Skip("no Go, which builds grpc-health-probe and a gRPC server")
    keep = ("PATH", "HOME", "LANG", "TMPDIR")
    env = {k: v for k, v in os.environ.items() if k in keep or k.startswith(("GO", "HTTP", "SSL", "http", "no_", "NO_"))}
    env["GOBIN"] = lab.dir
    try:
        done = subprocess.run(["go", *argv], cwd=where, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=900)
    except subprocess.TimeoutExpired as e:
        raise Skip(f"go {argv[0]} took more than 15 minutes") from e
    if done.returncode:
        raise Skip(f"go {argv[0]}: {done.stderr.strip()[-300:]}")


def rows(lab):
    """Asked of grpc-go's own health server, in turn."""
    build(lab, REPO, "install", PROBE)
    build(lab, os.path.join(REPO, "tests/peers/grpc/go"), "build", "-o", os.path.join(lab.dir, "server"), ".")
    server = lab.start([os.path.join(lab.dir, "server")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    port = int(server.stdout.readline())
    # It tells each call.
    with open(os.devnull, "wb") as nowhere:
        drain = lab.start(["cat"], stdin=server.stdout, stdout=nowhere)
    server.stdout.close()

    def command(name, port):
        at = f"127.0.0.1:{port}"
        if name == "ours":
            return [lab.tool("mcp-health"), "-q", "--timeout", "20s", f"grpc://{at}/up"]
        return [os.path.join(lab.dir, "grpc-health-probe"), "-rpc-timeout", "20s", "-addr", at, "-service", "up"]

    def ask(name):
        argv = command(name, port)
        begin = now()
        child = subprocess.Popen(argv, env=lab.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        code = lab.ended(child, 60)
        took = 1000 * (now() - begin)
        if code:
            raise Skip(f"{argv[0]} ended with {code}")
        return took

    names = ("ours", "peer")
    times = interleaved({name: lambda name=name: ask(name) for name in names}, max(lab.rounds, 25))
    lab.stop(server)
    lab.stop(drain)
    yield {"row": "probe", "what": "one gRPC probe as a process, against grpc-health-probe", "unit": "ms",
           "ours": median(times["ours"]), "peer": median(times["peer"]), "budget": 0.35,
           "ratio": paired(times["ours"], times["peer"])}
    sizes = interleaved({name: lambda name=name: size(lab, lambda p: command(name, p)) for name in names}, 5)
    yield {"row": "probe", "what": "its memory (VmHWM), waiting for the answer", "unit": "MB",
           "ours": median(sizes["ours"]), "peer": median(sizes["peer"]), "budget": 0.3,
           "ratio": paired(sizes["ours"], sizes["peer"])}


def size(lab, command):
    """MB that a probe has taken by the time it waits for an answer that never comes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = lab.start(command(listener.getsockname()[1]))
        try:
            listener.settimeout(10)
            peer, _ = listener.accept()
            with peer:
                peer.sendall(SETTINGS)
                most, last, limit = 0.0, -1.0, now() + 10
                while now() < limit and (not most or most != last):
                    last, most = most, high_water(child.pid)
                    time.sleep(0.2)
        finally:
            lab.stop(child)
    return most
