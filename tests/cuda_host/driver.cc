/* A libcuda.so.1, whose presence says that there is a driver (worker/device/plugin.c). */
extern "C" __attribute__((visibility("default"))) int cuInit(unsigned int)
{
    return 0;
}
