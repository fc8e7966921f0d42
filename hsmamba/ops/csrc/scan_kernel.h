/* The kernels for one vector width VL, in names that end in LEVEL. Included by scan.c once for each level.

   A vector holds one quantity of VL neighbouring channels of a group, which share B and C. For a block of STEPS time steps,
   everything that depends on channel and time is turned into tiles [step][channel]; then, for a few states at a time, the
   recurrence runs over the tile with the state in registers. Exponentials are the bulk of the work: exp(dt A) is computed as
   2^(dt A log2(e)) once in the forward and once in the backward, which recomputes the states of a block from its checkpoint.

   The last vector of a group may have dead lanes. Their sequences are zeros, but A and D are the next group's, and B and C may
   be infinite or NaN: nothing that dead lanes compute is stored, and no sum takes it in. */

#define TILES (10 + 2 * BACKWARD_MANY) /* tiles [STEPS][VL] that one block of the backward works on */

INLINE void FN(load_block)(vf *tile, const Sequence *s, int64_t batch, int64_t c, int64_t start, int lanes, int steps) {
    FN(load_tile)(tile, s->data + batch * s->batch + c * s->channel + start * s->step, s->channel, s->step, lanes, steps);
}

INLINE void FN(store_block)(const Sequence *s, int64_t batch, int64_t c, int64_t start, int lanes, int steps, const vf *tile) {
    FN(store_tile)(s->data + batch * s->batch + c * s->channel + start * s->step, s->channel, s->step, lanes, steps, tile);
}

/* Ask for the block's rows of the next vector of channels while this one is worked on: they are too short for the processor
   to guess. */
INLINE void FN(fetch)(const Sequence *s, int64_t batch, int64_t c, int64_t end, int64_t start, int steps) {
    if (s->step != 1) return;
    const float *from = s->data + batch * s->batch + start;
    for (int64_t i = c; i < end && i < c + VL; i++)
        for (int t = 0; t < steps; t += 16) __builtin_prefetch(from + i * s->channel + t);
}

/* The time step and what enters the state: dt = softplus(delta + bias), x = dt u. */
INLINE void FN(prepare)(const Scan *s, int64_t batch, int64_t c, int64_t start, int lanes, int steps, vf *dt, vf *u, vf *slope) {
    FN(load_block)(dt, &s->delta, batch, c, start, lanes, steps);
    FN(load_block)(u, &s->u, batch, c, start, lanes, steps);
    vf bias = FN(only)(*(const vu *)(s->bias + c), FN(live_lanes)(lanes));
    for (int t = 0; t < steps; t++) {
        dt[t] += bias;
        vf derivative = 1.0f;
        if (s->softplus) dt[t] = FN(softplusv)(dt[t], &derivative);
        slope[t] = derivative;
    }
}

/* What the states of one vector of channels share over a block of steps. */
typedef struct {
    int64_t c, slot;
    int steps;
    vi live;
    const vf *dt, *x, *dy;
    vf *y, *through_input, *through_decay; /* y: null where the backward needs none */
    vf *before, *decay;                    /* [t][state]: the state before a step, and exp(dt A) */
} FN(Block);

/* K states from k on over a block: y[t] += sum of C h, and h moves on. */
#define FORWARD_STATES(NAME, K)                                                                              \
    static void FN(NAME)(const Scan *s, const FN(Block) *o, int64_t k0, const float *B, const float *C, vf *h) { \
        const vf *dt = o->dt, *x = o->x;                                                                     \
        vf *y = o->y, state[K], rate[K];                                                                     \
        B += k0 * STEPS, C += k0 * STEPS, h += k0;                                                           \
        for (int k = 0; k < K; k++) state[k] = h[k], rate[k] = *(const vu *)(s->A + (k0 + k) * s->row + o->c) * LOG2E; \
        for (int t = 0; t < o->steps; t++) {                                                                 \
            vf step = dt[t], in = x[t], sum = y[t];                                                          \
            for (int k = 0; k < K; k++) {                                                                    \
                state[k] = FN(exp2v)(step * rate[k]) * state[k] + in * B[k * STEPS + t];                     \
                sum += state[k] * C[k * STEPS + t];                                                          \
            }                                                                                                \
            y[t] = sum;                                                                                      \
        }                                                                                                    \
        for (int k = 0; k < K; k++) h[k] = state[k];                                                         \
    }
