// The folds of theta on a GPU. cupy_backend.py compiles this file and says what the arrays hold.
//
// Products are single float32 multiplications, maxima of them are exact, and every sum has one thread that adds
// sample by sample: the results are the CPU's, bit for bit. Only neurons marked bad may hold other NaNs.
//
// The bits of non-negative floats are ordered like integers, and integers have a three-way maximum on newer
// chips: two products cost one. Read as signed integers all negative floats lie below zero; read as unsigned
// ones they lie above all positive floats, the largest in size on top.
//
// Compile-time names: EACH targets per thread, and for `limits_many` NEURON_THREADS x TARGET_THREADS threads, of which NEURON_THREADS lie along the neurons.

#define INFINITY_BITS 0x7f800000
#define SIGN 0x80000000u

typedef long long index_t;

__device__ __forceinline__ int raised(int best, float a, float b) {
    return max(max(best, __float_as_int(a)), __float_as_int(b));
}

__device__ __forceinline__ unsigned lowered(unsigned best, float a, float b) {
    return max(max(best, __float_as_uint(a)), __float_as_uint(b));
}

// The running maximum is read first, because most of the time nothing is larger.
__device__ __forceinline__ void raise(float* best, int bits) {
    if (bits > *(const int*)best) atomicMax((int*)best, bits);
}

// ---------------------------------------------------------------------------------------------------------------
// Few targets. A thread keeps WIDTH neurons and all EACH targets in registers; V is read once.
// Grid: (stretches of WIDTH * blockDim.x neurons, chunks of samples).

#ifdef FEW
#define AHEAD 4   // samples in flight
#define STAGE 32  // samples whose gaps are in shared memory

extern "C" __global__ void __launch_bounds__(128) limits_few(
    const float* __restrict__ V, const float* __restrict__ limit, int rows, index_t M, int chunk,
    float* hi, float* lo, unsigned char* bad) {
    __shared__ float gaps[STAGE][EACH];
    const index_t neuron = (index_t)blockIdx.x * WIDTH * blockDim.x + threadIdx.x;
    const int first = blockIdx.y * chunk, last = min(first + chunk, rows);
    int up[EACH][WIDTH], largest[WIDTH];
    unsigned down[EACH][WIDTH];
    for (int k = 0; k < WIDTH; k++) {
        largest[k] = 0;
        for (int t = 0; t < EACH; t++) up[t][k] = 0, down[t][k] = SIGN;
    }
    for (int r0 = first; r0 < last; r0 += STAGE) {
        const int here = min(STAGE, last - r0);
        __syncthreads();
        for (int i = threadIdx.x; i < STAGE * EACH; i += blockDim.x)
            gaps[i / EACH][i % EACH] = i < here * EACH ? limit[(index_t)r0 * EACH + i] : 0.0f;
        __syncthreads();
        for (int r = 0; r < here; r += AHEAD) {
            float v[AHEAD][WIDTH];
#pragma unroll
            for (int a = 0; a < AHEAD; a++)
#pragma unroll
                for (int k = 0; k < WIDTH; k++) {
                    const index_t m = neuron + k * blockDim.x;
                    v[a][k] = r + a < here && m < M ? V[(r0 + r + a) * M + m] : 0.0f;
                }
#pragma unroll
            for (int a = 0; a < AHEAD; a += 2)
#pragma unroll
                for (int k = 0; k < WIDTH; k++) {
                    largest[k] = raised(largest[k], fabsf(v[a][k]), fabsf(v[a + 1][k]));
#pragma unroll
                    for (int t = 0; t < EACH; t++) {
                        const float p = v[a][k] * gaps[r + a][t], q = v[a + 1][k] * gaps[r + a + 1][t];
                        up[t][k] = raised(up[t][k], p, q);
                        down[t][k] = lowered(down[t][k], p, q);
                    }
                }
        }
    }
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
        const index_t m = neuron + k * blockDim.x;
        if (m >= M) continue;
        if (largest[k] >= INFINITY_BITS) bad[m] = 1;
#pragma unroll
        for (int t = 0; t < EACH; t++) {
            raise(hi + t * M + m, up[t][k]);
            raise(lo + t * M + m, (int)(down[t][k] ^ SIGN));
        }
    }
}
#endif

