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
#if VL == 16
    const vi lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif VL == 8
    const vi lane = {0, 1, 2, 3, 4, 5, 6, 7};
#else
    const vi lane = {0, 1, 2, 3};
#endif
    return lane < (vi)(int32_t)lanes ? x : (vf)rest;
}

/* Vectors of a row of a register. */
INLINE int64_t FN(rows_pitch)(int64_t width) { return (width + WIDEST - 1) / WIDEST * (WIDEST / VL); }

/* Sums over the columns of VL rows, those from `count` on 0: lane i of the result is row i's. X is made of column vector v of a row. */
#define ROW_SUMS(NAME, X)                                                                                                    \
    INLINE vf FN(NAME)(const vf *a, const vf *b, const float *mean, int64_t count, int64_t pitch, int64_t width) {           \
        vf sums[VL];                                                                                                         \
        int64_t whole = width / VL, lanes = width % VL;                                                                      \
        for (int64_t i = 0; i < VL; i++, a += pitch, b += pitch) {                                                           \
            vf sum = 0.0f, away = mean[i];                                                                                   \
            (void)away;                                                                                                      \
            if (i < count) {                                                                                                 \
                for (int64_t v = 0; v < whole; v++) sum += X;                                                                \
                for (int64_t v = whole; v < whole + (lanes > 0); v++) sum += FN(kept)(X, lanes, 0.0f);                       \
            }                                                                                                                \
            sums[i] = sum;                                                                                                   \
        }                                                                                                                    \
        return FN(sums)(sums);                                                                                               \
    }
static const float FN(zeros)[VL] = {0};
ROW_SUMS(row_sums, a[v])
ROW_SUMS(row_products, a[v] * b[v])
ROW_SUMS(row_squares, (a[v] - away) * (a[v] - away))
ROW_SUMS(row_slopes, (a[v] - away) * b[v])
#undef ROW_SUMS

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
    for (int64_t first = 0; first < rows; first += VL, a += VL * pitch, to += VL * pitch) {
        int64_t count = rows - first < VL ? rows - first : VL;
        float mean[VL] = {0}, scale[VL];
        if (centred) *(vu *)mean = FN(row_sums)(a, a, mean, count, pitch, width) * (1.0f / width);
        *(vu *)scale = 1.0f / FN(sqrtv)(FN(row_squares)(a, a, mean, count, pitch, width) * (1.0f / width) + eps);
        for (int64_t i = 0; i < count; i++) {
            vf away = mean[i], by = scale[i];
            for (int64_t v = 0; v < used; v++) to[i * pitch + v] = (a[i * pitch + v] - away) * by;
        }
    }
}

/* The gradient of each row of `a` from that of `rows_norm` of it, `g`; `to` may be one of them. */
static void FN(rows_norm_slope)(int64_t width, vf *to, const vf *a, const vf *g, int64_t rows, float eps, int centred) {
    int64_t pitch = FN(rows_pitch)(width), used = (width + VL - 1) / VL;
    const float share = 1.0f / width;
    for (int64_t first = 0; first < rows; first += VL, a += VL * pitch, g += VL * pitch, to += VL * pitch) {
        int64_t count = rows - first < VL ? rows - first : VL;
        float mean[VL] = {0}, slope[VL] = {0}, scale[VL], along[VL];
        if (centred) {
            *(vu *)slope = FN(row_sums)(g, g, mean, count, pitch, width) * share;
            *(vu *)mean = FN(row_sums)(a, a, mean, count, pitch, width) * share;
        }
        vf by = 1.0f / FN(sqrtv)(FN(row_squares)(a, a, mean, count, pitch, width) * share + eps);
        *(vu *)scale = by;
        *(vu *)along = FN(row_slopes)(a, g, mean, count, pitch, width) * share * by * by;
        for (int64_t i = 0; i < count; i++) {
            vf away = mean[i], less = slope[i], more = along[i], times = scale[i];
            for (int64_t v = 0; v < used; v++) to[i * pitch + v] = times * (g[i * pitch + v] - less - (a[i * pitch + v] - away) * more);
        }
    }
}

