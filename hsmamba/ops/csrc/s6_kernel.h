/* S6 forward: step sizes from their low-rank projection, the recurrence, and the sum over scans, without an array between them.
   Included by scan.c once for each level, after vectors.h. */

/* K states from k on over a block of steps: y[t] += sum of C h, and h moves on. B and C of a step lie at rows[t]. */
#define S6_STATES(NAME, K)                                                                                                           \
    static void FN(NAME)(const S6 *s, const float *A, int64_t k0, const float *const *rows, int steps, const vf *dt, const vf *x,    \
                         vf *y, vf *h) {                                                                                             \
        vf state[K], rate[K];                                                                                                        \
        h += k0;                                                                                                                     \
        for (int k = 0; k < K; k++) state[k] = h[k], rate[k] = *(const vu *)(A + (k0 + k) * s->row) * LOG2E;                         \
        for (int t = 0; t < steps; t++) {                                                                                            \
            const float *B = rows[t] + s->rank + k0, *C = B + s->states;                                                             \
            vf step = dt[t], in = x[t], sum = y[t];                                                                                  \
            _Pragma("clang loop unroll(full)") for (int k = 0; k < K; k++) {                                                         \
                state[k] = FN(exp2_product)(step, rate[k]) * state[k] + in * B[k];                                                   \
                sum += state[k] * C[k];                                                                                              \
            }                                                                                                                        \
            y[t] = sum;                                                                                                              \
        }                                                                                                                            \
        for (int k = 0; k < K; k++) h[k] = state[k];                                                                                 \
    }
S6_STATES(s6_one, 1)
S6_STATES(s6_many, FORWARD_MANY)
#undef S6_STATES

/* The step sizes softplus(bias + weights r) of one vector of channels over a block, and their derivatives by what is in brackets. */
INLINE void FN(s6_steps)(const float *weights, int64_t row, int64_t rank, vf bias, const float *const *rows, int steps, vf *dt, vf *slope,
                         int stride) {
    for (int t = 0; t < steps; t += 8) { /* so many sums stay in registers */
        int some = steps - t < 8 ? steps - t : 8;
        vf sum[8];
        for (int i = 0; i < 8; i++) sum[i] = bias;
        const float *from[8];
        for (int i = 0; i < 8; i++) from[i] = rows[t + (i < some ? i : 0)];
        for (int64_t r = 0; r < rank; r++) {
            vf weight = *(const vu *)(weights + r * row);
            for (int i = 0; i < 8; i++) sum[i] += weight * from[i][r];
        }
        for (int i = 0; i < some; i++) dt[t + i] = FN(softplusv)(sum[i], slope + (t + i) * stride);
    }
}

/* One channel over a block of steps; a vector holds `some` of its states, from the B at rows + k on. */
INLINE void FN(s6_channel)(const S6 *s, int64_t k, const int some, const float *const *rows, int steps, const float *step, const float *in,
                           float *out, vf rate, vf *state) {
    for (int start = 0; start < steps; start += VL) {
        int count = steps - start < VL ? steps - start : VL;
        vf products[VL], h = *state;
        for (int i = 0; i < count; i++) {
            const float *B = rows[start + i] + s->rank + k;
            int64_t at = (start + i) * VL;
            h = FN(exp2_product)(rate, (vf)step[at]) * h + in[at] * FN(some)(B, some);
            products[i] = h * FN(some)(B + s->states, some);
        }
        *state = h;
        for (int i = count; i < VL; i++) products[i] = 0.0f;
        vf sums = FN(sums)(products);
        for (int i = 0; i < count; i++) out[(start + i) * VL] += sums[i];
    }
}

/* The same for the few channels of a vector that is nearly empty: a vector holds states of one channel. */
static void FN(s6_few)(const S6 *s, const float *A, int lanes, const float *const *rows, int steps, const vf *dt, const vf *x, vf *y,
                       vf *h) {
    const float *step = (const float *)dt, *in = (const float *)x;
    for (int64_t k = 0; k < s->states; k += VL) {
        int some = s->states - k < VL ? (int)(s->states - k) : VL;
        float *states = (float *)(h + k), *out = (float *)y;
        for (int c = 0; c < lanes; c++) {
            vf state = 0.0f, rate = 0.0f;
            for (int i = 0; i < VL; i++)
                if (i < some) state[i] = states[i * VL + c], rate[i] = A[(k + i) * s->row + c] * LOG2E;
            if (some == VL)
                FN(s6_channel)(s, k, VL, rows, steps, step + c, in + c, out + c, rate, &state);
            else
                FN(s6_channel)(s, k, some, rows, steps, step + c, in + c, out + c, rate, &state);
            for (int i = 0; i < VL; i++)
                if (i < some) states[i * VL + c] = state[i];
        }
    }
}

