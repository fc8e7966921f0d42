/* S6 backward: the states of a block of steps are computed again from its checkpoint, then time runs back, as in scan_kernel.h.
   Tokens are read and gradients written in place, in the order of each scan. The gradients of B and C are sums over channels:
   a few states take all vectors of channels in turn, so that what is summed stays in the first-level cache.
   Included by scan.c once for each level, after s6_kernel.h. */

#define S6_TILES 7 /* tiles [STEPS] that a vector of channels keeps over a block */
#define APART(K) ((K) * STEPS + 1024 / VL / 4) /* between arrays of one step's loads and stores: never a multiple of 4096 bytes,
                                                  at which a processor takes them for the same */

/* Gradients of K states from k on of one vector of channels. `vector` holds its tiles and the gradients of its states; LIVE(x)
   is x with zeros in the dead lanes. */
#define S6_STATES_BACK(NAME, K, LIVE)                                                                         \
    static void FN(NAME)(const S6Backward *s, int64_t set, int64_t slot, int64_t c, int64_t k0, int lanes,   \
                         const float *saved, const float *const *rows, int steps, vf *vector, vf *history, vf *sums) { \
        vf *dt = vector, *x = dt + STEPS, *dy = x + STEPS, *in = dy + STEPS, *out = in + STEPS;               \
        vf *dh = vector + S6_TILES * STEPS + k0, *before = history, *decay = before + APART(K);             \
        vf *dB = sums, *dC = dB + APART(K), state[K], rate[K], g[K], sum[K];                                \
        const float *A = s->A + (set * s->states + k0) * s->row + c;                                         \
        float *dA = s->dA + ((slot * (s->own ? s->scans : 1) + set) * s->states + k0) * s->row + c;          \
        vi live = FN(live_lanes)(lanes);                                                                     \
        (void)live;                                                                                          \
        for (int k = 0; k < K; k++) {                                                                        \
            state[k] = saved ? FN(some)(saved + (k0 + k) * s->channels + c, lanes) : (vf)0.0f;               \
            rate[k] = *(const vu *)(A + k * s->row) * LOG2E;                                                 \
        }                                                                                                    \
        for (int t = 0; t < steps; t++) {                                                                    \
            const float *B = rows[t] + s->rank + k0;                                                         \
            vf step = dt[t], enters = x[t];                                                                  \
            for (int k = 0; k < K; k++) {                                                                    \
                vf a = FN(exp2v)(step * rate[k]);                                                            \
                before[t * K + k] = state[k];                                                                \
                decay[t * K + k] = a;                                                                        \
                state[k] = a * state[k] + enters * B[k];                                                     \
            }                                                                                                \
        }                                                                                                    \
        for (int k = 0; k < K; k++) g[k] = dh[k], sum[k] = 0.0f, rate[k] = *(const vu *)(A + k * s->row);    \
        for (int t = steps - 1; t >= 0; t--) {                                                               \
            const float *B = rows[t] + s->rank + k0, *C = B + s->states;                                     \
            vf from_y = dy[t], enters = x[t], step = dt[t], to_x = in[t], to_dt = out[t];                    \
            for (int k = 0; k < K; k++) {                                                                    \
                g[k] += from_y * C[k];                                                                       \
                dC[t * K + k] += from_y * LIVE(state[k]);                                                    \
                dB[t * K + k] += enters * LIVE(g[k]);                                                        \
                to_x += g[k] * B[k];                                                                         \
                g[k] *= decay[t * K + k];                                                                    \
                state[k] = before[t * K + k];                                                                \
                vf q = g[k] * state[k];                                                                      \
                to_dt += q * rate[k];                                                                        \
                sum[k] += q * step;                                                                          \
            }                                                                                                \
            in[t] = to_x, out[t] = to_dt;                                                                    \
        }                                                                                                    \
        for (int k = 0; k < K; k++) dh[k] = g[k], *(vu *)(dA + k * s->row) += LIVE(sum[k]);                  \
    }
#define ALL_LIVE(x) (x)
#define SOME_LIVE(x) FN(only)(x, live)
S6_STATES_BACK(s6_back_one, 1, ALL_LIVE)
S6_STATES_BACK(s6_back_many, BACKWARD_MANY, ALL_LIVE)
S6_STATES_BACK(s6_back_one_partly, 1, SOME_LIVE)
S6_STATES_BACK(s6_back_many_partly, BACKWARD_MANY, SOME_LIVE)
#undef ALL_LIVE
#undef SOME_LIVE
#undef S6_STATES_BACK

