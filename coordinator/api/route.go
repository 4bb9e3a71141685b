package api

import (
	"time"

	"windlass/coordinator/auth"
	"windlass/protocol"
)

// open marks the routes that answer without a key. There are three, and a test
// names them.
const open auth.Permission = ""

// anyKey marks the routes that any valid key may use.
const anyKey auth.Permission = "*"

// Bodies and the time to send them.
const (
	noBody = 0
	// smallBody is for requests that are a few fields.
	smallBody = 64 << 10
	// documentBody is for an endpoint document with its input schema.
	documentBody = 1 << 20
	// batchBody holds protocol.MaxBatchStatus ids and room to spare.
	batchBody = 128 << 10
	// agentBody holds a report of many attempts with inline results and chunks.
	agentBody = 16 << 20

	bodyTime = time.Minute
	// blobTime lets protocol.MaxOutput through a line of 2 Mbit/s.
	blobTime = 5 * time.Minute
)

// route is one line of the API.
type route struct {
	method     string
	pattern    string // {x} is a parameter
	operation  string // name in metrics, logs and the API description
	permission auth.Permission
	rate       rateClass
	body       int           // most bytes of a body
	patience   time.Duration // to send the body, and again to take the answer
	handle     func(*call) error
}

// routes is the whole API: whatever is not listed is not served.
func (s *Server) routes() []*route {
	return []*route{
		{"GET", "/healthz", "health", open, rateNone, noBody, bodyTime, s.health},
		{"GET", "/readyz", "ready", open, rateNone, noBody, bodyTime, s.ready},
		{"GET", "/v2/openapi.json", "openapi", open, rateNone, noBody, bodyTime, s.serveOpenAPI},
		{"GET", "/metrics", "metrics", auth.ClusterAdmin, rateNone, noBody, bodyTime, s.serveMetrics},

		{"POST", "/v2/endpoints/{id}/runasync", "submit", auth.EndpointsExecute, rateSubmit, protocol.MaxBody, bodyTime, s.submit},
		{"GET", "/v2/endpoints", "listEndpoints", auth.JobsRead, rateNone, noBody, bodyTime, s.listEndpoints},
		{"POST", "/v2/endpoints", "createEndpoint", auth.EndpointsWrite, rateNone, documentBody, bodyTime, s.createEndpoint},
		{"GET", "/v2/endpoints/{id}", "getEndpoint", auth.JobsRead, rateNone, noBody, bodyTime, s.getEndpoint},
		{"PUT", "/v2/endpoints/{id}", "putEndpoint", auth.EndpointsWrite, rateNone, documentBody, bodyTime, s.putEndpoint},
		{"DELETE", "/v2/endpoints/{id}", "deleteEndpoint", auth.EndpointsWrite, rateNone, smallBody, bodyTime, s.deleteEndpoint},
		{"POST", "/v2/endpoints/{id}/pause", "pauseEndpoint", auth.EndpointsWrite, rateNone, smallBody, bodyTime, s.pauseEndpoint},
		{"POST", "/v2/endpoints/{id}/resume", "resumeEndpoint", auth.EndpointsWrite, rateNone, smallBody, bodyTime, s.resumeEndpoint},
		{"POST", "/v2/endpoints/{id}/purge", "purgeEndpoint", auth.JobsWrite, rateNone, smallBody, bodyTime, s.purgeEndpoint},

		{"GET", "/v2/jobs", "listJobs", auth.JobsRead, rateStatus, noBody, bodyTime, s.listJobs},
		{"POST", "/v2/jobs/status/batch", "batchStatus", auth.JobsRead, rateStatus, batchBody, bodyTime, s.batchStatus},
		{"GET", "/v2/jobs/{id}/status", "status", auth.JobsRead, rateStatus, noBody, bodyTime, s.status},
		{"GET", "/v2/jobs/{id}/status/stream", "stream", auth.JobsRead, rateStatus, noBody, bodyTime, s.streamJob},
		{"POST", "/v2/jobs/{id}/cancel", "cancel", auth.JobsWrite, rateNone, smallBody, bodyTime, s.cancelJob},
		{"POST", "/v2/jobs/{id}/retry", "retry", auth.JobsWrite, rateNone, smallBody, bodyTime, s.retryJob},
		{"POST", "/v2/jobs/{id}/pause", "pauseJob", auth.JobsWrite, rateNone, smallBody, bodyTime, s.pauseJob},
		{"POST", "/v2/jobs/{id}/resume", "resumeJob", auth.JobsWrite, rateNone, smallBody, bodyTime, s.resumeJob},
		{"GET", "/v2/jobs/{id}/output", "output", auth.JobsRead, rateNone, noBody, blobTime, s.output},
		{"GET", "/v2/jobs/{id}/logs", "logs", auth.JobsRead, rateNone, noBody, bodyTime, s.logs},
		{"GET", "/v2/jobs/{id}/explain", "explain", auth.JobsRead, rateNone, noBody, bodyTime, s.explain},
		{"GET", "/v2/jobs/{id}/webhooks", "webhooks", auth.JobsRead, rateNone, noBody, bodyTime, s.webhooks},
		{"POST", "/v2/jobs/{id}/webhooks/redeliver", "redeliver", auth.JobsWrite, rateSubmit, smallBody, bodyTime, s.redeliver},
		{"GET", "/v2/jobs/{id}/events", "events", auth.JobsRead, rateNone, noBody, bodyTime, s.events},
		{"GET", "/v2/outputs/{job}/{name}", "getOutput", open, rateNone, noBody, uploadTime, s.getOutput}, // the URL is signed

		{"POST", "/v2/{endpointId}/run", "classicRun", auth.EndpointsExecute, rateSubmit, protocol.MaxBody, bodyTime, s.classicRun},
		{"POST", "/v2/{endpointId}/runsync", "classicRunSync", auth.EndpointsExecute, rateSubmit, maxInput, bodyTime, s.classicRunSync},
		{"GET", "/v2/{endpointId}/status/{id}", "classicStatus", auth.JobsRead, rateStatus, noBody, blobTime, s.classicStatus},
		{"GET", "/v2/{endpointId}/status-sync/{id}", "classicStatusSync", auth.JobsRead, rateNone, noBody, blobTime, s.classicStatusSync},
		{"GET", "/v2/{endpointId}/stream/{id}", "classicStream", auth.JobsRead, rateNone, noBody, bodyTime, s.classicStream},
		{"POST", "/v2/{endpointId}/stream/{id}", "classicStreamPost", auth.JobsRead, rateNone, smallBody, bodyTime, s.classicStream},
		{"POST", "/v2/{endpointId}/cancel/{id}", "classicCancel", auth.JobsWrite, rateNone, smallBody, bodyTime, s.classicCancel},
		{"POST", "/v2/{endpointId}/retry/{id}", "classicRetry", auth.JobsWrite, rateNone, smallBody, bodyTime, s.classicRetry},
		{"GET", "/v2/{endpointId}/health", "classicHealth", auth.JobsRead, rateNone, noBody, bodyTime, s.classicHealth},
		{"POST", "/v2/{endpointId}/purge-queue", "classicPurge", auth.JobsWrite, rateNone, smallBody, bodyTime, s.purgeEndpoint},
		{"GET", "/v2/{endpointId}/openai/v1/{path...}", "openaiGet", auth.EndpointsExecute, rateNone, noBody, bodyTime, s.openai},
		{"POST", "/v2/{endpointId}/openai/v1/{path...}", "openaiPost", auth.EndpointsExecute, rateNone, protocol.MaxBody, bodyTime, s.openai},

		{"GET", "/v2/webhooks/secrets", "listWebhookSecrets", auth.KeysManage, rateNone, noBody, bodyTime, s.listWebhookSecrets},
		{"POST", "/v2/webhooks/secrets", "createWebhookSecret", auth.KeysManage, rateNone, smallBody, bodyTime, s.createWebhookSecret},
		{"POST", "/v2/webhooks/secrets/rotate", "rotateWebhookSecret", auth.KeysManage, rateNone, smallBody, bodyTime, s.rotateWebhookSecret},
		{"DELETE", "/v2/webhooks/secrets/{id}", "revokeWebhookSecret", auth.KeysManage, rateNone, smallBody, bodyTime, s.revokeWebhookSecret},
		{"POST", "/v2/webhooks/test", "testWebhook", auth.JobsWrite, rateSubmit, smallBody, bodyTime, s.testWebhook},
		{"GET", "/v2/agents", "listAgents", auth.JobsRead, rateNone, noBody, bodyTime, s.listAgents},
		{"GET", "/v2/keys", "listKeys", auth.KeysManage, rateNone, noBody, bodyTime, s.listKeys},
		{"POST", "/v2/keys", "createKey", auth.KeysManage, rateNone, smallBody, bodyTime, s.createKey},
		{"GET", "/v2/keys/self", "ownKey", anyKey, rateNone, noBody, bodyTime, s.ownKey},
		{"GET", "/v2/keys/{id}", "getKey", auth.KeysManage, rateNone, noBody, bodyTime, s.getKey},
		{"DELETE", "/v2/keys/{id}", "revokeKey", auth.KeysManage, rateNone, smallBody, bodyTime, s.revokeKey},
		{"POST", "/v2/keys/{id}/rotate", "rotateKey", auth.KeysManage, rateNone, smallBody, bodyTime, s.rotateKey},
		{"GET", "/v2/orgs", "listOrgs", auth.ClusterAdmin, rateNone, noBody, bodyTime, s.listOrgs},
		{"POST", "/v2/orgs", "createOrg", auth.ClusterAdmin, rateNone, smallBody, bodyTime, s.createOrg},
		{"GET", "/v2/orgs/{id}", "getOrg", auth.JobsRead, rateNone, noBody, bodyTime, s.getOrg},
		{"PUT", "/v2/orgs/{id}", "putOrg", auth.ClusterAdmin, rateNone, smallBody, bodyTime, s.putOrg},
		{"POST", "/v2/orgs/{id}/credits", "grantCredits", auth.ClusterAdmin, rateNone, smallBody, bodyTime, s.grantCredits},
		{"DELETE", "/v2/orgs/{id}", "deleteOrg", auth.ClusterAdmin, rateNone, smallBody, bodyTime, s.deleteOrg},
		{"GET", "/v2/cluster", "clusterStatus", auth.ClusterAdmin, rateNone, noBody, bodyTime, s.clusterStatus},
		{"GET", "/v2/cluster/members", "clusterMembers", auth.ClusterAdmin, rateNone, noBody, bodyTime, s.clusterMembers},
		{"POST", "/v2/cluster/transfer", "transferLeader", auth.ClusterAdmin, rateNone, smallBody, bodyTime, s.transferLeader},
		{"POST", "/v2/cluster/remove", "removeMember", auth.ClusterAdmin, rateNone, smallBody, bodyTime, s.removeMember},
		{"POST", "/v2/cluster/leave", "leaveCluster", auth.ClusterAdmin, rateNone, smallBody, bodyTime, s.leaveCluster},
		{"POST", "/v2/cluster/join", "joinCluster", auth.ClusterAdmin, rateNone, smallBody, bodyTime, s.joinCluster},
		{"GET", "/v2/cluster/snapshot", "saveSnapshot", auth.ClusterAdmin, rateNone, noBody, snapshotTime, s.saveSnapshot},
		{"POST", "/v2/cluster/restore", "restoreSnapshot", auth.ClusterAdmin, rateNone, maxSnapshot, snapshotTime, s.restoreSnapshot},
		{"GET", "/v2/cluster/debug", "clusterDebug", auth.ClusterAdmin, rateNone, noBody, bodyTime, s.clusterDebug},

		{"POST", protocol.PathRegister, "agentRegister", auth.AgentsManage, rateNone, agentBody, bodyTime, s.agentRegister},
		{"POST", protocol.PathSync, "agentSync", auth.AgentsManage, rateNone, agentBody, bodyTime, s.agentSync},
		{"POST", protocol.PathReport, "agentReport", auth.AgentsManage, rateNone, agentBody, bodyTime, s.agentReport},
		{"GET", protocol.PathBlob + "{sha}", "getBlob", auth.AgentsManage, rateNone, noBody, blobTime, s.getBlob},
		{"POST", protocol.PathOutputs, "grantOutputs", auth.AgentsManage, rateNone, documentBody, bodyTime, s.grantOutputs},
		{"PUT", protocol.PathOutputs + "/{sha}", "putOutput", auth.AgentsManage, rateNone, protocol.MaxOutputFile, uploadTime, s.putOutput},
		{"PUT", protocol.PathBlob + "{sha}", "putBlob", auth.AgentsManage, rateNone, protocol.MaxOutput, blobTime, s.putBlob},
	}
}

// Route is one line of the API, for those that hold something against all of it.
type Route struct {
	Method, Pattern, Operation string
	// Permission is what a key needs; "" is none and no key, "*" any key.
	Permission auth.Permission
}

// Routes returns the whole API.
func Routes() []Route {
	var out []Route
	for _, r := range (&Server{}).routes() {
		out = append(out, Route{r.method, r.pattern, r.operation, r.permission})
	}
	return out
}
