"""lib/tessera/cuda.so for processors (cuda=host): the plugin's sources by g++, on the runtime of tests/cuda_host."""

import os
import re

from SCons.Action import Action
from SCons.Builder import Builder
from SCons.Node.Python import Value
from SCons.Tool import CScanner

import cuda

PLAIN = ["-O2", "-g"]  # of the runtime, which has no sanitizers in it: its locks must not seem to order what streams do
OUTSIDE = {"blas", "nvrtc", "driver"}  # files that are not part of the runtime's library


def write_paths(target, source, env):
    """What compiles programs at run time, as it was at build time."""
    with open(str(target[0]), "w", encoding="utf-8") as file:
        for name, text in sorted(source[0].read().items()):
            file.write('#define CUDA_HOST_%s "%s"\n' % (name, text))


def link(env, target, sources, flags):
    command = ["g++", "-shared", "-pthread", "-o", "$TARGET"] + flags
    return env.Command(target, sources, Action([command], **cuda.shown(env, "  link $TARGET")))


class Compiler:
    """Makes objects with g++, of .cu files too."""

    def __init__(self, env, build):
        include = env.Dir("#tests/cuda_host/include").abspath
        self.include = include
        self.env = env.Clone(CPPPATH=["#", include, build + "/obj"])
        self.flags = ["-std=c++17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-fPIC", "-pthread",
                      "-fvisibility=hidden", "-ffp-contract=off", "-fno-strict-aliasing", "-I" + include,
                      "-I" + env.Dir("#").abspath, "-I" + env.Dir(build + "/obj").abspath]

    def compile(self, source, target, flags):
        action = Action([["g++"] + self.flags + flags + ["-x", "c++", "-c", "-o", "$TARGET", "$SOURCE"]],
                        **cuda.shown(self.env, "  c++  $SOURCE"))
        self.env["BUILDERS"]["HostObject"] = Builder(action=action, source_scanner=CScanner, single_source=True)
        return self.env.HostObject(target, source)


def plugin(env, build, mode_flags, mode_link_flags):
    """The nodes; called from the SConscript of tests/cuda_host. None without cuda=host."""
    if env["cuda"] != "host" or env["mode"] == "fuzz":
        return []
    compiler = Compiler(env, build)
    libraries = build + "/lib/cuda_host"
    checked = mode_flags + (["-fno-sanitize=vptr"] if env["mode"] == "asan" else [])
    own = {os.path.splitext(source.name)[0]: source for source in env.Glob("*.cc")}
    runtime = [compiler.compile(own[name], name + ".host.o", PLAIN) for name in sorted(set(own) - OUTSIDE)]
    library = link(env, libraries + "/libcuda_host.so", runtime, ["-Wl,-soname,libcuda_host.so", "$SOURCES", "-ldl"])
    at_run_time = {"INCLUDE": compiler.include, "LIBRARY": env.Dir(libraries).abspath + "/libcuda_host.so",
                   "FLAGS": " ".join(flag for flag in checked if not re.match("-[Og]", flag))}
    nvrtc = compiler.compile(own["nvrtc"], "nvrtc.host.o", PLAIN)
    env.Depends(nvrtc, env.Command("paths.inc", Value(at_run_time), Action(write_paths, cmdstr=None)))
    found = link(env, libraries + "/libnvrtc.so.13", [nvrtc, library],
                 ["-Wl,-soname,libnvrtc.so.13", "-Wl,-rpath,$$ORIGIN", "$SOURCES"])
    found += link(env, libraries + "/libcuda.so.1", compiler.compile(own["driver"], "driver.host.o", PLAIN),
                  ["-Wl,-soname,libcuda.so.1", "$SOURCES"])
    parts = [compiler.compile(source, "plugin/" + source.name + ".o", checked) for source in env.Glob("#worker/device/cuda/*.cu")]
    parts.append(compiler.compile(own["blas"], "plugin/blas.o", checked))
    env.Depends(parts, build + "/obj/worker/device/cuda/sources.inc")
    made = link(env, build + "/lib/tessera/cuda.so", parts + [library] + cuda.archives(build),
                mode_link_flags + ["-Wl,--exclude-libs=ALL", "-Wl,-rpath,$$ORIGIN/../cuda_host", "-Wl,--start-group",
                                   "$SOURCES", "-Wl,--end-group", "-ldl", "-lm"])
    env.Depends(made, found)
    return library + found + made