/* Gradients of K entries of the rank from r on, and of the weights that make step sizes of them. */
#define S6_RANK_BACK(NAME, K)                                                                                 \
    static void FN(NAME)(const S6Backward *s, int64_t set, int64_t slot, int64_t c, int64_t r, const float *const *rows, int steps, \
                         const vf *ddelta, vf *sums) {                                                       \
        const float *weights = s->steps + (set * s->rank + r) * s->row + c;                                  \
        float *grad = s->dsteps + ((slot * (s->own ? s->scans : 1) + set) * s->rank + r) * s->row + c;       \
        vf weight[K], sum[K];                                                                                \
        for (int k = 0; k < K; k++) weight[k] = *(const vu *)(weights + k * s->row), sum[k] = 0.0f;          \
        for (int t = 0; t < steps; t++) {                                                                    \
            vf slope = ddelta[t];                                                                            \
            for (int k = 0; k < K; k++) sums[t * K + k] += slope * weight[k], sum[k] += slope * rows[t][r + k]; \
        }                                                                                                    \
        for (int k = 0; k < K; k++) *(vu *)(grad + k * s->row) += sum[k];                                    \
    }
S6_RANK_BACK(s6_rank_one, 1)
S6_RANK_BACK(s6_rank_many, BACKWARD_MANY)
#undef S6_RANK_BACK

INLINE f4 FN(quarter)(vf x) {
    const float *lane = (const float *)&x;
    f4 four = *(const f4 *)lane;
    for (int i = 4; i < VL; i += 4) four += *(const f4 *)(lane + i);
    return four;
}

/* Write the sums over lanes of `many` vectors of each step, which are neighbours of its token. */
INLINE void FN(write_sums)(float *first, int64_t token, const int32_t *visits, int steps, int many, const vf *sums) {
    for (int t = 0; t < steps; t++) {
        float *to = first + visits[t] * token;
        int i = 0;
        for (; i + 4 <= many; i += 4) {
            f4 r[4];
            for (int j = 0; j < 4; j++) r[j] = FN(quarter)(sums[t * many + i + j]);
            FN(transpose4)(r);
            *(f4 *)(to + i) = (r[0] + r[1]) + (r[2] + r[3]);
        }
        for (; i < many; i++) {
            f4 four = FN(quarter)(sums[t * many + i]);
            to[i] = (four[0] + four[1]) + (four[2] + four[3]);
        }
    }
}

/* What a block of steps of one vector of channels needs: its tiles dt, x, dy, in, out, u and slope. */
static void FN(s6_enter)(const S6Backward *s, int64_t batch, int64_t scan, int64_t c, int lanes, const int32_t *order,
                         const float *const *rows, int steps, vf *tiles) {
    vf *dt = tiles, *x = dt + STEPS, *dy = x + STEPS, *in = dy + STEPS, *out = in + STEPS, *u = out + STEPS, *slope = u + STEPS;
    int64_t set = s->own * scan;
    const float *from = s->u.data + batch * s->u.batch + scan * s->u.scan + c, *grad = s->dy.data + batch * s->dy.batch + scan * s->dy.scan + c;
    FN(s6_steps)(s->steps + set * s->rank * s->row + c, s->row, s->rank, *(const vu *)(s->bias + set * s->row + c), rows, steps, dt, slope, 1);
    for (int t = 0; t < steps; t++) {
        u[t] = FN(some)(from + order[t] * s->u.token, lanes);
        dy[t] = FN(some)(grad + order[t] * s->dy.token, lanes);
        x[t] = dt[t] * u[t];
        in[t] = out[t] = 0.0f;
    }
}

/* The gradient of u, and in the place of `out` that of the step sizes before bias and softplus. */
static void FN(s6_leave)(const S6Backward *s, int64_t slot, int64_t batch, int64_t scan, int64_t c, int lanes, const int32_t *order,
                         int steps, vf *tiles) {
    vf *dt = tiles, *x = dt + STEPS, *dy = x + STEPS, *in = dy + STEPS, *out = in + STEPS, *u = out + STEPS, *slope = u + STEPS;
    int64_t set = s->own * scan, at = (slot * (s->own ? s->scans : 1) + set) * s->row + c;
    float *du = s->du.data + batch * s->du.batch + scan * s->du.scan + c;
    vi live = FN(live_lanes)(lanes);
    vf D = *(const vu *)(s->D + set * s->row + c), dD = 0.0f, dbias = 0.0f;
    int adds = scan > 0 && s->du.scan == 0;
    for (int t = 0; t < steps; t++) {
        vf step = (out[t] + u[t] * in[t]) * slope[t], to_u = dt[t] * in[t] + D * dy[t];
        float *to = du + order[t] * s->du.token;
        dD += dy[t] * u[t];
        out[t] = FN(only)(step, live);
        dbias += out[t];
        FN(put)(to, adds ? to_u + FN(some)(to, lanes) : to_u, lanes);
    }
    *(vu *)(s->dD + at) += FN(only)(dD, live);
    *(vu *)(s->dbias + at) += dbias;
}