// ---------------------------------------------------------------------------------------------------------------
// Many targets. A block of NEURON_THREADS x TARGET_THREADS threads owns 8 NEURON_THREADS neurons and
// EACH TARGET_THREADS targets, 8 x EACH of them each thread. It goes through the samples STAGE at a time: the next
// ones are on their way from memory while these are multiplied.
// `gaps` (rows, targets) are of one sign. Positive: the products go into hi, and the block learns whether its tile of
// neurons holds a value that is negative, or not finite. Negative (`turned`): the products go into lo; a tile without
// negative values has none above zero and is left out.
// Grid: (target tiles, running fastest, times neuron tiles; chunks of samples).

#ifdef MANY
#define THREADS (NEURON_THREADS * TARGET_THREADS)
#define NEURONS (8 * NEURON_THREADS)
#define TARGETS (EACH * TARGET_THREADS)

// One float from global into shared memory, or zero, without waiting where the chip can.
__device__ __forceinline__ void copy(float* to, const float* from, bool inside) {
#if __CUDA_ARCH__ >= 800
    const unsigned address = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"(from), "r"(inside ? 4 : 0));
#else
    *to = inside ? *from : 0.0f;
#endif
}

__device__ __forceinline__ void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) limits_many(
    const float* __restrict__ V, const float* __restrict__ gaps, int rows, index_t M, int targets, int chunk,
    int turned, float* best, unsigned char* negative, unsigned char* bad) {
    __shared__ __align__(16) float values[2][STAGE][NEURONS];
    __shared__ __align__(16) float factors[2][STAGE][TARGETS];
    const int across = (targets + TARGETS - 1) / TARGETS;
    const index_t tile = blockIdx.x / across, neuron0 = tile * NEURONS;
    const int target0 = (blockIdx.x % across) * TARGETS;
    if (turned && !negative[tile]) return;
    const int first = blockIdx.y * chunk, last = min(first + chunk, rows);
    // A warp is 8 threads of neurons times 4 of targets: what it reads from shared memory is little, and broadcast.
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int tn = warp % (NEURON_THREADS / 8) * 8 + lane % 8;
    const int tt = warp / (NEURON_THREADS / 8) * 4 + lane / 8;

    int most[EACH][8];
#pragma unroll
    for (int t = 0; t < EACH; t++)
#pragma unroll
        for (int k = 0; k < 8; k++) most[t][k] = 0;

    auto fetch = [&](int r0, int stage) {
        for (int i = threadIdx.x; i < STAGE * NEURONS; i += THREADS) {
            const int r = r0 + i / NEURONS, n = i % NEURONS;
            const bool inside = r < last && neuron0 + n < M;
            copy(&values[stage][i / NEURONS][n], inside ? V + r * M + neuron0 + n : V, inside);
        }
        for (int i = threadIdx.x; i < STAGE * TARGETS; i += THREADS) {
            const int r = r0 + i / TARGETS, t = i % TARGETS;
            const bool inside = r < last && target0 + t < targets;
            copy(&factors[stage][i / TARGETS][t], inside ? gaps + (index_t)r * targets + target0 + t : gaps, inside);
        }
    };
    bool below = false;
    fetch(first, 0);
    for (int r0 = first, stage = 0; r0 < last; r0 += STAGE, stage ^= 1) {
        wait_for_copies();
        __syncthreads();
        fetch(r0 + STAGE, stage ^ 1);
        if (!turned && target0 == 0)
            for (int i = threadIdx.x; i < STAGE * NEURONS; i += THREADS) {
                const float v = values[stage][i / NEURONS][i % NEURONS];
                below |= v < 0.0f;
                if ((__float_as_int(v) & ~SIGN) >= INFINITY_BITS) bad[neuron0 + i % NEURONS] = 1;
            }
#pragma unroll
        for (int r = 0; r < STAGE; r += 2) {
            float v[2][8], s[2][EACH];
#pragma unroll
            for (int a = 0; a < 2; a++) {
                *(float4*)&v[a][0] = *(const float4*)&values[stage][r + a][4 * tn];
                *(float4*)&v[a][4] = *(const float4*)&values[stage][r + a][4 * tn + 4 * NEURON_THREADS];
#pragma unroll
                for (int t = 0; t < EACH; t++) s[a][t] = factors[stage][r + a][EACH * tt + t];
            }
#pragma unroll
            for (int t = 0; t < EACH; t++)
#pragma unroll
                for (int k = 0; k < 8; k++) most[t][k] = raised(most[t][k], v[0][k] * s[0][t], v[1][k] * s[1][t]);
        }
    }
    if (below) negative[tile] = 1;
#pragma unroll
    for (int t = 0; t < EACH; t++)
#pragma unroll
        for (int k = 0; k < 8; k++) {
            const index_t m = neuron0 + 4 * tn + (k < 4 ? k : 4 * NEURON_THREADS + k - 4);
            const int j = target0 + EACH * tt + t;
            if (j < targets && m < M) raise(best + j * M + m, most[t][k]);
        }
}
#endif

