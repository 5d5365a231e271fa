// Files that change while the process runs.
#include "base/files/file_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/mutex.h"
#include "tests/testing/temporary_folder.h"

namespace lectern {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class FileWatchTest : public testing::Test {
 protected:
  std::string Path(const std::string& name) const { return folder_.path() + "/" + name; }
  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(Path(name) + ".new", std::ios::binary) << text;
    std::filesystem::rename(Path(name) + ".new", Path(name));
  }

  absl::Status Start(absl::Duration retry = absl::Hours(1)) {
    auto watch = FileWatch::Start({.paths = {Path("a"), Path("b")},
                                   .load =
                                       [this](const std::vector<std::string>& contents) {
                                         MutexLock lock(&mutex_);
                                         if (contents[0] == "bad") {
                                           return absl::InvalidArgumentError("bad");
                                         }
                                         loaded_ = contents;
                                         return absl::OkStatus();
                                       },
                                   .reloaded =
                                       [this](const absl::Status& status) {
                                         MutexLock lock(&mutex_);
                                         status.ok() ? ++taken_ : ++refused_;
                                       },
                                   .poll = absl::Milliseconds(5),
                                   .retry = retry});
    if (watch.ok()) watch_ = *std::move(watch);
    return watch.status();
  }
  void Await(int& counter, int count) {
    MutexLock lock(&mutex_);
    mutex_.Await([&] { return counter >= count; });
  }
  std::vector<std::string> Loaded() {
    MutexLock lock(&mutex_);
    return loaded_;
  }

  const TemporaryFolder folder_;
  Mutex mutex_;
  std::vector<std::string> loaded_;
  int taken_ = 0;
  int refused_ = 0;
  std::unique_ptr<FileWatch> watch_;
};

TEST_F(FileWatchTest, HandsOverAllFilesWhenOneChanges) {
  Write("a", "1");
  Write("b", "2");
  ASSERT_TRUE(Start().ok());
  EXPECT_THAT(Loaded(), ElementsAre("1", "2"));
  Write("b", "3");
  Await(taken_, 1);
  EXPECT_THAT(Loaded(), ElementsAre("1", "3"));
}

TEST_F(FileWatchTest, RefusedOrMissingFilesLeaveTheLastGoodContents) {
  Write("a", "1");
  Write("b", "2");
  ASSERT_TRUE(Start().ok());
  Write("a", "bad");
  Await(refused_, 1);
  EXPECT_THAT(Loaded(), ElementsAre("1", "2"));
  std::filesystem::remove(Path("b"));
  Await(refused_, 2);
  EXPECT_THAT(Loaded(), ElementsAre("1", "2"));
  Write("a", "4");
  Write("b", "5");
  Await(taken_, 1);
  EXPECT_THAT(Loaded(), ElementsAre("4", "5"));
}

TEST_F(FileWatchTest, RetriesRefusedFilesFromTimeToTime) {
  Write("a", "1");
  Write("b", "2");
  ASSERT_TRUE(Start(absl::Milliseconds(20)).ok());
  Write("a", "bad");
  Await(refused_, 3);
}

// Kubernetes changes a link to a folder, not the files.
TEST_F(FileWatchTest, FollowsLinks) {
  for (const char* version : {"v1", "v2"}) {
    std::filesystem::create_directory(Path(version));
    Write(std::string(version) + "/a", version);
    Write(std::string(version) + "/b", version);
  }
  std::filesystem::create_directory_symlink("v1", Path("data"));
  std::filesystem::create_symlink("data/a", Path("a"));
  std::filesystem::create_symlink("data/b", Path("b"));
  ASSERT_TRUE(Start().ok());
  std::filesystem::create_directory_symlink("v2", Path("data.new"));
  std::filesystem::rename(Path("data.new"), Path("data"));
  Await(taken_, 1);
  EXPECT_THAT(Loaded(), ElementsAre("v2", "v2"));
}

TEST_F(FileWatchTest, StartNamesTheFileThatIsWrong) {
  Write("a", "1");
  EXPECT_THAT(std::string(Start().message()), HasSubstr(Path("b")));
  std::filesystem::create_directory(Path("b"));
  EXPECT_THAT(std::string(Start().message()), HasSubstr("not a readable file"));
  std::filesystem::remove(Path("b"));
  Write("b", std::string((1 << 20) + 1, 'x'));
  EXPECT_THAT(std::string(Start().message()), HasSubstr("larger than 1 MiB"));
  Write("a", "bad");
  Write("b", "2");
  EXPECT_EQ(Start().message(), "bad");
}

}  // namespace
}  // namespace lectern
