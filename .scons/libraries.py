"""The libraries that the build needs, as pkg-config knows them."""

import shutil
import subprocess

# The names that pkg-config may know it by, and the Debian package that brings it.
LIBRARY = [
    (["libzmq"], "libzmq3-dev"),
    (["msgpack", "msgpack-c"], "libmsgpack-dev"),
    (["libcjson"], "libcjson-dev"),
    (["libxxhash"], "libxxhash-dev"),
]
TESTS = [(["cmocka"], "libcmocka-dev")]


class Missing(Exception):
    """Its text says what is missing, who wants it and where it is to be had."""


def known_name(env, names):
    return next((name for name in names
                 if subprocess.run(["pkg-config", "--exists", name], env=env["ENV"]).returncode == 0), None)


def are_there(env, libraries):
    return all(known_name(env, names) for names, _ in libraries)


def flags(env, libraries, wanted_by):
    """The parsed compiler and linker flags of the libraries."""
    if shutil.which("pkg-config") is None:
        raise Missing("pkg-config is missing. On Debian: apt-get install pkg-config")
    found = [known_name(env, names) for names, _ in libraries]
    missing = [(names[0], package) for (names, package), name in zip(libraries, found) if name is None]
    if missing:
        raise Missing("%s not found, needed by %s. On Debian: apt-get install %s" % (
            ", ".join(name for name, _ in missing), wanted_by, " ".join(package for _, package in missing)))
    text = subprocess.run(["pkg-config", "--cflags", "--libs"] + found, env=env["ENV"], check=True,
                          stdout=subprocess.PIPE, universal_newlines=True).stdout
    return env.ParseFlags(text)
