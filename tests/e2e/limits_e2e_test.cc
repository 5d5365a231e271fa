// More than a server takes: messages, metadata, streams, connections, resets. Each has its status,
// and the server goes on.
#include <cstdio>

#include "tests/e2e/raw_http2.h"
#include "tests/e2e/security_fixture.h"

namespace lectern::e2e {
namespace {

using grpc::StatusCode;
using testing::HasSubstr;

constexpr char kStatusMethod[] = "/lectern.v1.DocumentQA/GetServerStatus";

class LimitsE2eTest : public SecurityE2eTest {
 protected:
  void SetUp() override { Serve({"--max_streams=4", "--max_metadata_bytes=20KiB"}); }
  void TearDown() override { EXPECT_EQ(Code(Plain()), StatusCode::OK) << "still answers"; }

  grpc::Status Ask(Stub& stub, const std::string& text, const std::string& question,
                   bool compressed = false) {
    grpc::ClientContext context;
    if (compressed) context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
    v1::AskRequest request;
    request.set_inline_text(text);
    request.set_question(question);
    const auto stream = stub.Ask(&context, request);
    for (v1::AskResponse response; stream->Read(&response);) {
    }
    return stream->Finish();
  }
};

TEST_F(LimitsE2eTest, MessagesBeyondTheLimit) {
  const auto stub = Plain();
  const grpc::Status status = Ask(*stub, std::string(5 << 20, 'x'), "What?");
  EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("larger than max (5"));
  // Below it the engine speaks: there is no question.
  EXPECT_EQ(Ask(*stub, std::string(3 << 20, 'x'), "").error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(LimitsE2eTest, MetadataBeyondTheLimit) {
  const auto stub = Plain();
  EXPECT_TRUE(Call(*stub, {{"x-note", std::string(16 << 10, 'x')}}).ok());
  const grpc::Status status = Call(*stub, {{"x-note", std::string(24 << 10, 'x')}});
  EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("metadata size exceeds limit"));
}

// A gzip bomb would be inflated before its size is checked.
TEST_F(LimitsE2eTest, CompressedMessages) {
  const grpc::Status status =
      Ask(*Plain(), std::string(3 << 20, 'x'), "What?", /*compressed=*/true);
  EXPECT_EQ(status.error_code(), StatusCode::UNIMPLEMENTED);
  EXPECT_THAT(status.error_message(), HasSubstr("gzip"));
}

// A client that keeps to HTTP/2 holds calls beyond the limit back, until their deadline at most.
TEST_F(LimitsE2eTest, StreamsBeyondTheLimitWaitInTheClient) {
  const auto stub = Plain();
  std::vector<std::unique_ptr<LiveStream>> streams;
  for (int i = 0; i < 4; ++i) {
    streams.push_back(std::make_unique<LiveStream>(*stub));
    ASSERT_TRUE(streams.back()->Ask());
  }
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  v1::ServerStatus status;
  EXPECT_EQ(stub->GetServerStatus(&context, {}, &status).error_code(),
            StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(Code(Plain()), StatusCode::OK) << "the limit is each connection's own";
  EXPECT_TRUE(streams.back()->Finish().ok());
  streams.pop_back();
  EXPECT_TRUE(Call(*stub).ok());
  for (const auto& stream : streams) EXPECT_TRUE(stream->Finish().ok());
}

// Those that break their word. (gRPC 1.51 does not hold clients to a limit that they never
// acknowledged: docs/guides/security.md.)
TEST_F(LimitsE2eTest, StreamsBeyondTheAcknowledgedLimitEndTheConnection) {
  RawHttp2 raw(server_->grpc_address());
  ASSERT_TRUE(raw.Await(RawHttp2::kSettings));
  raw.AcknowledgeSettings();
  for (uint32_t i = 0; i < 4; ++i) raw.Send(RawHttp2::Call(1 + 2 * i, kStatusMethod));
  EXPECT_EQ(Code(Plain()), StatusCode::OK);
  EXPECT_TRUE(raw.open());
  raw.Send(RawHttp2::Call(9, kStatusMethod));
  EXPECT_TRUE(raw.Await(RawHttp2::kGoAway));
}

TEST_F(LimitsE2eTest, FramesBeyondTheLimitEndTheConnection) {
  RawHttp2 raw(server_->grpc_address());
  ASSERT_TRUE(raw.Await(RawHttp2::kSettings));
  raw.Send(RawHttp2::Call(1, kStatusMethod));
  // A DATA frame that announces 16 MiB - 1, and some of it.
  raw.Send(std::string("\xff\xff\xff\x00\x00\x00\x00\x00\x01", 9) + std::string(100'000, 'x'));
  EXPECT_TRUE(raw.Await(RawHttp2::kGoAway));
}

TEST_F(LimitsE2eTest, ConnectionsBeyondTheirAge) {
  server_.reset();
  Serve({"--connection_age=1s", "--connection_age_grace=1s"});
  const auto stub = Plain();
  LiveStream live(*stub);
  ASSERT_TRUE(live.Ask());
  EXPECT_EQ(live.Finish().error_code(), StatusCode::OK) << "what ends in time is not disturbed";
  LiveStream endless(*stub);
  while (endless.Ask()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(endless.Finish().error_code(), StatusCode::UNAVAILABLE);
  EXPECT_TRUE(Call(*stub).ok()) << "on a new connection";
}

// CVE-2023-44487. Its cost depends on the version of gRPC, so it is reported but not judged.
TEST_F(LimitsE2eTest, HundredThousandRapidResets) {
  constexpr int kConnections = 5;
  constexpr uint32_t kResets = 20'000;  // on each
  constexpr uint32_t kBatch = 100;
  const auto memory = [&] { return Metric("process_resident_memory_bytes") / 1e6; };
  const double before = memory();
  const absl::Time start = absl::Now();
  int hung_up = 0;
  for (int i = 0; i < kConnections; ++i) {
    auto raw = std::make_unique<RawHttp2>(server_->grpc_address());
    ASSERT_TRUE(raw->Await(RawHttp2::kSettings));
    uint32_t stream = 1;
    for (uint32_t done = 0; done < kResets; done += kBatch) {
      std::string bytes;
      for (uint32_t j = 0; j < kBatch; ++j, stream += 2) {
        bytes += RawHttp2::Call(stream, kStatusMethod) + RawHttp2::Cancel(stream);
      }
      if (raw->Send(bytes)) continue;
      ++hung_up;
      raw = std::make_unique<RawHttp2>(server_->grpc_address());
      stream = 1;
    }
  }
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  const double after = memory();
  double most = after;
  for (int i = 0; i < 50; ++i) {
    most = std::max(most, memory());
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  std::printf(
      "gRPC %s: 100,000 streams reset in %.1f s, connections closed by the server: %d; resident "
      "memory %.0f MB before, %.0f MB after, at most %.0f MB, %.0f MB 5 s later\n",
      grpc::Version().c_str(), seconds, hung_up, before, after, most, memory());
}

}  // namespace
}  // namespace lectern::e2e
