/* Arguments of the kernel of linear layers; `hsmamba/ops/linear.py` holds the same structure and numbers for ctypes. */
#ifndef HSMAMBA_LINEAR_H
#define HSMAMBA_LINEAR_H

#include <stdint.h>

#define PANEL 48 /* outputs whose weights lie together */
#define LINEAR_TASK 64 /* rows that a thread takes at once: a multiple of LINEAR_ROWS */

enum { LINEAR_SAME, LINEAR_SILU, LINEAR_SOFTPLUS, LINEAR_TANH, LINEAR_SIGMOID, LINEAR_RELU };

typedef struct {
    int64_t rows, inputs, outputs;
    int64_t x_row, add_row, out_row; /* strides in elements; columns are neighbours in memory */
    const float *x, *weights, *bias; /* weights (panels, inputs, PANEL) and bias (panels, PANEL), the last panel filled up */
    const float *add;                /* (rows, outputs), what is added at the end, or null */
    const int32_t *activations;      /* one of the above for every WIDEST outputs, or null */
    float *out;
    int64_t next_task;
} Linear;

#endif
