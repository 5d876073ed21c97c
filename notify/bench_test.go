package notify_test

import (
	"context"
	"fmt"
	"testing"

	"countersign/db"
	"countersign/notify"
)

// BenchmarkSend measures how many posts a sender brings to a Slack that answers at once, with
// its limits off: from the claim to the record of where it is.
func BenchmarkSend(b *testing.B) {
	for _, inFlight := range []int{1, 8} {
		b.Run(fmt.Sprintf("inflight-%d", inFlight), func(b *testing.B) {
			s := newStation(b)
			posts := make([]db.Post, b.N)
			for i := range posts {
				posts[i] = db.Post{Name: fmt.Sprint("post/", i), Kind: db.PostOutcome, Destination: "C0" + []string{"ONE", "TWO", "THREE", "FOUR"}[i%4], Priority: 2}
			}
			if err := s.store.QueuePosts(b.Context(), posts); err != nil {
				b.Fatal(err)
			}
			c := s.senderConfig()
			c.Content, c.InFlight, c.Poll = fixed{c.Content}, inFlight, 0
			sender, err := notify.NewSender(c)
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			b.ResetTimer()
			go func() { defer close(done); _ = sender.Run(ctx) }()
			s.settled()
			b.StopTimer()
			cancel()
			<-done
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "posts/s")
		})
	}
}
