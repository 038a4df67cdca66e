/* A libnvrtc that compiles with the host's g++. The "machine code" is a shared library, which program.cc loads. */
#pragma GCC visibility push(default)
#include <nvrtc.h>
#pragma GCC visibility pop

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <string>

#include "tests/cuda_host/code.h"
#include "tests/cuda_host/paths.inc" /* CUDA_HOST_INCLUDE, CUDA_HOST_LIBRARY, CUDA_HOST_FLAGS: the build's */

struct cuda_host_nvrtc {
    std::string folder, code, log;
};

extern "C" int cuda_host_enter_nvrtc(const char *function);

static bool write_file(const std::string &path, const std::string &text)
{
    FILE *file = fopen(path.c_str(), "w");
    bool written = file != nullptr && fwrite(text.data(), 1, text.size(), file) == text.size();
    return (file != nullptr && fclose(file) == 0) && written;
}

static std::string read_file(const std::string &path)
{
    std::string text;
    FILE *file = fopen(path.c_str(), "r");
    for (int byte; file != nullptr && (byte = fgetc(file)) != EOF;) {
        text.push_back((char)byte);
    }
    (void)(file != nullptr && fclose(file));
    return text;
}

static bool run(const std::string &command)
{
    return system(command.c_str()) == 0;
}

/* Headers of the C library are the host's own. */
static bool is_c_header(const char *name)
{
    return strchr(name, '/') == nullptr && strcmp(name, "element.h") != 0;
}

static std::string temporary_folder()
{
    const char *base = getenv("TMPDIR");
    std::string folder = std::string(base != nullptr && *base != 0 ? base : "/tmp") + "/cuda_host.XXXXXX";
    return mkdtemp(&folder[0]) != nullptr ? folder : "";
}

extern "C" {

nvrtcResult nvrtcCreateProgram(nvrtcProgram *program, const char *text, const char *, int headers,
                               const char *const *header_texts, const char *const *header_names)
{
    int failure = cuda_host_enter_nvrtc(__func__);
    if (failure != 0) {
        return (nvrtcResult)failure;
    }
    std::string folder = temporary_folder();
    bool made = !folder.empty();
    for (int i = 0; i < headers && made; i++) {
        std::string path = folder + "/" + header_names[i];
        made = is_c_header(header_names[i]) ||
               (run("mkdir -p $(dirname '" + path + "')") && write_file(path, header_texts[i]));
    }
    std::string whole = std::string("#include \"cuda_language.h\"\n") + text +
                        "\nextern \"C\" void cuda_host_kernel_program(cuda_host_kernel *kernel)\n"
                        "{\n    *kernel = cuda_host_kernel_of(program);\n}\n";
    if (!made || !write_file(folder + "/program.cc", whole)) {
        (void)(folder.empty() || run("rm -r '" + folder + "'"));
        return NVRTC_ERROR_OUT_OF_MEMORY;
    }
    *program = new cuda_host_nvrtc{folder, "", ""};
    return NVRTC_SUCCESS;
}

nvrtcResult nvrtcDestroyProgram(nvrtcProgram *program)
{
    (void)run("rm -r '" + (*program)->folder + "'");
    delete *program;
    *program = nullptr;
    return NVRTC_SUCCESS;
}

nvrtcResult nvrtcCompileProgram(nvrtcProgram program, int, const char *const *)
{
    int failure = cuda_host_enter_nvrtc(__func__);
    if (failure != 0) {
        return (nvrtcResult)failure;
    }
    bool compiled = run("cd '" + program->folder + "' && g++ -x c++ -std=c++17 -w -fPIC -shared -ffp-contract=off "
                        "-fno-strict-aliasing " CUDA_HOST_FLAGS " -I. -I'" CUDA_HOST_INCLUDE "' -o code.so program.cc "
                        "-x none '" CUDA_HOST_LIBRARY "' >log 2>&1");
    if (!compiled) {
        program->log = "g++ refuses the program:\n" + read_file(program->folder + "/log");
        return NVRTC_ERROR_COMPILATION;
    }
    std::string library = read_file(program->folder + "/code.so");
    cuda_host_code head = {CUDA_HOST_CODE_MARK, library.size()};
    program->code = std::string((const char *)&head, sizeof head) + library;
    return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetCUBINSize(nvrtcProgram program, size_t *size)
{
    *size = program->code.size();
    return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetCUBIN(nvrtcProgram program, char *code)
{
    memcpy(code, program->code.data(), program->code.size());
    return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram program, size_t *size)
{
    *size = program->log.size() + 1;
    return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetProgramLog(nvrtcProgram program, char *log)
{
    memcpy(log, program->log.c_str(), program->log.size() + 1);
    return NVRTC_SUCCESS;
}
}
