"""Two "hosts": network namespaces joined by a veth pair. Host 0 is where the test itself is from then on, host 1 another."""

import ctypes
import os
import pathlib
import secrets
import signal
import subprocess

from client import Gantry, eventually

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
ADDRESSES = ("10.77.0.1", "10.77.0.2")
LINKS = ("gantry0", "gantry1")
LIBC = ctypes.CDLL(None, use_errno=True)


def _end_with_the_test():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Network:
    """Needs root, of a user namespace at least."""

    def __init__(self):
        self._before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        assert LIBC.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        own = os.readlink("/proc/thread-self/ns/net")
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], preexec_fn=_end_with_the_test)
        eventually(lambda: os.readlink(f"/proc/{self._holder.pid}/ns/net") != own, what="the second namespace")
        self.run(0, "ip", "link", "set", "lo", "up")
        self.run(1, "ip", "link", "set", "lo", "up")
        self.run(0, "ip", "link", "add", LINKS[0], "type", "veth", "peer", "name", LINKS[1], "netns", str(self._holder.pid))
        for host in (0, 1):
            self.run(host, "ip", "addr", "add", f"{ADDRESSES[host]}/24", "dev", LINKS[host])
            self.run(host, "ip", "link", "set", LINKS[host], "up")

    def on(self, host):
        """What comes before a command that shall run there."""
        return [] if host == 0 else ["nsenter", "--target", str(self._holder.pid), "--net"]

    def run(self, host, *command):
        subprocess.run([*self.on(host), *command], check=True, stdin=subprocess.DEVNULL)

    def link(self, state):
        self.run(0, "ip", "link", "set", LINKS[0], state)

    def blackhole(self, on):
        """Both ends drop what they would send: nobody is told."""
        for host in (0, 1):
            self.run(host, "ip", "route", "add" if on else "del", "blackhole", f"{ADDRESSES[1 - host]}/32")

    def traffic(self):
        """Bytes that host 0 has received and sent on the link, headers included."""
        for line in pathlib.Path("/proc/thread-self/net/dev").read_text().splitlines():
            name, _, numbers = line.partition(":")
            if name.strip() == LINKS[0]:
                return int(numbers.split()[0]), int(numbers.split()[8])
        raise AssertionError("the link is gone")

    def close(self):
        self._holder.kill()
        self._holder.wait()
        assert LIBC.setns(self._before, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        os.close(self._before)


class Deployment:
    """`gantry serve r1-tiny FLAGS --placement env` on both hosts: the front on host 0, the agent on host 1."""

    def __init__(self, network, folder, *flags, wait=True, secret=None):
        self.network = network
        self.folder = folder
        self.flags = ("--placement", "env", *flags)
        self.environment = {"GANTRY_SECRET": secret or secrets.token_hex(16), "MASTER_ADDR": ADDRESSES[0], "WORLD_SIZE": "2"}
        self.log = folder / "front.log"
        self.agents = []
        self.front = None
        self.start_agent()
        self.start_front(wait)

    def start_front(self, wait=True):
        """In place of the one before, if there is one."""
        if self.front and self.front.process.poll() is None:
            self.front.process.kill()
            self.front.process.wait()
        with self.log.open("a") as log:
            self.front = Gantry(*self.flags, model="r1-tiny", wait=wait, environment={**self.environment, "RANK": "0"}, stderr=log)

    def start_agent(self, command=("serve", "r1-tiny"), **environment):
        log = (self.folder / f"agent{len(self.agents)}.log").open("w")
        agent = subprocess.Popen([*self.network.on(1), os.environ["GANTRY_BIN"], *command, *self.flags], stdin=subprocess.DEVNULL,
                                 stderr=log, env={**os.environ, **self.environment, "RANK": "1", **environment})
        log.close()
        self.agents.append(agent)
        return agent

    def agent_log(self, index=-1):
        return (self.folder / f"agent{index % len(self.agents)}.log").read_text()

    def stop(self):
        assert self.front.stop() == 0
        for agent in self.agents:
            agent.send_signal(signal.SIGCONT)
            agent.terminate()
            assert agent.wait(60) in (0, -signal.SIGKILL)
