"""A registry on loopback with the images that the rows pull, and the peers that pull them too."""

import json
import os
import shutil
import socket
import subprocess
import time

from lab import BIN, REPO, Skip, free_ports, now

CACHE = os.path.join(os.path.dirname(BIN), "bench-cache")
"""Packed layers, and crane: what takes long to make and is the same each time."""


class Depot:
    """docker-registry, filled by skopeo."""

    def __init__(self, lab):
        for tool in ("docker-registry", "skopeo"):
            if not shutil.which(tool):
                raise Skip(f"{tool} is missing, which Debian has")
        self.lab = lab
        self.dir = os.path.join(lab.dir, "registry")
        os.makedirs(self.dir)
        (self.port,) = free_ports(1)
        config = os.path.join(self.dir, "config.yml")
        with open(config, "w") as f:
            f.write(f"version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {self.dir}/storage}}}}\n"
                    f"http: {{addr: '127.0.0.1:{self.port}', secret: x}}\n")
        self.access = os.path.join(self.dir, "access")
        with open(self.access, "ab") as log:
            self.server = lab.start(["docker-registry", "serve", config], stdout=log)
        end = now() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                if now() > end or self.server.poll() is not None:
                    raise Skip("docker-registry does not listen") from None
                time.sleep(0.02)

    def reference(self, name):
        return f"127.0.0.1:{self.port}/{name}:1"

    def fill(self, name, config, *layers, options=(), copy=()):
        """An image of these layers (see scripts/lib/make-image) as `name`; what make-image says of it."""
        made = os.path.join(self.lab.dir, "oci-" + name)
        said = self.lab.call(os.path.join(REPO, "scripts/lib/make-image"), *options, "--cache", CACHE, "--config",
                             json.dumps(config), made, *layers)
        self.lab.call("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", *copy,
                      f"oci:{made}:latest", "docker://" + self.reference(name))
        shutil.rmtree(made)
        return json.loads(said)

    def over_base(self, name="over", megabytes=200, options=(), copy=()):
        """A static program of 5 MB over a base of 200 MB that it needs nothing of."""
        program = os.path.join(self.lab.dir, "hello5")
        if not os.path.exists(program):
            with open(self.lab.hello(), "rb") as f:
                elf = f.read()
            # Behind all that the ELF's headers speak of: a bigger program, that doesn't compress any better.
            with open(program, "wb") as f:
                f.write(elf + os.urandom(max(0, (5 << 20) - len(elf))))
        config = {"Entrypoint": ["/opt/hello"], "Cmd": ["--port", "8080"]}
        return self.fill(name, config, f"filler:{megabytes}", f"{program}=/opt/hello", options=options, copy=copy)

    def sent(self):
        """Bytes of all answers so far."""
        with open(self.access) as f:
            lines = [line.split('"')[2].split() for line in f if '"GET ' in line]
        return sum(int(size) for _, size in lines)


def crane():
    """The program; built where Go is there and it is not."""
    found = shutil.which("crane")
    if found:
        return found
    path = os.path.join(CACHE, "crane")
    go = shutil.which("go") or "/usr/local/go/bin/go"
    if not os.path.exists(path):
        if not os.path.exists(go):
            raise Skip("neither crane nor Go is here")
        os.makedirs(CACHE, exist_ok=True)
        done = subprocess.run([go, "install", "github.com/google/go-containerregistry/cmd/crane@latest"],
                              env=dict(os.environ, GOBIN=CACHE), capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise Skip(f"go install of crane: {done.stderr.strip()[-200:]}")
    return path


def podman(lab, folder, *args):
    """podman with a storage of its own in `folder`, in a mount namespace where crun has cgroups of one kind."""
    if not shutil.which("podman"):
        raise Skip("podman is missing")
    os.makedirs(folder, exist_ok=True)
    config, policy = os.path.join(lab.dir, "containers.conf"), os.path.join(lab.dir, "policy.json")
    with open(config, "w") as f:
        f.write('[containers]\ndefault_ulimits = ["nofile=1024:4096", "nproc=1024:4096"]\n'
                '[engine]\nevents_logger = "none"\n')
    with open(policy, "w") as f:
        f.write('{"default": [{"type": "insecureAcceptAnything"}]}')
    enter = "mount --make-rprivate / && { umount /sys/fs/cgroup/unified 2>/dev/null || :; } && exec \"$@\""
    return ["unshare", "-m", "sh", "-c", enter, "sh", "env", f"CONTAINERS_CONF={config}", "podman", "--root",
            os.path.join(folder, "storage"), "--runroot", os.path.join(folder, "run"), "--tmpdir",
            os.path.join(folder, "tmp"), "--storage-driver", "overlay", *args, "--signature-policy", policy]


class Node:
    """A root of its own, as a node on its first day."""

    def __init__(self, lab):
        self.lab = lab
        self.root = os.path.join(lab.dir, lab.name("n"))
        os.makedirs(os.path.join(self.root, "etc"))
        os.makedirs(os.path.join(self.root, "lib"))
        self.env = lab.env | {"MCP_ROOT": self.root}

    def with_ops(self):
        program, env, _ = self.lab.ops()
        with open(os.path.join(self.root, "etc/mcp.toml"), "w") as f:
            f.write(f'[ops]\nbinary = "{program}"\nhome = "{env["OPS_HOME"]}"\n')
        return self

    def with_kernel(self):
        kernel = os.environ.get("MCP_TEST_KERNEL") or os.path.join(os.path.dirname(BIN), "guest-kernel")
        if not os.path.isdir(os.path.join(kernel, "modules")):
            raise Skip("no guest kernel: set MCP_TEST_KERNEL, or scripts/get-guest-kernel target/guest-kernel")
        os.symlink(os.path.realpath(kernel), os.path.join(self.root, "lib/kernel"))
        return self

    def pull(self, reference, runtime="unikernel"):
        return [self.lab.tool("mcp-pull"), "--for", runtime, reference]

    def remove(self):
        shutil.rmtree(self.root, ignore_errors=True)


def timed(argv, env, what):
    """Milliseconds that a command takes; what it said."""
    begin = now()
    done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
                          start_new_session=True)
    took = 1000 * (now() - begin)
    if done.returncode:
        raise Skip(f"{what} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    return took, done.stdout
