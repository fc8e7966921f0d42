/* Row programs: what stands between products, done on blocks of rows that stay in the first cache. Included by scan.c once for
   each level, after vectors.h. */

/* Within 2e-7, and of small relative error near 0. */
INLINE vf FN(tanhv)(vf x) {
    vf size = FN(absv)(x), e = FN(exp_negative)(size * -2.0f), q = x * x;
    vf p = -5.70498872745e-3f * q + 2.06390887954e-2f;
    p = p * q - 5.37397155531e-2f;
    p = p * q + 1.33314422036e-1f;
    p = p * q - 3.33332819422e-1f;
    vf large = (1.0f - e) * FN(inverse)(1.0f + e);
    return size < 0.625f ? x + x * q * p : (x < 0.0f ? -large : large);
}

/* x times the normal distribution's integral up to x, which is within 1.5e-7 (Abramowitz and Stegun, 7.1.26). */
INLINE vf FN(geluv)(vf x) {
    vf z = FN(absv)(x) * 0.70710678118654752f, t = FN(inverse)(0.3275911f * z + 1.0f);
    vf p = 1.061405429f * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    vf tail = 0.5f * p * t * FN(exp_negative)(-z * z);
    return x * (x < 0.0f ? tail : 1.0f - tail);
}

/* The derivative of gelu: the integral plus x times the distribution's density. */
INLINE vf FN(gelu_slopev)(vf x) {
    vf z = FN(absv)(x) * 0.70710678118654752f, t = FN(inverse)(0.3275911f * z + 1.0f), e = FN(exp_negative)(-z * z);
    vf p = 1.061405429f * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    vf tail = 0.5f * p * t * e;
    return (x < 0.0f ? tail : 1.0f - tail) + 0.39894228040143268f * x * e;
}

INLINE vf FN(sqrtv)(vf x) { return __builtin_elementwise_sqrt(x); }

INLINE vf FN(expv)(vf x) {
    vf e = FN(exp_negative)(-FN(absv)(x));
    return x > 0.0f ? 1.0f / e : e;
}

/* The first lanes of x, `rest` in the others. */
INLINE vf FN(kept)(vf x, int64_t lanes, float rest) {
    for (int i = 0; i < VL; i++)
        if (i >= lanes) x[i] = rest;
    return x;
}

/* Vectors of a row of a register. */
INLINE int64_t FN(rows_pitch)(int64_t width) { return (width + WIDEST - 1) / WIDEST * (WIDEST / VL); }

/* The sum (or the largest) of the columns of VL rows, those from `count` on 0: lane i of the result is row i's. */
INLINE vf FN(row_sums)(const vf *rows, int64_t count, int64_t pitch, int64_t width) {
    vf sum[VL];
    int64_t whole = width / VL, lanes = width % VL;
    for (int64_t i = 0; i < VL; i++) {
        sum[i] = 0.0f;
        if (i >= count) continue;
        for (int64_t v = 0; v < whole; v++) sum[i] += rows[i * pitch + v];
        if (lanes) sum[i] += FN(kept)(rows[i * pitch + whole], lanes, 0.0f);
    }
    return FN(sums)(sum);
}

INLINE float FN(row_most)(const vf *row, int64_t width) {
    vf most = -__builtin_inff();
    for (int64_t v = 0; v < (width + VL - 1) / VL; v++) {
        vf x = width - v * VL < VL ? FN(kept)(row[v], width - v * VL, -__builtin_inff()) : row[v];
        most = x > most ? x : most;
    }
    float largest = most[0];
    for (int i = 1; i < VL; i++) largest = most[i] > largest ? most[i] : largest;
    return largest;
}

/* Each row, less its mean if it is to be centred, over the root of its mean square. */
static void FN(rows_norm)(int64_t width, vf *to, const vf *a, int64_t rows, float eps, int centred) {
    int64_t pitch = FN(rows_pitch)(width), used = (width + VL - 1) / VL;
    for (int64_t first = 0; first < rows; first += VL) {
        int64_t count = rows - first < VL ? rows - first : VL;
        const vf *from = a + first * pitch;
        vf *out = to + first * pitch, mean = 0.0f;
        if (centred) mean = FN(row_sums)(from, count, pitch, width) * (1.0f / width);
        for (int64_t i = 0; i < count; i++)
            for (int64_t v = 0; v < used; v++) out[i * pitch + v] = from[i * pitch + v] - mean[i];
        vf squares[VL];
        for (int64_t i = 0; i < VL; i++) {
            squares[i] = 0.0f;
            for (int64_t v = 0; v < used && i < count; v++) {
                vf x = out[i * pitch + v];
                if (width - v * VL < VL) x = FN(kept)(x, width - v * VL, 0.0f);
                squares[i] += x * x;
            }
        }
        vf scale = 1.0f / FN(sqrtv)(FN(sums)(squares) * (1.0f / width) + eps);
        for (int64_t i = 0; i < count; i++)
            for (int64_t v = 0; v < used; v++) out[i * pitch + v] *= scale[i];
    }
}

