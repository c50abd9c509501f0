/* The interface in C under sanitizers: `make sanitize` builds it and runs it on packed files. Loads each many times,
   from its path and from memory that is let go, runs it with several numbers of threads, from two threads at once, cuts
   and changes the file, and gives what does not fit. Prints what is wrong and then fails. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onebit.h"

#define CHECK(condition) check(condition, #condition, __LINE__)

enum { ROUNDS = 8, BATCH = 3 };

static void check(int good, const char* condition, int line) {
  if (good) return;
  fprintf(stderr, "c_test.c:%d: %s (%s)\n", line, condition, onebit_failure());
  exit(1);
}

static void* room(size_t size) {
  void* memory = malloc(size ? size : 1);
  CHECK(memory != NULL);
  return memory;
}

static uint8_t* bytes_of(const char* path, size_t* size) {
  FILE* file = fopen(path, "rb");
  CHECK(file && fseek(file, 0, SEEK_END) == 0);
  *size = (size_t)ftell(file);
  rewind(file);
  uint8_t* bytes = room(*size);
  CHECK(fread(bytes, 1, *size, file) == *size);
  fclose(file);
  return bytes;
}

/* A network of one image and one output, with room for a batch of it. */
typedef struct {
  onebit_network* network;
  onebit_description about;
  onebit_input input;
  onebit_output output;
  size_t pixels, count; /* of one sample */
  uint8_t* image;
  float* first; /* what the first run gave */
} Case;

static void describe(Case* it) {
  CHECK(!onebit_describe(it->network, &it->about) && it->about.inputs == 1 && it->about.outputs == 1);
  CHECK(!onebit_describe_input(it->network, 0, &it->input) && it->input.type == ONEBIT_IMAGE);
  CHECK(!onebit_describe_output(it->network, 0, &it->output));
  const onebit_shape in = it->input.shape, out = it->output.shape;
  it->pixels = (size_t)in.height * (size_t)in.width * (size_t)in.channels;
  it->count = (size_t)out.height * (size_t)out.width * (size_t)out.channels;
}

/* Runs a batch on the network, into memory that ends where the output does. */
static float* run(const Case* it) {
  const onebit_values image = {ONEBIT_BYTES, it->image, BATCH * it->pixels, {0, 0, 0, 0}};
  float* values = room(BATCH * it->count * sizeof *values);
  const onebit_buffer to = {values, BATCH * it->count};
  CHECK(!onebit_run(it->network, &image, 1, BATCH, &to, 1));
  return values;
}

static void check_run(const Case* it) {
  float* values = run(it);
  CHECK(memcmp(values, it->first, BATCH * it->count * sizeof *values) == 0);
  int32_t best[2];
  float scores[2];
  CHECK(!onebit_answer(it->network, values, (int32_t)it->count, 2, best, scores) && scores[0] >= scores[1]);
  const char* label;
  CHECK((onebit_label(it->network, best[0], &label) == ONEBIT_OK) == (it->about.labels > 0));
  free(values);
}

static void* caller(void* it) {
  for (int round = 0; round < ROUNDS; ++round) {
    check_run(it);
    const onebit_values nothing = {ONEBIT_BYTES, NULL, 0, {0, 0, 0, 0}};
    CHECK(onebit_run(((const Case*)it)->network, &nothing, 1, 1, NULL, 1) == ONEBIT_BAD_ARGUMENT);
    CHECK(strcmp(onebit_failure(), "a pointer is NULL") == 0);
  }
  return NULL;
}

