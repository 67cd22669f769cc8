"""A node of a hundred containers that run and fifty VMs."""

import contextlib
import fcntl
import json
import os
import shutil
import struct
import subprocess
import time

from lab import Skip, interleaved, median, now

CONTAINERS, VMS = 100, 50
IMAGE = "localhost/sleep:1"


class Space:
    """A mount namespace in which podman can run, with a storage of its own; what it mounts goes with it."""

    def __init__(self, lab):
        for program in ("podman", "crun", "unshare", "nsenter"):
            if not shutil.which(program):
                raise Skip(f"{program} is missing")
        if os.geteuid() != 0 or not os.path.isfile("/bin/busybox"):
            raise Skip("it takes root, and /bin/busybox (busybox-static)")
        self.lab = lab
        self.dir = os.path.join(lab.dir, "podman")
        os.makedirs(self.dir)
        containers, storage = (os.path.join(self.dir, name) for name in ("containers.conf", "storage.conf"))
        with open(containers, "w") as f:
            f.write('[containers]\ndefault_ulimits = ["nofile=1024:4096", "nproc=1024:4096"]\n'
                    f'[engine]\nevents_logger = "none"\ntmp_dir = "{self.dir}/tmp"\n')
        with open(storage, "w") as f:
            f.write(f'[storage]\ndriver = "overlay"\ngraphroot = "{self.dir}/graph"\nrunroot = "{self.dir}/run"\n')
        with open(os.path.join(self.dir, "policy.json"), "w") as f:
            f.write('{"default": [{"type": "insecureAcceptAnything"}]}')
        self.env = lab.env | {"CONTAINERS_CONF": containers, "CONTAINERS_STORAGE_CONF": storage}
        # crun wants cgroups of one kind, and podman's locks are a file for all storages.
        mounts = ("mount --make-rprivate / && { umount /sys/fs/cgroup/unified 2>/dev/null || :; } && "
                  "mount -t tmpfs tmpfs /dev/shm && echo ready && exec sleep infinity")
        self.keeper = lab.start(["unshare", "-m", "sh", "-c", mounts], stdout=subprocess.PIPE)
        if self.keeper.stdout.readline() != b"ready\n":
            raise Skip("no mount namespace to be had")

    def __call__(self, *argv):
        return ["nsenter", "-m", "-t", str(self.keeper.pid), "--", *argv]

    def call(self, *argv):
        return self.lab.call(*self(*argv), env=self.env)

    def timed(self, *argv):
        begin = now()
        done = subprocess.run(self(*argv), env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=120)
        return 1000 * (now() - begin), done

    def load(self):
        """An image of busybox that sleeps."""
        root = os.path.join(self.dir, "rootfs")
        os.makedirs(os.path.join(root, "bin"))
        shutil.copy("/bin/busybox", os.path.join(root, "bin/sleep"))
        self.call("sh", "-c", f"tar -C '{root}' -c . | podman import -q -c 'CMD [\"/bin/sleep\", \"100000\"]' - {IMAGE}")

    def close(self):
        subprocess.run(self("podman", "rm", "--all", "--force", "--time", "0"), env=self.env, timeout=300,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Each conmon starts a podman that cleans up, and that would make the folder anew when it is gone.
        until = now() + 60
        while now() < until and self.users():
            time.sleep(0.1)
        self.lab.stop(self.keeper)

    def users(self):
        """Processes that have our storage among their arguments."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as f:
                if self.dir.encode() in f.read():
                    found.append(int(pid))
        return found


def hold(path):
    """The lock at `path`, signed as by a supervisor; held until the file is closed."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    file = open(path, "w+")
    # F_OFD_SETLK; F_WRLCK of the whole file.
    fcntl.fcntl(file, 37, struct.pack("hhqqixxxx", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    file.write(f"{os.getpid()} 1 mcp-run\n")
    file.flush()
    return file


def write(path, value):
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(path, "w") as f:
        json.dump(value, f)


def define(lab, space):
    """Definitions, and records of the containers; the digest that each runs."""
    for kind, count in (("vm", VMS), ("box", CONTAINERS)):
        for i in range(count):
            name = f"{kind}{i:03}"
            path = os.path.join(lab.root, "etc/services", name + ".toml")
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            what = (f'runtime = "unikernel"\ndisk = "/images/app.img"\nports = ["127.77.0.{i + 1}:8080:8080"]\n'
                    if kind == "vm" else f'image = "{IMAGE}"\nnetwork = "none"\n')
            with open(path, "w") as f:
                f.write(f'name = "{name}"\n[[components]]\nname = "web"\n{what}')
    record = os.path.join(lab.root, "lib/registry/{}/web.json")
    space.call(lab.tool("mcp-record"), "--new", "--now", "box000")
    for i in range(1, CONTAINERS):
        os.makedirs(os.path.dirname(record.format(f"box{i:03}")), mode=0o700)
        shutil.copy(record.format("box000"), record.format(f"box{i:03}"))
    # Drift is no failure.
    _, told = space.timed(lab.tool("mcp-status"), "--json")
    digests = {c["service"]: c["digests"] for c in json.loads(told.stdout)["components"]}
    return {name: d["recorded"] or d["declared"] for name, d in digests.items()}


def run(lab, space, digests):
    """Starts the containers, and lays down what supervisors of them and of VMs leave on disk; the held locks."""
    locks, going = [], []
    for i in range(CONTAINERS):
        name = f"box{i:03}"
        labels = {"service": name, "component": "web", "record": digests[name], "root": os.path.join(lab.root, "lib")}
        words = [word for key, value in labels.items() for word in ("--label", f"mcp.{key}={value}")]
        going.append((name, lab.start(space("podman", "run", "--detach", "--name", f"mcp.{name}.web", "--network", "none",
                                            *words, IMAGE), env=space.env, stdout=subprocess.PIPE)))
        if len(going) == 4 or i == CONTAINERS - 1:
            for name, child in going:
                identity = child.stdout.read().decode().strip()
                if lab.stop(child, patience=120) != 0:
                    raise Skip("podman run failed")
                locks.append(state(lab, name, "c", identity, digests[name]))
            going = []
    for i in range(VMS):
        name = f"vm{i:03}"
        locks.append(state(lab, name, "a", f"uuid of {name}", digests[name]))
        locks.append(hold(os.path.join(lab.root, "run", name, "web/a/lock")))
    return locks


def state(lab, name, slot, uuid, digest):
    """What a supervisor writes of an instance, and its lock."""
    at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    value = {"schema": 1, "uuid": uuid, "phase": "ready", "pid": 1, "supervisor": os.getpid(), "uid": 0, "started_at": at,
             "ready_at": at, "restarts": 0, "restarted_at": [], "spec": digest, "accel": "tcg", "ports": [],
             "image": "/images/app.img", "qemu": "7.2.0", "argv": ["x"] * 60, "events": [[at, "started"]], "end": None}
    if slot == "c":
        value["container"] = {"name": f"mcp.{name}.web", "image": "00", "control": "/nowhere",
                              "conmon": {"pid": os.getpid(), "start_time": 1}}
    folder = os.path.join(lab.root, "run", name, "web")
    write(os.path.join(folder, slot, "state.json"), value)
    os.symlink(slot, os.path.join(folder, "current"))
    return hold(os.path.join(folder, "lock"))


def rows(lab):
    status = lab.tool("mcp-status")
    space = Space(lab)
    locks = []
    try:
        space.load()
        locks = run(lab, space, define(lab, space))
        took, last = {"ours": [], "podman": []}, []

        def ours():
            ms, done = space.timed(status)
            last[:] = [done]
            return ms

        def podman():
            return space.timed("podman", "ps", "--all", "--format", "json")[0]
        took = interleaved({"ours": ours, "podman": podman}, max(lab.rounds, 15))
        lines = last[0].stdout.decode().splitlines()
        running = sum(1 for line in lines if "running" in line.split())
        clean = sum(1 for line in lines if line.endswith(" -"))
        if running != CONTAINERS + VMS:
            raise Skip(f"mcp-status shows {running} that run: {last[0].stderr.decode()[-200:]}")
        more = median([a - b for a, b in zip(took["ours"], took["podman"])])
        yield {"row": "containers", "what": f"mcp-status, {CONTAINERS} containers and {VMS} VMs, beyond one podman ps",
               "unit": "ms", "ours": more, "budget": 50, "absolute": True,
               "notes": [f"mcp-status {median(took['ours']):.0f} ms, podman ps {median(took['podman']):.0f} ms; "
                         f"{running} run, {clean} without drift"]}
    finally:
        for lock in locks:
            lock.close()
        space.close()
