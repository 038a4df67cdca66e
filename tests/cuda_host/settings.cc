/* TESSERA_CUDA_HOST: "devices=2,memory=8MiB,fail=cudaMemcpyAsync@3:719"; failures; complaints; chance. */
#include "host.h"

#include <stdarg.h>
#include <string.h>

namespace cuda_host {

struct rule { /* fail=FUNCTION@N:CODE */
    std::string function; /* "any" */
    char how;             /* @ the nth call, % every nth, < the calls before the nth */
    uint64_t n;
    int code; /* 0: what such a function fails with */
};

struct rules {
    std::vector<rule> all;
    std::map<const char *, uint64_t> calls; /* by the functions' own names, which do not move */
    uint64_t failures;
    uint64_t any_calls;
};

/* The race detector looks at what the C library's own comparison reads, whatever lock is held. */
static bool is_same(const char *a, const char *b)
{
    while (*a != 0 && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

static rules &get_rules()
{
    static rules *made = new rules();
    return *made;
}

void complain(const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    (void)vsnprintf(text, sizeof text, format, list);
    va_end(list);
    (void)fprintf(stderr, "cuda_host: %s\n", text);
    (void)fflush(stderr);
    abort();
}

static uint64_t number_of(const std::string &text, const char *setting)
{
    static const struct {
        const char *unit;
        uint64_t factor;
    } units[] = {{"", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
    char *end = nullptr;
    uint64_t number = strtoull(text.c_str(), &end, 10);
    for (const auto &unit : units) {
        if (end != text.c_str() && strcmp(end, unit.unit) == 0) {
            return number * unit.factor;
        }
    }
    complain("TESSERA_CUDA_HOST: %s=%s: give a number, with KiB, MiB or GiB after it if it is a size", setting, text.c_str());
}

static rule rule_of(const std::string &text)
{
    size_t at = text.find_first_of("@%<");
    size_t colon = text.find(':', at == std::string::npos ? 0 : at);
    if (at == std::string::npos || at == 0) {
        complain("TESSERA_CUDA_HOST: fail=%s: give FUNCTION@N, FUNCTION%%N or FUNCTION<N, and :CODE after it", text.c_str());
    }
    rule made = {};
    made.function = text.substr(0, at);
    made.how = text[at];
    made.n = number_of(text.substr(at + 1, colon == std::string::npos ? colon : colon - at - 1), "fail");
    made.code = colon == std::string::npos ? 0 : (int)number_of(text.substr(colon + 1), "fail");
    if (made.n == 0) {
        complain("TESSERA_CUDA_HOST: fail=%s: calls are counted from 1", text.c_str());
    }
    return made;
}

static enum order order_of(const std::string &text)
{
    if (text != "forward" && text != "reverse" && text != "random") {
        complain("TESSERA_CUDA_HOST: order=%s: give forward, reverse or random", text.c_str());
    }
    return text == "forward" ? FORWARD : text == "reverse" ? REVERSE : RANDOM;
}

static bool truth_of(const std::string &text, const char *setting)
{
    if (text != "on" && text != "off") {
        complain("TESSERA_CUDA_HOST: %s=%s: give on or off", setting, text.c_str());
    }
    return text == "on";
}

static void set(settings *to, const std::string &name, const std::string &value)
{
    if (name == "devices") {
        to->devices = (int)number_of(value, "devices");
    } else if (name == "processors") {
        to->processors = (int)number_of(value, "processors");
    } else if (name == "architecture") {
        to->architecture = (int)number_of(value, "architecture");
    } else if (name == "memory") {
        to->memory_bytes = number_of(value, "memory");
    } else if (name == "order") {
        to->order = order_of(value);
    } else if (name == "seed") {
        to->seed = number_of(value, "seed");
    } else if (name == "delay") {
        to->delay_us = number_of(value, "delay");
    } else if (name == "nvrtc") {
        to->nvrtc = truth_of(value, "nvrtc");
    } else if (name == "races") {
        to->races = truth_of(value, "races");
    } else if (name == "fail") {
        get_rules().all.push_back(rule_of(value));
    } else {
        complain("TESSERA_CUDA_HOST: there is no setting %s", name.c_str());
    }
}

static settings read_settings()
{
    settings made = {};
    made.devices = getenv("TESSERA_CUDA_HOST") != nullptr ? 1 : 0; /* nobody gets one unasked */
    made.processors = 2;
    made.architecture = 90;
    made.memory_bytes = (size_t)1 << 30;
    made.nvrtc = true;
    const char *given = getenv("TESSERA_CUDA_HOST");
    std::string text = given != nullptr ? given : "";
    for (size_t at = 0; at < text.size();) {
        size_t end = text.find(',', at);
        std::string one = text.substr(at, end == std::string::npos ? end : end - at);
        size_t equals = one.find('=');
        if (equals == std::string::npos) {
            complain("TESSERA_CUDA_HOST: %s: give NAME=VALUE", one.c_str());
        }
        set(&made, one.substr(0, equals), one.substr(equals + 1));
        at = end == std::string::npos ? text.size() : end + 1;
    }
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    made.devices = visible != nullptr && *visible == 0 ? 0 : made.devices;
    if (made.devices > DEVICES_MAX) {
        complain("TESSERA_CUDA_HOST: devices=%d: at most %d", made.devices, DEVICES_MAX);
    }
    return made;
}

const settings &get_settings()
{
    static const settings made = read_settings();
    return made;
}

static bool matches(const rule &rule, uint64_t call)
{
    return rule.how == '@' ? call == rule.n : rule.how == '%' ? call % rule.n == 0 : call < rule.n;
}

static int usual_code(const char *function)
{
    bool allocates = strstr(function, "Malloc") != nullptr || strstr(function, "Create") != nullptr;
    return strncmp(function, "cublas", 6) == 0  ? (allocates ? 3 : 13) /* ALLOC_FAILED, EXECUTION_FAILED */
           : strncmp(function, "nvrtc", 5) == 0 ? 1                    /* OUT_OF_MEMORY */
           : allocates                          ? cudaErrorMemoryAllocation
                                                : cudaErrorUnknown;
}

int forced_failure(const char *function)
{
    (void)get_settings();
    rules &rules = get_rules();
    uint64_t call = ++rules.calls[function];
    rules.any_calls++;
    for (const rule &rule : rules.all) {
        bool any = is_same(rule.function.c_str(), "any");
        if (any ? matches(rule, rules.any_calls) : is_same(rule.function.c_str(), function) && matches(rule, call)) {
            rules.failures++;
            return rule.code != 0 ? rule.code : usual_code(function);
        }
    }
    return 0;
}

bool has_failed()
{
    return get_rules().failures > 0;
}

/* For tests that go through many failures in one process: the failure of these rules ("any@37:2", or ""), counted from now,
 * and devices that are whole again. */
EXPORT void cuda_host_fail(const char *text)
{
    guard held;
    rules &rules = get_rules();
    (void)get_settings();
    rules.all.clear();
    rules.calls.clear();
    rules.any_calls = rules.failures = 0;
    for (int device = 0; device < DEVICES_MAX; device++) {
        break_device(device, cudaSuccess);
    }
    if (*text != 0) {
        rules.all.push_back(rule_of(text));
    }
}

/* How many calls of a function have been made since then; "failed": how many calls were made to fail. */
EXPORT uint64_t cuda_host_calls(const char *function)
{
    guard held;
    uint64_t calls = is_same(function, "failed") ? get_rules().failures : 0;
    for (const auto &row : get_rules().calls) {
        calls += is_same(row.first, function) ? row.second : 0;
    }
    return calls;
}

uint64_t generator::roll(uint64_t below)
{
    state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = state;
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (z ^ z >> 31) % below;
}

} // namespace cuda_host
