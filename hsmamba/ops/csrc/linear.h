/* Arguments of the kernel of linear layers; `hsmamba/ops/products.py` holds the same structure and numbers for ctypes. */
#ifndef HSMAMBA_LINEAR_H
#define HSMAMBA_LINEAR_H

#include <stdint.h>

#define PANEL 48 /* outputs whose weights lie together */
#define LINEAR_SHORT 64 /* inputs of a row that are there as soon as they are asked for */
#define LINEAR_TASK 64 /* rows that a thread takes at once: a multiple of LINEAR_ROWS */

enum { LINEAR_SAME, LINEAR_SILU, LINEAR_SOFTPLUS, LINEAR_TANH, LINEAR_SIGMOID, LINEAR_RELU };

typedef struct {
    int64_t rows, inputs, outputs;
    int64_t x_row, x_column, add_row, out_row; /* strides in elements; columns of add and out are neighbours in memory */
    int64_t samples, x_sample, weights_sample, out_sample; /* of products of many matrices, each sample with its own weights */
    int64_t weights_row; /* 0: weights (panels, inputs, PANEL); else the stride of weights (inputs, outputs), whole vectors of outputs */
    const float *x, *weights, *bias; /* bias of as many outputs as all panels have, or null */
    const float *add;                /* (rows, outputs), what is added at the end, or null */
    const int32_t *activations;      /* one of the above for every WIDEST outputs, or null */
    float *out;
    int64_t next_task;
} Linear;

#endif
