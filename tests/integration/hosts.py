"""Hosts on one machine: network namespaces joined by veth pairs to a bridge, each with an address of its own."""
import os
import subprocess
import unittest


def ip(*words, check=True):
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True)


class Hosts:
    """`with Hosts(3) as hosts:` gives hosts.names and hosts.addresses; everything is removed at the end."""

    def __init__(self, count):
        tag = f"ts{os.getpid() % 100000}"
        self.switch = f"{tag}-sw"
        self.names = [f"{tag}-h{i}" for i in range(count)]
        self.addresses = [f"10.77.0.{i + 1}" for i in range(count)]

    def __enter__(self):
        if os.geteuid() != 0 or ip("netns", "add", self.switch, check=False).returncode != 0:
            raise unittest.SkipTest("network namespaces need root (and a kernel that has them)")
        try:
            ip("-n", self.switch, "link", "add", "bridge", "type", "bridge")
            ip("-n", self.switch, "link", "set", "bridge", "up")
            for i, name in enumerate(self.names):
                ip("netns", "add", name)
                ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", f"port{i}", "netns", self.switch)
                ip("-n", self.switch, "link", "set", f"port{i}", "master", "bridge", "up")
                ip("-n", name, "addr", "add", f"{self.addresses[i]}/24", "dev", "eth0")
                ip("-n", name, "link", "set", "eth0", "up")
                ip("-n", name, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            self.__exit__()
            raise unittest.SkipTest(f"network namespaces cannot be joined here: {error.stderr.strip()}") from error
        return self

    def __exit__(self, *_):
        for name in [*self.names, self.switch]:
            ip("netns", "del", name, check=False)
