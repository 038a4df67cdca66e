"""The CUDA plugin, and other programs of .cu files, by nvcc."""

import os
import shutil

from SCons.Action import Action
from SCons.Builder import Builder
from SCons.Tool import CScanner

# What a program that is compiled at run time includes: our headers, and what they include of the C library.
TEXTS = [("element.h", "worker/device/cuda/element.h"), ("worker/kernel/elementary.h", "worker/kernel/elementary.h"),
         ("worker/kernel/half.h", "worker/kernel/half.h"), ("worker/kernel/scalar.h", "worker/kernel/scalar.h"),
         ("worker/kernel/bodies.h", "worker/kernel/bodies.h"),
         ("core/graph/elementwise_table.h", "core/graph/elementwise_table.h")]
STUBS = [("math.h", ""), ("string.h", ""),
         ("stdint.h", "typedef unsigned short uint16_t;\ntypedef int int32_t;\ntypedef unsigned int uint32_t;\n"
          "typedef long long int64_t;\ntypedef unsigned long long uint64_t;\n#define UINT64_C(x) x##ull\n")]


def find_nvcc():
    return shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


def compiler(env):
    """nvcc, or None where CUDA is not wanted or not there."""
    return find_nvcc() if env["cuda"] == "auto" and env["mode"] in ("release", "debug") else None


def codes(env):
    archs = env["cuda_archs"].split(",")
    real = ["-gencode=arch=compute_%s,code=sm_%s" % (arch, arch) for arch in archs]
    return real + ["-gencode=arch=compute_%s,code=compute_%s" % (archs[-1], archs[-1])]


def shown(env, text):
    return {} if env["verbose"] else {"cmdstr": text}


def write_texts(target, source, env):
    """The texts as C++ literals."""
    texts = [(name, node.get_text_contents()) for (name, _), node in zip(TEXTS, source)] + STUBS
    with open(str(target[0]), "w", encoding="utf-8") as file:
        file.write("static const char *const source_names[] = {%s};\n" % ", ".join('"%s"' % name for name, _ in texts))
        file.write("static const char *const source_texts[] = {\n")
        for _, text in texts:
            pieces = [text[i:i + 8000] for i in range(0, max(len(text), 1), 8000)]
            file.write("\n".join('R"tessera(%s)tessera"' % piece for piece in pieces) + ",\n")
        file.write("};\n")


def text_file(env):
    """The texts as a file that compile.cu includes, in the SConscript's folder."""
    return env.Command("sources.inc", ["#" + path for _, path in TEXTS], Action(write_texts, cmdstr=None))


def archives(build):
    """What the plugin takes from the library."""
    return ["%s/obj/%s/libarchive.a" % (build, folder) for folder in ["core/base", "core/array", "core/graph", "worker/kernel"]]


def program(env, build, target, source):
    """A program of one .cu file, with cuBLAS: what the benches of GPUs are compared with. No nodes without nvcc."""
    nvcc = compiler(env)
    if nvcc is None:
        return []
    command = [nvcc] + codes(env) + ["-std=c++17", "-O2", "-Werror=all-warnings", "-Xcompiler=-Wall,-Wextra,-Werror",
                                     "-cudart=static", "-Xlinker=-rpath=/usr/local/cuda/lib64", "-o", "$TARGET", "$SOURCE",
                                     "-lcublas"]
    return env.Command(build + "/" + target, source, Action([command], **shown(env, "  nvcc $SOURCE")))


def plugin(env, build):
    """lib/tessera/cuda.so from the .cu files of the SConscript's folder. No nodes without nvcc."""
    sources = env.Glob("*.cu")
    nvcc = compiler(env)
    texts = text_file(env)
    if env["cuda"] == "auto" and find_nvcc() is None:
        print("scons: no nvcc on PATH or in /usr/local/cuda: the CUDA plugin is left out")
    if not sources or nvcc is None:
        return []
    flags = codes(env) + ["-std=c++17", "-O2" if env["mode"] == "release" else "-O0", "-g", "-lineinfo", "--fmad=false",
                          "-Werror=all-warnings", "-I" + env.Dir("#").abspath, "-I" + env.Dir(build + "/obj").abspath,
                          "-Xcompiler=-Wall,-Wextra,-Werror,-fPIC,-fvisibility=hidden,-ffp-contract=off"]
    compile_one = Action([[nvcc] + flags + ["-c", "-o", "$TARGET", "$SOURCE"]], **shown(env, "  nvcc $SOURCE"))
    cuda = env.Clone()
    cuda.Append(BUILDERS={"CudaObject": Builder(action=compile_one, suffix=".cu.o", src_suffix=".cu", single_source=True,
                                                source_scanner=CScanner)})
    parts = [cuda.CudaObject(source) for source in sources]
    env.Depends(parts, texts)
    link = [nvcc, "-shared", "-cudart=static", "-Xlinker=--as-needed,--exclude-libs=ALL,-z,defs",
            "-Xlinker=-rpath=/usr/local/cuda/lib64", "-o", "$TARGET", "$SOURCES", "-lcublas", "-ldl", "-lm", "-lpthread"]
    return cuda.Command(build + "/lib/tessera/cuda.so", parts + archives(build), Action([link], **shown(env, "  link $TARGET")))
