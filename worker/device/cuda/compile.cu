/* Programs compiled for themselves: their text, NVRTC, and the cache of each device.
 *
 * NVRTC is looked for at run time. Where it is not found, or refuses a program, the interpreter does the work. */
#include "worker/device/cuda/internal.h"

#include <dlfcn.h>
#include <nvrtc.h>

#include <cstdlib>
#include <cstring>
#include <sstream>

/* What a program includes, as text: made at build time from the files of these names. */
#include "worker/device/cuda/sources.inc"

#define GROUP 4          /* elements that a thread of a flat program takes at once, each array by one wide access */
#define GROUPED_CODE 12  /* instructions of a program that is worth it: longer ones do not wait for memory, */
#define GROUPED_COST 4.0 /* nor do costlier ones */

struct nvrtc {
    bool found;
    decltype(&nvrtcCreateProgram) create;
    decltype(&nvrtcDestroyProgram) destroy;
    decltype(&nvrtcCompileProgram) compile;
    decltype(&nvrtcGetCUBINSize) cubin_size;
    decltype(&nvrtcGetCUBIN) cubin;
    decltype(&nvrtcGetProgramLogSize) log_size;
    decltype(&nvrtcGetProgramLog) log;
};

template <typename F>
static bool symbol(void *handle, const char *name, F *function)
{
    *function = reinterpret_cast<F>(dlsym(handle, name));
    return *function != nullptr;
}

