/* One source, compiled for every vector width that the processor family has; hsmamba/ops/cpu.py picks at run time.

   There is no C library behind it: no allocation, no threads, no mathematics but its own. The caller brings scratch memory
   and runs the same function on several threads, which take runs of tasks from a shared counter. */
#include "adaptive.h"
#include "adaptive_rows.h"
#include "align.h"
#include "attention.h"
#include "bands.h"
#include "depthwise.h"
#include "depthwise_backward.h"
#include "depthwise_gradients.h"
#include "grouped.h"
#include "linear.h"
#include "linear_gradients.h"
#include "normed_product.h"
#include "norms.h"
#include "rows.h"
#include "s6.h"
#include "scan.h"

/* What the compiler may call although nobody wrote the call, and what the Windows loader calls. */
#include <stddef.h>
void *memset(void *to, int value, size_t count) {
    unsigned char *p = to;
    while (count--) *p++ = (unsigned char)value;
    return to;
}
void *memcpy(void *restrict to, const void *restrict from, size_t count) {
    unsigned char *p = to;
    const unsigned char *q = from;
    while (count--) *p++ = *q++;
    return to;
}
#if defined(_WIN32)
int _fltused = 0;
int DllMainCRTStartup(void *library, unsigned long reason, void *reserved) {
    (void)library, (void)reason, (void)reserved;
    return 1;
}
#endif

/* Numbers below 1.2e-38 become zero while a kernel runs: states decay through them, and a processor takes a hundred times
   as long for an operation on one. Returns what `restore_mode` takes. */
static inline uint64_t flush_denormals(void) {
#if defined(__x86_64__)
    uint32_t mode = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(mode | 0x8040);
#else
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode | 1 << 24) : "memory");
#endif
    return mode;
}
static inline void restore_mode(uint64_t mode) {
#if defined(__x86_64__)
    __builtin_ia32_ldmxcsr((uint32_t)mode);
#else
    __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory");
#endif
}

#define LEVEL baseline
#define VL 4
#define FORWARD_MANY 4 /* states that one loop over time keeps in registers */
#define PIXEL_VECTORS 1 /* for which an adaptive convolution keeps its outputs in registers */
#define LINEAR_ROWS 4 /* and these outputs of a linear layer: rows, vectors */
#define LINEAR_VECTORS 3
#define BACKWARD_MANY 2
#include "vectors.h"
#include "attention_kernel.h"
#include "attention_backward_kernel.h"
#include "adaptive_kernel.h"
#include "adaptive_backward_kernel.h"
#include "bands_kernel.h"
#include "depthwise_gradients_kernel.h"
#include "depthwise_kernel.h"
#include "depthwise_backward_kernel.h"
#include "norms_kernel.h"
#include "rows_kernel.h"
#include "linear_kernel.h"
#include "linear_gradients_kernel.h"
#include "normed_product_kernel.h"
#include "align_kernel.h"
#include "adaptive_rows_kernel.h"
#include "grouped_kernel.h"
#include "s6_kernel.h"
#include "s6_backward_kernel.h"
#include "scan_kernel.h"

#if defined(__x86_64__)

#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#define LEVEL avx2
#define VL 8
#define FORWARD_MANY 4
#define PIXEL_VECTORS 1
#define LINEAR_ROWS 6
#define LINEAR_VECTORS 2
#define BACKWARD_MANY 2
#include "vectors.h"
#include "attention_kernel.h"
#include "attention_backward_kernel.h"
#include "adaptive_kernel.h"
#include "adaptive_backward_kernel.h"
#include "bands_kernel.h"
#include "depthwise_gradients_kernel.h"
#include "depthwise_kernel.h"
#include "depthwise_backward_kernel.h"
#include "norms_kernel.h"
#include "rows_kernel.h"
#include "linear_kernel.h"
#include "linear_gradients_kernel.h"
#include "normed_product_kernel.h"
#include "align_kernel.h"
#include "adaptive_rows_kernel.h"
#include "grouped_kernel.h"
#include "s6_kernel.h"
#include "s6_backward_kernel.h"
#include "scan_kernel.h"
#pragma clang attribute pop

#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma"))), apply_to = function)
#define LEVEL avx512
#define VL 16
#define FORWARD_MANY 8
#define PIXEL_VECTORS 2
#define LINEAR_ROWS 8
#define LINEAR_VECTORS 3
#define BACKWARD_MANY 4
#define HAVE_SCALEF
#include "vectors.h"
#include "attention_kernel.h"
#include "attention_backward_kernel.h"
#include "adaptive_kernel.h"
#include "adaptive_backward_kernel.h"
#include "bands_kernel.h"
#include "depthwise_gradients_kernel.h"
#include "depthwise_kernel.h"
#include "depthwise_backward_kernel.h"
#include "norms_kernel.h"
#include "rows_kernel.h"
#include "linear_kernel.h"
#include "linear_gradients_kernel.h"
#include "normed_product_kernel.h"
#include "align_kernel.h"
#include "adaptive_rows_kernel.h"
#include "grouped_kernel.h"
#include "s6_kernel.h"
#include "s6_backward_kernel.h"
#include "scan_kernel.h"
#pragma clang attribute pop

#endif