FORWARD_STATES(forward_one, 1)
FORWARD_STATES(forward_many, FORWARD_MANY)
#undef FORWARD_STATES

/* What one task covers: the channels of one part of one group, of one sample. */
typedef struct {
    int64_t batch, group, part, first_channel, end_channel;
} FN(Task);

INLINE FN(Task) FN(task)(const Scan *s, int64_t index) {
    FN(Task) t;
    int64_t per_group = s->d / s->g, blocks = (per_group + VL - 1) / VL;
    t.batch = index % s->b;
    t.part = index / s->b % s->parts;
    t.group = index / s->b / s->parts;
    int64_t begin = blocks * t.part / s->parts * VL, end = blocks * (t.part + 1) / s->parts * VL;
    t.first_channel = t.group * per_group + begin;
    t.end_channel = t.group * per_group + (end < per_group ? end : per_group);
    return t;
}

INLINE int FN(steps)(const Scan *s, int64_t block) {
    int64_t left = s->l - block * STEPS;
    return left < STEPS ? (int)left : STEPS;
}

/* rows[state * STEPS + t] of a block of B or C. */
static void FN(load_projection)(float *rows, const Scan *s, const Projection *p, const FN(Task) *task, int64_t block) {
    const float *src = p->data + task->batch * p->batch + task->group * p->group + block * STEPS * p->step;
    int steps = FN(steps)(s, block);
    for (int64_t k = 0; k < s->n; k++)
        for (int t = 0; t < steps; t++) rows[k * STEPS + t] = src[k * p->state + t * p->step];
}

/* h[n] of each vector of the task from (b, d, n), or zeros. */
INLINE void FN(first_states)(const Scan *s, const FN(Task) *task, const float *from, vf *h) {
    for (int64_t c = task->first_channel; c < task->end_channel; c += VL, h += s->n) {
        int lanes = task->end_channel - c < VL ? (int)(task->end_channel - c) : VL;
        if (from)
            FN(load_tile)(h, from + (task->batch * s->d + c) * s->n, s->n, 1, lanes, (int)s->n);
        else
            for (int64_t k = 0; k < s->n; k++) h[k] = 0.0f;
    }
}

INLINE void FN(last_states)(const Scan *s, const FN(Task) *task, float *to, const vf *h) {
    for (int64_t c = task->first_channel; c < task->end_channel; c += VL, h += s->n) {
        int lanes = task->end_channel - c < VL ? (int)(task->end_channel - c) : VL;
        FN(store_tile)(to + (task->batch * s->d + c) * s->n, s->n, 1, lanes, (int)s->n, h);
    }
}

/* One block of steps of one vector of channels. */
static void FN(forward_block)(const Scan *s, int64_t batch, int64_t c, int lanes, int64_t start, int steps, const float *B, const float *C, vf *h, vf *tiles) {
    vf *dt = tiles, *u = dt + STEPS, *x = u + STEPS, *y = x + STEPS, *slope = y + STEPS;
    int64_t n = s->n, k = 0;
    FN(prepare)(s, batch, c, start, lanes, steps, dt, u, slope);
    vf D = s->D ? *(const vu *)(s->D + c) : (vf)0.0f;
    for (int t = 0; t < steps; t++) x[t] = dt[t] * u[t], y[t] = s->D ? D * u[t] : (vf)0.0f;
    FN(Block) block = {.c = c, .steps = steps, .dt = dt, .x = x, .y = y};
    for (; k + FORWARD_MANY <= n; k += FORWARD_MANY) FN(forward_many)(s, &block, k, B, C, h);
    for (; k < n; k++) FN(forward_one)(s, &block, k, B, C, h);
    if (s->z.data) {
        FN(load_block)(u, &s->z, batch, c, start, lanes, steps);
        for (int t = 0; t < steps; t++) y[t] *= u[t] * FN(sigmoidv)(u[t]);
    }
    FN(store_block)(&s->y, batch, c, start, lanes, steps, y);
}

