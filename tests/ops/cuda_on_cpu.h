// What a CUDA kernel's source needs to be compiled for the CPU: the tests run kernels so where there is no device.
//
// A block's threads are fibers of one thread of the CPU. Each runs until it waits for others; they are taken up in
// rising or in falling order, so that what one reads of another without a barrier between is wrong in one of both.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define __align__(bytes) __attribute__((aligned(bytes)))

struct Index {
    int x;
};

struct float4 {
    float x, y, z, w;
};

enum { MOST = 1024, STACK = 1 << 16 };

struct Barrier {
    int waiting, passed;
};

static ucontext_t scheduler, fibers[MOST];
static bool done[MOST];
static char *stacks;
static int now, threads_of_block;
static bool moved;
static Index blockIdx;
static Barrier block_barrier, warp_barriers[MOST / 32];
static float slots[2][MOST];
static int turns[MOST];
static void (*body)();

#define threadIdx (Index{now})

static void wait_for(Barrier &barrier, int size) {
    const int passed = barrier.passed;
    moved = true;
    if (++barrier.waiting == size) {
        barrier.waiting = 0;
        ++barrier.passed;
    }
    while (barrier.passed == passed) {
        const int me = now;
        swapcontext(&fibers[me], &scheduler);
    }
}

static void __syncthreads() { wait_for(block_barrier, threads_of_block); }
static void __syncwarp() { wait_for(warp_barriers[now / 32], 32); }

static float __shfl_xor_sync(unsigned, float x, int mask) {
    float *slot = slots[turns[now] ^= 1];  // in turn, so that one barrier is enough
    slot[now] = x;
    __syncwarp();
    return slot[now ^ mask];
}

static float atomicAdd(float *to, float x) {
    const float before = *to;
    *to += x;
    return before;
}

template <class X>
static X __ldg(const X *from) {
    return *from;
}

static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static float __fdividef(float x, float y) { return x / y; }
static float power_of_two(float x) { return x < -126.f ? 0.f : exp2f(x); }
static int min(int x, int y) { return x < y ? x : y; }
static long long min(long long x, long long y) { return x < y ? x : y; }

template <class To, class From>
static To as_bits(From x) {
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}

static float __uint_as_float(unsigned x) { return as_bits<float>(x); }
static unsigned __float_as_uint(float x) { return as_bits<unsigned>(x); }
static float half_to_float(unsigned short x) { return (float)as_bits<_Float16>(x); }
static unsigned short float_to_half(float x) { return as_bits<unsigned short>((_Float16)x); }

static void run_fiber() {
    body();
    done[now] = moved = true;
    swapcontext(&fibers[now], &scheduler);
}

// Run `kernel` on every thread of every block, one block after the other; false where threads wait for ever.
static bool run_grid(void (*kernel)(), int blocks, int threads, bool falling) {
    body = kernel;
    threads_of_block = threads;
    if (!stacks) stacks = (char *)malloc((size_t)MOST * STACK);
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
        memset(done, 0, sizeof done);
        memset(&block_barrier, 0, sizeof block_barrier);
        memset(warp_barriers, 0, sizeof warp_barriers);
        for (int i = 0; i < threads; ++i) {
            getcontext(&fibers[i]);
            fibers[i].uc_stack.ss_sp = stacks + (size_t)i * STACK;
            fibers[i].uc_stack.ss_size = STACK;
            fibers[i].uc_link = nullptr;
            makecontext(&fibers[i], run_fiber, 0);
        }
        do {
            moved = false;
            for (int i = 0; i < threads; ++i) {
                now = falling ? threads - 1 - i : i;
                if (!done[now]) swapcontext(&scheduler, &fibers[now]);
            }
        } while (moved);
        for (int i = 0; i < threads; ++i)
            if (!done[i]) return false;
    }
    return true;
}
