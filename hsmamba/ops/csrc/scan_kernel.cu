// The selective scan on a CUDA device, forward and backward:
//
//     h_t = exp(dt_t A) h_{t-1} + dt_t B_t u_t,    y_t = sum_n C_t h_t + D u_t,    times SiLU(z_t) where z is given.
//
// NVRTC compiles it at first use for one form of the arguments; `cuda_scan.py` gives the constants by -D:
//
//     U_T, DELTA_T, Z_T, B_T, C_T   element types: float, half_t or bf16_t
//     HAS_Z, SOFTPLUS, BACKWARD     0 or 1
//     STATES, LANES, WARPS          states of a thread (a multiple of 4), threads of a channel, warps of a block
//     RESIDENT                      warps that a multiprocessor should hold, which limits a thread's registers
//
// A block takes a tile of channels of one group of one sample, and a chunk of time. A thread keeps STATES states of one
// channel in registers and walks along time; the LANES threads of a channel are neighbours in one warp. Exponentials
// bound the forward pass: nothing is computed twice that a parallel prefix over time would compute twice. Time is cut
// into chunks only where there are too few channels to fill the device; a pass before finds the states between them.
//
// The block's tiles of 32 steps of dt, u, B and C are in shared memory. Steps behind the end and channels behind the
// tile's last have dt = u = B = C = 0: the decay is 1 there, the input 0, and the state passes through.

#ifdef __CUDACC_RTC__  // the tests compile this file for the CPU too, and define these themselves

// 2^x; what is below 2^-126 is 0. Two units in the last place, as is the argument's own rounding.
__device__ inline float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ inline float half_to_float(unsigned short bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}

__device__ inline unsigned short float_to_half(float x) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

#endif

typedef long long Int;

struct half_t {  // no cuda_fp16.h: NVRTC has no headers where only the wheel of torch is installed
    unsigned short bits;
};

struct bf16_t {
    unsigned short bits;
};

struct Sequence {  // (b, d, l) with its strides
    void *data;
    Int b, d, l;
    Int larger;  // of d and l
};

struct Weights {  // (b, g, n, l) with its strides, 0 along an axis that all samples or steps share
    void *data;
    Int b, g, n, l;
};

struct Scan {  // cuda_scan.py fills it, in this order
    Int b, g, d, n, l;
    Int blocks;         // checkpoints of a sample, one every T steps
    Int tiles;          // of channels in a group
    Int chunk, chunks;  // steps of a chunk, a multiple of T; chunks of a sample
    Sequence u, delta, z, y, dy, du, ddelta, dz;
    Weights B, C, dB, dC;
    float *A, *D, *bias;  // (d, n), (d,), (d,); D and bias may be null
    float *first;         // (b, d, n) before the first step, or the gradient after the last one; null for zeros
    float *starts;        // (b, chunks, d, n), the same for each chunk; null where there is one chunk
    float *ends, *sums;   // (b, chunks, d, n) and (b, chunks, d): what a chunk makes of zeros; its sum of dt
    float *last;          // (b, d, n) after the last step, or the gradient before the first one; may be null
    float *checkpoints;   // (b, blocks, n, d); null where none are saved
    float *dA, *dD, *dbias;
};

constexpr int T = 32;
constexpr int N = STATES * LANES;
constexpr int THREADS = 32 * WARPS;
constexpr int CHANNELS = THREADS / LANES;  // of a block
constexpr int ROW = T + 4;     // floats of a channel's row in shared memory: rows of 16 bytes, without bank conflicts
constexpr int WEIGHTS = N + 4;  // floats of a step's row of B or C, for the same reason
constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

__device__ inline float load(const float *from) { return __ldg(from); }
__device__ inline float load(const half_t *from) { return half_to_float(__ldg(&from->bits)); }
__device__ inline float load(const bf16_t *from) { return __uint_as_float((unsigned)__ldg(&from->bits) << 16); }

__device__ inline void store(float *to, float x) { *to = x; }
__device__ inline void store(half_t *to, float x) { to->bits = float_to_half(x); }
__device__ inline void store(bf16_t *to, float x) {
    const unsigned bits = __float_as_uint(x);
    const unsigned rounded = bits + 0x7fff + (bits >> 16 & 1);  // to nearest, ties to even
    to->bits = (unsigned short)((x == x ? rounded : bits | 0x400000) >> 16);
}

// STATES numbers, or 4, from or to shared memory in units of 16 bytes.
template <int COUNT>
__device__ __forceinline__ void take(float *x, const float *from) {
#pragma unroll
    for (int i = 0; i < COUNT; i += 4) {
        const float4 four = *reinterpret_cast<const float4 *>(from + i);
        x[i] = four.x, x[i + 1] = four.y, x[i + 2] = four.z, x[i + 3] = four.w;
    }
}