static nvrtc load_nvrtc()
{
    nvrtc library = {};
    void *handle = nullptr;
    for (const char *name : {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so", "/usr/local/cuda/lib64/libnvrtc.so"}) {
        handle = handle != nullptr ? handle : dlopen(name, RTLD_NOW | RTLD_LOCAL);
    }
    library.found = handle != nullptr && symbol(handle, "nvrtcCreateProgram", &library.create) &&
                    symbol(handle, "nvrtcDestroyProgram", &library.destroy) &&
                    symbol(handle, "nvrtcCompileProgram", &library.compile) &&
                    symbol(handle, "nvrtcGetCUBINSize", &library.cubin_size) &&
                    symbol(handle, "nvrtcGetCUBIN", &library.cubin) &&
                    symbol(handle, "nvrtcGetProgramLogSize", &library.log_size) &&
                    symbol(handle, "nvrtcGetProgramLog", &library.log);
    return library;
}

static const nvrtc &get_nvrtc()
{
    static const nvrtc library = load_nvrtc(); /* once, by whoever comes first */
    return library;
}

static const char *type_name(enum tessi_dtype dtype)
{
    static const char *const names[TESSI_DTYPE_COUNT] = {
        "tessi_bool", "signed char", "short", "int", "long long", "unsigned char", "unsigned short", "unsigned int",
        "unsigned long long", "tessi_f16", "tessi_bf16", "float", "double", "tessi_complex32", "tessi_complex64"};
    return names[dtype];
}

/* "tessi_as<float, int>(r3)". */
static std::string operand(const tessi_cuda_source *source, uint32_t number, enum tessi_dtype as)
{
    uint32_t results = source->ninputs + source->nconstants;
    enum tessi_dtype own =
        number < results ? source->dtype[number] : tessi_instruction_result(&source->code[number - results]);
    return std::string("tessi_as<") + type_name(as) + ", " + type_name(own) + ">(r" + std::to_string(number) + ")";
}

/* Four elements at a time pay where memory is the bound. Wide accesses need blocks that begin at 16 bytes, which they do. */
static bool is_grouped(const tessi_cuda_source *source)
{
    bool grouped = source->flat && source->count <= GROUPED_CODE;
    for (uint32_t k = 0; k < source->count; k++) {
        grouped = grouped && tessi_ewise_row(source->code[k].op)->cost <= GROUPED_COST;
    }
    return grouped;
}

/* The instructions, on r0 … of one element. */
static void write_code(std::ostringstream &text, const tessi_cuda_source *source, const char *indent)
{
    uint32_t results = source->ninputs + source->nconstants;
    for (uint32_t k = 0; k < source->count; k++) {
        const struct tessi_instruction *code = &source->code[k];
        text << indent << "const " << type_name(tessi_instruction_result(code)) << " r" << results + k << " = tessi_scalar_"
             << tessi_ewise_name(code->op) << "(";
        for (uint32_t o = 0; o < tessi_ewise_arity(code->op); o++) {
            text << (o > 0 ? ", " : "")
                 << operand(source, tessi_instruction_operand(code, o), tessi_ewise_operand(code->op, o, code->dtype));
        }
        text << ");\n";
    }
}

/* Whole groups first; what is left over goes through the loop for single elements, which follows. */
static void write_groups(std::ostringstream &text, const tessi_cuda_source *source)
{
    const char *out_type = type_name(tessi_instruction_result(&source->code[source->count - 1]));
    text << "    const long long groups = a.count / " << GROUP << ";\n"
            "    for (long long g = e; g < groups; g += step) {\n";
    for (uint32_t i = 0; i < source->ninputs; i++) {
        text << "        const tessi_group<" << type_name(source->dtype[i]) << "> g" << i << " = tessi_group_load((const "
             << type_name(source->dtype[i]) << " *)a.in[" << i << "], g, a.stride[" << i << "][0]);\n";
    }
    text << "        tessi_group<" << out_type << "> to;\n"
            "#pragma unroll\n        for (int i = 0; i < " << GROUP << "; i++) {\n";
    for (uint32_t i = 0; i < source->ninputs; i++) {
        text << "            const " << type_name(source->dtype[i]) << " r" << i << " = g" << i << ".x[i];\n";
    }
    write_code(text, source, "            ");
    text << "            to.x[i] = r" << source->ninputs + source->nconstants + source->count - 1 << ";\n        }\n"
            "        ((tessi_group<" << out_type << "> *)a.out)[g] = to;\n    }\n    e += groups * " << GROUP << ";\n";
}

std::string tessi_cuda_program_text(const tessi_cuda_source *source)
{
    std::ostringstream text;
    uint32_t results = source->ninputs + source->nconstants;
    const char *out_type = type_name(tessi_instruction_result(&source->code[source->count - 1]));
    text << "#include \"element.h\"\n"
            "extern \"C\" __global__ void __launch_bounds__(256) program(const tessi_program_arguments a)\n{\n";
    for (uint32_t i = 0; i < source->nconstants; i++) {
        uint32_t number = source->ninputs + i;
        text << "    " << type_name(source->dtype[number]) << " r" << number << ";\n    memcpy(&r" << number
             << ", a.constants[" << i << "], sizeof r" << number << ");\n";
    }
    text << "    const long long step = (long long)gridDim.x * blockDim.x;\n"
            "    long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x;\n";
    if (is_grouped(source)) {
        write_groups(text, source);
    }
    text << "    for (; e < a.count; e += step) {\n";
    if (!source->flat && source->ninputs > 0) {
        text << "        long long at[" << source->ninputs << "];\n        tessi_program_offsets(a, e, at);\n";
    }
    for (uint32_t i = 0; i < source->ninputs; i++) {
        text << "        const " << type_name(source->dtype[i]) << " r" << i << " = ((const " << type_name(source->dtype[i])
             << " *)a.in[" << i << "])[";
        if (source->flat) {
            text << "e * a.stride[" << i << "][0]];\n";
        } else {
            text << "at[" << i << "]];\n";
        }
    }
    write_code(text, source, "        ");
    text << "        ((" << out_type << " *)a.out)[e] = r" << results + source->count - 1 << ";\n    }\n}\n";
    return text.str();
}

/* The machine code for an architecture; empty, with NVRTC's words in `log`, when it refuses. */
static std::vector<char> compile(const std::string &text, int architecture, std::string *log)
{
    const nvrtc &library = get_nvrtc();
    std::vector<char> code;
    nvrtcProgram program = nullptr;
    if (!library.found) {
        *log = "NVRTC was not found";
        return code;
    }
    int sources = (int)(sizeof source_names / sizeof source_names[0]);
    nvrtcResult result = library.create(&program, text.c_str(), "program.cu", sources, source_texts, source_names);
    if (result != NVRTC_SUCCESS) {
        *log = "NVRTC cannot begin";
        return code;
    }
    std::string target = "--gpu-architecture=sm_" + std::to_string(architecture);
    const char *options[] = {target.c_str(), "--std=c++17", "--fmad=false", "--prec-div=true", "--prec-sqrt=true",
                             "--ftz=false"};
    result = library.compile(program, (int)(sizeof options / sizeof options[0]), options);
    size_t size = 0;
    if (result == NVRTC_SUCCESS && library.cubin_size(program, &size) == NVRTC_SUCCESS && size > 0) {
        code.resize(size);
        if (library.cubin(program, code.data()) != NVRTC_SUCCESS) {
            code.clear();
        }
    }
    if (code.empty() && library.log_size(program, &size) == NVRTC_SUCCESS && size > 0) {
        log->resize(size);
        (void)library.log(program, &(*log)[0]);
    }
    (void)library.destroy(&program);
    return code;
}

static std::string key_of(const tessi_cuda_source *source)
{
    std::string key(source->flat ? "f" : "g");
    auto add = [&key](uint32_t number) { key.append(reinterpret_cast<const char *>(&number), sizeof number); };
    add(source->ninputs);
    add(source->nconstants);
    for (uint32_t i = 0; i < source->ninputs + source->nconstants; i++) {
        add((uint32_t)source->dtype[i]);
    }
    for (uint32_t k = 0; k < source->count; k++) {
        add((uint32_t)source->code[k].op);
        add((uint32_t)source->code[k].dtype);
        for (uint32_t o = 0; o < tessi_ewise_arity(source->code[k].op); o++) {
            add(tessi_instruction_operand(&source->code[k], o));
        }
    }
    return key;
}

cudaKernel_t tessi_cuda_program(struct tessi_device *device, const tessi_cuda_source *source)
{
    std::lock_guard<std::mutex> guard(device->program_lock);
    std::string key = key_of(source);
    auto found = device->programs.find(key);
    if (found != device->programs.end()) {
        return found->second;
    }
    std::string log;
    cudaKernel_t kernel = nullptr;
    int architecture = device->properties.major * 10 + device->properties.minor;
    std::vector<char> code = compile(tessi_cuda_program_text(source), architecture, &log);
    if (!code.empty()) {
        cudaLibrary_t library = nullptr;
        bool loaded = cudaLibraryLoadData(&library, code.data(), nullptr, nullptr, 0, nullptr, nullptr, 0) == cudaSuccess;
        if (loaded) {
            device->libraries.push_back(library);
        }
        if (!loaded || cudaLibraryGetKernel(&kernel, library, "program") != cudaSuccess) {
            (void)cudaGetLastError();
            kernel = nullptr;
        }
    }
    device->programs[key] = kernel;
    return kernel;
}

static void source_of(const struct tessi_layer *layer, bool flat, tessi_cuda_source *source)
{
    const struct tessi_program *program = &layer->as.program;
    *source = {};
    source->ninputs = layer->ninputs;
    source->nconstants = program->nconstants;
    source->count = program->count;
    source->code = program->code;
    source->flat = flat;
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        source->dtype[i] = layer->input[i].dtype;
    }
    for (uint32_t i = 0; i < program->nconstants; i++) {
        source->dtype[layer->ninputs + i] = program->constants[i].dtype;
    }
}

const char *tessi_cuda_try_compile(const struct tessi_layer *layer, int architecture)
{
    static thread_local std::string log;
    log.clear();
    for (bool flat : {true, false}) {
        tessi_cuda_source source;
        source_of(layer, flat, &source);
        std::string text = tessi_cuda_program_text(&source);
        if (log.empty() && compile(text, architecture, &log).empty()) {
            log = (log.empty() ? std::string("no machine code") : log) + "\n" + text;
        }
    }
    return log.c_str();
}
