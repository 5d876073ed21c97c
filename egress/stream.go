package egress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

const streamPiece = 32 << 10

// errCutShort ends a stream whose answer broke off.
var errCutShort = errors.New("answer broke off")

// Stream is an answer on its way to the writer of Request.Answer, beside the recording of it and never in its way: what
// is recorded does not wait for a writer, and a writer that fails or blocks stops nothing but the stream. It gets the
// whole body without credentials, beyond Upstream.MaxResponseBytes too, until the deadline of the upstream or the end of
// the context that Do was given.
type Stream struct {
	ctx    context.Context //nolint:containedctx // the life of the goroutine that writes, not of a call
	done   chan struct{}
	wake   chan struct{}
	result error // once done is closed

	mu     sync.Mutex
	queue  [][]byte // bounded by what is recorded
	ended  bool
	broken error     // how the answer ended, if not well
	rest   io.Reader // what comes after the recorded part
	dead   bool      // the writer takes no more
	roller roller
}

// ErrWriterHangs is part of what Wait returns while a Write that began before the deadline has not returned.
var ErrWriterHangs = errors.New("the writer hangs")

// Wait returns when the writer is not used any more: nil once it was given the whole body, else why not. At the
// deadline of the upstream it returns even if a Write has not (ErrWriterHangs); no other one begins then.
func (s *Stream) Wait() error {
	select {
	case <-s.done:
		return s.result
	default:
	}
	select {
	case <-s.done:
		return s.result
	case <-s.ctx.Done():
		return fmt.Errorf("%w: %w", ErrWriterHangs, s.ctx.Err())
	}
}

// startStream calls open, and writes to what it returns, in a goroutine that calls release at its end.
func startStream(ctx context.Context, scrub scrubber, open func() io.Writer, release func()) *Stream {
	s := &Stream{ctx: ctx, done: make(chan struct{}), wake: make(chan struct{}, 1), roller: roller{scrubber: scrub}}
	go func() {
		defer release()
		defer close(s.done)
		s.result = s.run(open())
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dead, s.queue = true, nil
	}()
	return s
}

// Write takes a piece of the answer. It never fails: it is a tee off the recording.
func (s *Stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dead {
		s.push(bytes.Clone(s.roller.next(b)))
	}
	return len(b), nil
}

func (s *Stream) push(b []byte) {
	if len(b) > 0 {
		s.queue = append(s.queue, b)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// end says how the recording ended: with an error, with all that there is (rest is nil), or with more to come.
func (s *Stream) end(err error, rest io.Reader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.rest = true, rest
	if err != nil {
		s.broken = errCutShort // what net/http says may quote the upstream
	}
	if rest == nil {
		s.push(s.roller.last(err != nil))
		return
	}
	s.push(nil)
}

func (s *Stream) run(w io.Writer) error {
	if w == nil {
		return errors.New("nobody takes the answer")
	}
	for {
		piece, ended, err := s.take()
		if err != nil {
			return err
		}
		for _, b := range piece {
			if err := s.write(w, b); err != nil {
				return err
			}
		}
		if ended {
			return s.finish(w)
		}
	}
}

func (s *Stream) write(w io.Writer, b []byte) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	_, err := w.Write(b)
	return err
}

func (s *Stream) take() (pieces [][]byte, ended bool, err error) {
	for {
		s.mu.Lock()
		pieces, ended = s.queue, s.ended
		s.queue = nil
		s.mu.Unlock()
		if len(pieces) > 0 || ended {
			return pieces, ended, nil
		}
		select {
		case <-s.wake:
		case <-s.ctx.Done():
			return nil, false, s.ctx.Err()
		}
	}
}

// finish reads on behind what is recorded, no faster than the writer takes it.
func (s *Stream) finish(w io.Writer) error {
	if s.broken != nil || s.rest == nil {
		return s.broken
	}
	buffer := make([]byte, streamPiece)
	for {
		n, err := s.rest.Read(buffer)
		if clean := s.roller.next(buffer[:n]); len(clean) > 0 {
			if err := s.write(w, clean); err != nil {
				return err
			}
		}
		if err == nil {
			continue
		}
		broke := !errors.Is(err, io.EOF)
		if last := s.roller.last(broke); len(last) > 0 {
			if err := s.write(w, last); err != nil {
				return err
			}
		}
		if broke {
			return errCutShort
		}
		return nil
	}
}

// roller takes secrets out of a body that comes in pieces. It holds back what could be the beginning of one.
type roller struct {
	scrubber
	held, given []byte
}

// next returns what is certain of all that was given so far and not yet returned. It is good until the next call, and as
// long as b is left alone.
func (r *roller) next(b []byte) []byte {
	if len(r.needles) == 0 {
		return b
	}
	r.held = append(r.held, b...)
	certain := len(r.held) - int(r.overlap())
	if certain <= 0 {
		return nil
	}
	clean, used, _ := r.scan(r.held, certain)
	r.given = append(r.given[:0], clean...)
	r.held = append(r.held[:0], r.held[used:]...)
	return r.given
}

// last returns what was held back; broke says that the body did not end there by itself, see scrubber.tail.
func (r *roller) last(broke bool) []byte {
	clean, _ := r.bytes(r.held, len(r.held))
	if broke {
		clean, _ = r.tail(clean)
	}
	r.held = nil
	return clean
}
