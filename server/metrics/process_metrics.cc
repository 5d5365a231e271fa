#include "server/metrics/process_metrics.h"

#include <dirent.h>
#include <prometheus/metric_family.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

namespace lectern {
namespace {

prometheus::MetricFamily One(const char* name, const char* help, prometheus::MetricType type,
                             double value) {
  prometheus::MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = type;
  prometheus::ClientMetric metric;
  if (type == prometheus::MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  family.metric.push_back(metric);
  return family;
}

struct ProcStat {
  double cpu_seconds = 0;
  double threads = 0;
  double start_seconds = 0;  // since boot
  double resident_bytes = 0;
  double virtual_bytes = 0;
};

// Fields of proc_pid_stat(5), counted from the command's closing parenthesis.
ProcStat ReadStat() {
  ProcStat stat;
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  const size_t close = line.rfind(')');
  if (close == std::string::npos) return stat;
  std::istringstream rest(line.substr(close + 1));
  std::vector<std::string> fields;
  for (std::string field; rest >> field;) fields.push_back(field);
  if (fields.size() < 22) return stat;
  const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  stat.cpu_seconds = (std::stod(fields[11]) + std::stod(fields[12])) / ticks;
  stat.threads = std::stod(fields[17]);
  stat.start_seconds = std::stod(fields[19]) / ticks;
  stat.virtual_bytes = std::stod(fields[20]);
  stat.resident_bytes = std::stod(fields[21]) * static_cast<double>(sysconf(_SC_PAGESIZE));
  return stat;
}

double BootTime() {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("btime ", 0) == 0) return std::stod(line.substr(6));
  }
  return 0;
}

double OpenFiles() {
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) return 0;
  double count = -3;  // ".", ".." and the folder itself
  while (readdir(folder) != nullptr) ++count;
  closedir(folder);
  return count;
}

}  // namespace

std::vector<prometheus::MetricFamily> ProcessMetrics::Collect() const {
  using prometheus::MetricType;
  const ProcStat stat = ReadStat();
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  return {
      One("process_cpu_seconds_total", "User and system CPU time.", MetricType::Counter,
          stat.cpu_seconds),
      One("process_resident_memory_bytes", "Resident memory.", MetricType::Gauge,
          stat.resident_bytes),
      One("process_virtual_memory_bytes", "Virtual memory.", MetricType::Gauge, stat.virtual_bytes),
      One("process_open_fds", "Open file descriptors.", MetricType::Gauge, OpenFiles()),
      One("process_max_fds", "Limit of open file descriptors.", MetricType::Gauge,
          static_cast<double>(files.rlim_cur)),
      One("process_threads", "Threads.", MetricType::Gauge, stat.threads),
      One("process_start_time_seconds", "Start time since the epoch.", MetricType::Gauge,
          BootTime() + stat.start_seconds),
  };
}

}  // namespace lectern
