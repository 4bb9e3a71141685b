package agenttest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"windlass/protocol"
)

// Handler serves the coordinator to agents in other processes.
func (c *Coordinator) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+protocol.PathRegister, serve(c.Register))
	mux.HandleFunc("POST "+protocol.PathSync, serve(c.Sync))
	mux.HandleFunc("POST "+protocol.PathReport, serve(c.Report))
	mux.HandleFunc("POST "+protocol.PathOutputs, serve(c.GrantOutputs))
	mux.HandleFunc("PUT "+protocol.PathOutputs+"/", func(w http.ResponseWriter, r *http.Request) {
		sum := strings.TrimPrefix(r.URL.Path, protocol.PathOutputs+"/")
		if err := c.PutBlob(r.Context(), sum, r.ContentLength, r.Body); err != nil {
			refuse(w, err)
		}
	})
	mux.HandleFunc("PUT "+protocol.PathBlob, func(w http.ResponseWriter, r *http.Request) {
		sum := strings.TrimPrefix(r.URL.Path, protocol.PathBlob)
		if err := c.PutBlob(r.Context(), sum, r.ContentLength, r.Body); err != nil {
			refuse(w, err)
		}
	})
	mux.HandleFunc("GET "+protocol.PathBlob, func(w http.ResponseWriter, r *http.Request) {
		b, err := c.GetBlob(r.Context(), strings.TrimPrefix(r.URL.Path, protocol.PathBlob), protocol.JobID{})
		if err != nil {
			refuse(w, err)
			return
		}
		_, _ = io.Copy(w, b) // the agent checks the digest
	})
	return mux
}

func serve[In, Out any](call func(ctx context.Context, in In) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out, err := call(r.Context(), in)
		if err != nil {
			refuse(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out) // a client that left needs no answer
	}
}

func refuse(w http.ResponseWriter, err error) {
	var e *protocol.Error
	if !errors.As(err, &e) { // a cut connection
		if conn, _, herr := http.NewResponseController(w).Hijack(); herr == nil {
			_ = conn.Close()
		}
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Code.HTTPStatus())
	_ = json.NewEncoder(w).Encode(e)
}
