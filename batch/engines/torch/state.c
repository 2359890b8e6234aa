/* One token's step of the states of selective state spaces (Gu and Dao 2023; Dao and Gu 2024), each read and written
 * once.
 *
 * Of a head, with its step d and rates a: state[p][n] = exp(d a[n]) state[p][n] + d x[p] b[n]; out[p] = sum of
 * state[p][n] c[n].
 */
#include "kernels.h"

static float step_by_one(float *restrict s, float decay, float drive, const float *restrict b, const float *restrict c,
                         int64_t size) {
    float sum = 0;
    for (int64_t n = 0; n < size; n++) {
        s[n] = s[n] * decay + drive * b[n];
        sum += s[n] * c[n];
    }
    return sum;
}

static float step_by_each(float *restrict s, float d, const float *restrict a, float drive, const float *restrict b,
                          const float *restrict c, int64_t size) {
    float sum = 0;
    for (int64_t n = 0; n < size; n++) {
        s[n] = s[n] * exp_fast(d * a[n]) + drive * b[n];
        sum += s[n] * c[n];
    }
    return sum;
}

/* state: [rows, heads, wide, size]; x and out: [rows, heads, wide]; steps: [rows, heads]; rates: [heads], or [heads,
 * size]; b and c: [rows, groups, size], those of heads / groups neighbours. Returns 0, or as REQUIRE says. */
int state_step(float *state, int64_t state_count, const float *x, int64_t x_count, const float *steps,
               int64_t steps_count, const float *rates, int64_t rates_count, const float *b, const float *c,
               int64_t bc_count, float *out, int64_t out_count, int64_t rows, int64_t heads, int64_t wide, int64_t size,
               int64_t groups, int threads) {
    REQUIRE(threads > 0 && rows >= 0 && heads > 0 && wide > 0 && size > 0 && groups > 0 && heads % groups == 0);
    int64_t units = extent(rows, heads, 1), each = extent(heads, size, 1), numbers = extent(rows, heads, wide);
    REQUIRE(units >= 0 && each > 0 && numbers >= 0 && state_count == extent(numbers, size, 1));
    REQUIRE(x_count == numbers && out_count == numbers && steps_count == units);
    REQUIRE(bc_count == extent(rows, groups, size) && (rates_count == heads || rates_count == each));
#pragma omp parallel for num_threads(threads) if (state_count > SMALL)
    for (int64_t unit = 0; unit < units; unit++) {
        int64_t h = unit % heads, at = (unit / heads * groups + h / (heads / groups)) * size;
        float d = steps[unit], decay = rates_count == heads ? expf(d * rates[h]) : 0.0f;
        for (int64_t p = unit * wide; p < (unit + 1) * wide; p++) {
            float *own = state + p * size, drive = d * x[p];
            out[p] = rates_count == heads ? step_by_one(own, decay, drive, b + at, c + at, size)
                                          : step_by_each(own, d, rates + h * size, drive, b + at, c + at, size);
        }
    }
    return 0;
}