template <int COUNT>
__device__ __forceinline__ void put(float *to, const float *x) {
#pragma unroll
    for (int i = 0; i < COUNT; i += 4)
        *reinterpret_cast<float4 *>(to + i) = make_float4(x[i], x[i + 1], x[i + 2], x[i + 3]);
}

// Sum COUNT values over the lanes that differ in the bits BIT, 2 BIT, ... below END. As long as there are several, each
// of two lanes takes over half of them: COUNT - 1 shuffles, where a sum of each would need log2 of the lanes for each.
// Leaves max(1, COUNT BIT / END) sums in x and returns the index of the first; lanes beyond COUNT have the same.
template <int COUNT, int BIT, int END>
__device__ __forceinline__ int fold(float *x) {
    if constexpr (BIT >= END) {
        return 0;
    } else if constexpr (COUNT == 1) {
        x[0] += __shfl_xor_sync(0xffffffffu, x[0], BIT);
        return fold<1, 2 * BIT, END>(x);
    } else {
        constexpr int HALF = COUNT / 2;
        const bool upper = threadIdx.x & BIT;
#pragma unroll
        for (int i = 0; i < HALF; ++i) {
            const float mine = upper ? x[i + HALF] : x[i], other = upper ? x[i] : x[i + HALF];
            x[i] = mine + __shfl_xor_sync(0xffffffffu, other, BIT);
        }
        return (upper ? HALF : 0) + fold<HALF, 2 * BIT, END>(x);
    }
}

// What a block and a thread work on.
struct Place {
    Int batch;
    int group, chunk, channels, first_channel;  // channels that exist in the block's tile, and its first one
    int begin, end;                             // steps
    int c, s, k;  // the thread's channel in the tile, its number among the channel's threads, its first state
    bool inside, active;  // whether its channel exists, and whether any of its warp does

    __device__ explicit Place(const Scan &scan) {
        const int per_group = (int)(scan.d / scan.g);
        unsigned block = blockIdx.x;
        const int tile = block % (unsigned)scan.tiles;
        block /= (unsigned)scan.tiles;
        group = block % (unsigned)scan.g;
        block /= (unsigned)scan.g;
        chunk = block % (unsigned)scan.chunks;
        batch = block / (unsigned)scan.chunks;
        channels = min(CHANNELS, per_group - tile * CHANNELS);
        first_channel = group * per_group + tile * CHANNELS;
        begin = chunk * (int)scan.chunk;
        end = (int)min(scan.l, (Int)begin + scan.chunk);
        c = threadIdx.x / LANES;
        s = threadIdx.x % LANES;
        k = s * STATES;
        inside = c < channels;
        active = (int)(threadIdx.x / 32 * 32 / LANES) < channels;
    }

    __device__ Int channel() const { return first_channel + c; }

    // Of the thread's first state in (b, d, n), and in (b, chunks, d, n).
    __device__ Int cell(const Scan &scan) const { return (batch * scan.d + channel()) * scan.n + k; }
    __device__ Int chunk_cell(const Scan &scan) const {
        return ((batch * scan.chunks + chunk) * scan.d + channel()) * scan.n + k;
    }

    // A = 0 for what does not exist; times log2(e), as all exponentials are powers of two.
    __device__ void rates(const Scan &scan, float *A) const {
#pragma unroll
        for (int i = 0; i < STATES; ++i)
            A[i] = inside && k + i < scan.n ? LOG2_E * __ldg(scan.A + channel() * scan.n + k + i) : 0.f;
    }

    __device__ float of_channel(const float *x) const { return x && inside ? __ldg(x + channel()) : 0.f; }

    // One number of each of the block's channels; barriers follow before they are read.
    __device__ void gather(float *to, const float *x) const {
        for (int i = threadIdx.x; i < CHANNELS; i += THREADS)
            to[i] = x && i < channels ? __ldg(x + first_channel + i) : 0.f;
    }

    // The state, or gradient, with which the chunk begins.
    __device__ void starts(const Scan &scan, float *h) const {
        const float *from = scan.starts ? scan.starts + chunk_cell(scan) : scan.first ? scan.first + cell(scan) : nullptr;
#pragma unroll
        for (int i = 0; i < STATES; ++i) h[i] = from && inside && k + i < scan.n ? __ldg(from + i) : 0.f;
    }

    __device__ void write(const Scan &scan, float *to, const float *h) const {
#pragma unroll
        for (int i = 0; i < STATES; ++i)
            if (inside && k + i < scan.n) to[i] = h[i];
    }

    // Of the thread's first state in the checkpoints (b, blocks, n, d).
    __device__ Int checkpoint(const Scan &scan, int t0) const {
        return ((batch * scan.blocks + t0 / T) * scan.n + k) * scan.d + channel();
    }
};

