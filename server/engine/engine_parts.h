// The parts of the engine that its jobs use.
#pragma once

namespace lectern {

class Clock;
class DocumentPrefill;
class DocumentStore;
class JobQueue;
class KvAllocator;
class Scheduler;
class ServerMetrics;

// All parts outlive every job.
struct EngineParts {
  const Clock* clock;
  ServerMetrics* metrics;
  DocumentStore* store;
  DocumentPrefill* prefill;
  KvAllocator* allocator;
  Scheduler* scheduler;
  JobQueue* queue;
  double no_evidence_threshold;
};

}  // namespace lectern
