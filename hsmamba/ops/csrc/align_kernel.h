/* RAMSF's alignment in training, forward and back, a block of coarse pixels at a time. Included by scan.c once for each level,
   after linear_kernel.h. */

/* A product of few rows. */
NOINLINE void FN(small_product)(const Linear *l) { FN(linear_rows)(l, 0, l->rows); }

/* x W, and what is after it; `weights` (inputs, outputs) with neighbouring columns. */
INLINE Linear FN(small_linear)(int64_t rows, int64_t inputs, int64_t outputs, const float *x, int64_t x_row, int64_t x_column, const float *weights,
                               int64_t weights_row, float *out, int64_t out_row) {
    Linear l = {0};
    l.rows = rows, l.inputs = inputs, l.outputs = outputs;
    l.x = x, l.x_row = x_row, l.x_column = x_column;
    l.weights = weights, l.weights_row = weights_row;
    l.out = out, l.out_row = out_row;
    return l;
}

/* One corner (i, j) of some coarse pixels. */
typedef struct {
    int64_t image, first, count, i, j;
} FN(Corner);

INLINE int64_t FN(fine_at)(const Align *a, const FN(Corner) *c, int64_t at) {
    int64_t pixel = c->first + at, row = 2 * (pixel / a->width) + c->i, column = 2 * (pixel % a->width) + c->j;
    return (c->image * 2 * a->rows + row) * 2 * a->width + column;
}

INLINE int64_t FN(coarse_at)(const Align *a, const FN(Corner) *c, int64_t at, int64_t neighbour) {
    int64_t pixel = c->first + at, row = pixel / a->width + c->i + neighbour / 2, column = pixel % a->width + c->j + neighbour % 2;
    return (c->image * (a->rows + 2) + row) * (a->width + 2) + column;
}

/* The first layer, one neighbour after the other. */
static void FN(align_hidden)(const Align *a, const FN(Corner) *c, float *hidden) {
    for (int64_t k = 0; k < 4; k++)
        for (int64_t at = 0; at < c->count; at++, hidden += a->hidden) {
            const float *fine = a->fine + FN(fine_at)(a, c, at) * a->hidden, *coarse = a->coarse + FN(coarse_at)(a, c, at, k) * a->hidden;
            for (int64_t m = 0; m < a->hidden; m += VL) {
                vf x = *(const vu *)(fine + m) + *(const vu *)(coarse + m);
                *(vu *)(hidden + m) = x > 0.0f ? x : (vf)0.0f;
            }
        }
}

/* The shares of the four neighbours, in the first four lanes. */
INLINE void FN(align_shares)(const Align *a, int64_t count, const float *o, int64_t at, float *shares) {
    float most = -__builtin_inff(), sum = 0.0f;
    vf logits = 0.0f;
    for (int k = 0; k < 4; k++) {
        logits[k] = o[(k * count + at) * a->pitch + a->answers - 1];
        most = logits[k] > most ? logits[k] : most;
    }
    vf e = FN(exp_negative)(logits - most);
    for (int k = 0; k < 4; k++) sum += e[k];
    for (int k = 0; k < 4; k++) shares[k] = e[k] / sum;
}

static void FN(align_average)(const Align *a, const FN(Corner) *c, const float *o) {
    int64_t values = a->answers - 1;
    for (int64_t at = 0; at < c->count; at++) {
        float shares[4], *out = a->out + FN(fine_at)(a, c, at) * values;
        FN(align_shares)(a, c->count, o, at, shares);
        for (int64_t v = 0; v < values; v += VL) {
            vf sum = 0.0f;
            for (int k = 0; k < 4; k++) sum += shares[k] * *(const vu *)(o + (k * c->count + at) * a->pitch + v);
            FN(put)(out + v, sum, values - v < VL ? (int)(values - v) : VL);
        }
    }
}

