/* Arguments of the kernel of batch norm in training; `hsmamba/ops/norm_gradients.py` holds the same for ctypes. */
#ifndef HSMAMBA_NORMS_H
#define HSMAMBA_NORMS_H

#include <stdint.h>

#define NORM_ROWS 32 /* whose sums are added up apart, which errs less than one long sum */

enum {
    NORM_SUMS,       /* sums of x - pivot and of its square: by tasks */
    NORM_STATISTICS, /* the table and what was found, of these sums: at once */
    NORM_APPLY,      /* relu(x scale + shift): by tasks */
    NORM_SLOPES,     /* sums of r and of r (x - mean), where r is the gradient of what goes into the ReLU: by tasks */
    NORM_GRADIENTS,  /* the gradients of weight and bias, and what they take from each column, of these sums: at once */
    NORM_BACK,       /* (r - a - (x - mean) b) scale: by tasks */
};

enum { NORM_MEAN, NORM_SCALE, NORM_SHIFT, NORM_RATE }; /* of the table */

typedef struct {
    int64_t work, rows, columns, share; /* share: so many columns in a row have one mean, one weight ... */
    int64_t pitch;                      /* columns rounded up to whole vectors of WIDEST */
    int64_t x_row, grad_row;            /* strides in elements; columns are neighbours in memory */
    int64_t slots;                      /* the rows are cut into so many tasks, each of which has sums of its own */
    double eps, momentum;
    const float *x, *grad;
    const float *pivot;         /* (columns): a row of x, or what one would be */
    const float *weight, *bias; /* (columns / share) */
    float *sums;                /* (slots, 2, pitch), zeros at first */
    float *table;               /* (4, pitch) */
    float *taken;               /* (2, pitch): a and b */
    float *running_mean, *running_var; /* (columns / share), which go to those of this batch by `momentum` */
    float *found;               /* (2, columns / share): the gradients of weight and bias */
    float *out;                 /* (rows, columns) */
    int64_t next_slot;
} Norms;

#endif
