// The folds of theta on a GPU. folds.py compiles this file and says what the arrays hold.
//
// Products are single float32 multiplications, maxima of them are exact, and every sum has one thread that adds
// sample by sample: the results are the CPU's, bit for bit. Only neurons marked bad may hold other NaNs.
//
// The bits of non-negative floats are ordered like integers, and integers have a three-way maximum on newer
// chips: two products cost one. Read as signed integers all negative floats lie below zero; read as unsigned
// ones they lie above all positive floats, the largest in size on top.
//
// Where no value is negative, a positive weight is limited by the positive gaps alone and a negative weight by the
// negative ones (a target's own samples, at most one target a sample): half the maxima. So there are two kernels
// of each kind. The first is for such values; a block of it that meets a negative one marks its tile in `negative`,
// and gives up where the first samples show it. The second, `..._signed`, is for any values, and does the marked
// tiles from the beginning. What the first has found by then stands: it is a maximum of the same products.
//
// Compile-time names: FEW, MANY or OWN, the kernels wanted; EACH, targets a thread keeps; WIDTH, neurons a thread of
// `limits_few` keeps, read at once where they lie side by side (TOGETHER), and AHEAD, samples it has on their way;
// TARGET_THREADS, how many threads of `limits_many` lie along the targets; GROUP, how many values of V it reads at once.

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
// Few targets. A thread keeps WIDTH neurons and all EACH targets in registers; V is read once,
// the next samples while the present ones are multiplied.
// Samples come in an order of their own: `row` says where position r lies in V, limit (positions, EACH) and owner
// (positions) follow it. owner is the target whose own sample it is, -1 for none; equal ones stand together, an even
// number of each.
// Grid: (tiles of WIDTH * blockDim.x neurons, chunks of positions; a chunk is a multiple of STAGE).

#ifdef FEW
#define STAGE 128  // positions whose gaps are in shared memory
#define PITCH ((EACH + 4) / 4 * 4)

#if TOGETHER
#define NEURON(k) (neuron + k)
#else
#define NEURON(k) (neuron + k * blockDim.x)
#endif

template <bool ANY>
__device__ __forceinline__ void few(
    const float* __restrict__ V, const float* __restrict__ limit, const int* __restrict__ row,
    const int* __restrict__ owner, int positions, index_t M, int chunk, float* hi, float* lo, unsigned char* negative,
    unsigned char* bad) {
    __shared__ __align__(16) float gaps[STAGE][PITCH];  // the last: how far the owner's limit lies below zero
    __shared__ index_t place[STAGE];
    __shared__ int owners[STAGE];
    if (ANY && !negative[blockIdx.x]) return;
    const index_t neuron =
        (index_t)blockIdx.x * WIDTH * blockDim.x + (TOGETHER ? WIDTH * threadIdx.x : threadIdx.x);
    const int first = blockIdx.y * chunk, last = min(first + chunk, positions);
    const float* column[WIDTH];  // past the end: the last neurons again
    int up[EACH][WIDTH], own[WIDTH], largest[WIDTH];
    unsigned down[EACH][WIDTH], lowest = 0;
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
        column[k] = V + min(NEURON(k), TOGETHER ? M - WIDTH + k : M - 1);
        largest[k] = own[k] = 0;
#pragma unroll
        for (int t = 0; t < EACH; t++) up[t][k] = 0, down[t][k] = SIGN;
    }
    int of = -1;
    auto give = [&]() {
#pragma unroll
        for (int k = 0; k < WIDTH; k++) {
            if (of >= 0 && NEURON(k) < M) raise(lo + of * M + NEURON(k), own[k]);
            own[k] = 0;
        }
    };
    for (int r0 = first; r0 < last; r0 += STAGE) {
        const int here = min(STAGE, last - r0);
        if (__syncthreads_or(!ANY && lowest > SIGN)) break;
        for (int i = threadIdx.x; i < STAGE; i += blockDim.x) {
            const int at = r0 + min(i, here - 1), whose = owner[at];
            place[i] = row[at] * M;
            owners[i] = whose;
            gaps[i][EACH] = i < here && whose >= 0 ? -limit[(index_t)at * EACH + whose] : 0.0f;
        }
        for (int i = threadIdx.x; i < STAGE * EACH; i += blockDim.x)
            gaps[i / EACH][i % EACH] = i < here * EACH ? limit[(index_t)r0 * EACH + i] : 0.0f;
        __syncthreads();
        float next[AHEAD][WIDTH];
        auto fetch = [&](int r) {
#pragma unroll
            for (int a = 0; a < AHEAD; a++) {
                const index_t from = place[min(r + a, STAGE - 1)];
#if TOGETHER && WIDTH == 4
                *(float4*)next[a] = *(const float4*)(column[0] + from);
#elif TOGETHER && WIDTH == 2
                *(float2*)next[a] = *(const float2*)(column[0] + from);
#else
#pragma unroll
                for (int k = 0; k < WIDTH; k++) next[a][k] = column[k][from];
#endif
            }
        };
        fetch(0);
        if (!ANY && r0 == first) {  // where values have either sign, the first few show it
#pragma unroll
            for (int a = 0; a < AHEAD; a++)
#pragma unroll
                for (int k = 0; k < WIDTH; k++) lowest = lowered(lowest, next[a][k], next[a][k]);
            if (__syncthreads_or(lowest > SIGN)) break;
        }
        for (int r = 0; r < here; r += AHEAD) {
            float v[AHEAD][WIDTH];
#pragma unroll
            for (int a = 0; a < AHEAD; a++)
#pragma unroll
                for (int k = 0; k < WIDTH; k++) v[a][k] = next[a][k];
            fetch(r + AHEAD);
#pragma unroll
            for (int a = 0; a < AHEAD; a += 2) {
                if (!ANY && owners[r + a] != of) {
                    give();
                    of = owners[r + a];
                }
#pragma unroll
                for (int k = 0; k < WIDTH; k++) {
                    const float x = v[a][k], y = v[a + 1][k];
                    const float *g = gaps[r + a], *h = gaps[r + a + 1];
                    if (ANY) {
                        largest[k] = raised(largest[k], fabsf(x), fabsf(y));
                    } else {
                        largest[k] = raised(largest[k], x, y);
                        lowest = lowered(lowest, x, y);
                        own[k] = raised(own[k], x * g[EACH], y * h[EACH]);
                    }
#pragma unroll
                    for (int t = 0; t < EACH; t++) {
                        const float p = x * g[t], q = y * h[t];
                        up[t][k] = raised(up[t][k], p, q);
                        if (ANY) down[t][k] = lowered(down[t][k], p, q);
                    }
                }
            }
        }
    }
    if (!ANY) {
        if (__syncthreads_or(lowest > SIGN)) {
            negative[blockIdx.x] = 1;
            return;
        }
        give();
    }
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
        const index_t m = NEURON(k);
        if (m >= M) continue;
        if (largest[k] >= INFINITY_BITS) bad[m] = 1;
