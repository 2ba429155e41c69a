// One row of attention in f64, straight from the inputs: what a row gets whose fast result is not finite. Finite inputs then
// give finite outputs whatever their size, and a NaN shows in exactly the rows that see it.
#pragma once
#include "engine/cpu/kernel.h"

namespace clary::cpu {

void careful_row(const AttendArgs& args, const Rows& rows, int row);
void store_value(char* out, int32_t dtype, int64_t index, double value);

}  // namespace clary::cpu
