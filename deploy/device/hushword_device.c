/* The matcher of hushword_device.h: samples to half the rate, to band energies, to words of bits, to a verdict.
 *
 * Every step has its counterpart in Python, named at its head; what differs is how it is computed, not what. */
#include "hushword_device.h"

#include <string.h>

#include "hushword_tables.h"

/* Inlined, some would run out of registers for each other. SMALL is what compilers that know how make small rather than
 * fast, with all that it alone calls: most of it gains nothing by its size. */
#ifdef __GNUC__
#define FAST __attribute__((noinline, hot))
#define SMALL __attribute__((noinline, cold))
#define INLINE inline __attribute__((always_inline))
#else
#define FAST
#define SMALL
#define INLINE inline
#endif

enum {
    HALF_WINDOW = 512,   /* samples of a frame at 8 kHz: 64 ms */
    HALF_HOP = 80,       /* 10 ms */
    POINTS = 256,        /* of the complex transform that a real one of 512 is made from */
    WORD_FRAMES = 4,     /* a word every 40 ms */
    BATCH = 3,           /* words that are computed at once: nothing is decided before the look that they are for */
    MEAN_BLOCKS = HW_MEAN_FRAMES / WORD_FRAMES,
    BLOCKS = HW_MEAN_FRAMES / WORD_FRAMES + BATCH - 1,
    SIDE = 3,            /* alignments of -3 to 3 words: requests begin within 100 ms of the entry's beginning */
    ALIGNMENTS = 2 * SIDE + 1,
    HOP = 2 * HALF_HOP,
    REACH = 2 * HW_PAIRS - 1, /* samples that the decimator sees on each side */
    KEPT = 2 * REACH - 1,     /* of those before a hop */
    WARM_HOPS = 7             /* to the first frame's end */
};

/* The pack, byte by byte: docs/device.md. */
enum {
    AT_VERSION = 4, AT_HEADER = 6, AT_BYTES = 8, AT_CRC = 12, AT_BITS = 16, AT_ENTRIES = 48, AT_WORDS = 50,
    AT_FIRST_LOOK = 52, AT_LOOK_STEP = 53, AT_LOOKS = 54, AT_ALIGNMENT = 55, AT_CUT = 60, AT_LOOK_TABLE = 64,
    LOOK_BYTES = 14,
    VERSION = 1, CRC_FROM = 16,
    ENTRY_FROM = 8, ENTRY_UNTIL = 12, ENTRY_LENGTH = 16, ENTRY_FLAGS = 18, ENTRY_WORDS = 20,
    DECIDES = 1, MOST_WORDS = 128
};

/* Loudness in one band at the same tap of BATCH words. Where a register holds two of them, one multiplication does. */
#if UINTPTR_MAX > 0xffffffffu
typedef struct { int64_t two; int32_t one; } loudness;
#else
typedef struct { int32_t one[BATCH]; } loudness;
#endif

struct hw_state {
    const uint8_t *pack;
    uint64_t dither;
    uint32_t unix_s, fresh, frames, words; /* `fresh` samples of the next hop are there */
    int32_t halved; /* samples; those before the first one are silence */
    uint32_t header_bytes, entry_bytes, entries, look_words, first_look, look_step, cut;
    hw_verdict verdict;
    int matched;
    float ring[HALF_WINDOW]; /* of the halved samples */
    uint16_t louds[HW_MEAN_FRAMES][HW_BANDS]; /* energies to the power of .8, packed */
    uint16_t blocks[BLOCKS][HW_BANDS];        /* sums of the energies of WORD_FRAMES frames, packed */
    float block[HW_BANDS];                    /* the next one so far */
    union { /* a hop's samples are gone, but for those that the next one needs, before the rest is needed */
        float input[KEPT + HOP];
        struct {
            float kept[KEPT];
            union {
                float spectrum[2 * POINTS];
                struct {
                    loudness x[HW_BANDS];
                    float scale[BATCH][HW_BANDS];
                    int64_t responses[HW_FILTERS][BATCH];
                } words;
                struct {
                    uint32_t reciprocals[MOST_WORDS + 1];
                    uint16_t rates[HW_MAX_ENTRIES][3]; /* over all words, those before the cut, those after it */
                } look;
            } of;
        } work;
    } scratch;
    uint16_t errors[][2][ALIGNMENTS]; /* of each entry, before the cut and after it */
};

