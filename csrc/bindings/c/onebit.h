/* onebit: runs a packed file (docs/format.md). The interface in C99; docs/c.md shows how to build, link and use it.

   Every function that can fail returns a code, and nothing else ever leaves it, no exception either; onebit_failure()
   then has a line for people. Where a function fails, what it should have written holds nothing to rely on.

   A network may be used by several threads at once: its runs take turns. It must not be freed while it is used.

   Structures hold 32-bit integers, sizes and pointers alone. Texts are UTF-8, end with a zero byte, and belong to the
   network, as all that it hands out: they are there until it is freed. (A label that holds a zero byte ends there.) */
#ifndef ONEBIT_H
#define ONEBIT_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define ONEBIT_API
#else
#define ONEBIT_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What a function returns. */
enum {
  ONEBIT_OK = 0,
  ONEBIT_BAD_FILE = 1,     /* the bytes are not what docs/format.md allows */
  ONEBIT_BAD_ARGUMENT = 2, /* what the caller gave does not fit */
  ONEBIT_CANNOT_RUN = 3,   /* the file is good, and the engine cannot run it */
  ONEBIT_NO_MEMORY = 4,
  ONEBIT_NO_THREADS = 5,  /* the system starts no more of them: load with fewer */
  ONEBIT_CANNOT_READ = 6, /* there is no such file, or it cannot be read */
};

/* What an input takes. */
enum {
  ONEBIT_IMAGE = 0,
  ONEBIT_TOKENS = 1,
  ONEBIT_FLOATS = 2,
};

/* How the outputs are read: the first one, or a detector's all. */
enum {
  ONEBIT_ONE = 0,     /* one label of all: softmax, the scores sum to 1 */
  ONEBIT_SEVERAL = 1, /* any number of labels: the logistic function of each */
  ONEBIT_VALUES = 2,  /* quantities, as they are */
  ONEBIT_BOXES = 3,   /* boxes with a label and a score each: onebit_boxes */
};

/* How the values of an input lie in memory: a batch B of samples. */
enum {
  ONEBIT_BYTES = 0,          /* uint8_t (B, H, W, C), of images: 0 to 255, normalised by the file's mean and std */
  ONEBIT_CHANNELS_FIRST = 1, /* float (B, C, H, W), of images that are normalised already, and of floats */
  ONEBIT_CHANNELS_LAST = 2,  /* float (B, H, W, C), as above; (B, C) of vectors */
  ONEBIT_INTEGERS = 3,       /* int32_t (B, T), of tokens: 0 to count - 1 */
};

/* A sample's sizes (H, W, C). Of T tokens they are (T, 1, 1), of a vector (1, 1, C) with vector = 1, else 0. */
typedef struct onebit_shape {
  int32_t height, width, channels, vector;
} onebit_shape;

typedef struct onebit_description {
  const char* name;
  const char* method; /* that trained it: "adabin" */
  const char* recipe; /* NULL: unknown */
  const char* task;   /* "classification" */
  int32_t answer;     /* ONEBIT_ONE, ONEBIT_SEVERAL, ONEBIT_VALUES or ONEBIT_BOXES */
  int32_t inputs, outputs;
  int32_t labels;  /* one for each channel of the first output, but for a detector's background; 0: there are none */
  const char* isa; /* the instruction set in use */
  int32_t threads;
} onebit_description;

typedef struct onebit_input {
  const char* name;
  int32_t type;       /* ONEBIT_IMAGE, ONEBIT_TOKENS or ONEBIT_FLOATS */
  onebit_shape shape; /* that the network was made for; others may do */
  int32_t count;      /* of tokens: how many there are; else 0 */
  int32_t resize;     /* of images: pixels of the shorter side before the centre crop; 0: all of the image is resized */
  const double* mean; /* (C) of images: bytes x are fed as (x / 255 - mean) / std; else NULL */
  const double* std;  /* (C) of images; else NULL */
} onebit_input;

typedef struct onebit_output {
  const char* name;
  onebit_shape shape; /* for inputs of the shapes that the network was made for */
} onebit_output;