/* The gradient of each row of `a` from that of `rows_norm` of it, `g`; `to` may be one of them. */
static void FN(rows_norm_slope)(int64_t width, vf *to, const vf *a, const vf *g, int64_t rows, float eps, int centred) {
    int64_t pitch = FN(rows_pitch)(width), used = (width + VL - 1) / VL;
    float share = 1.0f / width;
    for (int64_t first = 0; first < rows; first += VL) {
        int64_t count = rows - first < VL ? rows - first : VL;
        const vf *x = a + first * pitch, *y = g + first * pitch;
        vf *out = to + first * pitch, mean = 0.0f, slope = 0.0f, squares[VL], products[VL];
        if (centred) {
            mean = FN(row_sums)(x, count, pitch, width) * share;
            slope = FN(row_sums)(y, count, pitch, width) * share;
        }
        for (int64_t i = 0; i < VL; i++) {
            squares[i] = products[i] = 0.0f;
            for (int64_t v = 0; v < used && i < count; v++) {
                vf from = x[i * pitch + v] - mean[i], by = y[i * pitch + v];
                if (width - v * VL < VL) {
                    from = FN(kept)(from, width - v * VL, 0.0f);
                    by = FN(kept)(by, width - v * VL, 0.0f);
                }
                squares[i] += from * from;
                products[i] += from * by;
            }
        }
        vf scale = 1.0f / FN(sqrtv)(FN(sums)(squares) * share + eps);
        vf along = FN(sums)(products) * share * scale * scale;
        for (int64_t i = 0; i < count; i++)
            for (int64_t v = 0; v < used; v++)
                out[i * pitch + v] = scale[i] * (y[i * pitch + v] - slope[i] - (x[i * pitch + v] - mean[i]) * along[i]);
    }
}

static void FN(rows_load)(int64_t width, vf *to, const RowsOperand *operand, int64_t outer, int64_t first, int64_t rows) {
    int64_t pitch = FN(rows_pitch)(width), whole = width / VL;
    int lanes = (int)(width % VL);
    const float *from = operand->data + outer * operand->outer + first * operand->inner;
    if (!operand->column)
        for (int64_t i = 0; i < rows; i++, from += operand->inner, to += pitch)
            for (int64_t v = 0; v < pitch; v++) to[v] = *from;
    else
        for (int64_t i = 0; i < rows; i++, from += operand->inner, to += pitch) {
            for (int64_t v = 0; v < whole; v++) to[v] = *(const vu *)(from + v * VL);
            if (lanes) to[whole] = FN(some)(from + whole * VL, lanes);
        }
}

static void FN(rows_store)(int64_t width, const RowsOperand *operand, const vf *a, int64_t outer, int64_t first, int64_t rows) {
    int64_t pitch = FN(rows_pitch)(width), whole = width / VL;
    int lanes = (int)(width % VL);
    float *to = operand->data + outer * operand->outer + first * operand->inner;
    if (!operand->column)
        for (int64_t i = 0; i < rows; i++, to += operand->inner, a += pitch) *to = a[0][0];
    else
        for (int64_t i = 0; i < rows; i++, to += operand->inner, a += pitch) {
            for (int64_t v = 0; v < whole; v++) *(vu *)(to + v * VL) = a[v];
            if (lanes) FN(put)(to + whole * VL, a[whole], lanes);
        }
}

/* Add the rows to an operand of one row, which the first block of a sample begins. */
static void FN(rows_total)(int64_t width, const RowsOperand *operand, const vf *a, int64_t outer, int64_t first, int64_t rows) {
    int64_t pitch = FN(rows_pitch)(width);
    float *to = operand->data + outer * operand->outer;
    for (int64_t v = 0, c = 0; c < width; v++, c += VL) {
        int lanes = width - c < VL ? (int)(width - c) : VL;
        vf sum = first ? FN(some)(to + c, lanes) : (vf)0.0f;
        for (int64_t i = 0; i < rows; i++) sum += a[i * pitch + v];
        FN(put)(to + c, sum, lanes);
    }
}

/* A block of rows through a linear layer; in linear_kernel.h. */
static void FN(rows_linear)(const RowsProduct *product, int64_t width, vf *to, const vf *a, int64_t rows);