// Four elements of a tile of a block's channels and T steps: (c + i, t) in a sequence that is contiguous along steps,
// (c, t + i) in one that is contiguous along channels, so that neighbouring threads read neighbouring numbers.
struct Four {
    int c, t, count;  // how many of them exist, counted from the first one on
    bool along_steps;

    __device__ Four(bool along, int round, const Place &at, int t0) : along_steps(along) {
        const int e = threadIdx.x + round * THREADS;
        c = along ? e / T * 4 : e % CHANNELS;
        t = along ? e % T : e / CHANNELS * 4;
        count = along ? (t0 + t < at.end ? at.channels - c : 0) : (c < at.channels && t < T ? at.end - t0 - t : 0);
    }

    __device__ void write(float (*tile)[ROW], const float *x) const {
        if (!along_steps) {
            if (T * CHANNELS / 4 % THREADS == 0 || t < T) put<4>(&tile[c][t], x);
            return;
        }
#pragma unroll
        for (int i = 0; i < 4; ++i)
            if (T * CHANNELS / 4 % THREADS == 0 && CHANNELS % 4 == 0 || c + i < CHANNELS) tile[c + i][t] = x[i];
    }

    __device__ void read(float *x, const float (*tile)[ROW]) const {
        if (!along_steps) {
            if (T * CHANNELS / 4 % THREADS == 0 || t < T) take<4>(x, &tile[c][t]);
            return;
        }
#pragma unroll
        for (int i = 0; i < 4; ++i)
            if (T * CHANNELS / 4 % THREADS == 0 && CHANNELS % 4 == 0 || c + i < CHANNELS) x[i] = tile[c + i][t];
    }
};

constexpr int ROUNDS = (T / 4 + LANES - 1) / LANES;  // of fours, one a thread, in a tile
// Channels of the fours of all threads, those beyond the tile among them.
constexpr int PLACES = THREADS * ROUNDS / T * 4 > CHANNELS ? THREADS * ROUNDS / T * 4 : CHANNELS;

// A sequence, from the block's first channel on. Strides of channels and steps fit 32 bits.
template <class X>
struct View {
    X *data;
    int d, l;
    int larger;  // of d and l

    __device__ View(const Sequence &x, const Place &at)
        : data((X *)x.data + at.batch * x.b + at.first_channel * x.d), d((int)x.d), l((int)x.l), larger((int)x.larger) {}
    __device__ bool along_steps() const { return l <= d; }
    __device__ X *operator()(const Four &four, int t0) const {
        return data + ((Int)four.c * d + (Int)(t0 + four.t) * l);
    }
    // From one of four elements to the next, which lie along the other axis than neighbouring threads; that axis may be
    // another view's. This is `four.along_steps ? d : l`, but where the compiler finds a maximum in that, ptxas (12.9 to
    // 13.3) copies its lower 16 bits alone, beside whatever is in the upper half of a register.
    __device__ Int step(const Four &four) const {
        return four.along_steps == along_steps() ? larger : (Int)d + l - larger;
    }
    __device__ void read(float *x, const Four &four, int t0) const {
        const X *from = (*this)(four, t0);
        const Int next = step(four);
#pragma unroll
        for (int i = 0; i < 4; ++i, from += next) x[i] = i < four.count ? load(from) : 0.f;
    }
    __device__ void write(const float *x, const Four &four, int t0) const {
        X *to = (*this)(four, t0);
        const Int next = step(four);
#pragma unroll
        for (int i = 0; i < 4; ++i, to += next)
            if (i < four.count) store(to, x[i]);
    }
};

// A thread's part of a tile on its way from memory: all loads of a block's tiles are under way before one is waited for.
template <class X>
struct Part {
    const View<X> &from;
    float x[ROUNDS][4];

    __device__ Part(const View<X> &view, const Place &at, int t0) : from(view) {
#pragma unroll
        for (int round = 0; round < ROUNDS; ++round)
            from.read(x[round], Four(from.along_steps(), round, at, t0), t0);
    }

    // value(x, i, four) of each element x, number i of its four.
    template <class Value>
    __device__ void write(float (*tile)[ROW], const Place &at, int t0, Value value) {
#pragma unroll
        for (int round = 0; round < ROUNDS; ++round) {
            const Four four(from.along_steps(), round, at, t0);
            float y[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) y[i] = value(x[round][i], i, four);
            four.write(tile, y);
        }
    }

    __device__ void write(float (*tile)[ROW], const Place &at, int t0) {
        write(tile, at, t0, [](float x, int, const Four &) { return x; });
    }
};

