/* The gradient of a linear layer's weights: sums of outer products of rows, which stay in registers over a block of rows; those of
   the blocks are added up, which errs less than one long sum. Included by scan.c once for each level, after linear_kernel.h. */

/* Add what `rows` rows give to the weights of some outputs and some vectors of inputs; `lanes` of the last one. It asks for the same
   inputs, or gradients, of the rows behind these where it is the first to read them: no processor foresees such columns. */
INLINE void FN(gradient_tile)(const LinearGradients *l, const float *grad, const float *x, int64_t rows, float *weights, const int outputs,
                              const int vectors, int lanes, int adds, int first_x, int first_grad) {
    vf sum[LINEAR_ROWS][LINEAR_VECTORS];
    const int last = vectors - 1;
    _Pragma("clang loop unroll(full)") for (int i = 0; i < outputs; i++)
        _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) sum[i][v] = 0.0f;
    for (int64_t row = 0; row < rows; row++, grad += l->grad_row, x += l->x_row) {
        vf in[LINEAR_VECTORS];
        _Pragma("clang loop unroll(full)") for (int v = 0; v < last; v++) in[v] = *(const vu *)(x + v * VL);
        in[last] = FN(some)(x + last * VL, lanes);
        if (first_x)
            _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) __builtin_prefetch(x + rows * l->x_row + v * VL, 0, 2);
        if (first_grad) __builtin_prefetch(grad + rows * l->grad_row, 0, 2);
        _Pragma("clang loop unroll(full)") for (int i = 0; i < outputs; i++) {
            vf g = grad[i];
            _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) sum[i][v] += g * in[v];
        }
    }
    _Pragma("clang loop unroll(full)") for (int i = 0; i < outputs; i++) {
        float *to = weights + i * l->inputs;
        _Pragma("clang loop unroll(full)") for (int v = 0; v < last; v++) *(vu *)(to + v * VL) = adds ? *(vu *)(to + v * VL) + sum[i][v] : sum[i][v];
        FN(put)(to + last * VL, adds ? FN(some)(to + last * VL, lanes) + sum[i][last] : sum[i][last], lanes);
    }
}

/* Some vectors of inputs for all outputs. Whole vectors are a case of their own, which loads them without a mask. */
INLINE void FN(gradient_panel)(const LinearGradients *l, const float *grad, const float *x, int64_t rows, float *weights, const int vectors,
                               int lanes, int adds, int first) {
    int64_t n = 0;
    if (lanes == VL)
        for (; n + LINEAR_ROWS <= l->outputs; n += LINEAR_ROWS)
            FN(gradient_tile)(l, grad + n, x, rows, weights + n * l->inputs, LINEAR_ROWS, vectors, VL, adds, !n, first);
    else
        for (; n + LINEAR_ROWS <= l->outputs; n += LINEAR_ROWS)
            FN(gradient_tile)(l, grad + n, x, rows, weights + n * l->inputs, LINEAR_ROWS, vectors, lanes, adds, !n, first);
    for (; n < l->outputs; n++) FN(gradient_tile)(l, grad + n, x, rows, weights + n * l->inputs, 1, vectors, lanes, adds, !n, first);
}

static void FN(gradient_block)(const LinearGradients *l, const float *grad, const float *x, int64_t rows, float *weights, float *bias, int adds) {
    for (int64_t k = 0; k < l->inputs; k += LINEAR_VECTORS * VL) {
        int64_t left = l->inputs - k, vectors = left >= LINEAR_VECTORS * VL ? LINEAR_VECTORS : (left + VL - 1) / VL;
        int lanes = left >= LINEAR_VECTORS * VL ? VL : (int)(left - (vectors - 1) * VL);
        if (vectors == LINEAR_VECTORS)
            FN(gradient_panel)(l, grad, x + k, rows, weights + k, LINEAR_VECTORS, lanes, adds, !k);
        else if (vectors == 2)
            FN(gradient_panel)(l, grad, x + k, rows, weights + k, 2, lanes, adds, !k);
        else
            FN(gradient_panel)(l, grad, x + k, rows, weights + k, 1, lanes, adds, !k);
    }
    for (int64_t n = 0; bias && n < l->outputs; n += VL) {
        int lanes = l->outputs - n < VL ? (int)(l->outputs - n) : VL;
        vf sum = 0.0f;
        for (int64_t row = 0; row < rows; row++) sum += FN(some)(grad + row * l->grad_row + n, lanes);
        if (adds) sum += FN(some)(bias + n, lanes);
        FN(put)(bias + n, sum, lanes);
    }
}

EXPORT void FN(hsmamba_linear_gradients)(LinearGradients *l) {
    int64_t slot;
    while ((slot = __atomic_fetch_add(&l->next_slot, 1, __ATOMIC_RELAXED)) < l->slots) {
        int64_t first = l->rows * slot / l->slots, end = l->rows * (slot + 1) / l->slots;
        float *weights = l->weights + slot * l->outputs * l->inputs, *bias = l->bias ? l->bias + slot * l->outputs : (float *)0;
        for (int64_t row = first; row < end; row += GRADIENT_ROWS)
            FN(gradient_block)(l, l->grad + row * l->grad_row, l->x + row * l->x_row, end - row < GRADIENT_ROWS ? end - row : GRADIENT_ROWS,
                               weights, bias, row > first);
    }
}
