package engine

import "fmt"

// Reason is the class of a Refusal, for programs.
type Reason string

// The reasons why a file or a prompt is refused.
const (
	ReasonFormat       Reason = "format"       // not a GGUF file of a known version, or a damaged one
	ReasonTruncated    Reason = "truncated"    // ends before what its header announces
	ReasonLimit        Reason = "limit"        // larger than any file that the engine is meant for
	ReasonArchitecture Reason = "architecture" // another network, or a variant of it
	ReasonTensorType   Reason = "tensorType"   // a number format that the engine does not read
	ReasonTensor       Reason = "tensor"       // a tensor is missing, or one is there that would be ignored
	ReasonShape        Reason = "shape"        // a tensor does not fit the hyperparameters
	ReasonTokenizer    Reason = "tokenizer"    // another tokenizer, or an incomplete vocabulary
	ReasonContext      Reason = "context"      // the prompt does not fit into the context
)

// Supported says what the engine runs; every refusal of a file ends with it.
const Supported = "the built-in engine runs GGUF version 2 or 3 files of the llama architecture with F32, F16 or Q8_0 tensors and a SentencePiece (llama) vocabulary with byte tokens; serve other models with the openai runtime"

// Refusal is why the engine will not run a file or a prompt. It is final: the
// same bytes are refused again.
type Refusal struct {
	Reason  Reason
	Problem string // what is wrong, with the names and numbers found
}

// Error implements error.
func (r *Refusal) Error() string {
	if r.Reason == ReasonContext {
		return "cannot use prompt: " + r.Problem
	}
	return "cannot run model: " + r.Problem + "; " + Supported
}

func refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Problem: fmt.Sprintf(format, args...)}
}