/* Compiles only when the header promises enough. */
typedef char hw_state_fits[(sizeof(struct hw_state) <= 8u * HW_STATE_WORDS(0u)) ? 1 : -1];
typedef char hw_rows_fit[(sizeof(uint16_t[2][ALIGNMENTS]) <= 32u) ? 1 : -1];

static uint32_t u16_at(const uint8_t *at) { return (uint32_t)at[0] | (uint32_t)at[1] << 8; }

static INLINE uint32_t u32_at(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* CRC-32 of zlib, a bit at a time: it is computed once a pack. */
static SMALL uint32_t crc32_of(const uint8_t *bytes, size_t count) {
    uint32_t crc = 0xffffffffu, bit;
    size_t i;
    for (i = 0; i < count; i++)
        for (crc ^= bytes[i], bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1u)));
    return ~crc;
}

static const uint8_t *entry_at(const hw_state *state, uint32_t entry) {
    return state->pack + state->header_bytes + entry * state->entry_bytes;
}

SMALL hw_error hw_init(hw_state *state, size_t memory_bytes, const uint8_t *pack, size_t pack_bytes) {
    uint32_t header, entries, words, looks, first, step, cut, i;
    if (memory_bytes < sizeof *state) return HW_STATE_TOO_SMALL;
    memset(state, 0, sizeof *state);
    state->verdict = HW_NO_MATCH;
    state->matched = -1;
    if (pack_bytes < AT_LOOK_TABLE || memcmp(pack, "HWPK", 4) != 0 || u16_at(pack + AT_VERSION) != VERSION)
        return HW_NOT_A_PACK;
    if (u32_at(pack + AT_BYTES) != pack_bytes) return HW_DAMAGED;
    if (crc32_of(pack + CRC_FROM, pack_bytes - CRC_FROM) != u32_at(pack + AT_CRC)) return HW_DAMAGED;
    if (u32_at(pack + AT_BITS) != HW_BITS_ID) return HW_OTHER_BITS;
    header = u16_at(pack + AT_HEADER);
    entries = u16_at(pack + AT_ENTRIES);
    words = u16_at(pack + AT_WORDS);
    first = pack[AT_FIRST_LOOK];
    step = pack[AT_LOOK_STEP];
    looks = pack[AT_LOOKS];
    cut = pack[AT_CUT];
    if (entries < HW_LEAST_ENTRIES || entries > HW_MAX_ENTRIES || words < 1 || words > MOST_WORDS ||
        pack[AT_ALIGNMENT] != SIDE || cut <= SIDE || first <= 2 * SIDE || step < 1 || looks < 1 ||
        first + step * (looks - 1) > words ||
        header < AT_LOOK_TABLE + LOOK_BYTES * looks || header > pack_bytes ||
        pack_bytes - header != (size_t)entries * (ENTRY_WORDS + 4u * words))
        return HW_OUT_OF_RANGE;
    if (memory_bytes < sizeof *state + entries * sizeof state->errors[0]) return HW_STATE_TOO_SMALL;
    for (i = 0; i < 3 * looks; i++)
        if (u16_at(pack + AT_LOOK_TABLE + LOOK_BYTES * (i / 3) + 2 * (i % 3)) < HW_LEAST_ACCEPT) return HW_OUT_OF_RANGE;
    for (i = 0; i < entries; i++)
        if (u16_at(pack + header + (ENTRY_WORDS + 4u * words) * i + ENTRY_LENGTH) > words) return HW_OUT_OF_RANGE;
    state->pack = pack;
    state->header_bytes = header;
    state->entry_bytes = ENTRY_WORDS + 4u * words;
    state->entries = entries;
    state->look_words = first + step * (looks - 1);
    state->cut = cut;
    state->first_look = first;
    state->look_step = step;
    return HW_OK;
}

SMALL void hw_reset(hw_state *state, uint64_t seed, uint32_t unix_s) {
    state->dither = seed;
    state->unix_s = unix_s;
    state->frames = state->words = 0;
    state->halved = HALF_WINDOW - WARM_HOPS * HALF_HOP;
    state->fresh = WARM_HOPS * HOP - 2 * HALF_WINDOW - REACH + 1; /* the first frame's end is a hop's */
    state->verdict = state->pack ? HW_NOT_YET : HW_NO_MATCH;
    state->matched = -1;
    memset(state->block, 0, sizeof state->block);
    memset(&state->scratch, 0, sizeof state->scratch);
    memset(state->errors, 0, state->entries * sizeof state->errors[0]);
}

