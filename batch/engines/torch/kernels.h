/* What the native kernels have in common: types of a KV cache, a fast exponential, and what is done to a row. */
#ifdef _OPENMP
#include <omp.h>
#define THREAD omp_get_thread_num()
#else
#define THREAD 0
#endif
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SMALL 16384 /* elements that one thread does sooner than it wakes another */

#define LARGEST_HEAD 1024 /* elements of a key */
#define NO_MEMORY -1

/* Every function that is called from outside first checks all it will read or write against the sizes of the memory it
 * was given, and touches none of it where they do not fit: it returns the line of the check, 0 where it did its
 * work. */
#define REQUIRE(fits)                                                                                                  \
    do                                                                                                                 \
        if (!(fits)) return __LINE__;                                                                                  \
    while (0)

/* The product of three extents, -1 where one is negative or it does not fit. */
static inline int64_t extent(int64_t a, int64_t b, int64_t c) {
    int64_t both, all;
    if (a < 0 || b < 0 || c < 0 || __builtin_mul_overflow(a, b, &both)) return -1;
    return __builtin_mul_overflow(both, c, &all) ? -1 : all;
}

typedef uint16_t bf16;

static inline float from_bf16(bf16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
static inline bf16 to_bf16(float x) { /* to the nearest, ties to even */
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (x != x) return 0x7fc0;
    return (bf16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* e^x to 1e-7 of it: 2^n by the exponent's bits, the rest by a polynomial (Cephes, expf). */
static inline float exp_fast(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = rintf(x * 1.44269504088896341f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t bits = (uint32_t)((n == n ? (int32_t)n : 0) + 127) << 23; /* of NaN the rest stays NaN */
    float scale;
    memcpy(&scale, &bits, 4);
    return p * scale;
}

static inline float square_sum(const float *x, int64_t n) {
    float sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sum;
}

/* out = x / sqrt(mean(x²) + eps) · weight; a row. */
static inline void norm_row(const float *x, const float *weight, float *out, int64_t n, float eps) {
    float scale = 1.0f / sqrtf(square_sum(x, n) / n + eps);
    for (int64_t i = 0; i < n; i++) out[i] = weight[i] * (x[i] * scale);
}

/* out[n] = silu(gate) · up; x: the gates, then as many more. */
static inline void gate_row(const float *x, float *out, int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = x[i] / (1.0f + exp_fast(-x[i])) * x[n + i];
}

/* The largest absolute value of a row; NaN where there is one among them. */
static inline float largest_size(const float *from, int64_t n) {
    uint32_t most = 0; /* as whole numbers NaN is above all others */
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, from + i, 4);
        bits &= 0x7fffffff;
        most = bits > most ? bits : most;
    }
    float largest;
    memcpy(&largest, &most, 4);
    return largest;
}

/* One row, whose largest size that is, to 8 bits around 128; its scale. NaN among it makes the scale NaN. */
static inline float quantise_row(const float *from, uint8_t *to, int64_t n, float largest) {
    if (largest < 1e-12f) largest = 1e-12f;
    float inverse = 127.0f / largest;
    for (int64_t i = 0; i < n; i++) to[i] = (uint8_t)(int32_t)(from[i] * inverse + 128.5f);
    return largest / 127.0f;
}
