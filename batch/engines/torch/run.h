/* Softmax by chunks of columns, and attention of a run: tokens side by side in one row see the same columns.
 *
 * A run goes through these once, a chunk at a time whose scores stay in the first cache. What a chunk brings is added
 * to what those before it gave, put on the scale of the largest score so far (Milakov 2018; FlashAttention, Dao 2022).
 */

#ifdef __AVX512F__
#include <immintrin.h>

#define NEAREST (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

static const float EXACT[] = {1.3276472e-3f, 9.675541e-3f, 5.550713e-2f, 2.4022120e-1f, 6.9314694e-1f, 1.0f};
static const float BRIEF[] = {5.517167e-2f, 2.4261113e-1f, 6.9326097e-1f, 9.9992806e-1f};

/* 2^x for x <= 0; 0 below -125. 2^n by the exponent, the rest, |r| <= 1/2, by the polynomial of least relative error:
 * 3e-7 of it, or 1e-4 where it is rounded to bfloat16 anyway (`brief`). */
INLINE __m512 power_below(__m512 x, int brief) {
    const float *p = brief ? BRIEF : EXACT;
    __m512 n = _mm512_roundscale_ps(x, NEAREST);
    __m512 r = _mm512_sub_ps(x, n), power = _mm512_set1_ps(p[0]);
    for (int i = 1; i < (brief ? 4 : 6); i++) power = _mm512_fmadd_ps(power, r, _mm512_set1_ps(p[i]));
    __mmask16 seen = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-125.0f), _CMP_NLT_UQ); /* keeps NaN */
    return _mm512_maskz_scalef_ps(seen, power, n);
}
#endif

/* Scores [columns, lanes] to shares that are still to be divided by their sum; a hidden column's score is -inf. most
 * and sums: of each lane until now, -inf and 0 at first; change: what shares before these are to be multiplied by. */
INLINE void softmax(float *restrict scores, int64_t columns, int lanes, float *restrict most, float *restrict sums,
                    float *restrict change, int brief) {
#ifdef __AVX512F__
    const __m512 log2e = _mm512_set1_ps(1.44269504088896341f);
    for (int j = 0; j < lanes; j += LANES) {
        const __m512 none = _mm512_set1_ps(-INFINITY);
        __m512 before = _mm512_loadu_ps(most + j), now = before;
        for (int64_t c = 0; c < columns; c++) now = _mm512_max_ps(_mm512_loadu_ps(scores + c * lanes + j), now);
        __m512 base = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(now, none, _CMP_NEQ_UQ), now); /* 0: all are hidden */
        /* Exactly 1 where nothing changes: it is taken once a chunk, so that an error would grow with their number. */
        __m512 factor = power_below(_mm512_mul_ps(_mm512_sub_ps(before, base), log2e), 0);
        base = _mm512_mul_ps(base, log2e);
        __m512 sum = _mm512_mul_ps(_mm512_loadu_ps(sums + j), factor);
        for (int64_t c = 0; c < columns; c++) {
            __m512 share = power_below(_mm512_fmsub_ps(_mm512_loadu_ps(scores + c * lanes + j), log2e, base), brief);
            _mm512_storeu_ps(scores + c * lanes + j, share);
            sum = _mm512_add_ps(sum, share);
        }
        _mm512_storeu_ps(most + j, now), _mm512_storeu_ps(sums + j, sum), _mm512_storeu_ps(change + j, factor);
    }
#else
    float now[QUERIES], sum[QUERIES]; /* local, so that the loops over lanes become vectors */
    for (int j = 0; j < lanes; j++) now[j] = most[j];
    for (int64_t c = 0; c < columns; c++)
        for (int j = 0; j < lanes; j++) now[j] = scores[c * lanes + j] > now[j] ? scores[c * lanes + j] : now[j];
    for (int j = 0; j < lanes; j++) {
        float before = most[j];
        most[j] = now[j], now[j] = now[j] == -INFINITY ? 0.0f : now[j]; /* all are hidden */
        change[j] = before == -INFINITY ? 0.0f : exp_fast(before - now[j]), sum[j] = sums[j] * change[j];
    }
    for (int64_t c = 0; c < columns; c++)
        for (int j = 0; j < lanes; j++) {
            float below = scores[c * lanes + j] - now[j], share = exp_fast(below);
            share = below < -87.0f ? 0.0f : share;
            scores[c * lanes + j] = share;
            sum[j] += share;
        }
    for (int j = 0; j < lanes; j++) sums[j] = sum[j];