/* Blocks that a task works on before it turns to the next vector of channels: so many that what they share fits `bytes`.
   Then the rows of a vector are read and written in long runs. A scan without states shares nothing. */
INLINE int64_t FN(span)(const Scan *s, int64_t bytes, int64_t bytes_per_block) {
    int64_t blocks = (s->l + STEPS - 1) / STEPS, span = bytes_per_block ? bytes / bytes_per_block : blocks;
    return span < 1 ? 1 : span < blocks ? span : blocks;
}
#define FORWARD_SPAN(s) FN(span)(s, 1 << 15, 8 * (s)->n * STEPS)
#define BACKWARD_SPAN(s) FN(span)(s, 1 << 18, 8 * (s)->n * STEPS * VL)

static void FN(forward_task)(const Scan *s, int64_t index, float *scratch) {
    FN(Task) task = FN(task)(s, index);
    int64_t n = s->n, blocks = (s->l + STEPS - 1) / STEPS, span = FORWARD_SPAN(s);
    float *B = scratch, *C = scratch + span * n * STEPS;
    vf *tiles = (vf *)(scratch + 2 * span * n * STEPS), *h = tiles + TILES * STEPS;
    FN(first_states)(s, &task, s->first, h);
    for (int64_t first = 0; first < blocks; first += span) {
        int64_t end = first + span < blocks ? first + span : blocks;
        for (int64_t block = first; block < end; block++) {
            FN(load_projection)(B + (block - first) * n * STEPS, s, &s->B, &task, block);
            FN(load_projection)(C + (block - first) * n * STEPS, s, &s->C, &task, block);
        }
        vf *state = h;
        for (int64_t c = task.first_channel; c < task.end_channel; c += VL, state += n) {
            int lanes = task.end_channel - c < VL ? (int)(task.end_channel - c) : VL;
            for (int64_t block = first; block < end; block++) {
                int64_t rows = (block - first) * n * STEPS;
                int64_t start = block * STEPS;
                int steps = FN(steps)(s, block);
                FN(fetch)(&s->u, task.batch, c + VL, task.end_channel, start, steps);
                FN(fetch)(&s->delta, task.batch, c + VL, task.end_channel, start, steps);
                FN(fetch)(&s->y, task.batch, c + VL, task.end_channel, start, steps);
                if (s->checkpoints) FN(store_states)(s->checkpoints + (task.batch * blocks + block) * n * s->d + c, s->d, lanes, n, state);
                FN(forward_block)(s, task.batch, c, lanes, start, steps, B + rows, C + rows, state, tiles);
            }
        }
    }
    FN(last_states)(s, &task, s->last, h);
}

/* Gradients of K states from k on over a block. The states before each step and the decays are recomputed, then time runs
   back. g is the gradient of the state; through_input collects the gradient of dt u, through_decay that of dt by the decay.
   LIVE(x) is x with zeros in the dead lanes, or x where a vector has none. */
