"""`scons bundle`: one folder, and a tarball of it, that run on a host with nothing but its C library."""

import os
import platform
import re
import shutil
import subprocess
import tarfile

from SCons.Action import Action

GLIBC = re.compile(r"^(ld-linux.*|linux-vdso|lib(c|m|mvec|pthread|dl|rt|resolv|util|anl|nsl|nss_.*|thread_db"
                   r"|BrokenLocale|c_malloc_debug))\.so")


def needed_libraries(files):
    """name → path of every shared library that the files load, those of the C library and Tessera itself left out."""
    found = {}
    for file in files:
        text = subprocess.run(["ldd", file], stdout=subprocess.PIPE, universal_newlines=True, check=True).stdout
        for name, path in re.findall(r"^\s*(\S+) => (\S+)", text, re.MULTILINE):
            if path == "not":
                raise RuntimeError("%s needs %s, which is not found" % (file, name))
            if not GLIBC.match(name) and not name.startswith("libtessera"):
                found[name] = path
    return found


def library_path(name):
    """Where the loader finds a library for this machine's word size, or None."""
    cache = subprocess.run(["/sbin/ldconfig", "-p"], stdout=subprocess.PIPE, universal_newlines=True).stdout
    wanted = r"^\s*%s \(%s.*=> (\S+)$" % (re.escape(name), r".*x86-64" if platform.machine() == "x86_64" else "")
    match = re.search(wanted, cache, re.MULTILINE)
    return match.group(1) if match else None


def oldest_glibc(files):
    """The newest version of the C library's symbols that the files ask for."""
    newest = (0, 0)
    for file in files:
        text = subprocess.run(["objdump", "-T", file], stdout=subprocess.PIPE, universal_newlines=True).stdout
        for version in re.findall(r"GLIBC_(\d+)\.(\d+)", text):
            newest = max(newest, tuple(int(part) for part in version))
    return "%d.%d" % newest


def copy_licences(paths, folder):
    """The licences of the libraries taken from Debian packages; their terms ask that they go along."""
    if shutil.which("dpkg-query") is None:
        return
    for path in paths:
        for candidate in [os.path.realpath(path), path, re.sub(r"^/usr/lib/", "/lib/", os.path.realpath(path))]:
            owner = subprocess.run(["dpkg-query", "-S", candidate], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                   universal_newlines=True)
            package = owner.stdout.split(":")[0]
            text = "/usr/share/doc/%s/copyright" % package
            if owner.returncode == 0 and os.path.exists(text):
                shutil.copy(text, os.path.join(folder, package + ".txt"))
                break


# What tests/gpu and tests/bench/gpu need on a host with a GPU: scripts, and programs of the tests.
BUNDLED_SCRIPTS = ["tests/gpu", "tests/bench/gpu", "tests/bench/support.py"]
BUNDLED_TESTS = re.compile(r"/tests/(unit/test_residency|kernels/test_(device_kernels|devices|cuda_programs|tf32x3)|"
                           r"integration/test_embedded_[a-z]+|bench/(bench_gpu|bench_gemm|gpu_bare))$")


def copy_stripped(path, target):
    """Without what only a debugger reads, which is most of a file."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copy2(path, target, follow_symlinks=False)
    if not os.path.islink(target) and not target.endswith(".h") and shutil.which("strip"):
        subprocess.run(["strip", "--strip-debug", target], check=True)


def is_loaded(path):
    """Programs, and the library itself: what loads the libraries that have to go along. gpu_bare needs CUDA's alone."""
    top = path.split(os.sep)[0]
    return top in ("bin", "examples") or (top == "tests" and not path.endswith("gpu_bare")) \
        or re.search(r"^lib/libtessera\.so\.\d+\.\d", path) is not None


def copy_libraries(ours, folder, with_openblas):
    """Copies what the files load; returns name → path."""
    libraries = needed_libraries(ours)
    if with_openblas:
        path = library_path("libopenblas.so.0")
        if path is None:
            raise RuntimeError("libopenblas.so.0 is not installed (Debian: libopenblas0-pthread); openblas=no leaves it out")
        libraries["libopenblas.so.0"] = path
        libraries.update(needed_libraries([path]))
    for soname, path in sorted(libraries.items()):
        shutil.copy(os.path.realpath(path), os.path.join(folder, soname))
    return libraries


def write_about(path, version, glibc, libraries):
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            "Tessera %s for Linux on %s, with the libraries it needs.\n\nRuns from any folder on a host with the GNU C "
            "library %s or newer; nothing is to be installed.\nStart with bin/tessera --help. Programs compile with "
            "-Iinclude -Llib -ltessera.\n\nNot Tessera's, but in lib/ too, with their licences in licenses/:\n%s\n"
            % (version, platform.machine(), glibc, "\n".join("  " + soname for soname in sorted(libraries))))


def name_of(version):
    return "tessera-%s-%s" % (version, platform.machine())


def make_bundle(target, source, env):
    """Copies the products, the scripts and the libraries they need into one folder and packs it."""
    name, built = name_of(env["VERSION"]), env.Dir(env["BUILD"]).abspath
    root = os.path.join(os.path.dirname(target[0].abspath), name)
    shutil.rmtree(root, ignore_errors=True)
    for folder in ["lib/tessera", "licenses", "tests/bench"]:
        os.makedirs(os.path.join(root, folder))
    ours = []
    for node in source:
        path = os.path.relpath(node.abspath, built)
        if path.startswith(".."):
            shutil.copy(node.abspath, os.path.join(root, node.path))
        else:
            copy_stripped(node.abspath, os.path.join(root, path))
            ours += [node.abspath] if is_loaded(path) else []
    try:
        libraries = copy_libraries(ours, os.path.join(root, "lib"), env["openblas"] == "yes")
    except RuntimeError as error:
        print("scons: %s" % error)
        return 1
    copy_licences(libraries.values(), os.path.join(root, "licenses"))
    glibc = oldest_glibc(ours + list(libraries.values()))
    write_about(os.path.join(root, "BUNDLE.txt"), env["VERSION"], glibc, libraries)
    with tarfile.open(target[0].abspath, "w:gz", compresslevel=6) as archive:
        archive.add(root, arcname=name)
    print("bundle: %s (%d MB), needs glibc %s" % (os.path.relpath(target[0].abspath),
                                                  os.path.getsize(target[0].abspath) // 1000000, glibc))
    return 0


def bundle(env, build, version, products):
    """The tarball, beside the folder that it is made of."""
    tests = [node for node in products["tests"] if BUNDLED_TESTS.search(node.abspath)]
    own = env.Clone(BUILD=build, VERSION=version)
    texts = BUNDLED_SCRIPTS * bool(tests) + ["LICENSE", "README.md"]
    made = own.Command("%s/bundle/%s.tar.gz" % (os.path.dirname(build), name_of(version)),
                       products["bin"] + products["lib"] + products["examples"] + tests + texts,
                       Action(make_bundle, cmdstr=None))
    return env.AlwaysBuild(made)
