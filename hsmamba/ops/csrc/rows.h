/* Arguments of the kernel of row programs; `hsmamba/ops/rows.py` holds the same structures and numbers for ctypes.

   A program is a list of steps that goes over blocks of rows. What a step makes has rows of `width` numbers, and lies in a
   register row after row, each filled up to whole vectors of WIDEST; or rows have one number, and these follow each other. */
#ifndef HSMAMBA_ROWS_H
#define HSMAMBA_ROWS_H

#include <stdint.h>

enum {
    ROWS_LOAD,  /* register `to` = operand `a` */
    ROWS_STORE, /* operand `to` = register `a` */
    ROWS_TOTAL, /* operand `to` = the sum of register `a` over all inner rows */
    ROWS_ADD,
    ROWS_SUBTRACT,
    ROWS_MULTIPLY,
    ROWS_DIVIDE,
    ROWS_ADD_VALUE,
    ROWS_MULTIPLY_VALUE,
    ROWS_SILU,
    ROWS_TANH,
    ROWS_SOFTPLUS,
    ROWS_SIGMOID,
    ROWS_RELU,
    ROWS_GELU,
    ROWS_SQRT,
    ROWS_EXP,
    ROWS_SUM,   /* over the columns of each row, one number */
    ROWS_MOST,  /* the largest of each row, likewise */
    ROWS_NORM,  /* each row with mean 0 and variance 1; value: added to the variance */
    ROWS_RMS,   /* each row over the root of its mean square, plus value */
    ROWS_POSITIVE, /* 1 where it is above 0, else 0: of the gradient of relu */
    ROWS_GELU_SLOPE,
    ROWS_EQUAL,      /* 1 where `a` is `b`, else 0 */
    ROWS_NORM_SLOPE, /* the gradient of `a` from that of its norm, `b` */
    ROWS_RMS_SLOPE,
    ROWS_LINEAR, /* register `a` through product `b` */
    ROWS_DOT,    /* the sum of the product's columns of each row, one number */
    ROWS_MULTIPLY_ADD, /* a b + c */
    ROWS_SPREAD, /* register `to`, whose rows have one number, with this in all columns */
};

enum { ROWS_ONE = 1, ROWS_ONE_A = 2, ROWS_ONE_B = 4, ROWS_ONE_C = 8 }; /* the result, and operands */

typedef struct {
    float *data;
    int64_t outer, inner, column; /* strides in elements; column 1, or 0 for one number a row */
} RowsOperand;

typedef struct {
    int32_t op, to, a, b, c;
    int32_t one; /* of which of these the rows have one number: flags of the above */
    float value;
    int32_t width; /* columns of what it makes */
} RowsStep;

typedef struct {
    int64_t inputs;
    const float *weights, *bias; /* as Linear has them */
} RowsProduct;

typedef struct {
    int64_t outer, inner, steps;
    int64_t block; /* rows at a time */
    int64_t task;  /* inner rows that a thread takes at once: all of them where there is a total */
    int64_t pitch; /* floats of a row of the widest register: a multiple of WIDEST */
    const RowsStep *program;
    const RowsOperand *operands;
    const RowsProduct *products;
    float *scratch; /* aligned to 64 bytes; for each thread registers * block * pitch */
    int64_t scratch_floats, next_thread, next_task;
} Rows;

#endif