#define BACKWARD_STATES(NAME, K, LIVE)                                                                       \
    static void FN(NAME)(const Scan *s, const FN(Block) *o, int64_t k0, const float *B, const float *C,      \
                         const vf *h, vf *dh, vf *dB, vf *dC) {                                             \
        const vf *dt = o->dt, *x = o->x, *dy = o->dy;                                                        \
        vf *before = o->before, *decay = o->decay, *y = o->y;                                                \
        vf state[K], rate[K], g[K], sum[K];                                                                  \
        B += k0 * STEPS, C += k0 * STEPS, dB += k0 * STEPS, dC += k0 * STEPS;                                \
        for (int k = 0; k < K; k++) state[k] = h[k0 + k], rate[k] = *(const vu *)(s->A + (k0 + k) * s->row + o->c) * LOG2E; \
        for (int t = 0; t < o->steps; t++)                                                                   \
            for (int k = 0; k < K; k++) {                                                                    \
                vf a = FN(exp2v)(dt[t] * rate[k]);                                                           \
                before[t * K + k] = state[k];                                                                \
                decay[t * K + k] = a;                                                                        \
                state[k] = a * state[k] + x[t] * B[k * STEPS + t];                                           \
                if (y) y[t] += state[k] * C[k * STEPS + t];                                                  \
            }                                                                                                \
        for (int k = 0; k < K; k++)                                                                          \
            g[k] = dh[k0 + k], sum[k] = 0.0f, rate[k] = *(const vu *)(s->A + (k0 + k) * s->row + o->c);      \
        for (int t = o->steps - 1; t >= 0; t--) {                                                            \
            vf from_y = dy[t], in = x[t], step = dt[t], to_x = o->through_input[t], to_dt = o->through_decay[t]; \
            for (int k = 0; k < K; k++) {                                                                    \
                g[k] += from_y * C[k * STEPS + t];                                                           \
                dC[k * STEPS + t] += from_y * LIVE(state[k]);                                                \
                dB[k * STEPS + t] += in * LIVE(g[k]);                                                        \
                to_x += g[k] * B[k * STEPS + t];                                                             \
                g[k] *= decay[t * K + k];                                                                    \
                state[k] = before[t * K + k];                                                                \
                vf q = g[k] * state[k];                                                                      \
                to_dt += q * rate[k];                                                                        \
                sum[k] += q * step;                                                                          \
            }                                                                                                \
            o->through_input[t] = to_x, o->through_decay[t] = to_dt;                                         \
        }                                                                                                    \
        for (int k = 0; k < K; k++) {                                                                        \
            dh[k0 + k] = g[k];                                                                               \
            *(vu *)(s->dA + (o->slot * s->n + k0 + k) * s->row + o->c) += LIVE(sum[k]);                      \
        }                                                                                                    \
    }
#define ALL_LIVE(x) (x)
#define SOME_LIVE(x) FN(only)(x, o->live)
BACKWARD_STATES(backward_one, 1, ALL_LIVE)
BACKWARD_STATES(backward_many, BACKWARD_MANY, ALL_LIVE)
BACKWARD_STATES(backward_one_partly, 1, SOME_LIVE)
BACKWARD_STATES(backward_many_partly, BACKWARD_MANY, SOME_LIVE)
#undef ALL_LIVE
#undef SOME_LIVE
#undef BACKWARD_STATES

/* One block of steps of one vector of channels, back in time; h holds the states before the block. */
static void FN(backward_block)(const Scan *s, int64_t slot, int64_t batch, int64_t c, int lanes, int64_t start, int steps, const float *B,
                               const float *C, const vf *h, vf *dh, vf *dB, vf *dC, vf *tiles) {
    vf *dt = tiles, *u = dt + STEPS, *x = u + STEPS, *dy = x + STEPS, *slope = dy + STEPS, *y = slope + STEPS, *in = y + STEPS;
    vf *out = in + STEPS, *z = out + STEPS, *gate = z + STEPS, *history = gate + STEPS;
    int64_t n = s->n, k = 0;
    int gated = s->z.data != 0;
    FN(prepare)(s, batch, c, start, lanes, steps, dt, u, slope);
    FN(load_block)(dy, &s->dy, batch, c, start, lanes, steps);
    vf D = s->D ? *(const vu *)(s->D + c) : (vf)0.0f, dD = 0.0f, dbias = 0.0f;
    vi live = FN(live_lanes)(lanes);
    if (gated) {
        FN(load_block)(z, &s->z, batch, c, start, lanes, steps);
        for (int t = 0; t < steps; t++) {
            vf sigmoid = FN(sigmoidv)(z[t]);
            gate[t] = dy[t] * sigmoid * (1.0f + z[t] * (1.0f - sigmoid)); /* becomes the gradient of z once y is known */
            dy[t] *= z[t] * sigmoid;
            y[t] = s->D ? D * u[t] : (vf)0.0f;
        }
    }
    for (int t = 0; t < steps; t++) x[t] = dt[t] * u[t], in[t] = 0.0f, out[t] = 0.0f;
    FN(Block) block = {c, slot, steps, live, dt, x, dy, gated ? y : (vf *)0, in, out, history, history + BACKWARD_MANY * STEPS};
    if (lanes == VL) {
        for (; k + BACKWARD_MANY <= n; k += BACKWARD_MANY) FN(backward_many)(s, &block, k, B, C, h, dh, dB, dC);
        for (; k < n; k++) FN(backward_one)(s, &block, k, B, C, h, dh, dB, dC);
    } else {
        for (; k + BACKWARD_MANY <= n; k += BACKWARD_MANY) FN(backward_many_partly)(s, &block, k, B, C, h, dh, dB, dC);
        for (; k < n; k++) FN(backward_one_partly)(s, &block, k, B, C, h, dh, dB, dC);
    }
    for (int t = 0; t < steps; t++) {
        dD += dy[t] * u[t];
        out[t] = (out[t] + u[t] * in[t]) * slope[t];
        dbias += out[t];
        in[t] = s->D ? dt[t] * in[t] + D * dy[t] : dt[t] * in[t];
        if (gated) gate[t] *= y[t];
    }
    *(vu *)(s->dD + slot * s->row + c) += FN(only)(dD, live);
    *(vu *)(s->dbias + slot * s->row + c) += FN(only)(dbias, live);
    FN(store_block)(&s->ddelta, batch, c, start, lanes, steps, out);
    FN(store_block)(&s->du, batch, c, start, lanes, steps, in);
    if (gated)
        FN(store_block)(&s->dz, batch, c, start, lanes, steps, gate);
}