/* Gradients of the answers, (4 count, pitch), from that of their average. */
static void FN(align_average_back)(const Align *a, const FN(Corner) *c, const float *o, float *to) {
    int64_t values = a->answers - 1;
    for (int64_t at = 0; at < c->count; at++) {
        float shares[4], along[4], mean = 0.0f;
        const float *grad = a->out + FN(fine_at)(a, c, at) * values;
        FN(align_shares)(a, c->count, o, at, shares);
        for (int k = 0; k < 4; k++) {
            int64_t row = (k * c->count + at) * a->pitch;
            vf sum = 0.0f;
            for (int64_t v = 0; v < values; v += VL) {
                vf slope = FN(some)(grad + v, values - v < VL ? (int)(values - v) : VL);
                sum += slope * *(const vu *)(o + row + v);
                *(vu *)(to + row + v) = slope * shares[k];
            }
            along[k] = 0.0f;
            for (int i = 0; i < VL; i++) along[k] += sum[i];
            mean += shares[k] * along[k];
        }
        for (int k = 0; k < 4; k++) to[(k * c->count + at) * a->pitch + values] = shares[k] * (along[k] - mean);
    }
}

/* Add the columns of rows to `sums`; `columns` are whole vectors. */
INLINE void FN(align_sums)(const float *rows, int64_t count, int64_t columns, float *sums) {
    for (int64_t m = 0; m < columns; m += VL) {
        vf sum = *(const vu *)(sums + m);
        for (int64_t row = 0; row < count; row++) sum += *(const vu *)(rows + row * columns + m);
        *(vu *)(sums + m) = sum;
    }
}

/* Zeros where the rectified values are not above 0. */
INLINE void FN(align_rectify)(float *slopes, const float *values, int64_t floats) {
    for (int64_t m = 0; m < floats; m += VL) {
        vf value = *(const vu *)(values + m);
        *(vu *)(slopes + m) = value > 0.0f ? *(const vu *)(slopes + m) : (vf)0.0f;
    }
}

/* Gradients of the first layer's two parts, of which no other block has the fine one. */
static void FN(align_spread)(const Align *a, const FN(Corner) *c, const float *slopes, const float *hidden, float *dcoarse) {
    for (int64_t at = 0; at < c->count; at++) {
        float *dfine = a->dfine + FN(fine_at)(a, c, at) * a->hidden, *near[4];
        for (int k = 0; k < 4; k++) near[k] = dcoarse + FN(coarse_at)(a, c, at, k) * a->hidden;
        for (int64_t m = 0; m < a->hidden; m += VL) {
            vf sum = 0.0f;
            for (int k = 0; k < 4; k++) {
                int64_t from = (k * c->count + at) * a->hidden + m;
                vf slope = *(const vu *)(hidden + from) > 0.0f ? *(const vu *)(slopes + from) : (vf)0.0f;
                *(vu *)(near[k] + m) += slope;
                sum += slope;
            }
            *(vu *)(dfine + m) = sum;
        }
    }
}

INLINE int64_t FN(align_blocks)(const Align *a) { return (a->rows * a->width + ALIGN_PIXELS - 1) / ALIGN_PIXELS; }

/* The first corner of a block, and how many rows there are before it. */
INLINE FN(Corner) FN(align_corner)(const Align *a, int64_t task, int64_t corner) {
    int64_t blocks = FN(align_blocks)(a), first = task % blocks * ALIGN_PIXELS, left = a->rows * a->width - first;
    FN(Corner) c = {task / blocks, first, left < ALIGN_PIXELS ? left : ALIGN_PIXELS, corner / 2, corner % 2};
    return c;
}

