/* Batch norm in training of rows whose columns are channels, and its gradients, each in two passes. Included by scan.c once for each
   level, after vectors.h. */

/* Ask for the same columns of the rows behind this block, which no processor foresees. */
INLINE void FN(norm_fetch)(const float *x, int64_t row) { __builtin_prefetch(x + NORM_ROWS * row, 0, 2); }

/* Sums over some rows of some vectors of columns; `lanes` of the last one. */
INLINE void FN(norm_sums)(const Norms *m, int64_t row, int64_t rows, int64_t c, float *sums, const int vectors, int lanes, const int slopes) {
    const float *x = m->x + row * m->x_row + c, *grad = slopes ? m->grad + row * m->grad_row + c : (const float *)0, *table = m->table + c;
    const int last = vectors - 1;
    vf first[4], second[4], mean[4], scale[4], shift[4];
    _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) {
        first[v] = second[v] = 0.0f;
        if (slopes) {
            mean[v] = *(const vu *)(table + NORM_MEAN * m->pitch + v * VL);
            scale[v] = *(const vu *)(table + NORM_SCALE * m->pitch + v * VL);
            shift[v] = *(const vu *)(table + NORM_SHIFT * m->pitch + v * VL);
        } else /* near the mean: what is summed is small, and its square says the variance */
            mean[v] = v < last ? *(const vu *)(m->pivot + c + v * VL) : FN(some)(m->pivot + c + v * VL, lanes);
    }
    for (int64_t i = 0; i < rows; i++, x += m->x_row, grad += slopes ? m->grad_row : 0)
        _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) {
            FN(norm_fetch)(x + v * VL, m->x_row);
            if (slopes) FN(norm_fetch)(grad + v * VL, m->grad_row);
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

/* One of the two sums of a column over all tasks. */
INLINE double FN(norm_total)(const Norms *m, int64_t column, int which) {
    double total = 0.0;
    for (int64_t slot = 0; slot < m->slots; slot++) total += m->sums[(2 * slot + which) * m->pitch + column];
    return total;
}

static void FN(norm_statistics)(const Norms *m) {
    int64_t channels = m->columns / m->share;
    double rows = (double)m->rows, count = rows * (double)m->share;
    for (int64_t k = 0; k < channels; k++) {
        int64_t from = k * m->share, end = from + m->share;
        double mean = 0.0, squares = 0.0;
        for (int64_t c = from; c < end; c++) mean += (m->pivot[c] + FN(norm_total)(m, c, 0) / rows) / (double)m->share;
        for (int64_t c = from; c < end; c++) {
            double apart = m->pivot[c] - mean;
            squares += FN(norm_total)(m, c, 1) + apart * (2.0 * FN(norm_total)(m, c, 0) + rows * apart);
        }
        m->running_mean[k] += (float)((mean - m->running_mean[k]) * m->momentum);
        m->running_var[k] += (float)((squares / (count - 1.0) - m->running_var[k]) * m->momentum);
        float rate = (float)(1.0 / __builtin_elementwise_sqrt(squares / count + m->eps)), scale = m->weight[k] * rate;
        for (int64_t c = from; c < end; c++) {
            m->table[NORM_MEAN * m->pitch + c] = (float)mean;
            m->table[NORM_SCALE * m->pitch + c] = scale;
            m->table[NORM_SHIFT * m->pitch + c] = m->bias[k] - (float)mean * scale;
            m->table[NORM_RATE * m->pitch + c] = rate;
        }
    }
}

static void FN(norm_gradients)(const Norms *m) {
    int64_t channels = m->columns / m->share;
    double count = (double)m->rows * (double)m->share;
    for (int64_t k = 0; k < channels; k++) {
        int64_t from = k * m->share, end = from + m->share;
        double slopes = 0.0, along = 0.0, rate = m->table[NORM_RATE * m->pitch + from];
        for (int64_t c = from; c < end; c++) slopes += FN(norm_total)(m, c, 0), along += FN(norm_total)(m, c, 1);
        m->found[k] = (float)(along * rate), m->found[channels + k] = (float)slopes;
        for (int64_t c = from; c < end; c++)
            m->taken[c] = (float)(slopes / count), m->taken[m->pitch + c] = (float)(along * rate * rate / count);
    }
}

/* Some vectors of some rows of the result, or of the gradient; `lanes` of the last one. */
INLINE void FN(norm_part)(const Norms *m, int64_t row, int64_t rows, int64_t c, const int vectors, int lanes, const int back) {
    const float *x = m->x + row * m->x_row + c, *grad = back ? m->grad + row * m->grad_row + c : (const float *)0, *table = m->table + c;
    float *out = m->out + row * m->columns + c;
    const int last = vectors - 1;
    vf mean[4], scale[4], shift[4], a[4], b[4];
    _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) {
        scale[v] = *(const vu *)(table + NORM_SCALE * m->pitch + v * VL);
        shift[v] = *(const vu *)(table + NORM_SHIFT * m->pitch + v * VL);
        if (back) {
            mean[v] = *(const vu *)(table + NORM_MEAN * m->pitch + v * VL);
            a[v] = *(const vu *)(m->taken + c + v * VL), b[v] = *(const vu *)(m->taken + m->pitch + c + v * VL);
        }
    }
    for (int64_t i = 0; i < rows; i++, x += m->x_row, out += m->columns, grad += back ? m->grad_row : 0)
        _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) {
            FN(norm_fetch)(x + v * VL, m->x_row);
            if (back) FN(norm_fetch)(grad + v * VL, m->grad_row);
            vf in = v < last ? *(const vu *)(x + v * VL) : FN(some)(x + v * VL, lanes), y = in * scale[v] + shift[v];
            if (back) {
                vf g = v < last ? *(const vu *)(grad + v * VL) : FN(some)(grad + v * VL, lanes);
                g = y > 0.0f ? g : (vf)0.0f;
                y = (g - a[v] - (in - mean[v]) * b[v]) * scale[v];
            } else
                y = y < 0.0f ? (vf)0.0f : y;
            if (v < last)
                *(vu *)(out + v * VL) = y;
            else
                FN(put)(out + v * VL, y, lanes);
        }
}

