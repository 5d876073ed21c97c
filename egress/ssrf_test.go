package egress_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"countersign/egress"
)

// zone answers queries of every type, on loopback; before counts the earlier queries of that name and type.
type zone func(name string, kind dnsmessage.Type, before int) []dnsmessage.Resource

func (z zone) serve(tb testing.TB) *net.Resolver {
	tb.Helper()
	conn, err := new(net.ListenConfig).ListenPacket(tb.Context(), "udp", "127.0.0.1:0")
	require.NoError(tb, err)
	var group sync.WaitGroup
	group.Go(func() {
		asked := map[string]int{}
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if reply := z.reply(buffer[:n], asked); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	})
	tb.Cleanup(func() {
		_ = conn.Close()
		group.Wait()
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (z zone) reply(query []byte, asked map[string]int) []byte {
	var message dnsmessage.Message
	if message.Unpack(query) != nil || len(message.Questions) != 1 {
		return nil
	}
	question := message.Questions[0]
	key := question.Name.String() + question.Type.String()
	message.Response, message.Authoritative, message.Additionals = true, true, nil
	message.Answers = z(strings.TrimSuffix(question.Name.String(), "."), question.Type, asked[key])
	asked[key]++
	if message.Answers == nil {
		message.RCode = dnsmessage.RCodeServerFailure
	}
	reply, err := message.Pack()
	if err != nil {
		return nil
	}
	return reply
}

// record is an answer with a TTL of 0: nothing may be remembered.
func record(name, addr string) dnsmessage.Resource {
	ip := netip.MustParseAddr(addr)
	header := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name + "."), Class: dnsmessage.ClassINET}
	if ip.Is4() {
		header.Type = dnsmessage.TypeA
		return dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: ip.As4()}}
	}
	header.Type = dnsmessage.TypeAAAA
	return dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: ip.As16()}}
}

func alias(name, to string) dnsmessage.Resource {
	return dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name + "."), Type: dnsmessage.TypeCNAME, Class: dnsmessage.ClassINET},
		Body:   &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(to + ".")},
	}
}

// spelledNames leads v4-… and v6-… where their hex says, and every other name to loopback.
func spelledNames(name string, kind dnsmessage.Type, _ int) []dnsmessage.Resource {
	none := []dnsmessage.Resource{}
	label, _, _ := strings.Cut(name, ".")
	family, digits, _ := strings.Cut(label, "-")
	raw, err := hex.DecodeString(digits)
	switch {
	case err == nil && family == "v4" && len(raw) == 4:
		if kind == dnsmessage.TypeA {
			return []dnsmessage.Resource{record(name, netip.AddrFrom4([4]byte(raw)).String())}
		}
	case err == nil && family == "v6" && len(raw) == 16:
		if kind == dnsmessage.TypeAAAA {
			return []dnsmessage.Resource{record(name, netip.AddrFrom16([16]byte(raw)).String())}
		}
	case kind == dnsmessage.TypeA:
		return []dnsmessage.Resource{record(name, "127.0.0.1")}
	}
	return none
}

type spelling struct{ verdict, url string }

func spellings(tb testing.TB) []spelling {
	tb.Helper()
	text, err := os.ReadFile("testdata/ssrf.txt")
	require.NoError(tb, err)
	var all []spelling
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		verdict, quoted, _ := strings.Cut(line, " ")
		url, err := strconv.Unquote(quoted)
		require.NoError(tb, err, line)
		all = append(all, spelling{verdict, url})
	}
	return all
}

func TestNoSpellingLeadsACallbackHome(t *testing.T) {
	t.Parallel()
	all := spellings(t)
	require.GreaterOrEqual(t, len(all), 250)
	trap := serveRaw(t, answer(okAnswer))
	proxy := forward(t, trap.addr, "200 OK")
	port := portOf(t, trap.addr)
	policy := egress.Policy{AllowPorts: []uint16{port}, DenyHosts: []string{"countersign.internal"}, Resolver: zone(spelledNames).serve(t)}
	proxied := policy
	proxied.Proxy = proxy.url("")
	direct, through := newDeliverer(t, egress.DelivererConfig{Policy: policy}), newDeliverer(t, egress.DelivererConfig{Policy: proxied})
	counts := map[string]int{}
	for _, s := range all {
		target := strings.ReplaceAll(s.url, "{port}", strconv.Itoa(int(port)))
		_, err := egress.CheckURL(target, policy)
		switch s.verdict {
		case "refused":
			require.ErrorIs(t, err, egress.ErrURL, "%q", s.url)
		case "blocked":
			require.NoError(t, err, "%q", s.url)
		default:
			t.Fatalf("unknown verdict %q", s.verdict)
		}
		counts[s.verdict]++
		for way, deliverer := range map[string]*egress.Deliverer{"direct": direct, "proxied": through} {
			sent := deliverer.Do(t.Context(), attempt(t, target))
			asked := deliverer.Challenge(t.Context(), challenge(t, target)).AttemptResult
			for _, result := range []egress.AttemptResult{sent, asked} {
				require.Equal(t, egress.Blocked, result.Class, "%q %s: %v", s.url, way, result.Cause)
				require.Equal(t, "destination is not allowed", result.Err)
				require.False(t, result.Retry)
				require.Empty(t, result.Address)
				require.Zero(t, result.Status)
			}
		}
	}
	require.Zero(t, trap.conns.Load(), "not one reached the server on loopback")
	require.Zero(t, proxy.conns.Load(), "nor the proxy")
	t.Logf("%d spellings (%v), each sent and asked, directly and through a proxy: 0 connections", len(all), counts)
}