int hw_matched_entry(const hw_state *state) { return state->matched; }

SMALL uint64_t hw_matched_media(const hw_state *state) {
    const uint8_t *at;
    if (state->matched < 0) return 0;
    at = entry_at(state, (uint32_t)state->matched);
    return (uint64_t)u32_at(at) | (uint64_t)u32_at(at + 4) << 32;
}

#define GOLDEN 0x9e3779b97f4a7c15u

/* matcher.grid.add_dither: SplitMix64 as a counter, triangular noise of one step. In 32,768ths of a step, of which a
 * float keeps what matters. */
static INLINE float dithered(uint64_t counter, int16_t sample) {
    uint64_t x = counter;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return (float)((int32_t)sample * 32768 + (int32_t)(x >> 49) - (int32_t)(x >> 9 & 0x7fffu));
}

/* A half-band filter: every other coefficient is 0, the middle one a half. */
#if defined(__x86_64__) || defined(__i386__) /* which read an operand from memory while they add */
enum { AT_ONCE = 1 };
#define PAIR(i) one += hw_half_band[i] * (at[1 + 2 * (i)] + at[-1 - 2 * (i)])
#else /* which load each sample: once for both */
enum { AT_ONCE = 2 };
#define PAIR(i)                                                \
    one += hw_half_band[i] * (at[1 + 2 * (i)] + at[-1 - 2 * (i)]), \
    two += hw_half_band[i] * (at[3 + 2 * (i)] + at[1 - 2 * (i)])
#endif
#define PAIRS(i) PAIR(i), PAIR((i) + 1), PAIR((i) + 2), PAIR((i) + 3), PAIR((i) + 4), PAIR((i) + 5)
static SMALL void halve(hw_state *state) {
    const float *at = state->scratch.input + REACH, *end = at + HOP;
    uint32_t into = (uint32_t)state->halved;
    for (; at < end; at += 2 * AT_ONCE, into += AT_ONCE) {
        float one = 0.5f * at[0], two = 0.5f * at[2 * AT_ONCE - 2];
        PAIRS(0), PAIRS(6), PAIRS(12), PAIRS(18);
        state->ring[into & (HALF_WINDOW - 1)] = one;
        if (AT_ONCE == 2) state->ring[(into + 1) & (HALF_WINDOW - 1)] = two;
    }
    state->halved += HALF_HOP;
    memcpy(state->scratch.input, state->scratch.input + HOP, KEPT * sizeof(float));
}
typedef char hw_pairs_fit[HW_PAIRS == 24 ? 1 : -1];

/* Four points of a transform: of the first and the third their sum p and difference q, of the others s and t. */
#define BUTTERFLY(pr, pi, qr, qi, sr, si, tr, ti, a, b, c, d)                   \
    do {                                                                        \
        (a)[0] = (pr) + (sr), (a)[1] = (pi) + (si);                             \
        (b)[0] = (qr) + (ti), (b)[1] = (qi) - (tr);                             \
        (c)[0] = (pr) - (sr), (c)[1] = (pi) - (si);                             \
        (d)[0] = (qr) - (ti), (d)[1] = (qi) + (tr);                             \
    } while (0)

/* Sum and difference of two samples half a frame apart, behind the Hann window, twice as high: 1 - c and 1 + c. */
#define WINDOWED(sum, difference, first, second, c)                                           \
    const float sum##_ = (first) + (second), difference##_ = (first) - (second);              \
    const float sum = sum##_ - (c) * difference##_, difference = difference##_ - (c) * sum##_

/* The window, and the first pass over the frame that begins at `start` of the ring, a multiple of 16. Butterfly r takes
 * pairs of samples from r's four-digit mirror image on, and those a quarter, a half, and three quarters later. */