EXPORT void FN(hsmamba_align)(Align *a) {
    uint64_t mode = flush_denormals();
    float *hidden = a->scratch + a->scratch_floats * __atomic_fetch_add(&a->next_thread, 1, __ATOMIC_RELAXED);
    int64_t tasks = a->images * FN(align_blocks)(a), task;
    while ((task = __atomic_fetch_add(&a->next_task, 1, __ATOMIC_RELAXED)) < tasks)
        for (int64_t corner = 0; corner < 4; corner++) {
            FN(Corner) c = FN(align_corner)(a, task, corner);
            float *z = a->z + (task * 4 + corner) * ALIGN_ROWS * a->second, *o = a->o + (task * 4 + corner) * ALIGN_ROWS * a->pitch;
            FN(align_hidden)(a, &c, hidden);
            Linear l = FN(small_linear)(4 * c.count, a->hidden, a->second, hidden, a->hidden, 1, a->turned, a->second, z, a->second);
            l.bias = a->bias, l.activations = a->rectified;
            FN(small_product)(&l);
            l = FN(small_linear)(4 * c.count, a->second, a->pitch, z, a->second, 1, a->last_turned, a->pitch, o, a->pitch);
            l.bias = a->last_bias;
            FN(small_product)(&l);
            FN(align_average)(a, &c, o);
        }
    restore_mode(mode);
}

/* One corner of a block; z and o are those of the forward. */
static void FN(align_corner_back)(const Align *a, const FN(Corner) *c, int64_t slot, const float *z, const float *o, float *scratch) {
    int64_t rows = 4 * c->count, second = a->second;
    float *hidden = scratch, *slopes = hidden + ALIGN_ROWS * a->hidden, *dz = slopes + ALIGN_ROWS * a->hidden, *dout = dz + ALIGN_ROWS * second;
    float *dlast = a->dlast + slot * a->answers * second, *dweights = a->dweights + slot * second * a->hidden;
    FN(align_hidden)(a, c, hidden);
    FN(align_average_back)(a, c, o, dout);
    Linear l = FN(small_linear)(a->answers, rows, second, dout, 1, a->pitch, z, second, dlast, second);
    l.add = dlast, l.add_row = second;
    FN(small_product)(&l);
    FN(align_sums)(dout, rows, a->pitch, a->dlast_bias + slot * a->pitch);
    l = FN(small_linear)(rows, a->answers, second, dout, a->pitch, 1, a->last, second, dz, second);
    FN(small_product)(&l);
    FN(align_rectify)(dz, z, rows * second);
    FN(align_sums)(dz, rows, second, a->dbias + slot * second);
    l = FN(small_linear)(second, rows, a->hidden, dz, 1, second, hidden, a->hidden, dweights, a->hidden);
    l.add = dweights, l.add_row = a->hidden;
    FN(small_product)(&l);
    l = FN(small_linear)(rows, second, a->hidden, dz, second, 1, a->weights, a->hidden, slopes, a->hidden);
    FN(small_product)(&l);
    FN(align_spread)(a, c, slopes, hidden, a->dcoarse + slot * a->images * (a->rows + 2) * (a->width + 2) * a->hidden);
}

EXPORT void FN(hsmamba_align_backward)(Align *a) {
    uint64_t mode = flush_denormals();
    float *scratch = a->scratch + a->scratch_floats * __atomic_fetch_add(&a->next_thread, 1, __ATOMIC_RELAXED);
    int64_t tasks = a->images * FN(align_blocks)(a), slot;
    for (int64_t m = 0; m < a->scratch_floats; m++) scratch[m] = 0.0f; /* gradients of answers that there are not stay 0 */
    while ((slot = __atomic_fetch_add(&a->next_task, 1, __ATOMIC_RELAXED)) < a->slots)
        for (int64_t task = tasks * slot / a->slots; task < tasks * (slot + 1) / a->slots; task++)
            for (int64_t corner = 0; corner < 4; corner++) {
                FN(Corner) c = FN(align_corner)(a, task, corner);
                int64_t at = (task * 4 + corner) * ALIGN_ROWS;
                FN(align_corner_back)(a, &c, slot, a->z + at * a->second, a->o + at * a->pitch, scratch);
            }
    restore_mode(mode);
}
