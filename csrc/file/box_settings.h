// How a detector's boxes are made: the `settings` of a task's record whose answer is "boxes".
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/window.h"
#include "boxes/boxes.h"

namespace onebit {

// Throws FormatError.
BoxSettings read_box_settings(const json::Value& entry, const std::string& where);

// Throws FormatError unless the outputs, by name, are those of a detector.
void check_box_outputs(const BoxSettings& settings, const std::vector<std::pair<std::string, Shape>>& outputs);

}  // namespace onebit
