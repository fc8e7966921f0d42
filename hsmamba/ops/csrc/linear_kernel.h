/* Linear layers of many rows: a block of sums stays in registers until bias, activation and what is added are in it. Included by
   scan.c once for each level, after rows_kernel.h. */

/* LINEAR_ROWS rows times some vectors of outputs; `count` of the rows are stored, `lanes` of the last vector. */
INLINE void FN(linear_tile)(const Linear *l, const float *const *x, const float *weights, int64_t weights_row, int64_t c, const int vectors,
                            int count, int lanes, int64_t row, const int first) {
    vf sum[LINEAR_ROWS][LINEAR_VECTORS];
    _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) {
        vf bias = l->bias ? *(const vu *)(l->bias + c + v * VL) : (vf)0.0f;
        _Pragma("clang loop unroll(full)") for (int i = 0; i < LINEAR_ROWS; i++) sum[i][v] = bias;
    }
    if (l->add) /* what the processor does not foresee either, and is there when the products are done */
        for (int i = 0; i < count; i++)
            _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) __builtin_prefetch(l->add + (row + i) * l->add_row + c + v * VL);
    for (int64_t k = 0, end = l->inputs * l->x_column; k < end; k += l->x_column, weights += weights_row) {
        if (first && !(k & 15)) /* the rows behind these, for the processor foresees no new rows */
            _Pragma("clang loop unroll(full)") for (int i = 0; i < LINEAR_ROWS; i++) __builtin_prefetch(x[i] + LINEAR_ROWS * l->x_row + k);
        vf w[LINEAR_VECTORS];
        _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) w[v] = *(const vu *)(weights + v * VL);
        _Pragma("clang loop unroll(full)") for (int i = 0; i < LINEAR_ROWS; i++) {
            vf in = x[i][k];
            _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) sum[i][v] += in * w[v];
        }
    }
    vf tile[LINEAR_VECTORS][LINEAR_ROWS];
    _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++)
        _Pragma("clang loop unroll(full)") for (int i = 0; i < LINEAR_ROWS; i++) tile[v][i] = sum[i][v];
    for (int v = 0; v < vectors; v++, c += VL) {
        int some = v < vectors - 1 ? VL : lanes;
        vf *y = tile[v], unused;
#define EACH(X)                                        \
    for (int i = 0; i < count; i++) y[i] = X;          \
    break
        switch (l->activations ? l->activations[c / WIDEST] : LINEAR_SAME) {
        case LINEAR_SILU: EACH(y[i] * FN(sigmoidv)(y[i]));
        case LINEAR_SOFTPLUS: EACH(FN(softplusv)(y[i], &unused));
        case LINEAR_TANH: EACH(FN(tanhv)(y[i]));
        case LINEAR_SIGMOID: EACH(FN(sigmoidv)(y[i]));
        case LINEAR_RELU: EACH(y[i] < 0.0f ? (vf)0.0f : y[i]);
        }
#undef EACH
        if (l->add)
            for (int i = 0; i < count; i++) y[i] += FN(some)(l->add + (row + i) * l->add_row + c, some);
        for (int i = 0; i < count; i++) FN(put)(l->out + (row + i) * l->out_row + c, y[i], some);
    }
}

/* The first output of a panel. Where one of a single vector would be left, which keeps the processor waiting, the last two share. */
INLINE int64_t FN(linear_start)(const Linear *l, int64_t panel) {
    int64_t vectors = (l->outputs + WIDEST - 1) / WIDEST, panels = (vectors + 2) / 3;
    if (panel >= panels) return l->outputs;
    return panel * PANEL - (panel > 0 && panel == panels - 1 && vectors % 3 == 1 ? WIDEST : 0);
}

/* The outputs of one panel for a block of rows. */
INLINE void FN(linear_panel)(const Linear *l, int64_t panel, int64_t first, int64_t end) {
    int64_t start = FN(linear_start)(l, panel), last = FN(linear_start)(l, panel + 1) - start;
    const float *weights = l->weights + (l->weights_row ? start : panel * PANEL * l->inputs);
    int64_t weights_row = l->weights_row ? l->weights_row : PANEL;
    for (int64_t c = 0; c < last; c += LINEAR_VECTORS * VL)
        for (int64_t row = first; row < end; row += LINEAR_ROWS) {
            const float *x[LINEAR_ROWS];
            int count = end - row < LINEAR_ROWS ? (int)(end - row) : LINEAR_ROWS;
            for (int i = 0; i < LINEAR_ROWS; i++) x[i] = l->x + (row + (i < count ? i : count - 1)) * l->x_row;
            int64_t left = last - c, to = start + c;
            int vectors = left >= LINEAR_VECTORS * VL ? LINEAR_VECTORS : (int)((left + VL - 1) / VL);
            int lanes = left >= LINEAR_VECTORS * VL ? VL : (int)(left - (vectors - 1) * VL);
            int ahead = to == 0 && l->x_column == 1 && l->inputs > LINEAR_SHORT;
            if (vectors == LINEAR_VECTORS && ahead)
                FN(linear_tile)(l, x, weights + c, weights_row, to, LINEAR_VECTORS, count, lanes, row, 1);
            else if (vectors == LINEAR_VECTORS)
                FN(linear_tile)(l, x, weights + c, weights_row, to, LINEAR_VECTORS, count, lanes, row, 0);
            else if (vectors == 2 && ahead)
                FN(linear_tile)(l, x, weights + c, weights_row, to, 2, count, lanes, row, 1);
            else if (vectors == 2)
                FN(linear_tile)(l, x, weights + c, weights_row, to, 2, count, lanes, row, 0);
            else
                FN(linear_tile)(l, x, weights + c, weights_row, to, 1, count, lanes, row, 0);
        }
}

/* The outputs of all panels for a block of rows. */
INLINE void FN(linear_rows)(const Linear *l, int64_t first, int64_t end) {
    for (int64_t panel = 0; panel * PANEL < l->outputs; panel++) FN(linear_panel)(l, panel, first, end);
}

static void FN(rows_linear)(const RowsProduct *product, int64_t width, vf *to, const vf *a, int64_t rows) {
    Linear l = {.rows = rows, .inputs = product->inputs, .outputs = width, .x_column = 1, .weights = product->weights, .bias = product->bias};
    l.x = (const float *)a, l.x_row = FN(rows_pitch)(product->inputs) * VL;
    l.out = (float *)to, l.out_row = FN(rows_pitch)(width) * VL;
    FN(linear_rows)(&l, 0, rows);
}

EXPORT void FN(hsmamba_linear)(Linear *l) {
    int64_t task, blocks = (l->rows + LINEAR_TASK - 1) / LINEAR_TASK;
    while ((task = __atomic_fetch_add(&l->next_task, 1, __ATOMIC_RELAXED)) < l->samples * blocks) {
        int64_t sample = task / blocks, first = task % blocks * LINEAR_TASK;
        Linear one = *l;
        one.x += sample * l->x_sample;
        one.weights += sample * l->weights_sample;
        one.out += sample * l->out_sample;
        FN(linear_rows)(&one, first, l->rows - first < LINEAR_TASK ? l->rows : first + LINEAR_TASK);
    }
}
