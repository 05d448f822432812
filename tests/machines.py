"""Several machines out of this one, for tests: namespaces of Linux joined by a bridge, with one file system.

A machine has an address of its own (10.77.0.1, 10.77.0.2, ...), a host name, processes and shared memory of its own; it
can lose its power and its cable. The bridge stands in a namespace, too, so nothing leads out, and nothing is left on
this host when it ends, however it ends. Clocks, kernel and disk are this host's: locks on the shared files are freed at
once, which a network file system does only after its lease.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: What a machine has to itself. ``kill-child``: it ends when the process that holds it does.
_APART = ("--net", "--uts", "--pid", "--mount", "--fork", "--kill-child=KILL", "--mount-proc")
_INSIDE = ("--net", "--uts", "--pid", "--mount")


class Machine:
    """One of them, as long as the network is there; ``name`` is its host name, ``address`` where it is reached."""

    def __init__(self, name: str, *own: str) -> None:
        # ``own``: directories that are empty here and on its own disk, which is memory.
        mounts = "; ".join(f"mount -t tmpfs none {folder}" for folder in own)
        boot = f"hostname {name}; ip link set lo up; {mounts}{'; ' * bool(own)}echo up; exec cat"
        command = ["unshare", *_APART, "sh", "-ec", boot]
        self.name, self.address = name, ""
        self._started: list[subprocess.Popen[str]] = []
        # It waits for input that never comes: when this process dies its pipe closes, and the machine goes out.
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        self._holder = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere)
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"up\n":
            self._holder.kill()
            self._holder.communicate()
            raise OSError("namespaces cannot be made here")
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
        self.init = int(children[0])
        self._space = Path(f"/proc/{self.init}/ns/pid").readlink()

    def start(self, command: Sequence[str], env: Mapping[str, str] | None = None, **how: Any) -> subprocess.Popen[str]:
        """A command here, with the environment of the caller and more."""
        inside = ["nsenter", f"--target={self.init}", *_INSIDE, f"--wdns={how.pop('cwd', Path.cwd())}", "--", *command]
        self._started.append(subprocess.Popen(inside, env={**os.environ, **(env or {})}, text=True, **how))
        return self._started[-1]

    def run(self, command: Sequence[str], **how: Any) -> str:
        """What a command here said; raises where it fails."""
        running = self.start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **how)
        told, _ = running.communicate(timeout=600)
        if running.returncode:
            raise OSError(f"{command} on {self.name}: {told}")
        return told

    def processes(self) -> dict[int, str]:
        """What runs here: process number (this host's) → command line. Zombies are left out."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if (folder / "ns/pid").readlink() == self._space and int(folder.name) != self.init:
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ").strip()
            except OSError:
                continue
        return {pid: line for pid, line in found.items() if line}

    def kill(self, name: str, within_s: float = 60.0) -> None:
        """SIGKILL for one process here that calls itself so, as soon as there is one."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            for pid, line in self.processes().items():
                if name in line:
                    os.kill(pid, signal.SIGKILL)
                    return
            time.sleep(0.01)
        raise TimeoutError(f"no {name} on {self.name} within {within_s:g} s")

    def runs(self) -> bool:
        """Whether it has power."""
        return self._holder.poll() is None

    def end(self) -> None:
        """All its processes end at once."""
        if not self.runs():
            return
        self._holder.kill()
        self._holder.communicate()
        for process in self._started:
            process.wait()
            if process.stdout is not None and not process.stdout.closed:
                process.stdout.close()


class Network:
    """Machines, and the switch between them."""

    def __init__(self) -> None:
        self._switch = Machine("switch")
        self.machines: list[Machine] = []
        try:
            self._switch.run(["sh", "-ec", "ip link add bridge type bridge; ip link set bridge up"])
        except OSError:
            self.close()
            raise

    def add(self, *own: str) -> Machine:
        """One more machine; ``own``: directories that the others do not see."""
        number = len(self.machines) + 1
        made = Machine(f"machine{number}", *own)
        self.machines.append(made)
        made.address = f"10.77.0.{number}"
        cable = f"ip link add port{number} type veth peer name eth0 netns {made.init}"
        # By numbers of this host, so from outside of the switch's process numbers.
        outside = ["nsenter", f"--target={self._switch.init}", "--net", "--", "sh", "-ec"]
        plug = f"{cable}; ip link set port{number} master bridge; ip link set port{number} up"
        subprocess.run([*outside, plug], check=True, capture_output=True)
        made.run(["sh", "-ec", f"ip addr add {made.address}/24 dev eth0; ip link set eth0 up"])
        return made

    def unplug(self, machine: Machine) -> None:
        """Pulls its cable: it runs on and reaches nobody."""
        self._switch.run(["ip", "link", "set", f"port{self.machines.index(machine) + 1}", "down"])

    def plug_in(self, machine: Machine) -> None:
        """Its cable again."""
        self._switch.run(["ip", "link", "set", f"port{self.machines.index(machine) + 1}", "up"])

    def power_off(self, machine: Machine) -> None:
        """It is gone without a word: a process that is only killed still has its connections closed by the kernel."""
        if machine.runs():
            self.unplug(machine)
            machine.end()

    def close(self) -> None:
        for machine in [*self.machines, self._switch]:
            machine.end()


@contextmanager
def network() -> Iterator[Network]:
    """A network without machines yet. Raises ``OSError`` where this host does not let us make one."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise OSError("machines out of namespaces need Linux and root")
    for tool in ("unshare", "nsenter", "ip"):
        if shutil.which(tool) is None:
            raise OSError(f"there is no {tool}")
    made = Network()
    try:
        yield made
    finally:
        made.close()