/* Sum the lanes of a block's gradient of B or C into its row (n, all steps or 1). */
INLINE void FN(add_lanes)(float *grad, int64_t all_steps, const vf *lanes_of, int64_t n, int64_t start, int steps) {
    for (int64_t k = 0; k < n; k++)
        for (int t = 0; t < steps; t++) {
            const float *lane = (const float *)(lanes_of + k * STEPS + t);
            f4 four = *(const f4 *)lane;
            for (int i = 4; i < VL; i += 4) four += *(const f4 *)(lane + i);
            float sum = (four[0] + four[1]) + (four[2] + four[3]);
            grad[all_steps == 1 ? k : k * all_steps + start + t] += sum;
        }
}

static void FN(backward_task)(const Scan *s, int64_t slot, int64_t index, float *scratch) {
    FN(Task) task = FN(task)(s, index);
    int64_t n = s->n, blocks = (s->l + STEPS - 1) / STEPS, span = BACKWARD_SPAN(s), size = n * STEPS;
    float *B = scratch, *C = scratch + span * size;
    vf *tiles = (vf *)(scratch + 2 * span * size), *dB = tiles + TILES * STEPS, *dC = dB + span * size, *h = dC + span * size, *dh = h + n;
    int64_t cell = (task.part * s->b + task.batch) * s->g + task.group;
    FN(first_states)(s, &task, s->dlast, dh);
    for (int64_t end = blocks; end > 0; end -= span) {
        int64_t first = end > span ? end - span : 0;
        for (int64_t block = first; block < end; block++) {
            FN(load_projection)(B + (block - first) * size, s, &s->B, &task, block);
            FN(load_projection)(C + (block - first) * size, s, &s->C, &task, block);
        }
        for (int64_t i = 0; i < 2 * span * size; i++) dB[i] = 0.0f; /* dC follows it */
        vf *gradient = dh;
        for (int64_t c = task.first_channel; c < task.end_channel; c += VL, gradient += n) {
            int lanes = task.end_channel - c < VL ? (int)(task.end_channel - c) : VL;
            for (int64_t block = end - 1; block >= first; block--) {
                int64_t rows = (block - first) * size;
                int64_t start = block * STEPS;
                int steps = FN(steps)(s, block);
                FN(fetch)(&s->u, task.batch, c + VL, task.end_channel, start, steps);
                FN(fetch)(&s->delta, task.batch, c + VL, task.end_channel, start, steps);
                FN(fetch)(&s->dy, task.batch, c + VL, task.end_channel, start, steps);
                FN(load_states)(h, s->checkpoints + (task.batch * blocks + block) * n * s->d + c, s->d, lanes, n);
                FN(backward_block)(s, slot, task.batch, c, lanes, start, steps, B + rows, C + rows, h, gradient, dB + rows,
                                   dC + rows, tiles);
            }
        }
        for (int64_t block = first; block < end; block++) {
            int64_t rows = (block - first) * size;
            FN(add_lanes)(s->dB + cell * n * s->dB_steps, s->dB_steps, dB + rows, n, block * STEPS, FN(steps)(s, block));
            FN(add_lanes)(s->dC + cell * n * s->dC_steps, s->dC_steps, dC + rows, n, block * STEPS, FN(steps)(s, block));
        }
    }
    if (s->dfirst) FN(last_states)(s, &task, s->dfirst, dh);
}

