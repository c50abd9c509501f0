// The word pieces of an input of tokens, as a file has them: UTF-8, each followed by a line feed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace onebit {

// Throws FormatError unless `text`, of the tensor `name`, holds `count` pieces that differ, of 1 to kMaxText characters
// each, and the special ones of BERT among them.
void check_vocabulary(std::string_view text, int64_t count, const std::string& name);

}  // namespace onebit
