package lepton

import (
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

const hour = time.Hour

func queueFull() *Error {
	return &Error{Code: codes.ResourceExhausted, Reason: "QUEUE_FULL", ours: true}
}

func TestWaitDoublesUpToItsBound(t *testing.T) {
	for k, want := range []time.Duration{100, 200, 400, 800, 1600, 2000, 2000} {
		if got := wait(k, 0.5, 0); got != want*time.Millisecond/2 {
			t.Errorf("wait %d is %v, not half of %v ms", k, got, want)
		}
	}
	if got := wait(1000, 0.999, 0); got > waitMax {
		t.Errorf("wait 1000 is %v", got)
	}
}

func TestWaitIsNotShorterThanTheServerAsked(t *testing.T) {
	if got := wait(0, 0.5, 3*time.Second); got != 3*time.Second {
		t.Errorf("wait is %v", got)
	}
}

func TestBudgetIsATenthOfCalls(t *testing.T) {
	b := newBudget()
	for range int(budgetMax) {
		if !b.spend() {
			t.Fatal("a new budget is full")
		}
	}
	for calls := range 10 {
		if b.spend() {
			t.Fatalf("%d calls earned a retry", calls)
		}
		b.earn()
	}
	if !b.spend() || b.spend() {
		t.Error("ten calls earn one retry")
	}
}

func TestBudgetHoldsWhateverTheOrder(t *testing.T) {
	for seed := range uint64(50) {
		b, dice := newBudget(), rand.New(rand.NewPCG(seed, 0))
		calls, spent := 0, 0
		for range 1000 {
			if dice.IntN(2) == 0 {
				b.earn()
				calls++
			} else if b.spend() {
				spent++
			}
			if float64(spent) > budgetMax+budgetRatio*float64(calls)+1e-6 {
				t.Fatalf("seed %d: %d retries after %d calls", seed, spent, calls)
			}
		}
	}
}

func TestRetriesEnd(t *testing.T) {
	full := func() *retries {
		return &retries{enabled: true, budget: newBudget(), random: func() float64 { return 0.5 }}
	}
	r := full()
	for want := range 2 {
		if pause, again := r.after(queueFull(), hour); !again || pause != wait(want, 0.5, 0) {
			t.Errorf("retry %d: %v, %v", want, pause, again)
		}
	}
	if _, again := r.after(queueFull(), hour); again {
		t.Error("a fourth attempt")
	}

	off := full()
	off.enabled = false
	if _, again := off.after(queueFull(), hour); again {
		t.Error("a retry although they are switched off")
	}

	late := full()
	if _, again := late.after(&Error{Code: codes.Unavailable, RetryAfter: hour}, hour); again {
		t.Error("a wait beyond the deadline")
	}
	if late.budget.tokens != budgetMax {
		t.Error("a retry that was not made was paid for")
	}

	poor := full()
	poor.budget.tokens = 0
	if _, again := poor.after(queueFull(), hour); again {
		t.Error("a retry without budget")
	}
}

func TestWhatIsTriedAgain(t *testing.T) {
	for _, c := range []struct {
		err  Error
		want bool
	}{
		{Error{Code: codes.Unavailable}, true},
		{Error{Code: codes.Unavailable, Reason: "REASON_OF_TOMORROW", ours: true}, true},
		{Error{Code: codes.ResourceExhausted, Reason: "QUEUE_FULL", ours: true}, true},
		{Error{Code: codes.ResourceExhausted}, false}, // a message too large for gRPC
		{Error{Code: codes.Internal, ours: true}, false},
		{Error{Code: codes.InvalidArgument, ours: true}, false},
		{Error{Code: codes.DeadlineExceeded}, false},
		{Error{Code: codes.Canceled}, false},
	} {
		if got := retryable(&c.err); got != c.want {
			t.Errorf("%+v: %v", c.err, got)
		}
	}
}
