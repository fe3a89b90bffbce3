/* Recognises the advertisements of a small list by their sound, on the device, before a request leaves it.
 *
 * C99, no malloc, no libm, no globals that change: a state is memory of the caller's, and several may be used side by
 * side. docs/device.md has the pack's layout, and what this costs. */
#ifndef HUSHWORD_DEVICE_H
#define HUSHWORD_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HW_SAMPLE_RATE_HZ 16000
#define HW_MAX_ENTRIES 250

/* Memory of a state for packs of up to so many entries: uint64_t memory[HW_STATE_WORDS(50)]. */
#define HW_STATE_WORDS(entries) (974u + (7u * (entries) + 1u) / 2u)

typedef struct hw_state hw_state;

typedef enum {
    HW_OK = 0,
    HW_STATE_TOO_SMALL, /* fewer bytes than the pack's entries need */
    HW_NOT_A_PACK,      /* too short, another format, or another version of it */
    HW_DAMAGED,         /* its length or its checksum is not what it says */
    HW_OTHER_BITS,      /* made for other filters than these tables hold */
    HW_OUT_OF_RANGE     /* numbers that no pack may have */
} hw_error;

typedef enum {
    HW_NOT_YET = 0, /* go on pushing */
    HW_MATCH,       /* the audio is an entry's: nobody asked */
    HW_NO_MATCH     /* it is none of them, or too late to say so: no more audio is needed */
} hw_verdict;

/* Checks the pack and starts with it. The pack is read where it lies, for as long as the state is used; its alignment
 * does not matter. memory_bytes is that of `state`. On any error the state is not to be used. */
hw_error hw_init(hw_state *state, size_t memory_bytes, const uint8_t *pack, size_t pack_bytes);

/* Begins a request. The seed tells its dither from every other's: a counter or a random number, never a constant.
 * unix_s is the device's clock, by which entries are valid; 0 where it has none, and then entries that are valid only
 * for a time do not decide. */
void hw_reset(hw_state *state, uint64_t seed, uint32_t unix_s);

/* Takes the next samples of the request, 16 kHz, from half a second before the wake word on, in pieces of any size.
 * Once it has said HW_MATCH or HW_NO_MATCH it says the same again, at no cost. */
hw_verdict hw_push(hw_state *state, const int16_t *samples, size_t count);

/* After HW_MATCH: the entry's number in the pack from 0 on, and the digest of its media id; else -1 and 0. */
int hw_matched_entry(const hw_state *state);
uint64_t hw_matched_media(const hw_state *state);

#ifdef __cplusplus
}
#endif
#endif
