/* Arguments of the kernel of a product whose columns are normed over the batch; `hsmamba/ops/normed_products.py` holds the same for
   ctypes. What is between the two works is the norm's own: norms.h. */
#ifndef HSMAMBA_NORMED_PRODUCT_H
#define HSMAMBA_NORMED_PRODUCT_H

#include "depthwise_backward.h"
#include "linear.h"
#include "linear_gradients.h"
#include "norms.h"

#define MOST_BESIDE 4

/* Works beside NORM_SUMS, after the product, and NORM_BACK, before its gradients: gradients alone, from those of its rows, or of these
   through an activation, whose result is the norm's x. */
enum { PRODUCT_PLAIN = NORM_BACK + 1, PRODUCT_RELU, PRODUCT_SOFTPLUS, PRODUCT_TANH, PRODUCT_SIGMOID };

typedef struct {
    Norms norm;                /* of the product's rows */
    Linear product;            /* of x by W, or of the gradient of its rows by W^T; out null where nobody asks */
    LinearGradients gradients; /* of W, from x and the gradient of the product's rows */
    float *scratch;            /* (slots, GRADIENT_ROWS or pixels of an image, pitch): a row that sums start from, or gradients of rows */
    /* Where x is made block by block and never kept: by a norm over the batch and its ReLU, or of maps beside what depthwise convolutions
       make of them, image by image. */
    const Norms *before;                  /* that norm, whose `out`, and sums of slopes, are filled in here; or null */
    const Depthwise *beside;              /* the convolutions, at most MOST_BESIDE, whose `out` is filled in here; or null */
    const DepthwiseBackward *beside_back; /* their gradients, whose `grad` and first `base` are filled in here */
    float *whole;                         /* (slots, 2, GRADIENT_ROWS or pixels of an image, inputs): x of a block, and its gradient */
} NormedProduct;

#endif
