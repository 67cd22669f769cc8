"""mcp-pull beside skopeo, crane and podman, and the memory that it takes."""

import json
import os
import shutil
import subprocess

from depot import Depot, Node, crane, podman, timed
from lab import Skip, interleaved, median, now, paired

WINDOW = "-3 --long=27"
"""zstd with the largest window that is taken: 128 MB."""


def rows(lab, only):
    depot = Depot(lab)
    image = depot.over_base()
    if "upull" in only:
        yield from unikernel(lab, depot)
    if "full" in only:
        yield from full(lab, depot, image)
    if "again" in only:
        yield from again(lab, depot)
    if "memory" in only:
        yield from memory(lab, depot)


def fresh(lab, name):
    return os.path.join(lab.dir, lab.name(name))


def unikernel(lab, depot):
    """Only the top layer is needed."""
    reference = depot.reference("over")
    bytes_of = {}

    def ours():
        node, before = Node(lab), depot.sent()
        took, _ = timed(node.pull(reference), node.env, "mcp-pull")
        bytes_of["ours"] = depot.sent() - before
        node.remove()
        return took

    def peer():
        to, before = fresh(lab, "s"), depot.sent()
        took, _ = timed(["skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", "docker://" + reference,
                         "oci:" + to], lab.env, "skopeo copy")
        bytes_of["peer"] = depot.sent() - before
        shutil.rmtree(to)
        return took
    values = interleaved({"ours": settled(ours), "peer": settled(peer)}, min(lab.rounds, 7))
    yield {"row": "upull", "what": "unikernel pull, 5 MB over 200 MB, bytes, against skopeo copy", "unit": "MB",
           "ours": bytes_of["ours"] / 1e6, "peer": bytes_of["peer"] / 1e6, "budget": 0.1,
           "ratio": bytes_of["ours"] / bytes_of["peer"]}
    yield {"row": "upull", "what": "unikernel pull, 5 MB over 200 MB, time, against skopeo copy", "unit": "ms",
           "ours": median(values["ours"]), "peer": median(values["peer"]),
           "ratio": paired(values["ours"], values["peer"]), "budget": 0.1}


def settled(call):
    """What others wrote is on the disk before the clock starts."""
    def wrapped():
        os.sync()
        return call()
    return wrapped


def full(lab, depot, image):
    """All of the image, and a root disk of it; against what gets it onto a disk without any of our checks."""
    reference = depot.reference("over")
    pull, build = lab.tool("mcp-pull"), lab.tool("mcp-build")
    split = []

    def ours():
        node = Node(lab).with_kernel()
        a, line = timed([pull, "--for", "microvm", reference], node.env, "mcp-pull")
        b, _ = timed([build, "--for", "microvm", line.split()[2]], node.env, "mcp-build")
        split.append((a, b))
        node.remove()
        return a + b

    def crane_tar():
        to = fresh(lab, "c")
        root = os.path.join(to, "root")
        os.makedirs(root)
        blobs = " ".join(layer["digest"][7:] for layer in image["layers"])
        script = f'"$1" pull --format oci {reference} oci && for b in {blobs}; do tar -xzf oci/blobs/sha256/$b -C root; done'
        took, _ = timed(["sh", "-ec", f"cd {to} && {script}", "sh", crane()], lab.env, "crane pull, tar -x")
        shutil.rmtree(to)
        return took

    def podman_pull():
        to = fresh(lab, "p")
        took, _ = timed(podman(lab, to, "pull", "-q", "--tls-verify=false", "docker://" + reference), lab.env,
                        "podman pull")
        shutil.rmtree(to, ignore_errors=True)
        return took
    variants, missing = {"ours": settled(ours)}, []
    for name, variant, need in (("crane", crane_tar, crane), ("podman", podman_pull, lambda: podman(lab, lab.dir))):
        try:
            need()
            variants[name] = settled(variant)
        except Skip as why:
            missing.append(str(why))
    values = interleaved(variants, min(lab.rounds, 7))
    budgets = {"crane": ("crane pull and tar -x", 1.2), "podman": ("podman pull", 0.7)}
    for name, (peer, budget) in budgets.items():
        if name in values:
            yield {"row": "full", "what": f"full pull and microvm build, against {peer}", "unit": "ms",
                   "ours": median(values["ours"]), "peer": median(values[name]), "budget": budget,
                   "ratio": paired(values["ours"], values[name]),
                   "notes": [f"of ours, pull {median([a for a, _ in split]):.0f} ms, "
                             f"build {median([b for _, b in split]):.0f} ms"]}
    if missing:
        raise Skip("; ".join(missing))


def again(lab, depot):
    """Nothing new: a round trip to the registry, and what we add to it."""
    reference = depot.reference("over")
    node = Node(lab)
    timed(node.pull(reference), node.env, "mcp-pull")
    head = ["curl", "-sS", "-o", "/dev/null", "-w", "%{time_total}", "--head", "-H",
            "Accept: application/vnd.oci.image.manifest.v1+json",
            f"http://127.0.0.1:{depot.port}/v2/over/manifests/1"]

    def trip():
        # As curl sees it, its own start not counted.
        return 1000 * float(timed(head, lab.env, "curl")[1])
    values = interleaved({"ours": lambda: timed(node.pull(reference), node.env, "mcp-pull")[0], "trip": trip},
                         max(lab.rounds, 15))
    beyond = [a - b for a, b in zip(values["ours"], values["trip"])]
    yield {"row": "again", "what": "pull with nothing new, beyond one round trip", "unit": "ms",
           "ours": median(beyond), "budget": 20, "absolute": True,
           "notes": [f"{median(values['ours']):.1f} ms in all; a round trip (HEAD by curl) {median(values['trip']):.1f} ms"]}
    node.remove()