// Hand a tile over to memory; change(x, four) may change a thread's four elements before.
template <class X, class Change>
__device__ __forceinline__ void drain(const float (*tile)[ROW], const View<X> &to, const Place &at, int t0,
                                      Change change) {
#pragma unroll
    for (int round = 0; round < ROUNDS; ++round) {
        const Four four(to.along_steps(), round, at, t0);
        if (four.count <= 0) continue;
        float x[4];
        four.read(x, tile);
        change(x, four);
        to.write(x, four, t0);
    }
}

template <class X>
__device__ __forceinline__ void drain(const float (*tile)[ROW], const View<X> &to, const Place &at, int t0) {
    drain(tile, to, at, t0, [](float *, const Four &) {});
}

// The same of B or C: a thread's fours lie along the states.
template <class X>
struct WeightsPart {
    static constexpr int COUNT = (T * N / 4 + THREADS - 1) / THREADS;
    float x[COUNT][4];
    bool along_steps;

    __device__ WeightsPart(const Weights &from, const Scan &scan, const Place &at, int t0) {
        const X *data = (const X *)from.data + at.batch * from.b + at.group * from.g;
        const int by_state = (int)from.n, by_step = (int)from.l;
        along_steps = by_step <= by_state;
#pragma unroll
        for (int round = 0; round < COUNT; ++round) {
            const int t = step(round), k = state(round), count = t < T && t0 + t < at.end ? (int)scan.n - k : 0;
            const X *at_state = data + ((Int)k * by_state + (Int)(t0 + t) * by_step);
#pragma unroll
            for (int i = 0; i < 4; ++i, at_state += by_state) x[round][i] = i < count ? load(at_state) : 0.f;
        }
    }

    __device__ int number(int round) const { return threadIdx.x + round * THREADS; }
    __device__ int step(int round) const { return along_steps ? number(round) % T : number(round) / (N / 4); }
    __device__ int state(int round) const { return (along_steps ? number(round) / T : number(round) % (N / 4)) * 4; }

    __device__ void write(float (*tile)[WEIGHTS]) const {
#pragma unroll
        for (int round = 0; round < COUNT; ++round)
            if (T * N / 4 % THREADS == 0 || number(round) < T * N / 4) put<4>(&tile[step(round)][state(round)], x[round]);
    }
};

// log(1 + e^x), accurate relative to its own size: log(1 + e) = 2 artanh(e / (2 + e)) as a series, for e up to 1.
__device__ __forceinline__ float softplus(float x) {
    const float e = expf(-fabsf(x)), s = __fdividef(e, 2.f + e), s2 = s * s;
    float sum = 1.f / 13;
    sum = sum * s2 + 1.f / 11;
    sum = sum * s2 + 1.f / 9;
    sum = sum * s2 + 1.f / 7;
    sum = sum * s2 + 1.f / 5;
    sum = sum * s2 + 1.f / 3;
    sum = sum * s2 + 1.f;
    return fmaxf(x, 0.f) + 2.f * s * sum;
}

__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.f, 1.f + expf(-x)); }

// dt from delta, and 0 where there is no step; biases are those of the block's channels.
__device__ __forceinline__ void write_time_steps(float (*tile)[ROW], Part<const DELTA_T> &delta, const float *biases,
                                                 const Place &at, int t0) {
    delta.write(tile, at, t0, [&](float x, int i, const Four &four) {
        x += biases[four.c + (four.along_steps ? i : 0)];
        return i < four.count ? (SOFTPLUS ? softplus(x) : x) : 0.f;
    });
}

// The starts of all chunks from what each makes of zeros: h -> exp(A sum dt) h + end is one chunk. In a block 32 cells
// of (b, d, n), and SEGMENTS threads for each, which take one part of the chunks each.
constexpr int SEGMENTS = 8;

extern "C" __global__ void __launch_bounds__(32 * SEGMENTS) combine_chunks(const Scan scan) {
    __shared__ float sums[SEGMENTS][32], ends[SEGMENTS][32];
    const int segment = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int chunks = (int)scan.chunks, part = (chunks + SEGMENTS - 1) / SEGMENTS;
    const int begin = min(chunks, segment * part), end = min(chunks, begin + part);
    const Int cells = scan.d * scan.n, i = (Int)blockIdx.x * 32 + lane;
    const bool inside = i < scan.b * cells;
    const Int batch = inside ? i / cells : 0, cell = inside ? i % cells : 0, channel = cell / scan.n;
    const float A = LOG2_E * __ldg(scan.A + cell);
    const float *all_ends = scan.ends + batch * chunks * cells + cell;
    const float *all_sums = scan.sums + batch * chunks * scan.d + channel;
    const auto place = [&](int x) { return (Int)(BACKWARD ? chunks - 1 - x : x); };  // the gradient comes from the end
    float sum = 0.f, h = 0.f;
#pragma unroll 8
    for (int x = begin; x < end; ++x) {
        const float dt = __ldg(all_sums + place(x) * scan.d);
        h = power_of_two(A * dt) * h + __ldg(all_ends + place(x) * cells);
        sum += dt;
    }
    sums[segment][lane] = sum, ends[segment][lane] = h;
    __syncthreads();
    h = scan.first ? __ldg(scan.first + batch * cells + cell) : 0.f;
    for (int before = 0; before < segment; ++before)
        h = power_of_two(A * sums[before][lane]) * h + ends[before][lane];
    if (!inside) return;
#pragma unroll 8
    for (int x = begin; x < end; ++x) {
        scan.starts[(batch * chunks + place(x)) * cells + cell] = h;
        h = power_of_two(A * __ldg(all_sums + place(x) * scan.d)) * h + __ldg(all_ends + place(x) * cells);
    }
}

