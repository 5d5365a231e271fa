// Parses the exposition as a scraper does, and checks it against the rules for names.

#include "server/metrics/server_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace lectern {
namespace {

struct Exposition {
  std::map<std::string, std::string> help, type;
  std::map<std::string, double> series;  // with labels
};

Exposition Parse(const std::string& text) {
  Exposition out;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string hash, kind, name, rest;
    if (line.rfind('#', 0) == 0) {
      words >> hash >> kind >> name;
      std::getline(words >> std::ws, rest);
      (kind == "HELP" ? out.help : out.type)[name] = rest;
    } else if (!line.empty()) {
      const size_t space = line.rfind(' ');
      out.series[line.substr(0, space)] = std::strtod(line.c_str() + space + 1, nullptr);
    }
  }
  return out;
}

void MoveEverything(ServerMetrics& metrics) {
  metrics.CallStarted(RpcMethod::kAsk);
  metrics.CallFinished(RpcMethod::kAsk, "OK", absl::Milliseconds(3), 2000, 70);
  metrics.StreamOpened();
  metrics.StreamBuffered(4);
  metrics.SlowReaderDisconnected();
  metrics.Admitted();
  metrics.Rejected(AdmissionReason::kQueueRequests);
  metrics.SetLoad(1, 2);
  metrics.SetModelLoad("m", 1, 2);
  metrics.SetQueueCapacity(64);
  metrics.SetPrefillTokens(1000, 20);
  metrics.SetEstimatedWait(absl::Seconds(3));
  metrics.RequestFinished({.model = "m", .prompt_tokens = 500, .generated_tokens = 3});
  metrics.FirstText("m", 500, absl::Seconds(5));
  metrics.InterToken("m", absl::Milliseconds(20));
  metrics.Cancelled(WorkStage::kDecode, absl::Milliseconds(2));
  metrics.DeadlineExceeded(WorkStage::kQueue);
  metrics.Step({.duration = absl::Milliseconds(9),
                .prefill_tokens = 256,
                .decode_tokens = 7,
                .sequences = 8});
  metrics.PrefillTokens("m", PrefillSource::kDocumentCache, 400);
  metrics.SetHeartbeat(absl::FromUnixSeconds(77));
  metrics.SetKvCache(25, 100, 64);
  metrics.AttentionSampled("m", 0.97, 0.2);
  metrics.FfnSampled("m", 0.3);
  metrics.CudaError("cudaErrorLaunchFailure");
  metrics.ExactnessChecked(ExactnessResult::kWithinBound);
  metrics.KvCacheEvicted("m", 2);
  metrics.DocumentRead("m", 5000, 1200, absl::Seconds(1));
  metrics.SetDocuments(3, 25);
  metrics.DocumentLookup(LookupResult::kHit);
  metrics.DocumentEvicted(EvictionReason::kTtl);
  metrics.SetDocuments(9, 250, CacheTier::kDisk);
  metrics.DocumentEvicted(EvictionReason::kCorrupt, CacheTier::kDisk);
  metrics.DocumentReloaded(absl::Milliseconds(40));
  metrics.CacheDiskError();
  metrics.SetBuild({"1.0", "avx2", "1.51", "gcc"});
  metrics.SetModel("m", "gguf", "Q4_1", "abc");
  metrics.SetModelLoadTime("m", "read", absl::Seconds(2));
  metrics.SetMemoryLimit(8 << 20);
  metrics.SetReady(true);
  metrics.SetDraining(false);
  metrics.SetCertificateExpiry(absl::FromUnixSeconds(2'000'000'000));
  metrics.TlsReloaded(true);
  metrics.TokensReloaded(false);
}

TEST(ServerMetricsTest, NamesFollowTheRules) {
  ServerMetrics metrics({"m"});
  MoveEverything(metrics);
  const Exposition exposition = Parse(metrics.Render());
  EXPECT_GT(exposition.type.size(), 40u);
  for (const auto& [name, type] : exposition.type) {
    EXPECT_TRUE(name.rfind("lectern_", 0) == 0 || name.rfind("grpc_server_", 0) == 0 ||
                name.rfind("process_", 0) == 0)
        << name;
    EXPECT_EQ(name.find(':'), std::string::npos) << name << ": colons belong to recording rules";
    EXPECT_EQ(name.ends_with("_total"), type == "counter") << name << " " << type;
    ASSERT_TRUE(exposition.help.contains(name)) << name;
    EXPECT_FALSE(exposition.help.at(name).empty()) << name;
    for (const char* unit : {"_ms", "_us", "_milliseconds", "_kb", "_mb", "_percent"}) {
      EXPECT_FALSE(name.ends_with(unit)) << name << ": base units only";
    }
  }
}

// The gateway's endpoint picker reads one arbitrary series of each of these names.
TEST(ServerMetricsTest, RouterContractHasNoLabels) {
  ServerMetrics metrics({"m", "n"});
  MoveEverything(metrics);
  const Exposition exposition = Parse(metrics.Render());
  EXPECT_EQ(exposition.series.at("lectern_requests_running"), 1);
  EXPECT_EQ(exposition.series.at("lectern_requests_waiting"), 2);
  EXPECT_DOUBLE_EQ(exposition.series.at("lectern_kv_cache_usage_ratio"), 0.25);
}

TEST(ServerMetricsTest, EveryRecordingMovesItsSeries) {
  ServerMetrics metrics({"m"});
  const auto before = Parse(metrics.Render()).series;
  MoveEverything(metrics);
  const auto after = Parse(metrics.Render()).series;
  const std::map<std::string, double> moves = {
      {R"(grpc_server_call_started_total{grpc_method="lectern.v1.DocumentQA/Ask"})", 1},
      {R"(lectern_admission_total{decision="accepted",reason="none"})", 1},
      {R"(lectern_admission_total{decision="rejected",reason="queue_requests"})", 1},
      {R"(lectern_requests_finished_total{finish_reason="stop",model="m"})", 1},
      {R"(lectern_requests_cancelled_total{stage="decode"})", 1},
      {R"(lectern_deadline_exceeded_total{stage="queue"})", 1},
      {R"(lectern_cancel_to_free_seconds_count{stage="decode"})", 1},
      {R"(lectern_prompt_tokens_total{model="m"})", 500},
      {R"(lectern_generation_tokens_total{model="m"})", 3},
      {R"(lectern_prefill_tokens_total{model="m",source="document_cache"})", 400},
      {R"(lectern_engine_steps_total)", 1},
      {R"(lectern_document_lookups_total{result="hit"})", 1},
      {R"(lectern_document_evictions_total{reason="ttl",tier="host"})", 1},
      {R"(lectern_document_evictions_total{reason="corrupt",tier="disk"})", 1},
      {R"(lectern_streams_open)", 1},
      {R"(lectern_slow_reader_disconnects_total)", 1},
      {R"(lectern_model_requests_running{model="m"})", 1},
      {R"(lectern_model_requests_waiting{model="m"})", 2},
      {R"(lectern_admission_estimated_wait_seconds)", 3},
      {R"(lectern_engine_step_seconds_count{phase="mixed"})", 1},
      {R"(lectern_engine_tokens_total{phase="prefill"})", 256},
      {R"(lectern_engine_tokens_total{phase="decode"})", 7},
      {R"(lectern_engine_batch_tokens_sum)", 263},
      {R"(lectern_engine_batch_size_sum)", 8},
      {R"(lectern_prefix_cache_query_tokens_total{model="m"})", 400},
      {R"(lectern_prefix_cache_hit_tokens_total{model="m"})", 400},
      {R"(lectern_ffn_active_ratio_count{model="m"})", 1},
      {R"(lectern_exactness_checks_total{result="within_bound"})", 1},
      {R"(lectern_kv_cache_evictions_total{model="m"})", 2},
      {R"(lectern_documents_resident{tier="disk"})", 9},
      {R"(lectern_document_cache_bytes{tier="disk"})", 250},
      {R"(lectern_document_reload_seconds_count)", 1},
      {R"(lectern_cache_disk_errors_total)", 1},
      {R"(lectern_memory_limit_bytes)", 8 << 20},
      {R"(lectern_stream_buffered_chunks)", 4},
      {R"(lectern_documents_resident{tier="host"})", 3},
      {R"(lectern_ready)", 1},
      {R"(lectern_tls_reload_total{result="ok"})", 1},
      {R"(lectern_auth_tokens_reload_total{result="error"})", 1},
  };
  for (const auto& [name, by] : moves) {
    ASSERT_TRUE(after.contains(name)) << name;
    ASSERT_TRUE(before.contains(name)) << name << " is there before it moves";
    EXPECT_EQ(after.at(name) - before.at(name), by) << name;
  }
}

// Nothing expires without TLS, so an alert on the remaining time must not fire.
TEST(ServerMetricsTest, CertificateExpiryIsInfiniteUntilThereIsOne) {
  ServerMetrics metrics({"m"});
  const std::string name = "lectern_tls_cert_expiry_timestamp_seconds";
  EXPECT_EQ(Parse(metrics.Render()).series.at(name), std::numeric_limits<double>::infinity());
  metrics.SetCertificateExpiry(absl::FromUnixSeconds(2'000'000'000));
  EXPECT_EQ(Parse(metrics.Render()).series.at(name), 2e9);
}

// An objective can only be counted where a bucket ends: 5 s to the first text.
TEST(ServerMetricsTest, FirstTextHasABucketAtItsObjective) {
  ServerMetrics metrics({"m"});
  metrics.FirstText("m", 4097, absl::Seconds(5));
  metrics.FirstText("m", 4097, absl::Seconds(5.01));
  const auto series = Parse(metrics.Render()).series;
  EXPECT_EQ(series.at("lectern_time_to_first_token_seconds_bucket{model=\"m\","
                      "prompt_class=\"le_32k\",le=\"5\"}"),
            1);
}

TEST(ServerMetricsTest, ClientsCannotCreateSeries) {
  ServerMetrics metrics({"m"});
  const auto record = [&](const std::string& name) {
    metrics.CallStarted(RpcMethod::kUnknown);
    metrics.CallFinished(RpcMethod::kUnknown, name, absl::Seconds(1));
    metrics.RequestFinished({.model = name});
    metrics.FirstText(name, 1, absl::Seconds(1));
    metrics.InterToken(name, absl::Seconds(1));
    metrics.PrefillTokens(name, PrefillSource::kComputed, 1);
    metrics.AttentionSampled(name, 1, 1);
    metrics.DocumentRead(name, 1, 1, absl::Seconds(1));
  };
  record("first stranger");
  const size_t series = Parse(metrics.Render()).series.size();
  for (int i = 0; i < 100; ++i) record("stranger " + std::to_string(i));
  const auto after = Parse(metrics.Render()).series;
  EXPECT_EQ(after.size(), series);
  EXPECT_LT(series, 2000u) << "the budget of one pod";
  EXPECT_EQ(after.at(R"(grpc_server_call_started_total{grpc_method="other"})"), 101);
}

TEST(ServerMetricsTest, DescribesTheProcess) {
  const auto series = Parse(ServerMetrics({}).Render()).series;
  EXPECT_GT(series.at("process_resident_memory_bytes"), 1e6);
  EXPECT_GT(series.at("process_open_fds"), 2);
  EXPECT_GE(series.at("process_max_fds"), series.at("process_open_fds"));
  EXPECT_GE(series.at("process_threads"), 1);
  EXPECT_GT(series.at("process_start_time_seconds"), 1.6e9);
}

TEST(ServerMetricsTest, ManyThreads) {
  ServerMetrics metrics({"m"});
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 50; ++j) MoveEverything(metrics);
    });
  }
  for (int j = 0; j < 5; ++j) metrics.Render();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Parse(metrics.Render()).series.at("lectern_engine_steps_total"), 200);
}

