package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// freePorts finds n ports in a row, below those that systems hand out for outgoing
// connections. Nobody keeps them, so dev may still find one taken.
func freePorts(ctx context.Context, n int) (int, error) {
	const lowest, count, tries = 10_000, 20_000, 100
	for range tries {
		base := lowest + rand.IntN(count)
		if allFree(ctx, base, n) {
			return base, nil
		}
	}
	return 0, fmt.Errorf("look for free ports: found no %d in a row", n)
}

func allFree(ctx context.Context, base, n int) bool {
	var c net.ListenConfig
	for i := range n {
		l, err := c.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(base+i)))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}
