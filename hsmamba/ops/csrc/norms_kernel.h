/* Batch norm in training of rows whose columns are channels, and its gradients, each in two passes. Included by scan.c once for each
   level, after vectors.h. */

#define NORM_ROWS 32 /* whose sums are added up apart, which errs less than one long sum */

/* Sums over some rows of some vectors of columns; `lanes` of the last one. */
INLINE void FN(norm_sums)(const Norms *m, int64_t row, int64_t rows, int64_t c, float *sums, const int vectors, int lanes, const int slopes) {
    const float *x = m->x + row * m->x_row + c, *grad = slopes ? m->grad + row * m->grad_row + c : (const float *)0;
    const int last = vectors - 1;
    vf first[4], second[4], mean[4], scale[4], shift[4];
    _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) {
        first[v] = second[v] = 0.0f;
        mean[v] = *(const vu *)(m->mean + c + v * VL);
        if (slopes) scale[v] = *(const vu *)(m->scale + c + v * VL), shift[v] = *(const vu *)(m->shift + c + v * VL);
    }
    for (int64_t i = 0; i < rows; i++, x += m->x_row, grad += slopes ? m->grad_row : 0)
        _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) {
            vf in = v < last ? *(const vu *)(x + v * VL) : FN(some)(x + v * VL, lanes), away = in - mean[v];
            if (slopes) {
                vf g = v < last ? *(const vu *)(grad + v * VL) : FN(some)(grad + v * VL, lanes);
                g = in * scale[v] + shift[v] > 0.0f ? g : (vf)0.0f;
                first[v] += g, second[v] += g * away;
            } else
                first[v] += away, second[v] += away * away;
        }
    _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) {
        *(vu *)(sums + c + v * VL) += first[v];
        *(vu *)(sums + m->pitch + c + v * VL) += second[v];
    }
}

INLINE void FN(norm_totals)(const Norms *m, int64_t row, int64_t rows, float *sums, const int slopes) {
    int64_t c = 0;
    for (; c + 4 * VL <= m->columns; c += 4 * VL) FN(norm_sums)(m, row, rows, c, sums, 4, VL, slopes);
    for (; c + VL <= m->columns; c += VL) FN(norm_sums)(m, row, rows, c, sums, 1, VL, slopes);
    if (c < m->columns) FN(norm_sums)(m, row, rows, c, sums, 1, (int)(m->columns - c), slopes);
}

/* One row of the result, or of the gradient. */
INLINE void FN(norm_row)(const Norms *m, int64_t row, const int back) {
    const float *x = m->x + row * m->x_row, *grad = back ? m->grad + row * m->grad_row : (const float *)0;
    float *out = m->out + row * m->columns;
    for (int64_t c = 0; c < m->columns; c += VL) {
        int lanes = m->columns - c < VL ? (int)(m->columns - c) : VL;
        vf in = FN(some)(x + c, lanes), scale = *(const vu *)(m->scale + c), y = in * scale + *(const vu *)(m->shift + c);
        if (back) {
            vf g = y > 0.0f ? FN(some)(grad + c, lanes) : (vf)0.0f;
            y = (g - *(const vu *)(m->a + c) - (in - *(const vu *)(m->mean + c)) * *(const vu *)(m->b + c)) * scale;
        } else
            y = y < 0.0f ? (vf)0.0f : y;
        FN(put)(out + c, y, lanes);
    }
}

EXPORT void FN(hsmamba_norms)(Norms *m) {
    int64_t slot;
    while ((slot = __atomic_fetch_add(&m->next_slot, 1, __ATOMIC_RELAXED)) < m->slots) {
        int64_t row = m->rows * slot / m->slots, end = m->rows * (slot + 1) / m->slots;
        float *sums = m->sums + slot * 2 * m->pitch;
        if (m->work == NORM_SUMS)
            for (; row < end; row += NORM_ROWS) FN(norm_totals)(m, row, end - row < NORM_ROWS ? end - row : NORM_ROWS, sums, 0);
        else if (m->work == NORM_SLOPES)
            for (; row < end; row += NORM_ROWS) FN(norm_totals)(m, row, end - row < NORM_ROWS ? end - row : NORM_ROWS, sums, 1);
        else if (m->work == NORM_APPLY)
            for (; row < end; row++) FN(norm_row)(m, row, 0);
        else
            for (; row < end; row++) FN(norm_row)(m, row, 1);
    }
}

#undef NORM_ROWS