static void FN(rows_step)(const Rows *r, const RowsStep *step, int64_t outer, int64_t first, int64_t rows, vf *registers) {
    int64_t size = r->block * r->pitch / VL, width = step->width, pitch = FN(rows_pitch)(width), n = rows * pitch;
    vf *to = registers + step->to * size;
    const vf *a = registers + step->a * size, *b = registers + step->b * size;
    vf value = step->value, unused;
#define EACH(X)                                               \
    if (step->one)                                            \
        for (int64_t i = 0; i < n; i += pitch) {              \
            vf x = X;                                         \
            for (int64_t v = 0; v < pitch; v++) to[i + v] = x; \
        }                                                     \
    else                                                      \
        for (int64_t i = 0; i < n; i++) to[i] = X;            \
    break
    switch (step->op) {
    case ROWS_LOAD: FN(rows_load)(width, to, r->operands + step->a, outer, first, rows); break;
    case ROWS_STORE: FN(rows_store)(width, r->operands + step->to, a, outer, first, rows); break;
    case ROWS_TOTAL: FN(rows_total)(width, r->operands + step->to, a, outer, first, rows); break;
    case ROWS_ADD: EACH(a[i] + b[i]);
    case ROWS_SUBTRACT: EACH(a[i] - b[i]);
    case ROWS_MULTIPLY: EACH(a[i] * b[i]);
    case ROWS_DIVIDE: EACH(a[i] / b[i]);
    case ROWS_ADD_VALUE: EACH(a[i] + value);
    case ROWS_MULTIPLY_VALUE: EACH(a[i] * value);
    case ROWS_SILU: EACH(a[i] * FN(sigmoidv)(a[i]));
    case ROWS_TANH: EACH(FN(tanhv)(a[i]));
    case ROWS_SOFTPLUS: EACH(FN(softplusv)(a[i], &unused));
    case ROWS_SIGMOID: EACH(FN(sigmoidv)(a[i]));
    case ROWS_RELU: EACH(a[i] < 0.0f ? (vf)0.0f : a[i]);
    case ROWS_GELU: EACH(FN(geluv)(a[i]));
    case ROWS_SQRT: EACH(FN(sqrtv)(a[i]));
    case ROWS_EXP: EACH(FN(expv)(a[i]));
    case ROWS_SUM:
        for (int64_t i = 0; i < rows; i += VL) {
            int64_t count = rows - i < VL ? rows - i : VL;
            vf sums = FN(row_sums)(a + i * pitch, count, pitch, width);
            for (int64_t j = 0; j < count; j++)
                for (int64_t v = 0; v < pitch; v++) to[(i + j) * pitch + v] = sums[j];
        }
        break;
    case ROWS_MOST:
        for (int64_t i = 0; i < rows; i++) {
            float most = FN(row_most)(a + i * pitch, width);
            for (int64_t v = 0; v < pitch; v++) to[i * pitch + v] = most;
        }
        break;
    case ROWS_NORM: FN(rows_norm)(width, to, a, rows, step->value, 1); break;
    case ROWS_RMS: FN(rows_norm)(width, to, a, rows, step->value, 0); break;
    case ROWS_POSITIVE: EACH(a[i] > 0.0f ? (vf)1.0f : (vf)0.0f);
    case ROWS_GELU_SLOPE: EACH(FN(gelu_slopev)(a[i]));
    case ROWS_EQUAL: EACH(a[i] == b[i] ? (vf)1.0f : (vf)0.0f);
    case ROWS_NORM_SLOPE: FN(rows_norm_slope)(width, to, a, b, rows, step->value, 1); break;
    case ROWS_RMS_SLOPE: FN(rows_norm_slope)(width, to, a, b, rows, step->value, 0); break;
    case ROWS_LINEAR: FN(rows_linear)(r->products + step->b, width, to, a, rows); break;
    }
#undef EACH
}

EXPORT void FN(hsmamba_rows)(Rows *r) {
    uint64_t mode = flush_denormals();
    vf *registers = (vf *)(r->scratch + r->scratch_floats * __atomic_fetch_add(&r->next_thread, 1, __ATOMIC_RELAXED));
    int64_t task, tasks = (r->inner + r->task - 1) / r->task;
    while ((task = __atomic_fetch_add(&r->next_task, 1, __ATOMIC_RELAXED)) < r->outer * tasks) {
        int64_t outer = task / tasks, start = task % tasks * r->task, end = r->inner - start < r->task ? r->inner : start + r->task;
        for (int64_t first = start; first < end; first += r->block)
            for (int64_t k = 0; k < r->steps; k++)
                FN(rows_step)(r, r->program + k, outer, first, end - first < r->block ? end - first : r->block, registers);
    }
    restore_mode(mode);
}