#if !BACKWARD

// Walk along a chunk. OUT: fill y, the checkpoints and the last state; else the chunk's end from zeros, and its sum.
template <bool OUT>
__device__ __forceinline__ void walk(const Scan &scan) {
    __shared__ __align__(16) float dts[CHANNELS][ROW];
    __shared__ __align__(16) float us[CHANNELS][ROW];
    __shared__ __align__(16) float Bs[T][WEIGHTS];
    __shared__ __align__(16) float Cs[OUT ? T : 1][WEIGHTS];
    __shared__ float biases[PLACES];
    const Place at(scan);
    const View<const DELTA_T> delta(scan.delta, at);
    const View<const U_T> u(scan.u, at);
    const View<U_T> y(scan.y, at);
    const View<const Z_T> z(scan.z, at);
    float A[STATES], h[STATES] = {}, sum = 0.f;
    at.rates(scan, A);
    at.gather(biases, scan.bias);
    const float D = at.of_channel(scan.D);
    if (OUT) at.starts(scan, h);
    __syncthreads();

    for (int t0 = at.begin; t0 < at.end; t0 += T) {
        const int steps = min(T, at.end - t0);
        {
            Part<const DELTA_T> part_of_delta(delta, at, t0);
            Part<const U_T> part_of_u(u, at, t0);
            const WeightsPart<B_T> part_of_B(scan.B, scan, at, t0);
            if (OUT) {
                const WeightsPart<C_T> part_of_C(scan.C, scan, at, t0);
                part_of_C.write(Cs);
            }
            part_of_B.write(Bs);
            part_of_u.write(us, at, t0);
            write_time_steps(dts, part_of_delta, biases, at, t0);
        }
        if (OUT && scan.checkpoints) {
            float *to = scan.checkpoints + at.checkpoint(scan, t0);
#pragma unroll
            for (int i = 0; i < STATES; ++i)
                if (at.inside && at.k + i < scan.n) to[i * scan.d] = h[i];
        }
        __syncthreads();
        if (at.active) {
#pragma unroll 2
            for (int q = 0; q < steps; q += 4) {
                float dt[4], v[4], out[4];
                take<4>(dt, &dts[at.c][q]);
                take<4>(v, &us[at.c][q]);
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    float B[STATES], C[STATES];
                    take<STATES>(B, &Bs[q + j][at.k]);
                    if (OUT) take<STATES>(C, &Cs[q + j][at.k]);
                    const float x = dt[j] * v[j];
                    out[j] = 0.f;
#pragma unroll
                    for (int i = 0; i < STATES; ++i) {
                        h[i] = power_of_two(dt[j] * A[i]) * h[i] + x * B[i];
                        if (OUT) out[j] += C[i] * h[i];
                    }
                    sum += dt[j];
                }
                if (OUT) {  // y takes the place of u, which all threads of the channel have read
                    const int first = fold<4, 1, LANES>(out);
                    __syncwarp();
                    if (at.s < 4)
#pragma unroll
                        for (int r = 0; r < (LANES < 4 ? 4 / LANES : 1); ++r) {
                            float *to = &us[at.c][q + first + r];
                            *to = out[r] + D * *to;
                        }
                }
            }
        }
        __syncthreads();
        if (OUT) {
            drain(us, y, at, t0, [&](float *x, const Four &four) {
                if (!HAS_Z) return;
                float gates[4];
                z.read(gates, four, t0);
#pragma unroll
                for (int i = 0; i < 4; ++i) x[i] *= gates[i] * sigmoid(gates[i]);
            });
            __syncthreads();
        }
    }
    if (!OUT) {
        at.write(scan, scan.ends + at.chunk_cell(scan), h);
        if (at.inside && at.s == 0) scan.sums[(at.batch * scan.chunks + at.chunk) * scan.d + at.channel()] = sum;
    } else if (at.chunk == scan.chunks - 1) {
        at.write(scan, scan.last + at.cell(scan), h);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / WARPS) scan_chunks(const Scan scan) { walk<false>(scan); }

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / WARPS) scan(const Scan scan) { walk<true>(scan); }

