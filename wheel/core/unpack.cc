#include "wheel/core/unpack.h"

#include <lz4.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <climits>
#include <string>

#include "wheel/core/text.h"

namespace clary::tool {
namespace {

Error damaged(const char* kind) { return {std::string("damaged ") + kind + " data", ""}; }
Error too_large(uint64_t size) { return {"no memory for " + human_bytes(size), ""}; }

struct ZstdStream {
  ZSTD_DStream* stream = ZSTD_createDStream();
  ~ZstdStream() { ZSTD_freeDStream(stream); }
};

}  // namespace

Result<Buffer> inflate_raw(Bytes packed, uint64_t size) {
  // Deflate cannot expand more than 1032 times, so a larger claim is a lie not worth allocating for.
  if (size / 1032 > packed.size() + 16) return damaged("deflate");
  Buffer out(size);
  if (out.size() != size) return too_large(size);
  z_stream z{};
  if (inflateInit2(&z, -15) != Z_OK) return Error{"zlib cannot start", ""};
  z.next_in = const_cast<Bytef*>(packed.data());
  z.next_out = out.data();
  uint64_t in_left = packed.size(), out_left = size;
  int rc = Z_OK;
  while (rc == Z_OK) {
    if (!z.avail_in) z.avail_in = static_cast<uInt>(std::min<uint64_t>(in_left, UINT_MAX)), in_left -= z.avail_in;
    if (!z.avail_out) z.avail_out = static_cast<uInt>(std::min<uint64_t>(out_left, UINT_MAX)), out_left -= z.avail_out;
    rc = inflate(&z, Z_NO_FLUSH);
  }
  const bool whole = rc == Z_STREAM_END && !z.avail_in && !in_left && !z.avail_out && !out_left;
  inflateEnd(&z);
  if (!whole) return damaged("deflate");
  return out;
}

Result<Buffer> unpack_lz4(Bytes packed, uint64_t size) {
  if (size > LZ4_MAX_INPUT_SIZE || packed.size() > INT_MAX || size / 255 > packed.size() + 16) return damaged("LZ4");
  Buffer out(size);
  if (out.size() != size) return too_large(size);
  const int made =
      LZ4_decompress_safe(reinterpret_cast<const char*>(packed.data()), reinterpret_cast<char*>(out.data()),
                          static_cast<int>(packed.size()), static_cast<int>(size));
  if (made < 0 || static_cast<uint64_t>(made) != size) return damaged("LZ4");
  return out;
}

Result<Buffer> unpack_zstd(Bytes packed, uint64_t size) {
  const unsigned long long said = ZSTD_getFrameContentSize(packed.data(), packed.size());
  if (said == ZSTD_CONTENTSIZE_ERROR) return damaged("Zstandard");
  if (said != ZSTD_CONTENTSIZE_UNKNOWN && said > size) return damaged("Zstandard");
  Buffer out(size);
  if (out.size() != size) return too_large(size);
  const size_t made = ZSTD_decompress(out.data(), size, packed.data(), packed.size());
  if (ZSTD_isError(made) || made != size) return damaged("Zstandard");
  return out;
}

Buffer peek_lz4(Bytes packed, uint64_t size, uint64_t limit) {
  const int want = static_cast<int>(std::min<uint64_t>({size, limit, LZ4_MAX_INPUT_SIZE}));
  if (packed.size() > INT_MAX) return {};
  Buffer out(static_cast<size_t>(want));
  const int made =
      LZ4_decompress_safe_partial(reinterpret_cast<const char*>(packed.data()), reinterpret_cast<char*>(out.data()),
                                  static_cast<int>(packed.size()), want, want);
  out.shrink(made < 0 ? 0 : static_cast<size_t>(made));
  return out;
}

Buffer peek_zstd(Bytes packed, uint64_t size, uint64_t limit) {
  static thread_local ZstdStream zstd;
  ZSTD_DCtx_reset(zstd.stream, ZSTD_reset_session_only);
  ZSTD_DCtx_setParameter(zstd.stream, ZSTD_d_windowLogMax, 27);  // 128 MB at most, whatever the frame asks for
  Buffer out(std::min(size, limit));
  ZSTD_inBuffer in{packed.data(), packed.size(), 0};
  ZSTD_outBuffer to{out.data(), out.size(), 0};
  while (to.pos < to.size && in.pos < in.size) {
    if (ZSTD_isError(ZSTD_decompressStream(zstd.stream, &to, &in))) break;
  }
  out.shrink(to.pos);
  return out;
}

uint32_t crc32_of(Bytes bytes) {
  return static_cast<uint32_t>(crc32_z(crc32_z(0, nullptr, 0), bytes.data(), bytes.size()));
}

}  // namespace clary::tool
