/* What lies before the bytes of a shared library that stands for machine code. */
#ifndef CUDA_HOST_CODE_H
#define CUDA_HOST_CODE_H

#include <stdint.h>

#define CUDA_HOST_CODE_MARK UINT64_C(0x65646f632d615544)

struct cuda_host_code {
    uint64_t mark, bytes;
};

#endif