INLINE void FN(norm_rows)(const Norms *m, int64_t row, int64_t rows, const int back) {
    int64_t c = 0;
    for (; c + 4 * VL <= m->columns; c += 4 * VL) FN(norm_part)(m, row, rows, c, 4, VL, back);
    for (; c + VL <= m->columns; c += VL) FN(norm_part)(m, row, rows, c, 1, VL, back);
    if (c < m->columns) FN(norm_part)(m, row, rows, c, 1, (int)(m->columns - c), back);
}

EXPORT void FN(hsmamba_norms)(Norms *m) {
    if (m->work == NORM_STATISTICS || m->work == NORM_GRADIENTS) {
        (m->work == NORM_STATISTICS ? FN(norm_statistics) : FN(norm_gradients))(m);
        return;
    }
    int64_t slot;
    while ((slot = __atomic_fetch_add(&m->next_slot, 1, __ATOMIC_RELAXED)) < m->slots) {
        int64_t row = m->rows * slot / m->slots, end = m->rows * (slot + 1) / m->slots;
        float *sums = m->sums + slot * 2 * m->pitch;
        for (; row < end; row += NORM_ROWS) {
            int64_t rows = end - row < NORM_ROWS ? end - row : NORM_ROWS;
            if (m->work == NORM_SUMS)
                FN(norm_totals)(m, row, rows, sums, 0);
            else if (m->work == NORM_SLOPES)
                FN(norm_totals)(m, row, rows, sums, 1);
            else if (m->work == NORM_APPLY)
                FN(norm_rows)(m, row, rows, 0);
            else
                FN(norm_rows)(m, row, rows, 1);
        }
    }
}