#pragma unroll
        for (int t = 0; t < EACH; t++) {
            raise(hi + t * M + m, up[t][k]);
            if (ANY) raise(lo + t * M + m, (int)(down[t][k] ^ SIGN));
        }
    }
}

extern "C" __global__ void __launch_bounds__(128) limits_few(
    const float* V, const float* limit, const int* row, const int* owner, int positions, index_t M, int chunk,
    float* hi, float* lo, unsigned char* negative, unsigned char* bad) {
    few<false>(V, limit, row, owner, positions, M, chunk, hi, lo, negative, bad);
}

extern "C" __global__ void __launch_bounds__(128) limits_few_signed(
    const float* V, const float* limit, const int* row, const int* owner, int positions, index_t M, int chunk,
    float* hi, float* lo, unsigned char* negative, unsigned char* bad) {
    few<true>(V, limit, row, owner, positions, M, chunk, hi, lo, negative, bad);
}
#endif

// ---------------------------------------------------------------------------------------------------------------
// Many targets. A block of NEURON_THREADS x TARGET_THREADS threads owns KEEP NEURON_THREADS neurons and
// EACH TARGET_THREADS targets, KEEP x EACH of them each thread. It goes through the samples STAGE at a time: the next
// ones are on their way from memory while these are multiplied. Past the end of samples or neurons the last ones are
// read again, which changes no maximum.
// `gaps` (rows, pitch) are the positive limits, zero where there is none; the negative ones are for `limits_own`.
// V comes GROUP values at a time: 4 where M is a multiple of 4, else 1.
// Grid: (target tiles, running fastest, times neuron tiles; chunks of samples).

#ifdef MANY
#define NEURON_THREADS 16
#define STAGE 16
#define THREADS (NEURON_THREADS * TARGET_THREADS)
#define TARGETS (EACH * TARGET_THREADS)
#define MARKED (8 * NEURON_THREADS)  // neurons of a tile in `negative`

// A few floats from global into shared memory, without waiting for them where the chip can.
template <int count>
__device__ __forceinline__ void copy(float* to, const float* from) {
#if __CUDA_ARCH__ >= 800
    const unsigned address = (unsigned)__cvta_generic_to_shared(to);
    if (count == 4) asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from));
    else asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(address), "l"(from));
#else
    for (int i = 0; i < count; i++) to[i] = from[i];
#endif
}