// Rows of docs/reference/metrics.md: | `name` | type | labels | help |.
std::set<std::string> DocumentedRows(const Exposition& exposition) {
  std::map<std::string, std::set<std::string>> labels;
  for (const auto& [series, value] : exposition.series) {
    std::string name = series.substr(0, series.find('{'));
    for (const char* suffix : {"_bucket", "_sum", "_count"}) {
      if (name.ends_with(suffix)) name.resize(name.size() - std::strlen(suffix));
    }
    for (size_t end = series.find("=\""); end != std::string::npos;
         end = series.find("=\"", end + 1)) {
      const size_t begin = series.find_last_of("{,", end) + 1;
      const std::string label = series.substr(begin, end - begin);
      if (label != "le") labels[name].insert(label);
    }
  }
  std::set<std::string> rows;
  for (const auto& [name, type] : exposition.type) {
    std::string names;
    for (const std::string& label : labels[name]) names += (names.empty() ? "" : ", ") + label;
    rows.insert("| `" + name + "` | " + type + " | " + names + " | " + exposition.help.at(name) +
                " |");
  }
  return rows;
}

TEST(ServerMetricsTest, TheDocumentationListsEveryMetric) {
  const char* source = std::getenv("LECTERN_SOURCE_DIR");
  ASSERT_NE(source, nullptr);
  std::ifstream file(std::string(source) + "/docs/reference/metrics.md");
  std::set<std::string> documented;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("| `", 0) == 0) documented.insert(line);
  }
  ServerMetrics metrics({"m"});
  MoveEverything(metrics);
  const std::set<std::string> rows = DocumentedRows(Parse(metrics.Render()));
  for (const std::string& row : rows) {
    EXPECT_TRUE(documented.contains(row)) << "not in docs/reference/metrics.md:\n" << row;
  }
  for (const std::string& row : documented) {
    EXPECT_TRUE(rows.contains(row)) << "only in docs/reference/metrics.md:\n" << row;
  }
}

TEST(ServerMetricsTest, PromtoolFindsNoFault) {
  if (std::system("command -v promtool > /dev/null 2>&1") != 0) {
    GTEST_SKIP() << "promtool is not installed";
  }
  ServerMetrics metrics({"m"});
  MoveEverything(metrics);
  FILE* promtool = popen("promtool check metrics 2>&1 >&2", "w");
  ASSERT_NE(promtool, nullptr);
  const std::string text = metrics.Render();
  fwrite(text.data(), 1, text.size(), promtool);
  EXPECT_EQ(pclose(promtool), 0) << "see promtool's lines above";
}

}  // namespace
}  // namespace lectern