static SMALL void windowed_pass(const float *ring, uint32_t start, float *z) {
    uint32_t row, half, i;
    for (row = 0; row < 8; row++) {
        const uint32_t at = start + 16 * row;
        const float *a = ring + (at & (HALF_WINDOW - 1)), *b = ring + ((at + 128) & (HALF_WINDOW - 1));
        const float *c = ring + ((at + 256) & (HALF_WINDOW - 1)), *d = ring + ((at + 384) & (HALF_WINDOW - 1));
        const float *cosine = hw_cosine + 16 * row;
        float *out = z + 8 * (row >> 1) + 64 * (row & 1);
        for (half = 0; half < 2; half++, out += 32 - 4 * 128)
            for (i = 0; i < 4; i++, a += 2, b += 2, c += 2, d += 2, cosine += 2, out += 128) {
                WINDOWED(pr, qr, a[0], c[0], cosine[0]);
                WINDOWED(pi, qi, a[1], c[1], cosine[1]);
                WINDOWED(sr, tr, b[0], d[0], cosine[128]);
                WINDOWED(si, ti, b[1], d[1], cosine[129]);
                BUTTERFLY(pr, pi, qr, qi, sr, si, tr, ti, out, out + 2, out + 4, out + 6);
            }
    }
}

/* A butterfly whose last three points are turned first, each by a cosine and a negative sine. */
static INLINE void twiddled(float *a, uint32_t span, float c1, float m1, float c2, float m2, float c3, float m3) {
    float *b = a + span, *c = b + span, *d = c + span;
    const float br = b[0] * c1 - b[1] * m1, bi = b[1] * c1 + b[0] * m1;
    const float cr = c[0] * c2 - c[1] * m2, ci = c[1] * c2 + c[0] * m2;
    const float dr = d[0] * c3 - d[1] * m3, di = d[1] * c3 + d[0] * m3;
    const float pr = a[0] + cr, pi = a[1] + ci, qr = a[0] - cr, qi = a[1] - ci;
    const float sr = br + dr, si = bi + di, tr = br - dr, ti = bi - di;
    BUTTERFLY(pr, pi, qr, qi, sr, si, tr, ti, a, b, c, d);
}

static SMALL void transform_pass(float *z, uint32_t length) {
    const uint32_t step = HALF_WINDOW / 4 / length, span = 2 * length; /* of the table; in floats */
    float *end = z + 2 * POINTS, *a;
    uint32_t j, k;
    for (a = z; a < end; a += 4 * span) { /* twiddles of 1 */
        float *b = a + span, *c = b + span, *d = c + span;
        const float pr = a[0] + c[0], pi = a[1] + c[1], qr = a[0] - c[0], qi = a[1] - c[1];
        const float sr = b[0] + d[0], si = b[1] + d[1], tr = b[0] - d[0], ti = b[1] - d[1];
        BUTTERFLY(pr, pi, qr, qi, sr, si, tr, ti, a, b, c, d);
    }
    for (j = 1, k = step; 2 * j <= length; j++, k += step) {
        /* Cosines, and those of a quarter turn more: sines, negative. As many from the end, they change places. */
        const float c1 = hw_cosine[k], m1 = hw_cosine[k + 128u];
        const float c2 = c1 * c1 - m1 * m1, m2 = 2.0f * c1 * m1;
        const float c3 = c1 * c2 - m1 * m2, m3 = c1 * m2 + m1 * c2;
        for (a = z + 2 * j; a < end; a += 4 * span) twiddled(a, span, c1, m1, c2, m2, c3, m3);
        if (2 * j == length) break;
        for (a = z + span - 2 * j; a < end; a += 4 * span) twiddled(a, span, -m1, -c1, -c2, m2, m3, c3);
    }
}

/* The real signal's power at bin k into z[2 k], from the transform of its pairs; the scale is nobody's business. Bins k
 * and POINTS - k come of both points' powers and their product: what one has more, the other has less, and of a much
 * weaker one rounding leaves little. So those that rumble below the bands would swamp are computed the long way. */
static SMALL void powers(float *z) {
    const float *c = hw_cosine, *s = hw_cosine + 128;
    float *low = z, *high = z + 2 * POINTS;
    ptrdiff_t k;
    for (k = 1; k < HW_FIRST_BIN; k++) {
        const float er = low[2 * k] + high[-2 * k], xr = low[2 * k] - high[-2 * k];
        const float ei = low[2 * k + 1] - high[-2 * k + 1], xi = low[2 * k + 1] + high[-2 * k + 1];
        const float dr = er - (c[k] * xi - s[-k] * xr), di = ei + (c[k] * xr + s[-k] * xi);
        high[-2 * k] = 0.5f * (dr * dr + di * di);
    }
    for (; k < POINTS / 2; k++) {
        const float lr = low[2 * k], li = low[2 * k + 1], hr = high[-2 * k], hi = high[-2 * k + 1];
        const float a = lr * lr + li * li, b = hr * hr + hi * hi, both = lr * hi + li * hr;
        const float differ = c[k] * (both + both) - s[-k] * (a - b);
        low[2 * k] = a + b + differ;
        high[-2 * k] = a + b - differ;
    }
    z[POINTS] = 2.0f * (z[POINTS] * z[POINTS] + z[POINTS + 1] * z[POINTS + 1]);
}

