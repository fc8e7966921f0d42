/* The way back of attention_kernel.h, a row of queries at a time. Weights and the gradients of logits of the whole row are
   kept, so that gradients of keys and values are gathered: each vector of them takes what the queries around it send, and is
   read and written once for a row of the window. Included by scan.c once for each level, after attention_kernel.h.

   With w = softmax(l), l = q k and s the gradient of the result o: dl = w (s v - s o), dq = sum dl k, dk = sum dl q,
   dv = sum w s. The sum of the exponentials is divided out of s, not out of each weight. */

/* What a row of queries keeps: rows of floats with zeros at both ends, where no query is. */
typedef struct {
    float *weights, *slopes, *queries, *grads; /* window^2, window^2, channels and channels rows */
    int64_t row;                               /* floats of one */
} FN(Kept);

INLINE void FN(attend_back)(const AttentionBackward *a, const FN(Kept) *kept, const int d, int64_t g, int64_t y, int64_t x, int lanes) {
    const float *k = a->k.data + g * a->k.group + y * a->k.row + x, *v = a->v.data + g * a->v.group + y * a->v.row + x;
    const float *q = a->q.data + g * a->q.group + y * a->q.row + x, *o = a->out.data + g * a->out.group + y * a->out.row + x;
    const float *grad = a->grad.data + g * a->grad.group + y * a->grad.row + x;
    int64_t place = a->window - 1 + x, window = a->window;
    vf query[MOST_CHANNELS], slope[MOST_CHANNELS], dq[MOST_CHANNELS], sum = 0.0f, most = -__builtin_inff(), along = 0.0f;
    for (int c = 0; c < d; c++) {
        vf exact = FN(some)(q + c * a->q.channel, lanes);
        FN(put)(kept->queries + c * kept->row + place, exact, lanes);
        query[c] = exact * LOG2E, dq[c] = 0.0f;
    }
    for (int64_t i = 0; i < window; i++)
        for (int64_t j = 0; j < window; j++) {
            const float *key = k + i * a->k.row + j;
            vf l = query[0] * FN(some)(key, lanes);
            for (int c = 1; c < d; c++) l += query[c] * FN(some)(key + c * a->k.channel, lanes);
            FN(put)(kept->weights + (i * window + j) * kept->row + place, l, lanes);
            most = l > most ? l : most;
        }
    for (int64_t i = 0; i < window * window; i++) {
        float *at = kept->weights + i * kept->row + place;
        vf weight = FN(exp2v)(FN(some)(at, lanes) - most);
        FN(put)(at, weight, lanes);
        sum += weight;
    }
    for (int c = 0; c < d; c++) {
        slope[c] = FN(some)(grad + c * a->grad.channel, lanes) / sum;
        along += slope[c] * FN(some)(o + c * a->out.channel, lanes);
        FN(put)(kept->grads + c * kept->row + place, slope[c], lanes);
    }
    for (int64_t i = 0; i < window; i++)
        for (int64_t j = 0; j < window; j++) {
            const float *key = k + i * a->k.row + j, *value = v + i * a->v.row + j;
            int64_t at = (i * window + j) * kept->row + place;
            vf dl = -along;
            for (int c = 0; c < d; c++) dl += slope[c] * FN(some)(value + c * a->v.channel, lanes);
            dl *= FN(some)(kept->weights + at, lanes);
            FN(put)(kept->slopes + at, dl, lanes);
            for (int c = 0; c < d; c++) dq[c] += dl * FN(some)(key + c * a->k.channel, lanes);
        }
    for (int c = 0; c < d; c++) FN(put)(a->dq.data + g * a->dq.group + c * a->dq.channel + y * a->dq.row + x, dq[c], lanes);
}

