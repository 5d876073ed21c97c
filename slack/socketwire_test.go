package slack_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"countersign/slack"
)

// one keeps a single connection, so that a test knows which.
func one(c *slack.SocketConfig) { c.Connections = 1 }

type websocketDial struct{}

func (websocketDial) dial(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("nowhere")
}

// wired is a server of sockets that does exactly what a test tells it, and no more.
type wired struct {
	t      *testing.T
	url    string
	life   int                            // seconds that hello speaks of; 0: it does not
	deaf   bool                           // nothing is read, so that no ping is answered
	before func(http.ResponseWriter) bool // answers apps.connections.open in its stead
	conns  chan *wiredConn
}

// wiredConn is one connection, on the server's side.
type wiredConn struct {
	t      *testing.T
	conn   *websocket.Conn
	got    chan []byte
	closed chan struct{}
}

func wire(t *testing.T) *wired {
	t.Helper()
	w := &wired{t: t, conns: make(chan *wiredConn, 10)}
	done := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/apps.connections.open", func(rw http.ResponseWriter, r *http.Request) {
		if w.before != nil && w.before(rw) {
			return
		}
		_, _ = fmt.Fprintf(rw, `{"ok":true,"url":"ws://%s/link"}`, r.Host) //nolint:gosec // a test's own server
	})
	mux.HandleFunc("/link", func(rw http.ResponseWriter, r *http.Request) { w.serve(rw, r, done) })
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(done) })
	w.url = srv.URL
	return w
}

func (w *wired) serve(rw http.ResponseWriter, r *http.Request, done chan struct{}) {
	conn, err := (&websocket.Upgrader{}).Upgrade(rw, r, nil)
	if err != nil {
		return
	}
	defer conn.Close() //nolint:errcheck // going away
	c := &wiredConn{t: w.t, conn: conn, got: make(chan []byte, 200), closed: make(chan struct{})}
	hello := `{"type":"hello","num_connections":1}`
	if w.life > 0 {
		hello = fmt.Sprintf(`{"type":"hello","debug_info":{"approximate_connection_time":%d}}`, w.life)
	}
	if conn.WriteMessage(websocket.TextMessage, []byte(hello)) != nil {
		return
	}
	w.conns <- c
	if w.deaf {
		<-done
		return
	}
	defer close(c.closed)
	for {
		_, raw, err := conn.ReadMessage()
		if err != nil {
			return
		}
		c.got <- raw
	}
}

// accept waits for the next connection.
func (w *wired) accept() *wiredConn {
	w.t.Helper()
	c := soon(w.t, "a connection", w.conns)
	require.NotNil(w.t, c)
	return c
}

func (c *wiredConn) send(frame string) {
	c.t.Helper()
	require.NoError(c.t, c.conn.WriteMessage(websocket.TextMessage, []byte(frame)))
}
