// Just enough CUDA to run theta.cu on a CPU: a block is as many threads as on a GPU, one block after the other.
#pragma once
#include <algorithm>
#include <atomic>
#include <pthread.h>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))

using std::max;
using std::min;

struct dim3 { unsigned x, y; };
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
static dim3 blockIdx, blockDim;
static thread_local dim3 threadIdx;
static pthread_barrier_t together;

static void __syncthreads() { pthread_barrier_wait(&together); }
static int __syncthreads_or(int own) {
    static std::atomic<int> any;
    __syncthreads();
    if (threadIdx.x == 0) any = 0;
    __syncthreads();
    if (own) any = 1;
    __syncthreads();
    return any;
}
static int __float_as_int(float v) { int b; std::memcpy(&b, &v, 4); return b; }
static unsigned __float_as_uint(float v) { unsigned b; std::memcpy(&b, &v, 4); return b; }
static float __int_as_float(int b) { float v; std::memcpy(&v, &b, 4); return v; }

static int atomicMax(int* at, int value) {
    int old = __atomic_load_n(at, __ATOMIC_RELAXED);
    while (value > old && !__atomic_compare_exchange_n(at, &old, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return old;
}

template <class Kernel>
static void launch(unsigned grid_x, unsigned grid_y, unsigned threads, Kernel kernel) {
    pthread_barrier_init(&together, nullptr, threads);
    blockDim = {threads, 1};
    std::vector<std::thread> block;
    for (unsigned t = 0; t < threads; t++)
        block.emplace_back([=] {
            threadIdx = {t, 0};
            for (unsigned y = 0; y < grid_y; y++)
                for (unsigned x = 0; x < grid_x; x++) {
                    __syncthreads();
                    if (t == 0) blockIdx = {x, y};
                    __syncthreads();
                    kernel();
                }
        });
    for (auto& thread : block) thread.join();
    pthread_barrier_destroy(&together);
}
