"""What the rows share: a root of its own, processes that are surely ended, guest images, monitors, a client."""

import contextlib
import json
import os
import random
import select
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time

REPO = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BIN = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(REPO, "target")), "release")
FIRST_FD = 100
"""Number of the first descriptor that mcp-run-vm hands to QEMU."""

now = time.perf_counter


class Skip(Exception):
    """A row that can't be measured here, and why."""


def median(values):
    return statistics.median(values)


class Lab:
    """Everything that one run of the bench makes, and the way to be rid of it."""

    def __init__(self, rounds):
        self.rounds = rounds
        self.dir = tempfile.mkdtemp(prefix="mcp-bench-")
        self.root = os.path.join(self.dir, "r")
        # Ours and nobody else's: no definition of this node, no log level of this terminal.
        keep = ("PATH", "HOME", "LANG", "TMPDIR")
        self.env = {k: v for k, v in os.environ.items() if k in keep} | {"MCP_ROOT": self.root}
        self.children = []
        self.vms = set()
        self.serial = 0
        self.images = {}
        self._ops = None

    # Processes ---------------------------------------------------------------------------------------------------

    def tool(self, name):
        path = os.path.join(BIN, name)
        if not os.access(path, os.X_OK):
            raise Skip(f"{path} is missing: run scripts/build")
        return path

    @staticmethod
    def ended(child, patience):
        """Its exit code, at once when it ends: Popen.wait with a timeout looks every 50 ms."""
        handle = os.pidfd_open(child.pid)
        try:
            if not select.select([handle], [], [], patience)[0]:
                raise Skip(f"{child.args[0]} did not end in {patience} s")
        finally:
            os.close(handle)
        return child.wait()

    def start(self, argv, **options):
        """Starts a process that `close` ends if nobody else does. Standard streams are /dev/null unless given.

        Each has a session of its own, as mcp-run-vm gives its QEMU one: the kernel shares a busy machine out by
        session (sched_autogroup_enabled), and a peer that had to share ours would look worse than it is.
        """
        options.setdefault("start_new_session", True)
        for stream in ("stdin", "stdout", "stderr"):
            options.setdefault(stream, subprocess.DEVNULL)
        options.setdefault("env", self.env)
        child = subprocess.Popen(argv, **options)
        self.children.append(child)
        return child

    def stop(self, child, patience=10):
        """SIGTERM, and SIGKILL for what does not go; its exit code."""
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(patience)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if child in self.children:
            self.children.remove(child)
        return child.returncode

    def call(self, *argv, check=True, **options):
        """Runs a tool to its end, outside of anything that is timed; its stdout."""
        done = subprocess.run(argv, env=options.pop("env", self.env), capture_output=True, text=True, timeout=300,
                              stdin=subprocess.DEVNULL, **options)
        if check and done.returncode != 0:
            raise Skip(f"{os.path.basename(argv[0])} ended with {done.returncode}: "
                       f"{(done.stderr or done.stdout).strip()[-300:]}")
        return done.stdout

    def name(self, prefix="b"):
        """A component name that this run has not used yet."""
        self.serial += 1
        return f"{prefix}{self.serial}"

    def close(self):
        """Ends every process that was started and removes every file that was made."""
        with contextlib.suppress(Exception):
            names = [n for n in self.vms if os.path.isdir(os.path.join(self.root, "run", n))]
            for i in range(0, len(names), 16):
                subprocess.run([self.tool("mcp-stop"), *names[i:i + 16]], env=self.env, timeout=120,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for child in list(self.children):
            self.stop(child)
        self.kill_leftovers()
        shutil.rmtree(self.dir, ignore_errors=True)

    def kill_leftovers(self):
        """A QEMU whose supervisor could not stop it: known by the lock in our own root that it holds open."""
        root = self.dir + "/"
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if int(pid) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                links = (os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
                if any(link.startswith(root) for link in links):
                    os.kill(int(pid), signal.SIGKILL)

    # Guests ------------------------------------------------------------------------------------------------------

    def ops(self):
        """The program, the environment it works offline in, and the folder of the kernel."""
        if self._ops:
            return self._ops
        program = os.environ.get("MCP_TEST_OPS") or shutil.which("ops")
        if not program:
            raise Skip("no ops: set MCP_TEST_OPS and MCP_TEST_OPS_HOME, or put ops on PATH")
        source = os.path.join(os.environ.get("MCP_TEST_OPS_HOME") or os.path.expanduser("~"), ".ops")
        try:
            with open(os.path.join(source, "latest.txt")) as f:
                version = f.read().strip()
        except OSError as e:
            raise Skip(f"ops has no kernel yet: {e}; set MCP_TEST_OPS_HOME, or run ops once") from e
        home = os.path.join(self.dir, "ops")
        os.makedirs(os.path.join(home, ".ops"))
        shutil.copytree(os.path.join(source, version), os.path.join(home, ".ops", version))
        with open(os.path.join(home, ".ops", "latest.txt"), "w") as f:
            f.write(version)
        config = os.path.join(home, "default.json")
        with open(config, "w") as f:
            f.write("{}\n")
        # ops asks the network at each call; a closed port makes that fail at once.
        env = self.env | {"OPS_HOME": home, "OPS_DEFAULT_CONFIG": config, "HTTPS_PROXY": "http://127.0.0.1:9",
                          "HOME": home}
        self._ops = program, env, os.path.join(home, ".ops", version)
        return self._ops

    def kernel(self):
        return os.path.join(self.ops()[2], "kernel.img")

    def hello(self):
        """examples/hello, static."""
        path = os.path.join(self.dir, "hello")
        if not os.path.exists(path):
            if not shutil.which("rustc"):
                raise Skip("rustc is missing, which compiles examples/hello")
            self.call("rustc", "-O", "--edition", "2024", "-C", "target-feature=+crt-static", "--target",
                      "x86_64-unknown-linux-gnu", "-o", path, os.path.join(REPO, "examples/hello/main.rs"),
                      env=dict(os.environ))
        return path

    def image(self, *args):
        """A Nanos image of hello with these arguments."""
        if args in self.images:
            return self.images[args]
        program, env, _ = self.ops()
        name = f"hello{len(self.images)}"
        config = os.path.join(self.dir, name + ".json")
        with open(config, "w") as f:
            json.dump({"Args": list(args), "ManifestPassthrough": {"debug_exit": "t"}}, f)
        said = self.call(program, "build", self.hello(), "-c", config, "-i", name, env=env)
        path = os.path.join(env["OPS_HOME"], ".ops/images", name)
        if "Bootable image file:" not in said or not os.path.getsize(path):
            raise Skip(f"ops build: {said.strip()[-200:]}")
        self.images[args] = path
        return path

    def run_vm(self, name, image, port, *more, memory=256, ready="started"):
        """The command that runs `image` with guest port 8080 (or `GUEST`) at `port` of the loopback."""
        self.vms.add(name)
        host = port if ":" in str(port) else f"{port}:8080"
        return [self.tool("mcp-run-vm"), "--name", name, "--disk", image, "--kernel", self.kernel(), "--port",
                f"127.0.0.1:{host}", "--memory", str(memory), "--ready", ready, *more]

    # Files of a component ----------------------------------------------------------------------------------------

    def run_dir(self, name):
        service, _, component = name.partition("/")
        return os.path.join(self.root, "run", service, component or service)

    def log_dir(self, name):
        service, _, component = name.partition("/")
        return os.path.join(self.root, "log", service, component or service)

    def supervisor(self, name):
        """Pid of the process that holds the component's lock."""
        with open(os.path.join(self.run_dir(name), "lock")) as f:
            return int(f.read().split()[0])

    def qemu(self, name):
        """Pid of its QEMU."""
        with open(os.path.join(self.run_dir(name), "a", "lock")) as f:
            return int(f.read().split()[0])

    def monitor(self, name):
        return Monitor(os.path.join(self.run_dir(name), "a", "qmp.sock"))


class Monitor:
    """A QMP client for a VM of ours."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(5)
        self.socket.connect(path)
        self.lines = self.socket.makefile("rb")
        self.lines.readline()
        self.execute("qmp_capabilities")

    def execute(self, command, **arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = json.loads(self.lines.readline() or b'{"error": "closed"}')
            if "error" in answer:
                raise OSError(f"{command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    def human(self, line):
        return self.execute("human-monitor-command", **{"command-line": line})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lines.close()
        self.socket.close()


def free_ports(count):
    """Ports of the loopback that nobody has now."""
    held = [socket.socket() for _ in range(count)]
    for s in held:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


REQUEST = b"GET / HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n"


def first_answers(ports, deadline, pace=0.020, alive=lambda: True):
    """When each port first gave `HTTP/1.1 200`: {port: perf_counter()}. Missing: not before `deadline`.

    A connection of each port is opened every `pace`, whatever became of the ones before, of which the latest eight
    stay open: what is sent to a guest that isn't up yet is lost, and what is sent to one that is up but slow is not.
    A refused port is tried again after 2 ms. One thread, one epoll: the client costs all variants the same.
    """
    poller = select.epoll()
    found, tries, due, open_by_fd = {}, {p: [] for p in ports}, dict.fromkeys(ports, 0.0), {}

    def drop(s):
        del open_by_fd[s.fileno()]
        s.close()

    try:
        while len(found) < len(ports) and now() < deadline and alive():
            t = now()
            for port in ports:
                if port in found or due[port] > t:
                    continue
                due[port] = t + pace
                if len(tries[port]) >= 8:
                    drop(tries[port].pop(0))
                s = socket.socket()
                s.setblocking(False)
                if s.connect_ex(("127.0.0.1", port)) not in (0, 115):
                    s.close()
                    due[port] = t + 0.002
                    continue
                tries[port].append(s)
                open_by_fd[s.fileno()] = (s, port)
                poller.register(s, select.EPOLLOUT | select.EPOLLIN)
            wait = min((d for p, d in due.items() if p not in found), default=t) - now()
            for fd, event in poller.poll(max(wait, 0.0005)):
                s, port = open_by_fd.get(fd, (None, None))
                if s is None:
                    continue
                try:
                    if event & (select.EPOLLERR | select.EPOLLHUP) and not event & select.EPOLLIN:
                        raise OSError
                    if event & select.EPOLLIN:
                        said = s.recv(4096)
                        if not said.startswith(b"HTTP/1.1 200"):
                            raise OSError
                        found.setdefault(port, now())
                        for other in tries.pop(port):
                            drop(other)
                        tries[port] = []
                    elif event & select.EPOLLOUT:
                        s.send(REQUEST)
                        poller.modify(s, select.EPOLLIN)
                except OSError:
                    # Refused (nobody listens yet), or closed without an answer.
                    drop(s)
                    tries[port].remove(s)
                    due[port] = min(due[port], now() + 0.002)
    finally:
        for s, _ in open_by_fd.values():
            s.close()
        poller.close()
    return found


def interleaved(variants, rounds):
    """Calls every variant once a round, in random order: {name: [value, …]}. A round before them warms up."""
    values = {name: [] for name in variants}
    for number in range(-1, rounds):
        for name in random.sample(list(variants), len(variants)):
            value = variants[name]()
            if number >= 0:
                values[name].append(value)
    return values


def paired(ours, peer):
    """The median of the ratios of each round: what disturbs a round disturbs both."""
    return median([a / b for a, b in zip(ours, peer)])
