/* The matcher of hushword_device.h: samples to half the rate, to band energies, to words of bits, to a verdict.
 *
 * Every step has its counterpart in Python, named at its head; what differs is how it is computed, not what. */
#include "hushword_device.h"

#include <string.h>

#include "hushword_tables.h"

/* Inlined, these would run out of registers for each other. */
#ifdef __GNUC__
#define APART __attribute__((noinline))
#else
#define APART
#endif

enum {
    HALF_WINDOW = 512,   /* samples of a frame at 8 kHz: 64 ms */
    HALF_HOP = 80,       /* 10 ms */
    POINTS = 256,        /* of the complex transform that a real one of 512 is made from */
    WORD_FRAMES = 4,     /* a word every 40 ms */
    BLOCKS = HW_MEAN_FRAMES / WORD_FRAMES,
    SIDE = 3,            /* alignments of -3 to 3 words: requests begin within 100 ms of the entry's beginning */
    ALIGNMENTS = 2 * SIDE + 1,
    HISTORY = 64,        /* odd samples that the decimator sees, a power of two over 2 * HW_PAIRS + 1 */
    LOUDNESS_BITS = 14  /* 33 bands * 127 * 36^.8 * 2^14 stays below 2^31 */
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

struct hw_state {
    const uint8_t *pack;
    uint64_t dither;
    uint32_t unix_s, heard, halved, due, frames, words; /* `due` halved samples complete the next frame */
    uint32_t header_bytes, entry_bytes, entries, look_words, first_look, look_step, cut;
    hw_verdict verdict;
    int matched;
    float odd[2 * HISTORY], even[HISTORY / 2];
    float ring[HALF_WINDOW];
    uint16_t energies[HW_MEAN_FRAMES][HW_BANDS]; /* packed */
    uint16_t blocks[BLOCKS][HW_BANDS];           /* sums of WORD_FRAMES of them, packed */
    union {
        float spectrum[2 * POINTS];
        int32_t loudness[HW_TAPS][HW_BANDS];
        uint16_t rates[HW_MAX_ENTRIES][3]; /* over all words, those before the cut, those after it */
    } work;
    uint16_t errors[][2][ALIGNMENTS]; /* of each entry, before the cut and after it */
};

/* Compiles only when the header promises enough. */
typedef char hw_state_fits[(sizeof(struct hw_state) <= 8u * HW_STATE_WORDS(0u)) ? 1 : -1];
typedef char hw_rows_fit[(sizeof(uint16_t[2][ALIGNMENTS]) <= 32u) ? 1 : -1];

static uint32_t u16_at(const uint8_t *at) { return (uint32_t)at[0] | (uint32_t)at[1] << 8; }

static inline uint32_t u32_at(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* CRC-32 of zlib, four bits at a time: it is computed once a pack. */
static uint32_t crc32_of(const uint8_t *bytes, size_t count) {
    static const uint32_t nibbles[16] = {
        0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u, 0x4db26158u, 0x5005713cu,
        0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu, 0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu};
    uint32_t crc = 0xffffffffu;
    size_t i;
    for (i = 0; i < count; i++) {
        crc ^= bytes[i];
        crc = crc >> 4 ^ nibbles[crc & 15u];
        crc = crc >> 4 ^ nibbles[crc & 15u];
    }
    return ~crc;
}

static const uint8_t *entry_at(const hw_state *state, uint32_t entry) {
    return state->pack + state->header_bytes + entry * state->entry_bytes;
}

hw_error hw_init(hw_state *state, size_t memory_bytes, const uint8_t *pack, size_t pack_bytes) {
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

void hw_reset(hw_state *state, uint64_t seed, uint32_t unix_s) {
    state->dither = seed;
    state->unix_s = unix_s;
    state->heard = state->halved = state->frames = state->words = 0;
    state->due = HALF_WINDOW;
    state->verdict = state->pack ? HW_NOT_YET : HW_NO_MATCH;
    state->matched = -1;
    memset(state->odd, 0, sizeof state->odd);
    memset(state->even, 0, sizeof state->even);
    memset(state->errors, 0, state->entries * sizeof state->errors[0]);
}

int hw_matched_entry(const hw_state *state) { return state->matched; }

uint64_t hw_matched_media(const hw_state *state) {
    const uint8_t *at;
    if (state->matched < 0) return 0;
    at = entry_at(state, (uint32_t)state->matched);
    return (uint64_t)u32_at(at) | (uint64_t)u32_at(at + 4) << 32;
}

#define GOLDEN 0x9e3779b97f4a7c15u

/* matcher.grid.add_dither: SplitMix64 as a counter, triangular noise of one step. In 32,768ths of a step, of which a
 * float keeps what matters. */
static inline float dithered(uint64_t counter, int16_t sample) {
    uint64_t x = counter;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return (float)((int32_t)sample * 32768 + (int32_t)(x >> 49) - (int32_t)(x >> 9 & 0x7fffu));
}

/* A half-band filter: every other coefficient is 0, the middle one a half. Gives sample m of half the rate once odd
 * sample m + HW_PAIRS - 1 is there. */
#define PAIR(i) sum += hw_half_band[i] * (later[i] + before[-(i)])
#define PAIRS(i) PAIR(i), PAIR((i) + 1), PAIR((i) + 2), PAIR((i) + 3), PAIR((i) + 4), PAIR((i) + 5)
static APART float halved(const hw_state *state, uint32_t newest) {
    const float *later = state->odd + (newest & (HISTORY - 1)) + HISTORY - (HW_PAIRS - 1), *before = later - 1;
    float sum = 0.5f * state->even[(newest - (HW_PAIRS - 1)) & (HISTORY / 2 - 1)];
    PAIRS(0), PAIRS(6), PAIRS(12), PAIRS(18);
    return sum;
}
typedef char hw_pairs_fit[HW_PAIRS == 24 && 2 * HW_PAIRS < HISTORY && HW_PAIRS <= HISTORY / 2 ? 1 : -1];

/* Four points of a transform, the last three twiddled before. */
#define BUTTERFLY(ar, ai, br, bi, cr, ci, dr, di, a, b, c, d)                                 \
    do {                                                                                      \
        const float pr = (ar) + (cr), pi = (ai) + (ci), qr = (ar) - (cr), qi = (ai) - (ci);   \
        const float sr = (br) + (dr), si = (bi) + (di), tr = (br) - (dr), ti = (bi) - (di);   \
        (a)[0] = pr + sr, (a)[1] = pi + si, (c)[0] = pr - sr, (c)[1] = pi - si;               \
        (b)[0] = qr + ti, (b)[1] = qi - tr, (d)[0] = qr - ti, (d)[1] = qi + tr;               \
    } while (0)

/* The Hann window, twice as high, and the first pass over the frame that begins at `start` of the ring. The window's
 * other half is its mirror image, and so is the cosine's. */
static APART void windowed_pass(const float *ring, uint32_t start, float *z) {
    uint32_t r;
    for (r = 0; r < POINTS / 4; r++, z += 8) {
        const uint32_t at = ((r & 3u) << 4 | (r & 12u) | r >> 4) * 2u;
        const float *rising = hw_cosine + at, *falling = hw_cosine + HALF_WINDOW / 2 - at;
        const float *a = ring + ((start + at) & (HALF_WINDOW - 1));
        const float *b = ring + ((start + at + 128u) & (HALF_WINDOW - 1));
        const float *c = ring + ((start + at + 256u) & (HALF_WINDOW - 1));
        const float *d = ring + ((start + at + 384u) & (HALF_WINDOW - 1));
        const float br = b[0] * (1.0f - rising[128]), bi = b[1] * (1.0f - rising[129]);
        const float cr = c[0] * (1.0f - falling[0]), ci = c[1] * (1.0f - falling[-1]);
        const float dr = d[0] * (1.0f - falling[-128]), di = d[1] * (1.0f - falling[-129]);
        const float ar = a[0] * (1.0f - rising[0]), ai = a[1] * (1.0f - rising[1]);
        BUTTERFLY(ar, ai, br, bi, cr, ci, dr, di, z, z + 2, z + 4, z + 6);
    }
}

static APART void transform_pass(float *z, uint32_t length) {
    const uint32_t step = HALF_WINDOW / 4 / length, span = 2 * length; /* of the table; in floats */
    uint32_t j, k = 0;
    for (j = 0; j < length; j++, k += step) {
        const uint32_t k3 = 3 * k <= 256u ? 3 * k : 512u - 3 * k; /* the cosine's mirror image */
        const uint32_t m3 = 3 * k <= 128u ? 3 * k + 128u : 384u - 3 * k;
        const float c1 = hw_cosine[k], c2 = hw_cosine[2 * k], c3 = hw_cosine[k3];
        const float m1 = hw_cosine[k + 128u], m2 = hw_cosine[2 * k <= 128u ? 2 * k + 128u : 384u - 2 * k];
        const float m_3 = hw_cosine[m3]; /* cosines of a quarter turn more: sines, negative */
        float *a = z + 2 * j;
        for (; a < z + 2 * POINTS; a += 4 * span) {
            float *b = a + span, *c = b + span, *d = c + span;
            const float br = b[0] * c1 - b[1] * m1, bi = b[1] * c1 + b[0] * m1;
            const float cr = c[0] * c2 - c[1] * m2, ci = c[1] * c2 + c[0] * m2;
            const float dr = d[0] * c3 - d[1] * m_3, di = d[1] * c3 + d[0] * m_3;
            const float ar = a[0], ai = a[1];
            BUTTERFLY(ar, ai, br, bi, cr, ci, dr, di, a, b, c, d);
        }
    }
}

/* The real signal's power at bin k into z[2 k], from the transform of its pairs; the scale is nobody's business. */
static APART void powers(float *z) {
    uint32_t k;
    for (k = 1; k < POINTS / 2; k++) {
        float *low = z + 2 * k, *high = z + 2 * (POINTS - k);
        const float c = hw_cosine[k], s = hw_cosine[128u - k];
        const float er = low[0] + high[0], ei = low[1] - high[1], xr = low[0] - high[0], xi = low[1] + high[1];
        const float tr = c * xi - s * xr, ti = c * xr + s * xi;
        low[0] = (er + tr) * (er + tr) + (ei - ti) * (ei - ti);
        high[0] = (er - tr) * (er - tr) + (ei + ti) * (ei + ti);
    }
    z[POINTS] = 4.0f * (z[POINTS] * z[POINTS] + z[POINTS + 1] * z[POINTS + 1]);
}

/* Energies in 16 bits: seven of the exponent, from 2^-10 on, and nine of the mantissa, rounded. */
enum { LEFT_OUT = 14, LEAST = 117 << 9 };

static inline uint16_t packed(float energy) {
    union { float f; uint32_t u; } bits;
    bits.f = energy;
    return (uint16_t)(((bits.u + (1u << (LEFT_OUT - 1))) >> LEFT_OUT) - LEAST);
}

static inline float unpacked(uint16_t energy) {
    union { float f; uint32_t u; } bits;
    bits.u = ((uint32_t)energy + LEAST) << LEFT_OUT;
    return bits.f;
}

/* matcher.grid.log_energies without the logarithm. From one centre to the next a bin's weight rises by the same step in
 * one band as it falls in the one before, so two sums suffice: of the bins, and of what they come to so far. */
static APART void band_energies(float *power, uint16_t *out) {
    const float *at = power + 2 * HW_FIRST_BIN;
    float below = 0.0f;
    uint32_t band, k;
    for (k = 0; k < HW_GAINS; k++) power[2 * (POINTS - HW_GAINS + k)] *= hw_gains[k]; /* the decimator's roll-off */
    for (band = 0; band <= HW_BANDS; band++) {
        const float *end = at + 2 * hw_bins[band];
        float sum = 0.0f, sums = 0.0f, rising;
        for (; at < end; at += 2) {
            sum += at[0];
            sums += sum;
        }
        rising = hw_ramps[band][0] * sum - hw_ramps[band][1] * sums;
        if (band > 0) out[band - 1] = packed(below + sum - rising + HW_FLOOR);
        below = rising;
    }
}

static APART void frame_energies(hw_state *state) {
    float *z = state->work.spectrum;
    windowed_pass(state->ring, state->frames * HALF_HOP, z);
    transform_pass(z, 4);
    transform_pass(z, 16);
    transform_pass(z, 64);
    powers(z);
    band_energies(z, state->energies[state->frames % HW_MEAN_FRAMES]);
}

/* x^.8 in steps of 2^-LOUDNESS_BITS, x over 0 and at most 36: a polynomial of the mantissa, and a table. */
static inline int32_t loudness(float x) {
    union { float f; uint32_t u; } mantissa;
    int32_t exponent;
    mantissa.f = x;
    exponent = (int32_t)(mantissa.u >> 23) - 127 - HW_LEAST_EXPONENT;
    if (exponent < 0) return 0;
    mantissa.u = (mantissa.u & 0x7fffffu) | 0x3f800000u;
    x = mantissa.f;
    x = (((HW_POWER_4 * x + HW_POWER_3) * x + HW_POWER_2) * x + HW_POWER_1) * x + HW_POWER_0;
    return (int32_t)(x * hw_exponents[exponent] + 0.5f);
}

/* Adds the energies of so many frames from one on. */
static APART void add_energies(const hw_state *state, uint32_t first, uint32_t count, float *sum) {
    uint32_t band;
    for (; count > 0; count--, first++) {
        const uint16_t *energies = state->energies[first % HW_MEAN_FRAMES];
        for (band = 0; band < HW_BANDS; band += 3) {
            sum[band] += unpacked(energies[band]);
            sum[band + 1] += unpacked(energies[band + 1]);
            sum[band + 2] += unpacked(energies[band + 2]);
        }
    }
}

/* Sums of the frames whose mean a word is measured by: the first ones for as long as a word ends earlier; later its
 * last ones, of which all but WORD_FRAMES were summed in blocks for the words before. */
static APART void mean_energies(hw_state *state, uint32_t first, float *sum) {
    const uint32_t end = first + (HW_TAPS - 1) * HW_TAP_FRAMES + 1;
    uint32_t block, band, from;
    memset(sum, 0, HW_BANDS * sizeof *sum);
    if (end <= HW_MEAN_FRAMES) {
        add_energies(state, 0, HW_MEAN_FRAMES, sum);
        return;
    }
    from = end < HW_MEAN_FRAMES + WORD_FRAMES ? end - HW_MEAN_FRAMES : end - WORD_FRAMES;
    for (; from < end; from += WORD_FRAMES) {
        uint16_t *energies = state->blocks[from / WORD_FRAMES % BLOCKS];
        memset(sum, 0, HW_BANDS * sizeof *sum);
        add_energies(state, from, WORD_FRAMES, sum);
        for (band = 0; band < HW_BANDS; band++) energies[band] = packed(sum[band]);
    }
    memset(sum, 0, HW_BANDS * sizeof *sum);
    for (block = 0; block < BLOCKS; block++) {
        const uint16_t *energies = state->blocks[block];
        for (band = 0; band < HW_BANDS; band += 3) {
            sum[band] += unpacked(energies[band]);
            sum[band + 1] += unpacked(energies[band + 1]);
            sum[band + 2] += unpacked(energies[band + 2]);
        }
    }
}

typedef char hw_bands_fit[HW_BANDS % 33 == 0 ? 1 : -1];

/* matcher.bits.filtered_words: the word whose first frame is `first`, of the filters that the device has. */
static APART uint32_t word_from(hw_state *state, uint32_t first) {
    int32_t(*x)[HW_BANDS] = state->work.loudness;
    float scale[HW_BANDS];
    uint32_t tap, band, filter, word = 0;
    const int8_t *weight = hw_filters;
    const uint16_t *tap_scale = hw_tap_scales;
    mean_energies(state, first, scale);
    for (band = 0; band < HW_BANDS; band++) scale[band] = (float)HW_MEAN_FRAMES / scale[band];
    for (tap = 0; tap < HW_TAPS; tap++) {
        const uint16_t *energies = state->energies[(first + HW_TAP_FRAMES * tap) % HW_MEAN_FRAMES];
        for (band = 0; band < HW_BANDS; band++) x[tap][band] = loudness(unpacked(energies[band]) * scale[band]);
    }
    for (filter = 0; filter < HW_FILTERS; filter++) {
        int64_t response = 0;
        for (tap = 0; tap < HW_TAPS; tap++) {
            const int32_t *at = x[tap];
            int32_t sum = 0;
            uint32_t i;
            for (i = 0; i < HW_BANDS; i += 11, at += 11, weight += 11)
                sum += weight[0] * at[0] + weight[1] * at[1] + weight[2] * at[2] + weight[3] * at[3] +
                       weight[4] * at[4] + weight[5] * at[5] + weight[6] * at[6] + weight[7] * at[7] +
                       weight[8] * at[8] + weight[9] * at[9] + weight[10] * at[10];
            response += (int64_t)sum * *tap_scale++;
        }
        if (response > hw_offsets[filter]) word |= 1u << filter;
    }
    return word;
}

static inline uint32_t bits_set(uint32_t x) {
    x -= x >> 1 & 0x55555555u;
    x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
    return ((x + (x >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24;
}

/* Word j of the request against word j - a of every entry, for every alignment a. */
static APART void compare(hw_state *state, uint32_t word, uint32_t j) {
    const uint8_t *entry = entry_at(state, 0);
    const int32_t cut = (int32_t)state->cut;
    uint16_t(*errors)[2][ALIGNMENTS] = state->errors;
    uint32_t left;
    for (left = state->entries; left > 0; left--, entry += state->entry_bytes, errors++) {
        const int32_t length = (int32_t)u16_at(entry + ENTRY_LENGTH);
        int32_t k = (int32_t)j - SIDE, end = (int32_t)j + SIDE + 1;
        uint16_t *count = (*errors)[0] + ALIGNMENTS - 1; /* of a = SIDE, and down from there */
        if (k < 0) count += k, k = 0;
        if (end > length) end = length;
        for (; k < end && k < cut; k++, count--)
            *count = (uint16_t)(*count + bits_set(word ^ u32_at(entry + ENTRY_WORDS + 4 * k)));
        for (count += ALIGNMENTS; k < end; k++, count--)
            *count = (uint16_t)(*count + bits_set(word ^ u32_at(entry + ENTRY_WORDS + 4 * k)));
    }
}

static uint16_t rate_of(uint32_t errors, uint32_t words) {
    const uint32_t rate = words > 0 ? errors * (65536u / HW_FILTERS) / words : 0;
    return (uint16_t)(rate < 65535u ? rate : 65535u);
}

/* matcher.device_twin.lowest_rates, for one entry at one look. */
static void lowest_rates(const hw_state *state, uint32_t entry, uint32_t length, uint32_t heard, uint16_t *rates) {
    const uint16_t *before = state->errors[entry][0], *after = state->errors[entry][1];
    uint32_t lowest = 65535u, i, best = 0, best_start = 0, best_end = state->cut;
    for (i = 0; i < ALIGNMENTS; i++) {
        const uint32_t start = i < SIDE ? SIDE - i : 0u, reach = heard + SIDE - i;
        const uint32_t end = reach < length ? reach : length;
        const uint32_t rate = (uint32_t)(before[i] + after[i]) * (65536u / HW_FILTERS) / (end - start);
        if (rate < lowest) lowest = rate, best = i, best_start = start, best_end = end;
    }
    rates[0] = (uint16_t)lowest;
    rates[1] = rate_of(before[best], (best_end < state->cut ? best_end : state->cut) - best_start);
    rates[2] = rate_of(after[best], best_end > state->cut ? best_end - state->cut : 0);
}

/* Whether an entry may decide now. */
static int in_force(const hw_state *state, const uint8_t *entry) {
    const uint32_t from = u32_at(entry + ENTRY_FROM), until = u32_at(entry + ENTRY_UNTIL), now = state->unix_s;
    if (!(u16_at(entry + ENTRY_FLAGS) & DECIDES)) return 0;
    if (now == 0) return from == 0 && until == 0;
    return from <= now && (until == 0 || now < until);
}

/* matcher.device_twin.decide: of every entry its lowest rate, and the best entry against the mean of the others. */
static APART void look(hw_state *state, uint32_t heard) {
    const uint32_t number = (heard - state->first_look) / state->look_step;
    const uint8_t *table = state->pack + AT_LOOK_TABLE + LOOK_BYTES * number;
    uint32_t entry, part, others = 0, sums[3] = {0, 0, 0};
    int32_t best[3] = {-65536, 0, 0};
    for (entry = 0; entry < state->entries; entry++) {
        const uint32_t length = u16_at(entry_at(state, entry) + ENTRY_LENGTH);
        if (length < heard) continue;
        lowest_rates(state, entry, length, heard, state->work.rates[entry]);
        for (part = 0; part < 3; part++) sums[part] += state->work.rates[entry][part];
        others++;
    }
    for (entry = 0; others >= HW_LEAST_ENTRIES && entry < state->entries; entry++) {
        const uint8_t *at = entry_at(state, entry);
        int32_t margins[3];
        if (u16_at(at + ENTRY_LENGTH) < heard || !in_force(state, at)) continue;
        for (part = 0; part < 3; part++) {
            const uint32_t rate = state->work.rates[entry][part], cap = u16_at(table + 8 + 2 * part);
            const uint32_t mean = (sums[part] - rate) / (others - 1);
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

/* A frame is whole; gives every word that it completes. The first words wait for the frames of the mean. */
static APART void grow(hw_state *state) {
    frame_energies(state);
    state->frames++;
    state->due += HALF_HOP;
    while (state->verdict == HW_NOT_YET && state->frames >= HW_MEAN_FRAMES &&
           state->frames >= WORD_FRAMES * state->words + (HW_TAPS - 1) * HW_TAP_FRAMES + 1) {
        const uint32_t word = word_from(state, WORD_FRAMES * state->words);
#ifdef HW_ON_WORD
        HW_ON_WORD(word);
#endif
        compare(state, word, state->words);
        state->words++;
        if (state->words >= state->first_look && (state->words - state->first_look) % state->look_step == 0)
            look(state, state->words);
    }
}

hw_verdict hw_push(hw_state *state, const int16_t *samples, size_t count) {
    const int16_t *end = samples + count;
    uint64_t dither = state->dither;
    uint32_t heard = state->heard;
    while (samples < end && state->verdict == HW_NOT_YET) {
        const uint32_t newest = heard >> 1;
        float *odd = state->odd + (newest & (HISTORY - 1));
        if ((heard & 1u) == 0) {
            state->even[newest & (HISTORY / 2 - 1)] = dithered(dither, *samples++);
            dither += GOLDEN;
            heard++;
            if (samples == end) break;
        }
        odd[0] = odd[HISTORY] = dithered(dither, *samples++);
        dither += GOLDEN;
        heard++;
        if (newest < HW_PAIRS - 1) continue;
        state->ring[state->halved++ & (HALF_WINDOW - 1)] = halved(state, newest);
        if (state->halved == state->due) grow(state);
    }
    state->dither = dither;
    state->heard = heard;
    return state->verdict;
}