// ---------------------------------------------------------------------------------------------------------------
// A target's own samples. A thread has one neuron and one target j, and goes through the samples
// samples[start[j] .. start[j+1]) in their order. Grid: (stretches of neurons, targets).

#ifdef OWN
#define THREAD_OF_NEURON_AND_TARGET                                                  \
    const index_t m = (index_t)blockIdx.x * blockDim.x + threadIdx.x, at = blockIdx.y * M + m; \
    const int begin = start[blockIdx.y], end = start[blockIdx.y + 1];                \
    if (m >= M || begin == end) return;

extern "C" __global__ void limits_own(
    const float* __restrict__ V, const int* __restrict__ start, const int* __restrict__ samples,
    const float* __restrict__ gaps, index_t M, float* hi, float* lo) {
    THREAD_OF_NEURON_AND_TARGET
    float up = 0.0f, down = 0.0f;
#pragma unroll 8
    for (int i = begin; i < end; i++) {
        const float p = V[samples[i] * M + m] * gaps[i];
        up = fmaxf(up, p);
        down = fmaxf(down, -p);
    }
    raise(hi + at, __float_as_int(up));
    raise(lo + at, __float_as_int(down));
}

extern "C" __global__ void sums(
    const float* __restrict__ V, const int* __restrict__ start, const int* __restrict__ samples, index_t M,
    double* total, float* peak) {
    THREAD_OF_NEURON_AND_TARGET
    double sum = total[at];
    float most = peak[at];
#pragma unroll 8
    for (int i = begin; i < end; i++) {
        const float v = V[samples[i] * M + m];
        sum += v;
        most = fmaxf(most, fabsf(v));
    }
    total[at] = sum;
    peak[at] = most;
}

extern "C" __global__ void wanted(
    const float* __restrict__ V, const int* __restrict__ start, const int* __restrict__ samples,
    const float* __restrict__ gaps, index_t M, const float* __restrict__ hi, const float* __restrict__ lo,
    int* count_hi, int* count_lo, float* last_hi, float* last_lo) {
    THREAD_OF_NEURON_AND_TARGET
    const float limit_up = hi[at], limit_down = lo[at];
    int fixed_up = 0, fixed_down = 0;
    float up = __int_as_float(INFINITY_BITS), down = up;
#pragma unroll 8
    for (int i = begin; i < end; i++) {
        const float p = V[samples[i] * M + m] * gaps[i];
        fixed_up += p > limit_up;
        fixed_down += -p > limit_down;
        if (p > 0.0f) up = fminf(up, p);
        if (p < 0.0f) down = fminf(down, -p);
    }
    count_hi[at] += fixed_up;
    count_lo[at] += fixed_down;
    last_hi[at] = fminf(last_hi[at], up);
    last_lo[at] = fminf(last_lo[at], down);
}
#endif