/* One number for each row of a register whose rows have one, each in all columns of its row, in the same register. */
static void FN(rows_spread)(int64_t pitch, vf *to, int64_t rows) {
    for (int64_t i = rows - 1; i >= 0; i--) { /* a row lies behind the numbers of those before it */
        vf x = ((const float *)to)[i];
        for (int64_t v = 0; v < pitch; v++) to[i * pitch + v] = x;
    }
}

static void FN(rows_load)(int64_t width, int one, vf *to, const RowsOperand *operand, int64_t outer, int64_t first, int64_t rows) {
    int64_t pitch = FN(rows_pitch)(width), whole = width / VL;
    int lanes = (int)(width % VL);
    const float *from = operand->data + outer * operand->outer + first * operand->inner;
    if (!operand->column) {
        for (int64_t i = 0; i < rows; i++, from += operand->inner) ((float *)to)[i] = *from;
        if (!one) FN(rows_spread)(pitch, to, rows);
    } else
        for (int64_t i = 0; i < rows; i++, from += operand->inner, to += pitch) {
            for (int64_t v = 0; v < whole; v++) to[v] = *(const vu *)(from + v * VL);
            if (lanes) to[whole] = FN(some)(from + whole * VL, lanes);
        }
}

static void FN(rows_store)(int64_t width, int one, const RowsOperand *operand, const vf *a, int64_t outer, int64_t first, int64_t rows) {
    int64_t pitch = FN(rows_pitch)(width), whole = width / VL;
    int lanes = (int)(width % VL);
    float *to = operand->data + outer * operand->outer + first * operand->inner;
    const float *numbers = (const float *)a;
    if (!operand->column)
        for (int64_t i = 0; i < rows; i++, to += operand->inner) *to = numbers[one ? i : i * pitch * VL];
    else if (one)
        for (int64_t i = 0; i < rows; i++, to += operand->inner)
            for (int64_t c = 0; c < width; c++) to[c] = numbers[i];
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
    int64_t size = r->block * r->pitch / VL, width = step->width, pitch = FN(rows_pitch)(width);
    int one = step->one & ROWS_ONE, kinds = step->one & (ROWS_ONE_A | ROWS_ONE_B | ROWS_ONE_C);
    int64_t n = one ? (rows + VL - 1) / VL : rows * pitch;
    vf *to = registers + step->to * size;
    const vf *a = registers + step->a * size, *b = registers + step->b * size, *c = registers + step->c * size;
    const float *a1 = (const float *)a, *b1 = (const float *)b, *c1 = (const float *)c;
    vf value = step->value, unused;
    /* Of one operand, which is of the result's kind. */
#define EACH(X)                                    \
    for (int64_t i = 0; i < n; i++) {              \
        vf x = a[i];                               \
        to[i] = X;                                 \
    }                                              \
    break
    /* Rows of a result that may take the place of an operand of one number a row: each lies behind the numbers of those before it. */
#define ROWS_OF(NUMBERS, VECTORS)                       \
    for (int64_t i = rows - 1, at; i >= 0; i--) {       \
        NUMBERS;                                        \
        for (int64_t v = 0; v < pitch; v++) {           \
            at = i * pitch + v;                         \
            VECTORS;                                    \
        }                                               \
    }
#define BOTH(X)                                                                  \
    if (one || !kinds)                                                           \
        for (int64_t i = 0; i < n; i++) {                                        \
            vf x = a[i], y = b[i];                                               \
            to[i] = X;                                                           \
        }                                                                        \
    else if (kinds == ROWS_ONE_A)                                                \
        ROWS_OF(vf x = a1[i], vf y = b[at]; to[at] = X)                          \
    else                                                                         \
        ROWS_OF(vf y = b1[i], vf x = a[at]; to[at] = X)                          \
    break
    switch (step->op) {
    case ROWS_LOAD: FN(rows_load)(width, one, to, r->operands + step->a, outer, first, rows); break;
    case ROWS_STORE: FN(rows_store)(width, kinds & ROWS_ONE_A, r->operands + step->to, a, outer, first, rows); break;
    case ROWS_TOTAL: FN(rows_total)(width, r->operands + step->to, a, outer, first, rows); break;
    case ROWS_ADD: BOTH(x + y);
    case ROWS_SUBTRACT: BOTH(x - y);
    case ROWS_MULTIPLY: BOTH(x * y);
    case ROWS_DIVIDE: BOTH(x / y);
    case ROWS_ADD_VALUE: EACH(x + value);
    case ROWS_MULTIPLY_VALUE: EACH(x * value);
    case ROWS_SILU: EACH(x * FN(sigmoidv)(x));
    case ROWS_TANH: EACH(FN(tanhv)(x));
    case ROWS_SOFTPLUS: EACH(FN(softplusv)(x, &unused));
    case ROWS_SIGMOID: EACH(FN(sigmoidv)(x));
    case ROWS_RELU: EACH(x < 0.0f ? (vf)0.0f : x);
    case ROWS_GELU: EACH(FN(geluv)(x));
    case ROWS_SQRT: EACH(FN(sqrtv)(x));
    case ROWS_EXP: EACH(FN(expv)(x));
    case ROWS_SUM:
        for (int64_t i = 0; i < rows; i += VL)
            to[i / VL] = FN(row_sums)(a + i * pitch, a, FN(zeros), rows - i < VL ? rows - i : VL, pitch, width);
        break;
    case ROWS_DOT:
        for (int64_t i = 0; i < rows; i += VL)
            to[i / VL] = FN(row_products)(a + i * pitch, b + i * pitch, FN(zeros), rows - i < VL ? rows - i : VL, pitch, width);
        break;
    case ROWS_MOST:
        for (int64_t i = 0; i < rows; i++) ((float *)to)[i] = FN(row_most)(a + i * pitch, width);
        break;
    case ROWS_NORM: FN(rows_norm)(width, to, a, rows, step->value, 1); break;
    case ROWS_RMS: FN(rows_norm)(width, to, a, rows, step->value, 0); break;
    case ROWS_POSITIVE: EACH(x > 0.0f ? (vf)1.0f : (vf)0.0f);
    case ROWS_GELU_SLOPE: EACH(FN(gelu_slopev)(x));
    case ROWS_EQUAL: BOTH(x == y ? (vf)1.0f : (vf)0.0f);
    case ROWS_NORM_SLOPE: FN(rows_norm_slope)(width, to, a, b, rows, step->value, 1); break;
    case ROWS_RMS_SLOPE: FN(rows_norm_slope)(width, to, a, b, rows, step->value, 0); break;
    case ROWS_LINEAR: FN(rows_linear)(r->products + step->b, width, to, a, rows); break;
    case ROWS_MULTIPLY_ADD: /* a is of one number a row where b is, too */
        if (one || !kinds)
            for (int64_t i = 0; i < n; i++) to[i] = a[i] * b[i] + c[i];
        else if (kinds == ROWS_ONE_B)
            ROWS_OF(vf y = b1[i], to[at] = a[at] * y + c[at])
        else if (kinds == ROWS_ONE_C)
            ROWS_OF(vf z = c1[i], to[at] = a[at] * b[at] + z)
        else if (kinds == (ROWS_ONE_B | ROWS_ONE_C))
            ROWS_OF(vf y = b1[i]; vf z = c1[i], to[at] = a[at] * y + z)
        else
            ROWS_OF(vf x = a1[i] * b1[i], to[at] = x + c[at])
        break;
    case ROWS_SPREAD: FN(rows_spread)(pitch, to, rows); break;
    }
#undef EACH
#undef BOTH
#undef ROWS_OF
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