/* One block of steps of one scan and one vector of channels. */
static void FN(s6_block)(const S6 *s, int64_t batch, int64_t scan, int64_t c, int lanes, const int32_t *order, const float *const *rows,
                         int steps, vf *h, vf *tiles) {
    vf *dt = tiles, *x = dt + STEPS, *y = x + STEPS;
    int64_t set = s->own * scan, k = 0;
    const float *u = s->u.data + batch * s->u.batch + scan * s->u.scan + c;
    const float *weights = s->steps + set * s->rank * s->row + c, *A = s->A + set * s->states * s->row + c;
    float *out = s->y.data + batch * s->y.batch + scan * s->y.scan + c;
    vf bias = *(const vu *)(s->bias + set * s->row + c), D = *(const vu *)(s->D + set * s->row + c), unused;
    int adds = scan > 0 && s->y.scan == 0;
    FN(s6_steps)(weights, s->row, s->rank, bias, rows, steps, dt, &unused, 0);
    for (int t = 0; t < steps; t++) {
        vf in = FN(some)(u + order[t] * s->u.token, lanes);
        x[t] = dt[t] * in;
        y[t] = D * in;
        if (adds) y[t] += FN(some)(out + order[t] * s->y.token, lanes);
    }
    if (2 * s->channels <= VL && lanes * ((s->states + VL - 1) / VL) * 4 < s->states * 3) {
        FN(s6_few)(s, A, lanes, rows, steps, dt, x, y, h);
        k = s->states;
    }
    for (; k + FORWARD_MANY <= s->states; k += FORWARD_MANY) FN(s6_many)(s, A, k, rows, steps, dt, x, y, h);
    for (; k < s->states; k++) FN(s6_one)(s, A, k, rows, steps, dt, x, y, h);
    for (int t = 0; t < steps; t++) FN(put)(out + order[t] * s->y.token, y[t], lanes);
}

/* Project the driver of one sample and scan: (tokens, projected.token), the rank, then B and C. */
static void FN(s6_project)(const S6 *s, int64_t batch, int64_t scan, float *out) {
    int64_t width = s->rank + 2 * s->states, set = s->own_projection * scan, pitch = s->projected.token;
    Linear l = {.rows = s->tokens, .inputs = s->driver_channels, .outputs = width, .x_row = s->driver.token, .x_column = 1, .out_row = pitch};
    l.x = s->driver.data + batch * s->driver.batch + scan * s->driver.scan;
    l.weights = s->projection + set * pitch * s->driver_channels;
    l.bias = s->shift + set * pitch;
    l.out = out;
    FN(linear_rows)(&l, 0, s->tokens);
}

/* One sample and one part of the channels: scan after scan, so that their sum needs no other thread. */
static void FN(s6_task)(const S6 *s, int64_t task, vf *tiles) {
    vf *h = tiles + 3 * STEPS;
    int64_t batch = task / s->parts, part = task % s->parts, blocks = (s->channels + VL - 1) / VL;
    int64_t later = (s->tokens - 1) / STEPS, first = blocks * part / s->parts * VL, end = blocks * (part + 1) / s->parts * VL;
    end = end < s->channels ? end : s->channels;
    for (int64_t scan = 0; scan < s->scans; scan++) {
        const int32_t *order = s->order + scan * s->tokens;
        const float *projected = s->projected.data + batch * s->projected.batch + scan * s->projected.scan, *rows[STEPS];
        if (s->driver_channels) {
            float *made = (float *)(h + s->states * s->row / VL);
            FN(s6_project)(s, batch, scan, made);
            projected = made;
        }
        for (int64_t i = 0; i < (end - first + VL - 1) / VL * s->states; i++) h[i] = 0.0f;
        for (int64_t start = 0; start < s->tokens; start += STEPS) {
            int steps = s->tokens - start < STEPS ? (int)(s->tokens - start) : STEPS;
            for (int t = 0; t < steps; t++) rows[t] = projected + order[start + t] * s->projected.token;
            vf *state = h;
            for (int64_t c = first; c < end; c += VL, state += s->states) {
                int lanes = end - c < VL ? (int)(end - c) : VL;
                if (s->checkpoints && start)
                    FN(store_states)(s->checkpoints + ((batch * s->scans + scan) * later + start / STEPS - 1) * s->states * s->channels + c,
                                     s->channels, lanes, s->states, state);
                FN(s6_block)(s, batch, scan, c, lanes, order + start, rows, steps, state, tiles);
            }
        }
        const vf *state = h;
        for (int64_t c = first; s->last && c < end; c += VL, state += s->states)
            FN(store_tile)(s->last + ((batch * s->scans + scan) * s->channels + c) * s->states, s->states, 1,
                           end - c < VL ? (int)(end - c) : VL, (int)s->states, state);
    }
}

EXPORT void FN(hsmamba_s6)(S6 *s) {
    uint64_t mode = flush_denormals();
    float *scratch = s->scratch + s->scratch_floats * __atomic_fetch_add(&s->next_thread, 1, __ATOMIC_RELAXED);
    int64_t task;
    while ((task = __atomic_fetch_add(&s->next_task, 1, __ATOMIC_RELAXED)) < s->batches * s->parts) FN(s6_task)(s, task, (vf *)scratch);
    restore_mode(mode);
}
