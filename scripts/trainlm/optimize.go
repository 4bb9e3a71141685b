package main

import "math"

// The optimizer's settings; the ones that were tried and worked.
const (
	beta1       = 0.9
	beta2       = 0.98
	adamEpsilon = 1e-8
	weightDecay = 0.05
	clipNorm    = 1
	warmUp      = 50   // steps
	floorRate   = 0.05 // of the learning rate, at the end
)

// rate is the learning rate of a step: warm-up, then a cosine.
func rate(step, steps int, top float64) float64 {
	done := float64(step) / float64(steps)
	lr := top * (floorRate + (1-floorRate)*0.5*(1+math.Cos(math.Pi*done)))
	if step < warmUp {
		lr *= float64(step) / warmUp
	}
	return lr
}

// adamW applies the gradients, scaled and clipped, and clears them.
func (n *network) adamW(step int, lr float64, scale float32) {
	var norm float64
	for _, p := range n.params {
		for i := range p.grad {
			p.grad[i] *= scale
			norm += float64(p.grad[i]) * float64(p.grad[i])
		}
	}
	clip := float32(1)
	if norm = math.Sqrt(norm); norm > clipNorm {
		clip = float32(clipNorm / norm)
	}
	c1, c2 := 1-math.Pow(beta1, float64(step)), 1-math.Pow(beta2, float64(step))
	for _, p := range n.params {
		keep := float32(1)
		if !p.vector() {
			keep = float32(1 - lr*weightDecay)
		}
		for i, g := range p.grad {
			g *= clip
			p.moment[i] = beta1*p.moment[i] + (1-beta1)*g
			p.square[i] = beta2*p.square[i] + (1-beta2)*g*g
			p.w[i] = p.w[i]*keep - float32(lr*float64(p.moment[i])/c1/(math.Sqrt(float64(p.square[i])/c2)+adamEpsilon))
			p.grad[i] = 0
		}
		p.changed()
	}
}