#else

// dy, times SiLU(z) where z is given.
__device__ __forceinline__ void write_gradients(float (*tile)[ROW], Part<const U_T> &dy, const View<const Z_T> &z,
                                                const Place &at, int t0) {
    if (HAS_Z)
#pragma unroll
        for (int round = 0; round < ROUNDS; ++round) {
            float gates[4];
            z.read(gates, Four(dy.from.along_steps(), round, at, t0), t0);
#pragma unroll
            for (int i = 0; i < 4; ++i) dy.x[round][i] *= gates[i] * sigmoid(gates[i]);
        }
    dy.write(tile, at, t0);
}

// The gradient of the state before a chunk where that of the state after it is zero, and the chunk's sum of dt.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / WARPS) scan_chunks(const Scan scan) {
    __shared__ __align__(16) float dts[CHANNELS][ROW];
    __shared__ __align__(16) float dys[CHANNELS][ROW];
    __shared__ __align__(16) float Cs[T][WEIGHTS];
    __shared__ float biases[PLACES];
    const Place at(scan);
    const View<const DELTA_T> delta(scan.delta, at);
    const View<const U_T> dy(scan.dy, at);
    const View<const Z_T> z(scan.z, at);
    float A[STATES], dh[STATES] = {}, sum = 0.f;
    at.rates(scan, A);
    at.gather(biases, scan.bias);
    __syncthreads();

    for (int t0 = at.begin + (at.end - at.begin - 1) / T * T; t0 >= at.begin; t0 -= T) {
        {
            Part<const DELTA_T> part_of_delta(delta, at, t0);
            Part<const U_T> part_of_dy(dy, at, t0);
            const WeightsPart<C_T> part_of_C(scan.C, scan, at, t0);
            part_of_C.write(Cs);
            write_gradients(dys, part_of_dy, z, at, t0);
            write_time_steps(dts, part_of_delta, biases, at, t0);
        }
        __syncthreads();
        if (at.active) {
#pragma unroll 2
            for (int q = (min(T, at.end - t0) - 1) / 4 * 4; q >= 0; q -= 4) {
                float dt[4], to_y[4];
                take<4>(dt, &dts[at.c][q]);
                take<4>(to_y, &dys[at.c][q]);
#pragma unroll
                for (int j = 3; j >= 0; --j) {
                    float C[STATES];
                    take<STATES>(C, &Cs[q + j][at.k]);
#pragma unroll
                    for (int i = 0; i < STATES; ++i)
                        dh[i] = power_of_two(dt[j] * A[i]) * (to_y[j] * C[i] + dh[i]);
                    sum += dt[j];
                }
            }
        }
        __syncthreads();
    }
    at.write(scan, scan.ends + at.chunk_cell(scan), dh);
    if (at.inside && at.s == 0) scan.sums[(at.batch * scan.chunks + at.chunk) * scan.d + at.channel()] = sum;
}

constexpr int SUB = 8;            // steps whose states and decays are in registers at once
constexpr int SUMS = 2 * N + 4;  // floats of a step's row of sums for dB and dC

// Add a part of the warps' sums, of SUB steps from t0 on, to dB or dC.
__device__ __forceinline__ void add_weights(const Weights &to, const float (*sums)[SUB][SUMS], int part,
                                            const Scan &scan, const Place &at, int t0) {
    float *data = (float *)to.data + at.batch * to.b + at.group * to.g;
    const int by_state = (int)to.n, by_step = (int)to.l, n = (int)scan.n;
    const bool along_steps = by_step <= by_state;
    const auto sum_of = [&](int j, int k) {
        float sum = 0.f;
#pragma unroll
        for (int w = 0; w < WARPS; ++w) sum += sums[w][j][part + k];
        return sum;
    };
    if (by_step == 0) {  // all steps share it
        for (int k = threadIdx.x; k < n; k += THREADS) {
            float sum = 0.f;
#pragma unroll 1
            for (int j = 0; j < SUB; ++j) sum += sum_of(j, k);
            atomicAdd(data + (Int)k * by_state, sum);
        }
        return;
    }
#pragma unroll
    for (int round = 0; round < (SUB * N + THREADS - 1) / THREADS; ++round) {
        const int e = threadIdx.x + round * THREADS;
        const int j = along_steps ? e % SUB : e / N, k = along_steps ? e / SUB : e % N;
        if (t0 + j < at.end && j < SUB && k < n)
            atomicAdd(data + ((Int)k * by_state + (Int)(t0 + j) * by_step), sum_of(j, k));
    }
}

