package lepton

import (
	"context"
	"math"
	"time"
)

// clock is time as the pure parts see it; tests move one by hand.
type clock interface {
	now() time.Time
	// sleep returns early when ctx ends.
	sleep(ctx context.Context, d time.Duration)
}

type systemClock struct{}

func (systemClock) now() time.Time { return time.Now() }

func (systemClock) sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// remaining is the time that a call has left.
func remaining(ctx context.Context, c clock) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return deadline.Sub(c.now())
	}
	return math.MaxInt64
}