__device__ __forceinline__ void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// KEEP is 8, or 4 for ANY values, which take two maxima each.
template <int KEEP, bool ANY>
__device__ __forceinline__ void many(
    const float* __restrict__ V, const float* __restrict__ gaps, int rows, index_t M, int targets, int pitch,
    int chunk, float* hi, float* lo, unsigned char* negative, unsigned char* bad) {
    const int NEURONS = KEEP * NEURON_THREADS;
    __shared__ __align__(16) float values[2][STAGE][NEURONS];
    __shared__ __align__(16) float factors[2][STAGE][TARGETS];
    const int across = pitch / TARGETS;
    const index_t neuron0 = (index_t)(blockIdx.x / across) * NEURONS;
    const int target0 = (blockIdx.x % across) * TARGETS;
    unsigned char* const mark = negative + neuron0 / MARKED;
    if (ANY && !*mark) return;
    const int first = blockIdx.y * chunk, last = min(first + chunk, rows);
    // A warp is 8 threads of neurons times 4 of targets: what it reads from shared memory is little, and broadcast.
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int tn = warp % (NEURON_THREADS / 8) * 8 + lane % 8;
    const int tt = warp / (NEURON_THREADS / 8) * 4 + lane / 8;

    const int room = (int)min((index_t)NEURONS, M - neuron0) - GROUP;
    auto fetch = [&](int r0, int stage) {
#pragma unroll
        for (int i = threadIdx.x; i < STAGE * NEURONS / GROUP; i += THREADS) {
            const int r = i / (NEURONS / GROUP), n = i % (NEURONS / GROUP) * GROUP;
            copy<GROUP>(&values[stage][r][n], V + min(r0 + r, last - 1) * M + neuron0 + min(n, room));
        }
#pragma unroll
        for (int i = threadIdx.x; i < STAGE * TARGETS / 4; i += THREADS) {
            const int r = i / (TARGETS / 4), t = i % (TARGETS / 4) * 4;
            copy<4>(&factors[stage][r][t], gaps + (index_t)min(r0 + r, last - 1) * pitch + target0 + t);
        }
    };
    bool below = false;
    auto look_through = [&](int stage) {
#pragma unroll
        for (int i = threadIdx.x; i < STAGE * NEURONS; i += THREADS) {
            const int n = i % NEURONS;
            const float v = values[stage][i / NEURONS][n];
            below |= !ANY && v < 0.0f;
            if ((__float_as_int(v) & ~SIGN) >= INFINITY_BITS && neuron0 + n < M) bad[neuron0 + n] = 1;
        }
    };
    fetch(first, 0);
    if (!ANY) {  // where values have either sign, the first ones show it
        wait_for_copies();
        __syncthreads();
        look_through(0);
        if (__syncthreads_or(below)) {
            *mark = 1;
            return;
        }
    }
    int up[EACH][KEEP];
    unsigned down[EACH][KEEP];
#pragma unroll
    for (int t = 0; t < EACH; t++)
#pragma unroll
        for (int k = 0; k < KEEP; k++) up[t][k] = 0, down[t][k] = SIGN;
    for (int r0 = first, stage = 0; r0 < last; r0 += STAGE, stage ^= 1) {
        wait_for_copies();
        __syncthreads();
        if (r0 + STAGE < last) fetch(r0 + STAGE, stage ^ 1);
        if (target0 == 0) look_through(stage);  // once, and not for every tile of targets
#pragma unroll
        for (int r = 0; r < STAGE; r += 2) {
            float v[2][KEEP], s[2][EACH];
#pragma unroll
            for (int a = 0; a < 2; a++) {
#pragma unroll
                for (int k = 0; k < KEEP; k += 4)
                    *(float4*)&v[a][k] = *(const float4*)&values[stage][r + a][4 * tn + k * NEURON_THREADS];
#pragma unroll
                for (int t = 0; t < EACH; t++) s[a][t] = factors[stage][r + a][EACH * tt + t];
            }
#pragma unroll
            for (int t = 0; t < EACH; t++)
#pragma unroll
                for (int k = 0; k < KEEP; k++) {
                    const float p = v[0][k] * s[0][t], q = v[1][k] * s[1][t];
                    up[t][k] = raised(up[t][k], p, q);
                    if (ANY) down[t][k] = lowered(down[t][k], p, q);
                }
        }
    }
    if (below) *mark = 1;
#pragma unroll
    for (int t = 0; t < EACH; t++)
#pragma unroll
        for (int k = 0; k < KEEP; k++) {
            const index_t m = neuron0 + 4 * tn + k / 4 * 4 * NEURON_THREADS + k % 4;
            const int j = target0 + EACH * tt + t;
            if (j >= targets || m >= M) continue;
            raise(hi + j * M + m, up[t][k]);
            if (ANY) raise(lo + j * M + m, (int)(down[t][k] ^ SIGN));
        }
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) limits_many(
    const float* V, const float* gaps, int rows, index_t M, int targets, int pitch, int chunk, float* hi, float* lo,
    unsigned char* negative, unsigned char* bad) {
    many<8, false>(V, gaps, rows, M, targets, pitch, chunk, hi, lo, negative, bad);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) limits_many_signed(
    const float* V, const float* gaps, int rows, index_t M, int targets, int pitch, int chunk, float* hi, float* lo,
    unsigned char* negative, unsigned char* bad) {
    many<4, true>(V, gaps, rows, M, targets, pitch, chunk, hi, lo, negative, bad);
}
#endif

// ---------------------------------------------------------------------------------------------------------------
// A target's own samples. A thread has one neuron and one target j, and goes through the samples
// samples[start[j] .. start[j+1]) in their order. Grid: (blocks of neurons, targets).

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