// Walk back along a chunk: fill the gradients; those of A, B, C, D and bias are added up in what is given as zeros.
//
// dh is the gradient of the state before the step at hand. The states of a block of T steps follow from its checkpoint:
// once to its end, keeping those before every SUB steps, then once more for each SUB steps on the way back.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / WARPS) scan(const Scan scan) {
    __shared__ __align__(16) float dts[CHANNELS][ROW];  // and then the gradient of delta
    __shared__ __align__(16) float us[CHANNELS][ROW];   // and then that of u
    __shared__ __align__(16) float dys[CHANNELS][ROW];  // and then y before the gate
    __shared__ __align__(16) float Bs[T][WEIGHTS];
    __shared__ __align__(16) float Cs[T][WEIGHTS];
    __shared__ __align__(16) float before[T / SUB][THREADS][STATES];
    __shared__ __align__(16) float sums[WARPS][SUB][SUMS];
    __shared__ float biases[PLACES];
    const Place at(scan);
    const View<const DELTA_T> delta(scan.delta, at);
    const View<const U_T> u(scan.u, at), dy(scan.dy, at);
    const View<const Z_T> z(scan.z, at);
    const View<DELTA_T> ddelta(scan.ddelta, at);
    const View<U_T> du(scan.du, at);
    const View<Z_T> dz(scan.dz, at);
    float A[STATES], dh[STATES], dA[STATES] = {}, dD = 0.f, dbias = 0.f;
    at.rates(scan, A);
    at.gather(biases, scan.bias);
    at.starts(scan, dh);
    const float D = at.of_channel(scan.D);
    if (!at.active)  // what warps without a channel add to dB and dC
        for (int j = 0; j < SUB; ++j)
            for (int i = threadIdx.x % 32; i < SUMS; i += 32) sums[threadIdx.x / 32][j][i] = 0.f;
    __syncthreads();

    for (int t0 = at.begin + (at.end - at.begin - 1) / T * T; t0 >= at.begin; t0 -= T) {
        const int steps = min(T, at.end - t0), last = (steps - 1) / SUB;
        {
            Part<const DELTA_T> part_of_delta(delta, at, t0);
            Part<const U_T> part_of_u(u, at, t0), part_of_dy(dy, at, t0);
            const WeightsPart<B_T> part_of_B(scan.B, scan, at, t0);
            const WeightsPart<C_T> part_of_C(scan.C, scan, at, t0);
            part_of_B.write(Bs);
            part_of_C.write(Cs);
            part_of_u.write(us, at, t0);
            write_gradients(dys, part_of_dy, z, at, t0);
            write_time_steps(dts, part_of_delta, biases, at, t0);
        }
        if (at.active) {
            const float *from = scan.checkpoints + at.checkpoint(scan, t0);
            float h[STATES];
#pragma unroll
            for (int i = 0; i < STATES; ++i) h[i] = at.inside && at.k + i < scan.n ? __ldg(from + i * scan.d) : 0.f;
            put<STATES>(before[0][threadIdx.x], h);
        }
        __syncthreads();
        if (at.active) {
            float h[STATES];
            take<STATES>(h, before[0][threadIdx.x]);
#pragma unroll 1
            for (int q = 0; q < last * SUB; q += 4) {
                float dt[4], v[4];
                take<4>(dt, &dts[at.c][q]);
                take<4>(v, &us[at.c][q]);
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    float B[STATES];
                    take<STATES>(B, &Bs[q + j][at.k]);
                    const float x = dt[j] * v[j];
#pragma unroll
                    for (int i = 0; i < STATES; ++i) h[i] = power_of_two(dt[j] * A[i]) * h[i] + x * B[i];
                }
                put<STATES>(before[q / SUB + 1][threadIdx.x], h);  // half way, and then at the end of the SUB steps
            }
        }
