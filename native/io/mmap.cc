// Back end that copies out of and into a mapping of the file, on the threads of pool.cc. For file systems whose reads
// are refused or slow, and as a third opinion in tests. Each piece is mapped for itself: the file may grow and shrink
// at any time, no address outlives the copy, and the pages leave the process with it.
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/mapping_guard.h"
#include "backend.h"

namespace nandu {
namespace {

// A write behind the end makes the file longer, as pwrite does. With real blocks: a disk that is full says so here and
// not by SIGBUS.
int32_t make_room(int fd, uint64_t end) {
  struct stat status;
  if (fstat(fd, &status) != 0) return -errno;
  const uint64_t size = static_cast<uint64_t>(status.st_size);
  if (end <= size) return 0;
  return fallocate(fd, 0, static_cast<off_t>(size), static_cast<off_t>(end - size)) == 0 ? 0 : -errno;
}

}  // namespace

int32_t transfer_mapped(const IoFile& file, const IoQueue::Piece& piece) {
  // Pages written through mappings that are gone again are the file's dirty pages: fdatasync is msync, too.
  if (!moves_data(piece.op)) return transfer_nothing(file, piece);
  const bool reads = piece.op == IoOp::kRead;
  if (!reads)
    if (const int32_t result = make_room(file.fd, piece.offset + piece.bytes); result != 0) return result;
  void* map = mmap(nullptr, piece.bytes, reads ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, file.fd,
                   static_cast<off_t>(piece.offset));
  if (map == MAP_FAILED) return -errno;
  if (reads) madvise(map, piece.bytes, MADV_WILLNEED);  // one read of the whole piece instead of one a fault
  // SIGBUS: the file ends on an earlier page than the piece does, or its device failed. Of a last page that is not
  // whole, a mapping shows zeros behind the end, where the other back ends say -EIO; our files have whole pages.
  const bool copied =
      reads ? copy_mapped(piece.data, map, map, piece.bytes) : copy_mapped(map, piece.data, map, piece.bytes);
  munmap(map, piece.bytes);
  return copied ? static_cast<int32_t>(piece.bytes) : -EIO;
}

}  // namespace nandu
