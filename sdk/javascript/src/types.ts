/** The documents of the API as they are sent. A field that was not measured is absent. */

/** A state; a newer server may know more. */
export type JobState =
  | "queued"
  | "initializing"
  | "running"
  | "paused"
  | "completed"
  | "failed"
  | "cancelled"
  | "timeout"
  | (string & {});
export type Substate = "warming_up" | "processing" | "finalizing" | "uploading" | (string & {});
export type Priority = "critical" | "high" | "normal" | "low" | (string & {});
export type Include = "logs" | "metrics" | "resources" | (string & {});

/** The answer to a submit. */
export interface Submitted {
  jobId: string;
  taskId: string;
  status: JobState;
  endpointId: string;
  priority: Priority;
  /** Seconds; absent until the endpoint has a history. */
  estimatedDuration?: number;
  createdAt: string;
  statusUrl: string;
  tags?: Record<string, string>;
}

export interface JobError {
  code: string;
  message: string;
  details?: Record<string, unknown>;
}

export interface GPUUsage {
  id: string;
  type?: string;
  utilization?: number;
  memoryUsed?: string;
  memoryUsedBytes?: number;
  memoryTotal?: string;
  memoryTotalBytes?: number;
  temperature?: number;
  powerUsage?: string;
  powerUsageWatts?: number;
}

export interface Resources {
  gpuType?: string;
  gpuUtilization?: number;
  memoryUsage?: string;
  memoryUsageBytes?: number;
  memoryTotal?: string;
  memoryTotalBytes?: number;
  cpuUsage?: number;
  peakGpuUtilization?: number;
  peakMemoryUsage?: string;
  peakMemoryUsageBytes?: number;
  totalComputeTime?: number;
  gpus?: GPUUsage[];
  cpu?: { utilization: number; cores: number; memory: string; memoryBytes: number };
}

export interface Execution {
  /** Seconds. */
  duration: number;
  costAccrued?: number;
  tokensProcessed?: number;
  apiCalls?: number;
}

export interface ColdStart {
  occurred: boolean;
  /** Seconds; the phases add up to it. */
  duration: number;
  phases?: { containerStart: number; dependencyLoad: number; modelLoad: number };
  cacheHit?: boolean;
  optimizationSuggestions?: string[];
}

export interface LogLine {
  time: string;
  source: string;
  line: string;
}

/** A file that a job handed in. Its URL needs no key, and is absent once the file is deleted. */
export interface OutputFile {
  name: string;
  size: string;
  sizeBytes: number;
  format?: string;
  url?: string;
}

/** The status document. `done` is not sent: it is true in a state that a job does not leave by itself. */
export interface JobStatus {
  jobId: string;
  taskId: string;
  status: JobState;
  substate?: Substate;
  /** Percent. */
  progress?: number;
  endpointId: string;
  priority: Priority;
  createdAt: string;
  startedAt?: string;
  estimatedCompletion?: string;
  completedAt?: string;
  failedAt?: string;
  cancelledAt?: string;
  timedOutAt?: string;
  /** Seconds from startedAt to the end. */
  executionTime?: number;
  currentStep?: string;
  metadata?: Record<string, unknown>;
  throughput?: { value: number; unit: string };
  resources?: Resources;
  execution?: Execution;
  coldStart?: ColdStart;
  /** What the handler returned; its shape is the endpoint's. */
  output?: any;
  outputExpiresAt?: string;
  files?: OutputFile[];
  finalMetrics?: Record<string, any>;
  error?: JobError;
  partialResults?: any;
  retryable?: boolean;
  retryCount?: number;
  nextRetryAt?: string;
  tags?: Record<string, string>;
  callbackUrl?: string;
  logs?: LogLine[];
  metrics?: { queueWait?: number; attempts: number; custom?: Record<string, number> };
  staleSince?: string;
  revision: string;
  readonly done: boolean;
}

/** format=summary. */
export interface JobSummary {
  jobId: string;
  status: JobState;
  progress?: number;
  result?: any;
  error?: string;
}

export interface BatchError {
  jobId: string;
  error: string;
  message: string;
}

/** The statuses in the order asked; errors has the ids that could not be answered. */
export type BatchStatus = JobStatus[] & { errors: BatchError[] };

export interface Page<T> {
  data: T[];
  /** Absent on the last page. */
  nextCursor?: string;
}

export interface Explanation {
  jobId: string;
  status: JobState;
  /** One sentence for people. */
  summary: string;
  position?: number;
  ahead: number;
  aheadByPriority?: Partial<Record<Priority, number>>;
  reasons: string[];
  blocking?: { code: string; message: string; owner: "submitter" | "operator" | "nobody"; count?: number; agents?: string[]; fix?: string }[];
  agents?: { connected: number; suitable: number; free: number };
  /** No registered agent could ever take the job. */
  never?: boolean;
  eta?: { startAt: string; completeAt?: string };
  [key: string]: unknown;
}

/** An endpoint document, as in a file. */
export interface Endpoint {
  id: string;
  kind?: string;
  revision?: number;
  [key: string]: any;
}

/** What a submit carries. */
export interface SubmitRequest {
  /** Free form; the endpoint's schema decides. */
  input: any;
  callbackUrl?: string;
  webhook?: string | { url: string };
  priority?: Priority;
  tags?: Record<string, string>;
  /** Made by the client when left out, so that a repeated request never makes two jobs. */
  idempotencyKey?: string;
  policy?: Policy;
  async?: boolean;
}

/** Milliseconds, 1 s to 7 days. */
export interface Policy {
  executionTimeout?: number;
  ttl?: number;
  lowPriority?: boolean;
}