#pragma unroll 1
        for (int part = last; part >= 0; --part) {
            if (at.active) {
                float h[SUB + 1][STATES], decay[SUB][STATES];  // h[j] is the state before step j of the part
                take<STATES>(h[0], before[part][threadIdx.x]);
#pragma unroll
                for (int four = 0; four < SUB; four += 4) {
                    float dt[4], v[4];
                    take<4>(dt, &dts[at.c][part * SUB + four]);
                    take<4>(v, &us[at.c][part * SUB + four]);
#pragma unroll
                    for (int j = 0; j < 4; ++j) {
                        float B[STATES];
                        take<STATES>(B, &Bs[part * SUB + four + j][at.k]);
                        const float x = dt[j] * v[j];
#pragma unroll
                        for (int i = 0; i < STATES; ++i) {
                            decay[four + j][i] = power_of_two(dt[j] * A[i]);
                            h[four + j + 1][i] = decay[four + j][i] * h[four + j][i] + x * B[i];
                        }
                    }
                }
#pragma unroll
                for (int four = SUB - 4; four >= 0; four -= 4) {
                    float dt[4], v[4], to_y[4], to_x[4], to_dt[4], y[4];  // x = dt u
                    const int q = part * SUB + four;
                    take<4>(dt, &dts[at.c][q]);
                    take<4>(v, &us[at.c][q]);
                    take<4>(to_y, &dys[at.c][q]);
#pragma unroll
                    for (int j = 3; j >= 0; --j) {
                        float B[STATES], C[STATES], to_weights[2 * STATES];  // of B, and of C
                        take<STATES>(B, &Bs[q + j][at.k]);
                        take<STATES>(C, &Cs[q + j][at.k]);
                        const float x = dt[j] * v[j];
                        to_x[j] = to_dt[j] = y[j] = 0.f;
#pragma unroll
                        for (int i = 0; i < STATES; ++i) {
                            const float now = h[four + j + 1][i], dnow = to_y[j] * C[i] + dh[i];
                            to_weights[i] = dnow * x;
                            to_weights[STATES + i] = to_y[j] * now;
                            to_x[j] += dnow * B[i];
                            dh[i] = decay[four + j][i] * dnow;
                            const float through = dh[i] * h[four + j][i];
                            dA[i] += through * dt[j];
                            to_dt[j] += through * A[i];
                            if (HAS_Z) y[j] += C[i] * now;
                        }
                        const int i = fold<2 * STATES, LANES, 32>(to_weights);
                        constexpr int LEFT = 2 * STATES * LANES / 32;
                        float *to = &sums[threadIdx.x / 32][four + j][i / STATES * N + at.k + i % STATES];
                        if constexpr (LEFT >= 4) {
                            put<LEFT < STATES ? LEFT : STATES>(to, to_weights);
                            if constexpr (LEFT > STATES) put<STATES>(to + N, to_weights + STATES);
                        } else if (threadIdx.x % 32 / LANES < 2 * STATES) {
                            to[0] = to_weights[0];
                            if constexpr (LEFT == 2) to[1] = to_weights[1];
                        }
                    }
                    const int first = fold<4, 1, LANES>(to_x);
                    fold<4, 1, LANES>(to_dt);
                    if (HAS_Z) fold<4, 1, LANES>(y);
                    __syncwarp();  // all threads of the channel have read what is overwritten now
                    if (at.s < 4)
#pragma unroll
                        for (int r = 0; r < (LANES < 4 ? 4 / LANES : 1); ++r) {
                            const int t = q + first + r;
                            const float dt_t = dts[at.c][t], u_t = us[at.c][t], dy_t = dys[at.c][t];
                            // softplus'(x) = 1 - exp(-softplus(x))
                            const float slope = SOFTPLUS ? -expm1f(-dt_t) : 1.f;
                            const float to_delta = t < steps ? (to_dt[r] * LN_2 + u_t * to_x[r]) * slope : 0.f;
                            dbias += to_delta;
                            dD += dy_t * u_t;
                            dts[at.c][t] = to_delta;
                            us[at.c][t] = dt_t * to_x[r] + D * dy_t;
                            if (HAS_Z) dys[at.c][t] = y[r] + D * u_t;
                        }
                }
            }
            __syncthreads();
            add_weights(scan.dB, sums, 0, scan, at, t0 + part * SUB);
            add_weights(scan.dC, sums, N, scan, at, t0 + part * SUB);
            __syncthreads();
        }
        drain(dts, ddelta, at, t0);
        drain(us, du, at, t0);
        if (HAS_Z)
            drain(dys, dz, at, t0, [&](float *x, const Four &four) {
                float gates[4], to_y[4];
                z.read(gates, four, t0);
                dy.read(to_y, four, t0);
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const float open = sigmoid(gates[i]);
                    x[i] *= to_y[i] * open * (1.f + gates[i] * (1.f - open));
                }
            });
        __syncthreads();
    }
    if (scan.last && at.chunk == 0) at.write(scan, scan.last + at.cell(scan), dh);
#pragma unroll
    for (int i = 0; i < STATES; ++i)
        if (at.inside && at.k + i < scan.n) atomicAdd(scan.dA + at.channel() * scan.n + at.k + i, dA[i]);
    fold<1, 1, LANES>(&dD);
    fold<1, 1, LANES>(&dbias);
    if (at.inside && at.s == 0) {
        if (scan.dD) atomicAdd(scan.dD + at.channel(), dD);
        if (scan.dbias) atomicAdd(scan.dbias + at.channel(), dbias);
    }
}

#endif