// The answers change between our look and our dial, are mixed, come late or by way of other names. Only what is dialled
// counts.
func TestADNSOfIllWillReachesNothing(t *testing.T) {
	t.Parallel()
	trap := serveRaw(t, answer(okAnswer))
	port := portOf(t, trap.addr)
	only := func(kind dnsmessage.Type, want dnsmessage.Type, records ...dnsmessage.Resource) []dnsmessage.Resource {
		if kind != want {
			return []dnsmessage.Resource{}
		}
		return records
	}
	for name, z := range map[string]zone{
		"an allowed address first, loopback then": func(name string, kind dnsmessage.Type, before int) []dnsmessage.Resource {
			addr := "127.0.0.2" // allowed below, and nobody listens there
			if before%2 == 1 {
				addr = "127.0.0.1"
			}
			return only(kind, dnsmessage.TypeA, record(name, addr))
		},
		"both in one answer": func(name string, kind dnsmessage.Type, _ int) []dnsmessage.Resource {
			return only(kind, dnsmessage.TypeA, record(name, "127.0.0.2"), record(name, "127.0.0.1"))
		},
		"both, the other way round": func(name string, kind dnsmessage.Type, _ int) []dnsmessage.Resource {
			return only(kind, dnsmessage.TypeA, record(name, "127.0.0.1"), record(name, "127.0.0.2"))
		},
		"an error first": func(name string, kind dnsmessage.Type, before int) []dnsmessage.Resource {
			if before < 2 {
				return nil
			}
			return only(kind, dnsmessage.TypeA, record(name, "127.0.0.1"))
		},
		"an alias": func(name string, kind dnsmessage.Type, _ int) []dnsmessage.Resource {
			return only(kind, dnsmessage.TypeA, alias(name, "localhost"), record("localhost", "127.0.0.1"))
		},
		"a chain of aliases": func(name string, kind dnsmessage.Type, _ int) []dnsmessage.Resource {
			return only(kind, dnsmessage.TypeA, alias(name, "b.example"), alias("b.example", "c.example"), record("c.example", "127.0.0.1"))
		},
		"an alias to a name of ours": func(name string, kind dnsmessage.Type, _ int) []dnsmessage.Resource {
			return only(kind, dnsmessage.TypeA, alias(name, "countersign.internal"), record("countersign.internal", "127.0.0.1"))
		},
		"mapped in an AAAA": func(name string, kind dnsmessage.Type, _ int) []dnsmessage.Resource {
			return only(kind, dnsmessage.TypeAAAA, record(name, "::ffff:127.0.0.1"))
		},
		"loopback in an AAAA, allowed in an A": func(name string, kind dnsmessage.Type, _ int) []dnsmessage.Resource {
			if kind == dnsmessage.TypeAAAA {
				return []dnsmessage.Resource{record(name, "::1")}
			}
			return only(kind, dnsmessage.TypeA, record(name, "127.0.0.2"))
		},
		"an answer for another name": func(_ string, kind dnsmessage.Type, _ int) []dnsmessage.Resource {
			return only(kind, dnsmessage.TypeA, record("localhost", "127.0.0.1"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			policy := egress.Policy{
				AllowHTTP: true, AllowPorts: []uint16{port}, AllowPrefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}, Resolver: z.serve(t),
			}
			deliverer := newDeliverer(t, egress.DelivererConfig{Policy: policy})
			for range 4 {
				target := fmt.Sprintf("http://hooks.example:%d/", port)
				result := deliverer.Do(t.Context(), attempt(t, target))
				require.NotEqual(t, egress.Delivered, result.Class)
				require.Zero(t, result.Status)
				require.False(t, deliverer.Challenge(t.Context(), challenge(t, target)).Verified)
			}
		})
	}
	t.Cleanup(func() { require.Zero(t, trap.conns.Load()) }) // when the parallel ones are done
}

func TestARedirectToMetadataIsNotFollowedByAnyOfUs(t *testing.T) {
	t.Parallel()
	trap := serveRaw(t, answer(okAnswer))
	for _, location := range []string{"http://169.254.169.254/latest/meta-data/", trap.url("/").String(), "//" + trap.addr + "/", "http://[fd00:ec2::254]/"} {
		for _, status := range []string{"301", "302", "303", "307", "308"} {
			server := serveRaw(t, answer("HTTP/1.1 "+status+" Moved\r\nLocation: "+location+"\r\nContent-Length: 0\r\n\r\n"))
			deliverer := newDeliverer(t, egress.DelivererConfig{Policy: loopback()})
			challenged := deliverer.Challenge(t.Context(), challenge(t, server.url("/").String()))
			require.False(t, challenged.Verified)
			require.EqualValues(t, 2, server.effects.Load(), "the challenge and the handshake, and nothing after either")
			outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), egress.Upstream{BaseURL: server.url("")}, get("/"), nil)
			require.Equal(t, []any{egress.Answered, false}, []any{outcome.Kind, outcome.Success})
		}
	}
	require.Zero(t, trap.conns.Load())
}