/* Positive numbers in 16 bits: sums of energies in seven of the exponent and nine of the mantissa, from 2^-10 on;
 * loudness in six and ten, from 2^8 on. */
enum { SUM_OUT = 14, SUM_LEAST = 117 << 9, LOUD_OUT = 13, LOUD_LEAST = 135 << 10 };

static INLINE uint32_t bits_of(float x) {
    union { float f; uint32_t u; } bits;
    bits.f = x;
    return bits.u;
}

static INLINE float float_of(uint32_t x) {
    union { float f; uint32_t u; } bits;
    bits.u = x;
    return bits.f;
}

static INLINE uint16_t packed(float x, uint32_t out, uint32_t least) {
    return (uint16_t)(((bits_of(x) + (1u << (out - 1))) >> out) - least);
}

static INLINE float unpacked(uint16_t x, uint32_t out, uint32_t least) { return float_of((x + least) << out); }

/* x^.8 for x >= 1: a polynomial of the mantissa; of the exponent e, 2^(.8 e) = 16^(e / 5) * 2^(.8 (e % 5)). */
static INLINE float raised(float x) {
    const uint32_t exponent = (bits_of(x) >> 23) - 127, fifth = exponent * 205u >> 10;
    x = float_of((bits_of(x) & 0x7fffffu) | 0x3f800000u);
    x = (((HW_POWER_4 * x + HW_POWER_3) * x + HW_POWER_2) * x + HW_POWER_1) * x + HW_POWER_0;
    return float_of(bits_of(x * hw_exponents[exponent - 5 * fifth]) + (fifth << 25));
}

/* matcher.grid.log_energies without the logarithm. From one centre to the next a bin's weight rises by the same step in
 * one band as it falls in the one before, so two sums suffice: of the bins, and of what they come to so far. */
static FAST void band_energies(float *power, float *sums_so_far, uint16_t *loud) {
    const float *at = power + 2 * HW_FIRST_BIN;
    float below = 0.0f, step = HW_RAMP_STEP;
    uint32_t band, k;
    for (k = 0; k < HW_GAINS; k++) power[2 * (POINTS - HW_GAINS + k)] *= hw_gains[k]; /* the decimator's roll-off */
    for (band = 0; band <= HW_BANDS; band++) {
        const float *end = at + 2 * hw_bins[band];
        float sum = 0.0f, sums = 0.0f, rising;
        for (; at < end; at += 2) {
            sum += at[0];
            sums += sum;
        }
        rising = hw_ramps[band] * sum - step * sums;
        step *= HW_RAMP_RATIO;
        if (band > 0) {
            float energy = below + sum - rising;
            energy = energy > 0.0f ? energy + HW_FLOOR : HW_FLOOR; /* rounding may have left less than nothing */
            *sums_so_far++ += energy;
            *loud++ = packed(raised(energy), LOUD_OUT, LOUD_LEAST);
        }
        below = rising;
    }
}

static SMALL void frame_energies(hw_state *state) {
    float *z = state->scratch.work.of.spectrum;
    windowed_pass(state->ring, (uint32_t)state->halved, z);
    transform_pass(z, 4);
    transform_pass(z, 16);
    transform_pass(z, 64);
    powers(z);
    band_energies(z, state->block, state->louds[state->frames % HW_MEAN_FRAMES]);
    if (state->frames % WORD_FRAMES == 0) {
        uint16_t *block = state->blocks[state->frames / WORD_FRAMES % BLOCKS];
        uint32_t band;
        for (band = 0; band < HW_BANDS; band++) block[band] = packed(state->block[band], SUM_OUT, SUM_LEAST);
        memset(state->block, 0, sizeof state->block);
    }
    state->frames++;
}

/* What a word's loudness is to be multiplied with: by the mean energies of the first frames for as long as a word ends
 * earlier, later of its last ones. Frame 0 is a block of its own, so that words end with blocks. */
