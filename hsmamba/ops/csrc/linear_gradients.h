/* Arguments of the kernel of a linear layer's weight gradient; `hsmamba/ops/products.py` holds the same for ctypes. */
#ifndef HSMAMBA_LINEAR_GRADIENTS_H
#define HSMAMBA_LINEAR_GRADIENTS_H

#include <stdint.h>

#define GRADIENT_ROWS 128 /* that stay in a cache while all weights are gone through */

typedef struct {
    int64_t rows, outputs, inputs;
    int64_t grad_row, x_row; /* strides in elements; columns are neighbours in memory */
    int64_t slots;           /* the rows are cut into so many tasks, each of which has sums of its own */
    const float *grad, *x;   /* (rows, outputs), (rows, inputs) */
    float *weights;          /* (slots, outputs, inputs), written: grad^T x */
    float *bias;             /* (slots, outputs), written: sums of grad; or null */
    int64_t next_slot;
} LinearGradients;

#endif
