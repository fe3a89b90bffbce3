/* Runs the matcher over requests, for tests and measurements: hw_run PIECE PACK ... < requests, which is a file.
 *
 * PIECE is how many samples are pushed at a time. A request is its seed (8 bytes), its time (4), its number of samples
 * (4) and the samples, all little-endian as this machine is. One line comes back a pack and request: the verdict, the
 * entry, the media's digest, the samples that were taken, and all words; or one a pack that is refused, with the error.
 */
#include <stdio.h>
#include <stdlib.h>

static unsigned words_count;
static unsigned long words_seen[256];
#define HW_ON_WORD(word) (words_seen[words_count++ & 255u] = (word))

#include "hushword_device.c"

static uint64_t memory[HW_STATE_WORDS(HW_MAX_ENTRIES)];
static uint8_t pack[1u << 18];
static int16_t samples[HW_SAMPLE_RATE_HZ * 60];

/* Gives the exit code: 10 for a pack that is refused, 2 for what cannot be read. */
static int hear(const char *name, size_t piece) {
    hw_state *state = (hw_state *)(void *)memory;
    uint8_t head[16];
    size_t size;
    hw_error error;
    uint8_t *exact;
    FILE *file = fopen(name, "rb");
    if (!file) return 2;
    size = fread(pack, 1, sizeof pack, file);
    fclose(file);
    exact = malloc(size ? size : 1); /* so that a sanitizer sees whoever reads past its end */
    if (!exact) return 2;
    memcpy(exact, pack, size);
    error = hw_init(state, sizeof memory, exact, size);
    if (error != HW_OK) {
        printf("refused %d\n", (int)error);
        free(exact);
        return 10;
    }
    rewind(stdin);
    while (fread(head, 1, sizeof head, stdin) == sizeof head) {
        uint64_t seed;
        uint32_t unix_s, count, at = 0, i;
        hw_verdict verdict = HW_NOT_YET;
        memcpy(&seed, head, 8);
        memcpy(&unix_s, head + 8, 4);
        memcpy(&count, head + 12, 4);
        if (count > sizeof samples / sizeof samples[0] || fread(samples, 2, count, stdin) != count) return 2;
        words_count = 0;
        hw_reset(state, seed, unix_s);
        while (verdict == HW_NOT_YET && at < count) {
            const size_t take = count - at < piece ? count - at : piece;
            verdict = hw_push(state, samples + at, take);
            at += (uint32_t)take;
        }
        printf("%d %d %016llx %lu", (int)verdict, hw_matched_entry(state),
               (unsigned long long)hw_matched_media(state), (unsigned long)at);
        for (i = 0; i < words_count && i < 256; i++) printf(" %08lx", words_seen[i]);
        printf("\n");
    }
    free(exact);
    return 0;
}

int main(int argc, char **argv) {
    const size_t piece = argc > 1 ? (size_t)strtoul(argv[1], NULL, 10) : 0;
    int i, code = 0;
    if (argc < 3 || piece == 0) {
        fprintf(stderr, "usage: hw_run PIECE PACK ... < requests\n");
        return 2;
    }
    for (i = 2; i < argc; i++) {
        code = hear(argv[i], piece);
        if (code == 2) return 2;
    }
    return code;
}