/* One sample and one part of the channels, scan after scan, so that the sum of their gradients needs no other thread. */
static void FN(s6_task_back)(const S6Backward *s, int64_t slot, int64_t task, vf *scratch) {
    int64_t batch = task / s->parts, part = task % s->parts, blocks = (s->channels + VL - 1) / VL, later = (s->tokens - 1) / STEPS;
    int64_t first = blocks * part / s->parts * VL, end = blocks * (part + 1) / s->parts * VL, each = S6_TILES * STEPS + s->states;
    end = end < s->channels ? end : s->channels;
    vf *history = scratch, *sums = history + 2 * APART(BACKWARD_MANY), *vectors = sums + 2 * APART(BACKWARD_MANY), *vector;
    for (int64_t scan = 0; scan < s->scans; scan++) {
        int64_t set = s->own * scan, c;
        const int32_t *order = s->order + scan * s->tokens;
        const float *projected = s->projected.data + batch * s->projected.batch + scan * s->projected.scan, *rows[STEPS];
        float *dprojected = s->dprojected.data + part * s->dprojected_part + batch * s->dprojected.batch + scan * s->dprojected.scan;
        for (c = first, vector = vectors; c < end; c += VL, vector += each) {
            int lanes = end - c < VL ? (int)(end - c) : VL;
            if (s->dlast)
                FN(load_tile)(vector + S6_TILES * STEPS, s->dlast + ((batch * s->scans + scan) * s->channels + c) * s->states, s->states, 1,
                              lanes, (int)s->states);
            else
                for (int64_t k = 0; k < s->states; k++) vector[S6_TILES * STEPS + k] = 0.0f;
        }
        for (int64_t block = later; block >= 0; block--) {
            const int32_t *visits = order + block * STEPS;
            int steps = s->tokens - block * STEPS < STEPS ? (int)(s->tokens - block * STEPS) : STEPS;
            const float *saved = block ? s->checkpoints + ((batch * s->scans + scan) * later + block - 1) * s->states * s->channels : (float *)0;
            for (int t = 0; t < steps; t++) rows[t] = projected + visits[t] * s->projected.token;
            for (c = first, vector = vectors; c < end; c += VL, vector += each)
                FN(s6_enter)(s, batch, scan, c, end - c < VL ? (int)(end - c) : VL, visits, rows, steps, vector);
            for (int64_t k = 0; k < s->states;) {
                int many = k + BACKWARD_MANY <= s->states ? BACKWARD_MANY : 1;
                for (int i = 0; i < 2 * APART(many); i++) sums[i] = 0.0f;
                for (c = first, vector = vectors; c < end; c += VL, vector += each) {
                    int lanes = end - c < VL ? (int)(end - c) : VL;
                    if (lanes == VL && many > 1)
                        FN(s6_back_many)(s, set, slot, c, k, VL, saved, rows, steps, vector, history, sums);
                    else if (lanes == VL)
                        FN(s6_back_one)(s, set, slot, c, k, VL, saved, rows, steps, vector, history, sums);
                    else if (many > 1)
                        FN(s6_back_many_partly)(s, set, slot, c, k, lanes, saved, rows, steps, vector, history, sums);
                    else
                        FN(s6_back_one_partly)(s, set, slot, c, k, lanes, saved, rows, steps, vector, history, sums);
                }
                FN(write_sums)(dprojected + s->rank + k, s->dprojected.token, visits, steps, many, sums);
                FN(write_sums)(dprojected + s->rank + s->states + k, s->dprojected.token, visits, steps, many, sums + APART(many));
                k += many;
            }
            for (c = first, vector = vectors; c < end; c += VL, vector += each)
                FN(s6_leave)(s, slot, batch, scan, c, end - c < VL ? (int)(end - c) : VL, visits, steps, vector);
            for (int64_t r = 0; r < s->rank;) {
                int many = r + BACKWARD_MANY <= s->rank ? BACKWARD_MANY : 1;
                for (int i = 0; i < many * STEPS; i++) sums[i] = 0.0f;
                for (c = first, vector = vectors; c < end; c += VL, vector += each)
                    (many > 1 ? FN(s6_rank_many) : FN(s6_rank_one))(s, set, slot, c, r, rows, steps, vector + 4 * STEPS, sums);
                FN(write_sums)(dprojected + r, s->dprojected.token, visits, steps, many, sums);
                r += many;
            }
        }
    }
}

EXPORT void FN(hsmamba_s6_backward)(S6Backward *s) {
    uint64_t mode = flush_denormals();
    float *scratch = s->scratch + s->scratch_floats * __atomic_fetch_add(&s->next_thread, 1, __ATOMIC_RELAXED);
    int64_t tasks = s->batches * s->parts, slot;
    while ((slot = __atomic_fetch_add(&s->next_slot, 1, __ATOMIC_RELAXED)) < s->slots)
        for (int64_t i = tasks * slot / s->slots; i < tasks * (slot + 1) / s->slots; i++) FN(s6_task_back)(s, slot, i, (vf *)scratch);
    restore_mode(mode);
}

#undef APART
#undef S6_TILES