static SMALL void scales(const hw_state *state, uint32_t word, float *scale) {
    const int early = (HW_TAPS - 1) * HW_TAP_FRAMES + 1 + WORD_FRAMES * word <= HW_MEAN_FRAMES;
    uint32_t block = early ? 0 : word + (HW_TAPS - 1) * HW_TAP_FRAMES / WORD_FRAMES + 1 - MEAN_BLOCKS, band;
    const uint32_t end = block + MEAN_BLOCKS;
    for (band = 0; band < HW_BANDS; band++) scale[band] = early ? state->block[band] : 0.0f;
    for (; block < end; block++) {
        const uint16_t *sums = state->blocks[block % BLOCKS];
        for (band = 0; band < HW_BANDS; band++) scale[band] += unpacked(sums[band], SUM_OUT, SUM_LEAST);
    }
    for (band = 0; band < HW_BANDS; band++)
        scale[band] = HW_LOUDNESS_ONE / raised(scale[band] * (1.0f / HW_MEAN_FRAMES));
}

typedef char hw_bands_fit[HW_BANDS % 11 == 0 && (HW_TAPS - 1) * HW_TAP_FRAMES % WORD_FRAMES == 0 ? 1 : -1];

/* A tap of a filter, of BATCH words. */
static INLINE void weigh(const int8_t *weight, const loudness *x, int32_t *sums) {
    const loudness *end = x + HW_BANDS;
#if UINTPTR_MAX > 0xffffffffu
    int64_t two = 0;
    int32_t one = 0;
#define WEIGH(i) two += weight[i] * x[i].two, one += weight[i] * x[i].one
#else
    int32_t a = 0, b = 0, c = 0;
#define WEIGH(i) a += weight[i] * x[i].one[0], b += weight[i] * x[i].one[1], c += weight[i] * x[i].one[2]
#endif
    for (; x < end; x += 11, weight += 11) {
        WEIGH(0), WEIGH(1), WEIGH(2), WEIGH(3), WEIGH(4), WEIGH(5), WEIGH(6), WEIGH(7), WEIGH(8), WEIGH(9), WEIGH(10);
    }
#if UINTPTR_MAX > 0xffffffffu
    sums[0] = (int32_t)two, sums[1] = (int32_t)((two - sums[0]) >> 32), sums[2] = one;
#else
    sums[0] = a, sums[1] = b, sums[2] = c;
#endif
}

/* matcher.bits.filtered_words: so many words, BATCH at most, of the filters that the device has. */
static FAST void words_from(hw_state *state, uint32_t first, uint32_t count, uint32_t *words) {
    loudness *x = state->scratch.work.of.words.x;
    float(*scale)[HW_BANDS] = state->scratch.work.of.words.scale;
    int64_t(*responses)[BATCH] = state->scratch.work.of.words.responses;
    uint32_t tap, band, filter, i;
    memset(&state->scratch.work.of.words, 0, sizeof state->scratch.work.of.words);
    for (i = 0; i < count; i++) scales(state, first + i, scale[i]);
    for (tap = 0; tap < HW_TAPS; tap++) {
        const int8_t *weight = hw_filters + HW_BANDS * tap;
        const uint32_t frame = WORD_FRAMES * first + HW_TAP_FRAMES * tap;
        const uint16_t *a = state->louds[frame % HW_MEAN_FRAMES];
        const uint16_t *b = state->louds[(frame + WORD_FRAMES) % HW_MEAN_FRAMES];
        const uint16_t *c = state->louds[(frame + 2 * WORD_FRAMES) % HW_MEAN_FRAMES];
        for (band = 0; band < HW_BANDS; band++) {
            const int32_t in_a = (int32_t)(unpacked(a[band], LOUD_OUT, LOUD_LEAST) * scale[0][band]);
            const int32_t in_b = (int32_t)(unpacked(b[band], LOUD_OUT, LOUD_LEAST) * scale[1][band]);
            const int32_t in_c = (int32_t)(unpacked(c[band], LOUD_OUT, LOUD_LEAST) * scale[2][band]);
#if UINTPTR_MAX > 0xffffffffu
            x[band].two = (int64_t)in_b << 32 | in_a, x[band].one = in_c;
#else
            x[band].one[0] = in_a, x[band].one[1] = in_b, x[band].one[2] = in_c;
#endif
        }
        for (filter = 0; filter < HW_FILTERS; filter++, weight += HW_TAPS * HW_BANDS) {
            const uint32_t tap_scale = hw_tap_scales[HW_TAPS * filter + tap];
            int32_t sums[BATCH];
            weigh(weight, x, sums);
            for (i = 0; i < BATCH; i++) responses[filter][i] += (int64_t)sums[i] * tap_scale;
        }
    }
    for (i = 0; i < BATCH; i++) {
        words[i] = 0;
        for (filter = 0; filter < HW_FILTERS; filter++)
            words[i] |= (uint32_t)(responses[filter][i] > (int64_t)hw_offsets[filter] * HW_OFFSET_ONE) << filter;
    }
}

