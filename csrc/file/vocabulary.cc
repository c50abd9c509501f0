#include "file/vocabulary.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/fields.h"
#include "base/utf8.h"

namespace onebit {
namespace {

constexpr std::string_view kSpecial[] = {"[UNK]", "[CLS]", "[SEP]", "[PAD]"};

}  // namespace

void check_vocabulary(std::string_view text, int64_t count, const std::string& name) {
  const auto refuse = [&](const std::string& why) { throw FormatError("tensor " + name + " " + why); };
  if (text.empty() || text.back() != '\n') refuse("must end with a line feed; pack the model again");
  std::vector<std::string_view> pieces;
  size_t begin = 0, characters = 0;  // of the piece in hand
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text.substr(at));
    if (length == 0) refuse("is not valid UTF-8 at byte " + std::to_string(at) + "; pack the model again");
    if (text[at] == '\n') {
      if (characters == 0) refuse("has an empty piece; give each a text");
      if (characters > kMaxText) {
        refuse("has a piece of " + std::to_string(characters) + " characters, at most " + std::to_string(kMaxText) +
               " fit");
      }
      pieces.push_back(text.substr(begin, at - begin));
      begin = at + 1;
      characters = 0;
    } else {
      ++characters;
    }
    at += length;
  }
  if (static_cast<int64_t>(pieces.size()) != count) {
    refuse("has " + std::to_string(pieces.size()) + " pieces for " + std::to_string(count) +
           " tokens; give one for each");
  }
  std::sort(pieces.begin(), pieces.end());
  const auto twice = std::adjacent_find(pieces.begin(), pieces.end());
  if (twice != pieces.end()) refuse("has the piece " + json::show(*twice) + " twice; give each once");
  for (std::string_view special : kSpecial) {
    if (std::binary_search(pieces.begin(), pieces.end(), special)) continue;
    refuse("lacks " + std::string(special) + "; give a vocabulary of BERT's word pieces");
  }
}

}  // namespace onebit