#endif
}

/* A sink, -inf for none, is one more score that takes its share to nowhere (gpt-oss): the softmax begins with it. */
INLINE void begin_softmax(const Block *b, int group, int queries, float *most, float *sums) {
    for (int j = 0; j < QUERIES; j++) {
        most[j] = b->sinks && j < queries ? b->sinks[j % group] : -INFINITY;
        sums[j] = most[j] == -INFINITY ? 0.0f : 1.0f;
    }
}

/* Columns [start, start + count) of a part, whose scores are those, that tokens of the run do not see. */
INLINE void hide(const Block *b, int group, int lanes, int part, int64_t start, int64_t count, float *scores) {
    for (int t = 0; t < b->tokens; t++) {
        int64_t first = (part ? b->hidden[t] : b->far_hidden[t]) - start;
        int64_t last = part ? b->near->count - b->after[t] - start : count;
        float *lane = scores + t * group;
        for (int64_t c = 0; c < count; c++)
            if (c < first || c >= last)
                for (int g = 0; g < group; g++) lane[c * lanes + g] = -INFINITY;
            else if (last < count) c = last - 1; /* on to those behind */
            else break;
    }
}

/* Columns as in `hide`: their scores are held below the cap, get what their places add, and are hidden. */
INLINE void bend(const Block *b, int group, int queries, int lanes, int part, int64_t start, int64_t count,
                 float *scores) {
    if (b->cap > 0) soften(scores, count * lanes, b->cap);
    if (b->slopes) {
        float slopes[QUERIES] = {0}, begins[QUERIES] = {0};
        for (int j = 0; j < queries; j++) {
            slopes[j] = b->slopes[j % group];
            begins[j] = (part ? b->near_from : b->far_from)[j / group] + (float)start;
        }
        tilt(scores, count, lanes, slopes, begins);
    }
    hide(b, group, lanes, part, start, count, scores);
}

#include "run_pairs.h"
#include "run_tiles.h"

INLINE void attend_run(const Block *b, int group, int half, int size, int vectors, float *scratch, float *out) {
    if (PAIRS(half, size) && tiles_allowed()) {
        attend_run_tiles(b, group, size, scratch, out);
        return;
    }
    if (PAIRS(half, size)) {
        attend_run_pairs(b, group, size, vectors, scratch, out);
        return;
    }
    int lanes = vectors * LANES, queries = b->tokens * group, padded = (size + LANES - 1) / LANES * LANES;
    int column = size * (half ? 2 : 4);
    float *upright = scratch, *sums = upright + QUERIES * padded, *tile = sums + QUERIES * padded;
    float *scores = tile + COLUMNS * padded, most[QUERIES], total[QUERIES], change[QUERIES];
    memset(upright, 0, sizeof(float) * 2 * QUERIES * padded);
    for (int j = 0; j < queries; j++)
        for (int i = 0; i < size; i++)
            upright[i * lanes + j] = b->q[j / group * b->stride + j % group * size + i] * b->scale;
    begin_softmax(b, group, queries, most, total);

    for (int part = 0; part < 2; part++) {
        const Part *own = part ? b->near : &b->far;
        for (int64_t start = 0; start < own->count; start += CHUNK) {
            int64_t count = own->count - start < CHUNK ? own->count - start : CHUNK;
            for (int64_t c = 0; c < count; c += COLUMNS) {
                int columns = count - c < COLUMNS ? count - c : COLUMNS;
                const char *stored = tile_of(own, start + c, 0, column);
                score_tile(upright, vectors, widen(stored, columns, half, size, padded, tile), columns, padded,
                           scores + c * lanes);
            }
            bend(b, group, queries, lanes, part, start, count, scores);
            softmax(scores, count, lanes, most, total, change, 0);
            for (int j = 0; j < queries; j++)
                for (int i = 0; i < padded; i++) sums[j * padded + i] *= change[j];
            for (int64_t c = 0; c < count; c += COLUMNS) {
                int columns = count - c < COLUMNS ? count - c : COLUMNS;
                const char *stored = tile_of(own, start + c, 1, column);
                value_tile(scores + c * lanes, lanes, widen(stored, columns, half, size, padded, tile), columns,
                           queries, padded, sums);
            }
        }
    }
    for (int j = 0; j < queries; j++) {
        float *to = out + j / group * b->stride + j % group * size, scale = 1.0f / total[j];
        for (int i = 0; i < size; i++) to[i] = sums[j * padded + i] * scale;
    }
}
