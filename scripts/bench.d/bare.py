"""QEMU without us: with the arguments that mcp-run-vm gives it, or with the plain ones."""

import os
import shutil
import socket
import tempfile

from lab import FIRST_FD, Skip

QEMU = "qemu-system-x86_64"


def empty_overlay(size):
    """An empty qcow2 over a disk of `size` bytes, as mcp-run-vm makes it (docs/interop/qcow2.txt, version 3)."""
    cluster = 65536
    entries = max(1, -(-size // (cluster * cluster // 8)))
    tables = -(-entries * 8 // cluster)
    head = b"QFI\xfb" + b"".join(n.to_bytes(length, "big") for n, length in (
        (3, 4), (0, 8), (0, 4), (16, 4), (size, 8), (0, 4), (entries, 4), (3 * cluster, 8), (cluster, 8), (1, 4),
        (0, 4), (0, 8), (0, 24), (4, 4), (104, 4)))
    image = head.ljust(cluster, b"\0") + (2 * cluster).to_bytes(8, "big")
    image = image.ljust(2 * cluster, b"\0") + (1).to_bytes(2, "big") * (3 + tables)
    return image, (3 + tables) * cluster


class Bare:
    """One start of QEMU with the arguments of `mcp-run-vm --dry-run` and its own copies of the descriptors.

    Left out is only what makes no sense without a supervisor: -S, and the forward stands on the command line. All
    descriptors are opened before the clock starts.
    """

    def __init__(self, lab, command, port):
        self.lab, self.files, self.argv = lab, [], []
        self.dir = tempfile.mkdtemp(prefix="bare", dir=lab.dir)
        program, *lines = lab.call(*command, "--dry-run").splitlines()
        self.argv.append(program)
        for line in lines:
            argument, _, label = line.partition("  # ")
            if argument == "-S":
                continue
            if argument.startswith("user,id=n0"):
                argument += f",hostfwd=tcp:127.0.0.1:{port}-:8080"
            if label and ("fd=" in argument or argument.startswith("/proc/self/fd/")):
                self.files.append(self.open(argument, label))
            self.argv.append(argument)

    def open(self, argument, label):
        overlay = "throw-away overlay of "
        if argument.startswith("socket,"):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(os.path.join(self.dir, f"s{len(self.files)}"))
            listener.listen(1)
            return listener.detach()
        if "opaque=console" in argument:
            return os.open(os.path.join(self.dir, "console.log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        if label.startswith(overlay):
            image, length = empty_overlay(os.path.getsize(label[len(overlay):]))
            path = os.path.join(self.dir, "overlay")
            with open(path, "wb") as f:
                f.write(image)
                f.truncate(length)
            return os.open(path, os.O_RDWR)
        return os.open(label, os.O_RDONLY)

    def start(self):
        numbers = range(FIRST_FD, FIRST_FD + len(self.files))
        for fd, number in zip(self.files, numbers):
            os.dup2(fd, number, inheritable=True)
        try:
            return self.lab.start(self.argv, pass_fds=tuple(numbers), cwd=self.dir)
        finally:
            for number in numbers:
                os.close(number)

    def close(self):
        for fd in self.files:
            os.close(fd)
        shutil.rmtree(self.dir, ignore_errors=True)


def plain(image, port, console, memory=256):
    """The command line that boots any Nanos image: pc, SeaBIOS, the image's own boot loader."""
    return [QEMU, "-machine", "pc,accel=tcg", "-cpu", "max", "-m", str(memory), "-nodefaults", "-no-user-config",
            "-display", "none", "-no-reboot",
            "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
            "-drive", f"file={image},format=raw,if=none,id=hd0,snapshot=on", "-device", "virtio-blk-pci,drive=hd0",
            "-netdev", f"user,id=n0,hostfwd=tcp:127.0.0.1:{port}-:8080",
            "-device", "virtio-net-pci,netdev=n0,romfile=", "-device", "virtio-rng-pci", "-device", "isa-debug-exit",
            "-chardev", f"file,id=serial0,path={console},append=on", "-serial", "chardev:serial0"]


def need_qemu():
    if not shutil.which(QEMU):
        raise Skip(f"no {QEMU}: apt install qemu-system-x86")
