/* CUDA's runtime library as the worker calls it, on this machine's memory: one device, and no kernel.

Declared as in the CUDA Runtime API, so a call with arguments in another order or of another size does not get by. Copies
run when somebody waits for them, as on a device they may. */
#include <stdlib.h>
#include <string.h>

typedef int cudaError_t;
typedef void *cudaStream_t;
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101 };
enum { DEVICE_TO_DEVICE = 3, COPIES_MAX = 4096 };

static struct copy {
    char *dst;
    const char *src;
    size_t dpitch, spitch, width, height;
} copies[COPIES_MAX];
static int num_copies;
static size_t free_bytes = 16 << 20;
static __thread int current = -1;

const char *cudaGetErrorString(cudaError_t error) {
    return error == OUT_OF_MEMORY ? "out of memory" : error ? "invalid" : "no error";
}

cudaError_t cudaGetDeviceCount(int *count) { *count = 1; return SUCCESS; }

cudaError_t cudaSetDevice(int device) { current = device; return device ? INVALID_DEVICE : SUCCESS; }

cudaError_t cudaDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : attribute == 16 ? 132 : -1;
    return device || *value < 0 ? INVALID_VALUE : SUCCESS;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
    *available = free_bytes; *total = 16 << 20;
    return current ? INVALID_DEVICE : SUCCESS;
}

cudaError_t cudaMalloc(void **address, size_t size) {
    if (current) return INVALID_DEVICE;
    if (size > free_bytes) return OUT_OF_MEMORY;
    size_t *block = malloc(size + 64);
    *block = size;
    free_bytes -= size;
    *address = memset((char *)block + 64, 0xff, size); /* fp16 NaN: whoever reads what nobody wrote will show it */
    return SUCCESS;
}

cudaError_t cudaFree(void *address) {
    size_t *block = (size_t *)((char *)address - 64);
    free_bytes += *block;
    free(block);
    return current ? INVALID_DEVICE : SUCCESS;
}

cudaError_t cudaMemset(void *address, int value, size_t count) {
    memset(address, value, count);
    return current ? INVALID_DEVICE : SUCCESS;
}

cudaError_t cudaMemcpy2DAsync(void *dst, size_t dpitch, const void *src, size_t spitch, size_t width, size_t height,
                              int kind, cudaStream_t stream) {
    if (current || kind != DEVICE_TO_DEVICE || stream || width > dpitch || width > spitch || num_copies == COPIES_MAX)
        return INVALID_VALUE;
    copies[num_copies++] = (struct copy){dst, src, dpitch, spitch, width, height};
    return SUCCESS;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    for (int at = 0; at < num_copies; at++)
        for (size_t line = 0; line < copies[at].height; line++)
            memcpy(copies[at].dst + line * copies[at].dpitch, copies[at].src + line * copies[at].spitch, copies[at].width);
    num_copies = 0;
    return stream || current ? INVALID_VALUE : SUCCESS;
}