static INLINE uint32_t bits_set(uint32_t x) {
    x -= x >> 1 & 0x55555555u;
    x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
    return ((x + (x >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24;
}

/* Word j of the request against word j - a of every entry, for every alignment a. */
static FAST void compare(hw_state *state, uint32_t word, uint32_t j) {
    const uint8_t *entry = entry_at(state, 0);
    const int32_t cut = (int32_t)state->cut;
    uint16_t(*errors)[2][ALIGNMENTS] = state->errors;
    uint32_t left;
    for (left = state->entries; left > 0; left--, entry += state->entry_bytes, errors++) {
        const int32_t length = (int32_t)u16_at(entry + ENTRY_LENGTH);
        int32_t k = (int32_t)j - SIDE, end = (int32_t)j + SIDE + 1, middle;
        uint16_t *count = (*errors)[0] + ALIGNMENTS - 1; /* of a = SIDE, and down from there */
        if (k < 0) count += k, k = 0;
        if (end > length) end = length;
        middle = end < cut ? end : cut;
        for (; k < middle; k++, count--)
            *count = (uint16_t)(*count + bits_set(word ^ u32_at(entry + ENTRY_WORDS + 4 * k)));
        for (count += ALIGNMENTS; k < end; k++, count--)
            *count = (uint16_t)(*count + bits_set(word ^ u32_at(entry + ENTRY_WORDS + 4 * k)));
    }
}

/* x / n without a division, which many processors lack: exact while x * n stays below 2^32. */
static inline uint32_t reciprocal(uint32_t n) { return 0xffffffffu / n + 1u; }
static inline uint32_t quotient(uint32_t x, uint32_t reciprocal_of_n) {
    return (uint32_t)((uint64_t)x * reciprocal_of_n >> 32);
}

static uint16_t rate_of(uint32_t errors, uint32_t reciprocal_of_words) {
    const uint32_t rate = quotient(errors * (65536u / HW_FILTERS), reciprocal_of_words);
    return (uint16_t)(rate < 65535u ? rate : 65535u);
}

/* matcher.device_twin.lowest_rates, for one entry at one look. */
static inline void lowest_rates(const hw_state *state, uint32_t entry, uint32_t length, uint32_t heard,
                                uint16_t *rates) {
    const uint32_t *reciprocals = state->scratch.work.of.look.reciprocals;
    const uint16_t *before = state->errors[entry][0], *after = state->errors[entry][1];
    uint32_t lowest = 65535u, i, best = 0, best_start = 0, best_end = state->cut;
    for (i = 0; i < ALIGNMENTS; i++) {
        const uint32_t start = i < SIDE ? SIDE - i : 0u, reach = heard + SIDE - i;
        const uint32_t end = reach < length ? reach : length;
        const uint32_t errors = (uint32_t)(before[i] + after[i]) * (65536u / HW_FILTERS);
        const uint32_t rate = quotient(errors, reciprocals[end - start]);
        if (rate < lowest) lowest = rate, best = i, best_start = start, best_end = end;
    }
    rates[0] = (uint16_t)lowest;
    rates[1] = rate_of(before[best], reciprocals[(best_end < state->cut ? best_end : state->cut) - best_start]);
    rates[2] = rate_of(after[best], reciprocals[best_end > state->cut ? best_end - state->cut : 0]);
}

/* Whether an entry may decide now. */
static int in_force(const hw_state *state, const uint8_t *entry) {
    const uint32_t from = u32_at(entry + ENTRY_FROM), until = u32_at(entry + ENTRY_UNTIL), now = state->unix_s;
    if (!(u16_at(entry + ENTRY_FLAGS) & DECIDES)) return 0;
    if (now == 0) return from == 0 && until == 0;
    return from <= now && (until == 0 || now < until);
}

/* matcher.device_twin.decide: of every entry its lowest rate, and the best entry against the mean of the others. */
static SMALL void look(hw_state *state, uint32_t heard) {
    const uint32_t number = (heard - state->first_look) / state->look_step;
    const uint8_t *table = state->pack + AT_LOOK_TABLE + LOOK_BYTES * number;
    uint32_t entry, part, others = 0, sums[3] = {0, 0, 0};
    int32_t best[3] = {-65536, 0, 0};
    uint32_t *reciprocals = state->scratch.work.of.look.reciprocals, of_others;
    uint16_t(*rates)[3] = state->scratch.work.of.look.rates;
    reciprocals[0] = 0, reciprocals[1] = 0xffffffffu;
    for (entry = 2; entry <= heard; entry++) reciprocals[entry] = reciprocal(entry);
    for (entry = 0; entry < state->entries; entry++) {
        const uint32_t length = u16_at(entry_at(state, entry) + ENTRY_LENGTH);
        if (length < heard) continue;
        lowest_rates(state, entry, length, heard, rates[entry]);
        for (part = 0; part < 3; part++) sums[part] += rates[entry][part];
        others++;
    }
    of_others = others >= HW_LEAST_ENTRIES ? reciprocal(others - 1) : 0;
    for (entry = 0; others >= HW_LEAST_ENTRIES && entry < state->entries; entry++) {
        const uint8_t *at = entry_at(state, entry);
        int32_t margins[3];
        if (u16_at(at + ENTRY_LENGTH) < heard || !in_force(state, at)) continue;
        for (part = 0; part < 3; part++) {
            const uint32_t rate = rates[entry][part], cap = u16_at(table + 8 + 2 * part);
            const uint32_t mean = quotient(sums[part] - rate, of_others);
            margins[part] = (int32_t)(mean < cap ? mean : cap) - (int32_t)rate;
        }
        if (margins[0] > best[0]) {
            memcpy(best, margins, sizeof best);
            state->matched = (int)entry;
        }
    }
    if (best[0] >= (int32_t)u16_at(table) ||
        (best[1] >= (int32_t)u16_at(table + 2) && best[2] >= (int32_t)u16_at(table + 4))) {
        state->verdict = HW_MATCH;
        return;
    }
    state->matched = -1;
    if (best[0] < (int32_t)u16_at(table + 6) - 32768 || heard >= state->look_words) state->verdict = HW_NO_MATCH;
}

/* A hop is whole: gives the frame that ends with it, and once the words for a look are there, or BATCH of them, those.
 * The first words wait for the frames of the mean. */
static SMALL void grow(hw_state *state) {
    const uint32_t first = state->first_look, step = state->look_step;
    uint32_t words[BATCH], ready, count, i;
    halve(state);
    if (state->halved < HALF_WINDOW) return;
    frame_energies(state);
    if (state->frames < HW_MEAN_FRAMES) return;
    ready = (state->frames - (HW_TAPS - 1) * HW_TAP_FRAMES - 1) / WORD_FRAMES + 1;
    while (state->verdict == HW_NOT_YET) {
        const uint32_t at = state->words, next = at < first ? first : at + step - (at - first) % step;
        count = next - at < BATCH ? next - at : BATCH;
        if (ready - at < count) return;
        words_from(state, at, count, words);
        for (i = 0; i < count; i++) {
#ifdef HW_ON_WORD
            HW_ON_WORD(words[i]);
#endif
            compare(state, words[i], at + i);
        }
        state->words += count;
        if (state->words == next) look(state, next);
    }
}

FAST hw_verdict hw_push(hw_state *state, const int16_t *samples, size_t count) {
    while (count > 0 && state->verdict == HW_NOT_YET) {
        const size_t taken = count < HOP - state->fresh ? count : HOP - state->fresh;
        const int16_t *end = samples + taken;
        float *into = state->scratch.input + KEPT + state->fresh;
        uint64_t dither = state->dither;
        for (; samples < end; dither += GOLDEN) *into++ = dithered(dither, *samples++);
        state->dither = dither;
        state->fresh += (uint32_t)taken;
        count -= taken;
        if (state->fresh == HOP) {
            state->fresh = 0;
            grow(state);
        }
    }
    return state->verdict;
}
