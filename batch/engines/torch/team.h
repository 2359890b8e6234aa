/* Threads that do the parts of a step together, in one parallel region, and those parts as stack.c puts them
 * together. */
#ifdef __x86_64__
#include <immintrin.h>
#define PAUSE() _mm_pause()
#else
#define PAUSE() (void)0
#endif
#include <sched.h>
#include <stdatomic.h>

#define PATIENCE 10000 /* pauses, before a thread that waits for another gives its processor to it */

/* Phases of work, one after the other, each of so many units that any thread does. A thread that has lost its processor
 * holds nobody up but for the unit it is in: others do the rest, and go on with the next phase; it joins them there. */
typedef struct {
    _Atomic uint64_t ticket; /* the phase, its units, and how many of them are taken: 16, 24 and 24 bits */
    char apart[56];          /* a cache line each */
    _Atomic int64_t done;
} Team;

#define MOST_PHASES (1 << 16)
#define MOST_UNITS (1 << 24)

typedef struct {
    int64_t phase, units, unit;
} Ticket;

static inline Ticket ticket_of(uint64_t bits) {
    return (Ticket){bits >> 48, bits >> 24 & (MOST_UNITS - 1), bits & (MOST_UNITS - 1)};
}

/* By one thread alone: what was written before is seen by whoever takes a unit. */
static inline void open_phase(Team *team, int64_t phase, int64_t units) {
    atomic_store(&team->done, 0);
    atomic_store(&team->ticket, (uint64_t)phase << 48 | (uint64_t)units << 24);
}

/* The next unit that nobody has, of whichever phase it then is; waits while others finish theirs. A phase that is not
 * below `phases` has come to the end of all. */
static inline Ticket take_ticket(Team *team, int64_t phases) {
    for (int spins = 0;; spins++) {
        Ticket seen = ticket_of(atomic_load(&team->ticket));
        if (seen.phase >= phases) return seen;
        if (seen.unit < seen.units) {
            seen = ticket_of(atomic_fetch_add(&team->ticket, 1));
            if (seen.phase >= phases || seen.unit < seen.units) return seen;
        }
        if (spins < PATIENCE) PAUSE();
        else sched_yield();
    }
}

/* Whether a unit that is done was the last of its phase: then its thread opens the next one. */
static inline int finished(Team *team, Ticket ticket) { return atomic_fetch_add(&team->done, 1) + 1 == ticket.units; }

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
/* Then every block of rows is rounded, and after that every unit multiplied, each by any thread. */
int64_t product_blocks(const void *room);
void product_round(void *room, int64_t block, int me);
int64_t product_units(const void *room);
void product_multiply(void *room, int64_t unit);

/* Norms and rotation of queries and keys, and their way to the cache; as set_cache of kernels.c. */
typedef struct {
    const float *qkv, *q_weight, *k_weight, *cosine, *sine;
    const int64_t *slots, *at;
    float *q, eps;
    int kind;
    char *keys, *values;
    int64_t tokens, heads, kv_heads, size, columns;
} Setting;

void set_part(const Setting *s, int64_t part, int64_t parts);

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
    const float *q, *sinks, *slopes;
    float *out, scale, cap;
    int kind;
    const char *keys, *values, *const *prefix_keys, *const *prefix_values;
    int64_t apart; /* from a prefix's pointer to that of the next one */
    int64_t heads, kv_heads, size;
} Attending;

int places_fit(const Places *places, int64_t group);
int prefix_fits(int kind, int64_t length, int64_t count, int64_t kv_heads, int64_t size);
int64_t attend_floats(int64_t longest, int64_t size); /* that a thread has to work in; -1 where they are too many */
int64_t attend_tasks(const Attending *a);
void attend_task(const Attending *a, int64_t task, float *scratch);