def memory(lab, depot):
    """Gzip, zstd as skopeo makes it, zstd with the largest window, and 100,000 files."""
    depot.over_base("zstd", copy=["--dest-compress-format", "zstd"])
    config = {"Entrypoint": ["/opt/hello"]}
    depot.fill("many", config, f"{lab.hello()}=/opt/hello", "many:100000")
    cases = [("over", "gzip, 200 MB", 32), ("zstd", "zstd, 200 MB", 32 + 8), ("many", "gzip, 100,000 files", 32)]
    if shutil.which("zstd"):
        depot.over_base("window", options=["--zstd=" + WINDOW])
        cases.append(("window", "zstd with a window of 128 MB, 200 MB", 32 + 128))
    for name, what, budget in cases:
        peaks = {}
        for runtime in ("microvm", "unikernel"):
            node = Node(lab)
            peaks[runtime] = peak(node.pull(depot.reference(name), runtime), node.env)
            node.remove()
        yield {"row": "memory", "what": f"memory of a pull, all processes, {what}", "unit": "MB",
               "ours": max(p for p, _ in peaks.values()), "budget": budget, "absolute": True,
               "notes": [f"{runtime}: {pss:.1f} MB at most at a time (PSS); each process's own peak (VmHWM), added up: "
                         f"{high:.1f} MB" for runtime, (pss, high) in peaks.items()]}


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            mine = [int(word) for word in f.read().split()]
    except OSError:
        return []
    # A thread that isn't the first may have children too.
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            if task != str(pid):
                with open(f"/proc/{pid}/task/{task}/children") as f:
                    mine += [int(word) for word in f.read().split()]
    except OSError:
        pass
    return mine


def number(path, key):
    try:
        with open(path) as f:
            for line in f:
                if line.startswith(key):
                    return int(line.split()[1])
    except (OSError, ProcessLookupError):
        pass
    return 0


def peak(argv, env):
    """Megabytes: the most that the process and all below it had at one time, and the sum of their own peaks."""
    with subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True, start_new_session=True) as child:
        most, highs, end = 0, {}, now() + 300
        while child.poll() is None:
            if now() > end:
                child.kill()
                raise Skip("mcp-pull did not end in 300 s")
            wave, tree = [child.pid], []
            while wave:
                tree += wave
                wave = [c for pid in wave for c in children(pid)]
            most = max(most, sum(number(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in tree))
            for pid in tree:
                highs[pid] = max(highs.get(pid, 0), number(f"/proc/{pid}/status", "VmHWM:"))
        said = child.stderr.read()
    if child.returncode:
        raise Skip(f"mcp-pull ended with {child.returncode}: {said.strip()[-300:]}")
    return most * 1024 / 1e6, sum(highs.values()) * 1024 / 1e6


def build_rows(lab, only):
    depot = Depot(lab)
    depot.fill("hello", {"Entrypoint": ["/hello"], "Cmd": ["--port", "8080"]}, f"{lab.hello()}=/hello")
    node = Node(lab).with_ops()
    _, line = timed(node.pull(depot.reference("hello")), node.env, "mcp-pull")
    path = line.split()[2]
    build = [lab.tool("mcp-build"), path]
    if "rebuild" in only:
        timed(build, node.env, "mcp-build")
        took = [timed(build, node.env, "mcp-build")[0] for _ in range(max(lab.rounds, 15))]
        yield {"row": "rebuild", "what": "mcp-build with nothing to do", "unit": "ms", "ours": median(took),
               "budget": 20, "absolute": True}
    if "build" in only:
        yield from static(lab, node, build)


def static(lab, node, build):
    """A static ELF: what checking, keys and privileges cost beside ops itself."""
    program, env, _ = lab.ops()
    config = os.path.join(lab.dir, "ops.json")
    serial = iter(range(10**6))

    def ours():
        # Other arguments: another key, so that there is something to do.
        return timed([*build, "--env", f"ROUND={next(serial)}"], node.env, "mcp-build")[0]

    def peer():
        with open(config, "w") as f:
            json.dump({"Args": ["--port", "8080"], "Env": {"ROUND": str(next(serial))},
                       "ManifestPassthrough": {"debug_exit": "t"}}, f)
        took, said = timed([program, "build", lab.hello(), "-c", config, "-i", "bench"], env, "ops build")
        if "Bootable image file:" not in said:
            raise Skip(f"ops build: {said.strip()[-200:]}")
        return took
    values = interleaved({"ours": ours, "peer": peer}, max(lab.rounds, 15))
    yield {"row": "build", "what": "mcp-build of a static ELF, against bare ops build", "unit": "ms",
           "ours": median(values["ours"]), "peer": median(values["peer"]),
           "ratio": paired(values["ours"], values["peer"]), "budget": 1.5}
