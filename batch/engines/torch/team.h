/* Threads that do the parts of a step together, in one parallel region, and those parts as stack.c puts them together. */
#ifdef __x86_64__
#include <immintrin.h>
#define PAUSE() _mm_pause()
#else
#define PAUSE() (void)0
#endif
#include <sched.h>
#include <stdatomic.h>

#define PATIENCE 10000 /* pauses, before a thread that waits for another gives its processor to it */

/* Where threads wait for one another. */
typedef struct {
    int threads;
    _Atomic int came;
    char apart[56]; /* a cache line each */
    _Atomic unsigned times;
} Team;

/* Return when all have come; what they wrote before is seen after. */
static inline void meet(Team *team) {
    unsigned times = atomic_load(&team->times);
    if (atomic_fetch_add(&team->came, 1) + 1 == team->threads) {
        atomic_store(&team->came, 0);
        atomic_store(&team->times, times + 1);
        return;
    }
    for (int spins = 0; atomic_load(&team->times) == times; spins++)
        if (spins < PATIENCE) PAUSE();
        else sched_yield();
}

/* A linear layer whose weights are packed, as native.py tells of it; see gemm.c. Counts are elements. */
typedef struct {
    int64_t bits, paired, inputs, outputs;
    const uint8_t *weights;
    int64_t weights_count;
    const uint16_t *steps;
    int64_t steps_count;
    const float *scales;
    int64_t scales_count;
    const float *offsets;
    int64_t offsets_count;
    const float *bias;
    int64_t bias_count;
} Linear;

/* Rows that go through one; out[rows, outputs], or half of them where gated. norm and residual may be NULL. */
typedef struct {
    const float *x, *norm, *residual;
    float *out, eps;
    int gated;
    int64_t rows;
} Passed;

int linear_fits(const Linear *layer); /* as REQUIRE says */
int64_t product_room(const Linear *layer, int64_t rows, int threads); /* bytes */
/* By one thread, before any of them works on it; `room` is aligned to 64 bytes. */
void product_begin(void *room, const Linear *layer, const Passed *passed, int threads);
void product_work(void *room, int me);

/* Norms and rotation of queries and keys, and their way to the cache; as set_f32 and set_bf16 of kernels.c. */
typedef struct {
    const float *qkv, *q_weight, *k_weight, *cosine, *sine;
    const int64_t *slots, *at;
    float *q, eps;
    void *keys, *values;
    int64_t tokens, heads, kv_heads, size, columns;
} Setting;

void set_part_f32(const Setting *s, int64_t part, int64_t parts);
void set_part_bf16(const Setting *s, int64_t part, int64_t parts);

/* Where the tokens of a step are, as attention.c's `attend` has it; `tokens` numbers each but for the blocks. */
typedef struct {
    const int64_t *table; /* [table_rows, width] */
    int64_t table_rows, width, pages;
    const int64_t *prefix_lengths;
    int64_t prefixes;
    const int64_t *rows, *firsts, *lasts, *whiches;
    int64_t tokens;
    const int64_t *begins, *ends;
    int64_t blocks, longest;
} Places;

typedef struct {
    Places places;
    const float *q, *sinks;
    float *out, scale, cap;
    int half;
    const char *keys, *values, *const *prefix_keys, *const *prefix_values;
    int64_t apart; /* from a prefix's pointer to that of the next one */
    int64_t heads, kv_heads, size;
} Attending;

int places_fit(const Places *places, int64_t group);
int64_t attend_floats(int64_t longest, int64_t size); /* that a thread has to work in; -1 where they are too many */
void attend_work(const Attending *a, _Atomic int64_t *next, float *scratch);
