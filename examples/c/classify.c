/* Prints the labels that a packed file gives to an image, with their scores, the best first.

   cc -std=c99 classify.c $(pkg-config --cflags --libs onebit) -o classify
   ./classify network.safetensors image.ppm

   The image is a binary PPM (P6), or PGM (P5) for networks of one channel, without comments, of the network's own size.
 */
#include <onebit.h>
#include <stdio.h>
#include <stdlib.h>

enum { TOP = 5 };

static int failed(const char* why) {
  fprintf(stderr, "classify: %s\n", why);
  return 1;
}

/* Whether the file is an image of that shape, whose pixels (H, W, C) are put into `pixels`. */
static int read_pixels(const char* path, onebit_shape shape, uint8_t* pixels, size_t size) {
  char kind;
  int width, height, most;
  FILE* file = fopen(path, "rb");
  int good = file && fscanf(file, "P%c %d %d %d", &kind, &width, &height, &most) == 4 && fgetc(file) != EOF;
  good = good && kind == (shape.channels == 1 ? '5' : '6') && most == 255;
  good = good && width == shape.width && height == shape.height && fread(pixels, 1, size, file) == size;
  if (file) fclose(file);
  return good;
}

int main(int argc, char** argv) {
  onebit_network* network;
  onebit_description about;
  onebit_input input;
  onebit_output output;
  if (argc != 3) return failed("usage: classify NETWORK IMAGE");
  if (onebit_load(argv[1], 1, NULL, &network) || onebit_describe(network, &about) ||
      onebit_describe_input(network, 0, &input) || onebit_describe_output(network, 0, &output))
    return failed(onebit_failure());
  if (about.inputs != 1 || about.outputs != 1 || input.type != ONEBIT_IMAGE)
    return failed("not a network of one image");

  const onebit_shape in = input.shape, out = output.shape;
  const size_t size = (size_t)in.height * in.width * in.channels, count = (size_t)out.height * out.width * out.channels;
  uint8_t* pixels = malloc(size);
  float* values = malloc(count * sizeof *values);
  if (!pixels || !values || !read_pixels(argv[2], in, pixels, size)) {
    fprintf(stderr, "classify: give a %s of %d x %d pixels\n", in.channels == 1 ? "P5" : "P6", in.width, in.height);
    return 1;
  }
  const onebit_values image = {ONEBIT_BYTES, pixels, size, in};
  const onebit_buffer to = {values, count};
  int32_t best[TOP];
  float scores[TOP];
  if (onebit_run(network, &image, 1, 1, &to, 1) || onebit_answer(network, values, (int32_t)count, TOP, best, scores))
    return failed(onebit_failure());
  for (size_t i = 0; i < TOP && i < count; ++i) {
    const char* label = NULL; /* networks without labels have numbers */
    if (about.labels && onebit_label(network, best[i], &label)) return failed(onebit_failure());
    label ? printf("%s %.6f\n", label, scores[i]) : printf("%d %.6f\n", best[i], scores[i]);
  }
  free(values);
  free(pixels);
  onebit_free(network);
  return 0;
}