/* A batch for one input. */
typedef struct onebit_values {
  int32_t form; /* ONEBIT_BYTES, ONEBIT_CHANNELS_FIRST, ONEBIT_CHANNELS_LAST or ONEBIT_INTEGERS */
  const void* data;
  size_t size;        /* how many values lie there: batch * height * width * channels */
  onebit_shape shape; /* of one sample; all zeros stand for the shape that the network was made for */
} onebit_values;

/* What is found in an image: corners in pixels of the input, a label from 0 on, for onebit_label, and its score. */
typedef struct onebit_box {
  float x1, y1, x2, y2, score;
  int32_t label;
} onebit_box;

/* Where a batch of one output goes: float (B, H, W, C), of a vector (B, C). */
typedef struct onebit_buffer {
  float* data;
  size_t size; /* how many floats have room: at least batch * height * width * channels */
} onebit_buffer;

typedef struct onebit_network onebit_network;

/* "0.1.0" */
ONEBIT_API const char* onebit_version(void);

/* What went wrong in the last call that failed on this thread: one line, "" if there was none. It is there until the
   next call on this thread. */
ONEBIT_API const char* onebit_failure(void);

/* Reads a file, or the `size` bytes of one, which may be let go afterwards.
   `threads` are 1 to 1024, or 0: as many as there are processors. `isa` is "scalar"; on x86-64 "avx2", "avx512",
   "avx512vnni", "avx512vp" or "amx"; on ARM "neon"; in WebAssembly "simd128"; or NULL: $ONEBIT_ISA if set, else the
   best. Outputs depend on neither. The caller frees `network`, which is NULL where this fails. */
ONEBIT_API int32_t onebit_load(const char* path, int32_t threads, const char* isa, onebit_network** network);
ONEBIT_API int32_t onebit_load_bytes(const void* data, size_t size, int32_t threads, const char* isa,
                                     onebit_network** network);

/* Takes NULL, too. */
ONEBIT_API void onebit_free(onebit_network* network);

/* Number `index` of the inputs, outputs or labels, from 0. */
ONEBIT_API int32_t onebit_describe(const onebit_network* network, onebit_description* description);
ONEBIT_API int32_t onebit_describe_input(const onebit_network* network, int32_t index, onebit_input* input);
ONEBIT_API int32_t onebit_describe_output(const onebit_network* network, int32_t index, onebit_output* output);
ONEBIT_API int32_t onebit_label(const onebit_network* network, int32_t index, const char** label);

/* The shapes of all outputs for inputs of the given ones, in order; all zeros as above. */
ONEBIT_API int32_t onebit_output_shapes(onebit_network* network, const onebit_shape* inputs, int32_t input_count,
                                        onebit_shape* outputs, int32_t output_count);

/* Runs a batch: one entry for each input, and one for each output, in order. Refuses floats that are NaN or infinite,
   and tokens that are out of range. */
ONEBIT_API int32_t onebit_run(onebit_network* network, const onebit_values* inputs, int32_t input_count, int32_t batch,
                              const onebit_buffer* outputs, int32_t output_count);

/* The best labels of one sample, the best first, equal ones in their order, as `onebit run` has them (which rounds the
   scores to six digits behind the point).
     values   (count): the sample's first output, a vector
     indices  (top): of labels, for onebit_label
     scores   (top)
   If top is greater than count, only `count` of them are written. */
ONEBIT_API int32_t onebit_answer(const onebit_network* network, const float* values, int32_t count, int32_t top,
                                 int32_t* indices, float* scores);

/* The boxes in one image of the size that the network was made for, the best first, as `onebit run` has them before it
   puts them into the picture as it was. Its answer is ONEBIT_BOXES.
     outputs  for each output, in order, that of the image, as onebit_run wrote it
     boxes    (most)
     count    how many were written */
ONEBIT_API int32_t onebit_boxes(const onebit_network* network, const onebit_buffer* outputs, int32_t output_count,
                                int32_t most, onebit_box* boxes, int32_t* count);

#ifdef __cplusplus
}
#endif

#endif