/* Floats of scratch memory that one thread needs, for forward and backward alike; aligned to 64 bytes. */
EXPORT int64_t FN(hsmamba_scan_scratch)(const Scan *s) {
    int64_t per_group = s->d / s->g, blocks = (per_group + VL - 1) / VL;
    int64_t vectors = (blocks + s->parts - 1) / s->parts + 1;
    int64_t shared = 2 * s->n * STEPS, forward = FORWARD_SPAN(s) * shared, backward = BACKWARD_SPAN(s) * shared * (1 + VL);
    return (forward > backward ? forward : backward) + TILES * STEPS * VL + (1 + vectors) * s->n * VL;
}

/* Run tasks until the counter has passed the last slot. */
EXPORT void FN(hsmamba_scan_forward)(Run *run) {
    const Scan *s = run->scan;
    uint64_t mode = flush_denormals();
    float *scratch = run->scratch + run->scratch_floats * __atomic_fetch_add(&run->next_thread, 1, __ATOMIC_RELAXED);
    int64_t tasks = s->b * s->g * s->parts, slot;
    while ((slot = __atomic_fetch_add(&run->next_slot, 1, __ATOMIC_RELAXED)) < s->slots)
        for (int64_t i = tasks * slot / s->slots; i < tasks * (slot + 1) / s->slots; i++) FN(forward_task)(s, i, scratch);
    restore_mode(mode);
}

EXPORT void FN(hsmamba_scan_backward)(Run *run) {
    const Scan *s = run->scan;
    uint64_t mode = flush_denormals();
    float *scratch = run->scratch + run->scratch_floats * __atomic_fetch_add(&run->next_thread, 1, __ATOMIC_RELAXED);
    int64_t tasks = s->b * s->g * s->parts, slot;
    while ((slot = __atomic_fetch_add(&run->next_slot, 1, __ATOMIC_RELAXED)) < s->slots)
        for (int64_t i = tasks * slot / s->slots; i < tasks * (slot + 1) / s->slots; i++) FN(backward_task)(s, slot, i, scratch);
    restore_mode(mode);
}

/* The peak rate of the exponential, for benchmarks: 2^x of `count` numbers, a multiple of 4 VL, `rounds` times over. */
EXPORT void FN(hsmamba_exp_rounds)(const float *x, float *sums, int64_t count, int64_t rounds) {
    vf sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int64_t r = 0; r < rounds; r++)
        for (int64_t i = 0; i < count; i += 4 * VL)
            for (int k = 0; k < 4; k++) sum[k] += FN(exp2v)(*(const vu *)(x + i + k * VL));
    for (int k = 0; k < 4; k++) *(vu *)(sums + k * VL) = sum[k];
}

/* A number for the structures and functions of the library, which Python describes anew (`INTERFACE` in cpu.py): one more
   with any change of them, so that no library is called by what it does not know. */
EXPORT int32_t FN(hsmamba_interface)(void) { return 8; }

#undef vf
#undef vi
#undef vu
#undef f4
#undef LEVEL
#undef VL
#undef FORWARD_MANY
#undef BACKWARD_MANY
#undef PIXEL_VECTORS
#undef LINEAR_ROWS
#undef LINEAR_VECTORS
#undef FN
#undef JOIN
#undef JOIN2
#undef EXPORT
#undef INLINE
#undef LOG2E
#undef TILES
#undef FORWARD_SPAN
#undef BACKWARD_SPAN
