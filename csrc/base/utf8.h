// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace onebit {

// Bytes (1 to 4) of the character that `text`, which is not empty, begins with; 0 if those are not valid UTF-8.
inline size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const auto follows = [&](size_t i) { return i < text.size() && (byte(i) & 0xc0) == 0x80; };
  const uint8_t first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4 || !follows(1)) return 0;
  if (first < 0xe0) return 2;
  if ((first == 0xe0 && byte(1) < 0xa0) || (first == 0xed && byte(1) > 0x9f) || !follows(2)) return 0;
  if (first < 0xf0) return 3;
  if ((first == 0xf0 && byte(1) < 0x90) || (first == 0xf4 && byte(1) > 0x8f) || !follows(3)) return 0;
  return 4;
}

// Writes a character, which is no surrogate and at most U+10FFFF, and returns where the next one goes.
inline char* write_utf8(uint32_t character, char* to) {
  const auto continuation = [&](int shift) { return static_cast<char>(0x80 | (character >> shift & 0x3f)); };
  if (character < 0x80) {
    *to++ = static_cast<char>(character);
  } else if (character < 0x800) {
    *to++ = static_cast<char>(0xc0 | character >> 6);
    *to++ = continuation(0);
  } else if (character < 0x10000) {
    *to++ = static_cast<char>(0xe0 | character >> 12);
    *to++ = continuation(6);
    *to++ = continuation(0);
  } else {
    *to++ = static_cast<char>(0xf0 | character >> 18);
    *to++ = continuation(12);
    *to++ = continuation(6);
    *to++ = continuation(0);
  }
  return to;
}

}  // namespace onebit
