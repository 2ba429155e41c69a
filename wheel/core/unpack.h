// Decompression of bytes nobody trusts. Each call is told how much must come out, allocates no more than that, and fails
// when more or less does.
#pragma once
#include <cstdint>

#include "wheel/core/bytes.h"
#include "wheel/core/result.h"

namespace clary::tool {

Result<Buffer> inflate_raw(Bytes packed, uint64_t size);  // deflate without a header, as in zip
Result<Buffer> unpack_lz4(Bytes packed, uint64_t size);   // one block, no frame
Result<Buffer> unpack_zstd(Bytes packed, uint64_t size);  // frames

// The first bytes of what would come out, at most `limit`; as many as are good.
Buffer peek_lz4(Bytes packed, uint64_t size, uint64_t limit);
Buffer peek_zstd(Bytes packed, uint64_t size, uint64_t limit);

uint32_t crc32_of(Bytes bytes);

}  // namespace clary::tool
