// Tests of documents' files: only what was saved ever comes back.
#include "server/engine/documents/disk/document_cache.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "base/hashing/checksum.h"
#include "base/hashing/sha256.h"
#include "server/engine/kv_cache/page_count.h"
#include "tests/testing/fake_model.h"
#include "tests/testing/faulty_file_system.h"
#include "tests/testing/temporary_folder.h"

namespace lectern {
namespace {

namespace fs = std::filesystem;

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
void WriteFile(const fs::path& path, const std::string& bytes) {
  fs::remove(path);  // some file systems sync a file that is shortened
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

class DocumentCacheTest : public testing::Test {
 protected:
  std::unique_ptr<DocumentCache> NewCache(FileSystem* files = &FileSystem::Real()) {
    return std::make_unique<DocumentCache>(
        DocumentCacheOptions{.directory = folder_.path() + "/cache", .files = files},
        std::vector<std::shared_ptr<const Model>>{model_}, &metrics_);
  }
  // Returns a cache that has taken over the folder.
  std::unique_ptr<DocumentCache> OpenCache() {
    auto cache = NewCache();
    found_ = *cache->Open();
    return cache;
  }

  std::shared_ptr<const DocumentContent> Content(const std::string& text) {
    auto content =
        std::make_shared<DocumentContent>(*PrepareContent(model_, text, Sha256Hex(text)));
    content->chunks = CutIntoChunks(content->encoding, content->sentences, 50);
    return content;
  }
  absl::StatusOr<PageSet> Allocate(size_t page_bytes, size_t count) {
    PageSet pages;
    if (pool_.Allocate(page_bytes, count, pages)) return pages;
    return absl::ResourceExhaustedError("full");
  }
  PageAllocator Allocator() {
    return [this](size_t page_bytes, size_t count) { return Allocate(page_bytes, count); };
  }
  // Computes a reading's pages with the fake model.
  std::shared_ptr<const DocumentKv> Read(const DocumentContent& content, ReadingMode reading,
                                         const AttentionPolicy& policy) {
    auto read = std::make_shared<DocumentKv>();
    read->reading = reading;
    read->policy = policy;
    const auto workspace = model_->NewWorkspace();
    for (const TokenRange& part : content.Parts(reading)) {
      const auto prompt = content.Prompt(part);
      PageSet pages = *Allocate(model_->info().page_bytes, PagesFor(prompt.size(), model_->info()));
      const ForwardSlice slice{.tokens = prompt, .pages = pages.pages(), .policy = &read->policy};
      EXPECT_TRUE(model_->Forward({&slice, 1}, *workspace).ok());
      read->parts.push_back(std::move(pages));
    }
    return read;
  }
  CacheMeta Meta(const DocumentContent& content) {
    return {.identity = {content.id, model_->info().fingerprint},
            .model = model_->info().name,
            .sha256 = content.sha256,
            .text_bytes = content.text.size(),
            .tokens = content.encoding.ids.size(),
            .chunks = content.chunks.size(),
            .holdings = {{"", {.title = "Valves", .created = now_}},
                         {"t1",
                          {.title = "Mine",
                           .pinned = true,
                           .created = now_,
                           .expires = now_ + absl::Hours(1)}}}};
  }
  void SaveAll(DocumentCache& cache) {
    ASSERT_TRUE(cache.SaveText(*content_).ok());
    ASSERT_TRUE(cache.SavePages(*content_, *read_).ok());
    ASSERT_TRUE(cache.SaveMeta(Meta(*content_), now_).ok());
  }
  void SetUp() override {
    content_ = Content(
        "Valve 7 was opened by hand. The pump stood still. Nobody saw it at all. Then "
        "the light went out, and the report says nothing more about that night.");
    read_ = Read(*content_, ReadingMode::kWhole, policy_);
  }
  bool SamePages(const DocumentKv& a, const DocumentKv& b) {
    if (a.parts.size() != b.parts.size()) return false;
    for (size_t part = 0; part < a.parts.size(); ++part) {
      if (a.parts[part].size() != b.parts[part].size()) return false;
      for (size_t page = 0; page < a.parts[part].size(); ++page) {
        if (memcmp(a.parts[part].pages()[page], b.parts[part].pages()[page],
                   model_->info().page_bytes) != 0) {
          return false;
        }
      }
    }
    return true;
  }
  std::string MetaPath() { return CachePath(MetaName(content_->id)); }
  std::string TextPath() { return CachePath(TextName(content_->id)); }
  std::string PagesPath() {
    return CachePath(PagesName(content_->id, ReadingMode::kWhole, policy_));
  }
  std::string CachePath(const std::string& name) { return folder_.path() + "/cache/" + name; }
  double Rejected(const std::string& reason) {
    const std::string series = "lectern_document_cache_rejected_total{reason=\"" + reason + "\"} ";
    const std::string text = metrics_.Render();
    return std::stod(text.substr(text.find(series) + series.size()));
  }

  TemporaryFolder folder_;
  ServerMetrics metrics_{{"fake"}};
  std::shared_ptr<FakeModel> model_ = std::make_shared<FakeModel>();
  PagePool pool_{1 << 24};
  AttentionPolicy policy_{.top_k = 16, .layer_k = {0, 3}};
  const absl::Time now_ = absl::FromUnixSeconds(1'700'000'000);
  std::shared_ptr<const DocumentContent> content_;
  std::shared_ptr<const DocumentKv> read_;
  std::vector<StoredDocument> found_;
};

TEST_F(DocumentCacheTest, BringsBackWhatWasSaved) {
  const auto chunked = Read(*content_, ReadingMode::kChunks, AttentionPolicy::Exact());
  ASSERT_GT(chunked->parts.size(), 1u);
  {
    const auto cache = OpenCache();
    EXPECT_TRUE(found_.empty());
    SaveAll(*cache);
    ASSERT_TRUE(cache->SavePages(*content_, *chunked).ok());
  }
  const auto cache = OpenCache();
  ASSERT_EQ(found_.size(), 1u);
  const StoredDocument& stored = found_[0];
  EXPECT_EQ(stored.model, model_);
  EXPECT_EQ(stored.last_used, now_);
  EXPECT_EQ(stored.meta.sha256, content_->sha256);
  EXPECT_EQ(stored.meta.tokens, content_->encoding.ids.size());
  ASSERT_EQ(stored.meta.holdings.size(), 2u);
  EXPECT_EQ(stored.meta.holdings.at("").title, "Valves");
  EXPECT_EQ(stored.meta.holdings.at("").expires, absl::InfiniteFuture());
  EXPECT_TRUE(stored.meta.holdings.at("t1").pinned);
  EXPECT_EQ(stored.meta.holdings.at("t1").expires, now_ + absl::Hours(1));
  ASSERT_EQ(stored.reads.size(), 2u);
  EXPECT_EQ(stored.reads[0].device_bytes + stored.reads[1].device_bytes,
            read_->bytes() + chunked->bytes());

  EXPECT_EQ(*cache->LoadText(stored.meta), content_->text);
  const auto whole = cache->LoadPages(*content_, ReadingMode::kWhole, policy_, Allocator());
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_TRUE(SamePages(**whole, *read_));
  EXPECT_EQ((*whole)->policy, policy_);
  const auto chunks =
      cache->LoadPages(*content_, ReadingMode::kChunks, AttentionPolicy::Exact(), Allocator());
  ASSERT_TRUE(chunks.ok()) << chunks.status();
  EXPECT_TRUE(SamePages(**chunks, *chunked));
  EXPECT_TRUE(absl::IsDataLoss(
      cache->LoadPages(*content_, ReadingMode::kWhole, AttentionPolicy::Exact(), Allocator())
          .status()));
}

TEST_F(DocumentCacheTest, PagesComeBackUnderEveryRankAndTail) {
  const auto cache = OpenCache();
  const PolicyField& ranks = FieldOf(&AttentionPolicy::ffn_rank);
  for (int64_t value = ranks.least; value <= ranks.most; ++value) {
    const auto rank = static_cast<AttentionPolicy::FfnRank>(value);
    for (const auto tail : {AttentionPolicy::Tail::kNone, AttentionPolicy::Tail::kMean}) {
      const AttentionPolicy policy{.top_k = 16, .tail = tail, .ffn_top_k = 5, .ffn_rank = rank};
      const auto read = Read(*content_, ReadingMode::kWhole, policy);
      ASSERT_TRUE(cache->SavePages(*content_, *read).ok());
      const auto loaded = cache->LoadPages(*content_, ReadingMode::kWhole, policy, Allocator());
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      EXPECT_EQ((*loaded)->policy, policy);
    }
  }
}

TEST_F(DocumentCacheTest, FilesAreForTheirOwnerAlone) {
  const auto cache = OpenCache();
  SaveAll(*cache);
  struct stat info = {};
  ASSERT_EQ(stat(CachePath(".").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  for (const auto& path : {MetaPath(), TextPath(), PagesPath()}) {
    ASSERT_EQ(stat(path.c_str(), &info), 0) << path;
    EXPECT_EQ(info.st_mode & 0777, 0600u) << path;
  }
}

TEST_F(DocumentCacheTest, OnlyAnIdBecomesAPath) {
  const auto cache = OpenCache();
  for (const std::string id :
       {"", "../../etc/passwd", "doc-", "doc-0123456789abcdef0123456789ABCDEF",
        "doc-0123456789abcdef0123456789abcde/"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(cache->Remove(id).status())) << id;
    EXPECT_TRUE(absl::IsInvalidArgument(cache->LoadText({.identity = {id, ""}}).status())) << id;
    EXPECT_TRUE(absl::IsInvalidArgument(cache->SaveMeta({.identity = {id, ""}}, now_))) << id;
  }
}

TEST_F(DocumentCacheTest, OneProcessAtATime) {
  const auto cache = OpenCache();
  auto second = NewCache();
  EXPECT_TRUE(absl::IsUnavailable(second->Open().status()));
}

// Every byte of a header flipped, one bit at a time; every length cut.
class DamageTest : public DocumentCacheTest {
 protected:
  enum class Kind { kMeta, kText, kPages };
  std::string PathOf(Kind kind) {
    return kind == Kind::kMeta ? MetaPath() : kind == Kind::kText ? TextPath() : PagesPath();
  }
  // The folder with one file damaged, while it is in use and before it is: is anything of that file
  // handed out?
  void ExpectRejected(Kind kind, const std::string& damaged, const std::string& what) {
    for (const bool running : {true, false}) {
      for (const auto& [path, bytes] : good_) WriteFile(path, bytes);
      if (!running) WriteFile(PathOf(kind), damaged);
      const auto cache = OpenCache();
      if (running) {
        ASSERT_EQ(found_.size(), 1u) << what;
        WriteFile(PathOf(kind), damaged);
        if (kind == Kind::kMeta) continue;  // read at the start alone
      }
      ASSERT_TRUE(found_.empty() || kind != Kind::kMeta) << what;
      // Headers alone are looked at when the folder is opened.
      if (kind == Kind::kText && !found_.empty()) {
        ASSERT_TRUE(absl::IsDataLoss(cache->LoadText(found_[0].meta).status())) << what;
      }
      if (kind == Kind::kPages) {
        ASSERT_EQ(found_.size(), 1u) << what;
        const auto read = cache->LoadPages(*content_, ReadingMode::kWhole, policy_, Allocator());
        ASSERT_TRUE(absl::IsDataLoss(read.status())) << what;
      }
      ASSERT_FALSE(fs::exists(PathOf(kind))) << what;
      ASSERT_EQ(pool_.used(), read_->bytes()) << what;
    }
  }
  std::string Good(Kind kind) {
    {
      const auto cache = NewCache();
      EXPECT_TRUE(cache->Open().ok());
      SaveAll(*cache);
    }
    for (const auto& path : {MetaPath(), TextPath(), PagesPath()}) good_[path] = ReadFile(path);
    return good_[PathOf(kind)];
  }
  static std::string Flipped(std::string bytes, size_t at, int bit) {
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << bit));
    return bytes;
  }
  // The header up to its padding, in single steps; padding and data by samples.
  static std::vector<size_t> Places(const std::string& good) {
    std::vector<size_t> places;
    size_t used = kCacheAlignment;
    while (used > 0 && good[used - 1] == '\0') --used;
    for (size_t at = 0; at < used; ++at) places.push_back(at);
    for (size_t at = used; at < good.size(); at += 997) places.push_back(at);
    places.push_back(good.size() - 1);
    return places;
  }

  std::map<std::string, std::string> good_;  // by path
};

TEST_F(DamageTest, EveryFlippedByteIsSeen) {
  for (const Kind kind : {Kind::kMeta, Kind::kText, Kind::kPages}) {
    const std::string good = Good(kind);
    int bit = 0;
    for (const size_t at : Places(good)) {
      bit = (bit + 3) % 8;
      ExpectRejected(kind, Flipped(good, at, bit),
                     absl::StrCat("kind ", static_cast<int>(kind), ", byte ", at, ", bit ", bit));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(DamageTest, EveryCutIsSeen) {
  for (const Kind kind : {Kind::kMeta, Kind::kText, Kind::kPages}) {
    const std::string good = Good(kind);
    for (const size_t at : Places(good)) {
      ExpectRejected(kind, good.substr(0, at),
                     absl::StrCat("kind ", static_cast<int>(kind), ", cut at ", at));
      if (HasFatalFailure()) return;
    }
    ExpectRejected(kind, good + "x", "one byte more");
    ExpectRejected(kind, good + good, "twice");
  }
  EXPECT_GT(Rejected("truncated"), 0);
}

// A header whose checksum fits, but that says something else.
TEST_F(DamageTest, WellFormedFilesOfOthersAreRejected) {
  std::string pages = Good(Kind::kPages);
  const auto with = [&](const std::function<void(CachePages&)>& change) {
    CachePages header;
    EXPECT_EQ(DecodeHeader(std::string_view(pages).substr(0, kCacheAlignment), &header),
              CacheFileError::kNone);
    change(header);
    return EncodeHeader(header) + pages.substr(kCacheAlignment);
  };
  ExpectRejected(Kind::kPages, with([](CachePages& h) { h.identity.fingerprint = "other"; }),
                 "another model");
  ExpectRejected(Kind::kPages, with([](CachePages& h) { h.identity.id[7] ^= 1; }),
                 "another document");
  ExpectRejected(Kind::kPages, with([](CachePages& h) { h.policy.top_k = 17; }), "another policy");
  ExpectRejected(Kind::kPages, with([](CachePages& h) { h.reading = ReadingMode::kChunks; }),
                 "another reading");
  ExpectRejected(Kind::kPages, with([](CachePages& h) { h.page_tokens *= 2; }), "other pages");
  ExpectRejected(Kind::kPages, with([](CachePages& h) { h.page_bytes -= 64; }), "other pages");
  const double foreign = Rejected("foreign");
  EXPECT_GT(foreign, 0);
  ExpectRejected(Kind::kPages, with([](CachePages& h) { h.tokens_checksum ^= 1; }), "other tokens");
  ExpectRejected(Kind::kPages, with([](CachePages& h) { --h.parts[0].tokens.end; }), "other parts");
  EXPECT_GT(Rejected("stale"), 0);
  ExpectRejected(Kind::kPages, with([](CachePages& h) { h.parts[0].pages = UINT64_MAX; }),
                 "more pages than there are");
  ExpectRejected(Kind::kPages, Good(Kind::kText), "a text");
  std::string version = pages;
  version[8] = static_cast<char>(CacheFormatVersion(CacheFileKind::kPages) - 1);
  ExpectRejected(Kind::kPages, version, "another version");
  EXPECT_GT(Rejected("version"), 0);
}

TEST_F(DocumentCacheTest, ATextThatDoesNotMatchItsDigestIsRejected) {
  const auto cache = OpenCache();
  SaveAll(*cache);
  std::string other = content_->text;
  other[0] = 'v';
  const CacheText header{{content_->id, model_->info().fingerprint}, Checksum(other)};
  WriteFile(TextPath(), EncodeHeader(header, other.size()) + other);
  EXPECT_TRUE(absl::IsDataLoss(cache->LoadText(Meta(*content_)).status()));
}

TEST_F(DocumentCacheTest, DocumentsOfOtherModelsStayUntilRoomIsNeeded) {
  SaveAll(*OpenCache());
  model_ = std::make_shared<FakeModel>(FakeModelOptions{.fingerprint = "another"});
  auto cache = OpenCache();
  EXPECT_TRUE(found_.empty());
  EXPECT_GT(cache->bytes(), 0u);
  EXPECT_TRUE(fs::exists(PagesPath()));
  EXPECT_TRUE(cache->DropForeign());
  EXPECT_FALSE(cache->DropForeign());
  EXPECT_EQ(cache->bytes(), 0u);
  EXPECT_FALSE(fs::exists(PagesPath()));
}

TEST_F(DocumentCacheTest, NoRoomInMemoryIsNoDamage) {
  const auto cache = OpenCache();
  SaveAll(*cache);
  const auto none = [](size_t, size_t) -> absl::StatusOr<PageSet> {
    return absl::ResourceExhaustedError("no room");
  };
  EXPECT_TRUE(absl::IsResourceExhausted(
      cache->LoadPages(*content_, ReadingMode::kWhole, policy_, none).status()));
  EXPECT_TRUE(cache->LoadPages(*content_, ReadingMode::kWhole, policy_, Allocator()).ok());
}

TEST_F(DocumentCacheTest, RemoveLeavesNothing) {
  const auto cache = OpenCache();
  SaveAll(*cache);
  const uint64_t bytes =
      fs::file_size(MetaPath()) + fs::file_size(TextPath()) + fs::file_size(PagesPath());
  EXPECT_EQ(cache->bytes(), bytes);
  EXPECT_EQ(*cache->Remove(content_->id), bytes);
  EXPECT_EQ(cache->bytes(), 0u);
  EXPECT_FALSE(fs::exists(MetaPath()) || fs::exists(TextPath()) || fs::exists(PagesPath()));
  EXPECT_EQ(*cache->Remove(content_->id), 0u);
}

// The process dies before the n-th call, for every n: afterwards the document is there and right,
// or it is not there; and nothing is left lying about.
TEST_F(DocumentCacheTest, ACrashAtAnyStepLosesNothingElse) {
  int seen = 0;
  for (int calls = 0;; ++calls) {
    fs::remove_all(CachePath(""));
    {
      FaultyFileSystem faulty;
      const auto cache = NewCache(&faulty);
      ASSERT_TRUE(cache->Open().ok());
      faulty.CrashAfter(calls);
      absl::Status status = cache->SaveText(*content_);
      if (status.ok()) status = cache->SavePages(*content_, *read_);
      if (status.ok()) status = cache->SaveMeta(Meta(*content_), now_);
      if (!faulty.crashed()) break;
    }
    const auto cache = OpenCache();
    for (const auto& entry : fs::directory_iterator(CachePath(""))) {
      EXPECT_NE(entry.path().extension(), ".tmp") << entry.path();
    }
    if (found_.empty()) {
      EXPECT_EQ(cache->bytes(), 0u) << "orphans are removed, step " << calls;
      continue;
    }
    ++seen;
    EXPECT_EQ(*cache->LoadText(found_[0].meta), content_->text);
    const auto read = cache->LoadPages(*content_, ReadingMode::kWhole, policy_, Allocator());
    ASSERT_TRUE(read.ok()) << "step " << calls;
    EXPECT_TRUE(SamePages(**read, *read_));
  }
  EXPECT_GT(seen, 0) << "dying after the last rename keeps the document";
}

// The machine dies and the disk has kept the rename, but not all of the data.
TEST_F(DocumentCacheTest, ATornRenameIsSeen) {
  for (const auto& path : {TextPath(), PagesPath()}) {
    {
      const auto cache = OpenCache();
      SaveAll(*cache);
    }
    const std::string good = ReadFile(path);
    for (const size_t kept : {size_t{0}, size_t{100}, good.size() / 2, good.size() - 1}) {
      std::string torn = good.substr(0, kept);
      torn.resize(good.size());
      if (torn == good) continue;
      {
        const auto cache = OpenCache();
        SaveAll(*cache);
      }
      WriteFile(path, torn);
      const auto cache = OpenCache();
      if (found_.empty()) continue;
      const bool text_ok = cache->LoadText(found_[0].meta).ok();
      const bool pages_ok =
          cache->LoadPages(*content_, ReadingMode::kWhole, policy_, Allocator()).ok();
      EXPECT_FALSE(text_ok && pages_ok) << path << " kept " << kept;
    }
  }
}

TEST_F(DocumentCacheTest, ShortWritesAndReadsAreMadeWhole) {
  FaultyFileSystem faulty;
  faulty.SetMostBytesPerCall(777);
  const auto cache = NewCache(&faulty);
  ASSERT_TRUE(cache->Open().ok());
  SaveAll(*cache);
  EXPECT_EQ(*cache->LoadText(Meta(*content_)), content_->text);
  const auto read = cache->LoadPages(*content_, ReadingMode::kWhole, policy_, Allocator());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(SamePages(**read, *read_));
}

TEST_F(DocumentCacheTest, AFullDiskLeavesNoFile) {
  FaultyFileSystem faulty;
  const auto cache = NewCache(&faulty);
  ASSERT_TRUE(cache->Open().ok());
  for (const uint64_t room : {uint64_t{0}, uint64_t{1}, uint64_t{4096}, uint64_t{6000}}) {
    faulty.SetRoom(room);
    EXPECT_TRUE(absl::IsUnavailable(cache->SavePages(*content_, *read_))) << room;
    EXPECT_FALSE(fs::exists(PagesPath()));
    EXPECT_FALSE(fs::exists(PagesPath() + ".tmp"));
  }
  faulty.SetRoom(UINT64_MAX);
  SaveAll(*cache);
}

TEST_F(DocumentCacheTest, AnUnreadableFileIsRejected) {
  FaultyFileSystem faulty;
  const auto cache = NewCache(&faulty);
  ASSERT_TRUE(cache->Open().ok());
  SaveAll(*cache);
  faulty.FailReads(true);
  EXPECT_TRUE(absl::IsDataLoss(
      cache->LoadPages(*content_, ReadingMode::kWhole, policy_, Allocator()).status()));
  EXPECT_EQ(Rejected("unreadable"), 1);
}

}  // namespace
}  // namespace lectern
