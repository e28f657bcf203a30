// Just enough CUDA to run theta.cu on a CPU: a block is as many threads as on a GPU, one block after the other.
#pragma once
// Of C alone: the headers of C++ take longer to compile than theta.cu.
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))

#define fabsf __builtin_fabsf
#define fmaxf __builtin_fmaxf
#define fminf __builtin_fminf
template <class T>
static T max(T a, T b) { return a < b ? b : a; }
template <class T>
static T min(T a, T b) { return b < a ? b : a; }

struct dim3 { unsigned x, y; };
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
static dim3 blockIdx, blockDim;
static thread_local dim3 threadIdx;
static pthread_barrier_t together;

static void __syncthreads() { pthread_barrier_wait(&together); }
static int __syncthreads_or(int own) {
    static int any;
    __syncthreads();
    if (threadIdx.x == 0) any = 0;
    __syncthreads();
    if (own) __atomic_store_n(&any, 1, __ATOMIC_RELAXED);
    __syncthreads();
    return any;
}
static int __float_as_int(float v) { int b; memcpy(&b, &v, 4); return b; }
static unsigned __float_as_uint(float v) { unsigned b; memcpy(&b, &v, 4); return b; }
static float __int_as_float(int b) { float v; memcpy(&v, &b, 4); return v; }

static int atomicMax(int* at, int value) {
    int old = __atomic_load_n(at, __ATOMIC_RELAXED);
    while (value > old && !__atomic_compare_exchange_n(at, &old, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return old;
}

template <class Kernel>
struct Thread {
    pthread_t number;
    unsigned t, grid_x, grid_y;
    const Kernel* kernel;

    static void* run(void* given) {
        const Thread& own = *(const Thread*)given;
        threadIdx = {own.t, 0};
        for (unsigned y = 0; y < own.grid_y; y++)
            for (unsigned x = 0; x < own.grid_x; x++) {
                __syncthreads();
                if (own.t == 0) blockIdx = {x, y};
                __syncthreads();
                (*own.kernel)();
            }
        return nullptr;
    }
};

template <class Kernel>
static void launch(unsigned grid_x, unsigned grid_y, unsigned threads, Kernel kernel) {
    pthread_barrier_init(&together, nullptr, threads);
    blockDim = {threads, 1};
    Thread<Kernel>* block = new Thread<Kernel>[threads];
    for (unsigned t = 0; t < threads; t++) {
        block[t] = {0, t, grid_x, grid_y, &kernel};
        if (pthread_create(&block[t].number, nullptr, Thread<Kernel>::run, &block[t])) __builtin_trap();
    }
    for (unsigned t = 0; t < threads; t++) pthread_join(block[t].number, nullptr);
    delete[] block;
    pthread_barrier_destroy(&together);
}
