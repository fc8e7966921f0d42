/* Arguments of the kernel of batch norm in training; `hsmamba/ops/norm_gradients.py` holds the same for ctypes. */
#ifndef HSMAMBA_NORMS_H
#define HSMAMBA_NORMS_H

#include <stdint.h>

enum {
    NORM_SUMS,   /* sums of x - mean and of its square, where mean is any number near */
    NORM_APPLY,  /* relu(x scale + shift) */
    NORM_SLOPES, /* sums of r and of r (x - mean), where r is the gradient of what goes into the ReLU */
    NORM_BACK,   /* (r - a - (x - mean) b) scale */
};

typedef struct {
    int64_t work, rows, columns, pitch; /* pitch: of the sums, columns rounded up to whole vectors of WIDEST */
    int64_t x_row, grad_row;            /* strides in elements; columns are neighbours in memory */
    int64_t slots;                      /* the rows are cut into so many tasks, each of which has sums of its own */
    const float *x, *grad;
    const float *mean, *scale, *shift, *a, *b; /* (pitch) */
    float *sums;                               /* (slots, 2, pitch), zeros at first */
    float *out;                                /* (rows, columns) */
    int64_t next_slot;
} Norms;

#endif