/* Add what the row's queries send to keys and values of one row, `lanes` of them from x on. */
INLINE void FN(gather)(const AttentionBackward *a, const FN(Kept) *kept, const int d, int64_t g, int64_t y, int64_t i, int64_t x, int lanes) {
    float *dk = a->dk.data + g * a->dk.group + (y + i) * a->dk.row + x, *dv = a->dv.data + g * a->dv.group + (y + i) * a->dv.row + x;
    vf to_k[MOST_CHANNELS], to_v[MOST_CHANNELS];
    for (int c = 0; c < d; c++)
        to_k[c] = FN(some)(dk + c * a->dk.channel, lanes), to_v[c] = FN(some)(dv + c * a->dv.channel, lanes);
    for (int64_t j = 0; j < a->window; j++) {
        int64_t from = a->window - 1 + x - j;
        vf weight = *(const vu *)(kept->weights + (i * a->window + j) * kept->row + from);
        vf dl = *(const vu *)(kept->slopes + (i * a->window + j) * kept->row + from);
        for (int c = 0; c < d; c++) {
            to_k[c] += dl * *(const vu *)(kept->queries + c * kept->row + from);
            to_v[c] += weight * *(const vu *)(kept->grads + c * kept->row + from);
        }
    }
    for (int c = 0; c < d; c++) FN(put)(dk + c * a->dk.channel, to_k[c], lanes), FN(put)(dv + c * a->dv.channel, to_v[c], lanes);
}

/* The same for any number of channels, each in a function of its own: Windows takes no more than a page of stack at once. */
NOINLINE void FN(attend_back_any)(const AttentionBackward *a, const FN(Kept) *kept, int64_t g, int64_t y, int64_t x, int lanes) {
    FN(attend_back)(a, kept, (int)a->channels, g, y, x, lanes);
}

NOINLINE void FN(gather_any)(const AttentionBackward *a, const FN(Kept) *kept, int64_t g, int64_t y, int64_t i, int64_t x, int lanes) {
    FN(gather)(a, kept, (int)a->channels, g, y, i, x, lanes);
}

NOINLINE void FN(attend_back_three)(const AttentionBackward *a, const FN(Kept) *kept, int64_t g, int64_t y, int64_t x, int lanes) {
    if (lanes == VL)
        FN(attend_back)(a, kept, 3, g, y, x, VL);
    else
        FN(attend_back)(a, kept, 3, g, y, x, lanes);
}

NOINLINE void FN(gather_three)(const AttentionBackward *a, const FN(Kept) *kept, int64_t g, int64_t y, int64_t i, int64_t x, int lanes) {
    if (lanes == VL)
        FN(gather)(a, kept, 3, g, y, i, x, VL);
    else
        FN(gather)(a, kept, 3, g, y, i, x, lanes);
}

/* One row; where it is as wide as a vector, the last one ends with it and does some pixels again. */
static void FN(attend_row_back)(const AttentionBackward *a, const FN(Kept) *kept, int64_t g, int64_t y) {
    int64_t x = 0, padded = a->width + a->window - 1, three = a->channels == 3, step;
    int lanes = a->width < VL ? (int)a->width : VL;
    for (; x < a->width; x += VL) {
        int64_t at = x + lanes <= a->width ? x : a->width - lanes;
        (three ? FN(attend_back_three) : FN(attend_back_any))(a, kept, g, y, at, lanes);
    }
    for (int64_t i = 0; i < a->window; i++)
        for (x = 0; x < padded; x += step) {
            step = padded - x < VL ? padded - x : VL;
            (three ? FN(gather_three) : FN(gather_any))(a, kept, g, y, i, x, (int)step);
        }
}

EXPORT void FN(hsmamba_attention_backward)(AttentionBackward *a) {
    uint64_t mode = flush_denormals();
    int64_t row = a->scratch_row, offsets = a->window * a->window, g;
    int64_t floats = 2 * (offsets + a->channels) * row;
    float *own = a->scratch + floats * __atomic_fetch_add(&a->next_thread, 1, __ATOMIC_RELAXED);
    FN(Kept) kept = {own, own + offsets * row, own + 2 * offsets * row, 0, row};
    kept.grads = kept.queries + a->channels * row;
    while ((g = __atomic_fetch_add(&a->next_group, 1, __ATOMIC_RELAXED)) < a->groups)
        for (int64_t y = 0; y < a->height; y++) FN(attend_row_back)(a, &kept, g, y);
    restore_mode(mode);
}
