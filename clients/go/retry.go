package lepton

import (
	"math"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
)

const (
	attemptsMax  = 3
	waitFirstMax = 100 * time.Millisecond
	waitMax      = 2 * time.Second
	budgetRatio  = 0.1
	budgetMax    = 10.0
)

// budget bounds the retries of a client: each call earns a tenth of one. It starts full.
type budget struct {
	mutex  sync.Mutex
	tokens float64
}

func newBudget() *budget { return &budget{tokens: budgetMax} }

// earn is told of each call that is no retry.
func (b *budget) earn() {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.tokens = min(budgetMax, b.tokens+budgetRatio)
}

// spend takes one retry, if there is one.
func (b *budget) spend() bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.tokens < 1-1e-9 { // ten tenths are one, whatever floats say
		return false
	}
	b.tokens = max(0, b.tokens-1)
	return true
}

// wait is how long to wait before going on after failure k, from 0: random (from [0, 1)) of a bound that doubles, and
// not less than the server has asked for.
func wait(k int, random float64, atLeast time.Duration) time.Duration {
	bound := min(float64(waitMax), float64(waitFirstMax)*math.Exp2(float64(k)))
	return max(atLeast, time.Duration(random*bound))
}

// retries decides for one call whether it is tried again. Nothing may have reached the caller yet.
type retries struct {
	enabled  bool
	budget   *budget
	random   func() float64
	failures int
}

// after is told of a failure, and says how long to wait before the next attempt; false: there is none.
func (r *retries) after(err *Error, remaining time.Duration) (time.Duration, bool) {
	if !r.enabled || !retryable(err) || r.failures >= attemptsMax-1 {
		return 0, false
	}
	pause := wait(r.failures, r.random(), err.RetryAfter)
	if pause >= remaining || !r.budget.spend() {
		return 0, false
	}
	r.failures++
	return pause, true
}

// retryable: nobody has begun, or nobody could be reached. A status without our details, such as one for a message that
// is too large, would come again.
func retryable(err *Error) bool {
	return err.Code == codes.Unavailable || err.Code == codes.ResourceExhausted && err.ours
}