static void refuse(const Case* it) {
  float* floats = room(it->pixels * sizeof *floats);
  float* values = room(it->count * sizeof *values);
  memset(floats, 0xff, it->pixels * sizeof *floats); /* NaN */
  onebit_values image = {ONEBIT_CHANNELS_LAST, floats, it->pixels, it->input.shape};
  onebit_buffer to = {values, it->count};
  CHECK(onebit_run(it->network, &image, 1, 1, &to, 1) == ONEBIT_BAD_ARGUMENT);
  memset(floats, 0, it->pixels * sizeof *floats);
  CHECK(onebit_run(it->network, &image, 1, 1, &to, 1) == ONEBIT_OK);
  image.form = ONEBIT_CHANNELS_FIRST;
  CHECK(onebit_run(it->network, &image, 1, 1, &to, 1) == ONEBIT_OK);
  to.size -= 1;
  CHECK(onebit_run(it->network, &image, 1, 1, &to, 1) == ONEBIT_BAD_ARGUMENT);
  to.size += 1, image.data = (const char*)floats + 1;
  CHECK(onebit_run(it->network, &image, 1, 1, &to, 1) == ONEBIT_BAD_ARGUMENT);
  image.data = floats, image.shape.height = INT32_MAX, image.shape.width = INT32_MAX;
  CHECK(onebit_run(it->network, &image, 1, INT32_MAX, &to, 1) == ONEBIT_BAD_ARGUMENT);
  CHECK(onebit_run(it->network, &image, 1, 1 << 30, &to, 1) == ONEBIT_BAD_ARGUMENT);
  image.shape.height = INT32_MIN;
  CHECK(onebit_run(it->network, &image, 1, 1, &to, 1) == ONEBIT_BAD_ARGUMENT);
  free(values);
  free(floats);
}

/* Every cut is refused; a changed byte may be, and what is taken is let go. */
static void damage(const uint8_t* bytes, size_t size) {
  uint8_t* copy = room(size);
  for (size_t round = 0; round < 400; ++round) {
    const size_t at = round < 200 ? round * 5 : round * 7919 % size;
    onebit_network* network;
    CHECK(onebit_load_bytes(bytes, at, 1, "scalar", &network) == ONEBIT_BAD_FILE && !network && *onebit_failure());
    memcpy(copy, bytes, size);
    copy[at] ^= (uint8_t)(1 << round % 8);
    onebit_load_bytes(copy, size, 1, "scalar", &network);
    onebit_free(network);
  }
  free(copy);
}

int main(int argc, char** argv) {
  CHECK(argc > 1);
  for (int i = 1; i < argc; ++i) {
    size_t size;
    uint8_t* bytes = bytes_of(argv[i], &size);
    Case it;
    memset(&it, 0, sizeof it);
    for (int32_t round = 0; round < ROUNDS; ++round) {
      const int32_t threads = 1 + round % 4;
      if (round % 2) {
        CHECK(!onebit_load(argv[i], threads, round % 3 ? NULL : "scalar", &it.network));
      } else {
        uint8_t* copy = room(size + 1); /* at an odd address */
        memcpy(copy + 1, bytes, size);
        CHECK(!onebit_load_bytes(copy + 1, size, threads, NULL, &it.network));
        free(copy);
      }
      describe(&it);
      if (!it.image) {
        it.image = room(BATCH * it.pixels);
        for (size_t p = 0; p < BATCH * it.pixels; ++p) it.image[p] = (uint8_t)(p * p * 31 + p * 7);
        it.first = run(&it);
      }
      pthread_t other;
      CHECK(pthread_create(&other, NULL, caller, &it) == 0);
      caller(&it);
      CHECK(pthread_join(other, NULL) == 0);
      refuse(&it);
      onebit_free(it.network);
    }
    free(it.first);
    free(it.image);
    damage(bytes, size);
    free(bytes);
  }
  onebit_network* network;
  CHECK(onebit_load("/", 1, NULL, &network) == ONEBIT_CANNOT_READ && !network);
  CHECK(onebit_load(argv[1], 1025, NULL, &network) == ONEBIT_BAD_ARGUMENT && !network);
  CHECK(onebit_load(argv[1], 1, "sse9", &network) == ONEBIT_BAD_ARGUMENT && !network);
  onebit_free(NULL);
  puts("c: passed");
  return 0;
}
