"""`scons install`: the products under a prefix, with a pkg-config file."""

import os

from SCons.Action import Action


def write_pkg_config(target, source, env):
    # The libraries by their names: what their own files would add for static programs cannot be had everywhere (Debian
    # 12 has no libprotokit, which its libzmq.pc leads to), and a shared library brings its own needs.
    prefix, version, libraries = (node.value for node in source)
    text = ("prefix=%s\nexec_prefix=${prefix}\nlibdir=${prefix}/lib\nincludedir=${prefix}/include\n\n"
            "Name: tessera\nDescription: Task graphs of chunked arrays on many machines\nVersion: %s\n"
            "Libs: -L${libdir} -ltessera\nLibs.private: %s -pthread\n"
            "Cflags: -I${includedir}\n" % (prefix, version, libraries))
    with open(str(target[0]), "w", encoding="utf-8") as file:
        file.write(text)


def install(env, build, version, products, shared, libraries):
    """What goes where. `shared`: the shared library, then the names that lead to it; `libraries`: what it needs."""
    prefix = env["prefix"]
    needed = " ".join("-l" + name for name in libraries)
    package_file = env.Command(build + "/lib/pkgconfig/tessera.pc",
                               [env.Value(prefix), env.Value(version), env.Value(needed)],
                               Action(write_pkg_config, cmdstr=None))

    def made_in(folder):
        return [node for node in products["lib"] if os.path.dirname(node.abspath) == env.Dir(build + "/" + folder).abspath]

    installed = env.Install(prefix + "/lib/pkgconfig", package_file) + env.Install(prefix + "/bin", products["bin"])
    for folder in ["include", "lib/tessera"]:
        installed += env.Install(prefix + "/" + folder, made_in(folder))
    installed += env.Install(prefix + "/lib", [node for node in made_in("lib") if node not in shared[1:]])
    for link in shared[1:]:
        installed += env.Command("%s/lib/%s" % (prefix, link.name), link,
                                 Action("ln -sf %s $TARGET" % shared[0].name, cmdstr='Install file: "$TARGET"'))
    return installed
